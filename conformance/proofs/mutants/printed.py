"""What became of generated mistakes, on a terminal: implementation × fate, and each survivor."""

from collections.abc import Iterator, Sequence
from dataclasses import astuple, fields

from rich.console import Console
from rich.table import Table
from rich.text import Text

from conformance.core.console import unfolded
from conformance.proofs.mutants.ledger import Measured, Score, score


def show(measured: Sequence[Measured], console: Console, *, is_whole: bool = True) -> None:
    """Print how many of each implementation had which fate, the survivors, and the score."""
    if not is_whole:
        console.print(f"Cut short: {len(measured)} measured; the same call goes on from there")
    wide = unfolded(console)
    wide.print(_table(measured))
    for line in (*_survivors(measured), "", *_scores(measured)):
        wide.print(line, soft_wrap=True, highlight=False, markup=False)


def by_operation(measured: Sequence[Measured]) -> dict[str, Score]:
    """The score of each operation."""
    operations = dict.fromkeys(one.operation for one in measured)
    return {name: score(one for one in measured if one.operation == name) for name in operations}


def _table(measured: Sequence[Measured]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("changes of", no_wrap=True)
    for name in (field.name for field in fields(Score)):
        table.add_column(name, justify="right", no_wrap=True)
    owners = dict.fromkeys(one.id.partition(":")[0] for one in measured)
    for owner in owners:
        counts = astuple(score(one for one in measured if one.id.partition(":")[0] == owner))
        table.add_row(owner, *(str(count or "·") for count in counts))
    return table


def _survivors(measured: Sequence[Measured]) -> Iterator[str | Text]:
    for one in measured:
        if one.outcome.fate == "survived":
            yield ""
            yield Text(f"survived {one.id}", "bold red")
            yield f"  no case of the suite sees it; {one.outcome.case} does ({one.outcome.status})"


def _scores(measured: Sequence[Measured]) -> Iterator[str | Text]:
    for operation, found in by_operation(measured).items():
        differ = found.killed + found.survived
        yield Text(
            f"{operation}: {found.killed} of {differ} that differ are seen ({found.share:.1%}); "
            f"{found.equivalent} are equivalent, {found.stillborn} raise on the first case",
            "bold red" if found.survived else "bold green",
        )
