"""A torch module, run in float64 with errors carried; its calls are found by hooks."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from copy import copy
from dataclasses import replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map

from conformance.arithmetic.running import Approximate
from conformance.compare import aten_reductions_model as _reductions  # noqa: F401  It registers
from conformance.compare import aten_rules_model as _rules  # noqa: F401  rules, as this does.
from conformance.compare.aten_model import NARROW, Carry, Uncompiled
from conformance.compare.rules import U32, U64, Rules
from conformance.compare.torch_changes_model import Change
from conformance.compare.torch_watch_model import Watch, aside, kept
from conformance.compare.trace import (
    INPUT,
    SEED,
    Asked,
    Plain,
    Trace,
    as_given,
    channels_first,
    flattened,
)
from conformance.core.outcomes import UsageError

_DROPOUTS = {F.dropout, F.dropout1d, F.dropout2d, F.dropout3d, F.alpha_dropout, torch.dropout,
             F.feature_alpha_dropout, torch.dropout_, torch.feature_dropout}  # fmt: skip
_LEAVES = {"numpy", "__array__", "tolist"}
_STATISTICS = ("running_mean", "running_var")


class _Wide(Uncompiled):
    """Makes float64 of every float32 that is asked for, so that tables are not rounded."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        def wide(x: Any) -> Any:
            if isinstance(x, torch.Tensor) and x.dtype is torch.float32:
                return x if func._schema.is_mutable else x.double()
            return torch.float64 if x is torch.float32 else x

        args, kwargs = tree_map(wide, (args, dict(kwargs or {})))
        return func(*args, **kwargs)


