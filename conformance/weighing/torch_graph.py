"""Autograd's own graph of a loss: its nodes, its leaves, and what in it joins the ranks."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch

_COUPLING = re.compile(
    r"AllGather|AllReduce|ReduceScatter|AllToAll|SyncBatchNorm|all_gather", re.IGNORECASE
)
_MOVES = frozenset(
    {"LogSoftmax", "View", "ReshapeAlias", "UnsafeView", "ToCopy", "Slice", "Transpose", "Clone",
     "Permute", "T", "Alias", "Squeeze", "Unsqueeze", "ConstantPadNd", "Div", "Mul"}
)  # fmt: skip
Node = Any


def kind_of(node: Node) -> str:
    """Return a node's kind: `MulBackward0` is `Mul`."""
    return re.sub(r"Backward\d*$", "", node.name())


@dataclass(frozen=True)
class Graph:
    """What a backward pass would run through.

    Attributes:
        leaves: that it would reach.
        couples: what joins the ranks, or empty.
        numbers: autograd's own of its nodes, by which passes over one forward pass are known; not
            of parameters that are only cast, which autocast does once for several.
    """

    leaves: list[torch.Tensor]
    couples: str
    numbers: frozenset[int]


def graph_of(roots: Iterable[torch.Tensor]) -> Graph:
    """Return the graph of what is backpropagated."""
    stack = [root.grad_fn for root in roots if root.grad_fn is not None]
    leaves: list[torch.Tensor] = []
    seen: set[Node] = set(stack)
    couples = ""
    numbers: set[int] = set()
    while stack:
        node = stack.pop()
        variable = getattr(node, "variable", None)
        if variable is not None:
            leaves.append(variable)
        else:
            if not is_of_a_leaf(node):
                numbers.add(node._sequence_nr())
            if not couples and _COUPLING.search(node.name()):
                couples = kind_of(node)
        for following, _ in node.next_functions:
            if following is not None and following not in seen:
                seen.add(following)
                stack.append(following)
    return Graph(leaves, couples, frozenset(numbers))


def edges(node: Node) -> int:
    """Count the inputs of a node that have a gradient."""
    return sum(following is not None for following, _ in node.next_functions)


def is_of_a_leaf(node: Node) -> bool:
    """Whether a node only rearranges or casts one parameter."""
    while kind_of(node) in _MOVES:
        inputs = [following for following, _ in node.next_functions if following is not None]
        if len(inputs) != 1:
            return False
        (node,) = inputs
        if hasattr(node, "variable"):
            return True
    return False


def _shape(node: Node) -> tuple[int, ...]:
    metadata = node._input_metadata
    return tuple(metadata[0].shape) if metadata else ()


def is_scalar(node: Node) -> bool:
    """Whether a node's output is one number."""
    size = 1
    for length in _shape(node):
        size *= length
    return size == 1


def below(node: Node) -> Iterator[Node]:
    """Yield what the loss function's input was made of, as far as it was only rearranged."""
    for _ in range(12):
        following = next((f for f, _ in node.next_functions if f is not None), None)
        if following is None:
            return
        yield following
        if kind_of(following) not in _MOVES:
            return
        node = following
