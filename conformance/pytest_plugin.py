"""`pytest --conformance[=PATTERN]`: one pytest item a check, in any project.

The check's id is the item's node id, so `-k`, `-x`, `-n`, `--collect-only`, `--lf` and JUnit do
what they always do. The module imports nothing of the suite until the option is given.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from conformance.checks import Check
    from conformance.examiner import Examiner
    from conformance.judge import Verdict

_EXAMINER: "pytest.StashKey[Examiner]" = pytest.StashKey()
_ADAPTERS: "pytest.StashKey[tuple[str, ...]]" = pytest.StashKey()


def pytest_addoption(parser: pytest.Parser) -> None:
    """The two options."""
    group = parser.getgroup("conformance", "channel shuffle and gradient averaging")
    group.addoption(
        "--conformance",
        metavar="PATTERN",
        action="append",
        nargs="?",
        const="*",
        help="collect checks, as in --conformance=channel_shuffle/jax_*; all without a pattern",
    )
    group.addoption(
        "--conformance-adapter",
        metavar="FILE.py|MODULE",
        action="append",
        default=[],
        help="code from outside that uses @conformance.implementation",
    )


@pytest.hookimpl(tryfirst=True)  # before -k and -m choose among the items
def pytest_collection_modifyitems(
    session: pytest.Session, config: pytest.Config, items: list[pytest.Item]
) -> None:
    """Add the checks that the patterns mean."""
    patterns = config.getoption("--conformance")
    if not patterns:
        return
    from conformance.errors import UsageError
    from conformance.examiner import Examiner
    from conformance.plan import make_plan

    try:
        plan = make_plan(patterns, adapters=config.getoption("--conformance-adapter"))
    except UsageError as error:
        raise pytest.UsageError(str(error)) from error
    config.stash[_EXAMINER] = Examiner(plan.goldens, plan.known)
    config.stash[_ADAPTERS] = plan.adapters
    items.extend(CheckItem.of(session, check) for check in plan.checks)


def pytest_unconfigure(config: pytest.Config) -> None:
    """End the worlds."""
    examiner = config.stash.get(_EXAMINER, None)
    if examiner is not None:
        examiner.close()


class Nonconforming(Exception):  # noqa: N818
    """A verdict that counts against conformance."""

    def __init__(self, verdict: "Verdict") -> None:
        """Keep the verdict; its reason is the message."""
        super().__init__(f"{verdict.status}: {verdict.reason}")


class CheckItem(pytest.Item):
    """One check."""

    check: "Check"

    @classmethod
    def of(cls, session: pytest.Session, check: "Check") -> "CheckItem":
        """The item of a check."""
        item: CheckItem = cls.from_parent(session, name=check.id, nodeid=check.id)
        item.check = check
        return item

    def runtest(self) -> None:
        """Ask, judge, and pass, fail or skip."""
        from conformance.judge import NOT_CONFORMING

        verdict, _ = self.config.stash[_EXAMINER].examine(self.check)
        self.user_properties += [("status", verdict.status), ("answer", verdict.answer)]
        if verdict.status in ("unsupported", "not-exercised", "known"):
            pytest.skip(f"{verdict.status}: {verdict.reason}")
        if verdict.status in NOT_CONFORMING:
            raise Nonconforming(verdict)

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], *_: Any, **__: Any) -> str:
        """The words of the suite, and the line that reruns just this check."""
        from conformance.results import Run

        if not isinstance(excinfo.value, Nonconforming):
            return str(super().repr_failure(excinfo))
        adapters = self.config.stash[_ADAPTERS]
        rerun = Run({"environment": {"adapters": adapters}}, ()).rerun(self.check.id)
        return f"{excinfo.value}\n{rerun}"

    def reportinfo(self) -> tuple[Path, int, str]:
        """The implementation's own line."""
        implementation = self.check.implementation
        return Path(implementation.origin), implementation.line - 1, self.check.id
