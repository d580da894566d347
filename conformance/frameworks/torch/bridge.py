"""The bridge to torch: eager by default; autograd, torch.func, compile, export and TorchScript."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from textwrap import shorten
from typing import Any

import numpy as np
import torch

from conformance.core.dtypes import DTYPES, Dtype
from conformance.core.outcomes import NotExercised, Unsupported, WrongAnswer
from conformance.core.questions import Layout, Transform
from conformance.frameworks import Description, Function, Refused, precision
from conformance.frameworks.layouts import laid_out
from conformance.frameworks.torch import devices as torch_devices
from conformance.frameworks.torch import state

_BY_TORCH = {getattr(torch, row.torch): row for row in DTYPES.values()}


def prepare() -> None:
    """Sets a single thread, full precision and deterministic algorithms."""
    torch.set_num_threads(1)
    torch_devices.prepare()


def describe() -> Description:
    """Returns versions, every device, the precision settings, and the bits measured under them."""
    devices = torch_devices.described()
    measurements = {device: precision.measured(partial(_matmul, device)) for device in devices}
    # The version's own class cannot be sent to another process; a plain str can.
    return Description(
        {"torch": str(torch.__version__)},
        devices,
        {**torch_devices.precision(), **precision.words("torch", measurements)},
        torch_devices.all_missing(),
        precision.only_measured(measurements),
    )


def _matmul(device: str, dtype: str) -> precision.Matmul:
    def matmul(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        x, y = (array(operand, DTYPES[dtype], "contiguous", device) for operand in (a, b))
        return values(x @ y, device)

    return matmul


def array(values: np.ndarray, dtype: Dtype, layout: Layout, device: str) -> torch.Tensor:
    """Makes a tensor with these bits, and the strides that NumPy gives the layout."""
    if layout == "negative":
        raise Unsupported("torch has no negative strides")
    target = getattr(torch, dtype.torch)
    torch_device = torch_devices.matching_devices(device)[0]
    if layout == "contiguous":
        raw = torch.from_numpy(np.array(values, order="C").reshape(-1).view(np.uint8))
        if dtype.kind == "quantized":
            whole = torch._make_per_tensor_quantized_tensor(raw.reshape(values.shape), 0.5, 0)
        else:
            whole = raw.view(target).reshape(values.shape)
        return whole.to(torch_device)
    # The array's own buffer has the bits, the strides and the offset that NumPy gave them.
    strided = laid_out(values, layout)
    buffer = strided if strided.base is None else strided.base
    flat = torch.from_numpy(_flat(buffer).view(np.uint8)).to(torch_device).view(target)
    offset = (
        strided.__array_interface__["data"][0] - buffer.__array_interface__["data"][0]
    ) // strided.itemsize
    steps = [step // strided.itemsize for step in strided.strides]
    return flat.as_strided(values.shape, steps, offset)


def _flat(buffer: np.ndarray) -> np.ndarray:
    """Returns the buffer's memory in order, as one axis."""
    order = sorted(range(buffer.ndim), key=lambda axis: -buffer.strides[axis])
    return np.ascontiguousarray(buffer.transpose(order)).reshape(-1)


def values(array: Any, device: str) -> np.ndarray:
    """Returns the tensor's bits in the carrier of its dtype."""
    if not issubclass(type(array), torch.Tensor):  # An object may say that it is of any class.
        raise WrongAnswer(f"gave {type(array).__name__}, not torch.Tensor")
    expected = torch.device(device)
    if array.device.type != expected.type or expected.index not in (None, array.device.index):
        raise WrongAnswer(f"gave a tensor on {array.device}, not on {device}")
    row = _BY_TORCH.get(array.dtype)
    if row is None:
        raise WrongAnswer(f"gave a tensor of {array.dtype}, which no case asks for")
    plain = array.detach().resolve_conj().resolve_neg()
    if row.kind == "quantized":
        plain = plain.int_repr()
    # .contiguous() would keep a single element's stride, which a view as bytes must not have.
    whole = plain.cpu().clone(memory_format=torch.contiguous_format)
    return whole.reshape(-1).view(torch.uint8).numpy().view(row.carrier).reshape(array.shape)


