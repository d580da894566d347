"""The plugin for `pytest --conformance[=PATTERN]`: a pytest item for each check, in any project.

The check's id is the item's node id, so `-k`, `-x`, `-n`, `--collect-only`, `--lf` and JUnit work
as usual. A test that takes `conformance_case` is called with the cases of its marker
`conformance_cases`, or else of the ini option of this name. The module imports nothing of the
suite until a project uses it.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from conformance.core.checks import Check
    from conformance.core.verdict import Verdict
    from conformance.run.examiner import Examiner

_EXAMINER: "pytest.StashKey[Examiner]" = pytest.StashKey()
MARKER = "conformance_cases"
_ADAPTERS: "pytest.StashKey[tuple[str, ...]]" = pytest.StashKey()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Adds the options of the command line and of the project's configuration."""
    group = parser.getgroup("conformance", "channel shuffle and gradient averaging")
    group.addoption(
        "--conformance",
        metavar="PATTERN",
        action="append",
        nargs="?",
        const="",
        help="collect checks, as in --conformance='channel_shuffle/jax_*'; without a pattern the "
        "adapters', and all where there is no adapter",
    )
    group.addoption(
        "--conformance-adapter",
        metavar="FILE.py|MODULE",
        action="append",
        default=[],
        help="code from outside that uses @conformance.implementation",
    )
    parser.addini("conformance", "patterns of checks to collect always", "args", [])
    parser.addini("conformance_adapters", "code from outside, as --conformance-adapter", "args", [])
    parser.addini("conformance_timeout", "seconds for one check (120)", "string", "120")
    parser.addini(
        MARKER, "cases, as OPERATION:CASE, of tests that take conformance_case", "args", []
    )


def pytest_configure(config: pytest.Config) -> None:
    """Registers the marker."""
    config.addinivalue_line(
        "markers", f"{MARKER}(*patterns): the cases, as OPERATION:CASE, that conformance_case takes"
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Calls a test that takes `conformance_case` once for each case."""
    if "conformance_case" not in metafunc.fixturenames:
        return
    marks = metafunc.definition.iter_markers(MARKER)
    patterns = [str(text) for mark in marks for text in mark.args]
    from conformance.core.outcomes import UsageError
    from conformance.testing.golden_cases import golden_cases

    patterns = patterns or metafunc.config.getini(MARKER)
    if not patterns:
        raise pytest.UsageError(
            f"{metafunc.definition.nodeid} takes conformance_case, and neither its marker {MARKER} "
            "nor the ini option of this name says which, as in channel_shuffle:identity-probe*"
        )
    try:
        cases = golden_cases(*patterns)
    except UsageError as error:
        raise pytest.UsageError(str(error)) from error
    metafunc.parametrize("conformance_case", cases, ids=str)


# The checks must be there before -k and -m choose among the items.
@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(
    session: pytest.Session, config: pytest.Config, items: list[pytest.Item]
) -> None:
    """Adds the checks that match the patterns."""
    patterns = config.getoption("--conformance") or config.getini("conformance")
    if not patterns:
        return
    from conformance.core.outcomes import UsageError
    from conformance.run.examiner import Examiner
    from conformance.run.plan import make_plan

    try:
        adapters = [
            *config.getini("conformance_adapters"),
            *config.getoption("--conformance-adapter"),
        ]
        plan = make_plan([text for text in patterns if text], adapters=adapters)
        timeout = _seconds(config.getini("conformance_timeout"))
    except UsageError as error:
        raise pytest.UsageError(str(error)) from error
    config.stash[_EXAMINER] = Examiner(plan.goldens, plan.known, timeout)
    config.stash[_ADAPTERS] = plan.adapters
    items.extend(CheckItem.of(session, check) for check in plan.checks)


def _seconds(text: str) -> float:
    from conformance.core.outcomes import UsageError

    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if seconds <= 0:
        raise UsageError(f"conformance_timeout = {text!r}: seconds are meant, as in 120")
    return seconds


def pytest_unconfigure(config: pytest.Config) -> None:
    """Closes the worlds."""
    examiner = config.stash.get(_EXAMINER, None)
    if examiner is not None:
        examiner.close()


class Nonconforming(Exception):  # noqa: N818
    """A verdict that counts against conformance."""

    def __init__(self, verdict: "Verdict") -> None:
        """Takes a verdict, whose reason becomes the message."""
        super().__init__(f"{verdict.status}: {verdict.reason}")


class CheckItem(pytest.Item):
    """A check as a pytest item."""

    check: "Check"

    @classmethod
    def of(cls, session: pytest.Session, check: "Check") -> "CheckItem":
        """Makes the item of a check."""
        item: CheckItem = cls.from_parent(session, name=check.id, nodeid=check.id)
        item.check = check
        return item

    def runtest(self) -> None:
        """Asks and judges the check; passes, fails or skips the item."""
        from conformance.core.verdict import ASIDE, NOT_CONFORMING

        verdict, _ = self.config.stash[_EXAMINER].examine(self.check)
        self.user_properties += [("status", verdict.status), ("answer", verdict.answer)]
        if verdict.status in {*ASIDE, "known"}:
            pytest.skip(f"{verdict.status}: {verdict.reason}")
        if verdict.status in NOT_CONFORMING:
            raise Nonconforming(verdict)

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], *_: Any, **__: Any) -> str:
        """Returns the reason of the verdict, and the line that reruns this check."""
        from conformance.run.results import Run

        if not isinstance(excinfo.value, Nonconforming):
            return str(super().repr_failure(excinfo))
        adapters = self.config.stash[_ADAPTERS]
        rerun = Run({"environment": {"adapters": adapters}}, ()).rerun(self.check.id)
        return f"{excinfo.value}\n{rerun}"

    def reportinfo(self) -> tuple[Path, int, str]:
        """Returns the line of the implementation."""
        implementation = self.check.implementation
        return Path(implementation.origin), implementation.line - 1, self.check.id
