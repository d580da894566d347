"""Which terms of one backward pass are micro-batches of one loss, and which are terms of their own.

A script may add up the losses of its micro-batches and backpropagate the sum. Such losses are taken
in one way, of forward passes that have the parameters in common and nothing else. Heads share what
their model computed, and tasks have parameters of their own.
"""

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch

from conformance.weighing.records import Term
from conformance.weighing.torch_graph import Node, below, edges, is_of_a_leaf, kind_of

_SURE = 3  # whoever writes two losses may mean two tasks; three of one kind come from a loop


@dataclass(frozen=True)
class Found:
    """A term as the graph has it.

    Attributes:
        node: the loss function's.
        targets: their bytes; empty where the graph has none.
    """

    term: Term
    node: Node
    targets: bytes = b""


@dataclass
class _Forward:
    """A part of the graph that shares nothing but parameters with the others."""

    number: int
    leaves: set[int] = field(default_factory=set)
    found: list[Found] = field(default_factory=list)

    @property
    def kind(self) -> tuple[object, ...]:
        """Return what micro-batches of one loss have in common."""
        terms = ((f.term.name, f.term.is_mean, _taken_of(f.node)) for f in self.found)
        return (frozenset(self.leaves), *terms)


def _taken_of(node: Node) -> tuple[str, ...]:
    return tuple(map(kind_of, (node, *below(node))))


def named(found: Sequence[Found], head: Sequence[Node]) -> list[Term]:
    """Return the terms with names: one for all micro-batches, a number for each further term.

    Args:
        found: the terms.
        head: the nodes above them.
    """
    if len(found) == len({f.term.name for f in found}):
        return [f.term for f in found]
    groups: dict[tuple[object, ...], list[_Forward]] = defaultdict(list)
    for forward in _forwards(found):
        groups[forward.kind].append(forward)
    is_a_loop = any(map(_is_of_a_loop, head))
    rows = [
        [forward.found[place] for forward in group]
        for group in groups.values()
        for place in range(len(group[0].found))
    ]
    order = {id(each): at for at, each in enumerate(found)}
    seen: dict[str, int] = defaultdict(int)
    terms = []
    for row in sorted(rows, key=lambda row: min(order[id(each)] for each in row)):
        name = row[0].term.name
        seen[name] += 1
        name += f" #{seen[name]}" if seen[name] > 1 else ""
        is_sure = is_a_loop or len(row) >= _SURE
        terms += [
            replace(each.term, name=name)
            if len(row) == 1
            else replace(
                each.term, name=name, batch=at, digest=_digest(each.targets), is_of_loop=is_sure
            )
            for at, each in enumerate(row)
        ]
    return terms


def _digest(targets: bytes) -> str:
    """Return what tells one batch from another; empty where the graph has no targets."""
    return hashlib.blake2b(targets, digest_size=8).hexdigest() if targets else ""


def _is_of_a_loop(node: Node) -> bool:
    """Whether losses are stacked, or added to a number, as loops do."""
    kind = kind_of(node)
    return kind in ("Stack", "Cat") or (kind == "Add" and edges(node) == 1)


def _forwards(found: Sequence[Found]) -> list[_Forward]:
    """Return the parts of the graph below the terms, in the order in which they were computed."""
    owner: dict[Node, int] = {}
    parts = [_Forward(f.node._sequence_nr(), found=[f]) for f in found]
    place = list(range(len(found)))  # of the part that a term's part was joined to
    for at, each in enumerate(found):
        stack = [each.node]
        while stack:
            node = stack.pop()
            if hasattr(node, "variable"):
                parts[at].leaves.add(id(node.variable))
            elif node in owner:
                other = place[owner[node]]
                place = [place[at] if p == other else p for p in place]
            else:
                if not is_of_a_leaf(node):
                    owner[node] = at
                    parts[at].number = min(parts[at].number, node._sequence_nr())
                stack += [following for following, _ in node.next_functions if following]
    joined = []
    for one in sorted(set(place)):
        own = [part for part, p in zip(parts, place, strict=True) if p == one]
        joined.append(
            _Forward(
                min(part.number for part in own),
                set().union(*(part.leaves for part in own)),
                [f for part in own for f in part.found],
            )
        )
    return sorted(joined, key=_number)


def _number(forward: _Forward) -> int:
    return forward.number


def told(target: torch.Tensor) -> bytes:
    """Return what tells a batch from others: nothing, where all targets are one number."""
    flat = target.reshape(-1)
    return b"" if not len(flat) or bool((flat == flat[0]).all()) else bytes_of(target)


def bytes_of(tensor: torch.Tensor) -> bytes:
    """Return a tensor's bytes, whatever its dtype and layout."""
    whole = tensor.detach().cpu().reshape(-1).clone(memory_format=torch.contiguous_format)
    return whole.view(torch.uint8).numpy().tobytes()
