"""torch: eager by default; autograd, torch.func, torch.compile, torch.export and TorchScript."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from textwrap import shorten
from typing import Any

import numpy as np
import torch
import torch._dynamo.exc

from conformance.core.dtypes import DTYPES, Dtype
from conformance.core.outcomes import NotExercised, Unsupported, WrongAnswer
from conformance.core.questions import Layout, Transform
from conformance.frameworks import Description, Function, Refused, precision
from conformance.frameworks.layouts import laid_out
from conformance.frameworks.torch import devices as torch_devices

_BY_TORCH = {getattr(torch, row.torch): row for row in DTYPES.values()}


def prepare() -> None:
    """One thread a process, full precision, deterministic algorithms."""
    torch.set_num_threads(1)
    torch_devices.prepare()


def describe() -> Description:
    """Versions, every device, the settings that decide precision, and what they come to."""
    devices = torch_devices.described()
    kept = {device: precision.measured(partial(_matmul, device)) for device in devices}
    # A plain str: the version is of a class of its own, which cannot leave this process.
    return Description(
        {"torch": str(torch.__version__)},
        devices,
        {**torch_devices.precision(), **precision.words("torch", kept)},
        torch_devices.all_missing(),
        precision.told(kept),
    )


def _matmul(device: str, dtype: str) -> precision.Matmul:
    def matmul(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        x, y = (array(one, DTYPES[dtype], "contiguous", device) for one in (a, b))
        return values(x @ y, device)

    return matmul


def array(values: np.ndarray, dtype: Dtype, layout: Layout, device: str) -> torch.Tensor:
    """A tensor with these bits and the strides that NumPy gives the layout."""
    if layout == "negative":
        raise Unsupported("torch has no negative strides")
    target = getattr(torch, dtype.torch)
    place = torch_devices.matching_devices(device)[0]
    if layout == "contiguous":
        raw = torch.from_numpy(np.array(values, order="C").reshape(-1).view(np.uint8))
        if dtype.kind == "quantized":
            whole = torch._make_per_tensor_quantized_tensor(raw.reshape(values.shape), 0.5, 0)
        else:
            whole = raw.view(target).reshape(values.shape)
        return whole.to(place)
    # Through the array's own buffer: bits, strides and offset as NumPy laid them out.
    strided = laid_out(values, layout)
    buffer = strided if strided.base is None else strided.base
    flat = torch.from_numpy(_flat(buffer).view(np.uint8)).to(place).view(target)
    offset = (
        strided.__array_interface__["data"][0] - buffer.__array_interface__["data"][0]
    ) // strided.itemsize
    steps = [step // strided.itemsize for step in strided.strides]
    return flat.as_strided(values.shape, steps, offset)


def _flat(buffer: np.ndarray) -> np.ndarray:
    """The buffer's memory in order, as one axis."""
    order = sorted(range(buffer.ndim), key=lambda axis: -buffer.strides[axis])
    return np.ascontiguousarray(buffer.transpose(order)).reshape(-1)


def values(array: Any, device: str) -> np.ndarray:
    """The tensor's bits in the carrier of its dtype."""
    if not isinstance(array, torch.Tensor):
        raise WrongAnswer(f"gave {type(array).__name__}, not torch.Tensor")
    wanted = torch.device(device)
    if array.device.type != wanted.type or wanted.index not in (None, array.device.index):
        raise WrongAnswer(f"gave a tensor on {array.device}, not on {device}")
    row = _BY_TORCH.get(array.dtype)
    if row is None:
        raise WrongAnswer(f"gave a tensor of {array.dtype}, which no case asks for")
    plain = array.detach().resolve_conj().resolve_neg()
    if row.kind == "quantized":
        plain = plain.int_repr()
    # .contiguous() would keep a single element's stride, which no view as bytes may have.
    whole = plain.cpu().clone(memory_format=torch.contiguous_format)
    return whole.reshape(-1).view(torch.uint8).numpy().view(row.carrier).reshape(array.shape)


def transformed(function: Function, how: Transform, x: torch.Tensor) -> Function:
    """Through torch.compile (its graph on eager kernels), torch.export or torch.func.vmap."""
    match how:
        case "compiled":
            torch._dynamo.reset()  # an earlier case's graphs would count against the limit
            compiled: Function = torch.compile(function, backend="aot_eager", fullgraph=True)
            return compiled
        case "exported":
            exported: Function = _export(function, x).module()
            return exported
        case "vmapped":
            mapped: Function = torch.func.vmap(function)
            return mapped
        case "scripted":
            raise ValueError("a script is made of the function of (x, groups): see `scripted`")
        case _:
            return function