def transformed(function: Function, how: Transform, x: torch.Tensor) -> Function:
    """Puts the function through torch.compile (eager kernels), torch.export or torch.func.vmap."""
    match how:
        case "compiled":
            # An earlier case's graphs would count against the limit of recompilations.
            torch._dynamo.reset()
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
    """Compiles the function's source with TorchScript; a refusal carries TorchScript's words."""
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
    """Calls `torch.autograd.grad`; a gradient that does not come through is zero, as in JAX."""
    leaf = x.detach().requires_grad_()
    y = function(leaf)
    return y, _pulled(y, leaf, cotangent)


def _pulled(y: Any, leaf: torch.Tensor, cotangent: torch.Tensor, **options: bool) -> torch.Tensor:
    if isinstance(y, torch.Tensor) and not y.requires_grad:
        return torch.zeros_like(leaf)
    (pulled,) = torch.autograd.grad(y, leaf, cotangent, materialize_grads=True, **options)
    return pulled


def jvp(function: Function, x: torch.Tensor, tangent: torch.Tensor) -> tuple[Any, Any]:
    """Calls `torch.func.jvp`, which uses forward-mode dual numbers."""
    y, pushed = torch.func.jvp(function, (x,), (tangent,))
    return y, pushed


def double(
    function: Function, x: torch.Tensor, cotangent: torch.Tensor, second: torch.Tensor
) -> tuple[Any, ...]:
    """Calls `torch.autograd.grad` twice, and has the first call build a graph."""
    leaf, leaf_cotangent = x.detach().requires_grad_(), cotangent.detach().requires_grad_()
    y = function(leaf)
    pulled = _pulled(y, leaf, leaf_cotangent, create_graph=True)
    return y, pulled, _pulled(pulled, leaf_cotangent, second)


def strides(array: torch.Tensor) -> tuple[int, ...]:
    """Returns the strides in elements."""
    return tuple(array.stride())


def shares_memory(first: torch.Tensor, second: torch.Tensor) -> bool:
    """Says whether both have the same storage; a tensor without elements has none."""
    places = {array.untyped_storage().data_ptr() for array in (first, second)}
    return first.numel() > 0 and len(places) == 1


def graph_nodes(function: Function, x: torch.Tensor, name: str) -> int:
    """Counts the calls of `aten.<name>` in the graph of `torch.export`."""
    nodes = _export(function, x).graph.nodes
    return sum(str(node.target).startswith(f"aten.{name}.") for node in nodes)


def in_both_modes(function: Function, x: torch.Tensor) -> tuple[Any, Any, int]:
    """Runs the function in eval and train mode; a global hook finds the modules that it calls."""
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
    """Convolves with `conv2d`."""
    return torch.nn.functional.conv2d(x, kernel, groups=groups)


def moveaxis(x: torch.Tensor, source: int, destination: int) -> torch.Tensor:
    """Moves an axis, and makes the result contiguous."""
    return x.movedim(source, destination).contiguous()


def refusal(error: Exception) -> Refused | None:
    """Recognises the messages of kernels, of autograd for custom functions, and of the compiler."""
    words = str(error)
    if any(phrase in words for phrase in ("not implemented for", "Could not run")):
        return "dtype"
    if _is_of_the_compiler(error) or any(
        phrase in words
        for phrase in (
            "does not currently support double backward",
            "You must implement the jvp function",
            "does not have vmap support",
            "must override the setup_context staticmethod",
        )
    ):
        return "transform"
    return None


def is_out_of_memory(error: Exception) -> bool:
    """Recognises the type that torch has for it on every accelerator."""
    return isinstance(error, torch.OutOfMemoryError)


def settle(device: str) -> None:
    """Does nothing: torch uses the CPU by default, and a rank sets its own device."""


def release(device: str) -> None:
    """Empties the caching allocator of the device's kind."""
    kind = torch.device(device).type
    if kind != "cpu" and not torch_devices.missing(kind):
        torch.get_device_module(kind).empty_cache()


reset, watch = state.reset, state.watch


def _is_of_the_compiler(error: Exception) -> bool:
    """Says whether torch.compile refuses what the function does."""
    # The compiler takes as long to import as torch itself; who never imported it raised nothing.
    compiler = sys.modules.get("torch._dynamo.exc")
    return compiler is not None and isinstance(error, compiler.Unsupported)
