"""Autograd's own graph of a loss: its nodes, its leaves, and what in it joins the ranks."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch

from conformance.weighing.records import HALF, SUMMED

_COUPLING = re.compile(
    r"AllGather|AllReduce|ReduceScatter|AllToAll|SyncBatchNorm|all_gather", re.IGNORECASE
)
_SUMMED = re.compile(r"_AllGather|GeneratedBackwardFor__c10d_functional_all_gather_into_tensor_\w+")
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
            if couples in ("", SUMMED) and _COUPLING.search(node.name()):
                couples = _coupling(node)
        for following, _ in node.next_functions:
            if following is not None and following not in seen:
                seen.add(following)
                stack.append(following)
    return Graph(leaves, couples, frozenset(numbers))


def _coupling(node: Node) -> str:
    """Name what joins the ranks; torch's own gathers add up what all ranks' losses give back."""
    module = getattr(getattr(node, "_forward_cls", None), "__module__", "")
    is_own = module.startswith("torch.") and _SUMMED.fullmatch(kind_of(node))
    return SUMMED if is_own else kind_of(node)


def nodes_since(roots: Iterable[torch.Tensor], number: int) -> Iterator[Node]:
    """Yield the nodes of a graph that were made after autograd had given out a number."""
    stack = [root.grad_fn for root in roots if root.grad_fn is not None]
    seen: set[Node] = set(stack)
    while stack:
        node = stack.pop()
        # Later nodes are made of earlier ones; the last of all is a leaf's, whose number is larger.
        if node._sequence_nr() < number or hasattr(node, "variable"):
            continue
        yield node
        for following, _ in node.next_functions:
            if following is not None and following not in seen:
                seen.add(following)
                stack.append(following)


def factor_of(node: Node) -> float:
    """Return the number that a node multiplies by, or divides; 1 where it does not."""
    if kind_of(node) not in ("Mul", "Div") or edges(node) != 1:
        return 1.0
    other = node._saved_other
    if other is None or (isinstance(other, torch.Tensor) and other.dim()) or not other:
        return 1.0
    return float(other) if kind_of(node) == "Mul" else 1 / float(other)


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


def chain(node: Node) -> list[Node]:
    """Return a node and two below it, each the first input of the one above."""
    nodes = [node]
    while len(nodes) < 3 and nodes[-1] is not None:
        nodes.append(next((f for f, _ in nodes[-1].next_functions if f is not None), None))
    return [each for each in nodes if each is not None]


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


def logits_of(node: Node) -> Node:
    """Return the log-softmax that a loss is taken of; None where there is none."""
    if kind_of(node) == "LogSoftmax":
        return node
    if kind_of(node) not in ("NllLoss", "NllLoss2D", "Gather"):
        return None
    return next((each for each in below(node) if kind_of(each) == "LogSoftmax"), None)


def own_scale(node: Node, *, is_halved: bool) -> float:
    """Return a factor that such a loss often has: half of squares, T² of a softmax over T."""
    logits = logits_of(node)
    if logits is not None:
        return factor_of(next(below(logits))) ** -2
    return HALF if is_halved and kind_of(node) in ("Pow", "MseLoss") else 1.0
