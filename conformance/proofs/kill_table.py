"""The kill matrix on a terminal: mistakes × case families, and the lines below the table."""

from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.table import Table

from conformance.core.console import unfolded
from conformance.proofs.bound_margins import Margin
from conformance.proofs.kill_matrix import Kill, idle, matrix, twins
from conformance.subjects import all_cases


def show(kills: Sequence[Kill], margins: Sequence[Margin], console: Console) -> None:
    """Prints how many cases of each family kill and name each mistake, and what none can do."""
    wide = unfolded(console, 260)
    for operation in dict.fromkeys(kill.operation for kill in kills):
        wide.print(_table(kills, operation))
        wide.print()
    for line in (*_pairs(kills), *_margins(margins), *_idle(kills)):
        wide.print(line, soft_wrap=True, highlight=False)


def _pairs(kills: Sequence[Kill]) -> Iterator[str]:
    pairs = "; ".join(f"{first} and {second}" for first, second in twins(kills)) or "none"
    yield f"Pairs that no case tells apart: {pairs}"


def _margins(margins: Sequence[Margin]) -> Iterator[str]:
    """Yields lines on how near to its bound each mistake comes in bounded cases."""
    nearest: dict[str, Margin] = {}
    for margin in sorted(margins, key=lambda margin: margin.error_over_bound):
        nearest.setdefault(margin.mistake, margin)
    hidden = [m for m in margins if m.is_hidden]
    cases = len({margin.case for margin in margins})
    yield f"Mistakes that pass inside the bound of one of {cases} bounded cases: {len(hidden)}"
    yield from (f"  {m.mistake} in {m.case}, as {m.promise}" for m in hidden)
    yield "The least error ÷ bound of each, of all answers that have another value than the right:"
    yield "  " + ", ".join(f"{m.mistake} {m.error_over_bound:.3g}" for m in nearest.values())


def _idle(kills: Sequence[Kill]) -> Iterator[str]:
    idlers = idle(kills, all_cases())
    yield f"Cases that kill none of these: {len(idlers)}"
    for reason in dict.fromkeys(idlers.values()):
        names = [case for case, why in idlers.items() if why == reason]
        yield f"  {len(names)}: {reason or 'for no stated reason'}"
        yield f"    {', '.join(names)}"


def _table(kills: Sequence[Kill], operation: str) -> Table:
    families, rows = matrix(kills, operation)
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column(operation, no_wrap=True)
    for family in families:
        table.add_column(family, justify="right", no_wrap=True)
    for column in ("named by", "misnamed by"):
        table.add_column(column, justify="right", no_wrap=True)
    for name, counts in rows.items():
        own_kills = [kill for kill in kills if kill.mistake == name]
        table.add_row(
            name,
            *(str(counts[family] or "·") for family in families),
            str(sum(kill.is_named for kill in own_kills)),
            str(sum(kill.is_misnamed for kill in own_kills)),
        )
    return table
