"""See which of the script's collectives carry a tensor past autograd: a loss is coupled by them.

`torch.distributed.all_gather` of features leaves no trace in the graph, and gradients of what the
others sent are lost. An all-reduce of a number is a loss that is logged, and couples nothing.
"""

import functools
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import distributed
from torch.autograd.function import FunctionCtx

if TYPE_CHECKING:
    from types import FrameType

_NAMES = ("all_gather", "all_gather_into_tensor", "all_reduce")
_FRAMES = 4  # between a collective and the `forward` of a script's own autograd function


@contextmanager
def watching(seen: Callable[[str], None]) -> Iterator[None]:
    """Call `seen` with the name of each such collective, until the block is left."""
    names = [n for n in _NAMES if distributed.is_available() and hasattr(distributed, n)]
    originals = {name: getattr(distributed, name) for name in names}
    for name, original in originals.items():
        setattr(distributed, name, _watched(name, original, seen))
    try:
        yield
    finally:
        for name, original in originals.items():
            setattr(distributed, name, original)


def _watched(
    name: str, original: Callable[..., Any], seen: Callable[[str], None]
) -> Callable[..., Any]:
    @functools.wraps(original)
    def collective(*arguments: Any, **options: Any) -> Any:
        if not torch.compiler.is_compiling() and any(
            isinstance(each, torch.Tensor) and _is_of_a_graph(each)
            for each in (*arguments[:2], *options.values())
        ):
            seen(name)
        return original(*arguments, **options)

    return collective


def _is_of_a_graph(tensor: torch.Tensor) -> bool:
    return (
        tensor.requires_grad
        and not tensor.is_leaf
        and tensor.numel() > 1
        and (torch.is_grad_enabled() or _is_in_a_function())
    )


def _is_in_a_function() -> bool:
    """Whether the caller is the forward pass of an autograd function, where nothing is recorded."""
    frame: FrameType | None = sys._getframe(3)
    for _ in range(_FRAMES):
        if frame is not None:
            if any(isinstance(each, FunctionCtx) for each in frame.f_locals.values()):
                return True
            frame = frame.f_back
    return False
