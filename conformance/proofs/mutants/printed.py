"""The outcomes of mutants on a terminal: implementation × fate, and each survivor."""

from collections.abc import Iterator, Sequence
from dataclasses import astuple, fields

from rich.console import Console
from rich.table import Table
from rich.text import Text

from conformance.core.console import unfolded
from conformance.proofs.mutants.ledger import Measured, Score, score


def show(measured: Sequence[Measured], console: Console, *, is_whole: bool = True) -> None:
    """Prints the fates of each implementation's mutants, the survivors, and the score."""
    if not is_whole:
        console.print(f"Cut short: {len(measured)} measured; the same call goes on from there")
    wide = unfolded(console)
    wide.print(_table(measured))
    for line in (*_survivors(measured), "", *_scores(measured)):
        wide.print(line, soft_wrap=True, highlight=False, markup=False)


def by_operation(measured: Sequence[Measured]) -> dict[str, Score]:
    """Returns the score of each operation."""
    operations = dict.fromkeys(mutant.operation for mutant in measured)
    return {
        name: score(mutant for mutant in measured if mutant.operation == name)
        for name in operations
    }


def _table(measured: Sequence[Measured]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("changes of", no_wrap=True)
    for name in (field.name for field in fields(Score)):
        table.add_column(name, justify="right", no_wrap=True)
    owners = dict.fromkeys(mutant.id.partition(":")[0] for mutant in measured)
    for owner in owners:
        counts = astuple(
            score(mutant for mutant in measured if mutant.id.partition(":")[0] == owner)
        )
        table.add_row(owner, *(str(count or "·") for count in counts))
    return table


def _survivors(measured: Sequence[Measured]) -> Iterator[str | Text]:
    for m in measured:
        if m.outcome.fate == "survived":
            yield ""
            yield Text(f"survived {m.id}", "bold red")
            yield f"  no case of the suite sees it; {m.outcome.case} does ({m.outcome.status})"


def _scores(measured: Sequence[Measured]) -> Iterator[str | Text]:
    for operation, counts in by_operation(measured).items():
        differ = counts.killed + counts.survived
        yield Text(
            f"{operation}: {counts.killed} of {differ} that differ are seen ({counts.share:.1%}); "
            f"{counts.equivalent} are equivalent, {counts.stillborn} raise on the first case",
            "bold red" if counts.survived else "bold green",
        )