def scripted(function: Function) -> Function:
    """TorchScript of the function's source; its words where TorchScript does not take it."""
    try:
        script: Function = torch.jit.script(function)
    except Exception as error:
        words = shorten(str(error), 120, placeholder=" …")
        raise Unsupported(f"TorchScript does not take this function: {words}") from error
    return script


class _Module(torch.nn.Module):
    def __init__(self, function: Function) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.function(x)
        return result


def _export(function: Function, x: torch.Tensor) -> Any:
    return torch.export.export(_Module(function), (x,))


def vjp(function: Function, x: torch.Tensor, cotangent: torch.Tensor) -> tuple[Any, Any]:
    """By `torch.autograd.grad`."""
    leaf = x.detach().requires_grad_()
    y = function(leaf)
    (pulled,) = torch.autograd.grad(y, leaf, cotangent)
    return y, pulled


def jvp(function: Function, x: torch.Tensor, tangent: torch.Tensor) -> tuple[Any, Any]:
    """By `torch.func.jvp`: forward-mode dual numbers."""
    y, pushed = torch.func.jvp(function, (x,), (tangent,))
    return y, pushed


def double(
    function: Function, x: torch.Tensor, cotangent: torch.Tensor, second: torch.Tensor
) -> tuple[Any, ...]:
    """By two `torch.autograd.grad`, the first of which builds a graph."""
    leaf, leaf_cotangent = x.detach().requires_grad_(), cotangent.detach().requires_grad_()
    y = function(leaf)
    (pulled,) = torch.autograd.grad(y, leaf, leaf_cotangent, create_graph=True)
    (twice,) = torch.autograd.grad(pulled, leaf_cotangent, second)
    return y, pulled, twice


def strides(array: torch.Tensor) -> tuple[int, ...]:
    """Strides in elements."""
    return tuple(array.stride())


def shares_memory(first: torch.Tensor, second: torch.Tensor) -> bool:
    """Whether both lie in one storage; what has no elements lies nowhere."""
    places = {array.untyped_storage().data_ptr() for array in (first, second)}
    return first.numel() > 0 and len(places) == 1


def graph_nodes(function: Function, x: torch.Tensor, name: str) -> int:
    """Calls of `aten.<name>` in the graph of `torch.export`."""
    nodes = _export(function, x).graph.nodes
    return sum(str(node.target).startswith(f"aten.{name}.") for node in nodes)


def in_both_modes(function: Function, x: torch.Tensor) -> tuple[Any, Any, int]:
    """Whatever modules the function calls are seen through torch's global forward hook."""
    outputs, entries = [], 0
    for training in (False, True):
        with _modules_called(training=training) as called:
            outputs.append(function(x))
        if not called:
            raise NotExercised("this implementation calls no torch.nn.Module")
        entries += sum(
            len(module.state_dict()) + len([*module.parameters(), *module.buffers()])
            for module in called
        )
    return outputs[0], outputs[1], entries


@contextmanager
def _modules_called(*, training: bool) -> Iterator[list[torch.nn.Module]]:
    called: list[torch.nn.Module] = []

    def note(module: torch.nn.Module, _inputs: Any) -> None:
        called.append(module.train(training))

    hook = torch.nn.modules.module.register_module_forward_pre_hook(note)
    try:
        yield called
    finally:
        hook.remove()


def grouped_pointwise(x: torch.Tensor, kernel: torch.Tensor, groups: int) -> torch.Tensor:
    """By `conv2d`."""
    return torch.nn.functional.conv2d(x, kernel, groups=groups)


def moveaxis(x: torch.Tensor, source: int, destination: int) -> torch.Tensor:
    """As `numpy.moveaxis`, contiguous."""
    return x.movedim(source, destination).contiguous()


def refusal(error: Exception) -> Refused | None:
    """By the words of kernels, of autograd for custom functions, and of the compiler."""
    words = str(error)
    if any(told in words for told in ("not implemented for", "Could not run")):
        return "dtype"
    if isinstance(error, torch._dynamo.exc.Unsupported) or any(
        told in words
        for told in (
            "does not currently support double backward",
            "You must implement the jvp function",
            "does not have vmap support",
            "must override the setup_context staticmethod",
        )
    ):
        return "transform"
    return None


def is_out_of_memory(error: Exception) -> bool:
    """By the type that torch has for it on every accelerator."""
    return isinstance(error, torch.OutOfMemoryError)


def settle(device: str) -> None:
    """Nothing: torch uses the CPU where no device is named, and ranks have chosen theirs."""


def release(device: str) -> None:
    """Empty the caching allocator of the device's kind."""
    kind = torch.device(device).type
    if kind != "cpu" and not torch_devices.missing(kind):
        torch.get_device_module(kind).empty_cache()
