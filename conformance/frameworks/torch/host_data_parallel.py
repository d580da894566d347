"""`torch.nn.DataParallel` on host memory: torch's own code with other device primitives.

Without a GPU the real class passes its input straight through, and nothing is parallel. This module
inherits `DataParallel.forward`, and the functions that do its work (scatter, replicate,
parallel_apply, gather) are torch's own with other globals. New are the functions that move bytes
between devices, and the accelerator that parallel_apply asks for. A device is then an index, a
replica a thread; all share the host's memory and its random state, so dropout is not
deterministic.

Source: torch 2.13.0, torch/nn/parallel/{data_parallel,scatter_gather,replicate,parallel_apply,
_functions}.py.
"""

import functools
import types
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import chain
from typing import Any

import torch
from torch.nn.parallel.data_parallel import DataParallel
from torch.nn.parallel.parallel_apply import parallel_apply
from torch.nn.parallel.replicate import replicate
from torch.nn.parallel.scatter_gather import gather, scatter, scatter_kwargs


def _names(code: types.CodeType) -> Iterator[str]:
    """Yields each global and attribute that the code, or a function inside it, looks up by name."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _names(constant)


def rebound(
    function: Callable[..., Any], attributes: Sequence[str] = (), **swapped: Any
) -> Callable[..., Any]:
    """Copies a function with the swapped names in place of its module's; `function` stays.

    Args:
        function: a function written in Python.
        attributes: attributes of the swapped names that the function must look up, for the swap to
            reach everything.
        swapped: new globals by name; the function must look up each name.

    Raises:
        ImportError: names a global that this torch's function does not look up; a swap of that
            name would have no effect.
    """
    used = {*_names(function.__code__)}
    missing = [name for name in (*swapped, *attributes) if name not in used]
    missing += [name for name in swapped if name not in function.__globals__]
    if missing:
        raise ImportError(
            f"{function.__module__}.{function.__qualname__} of torch {torch.__version__} "
            f"does not use {missing[0]!r}: DataParallel cannot be brought to the host"
        )
    copy = types.FunctionType(
        function.__code__,
        {**function.__globals__, **swapped},
        function.__name__,
        function.__defaults__,
        function.__closure__,
    )
    copy.__kwdefaults__ = function.__kwdefaults__
    return functools.update_wrapper(copy, function)


class _Scatter(torch.autograd.Function):
    """Chunks along a dimension: the first is a view of the input, the others are copies."""

    @staticmethod
    def forward(
        ctx: Any, devices: Sequence[int], _sizes: None, dim: int, x: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        ctx.dim = dim
        first, *others = x.chunk(len(devices), dim)
        return first, *(chunk.clone() for chunk in others)

    @staticmethod
    def backward(ctx: Any, *cotangents: torch.Tensor) -> tuple[Any, ...]:
        return None, None, None, torch.cat(cotangents, ctx.dim)


class _Gather(torch.autograd.Function):
    """Concatenation along a dimension; 0-d outputs become a vector, with torch's warning."""

    @staticmethod
    def forward(ctx: Any, _device: int, dim: int, *outputs: torch.Tensor) -> torch.Tensor:
        ctx.dim = dim
        ctx.scalars = dim == 0 and all(output.dim() == 0 for output in outputs)
        if ctx.scalars:
            warnings.warn(
                "Was asked to gather along dimension 0, but all input tensors were scalars; "
                "will instead unsqueeze and return a vector.",
                stacklevel=2,
            )
            outputs = tuple(output.view(1) for output in outputs)
        ctx.sizes = [output.size(dim) for output in outputs]
        return torch.cat(outputs, dim)

    @staticmethod
    def backward(ctx: Any, cotangent: torch.Tensor) -> tuple[Any, ...]:
        chunks = cotangent.split(ctx.sizes, ctx.dim)
        return None, None, *(chunk[0] if ctx.scalars else chunk for chunk in chunks)


def _broadcast(tensors: Sequence[torch.Tensor], replicas: int) -> list[list[torch.Tensor]]:
    """Copies tensors; replica 0 gets the originals, so that it can change them in place."""
    copies = [[tensor.detach().clone() for tensor in tensors] for _ in range(1, replicas)]
    return [list(tensors), *copies]