@contextmanager
def wide_types() -> Iterator[None]:
    """While a factory is called: what it computes in float32 comes out in float64."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        with _Wide():
            yield
    finally:
        torch.set_default_dtype(before)


class _Types(Uncompiled):
    """Notes types narrower than float32."""

    def __init__(self) -> None:
        super().__init__()
        self.narrow: set[str] = set()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        self.narrow |= {
            str(x.dtype).removeprefix("torch.") for x in tree_leaves((args, out))
            if isinstance(x, torch.Tensor) and x.dtype in NARROW
        }  # fmt: skip
        return out


class _Silent(TorchFunctionMode):
    """Leaves dropout out; makes a change where a cause is tried."""

    def __init__(self, change: Any, carry: Carry | None = None) -> None:
        super().__init__()
        self.silenced = 0
        self._change, self._carry = change, carry

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        if func in _DROPOUTS:
            self.silenced += 1
            return args[0] if args else kwargs["input"]
        if func is F.scaled_dot_product_attention and kwargs.get("dropout_p"):
            self.silenced += 1
            kwargs["dropout_p"] = 0.0
        if self._carry is not None and getattr(func, "__name__", "") in _LEAVES:
            with aside():
                depends = self._carry.depended(args[0])
            if depends & INPUT:
                raise UsageError(
                    f"it takes a tensor out of torch ({func.__name__}): errors cannot be carried "
                    "through what is done there"
                )
        if self._change is not None:
            return self._change(func, args, kwargs)
        return func(*args, **kwargs)


class TorchModel:
    """A module, and the layout that it takes."""

    framework = "torch"

    def __init__(
        self, made: Any, channels_from: int, *, unit: float = U64, is_wide: bool = True
    ) -> None:
        if not isinstance(made, nn.Module):
            raise UsageError(f"the factory gave {type(made).__name__}, not torch.nn.Module")
        torch.set_num_threads(1)
        self._module = made.double() if is_wide else made
        self.channels_from = self.outputs_from = channels_from
        self._rules, self._is_wide = Rules(unit), is_wide
        self._first_state = {n: t.detach().clone() for n, t in _tensors(made)}
        self._order: list[str] = []

    def laid(self, channels_from: int, outputs_from: int) -> "TorchModel":
        """The same model, with its channels last from these ranks on."""
        other = copy(self)
        other.channels_from, other.outputs_from = channels_from, outputs_from
        return other

    def change(self, chosen: Mapping[int, tuple[str, str]], *, records: bool = False) -> Change:
        """What a run may be asked to do otherwise."""
        return Change(chosen, records=records)

    def weights(self) -> dict[str, tuple[int, ...]]:
        """Modules that were called first come first."""
        place = {path: i for i, path in enumerate(self._order)}
        names = [(name, tuple(p.shape)) for name, p in self._module.named_parameters()]
        names += [
            (name, tuple(b.shape))
            for name, b in self._module.named_buffers()
            if name.rpartition(".")[2] in _STATISTICS
        ]
        names.sort(key=lambda row: place.get(row[0].rpartition(".")[0], len(place)))
        return dict(names)

    def vocabulary(self) -> int | None:
        """The rows of its smallest table of embeddings."""
        tables = [
            m for m in self._module.modules() if isinstance(m, nn.Embedding | nn.EmbeddingBag)
        ]
        return min((m.num_embeddings for m in tables), default=None)

    def shapes(
        self, inputs: Mapping[int | str, np.ndarray], *, training: bool
    ) -> dict[str, tuple[int, ...]]:
        """Runs the module once, and notes the order of calls."""
        order: list[str] = []
        handles = [
            module.register_forward_pre_hook(lambda *_, path=path: order.append(path))
            for path, module in self._module.named_modules()
        ]
        try:
            with torch.no_grad(), self._settled(training, {}), _Wide(), _Silent(None):
                output = self._called(inputs)
        finally:
            for handle in handles:
                handle.remove()
        self._order = list(dict.fromkeys(order))
        return {
            path: channels_first(t.detach().numpy(), self.outputs_from).shape
            for path, t in _leaves(output).items()
        }

    def run(self, asked: Asked) -> Trace:
        """Under the mode that carries errors; the backward runs under it too."""
        carry = Carry(self._rules, charged=asked.charged, keeps_values=asked.keeps_values,
                      anchors=asked.anchors)  # fmt: skip
        silent = _Silent(asked.change, carry)
        watch = Watch(self._module, carry, asked)
        if asked.change is not None:
            asked.change.begin(watch)
        parts = [m for m in self._module.modules() if isinstance(m, nn.modules.dropout._DropoutNd)]
        with self._settled(asked.training, asked.weights), ExitStack() as stack:
            stack.callback(watch.close)
            tensors = self._tensors(asked.inputs)
            for t in tensors.values():
                carry.made_of(t, INPUT)
                if t.is_floating_point() and asked.seeds is not None:
                    t.requires_grad_()
            parameters = dict(self._module.named_parameters())
            for p in parameters.values():
                p.requires_grad_(asked.seeds is not None)
            with carry, silent:  # A model may write into what it is given.
                leaves = _leaves(self._invoked({k: t.clone() for k, t in tensors.items()}))
            watch.close()
            outputs = {path: carry.at(t) for path, t in leaves.items()}
            state = {
                name: kept(carry.at(b))
                for name, b in self._module.named_buffers()
                if name.rpartition(".")[2] in _STATISTICS
            }
            wanted = {
                **parameters,
                **{f"input {k}": t for k, t in tensors.items() if t.requires_grad},
            }
            found = self._pulled(carry, leaves, asked, wanted) if asked.seeds is not None else {}
            calls = tuple(
                replace(call, cotangent=watch.cotangents.get(i))
                for i, call in enumerate(watch.seen)
            )
            gradients = {
                name: found.get(name) or carry.rules.exactly(np.zeros(tuple(p.shape)))
                for name, p in parameters.items()
                if asked.seeds is not None
            }
        return Trace(
            calls=calls,
            outputs={k: kept(self._moved(x, self.outputs_from)) for k, x in outputs.items()},
            gradients=gradients,
            input_gradients=tuple(
                self._moved(found[f"input {k}"], self.channels_from)
                if f"input {k}" in found
                else None
                for k in tensors
            ),
            state=state,
            values=tuple(carry.values),
            without_rule=dict(carry.without_rule),
            unsure=dict(carry.unsure),
            narrows=carry.narrows,
            idle=carry.idle,
            silenced=silent.silenced + len(parts),
        )

    def plain(self, asked: Asked) -> Plain:
        """Hooks note what every module gave."""
        calls: list[tuple[str, np.ndarray]] = []
        types = _Types()

        def note(path: str, output: Any) -> None:
            with aside():
                calls.extend((path, _values(x)) for x in tree_leaves(output)
                             if isinstance(x, torch.Tensor) and x.is_floating_point())  # fmt: skip

        parts = [(path, part) for path, part in self._module.named_modules() if path]
        handles = [part.register_forward_hook(lambda _, __, output, path=path: note(path, output))
                   for path, part in parts]  # fmt: skip
        tensors = self._tensors(asked.inputs)
        own = next((p.dtype for p in self._module.parameters() if p.dtype in NARROW), torch.float32)
        tensors = {k: t.to(own) if t.is_floating_point() else t for k, t in tensors.items()}
        try:
            with (
                torch.no_grad(), self._settled(asked.training, asked.weights), _Silent(None), types
            ):  # fmt: skip
                leaves = _leaves(self._invoked(tensors))
        finally:
            for handle in handles:
                handle.remove()
        outputs = {
            path: channels_first(_values(t), self.outputs_from) for path, t in leaves.items()
        }
        return Plain(tuple(calls), outputs, frozenset(types.narrow))

    def in_float32(self) -> "TorchModel":
        """Its own constants are kept, in float64."""
        return TorchModel(self._module, self.channels_from, unit=U32).laid(
            self.channels_from, self.outputs_from
        )

    def _pulled(
        self, carry: Carry, leaves: Mapping[str, Any], asked: Asked, wanted: Mapping[str, Any]
    ) -> dict[str, Approximate]:
        assert asked.seeds is not None
        carry.is_forward = False
        ends, seeds = [], []
        for path, t in leaves.items():
            if t.requires_grad and path in asked.seeds:
                seed = as_given(asked.seeds[path], self.outputs_from)
                seed = torch.from_numpy(np.array(seed, order="C")).to(t.dtype)
                carry.made_of(seed, SEED)
                ends.append(t)
                seeds.append(seed)
        if not ends or not wanted:
            return {}
        with carry:
            found = torch.autograd.grad(ends, list(wanted.values()), seeds, allow_unused=True)
        return {
            name: kept(carry.at(g)) for name, g in zip(wanted, found, strict=True) if g is not None
        }

    @contextmanager
    def _settled(self, training: bool, weights: Mapping[str, np.ndarray]) -> Iterator[None]:
        """The module in its first state, with these weights; torch without its fast paths."""
        module = self._module.train(training)
        for part in module.modules():
            if isinstance(part, nn.modules.dropout._DropoutNd):
                part.eval()
            elif isinstance(part, nn.RNNBase | nn.MultiheadAttention):
                part.dropout = 0.0
        held = dict(_tensors(module))
        with torch.no_grad():
            for name, first in self._first_state.items():
                values = weights.get(name)
                held[name].copy_(
                    first if values is None else torch.from_numpy(np.array(values, order="C"))
                )
        if not self._is_wide:
            yield
            return
        before = torch.get_default_dtype()
        torch.set_default_dtype(torch.float64)
        fast = torch.backends.mha.get_fastpath_enabled()
        torch.backends.mha.set_fastpath_enabled(False)
        mkldnn = torch._C._get_mkldnn_enabled()
        torch._C._set_mkldnn_enabled(False)
        try:
            with nn.attention.sdpa_kernel(nn.attention.SDPBackend.MATH):
                yield
        finally:
            torch._C._set_mkldnn_enabled(mkldnn)
            torch.backends.mha.set_fastpath_enabled(fast)
            torch.set_default_dtype(before)

    def _tensors(self, inputs: Mapping[int | str, np.ndarray]) -> dict[int | str, torch.Tensor]:
        return {
            key: torch.from_numpy(np.array(as_given(x, self.channels_from), order="C"))
            for key, x in inputs.items()
        }

    def _called(self, inputs: Mapping[int | str, np.ndarray]) -> Any:
        return self._invoked(self._tensors(inputs))

    def _invoked(self, tensors: Mapping[int | str, torch.Tensor]) -> Any:
        places = [t for k, t in tensors.items() if isinstance(k, int)]
        names: dict[str, Any] = {str(k): t for k, t in tensors.items() if not isinstance(k, int)}
        return self._module(*places, **names)

    def _moved(self, x: Approximate, last: int) -> Approximate:
        return Approximate(channels_first(x.value, last), channels_first(x.error, last))


def _tensors(module: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    yield from module.named_parameters()
    yield from module.named_buffers()


def _values(t: torch.Tensor) -> np.ndarray:
    return np.array(t.detach().double().cpu().numpy())


def _leaves(output: Any) -> dict[str, torch.Tensor]:
    try:
        return flattened(output, lambda x: isinstance(x, torch.Tensor))
    except TypeError as error:
        raise UsageError(f"what the model gave is no tensor: {error}") from error
