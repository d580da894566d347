"""A torch module: its calls by hooks, the backward by autograd."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from conformance.compare.trace import Call, Layer, Trace, as_given, channels_first
from conformance.core.outcomes import UsageError

_DTYPES = {
    torch.float64: "f64",
    torch.float32: "f32",
    torch.float16: "f16",
    torch.bfloat16: "bf16",
}


class TorchModel:
    """A module, and the layout that it takes."""

    framework = "torch"

    def __init__(self, made: Any, *, channels_last: bool) -> None:
        if not isinstance(made, nn.Module):
            raise UsageError(f"the factory gave {type(made).__name__}, not torch.nn.Module")
        torch.set_num_threads(1)
        self._module, self.channels_last = made, channels_last
        self._order: list[str] = []

    def weights(self) -> dict[str, tuple[int, ...]]:
        """Modules that were called first come first."""
        place = {path: i for i, path in enumerate(self._order)}
        names = [
            (name, tuple(tensor.shape))
            for name, tensor in self._module.state_dict().items()
            if tensor.is_floating_point()
        ]
        names.sort(key=lambda one: place.get(one[0].rpartition(".")[0], len(place)))
        return dict(names)

    def run(
        self,
        weights: Mapping[str, np.ndarray],
        inputs: Sequence[np.ndarray],
        cotangent: np.ndarray | None,
        *,
        training: bool,
    ) -> Trace:
        """Dropouts always evaluate: no two frameworks drop the same."""
        module = self._module.train(training)
        for part in module.modules():
            if isinstance(part, nn.modules.dropout._DropoutNd):
                part.eval()
        if weights:
            held = dict(module.state_dict())
            with torch.no_grad():
                for name, values in weights.items():
                    held[name].copy_(torch.from_numpy(np.ascontiguousarray(values)))
        module.zero_grad(set_to_none=True)
        given = [
            torch.from_numpy(np.array(as_given(x, channels_last=self.channels_last), order="C"))
            for x in inputs
        ]
        for x in given:
            if x.is_floating_point():
                x.requires_grad_()
        watch = _Watch(module)
        try:
            output = module(*given)
        finally:
            watch.close()
        if not isinstance(output, torch.Tensor):
            raise UsageError(f"torch: the model gave {type(output).__name__}, not one tensor")
        self._order = list(dict.fromkeys(one["module"] for one in watch.seen))
        if cotangent is not None:
            seed = torch.from_numpy(np.array(self._own(cotangent), order="C"))
            if output.requires_grad:
                output.backward(seed.to(output.dtype))
        gradients = {
            name: np.zeros(p.shape, np.float32) if p.grad is None else _numpy(p.grad)
            for name, p in module.named_parameters()
            if cotangent is not None
        }
        state = {n: _numpy(b) for n, b in module.named_buffers() if b.is_floating_point()}
        return Trace(
            calls=tuple(self._call(one, cotangent is not None) for one in watch.seen),
            inputs=tuple(inputs),
            output=self._first(output),
            dtype=_DTYPES.get(output.dtype, str(output.dtype)),
            input_cotangents=tuple(
                None
                if not x.requires_grad
                else self._first(torch.zeros_like(x) if x.grad is None else x.grad)
                for x in given
            ),
            gradients=gradients,
            state=state,
        )

    def _own(self, x: np.ndarray) -> np.ndarray:
        return as_given(x, channels_last=self.channels_last)

    def _first(self, x: Any) -> np.ndarray:
        return channels_first(_numpy(x), channels_last=self.channels_last)

    def _call(self, one: dict[str, Any], with_gradients: bool) -> Call:
        def first(x: np.ndarray) -> np.ndarray:
            return channels_first(x, channels_last=self.channels_last)

        def gradient(key: Any, of: np.ndarray) -> np.ndarray | None:
            if not with_gradients or of.dtype.kind != "f":
                return None
            return first(one["gradients"].get(key, np.zeros_like(of)))  # none came: it is zero

        part = self._module.get_submodule(one["module"])
        return Call(
            module=one["module"],
            nth=one["nth"],
            type=type(part).__name__,
            layer=layer_of(part, one["module"]),
            inputs=tuple(map(first, one["inputs"])),
            output=first(one["output"]),
            dtype=one["dtype"],
            cotangent=gradient("output", one["output"]),
            input_cotangents=tuple(gradient(i, x) for i, x in enumerate(one["inputs"])),
        )


class _Watch:
    """Hooks on every module that has weights of its own or no modules inside.

    Tensors pass through a clone on the way in and out, so that a gradient is that of one call, and
    an operation in place changes nothing that was seen.
    """

    def __init__(self, root: nn.Module) -> None:
        self.seen: list[dict[str, Any]] = []
        self._open: dict[str, list[dict[str, Any]]] = {}
        self._count: dict[str, int] = {}
        self._handles = []
        for path, module in root.named_modules():
            own = any(True for _ in module.named_parameters(recurse=False))
            if path and (own or not any(True for _ in module.children())):
                before, after = self._hooks(path)
                self._handles.append(module.register_forward_pre_hook(before))
                self._handles.append(module.register_forward_hook(after))

    def close(self) -> None:
        """Take the hooks off again."""
        for handle in self._handles:
            handle.remove()

    def _hooks(self, path: str) -> tuple[Any, Any]:
        def before(_: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
            gradients: dict[Any, np.ndarray] = {}
            nth = self._count[path] = self._count.get(path, -1) + 1
            tensors = [x for x in inputs if isinstance(x, torch.Tensor)]
            record = {
                "module": path,
                "nth": nth,
                "inputs": [_numpy(x) for x in tensors],
                "gradients": gradients,
            }
            self._open.setdefault(path, []).append(record)
            numbers = iter(range(len(inputs)))
            return tuple(
                _noted(x, gradients, next(numbers), always=True)
                if isinstance(x, torch.Tensor)
                else x
                for x in inputs
            )

        def after(_: nn.Module, __: Any, output: Any) -> Any:
            record = self._open[path].pop()
            if not isinstance(output, torch.Tensor):
                return output  # several outputs: what the suite sees is where they are used
            record["output"] = _numpy(output)
            record["dtype"] = _DTYPES.get(output.dtype, str(output.dtype))
            self.seen.append(record)
            return _noted(output, record["gradients"], "output")

        return before, after


def _noted(
    x: torch.Tensor, gradients: dict[Any, np.ndarray], key: Any, *, always: bool = False
) -> torch.Tensor:
    """A copy whose gradient is kept; `always`: also where the graph before it has ended."""
    copy = x.clone()
    if always and copy.is_floating_point() and not copy.requires_grad:
        copy.requires_grad_()
    if copy.requires_grad:
        copy.register_hook(lambda gradient: gradients.__setitem__(key, _numpy(gradient)))
    return copy


def _numpy(x: torch.Tensor) -> np.ndarray:
    plain = x.detach()
    if plain.dtype in (torch.bfloat16, torch.float16):
        plain = plain.float()
    return plain.cpu().numpy().copy()


def layer_of(module: nn.Module, path: str) -> Layer | None:
    """What the module says of itself; None for classes that the suite has no model of."""
    held = {**dict(module.named_parameters(recurse=False)), **dict(module.named_buffers())}
    roles = {
        role: (f"{path}.{role}", None)
        for role in ("weight", "bias", "running_mean", "running_var")
        if held.get(role) is not None
    }
    if type(module) is nn.Linear:
        return Layer("linear", roles)
    if type(module) is nn.Conv2d and module.padding_mode == "zeros":
        padding = module.padding
        sides: Any = padding.upper() if isinstance(padding, str) else tuple((p, p) for p in padding)
        return Layer("conv", roles, tuple(module.stride), sides, tuple(module.dilation),
                     module.groups)  # fmt: skip
    if type(module) in (nn.BatchNorm1d, nn.BatchNorm2d):
        return Layer("batch_norm", roles, epsilon=module.eps, momentum=module.momentum)
    if type(module) is nn.LayerNorm:
        return Layer("layer_norm", roles, epsilon=module.eps, axes=len(module.normalized_shape))
    if type(module) is nn.GroupNorm:
        return Layer("group_norm", roles, epsilon=module.eps, groups=module.num_groups)
    return None
