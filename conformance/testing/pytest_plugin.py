"""What the plugin of pytest does once a project uses it: a pytest item for each check.

The check's id is the item's node id, so `-k`, `-x`, `-n`, `--collect-only`, `--lf` and JUnit work
as usual. The hooks are in `pytest_conformance.py`, outside this package.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from conformance.core.checks import Check, number_of_checks, parted
from conformance.core.outcomes import UsageError
from conformance.core.verdict import ASIDE, NOT_CONFORMING, Verdict
from conformance.run.configuration import configuration
from conformance.run.examiner import TIMEOUT, Examiner
from conformance.run.plan import make_plan
from conformance.run.results import Run
from conformance.testing.golden_cases import golden_cases

_EXAMINER: pytest.StashKey[Examiner] = pytest.StashKey()
_ADAPTERS: pytest.StashKey[tuple[str, ...]] = pytest.StashKey()


def parametrize(metafunc: pytest.Metafunc, marker: str) -> None:
    """Calls a test once for each case of its marker, or else of the ini option of this name."""
    marks = metafunc.definition.iter_markers(marker)
    patterns = [str(text) for mark in marks for text in mark.args]
    patterns = patterns or metafunc.config.getini(marker)
    if not patterns:
        raise pytest.UsageError(
            f"{metafunc.definition.nodeid} takes conformance_case, and neither its marker {marker} "
            "nor the ini option of this name says which, as in channel_shuffle:identity-probe*"
        )
    try:
        cases = golden_cases(*patterns)
    except UsageError as error:
        raise pytest.UsageError(str(error)) from error
    metafunc.parametrize("conformance_case", cases, ids=str)


def items_of(session: pytest.Session, patterns: Sequence[str]) -> "Iterator[CheckItem]":
    """Yields an item for each check that the patterns mean."""
    config = session.config
    try:
        project = configuration(config.rootpath)
        adapters = [
            *config.getini("conformance_adapters"),
            *config.getoption("--conformance-adapter"),
        ]
        plan = make_plan(
            [text for text in patterns if text] or project.patterns,
            adapters=adapters or project.adapters,
            quick=project.quick,
            known=project.known,
        )
        timeout = _seconds(config.getini("conformance_timeout"), project.timeout)
    except UsageError as error:
        raise pytest.UsageError(str(error)) from error
    examiner = Examiner(plan.goldens, plan.known, timeout)
    config.add_cleanup(examiner.close)
    config.stash[_EXAMINER] = examiner
    config.stash[_ADAPTERS] = plan.adapters
    for check in plan.checks:
        item = CheckItem.of(session, check)
        if plan.quick:
            item.user_properties.append(("quick", f"{plan.quick[0]} of {plan.quick[1]} cases"))
        yield item


def _seconds(text: str, of_project: float | None) -> float:
    try:
        seconds = float(text) if text else of_project or TIMEOUT
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < 7 * 86_400:
        raise UsageError(f"conformance_timeout = {text!r}: seconds are meant, as in 120")
    return seconds


class Nonconforming(Exception):  # noqa: N818
    """A verdict that counts against conformance."""

    def __init__(self, verdict: Verdict) -> None:
        """Takes a verdict, whose mistake, or else status, and reason become the message."""
        super().__init__(f"{verdict.mistake or verdict.status}: {verdict.reason}")


class CheckItem(pytest.Item):
    """A check as a pytest item."""

    check: Check

    @classmethod
    def of(cls, session: pytest.Session, check: Check) -> "CheckItem":
        """Makes the item of a check."""
        item: CheckItem = cls.from_parent(session, name=check.id, nodeid=check.id)
        item.check = check
        item.add_marker("conformance")
        return item

    def runtest(self) -> None:
        """Asks and judges the check; passes, fails or skips the item."""
        verdict, _ = self.config.stash[_EXAMINER].examine(self.check)
        self.user_properties += [("status", verdict.status), ("answer", verdict.answer)]
        if verdict.mistake is not None:
            self.user_properties.append(("mistake", verdict.mistake))
        if verdict.status in {*ASIDE, "known"}:
            pytest.skip(f"{verdict.status}: {verdict.reason}")
        if verdict.status in NOT_CONFORMING:
            raise Nonconforming(verdict)

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], *_: Any, **__: Any) -> str:
        """Returns the reason of the verdict, and the line that reruns this check."""
        if not isinstance(excinfo.value, Nonconforming):
            return str(super().repr_failure(excinfo))
        adapters = self.config.stash[_ADAPTERS]
        rerun = Run({"environment": {"adapters": adapters}}, ()).rerun(self.check.id)
        return f"{excinfo.value}\n{rerun}"

    def reportinfo(self) -> tuple[Path, int, str]:
        """Returns the line of the implementation."""
        implementation = self.check.implementation
        return Path(implementation.origin), implementation.line - 1, self.check.id


def summarize(terminal: Any, reports: Sequence[pytest.TestReport]) -> None:
    """Writes a line for each implementation: whether it conforms, and what its failures show.

    Args:
        terminal: pytest's reporter.
        reports: the reports of the checks.
    """
    terminal.section("conformance")
    by_owner: dict[str, list[dict[str, Any]]] = {}
    for report in reports:
        name, device, _ = parted(report.nodeid)
        owner = f"{name}@{device}"
        by_owner.setdefault(owner, []).append(dict(report.user_properties))
    for owner, checks in by_owner.items():
        terminal.line(f"{owner}: {_verdict_on(checks)}")


def _verdict_on(checks: Sequence[Mapping[str, Any]]) -> str:
    failed = [check for check in checks if check.get("status", "error") in NOT_CONFORMING]
    aside = sum(check.get("status") in ASIDE for check in checks)
    quick = next((f", quick ({check['quick']})" for check in checks if "quick" in check), "")
    if failed:
        names = Counter(check.get("mistake") or check.get("status", "error") for check in failed)
        words = ", ".join(f"{name} {count}" for name, count in names.most_common(3))
        return f"does not conform, {len(failed)} of {len(checks)} checks fail: {words}"
    if aside == len(checks):
        return f"nothing was tested: {number_of_checks(aside)}"
    known = sum(check.get("status") == "known" for check in checks)
    less = f", {known} known" if known else ""
    less += f", {aside} not tested" if aside else ""
    return f"conforms{quick}: {number_of_checks(len(checks) - aside)}{less}"
