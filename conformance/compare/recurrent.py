"""Weights that one framework keeps in one array and the other in several: gates, and heads."""

from collections.abc import Callable, Mapping
from math import prod
from typing import Any

Shapes = Mapping[str, tuple[int, ...]]
# Of torch's rows the gates in order, by the names of Flax's kernels.
_CELLS = {
    4: (("ii", "if", "ig", "io"), ("hi", "hf", "hg", "ho")),
    3: (("ir", "iz", "in"), ("hr", "hz", "hn")),
    1: (("i",), ("h",)),
}


def fused_pairs(ours: Shapes, theirs: Shapes, pair: Callable[..., Any]) -> list[Any]:
    """Torch's LSTM, GRU and RNN against Flax's cells; its attention against Flax's heads."""
    return [*_recurrent(ours, theirs, pair), *_attention(ours, theirs, pair)]


def _kernels(theirs: Shapes, leaf: str) -> list[str]:
    """The modules that have a submodule of this name with a kernel."""
    ends = (f"/{leaf}/kernel", f".{leaf}.kernel")
    return [name[: -len(end)] for name in theirs for end in ends if name.endswith(end)]


def _weight(theirs: Shapes, module: str, leaf: str, role: str) -> str | None:
    for name in (f"{module}/{leaf}/{role}", f"{module}.{leaf}.{role}"):
        if name in theirs:
            return name
    return None


def _recurrent(ours: Shapes, theirs: Shapes, pair: Callable[..., Any]) -> list[Any]:
    pairs: list[Any] = []
    taken: set[str] = set()
    for name, (rows, _) in ((n, s) for n, s in ours.items() if "weight_ih" in n):
        hidden = ours.get(name.replace("_ih", "_hh"), (0, 1))[1]
        names = _CELLS.get(rows // hidden)
        if names is None:
            continue
        cells = [m for m in _kernels(theirs, names[0][0]) if m not in taken]
        if not cells:
            continue
        taken.add(cells[0])
        for own, leaves in zip((name, name.replace("_ih", "_hh")), names, strict=True):
            for gate, leaf in enumerate(leaves):
                rows_of = (gate * hidden, (gate + 1) * hidden)
                kernel = _weight(theirs, cells[0], leaf, "kernel")
                if kernel is not None:
                    pairs.append(pair(own, kernel, (1, 0), rows_of))
        pairs += _biases(
            ours, theirs, pair, name.replace("weight", "bias"), cells[0], names, hidden
        )
    return pairs


def _biases(
    ours: Shapes, theirs: Shapes, pair: Callable[..., Any],
    name: str, cell: str, names: Any, hidden: int,
) -> list[Any]:  # fmt: skip
    """Two biases of torch are one of Flax's, but for a GRU's last gate."""
    pairs = []
    for own, leaves, others in (
        (name, names[0], names[1]), (name.replace("_ih", "_hh"), names[1], names[0])
    ):  # fmt: skip
        for gate, (leaf, other) in enumerate(zip(leaves, others, strict=True)):
            bias = _weight(theirs, cell, leaf, "bias") or _weight(theirs, cell, other, "bias")
            if bias is not None and own in ours:
                rows = (gate * hidden, (gate + 1) * hidden)
                pairs.append(pair(own, bias, (0,), rows, adds=True))
    return pairs


def _attention(ours: Shapes, theirs: Shapes, pair: Callable[..., Any]) -> list[Any]:
    pairs: list[Any] = []
    taken: set[str] = set()
    for name, (rows, width) in ((n, s) for n, s in ours.items() if n.endswith("in_proj_weight")):
        module = name.removesuffix("in_proj_weight")
        heads = [m for m in _kernels(theirs, "query") if m not in taken]
        if not heads or rows != 3 * width:
            continue
        taken.add(heads[0])
        for i, leaf in enumerate(("query", "key", "value")):
            take = (i * width, (i + 1) * width)
            for own, role, axes in (
                (name, "kernel", (1, 0)),
                (f"{module}in_proj_bias", "bias", (0,)),
            ):
                other = _weight(theirs, heads[0], leaf, role)
                if other is not None and own in ours:
                    pairs.append(pair(own, other, axes, take, theirs[other]))
        for own, role, axes in ((f"{module}out_proj.weight", "kernel", (1, 0)),
                                (f"{module}out_proj.bias", "bias", (0,))):  # fmt: skip
            other = _weight(theirs, heads[0], "out", role)
            if other is not None and own in ours and prod(ours[own]) == prod(theirs[other]):
                pairs.append(pair(own, other, axes, None, theirs[other]))
    return pairs
