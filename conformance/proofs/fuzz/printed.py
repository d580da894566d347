"""The findings of fuzzing on a terminal: counts of checks, and each failure at its simplest."""

import shlex
from collections.abc import Iterator

from rich.console import Console
from rich.table import Table
from rich.text import Text

from conformance.core.checks import number_of_checks
from conformance.core.console import unfolded
from conformance.core.outside_words import one_line
from conformance.core.verdict import STATUSES
from conformance.proofs.fuzz import Fuzz
from conformance.proofs.fuzz.ledger import FILE, Failure
from conformance.proofs.fuzz.rounds import minimal


def show(fuzz: Fuzz, console: Console) -> None:
    """Prints implementation × outcome, and the failures with the lines that ask them again."""
    wide = unfolded(console)
    wide.print(_table(fuzz))
    for block in (_failures, _left_out, _summary):
        for line in block(fuzz):
            wide.print(line, soft_wrap=True, highlight=False, markup=False)


def _table(fuzz: Fuzz) -> Table:
    counts = fuzz.ledger.counts
    used = [status for status in STATUSES if any(row[status] for row in counts.values())]
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("drawn cases asked of", no_wrap=True)
    for status in used:
        table.add_column(status, justify="right", no_wrap=True)
    for owner in sorted(counts):
        table.add_row(owner, *(str(counts[owner][status] or "·") for status in used))
    return table


def _failures(fuzz: Fuzz) -> Iterator[str | Text]:
    for failure in minimal(fuzz.ledger.failures):
        verdict = failure.verdict
        yield ""
        yield Text(f"{verdict.status} {failure.check.id}", "bold red")
        yield f"  {one_line(verdict.reason)}{failure.note and f' ({failure.note})'}"
        yield f"    {rerun(fuzz, failure)}"


def rerun(fuzz: Fuzz, failure: Failure) -> str:
    """Returns the line that asks a failure again."""
    check, ledger = failure.check, fuzz.ledger
    words = ["conformance", "run", f"{check.implementation.id}@{check.device}"]
    words += ["--case", str(ledger.file_of(failure))]
    for adapter in ledger.header["adapters"]:
        words += ["--adapter", adapter]
    return shlex.join(words)


def _left_out(fuzz: Fuzz) -> Iterator[str]:
    yield from (f"Left out: {one_line(reason)}" for reason in fuzz.left_out)


def _summary(fuzz: Fuzz) -> Iterator[str | Text]:
    ledger = fuzz.ledger
    failures = minimal(ledger.failures)
    how = "" if fuzz.is_whole else "Cut short: "
    asked_words = f"{how}{number_of_checks(ledger.asked)} asked"
    seed = f"--seed {ledger.header['seed']} draws the same again"
    yield ""
    if failures:
        ways = f"{len(failures)} way{'s' * (len(failures) > 1)} to fail"
        yield Text(f"{asked_words}, {ways}; {seed}", "bold red")
        file = ledger.folder.path / FILE
        yield f"{file} has them all; a case joins the suite as it is written there"
    else:
        yield Text(f"{asked_words}, none fails; {seed}", "bold green")
