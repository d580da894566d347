"""See which of the script's collectives carry a tensor past autograd: a loss is coupled by them.

`torch.distributed.all_gather` of features leaves no trace in the graph, and gradients of what the
others sent are lost. An all-reduce of a number is a loss that is logged, and couples nothing. What
is detached before it is gathered may be logged as well: it couples where the loss is made of it.
"""

import functools
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import distributed
from torch.autograd.function import FunctionCtx
from torch.distributed.nn import functional

from conformance.weighing.torch_graph import nodes_since

if TYPE_CHECKING:
    from types import FrameType

_NAMES = ("all_gather", "all_gather_into_tensor", "all_reduce")
_FRAMES = 4  # between a collective and the `forward` of a script's own autograd function
_VALUES = 256  # of what another rank sent, by which it is known again


@dataclass(frozen=True)
class Gathered:
    """What an all-gather gave, past autograd, of a tensor that has a gradient elsewhere.

    Attributes:
        since: autograd's number of the first node that may be made of it.
        sent: what this rank gave.
        received: what all gave; an asynchronous collective fills it later.
    """

    name: str
    since: int
    sent: torch.Tensor
    received: Sequence[torch.Tensor]

    def is_in(self, roots: Iterable[torch.Tensor]) -> bool:
        """Whether a loss is made of what the others sent: its graph holds their values."""
        size = self.sent.numel()
        sent = self.sent.detach().reshape(-1)
        parts = [part for each in self.received for part in each.reshape(-1).split(size)]
        others = [part[:_VALUES] for part in parts if not torch.equal(part, sent)]
        return any(
            bool(torch.isin(other.to(saved.dtype), saved).all())
            for node in nodes_since(roots, self.since)
            for saved in _saved_by(node)
            for other in others
            if saved.is_floating_point() and saved.numel() >= other.numel()
        )


def _saved_by(node: Any) -> Iterator[torch.Tensor]:
    for name in dir(node):
        saved = getattr(node, name) if name.startswith(("_saved_", "saved_tensors")) else ()
        for each in saved if isinstance(saved, (tuple, list)) else (saved,):
            if isinstance(each, torch.Tensor):
                yield each.detach()


@contextmanager
def watching(seen: Callable[[str], None], gathered: Callable[[Gathered], None]) -> Iterator[None]:
    """Call `seen` with the name of each such collective, until the block is left.

    Args:
        seen: called with collectives of what is in autograd's graph as it stands.
        gathered: called with gathers of what is not, and of which a copy is.
    """
    names = [n for n in _NAMES if distributed.is_available() and hasattr(distributed, n)]
    originals = {name: getattr(distributed, name) for name in names}
    for name, original in originals.items():
        setattr(distributed, name, _watched(name, original, seen, gathered))
    try:
        yield
    finally:
        for name, original in originals.items():
            setattr(distributed, name, original)


def _watched(
    name: str,
    original: Callable[..., Any],
    seen: Callable[[str], None],
    gathered: Callable[[Gathered], None],
) -> Callable[..., Any]:
    @functools.wraps(original)
    def collective(*arguments: Any, **options: Any) -> Any:
        if not torch.compiler.is_compiling() and sys._getframe(1).f_globals is not vars(functional):
            given = [*arguments[:2], *options.values()]
            tensors = [each for each in given if isinstance(each, torch.Tensor)]
            if any(map(_is_of_a_graph, tensors)):
                seen(name)
            elif name != "all_reduce" and tensors and _has_a_gradient_elsewhere(tensors[-1]):
                lists = [each for each in given if isinstance(each, list)]
                received = [*lists[0]] if lists else tensors[:1]
                since = torch._C._autograd._get_sequence_nr()
                gathered(Gathered(name, since, tensors[-1], received))
        return original(*arguments, **options)

    return collective


def _is_of_a_graph(tensor: torch.Tensor) -> bool:
    return _is_computed(tensor) and (torch.is_grad_enabled() or _is_in_a_function())


def _is_computed(tensor: torch.Tensor) -> bool:
    return tensor.requires_grad and not tensor.is_leaf and tensor.numel() > 1


def _has_a_gradient_elsewhere(tensor: torch.Tensor) -> bool:
    """Whether a tensor, or one that it was detached from, has a gradient.

    What a tensor was detached from is looked for among the variables of those who call.
    """
    if _is_computed(tensor):
        return True
    if not tensor.is_floating_point() or tensor.numel() < 2 or tensor.requires_grad:
        return False
    frame: FrameType | None = sys._getframe(2)
    while frame is not None:
        for value in frame.f_locals.values():
            held = list(value.values()) if isinstance(value, dict) else value
            for each in held if isinstance(held, (list, tuple)) else (held,):
                if type(each) is torch.Tensor and _is_computed(each) and _are_one(each, tensor):
                    return True
        frame = frame.f_back
    return False


def _are_one(one: torch.Tensor, other: torch.Tensor) -> bool:
    return one.untyped_storage().data_ptr() == other.untyped_storage().data_ptr()


def _is_in_a_function() -> bool:
    """Whether the caller is the forward pass of an autograd function, where nothing is recorded."""
    frame: FrameType | None = sys._getframe(3)
    for _ in range(_FRAMES):
        if frame is not None:
            if any(isinstance(each, FunctionCtx) for each in frame.f_locals.values()):
                return True
            frame = frame.f_back
    return False
