"""The picture of weights: ranks × micro-batches, each coloured by weight × N, which should be 1."""

from collections.abc import Sequence
from html import escape
from math import isfinite, log2

from conformance.weighing.formula import Cell
from conformance.weighing.verdict import TermWeights

_SIDE, _GAP, _LEFT, _TOP, _STRIP = 84, 4, 76, 64, 18
_MOST = 24  # micro-batches and ranks that are drawn
_PALETTE = {"less": (34, 92, 168), "right": (233, 240, 233), "more": (178, 44, 32)}


def svg(term: TermWeights, step: int, world: int) -> str:
    """Return the picture of one term in one step; it stands alone."""
    cells = [c for c in term.cells if c.step == step]
    total = sum(cell.count for cell in cells)
    columns = min(_MOST, len({cell.micro_batch for cell in cells}))
    ranks = min(_MOST, world)
    width = _LEFT + columns * (_SIDE + _GAP) + 16
    height = _TOP + ranks * (_SIDE + _STRIP + 2 * _GAP) + 40
    title = f"{term.term.name}, step {step}: weight × N, N = {total} {term.term.unit}s; 1 is right"
    parts = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" '
            f'width="{width}" height="{height}" font-family="system-ui, sans-serif">'
        ),
        f"<title>{escape(title)}</title>",
        f'<rect width="{width}" height="{height}" fill="#fff"/>',
        _text(8, 22, f"{term.term.name}, step {step}", 15, weight=600),
        _text(8, 42, "weight × N; 1 is right", 12),
    ]
    parts += [
        _text(_LEFT + k * (_SIDE + _GAP) + _SIDE / 2, _TOP - 6, f"k = {k}", 12, anchor="middle")
        for k in range(columns)
    ]
    largest = max((cell.count for cell in cells), default=1) or 1
    for cell in cells:
        if cell.rank < _MOST and cell.micro_batch < _MOST:
            parts += _cell(cell, total, largest)
    parts += [_text(8, _top(rank) + _SIDE / 2 + 4, f"rank {rank}", 13) for rank in range(ranks)]
    parts.append(_text(8, height - 14, f"formula: {term.reading}", 12))
    return "\n".join([*parts, "</svg>"])


def _top(rank: int) -> float:
    return _TOP + rank * (_SIDE + _STRIP + 2 * _GAP)


def _cell(cell: Cell, total: int, largest: int) -> list[str]:
    """Return a square with weight × N, and below it a strip as long as it has items."""
    x, y = _LEFT + cell.micro_batch * (_SIDE + _GAP), _top(cell.rank)
    middle = (cell.low + cell.high) / 2 * total
    colour, ink = _colour(middle)
    number = f"{middle:.4g}" if isfinite(middle) else "?"
    length = (_SIDE * cell.count) / largest
    return [
        f'<rect x="{x}" y="{y}" width="{_SIDE}" height="{_SIDE}" rx="6" fill="{colour}"/>',
        _text(x + _SIDE / 2, y + _SIDE / 2 + 2, number, 18, anchor="middle", fill=ink, weight=600),
        _text(
            x + _SIDE / 2, y + _SIDE / 2 + 22, f"n = {cell.count}", 11, anchor="middle", fill=ink
        ),
        (
            f'<rect x="{x}" y="{y + _SIDE + 2}" width="{length:.1f}" height="{_STRIP - 8}" rx="2" '
            f'fill="{colour}" stroke="#999" stroke-width=".5"/>'
        ),
    ]


def _colour(ratio: float) -> tuple[str, str]:
    """Return the colour of weight × N, and of ink upon it: blue below 1, red above it."""
    if not isfinite(ratio):
        return "#ddd", "#222"
    if ratio <= 0:
        return "#222", "#fff"
    distance = max(-1.0, min(1.0, log2(ratio) / 2))  # full colour at 4 times
    end = _PALETTE["more"] if distance > 0 else _PALETTE["less"]
    mixed = [
        round(near + (far - near) * abs(distance) ** 0.5)
        for near, far in zip(_PALETTE["right"], end, strict=True)
    ]
    return f"rgb({mixed[0]},{mixed[1]},{mixed[2]})", "#fff" if abs(distance) > 0.3 else "#1d1c1a"


def _text(
    x: float, y: float, words: str, size: int, *, anchor: str = "start", fill: str = "#1d1c1a",
    weight: int = 400,
) -> str:  # fmt: skip
    return (
        f'<text x="{x}" y="{y}" font-size="{size}" text-anchor="{anchor}" fill="{fill}" '
        f'font-weight="{weight}">{escape(words)}</text>'
    )


def pictures(terms: Sequence[TermWeights], world: int) -> list[str]:
    """Return a picture of each judged term in each step."""
    return [
        svg(term, step, world)
        for term in terms
        if not term.note
        for step in sorted({cell.step for cell in term.cells})
    ]