class _Broadcast(torch.autograd.Function):
    """The tensors of replica 0, then the tensors of replica 1, ...; backward sums in that order."""

    @staticmethod
    def forward(ctx: Any, devices: Sequence[int], *tensors: torch.Tensor) -> tuple[Any, ...]:
        ctx.count = len(tensors)
        replicas = _broadcast(tensors, len(devices))
        fixed = [index for index, needed in enumerate(ctx.needs_input_grad[1:]) if not needed]
        ctx.mark_non_differentiable(*(copies[index] for copies in replicas for index in fixed))
        return tuple(chain.from_iterable(replicas))

    @staticmethod
    def backward(ctx: Any, *cotangents: torch.Tensor) -> tuple[Any, ...]:
        shares = (cotangents[index :: ctx.count] for index in range(ctx.count))
        return None, *(functools.reduce(torch.add, share) for share in shares)


def _broadcast_coalesced_reshape(
    tensors: Sequence[torch.Tensor],
    devices: Sequence[int],
    detach: bool = False,
) -> list[list[torch.Tensor]]:
    """Returns a list of tensors per device; torch's own cannot serve, as it imports `Broadcast`."""
    if not tensors:
        return []
    if detach:
        return _broadcast(tensors, len(devices))
    copies = _Broadcast.apply(devices, *tensors)
    return [list(copies[i : i + len(tensors)]) for i in range(0, len(copies), len(tensors))]


class _Accelerator:
    """The functions of `torch.accelerator` that `parallel_apply` calls, for the host."""

    @staticmethod
    def is_available() -> bool:
        return True

    @staticmethod
    def current_accelerator() -> torch.device:
        return torch.device("cpu")

    @staticmethod
    def current_stream(_device: int) -> AbstractContextManager[None]:
        return nullcontext()

    @staticmethod
    def device_index(_device: int) -> AbstractContextManager[None]:
        return nullcontext()


class _Torch:
    """`torch` with the host as its accelerator, whose autocast is then in force."""

    accelerator = _Accelerator

    @staticmethod
    def is_autocast_enabled() -> bool:
        enabled: bool = torch.is_autocast_enabled("cpu")
        return enabled

    def __getattr__(self, name: str) -> Any:
        return getattr(torch, name)


_ACCELERATOR_NAMES = (
    "accelerator",
    "is_available",
    "current_accelerator",
    "current_stream",
    "device_index",
    "is_autocast_enabled",
)


class HostDataParallel(DataParallel):
    """`DataParallel` over `replicas` devices that are all the host.

    `forward` is torch's own, and so are the functions under it: inputs are scattered along `dim`
    in chunks of ⌈B / replicas⌉, the module is replicated, each replica runs in its thread, and
    the outputs are concatenated along `dim`; gradients are summed into `module`.

    Args:
        module: a module with its parameters and buffers on the CPU.
        replicas: how many devices to split over, at least 1.
        dim: the axis of every input tensor and of every output tensor that is split.

    Raises:
        ValueError: if there would be no replica, for which DataParallel would pass through.
        RuntimeError: at forward, if a parameter or buffer is not on the CPU.
    """

    def __init__(self, module: torch.nn.Module, replicas: int, dim: int = 0) -> None:
        # DataParallel's own constructor would look for an accelerator.
        torch.nn.Module.__init__(self)
        if replicas < 1:
            raise ValueError(f"replicas must be at least 1, not {replicas}")
        self.module = module
        self.dim = dim
        self.device_ids = list(range(replicas))
        self.output_device = 0
        self.src_device_obj = torch.device("cpu")

    scatter = rebound(
        DataParallel.scatter,
        scatter_kwargs=rebound(scatter_kwargs, scatter=rebound(scatter, Scatter=_Scatter)),
    )
    replicate = rebound(
        DataParallel.replicate,
        replicate=rebound(replicate, _broadcast_coalesced_reshape=_broadcast_coalesced_reshape),
    )
    parallel_apply = rebound(
        DataParallel.parallel_apply,
        parallel_apply=rebound(parallel_apply, _ACCELERATOR_NAMES, torch=_Torch()),
    )
    gather = rebound(DataParallel.gather, gather=rebound(gather, Gather=_Gather))
