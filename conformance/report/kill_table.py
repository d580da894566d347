"""The kill matrix on a terminal: mistakes × case families."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from conformance.cases import all_cases
from conformance.killing import Kill, idle, matrix, twins


def show(found: Sequence[Kill], console: Console) -> None:
    """How many cases of each family kill each mistake, how many name it, and what none can do."""
    wide = console if console.is_terminal else Console(file=console.file, width=240, no_color=True)
    for operation in dict.fromkeys(kill.operation for kill in found):
        wide.print(_table(found, operation))
        wide.print()
    pairs = twins(found)
    told = "; ".join(f"{first} and {second}" for first, second in pairs) or "none"
    idlers = idle(found, all_cases())
    wide.print(f"Pairs that no case tells apart: {told}")
    wide.print(
        f"Cases that kill none of these: {len(idlers)}. They ask for a shape without elements or "
        "for an error, where a wrong permutation is right too, or have one rank, which has nobody "
        "to average with:",
        soft_wrap=True,
    )
    wide.print("  " + ", ".join(idlers), soft_wrap=True, highlight=False)


def _table(found: Sequence[Kill], operation: str) -> Table:
    families, rows = matrix(found, operation)
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column(operation, no_wrap=True)
    for family in families:
        table.add_column(family, justify="right", no_wrap=True)
    table.add_column("named by", justify="right", no_wrap=True)
    for name, counts in rows.items():
        named = sum(kill.is_named for kill in found if kill.mistake == name)
        table.add_row(name, *(str(counts[family] or "·") for family in families), str(named))
    return table
