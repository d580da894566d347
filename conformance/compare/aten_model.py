"""Carries errors through everything that torch dispatches, forward and backward.

torch computes every value itself, in float64; beside each storage lies one of errors, with the same
strides, so that views and writes in place need no rule. What is a composition of other operations
is taken apart by torch's own decompositions.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Any

import numpy as np
import torch
from numpy.lib.stride_tricks import sliding_window_view
from torch._decomp import decomposition_table
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

from conformance.arithmetic.running import Approximate
from conformance.compare.rules import Rules
from conformance.compare.trace import INPUT, Value
from conformance.core.errors import UsageError

NARROW = {torch.bfloat16: "bf16", torch.float16: "f16"}
_MONOTONE = {
    "exp", "exp2", "expm1", "log", "log2", "log10", "log1p", "tanh", "sigmoid", "erf", "erfc",
    "erfinv", "special_erf", "special_erfc", "special_ndtri", "special_log_ndtr", "sqrt", "atan",
    "asin", "acos", "asinh", "acosh", "atanh", "sinh", "rsqrt", "cbrt",
}  # fmt: skip
_CLIPPED = {"relu", "clamp", "clamp_min", "clamp_max", "hardtanh", "threshold", "relu6"}
_STEPS = {"floor", "ceil", "round", "trunc", "sign", "sgn"}
_COMPARED = {"gt", "lt", "ge", "le", "eq", "ne"}
_LOGICAL = {"bitwise_and", "bitwise_or", "bitwise_not", "bitwise_xor", "logical_and", "logical_or",
            "logical_not", "logical_xor"}  # fmt: skip
_MOVES = {
    "clone", "index", "_unsafe_index", "index_select", "gather", "embedding", "cat", "stack", "flip",
    "roll", "repeat", "constant_pad_nd", "reflection_pad1d", "reflection_pad2d", "slice_scatter",
    "reflection_pad3d", "replication_pad1d", "replication_pad2d", "replication_pad3d", "copy",
    "select_scatter", "tril", "triu", "im2col", "pixel_shuffle", "pixel_unshuffle", "take",
    "native_channel_shuffle", "channel_shuffle", "masked_select", "select_backward", "neg",
    "slice_backward", "upsample_nearest1d", "upsample_nearest2d", "upsample_nearest3d", "rot90",
    "diag_embed", "diagonal_backward", "index_copy", "scatter", "repeat_interleave", "_to_copy",
    "masked_scatter", "lift_fresh_copy", "alias_copy", "diagonal_scatter", "as_strided_scatter",
    "block_diag", "trace_backward", "unfold_copy", "convert_element_type", "_reshape_copy",
}  # fmt: skip
_SUMS = {
    "sum", "mean", "cumsum", "embedding_dense_backward", "scatter_add", "index_add", "col2im",
    "unfold_backward", "avg_pool1d", "avg_pool2d", "avg_pool3d", "avg_pool2d_backward",
    "avg_pool3d_backward", "_adaptive_avg_pool2d", "_adaptive_avg_pool2d_backward",
    "_adaptive_avg_pool3d", "_adaptive_avg_pool3d_backward", "upsample_nearest1d_backward",
    "upsample_nearest2d_backward", "upsample_nearest3d_backward", "upsample_bilinear2d_backward",
    "upsample_linear1d_backward", "upsample_trilinear3d_backward", "reflection_pad1d_backward",
    "reflection_pad2d_backward", "replication_pad1d_backward", "replication_pad2d_backward",
    "trace", "index_put",
}  # fmt: skip
_RANDOM = {"rand", "randn", "randint", "rand_like", "randn_like", "randint_like", "bernoulli",
           "native_dropout", "normal", "uniform", "multinomial", "randperm", "poisson",
           "exponential", "log_normal", "random"}  # fmt: skip
_FACTORIES = {"empty", "zeros", "ones", "full", "arange", "linspace", "eye", "empty_like",
              "zeros_like", "ones_like", "full_like", "new_zeros", "new_ones", "new_full", "iota",
              "new_empty", "scalar_tensor", "empty_strided", "tril_indices", "triu_indices", "fill",
              "new_empty_strided", "isnan", "isinf", "isfinite", "zero", "empty_permuted",
              "tensor", "nonzero"}  # fmt: skip


class Carry(TorchDispatchMode):
    """While it is entered, every tensor has an error, and knows which module calls made it."""

    def __init__(
        self, rules: Rules, *, charged: bool, keeps_values: bool, anchors: Mapping[int, float]
    ) -> None:
        super().__init__()
        self._anchors = anchors
        self.rules = rules
        self.values: list[Value] = []
        self.without_rule: Counter[str] = Counter()
        self.unsure: Counter[str] = Counter()
        self.narrows = False
        self._charged, self._keeps = charged, keeps_values
        self._errors: dict[int, torch.Tensor] = {}
        self._depends: dict[int, int] = {}
        self._wide: dict[int, torch.Tensor] = {}
        self._alive: list[Any] = []  # A storage that is freed could come again with old errors.
        self.is_forward = True

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Computes what torch would, wide, and what it may be off by."""
        args, kwargs = tree_map(self._widened, (list(args), dict(kwargs or {})))
        return self._dispatched(func, args, kwargs)

    def _dispatched(self, func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
        name = func._schema.name.partition("::")[2]
        tensors = [x for x in tree_flatten((args, kwargs))[0] if isinstance(x, torch.Tensor)]
        if func.is_view or name in ("detach", "alias", "lift_fresh", "_unsafe_view", "lift"):
            out = func(*args, **kwargs)
            if name == "lift_fresh":
                out = self._widened(out)
            self._alive.append(out)
            return out
        if name == "_local_scalar_dense":
            if tensors[0].numel() and self._depended(tensors[0]) & INPUT:
                raise UsageError(
                    "it decides in Python by a value of a tensor (`if`, `item()`, `int()`): what "
                    "it does then is no function that errors can be carried through"
                )
            return func(*args, **kwargs)
        if func._schema.is_mutable and not name.startswith(("_native_batch_norm_legit", "native_batch_norm")):
            return self._in_place(func, name, args, kwargs)
        narrow = [t.dtype for t in tensors if t.dtype in NARROW]
        floats = [t for t in tensors if t.is_floating_point() and t.ndim]
        if narrow and name not in ("_to_copy", "clone", "convert_element_type"):
            wide = [self._cast(x) for x in args], {k: self._cast(x) for k, x in kwargs.items()}
            out = self._dispatched(func, *wide)
            if all(t.dtype in NARROW for t in floats):
                out = tree_map(lambda t: self._narrowed(t, narrow[0]), out)
            return out
        return self._computed(func, name, args, kwargs, tensors)

    def _computed(
        self, func: Any, name: str, args: Any, kwargs: dict[str, Any], tensors: list[torch.Tensor]
    ) -> Any:
        if name in ("_to_copy", "convert_element_type"):
            dtype = kwargs.get("dtype") or (args[1] if len(args) > 1 else None)
            if dtype in NARROW and tensors[0].is_floating_point():
                return self._narrowed(tensors[0], dtype)
        rule = RULES.get(name)
        outs: Any
        if rule is not None:
            out = func(*args, **kwargs)
            errors = rule(self, func, args, kwargs, out)
            outs = [t for t in tree_flatten(out)[0] if isinstance(t, torch.Tensor)]
            errors = [errors] if isinstance(errors, Approximate | np.ndarray) else errors
            sure = not any(self.error(t).any() for t in tensors)
            for t, error in zip(outs, errors, strict=False):
                if sure and not t.is_floating_point():
                    error = 0.0
                self.note(t, error.error if isinstance(error, Approximate) else error, tensors, name)
            return out
        with self:
            if name in _COMPOSED:
                return _COMPOSED[name](*args, **kwargs)
            out = func.decompose(*args, **kwargs)
            if out is NotImplemented and func in decomposition_table:
                out = decomposition_table[func](*args, **kwargs)
            if out is NotImplemented and hasattr(func, "impl_aten"):
                out = func.impl_aten(*args, **kwargs)
        if out is not NotImplemented:
            return out
        out = func(*args, **kwargs)
        self.without_rule["a random draw" if name in _RANDOM else f"aten::{name}"] += 1
        for t in tree_flatten(out)[0]:
            if isinstance(t, torch.Tensor):
                self.note(t, np.full(t.shape, np.inf), tensors, name)
        return out

    def _in_place(self, func: Any, name: str, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
        """As its functional form, then a copy into what is written."""
        target = kwargs.get("out", args[0])
        rest = {k: v for k, v in kwargs.items() if k != "out"}
        plain = name.rstrip("_")
        if plain in _RANDOM:
            out: Any = target.detach().clone()
            func(*args, **kwargs)
            self.without_rule["a random draw"] += 1
            self.write(target, np.full(target.shape, np.inf), [])
            return target
        if plain in ("fill", "zero"):
            func(*args, **kwargs)
            source = [a for a in args[1:] if isinstance(a, torch.Tensor)]
            self.write(target, self.error(source[0]) if source else 0.0, source)
            return target
        if plain == "copy":
            source = args[1]
            if target.dtype in NARROW and source.dtype not in NARROW:
                source = self._narrowed(source, target.dtype)
            target.copy_(source)
            self.write(target, self.error(source), [source])
            return target
        packet = getattr(torch.ops.aten, plain, None)
        overload = getattr(packet, func._overloadname.replace("_out", "").replace("out", "default"), None)
        if packet is None or overload is None or plain == name and "out" not in kwargs:
            self.without_rule[f"aten::{name}"] += 1
            out = func(*args, **kwargs)
            for t in tree_flatten((args, out))[0]:
                if isinstance(t, torch.Tensor):
                    self.write(t, np.inf, [])
            return out
        out = self._dispatched(overload, args, rest)
        target.copy_(out)
        self.write(target, self.error(out), [out, target])
        return target

    def anchor(self, t: torch.Tensor, error: float) -> None:
        """An error in the place of those carried; what is exact stays so."""
        self.write(t, torch.where(self.error(t) == 0, 0.0, error), [])

    def write(self, target: torch.Tensor, error: Any, sources: Sequence[torch.Tensor]) -> None:
        """Puts errors into a storage that may be seen through other views."""
        key = target.untyped_storage().data_ptr()
        if key not in self._errors:
            self._register(target)
        view = torch.as_strided(self._errors[key], target.shape, target.stride(),
                                target.storage_offset())  # fmt: skip
        view.copy_(torch.as_tensor(error, dtype=torch.float64))
        for source in sources:
            self._depends[key] = self._depends.get(key, 0) | self._depended(source)

    def _register(self, t: torch.Tensor) -> None:
        storage = t.untyped_storage()
        self._errors[storage.data_ptr()] = torch.zeros(
            max(storage.nbytes() // t.itemsize, 1), dtype=torch.float64
        )
        self._alive.append(t)

    def note(self, t: torch.Tensor, error: Any, sources: Sequence[torch.Tensor], name: str) -> None:
        """The error of a result, and what it was made of."""
        key = t.untyped_storage().data_ptr()
        if any(key == s.untyped_storage().data_ptr() for s in sources) or not t.numel():
            return
        self._register(t)
        depends = 0
        for source in sources:
            depends |= self._depended(source)
        self._depends[key] = depends
        error = np.broadcast_to(np.asarray(error, dtype=np.float64), tuple(t.shape))
        self.write(t, torch.from_numpy(np.array(error, order="C")), [])
        if self._keeps and t.is_floating_point() and t.numel() > 1:
            value = t.detach().to(torch.float64, copy=True).numpy()
            anchor = self._anchors.get(len(self.values))
            self.values.append(Value(name, Approximate(value, error.copy()), not self.is_forward))
            if anchor is not None:
                self.anchor(t, anchor)

    def made_of(self, t: torch.Tensor, bits: int) -> None:
        """Adds to what a tensor depends on."""
        key = t.untyped_storage().data_ptr()
        self._depends[key] = self._depended(t) | bits
        self._alive.append(t)

    def _depended(self, t: torch.Tensor) -> int:
        return self._depends.get(t.untyped_storage().data_ptr(), 0)

    depended = _depended

    def error(self, t: torch.Tensor) -> torch.Tensor:
        """The errors of a tensor, in its shape."""
        store = self._errors.get(t.untyped_storage().data_ptr())
        if store is None or not t.numel():
            return torch.zeros(t.shape, dtype=torch.float64)
        return torch.as_strided(store, t.shape, t.stride(), t.storage_offset())

    def at(self, x: Any) -> Approximate:
        """A tensor or number with its error."""
        if not isinstance(x, torch.Tensor):
            return self.rules.exactly(np.asarray(x))
        plain = x.detach()
        plain = plain.double() if plain.is_floating_point() else plain
        return Approximate(plain.resolve_conj().numpy(), self.error(x).numpy())

    def _widened(self, x: Any) -> Any:
        """float32 is taken for the model's own float64, a constant in it for one that was rounded."""
        if x is torch.float32:
            return torch.float64
        if not isinstance(x, torch.Tensor) or x.dtype is not torch.float32:
            return x
        if id(x) not in self._wide:
            self._alive.append(x)
            wide = self._wide[id(x)] = x.detach().double()
            constant = self.rules.constant(x.detach().numpy())
            self._register(wide)
            self.write(wide, torch.from_numpy(constant.error.copy()), [])
        return self._wide[id(x)]

    def _cast(self, x: Any) -> Any:
        def wide(t: Any) -> Any:
            if not isinstance(t, torch.Tensor) or t.dtype not in NARROW:
                return t
            out = t.double()
            self.note(out, self.error(t).numpy().copy(), [t], "cast")
            return out

        return tree_map(wide, x)

    def _narrowed(self, t: Any, dtype: torch.dtype) -> Any:
        if not isinstance(t, torch.Tensor) or not t.is_floating_point() or t.dtype is dtype:
            return t
        self.narrows = True
        rounded = self.rules.rounded_to(NARROW[dtype], self.at(t), charged=self._charged)
        out = torch.from_numpy(np.array(rounded.value, dtype=np.float64)).to(dtype)
        self.note(out, rounded.error, [t], "cast")
        return out


def _variance(
    x: torch.Tensor, dim: Any = None, correction: Any = 1, keepdim: bool = False, **rest: Any
) -> torch.Tensor:
    """In two passes; an algorithm of one pass has errors of its own, where it is one."""
    if isinstance(dim, bool):
        dim, correction = None, int(dim)
    if isinstance(correction, bool):
        correction = int(correction)
    correction = rest.get("unbiased", 1 if correction is None else correction)
    axes = list(range(x.ndim)) if dim is None or dim == [] else dim
    axes = [axes] if isinstance(axes, int) else list(axes)
    count = prod(x.shape[axis] for axis in axes)
    centred = x - x.mean(axes, keepdim=True)
    return (centred * centred).sum(axes, keepdim=keepdim) / (count - float(correction))


def _variance_and_mean(
    x: torch.Tensor, dim: Any = None, correction: Any = 1, keepdim: bool = False, **rest: Any
) -> tuple[torch.Tensor, torch.Tensor]:
    whole = dim is None or isinstance(dim, bool) or dim == []
    axes = list(range(x.ndim)) if whole else dim
    return _variance(x, dim, correction, keepdim, **rest), x.mean(axes, keepdim=keepdim)


_COMPOSED: dict[str, Callable[..., Any]] = {
    "var": _variance,
    "std": lambda *args, **kwargs: _variance(*args, **kwargs).sqrt(),
    "var_mean": _variance_and_mean,
}

Rule = Callable[[Carry, Any, Any, dict[str, Any], Any], Any]
RULES: dict[str, Rule] = {}


def rule(*names: str) -> Callable[[Rule], Rule]:
    """Registers the rule of some operations."""

    def registered(function: Rule) -> Rule:
        RULES.update(dict.fromkeys(names, function))
        return function

    return registered


def _numpy(out: Any) -> np.ndarray:
    plain = out.detach()
    return np.asarray((plain.double() if plain.is_floating_point() else plain).numpy())


def _as(v: np.ndarray, dtype: torch.dtype) -> np.ndarray:
    return _numpy(torch.from_numpy(np.array(v, order="C")).to(dtype)).astype(np.float64)


def _tensor(x: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.array(x, order="C"))


@rule(*_FACTORIES)
def _factory(carry: Carry, func: Any, args: Any, kwargs: Any, out: Any) -> Any:
    return carry.rules.exactly(_numpy(out))


@rule("add", "sub", "rsub")
def _add(carry: Carry, func: Any, args: Any, kwargs: Any, out: Any) -> Any:
    a, b = carry.at(args[0]), carry.at(args[1])
    alpha = kwargs.get("alpha", args[2] if len(args) > 2 else 1)
    if alpha != 1:
        scaled = a if "rsub" in str(func) else b
        scaled = carry.rules.multiplied(scaled, carry.rules.exactly(alpha), scaled.value * alpha)
        a, b = (scaled, b) if "rsub" in str(func) else (a, scaled)
    return carry.rules.added(a, b, _numpy(out))


@rule("mul")
def _mul(carry: Carry, func: Any, args: Any, kwargs: Any, out: Any) -> Any:
    return carry.rules.multiplied(carry.at(args[0]), carry.at(args[1]), _numpy(out))


@rule("div", "true_divide")
def _div(carry: Carry, func: Any, args: Any, kwargs: Any, out: Any) -> Any:
    a, b = carry.at(args[0]), carry.at(args[1])
    quotient = carry.rules.divided(a, b, _numpy(out))
    if kwargs.get("rounding_mode") is None:
        return quotient
    return _stepped(carry, quotient, np.floor, _numpy(out))


@rule("reciprocal")
def _reciprocal(carry: Carry, func: Any, args: Any, kwargs: Any, out: Any) -> Any:
    return carry.rules.divided(carry.rules.exactly(1.0), carry.at(args[0]), _numpy(out))


@rule("pow")
def _pow(carry: Carry, func: Any, args: Any, kwargs: Any, out: Any) -> Any:
    base, exponent = args[:2]
    if not isinstance(exponent, torch.Tensor):
        return carry.rules.power(carry.at(base), float(exponent), _numpy(out))
    a, b = carry.at(base), carry.at(exponent)
    value = _numpy(out)
    with np.errstate(all="ignore"):  # e^(b·log a), for positive a
        log = carry.rules.monotone(np.log, a)
        inner = carry.rules.multiplied(log, b, log.value * b.value)
        return carry.rules.monotone(np.exp, inner, value)


@rule("square")
def _square(carry: Carry, func: Any, args: Any, kwargs: Any, out: Any) -> Any:
    return carry.rules.power(carry.at(args[0]), 2.0, _numpy(out))


@rule(*_MONOTONE)
def _monotone(carry: Carry, func: Any, args: Any, kwargs: Any, out: Any) -> Any:
    def f(v: np.ndarray) -> np.ndarray:
        return _numpy(func(_tensor(np.asarray(v, dtype=np.float64))))

    return carry.rules.monotone(f, carry.at(args[0]), _numpy(out))


@rule("sin", "cos")
def _wave(carry: Carry, func: Any, args: Any, kwargs: Any, out: Any) -> Any:
    return carry.rules.wave(carry.at(args[0]), _numpy(out))


@rule("abs")
def _abs(carry: Carry, func: Any, args: Any, kwargs: Any, out: Any) -> Any:
    return carry.rules.lipschitz(carry.at(args[0]), _numpy(out))


@rule(*_CLIPPED)
def _clipped(carry: Carry, func: Any, args: Any, kwargs: Any, out: Any) -> Any:
    if any(isinstance(a, torch.Tensor) for a in args[1:]):
        return carry.rules.lipschitz(carry.at(args[0]), _numpy(out))

    def f(v: np.ndarray) -> np.ndarray:
        return _numpy(func(_tensor(v), *args[1:], **kwargs))

    return carry.rules.clipped(f, carry.at(args[0]), _numpy(out))


def _stepped(carry: Carry, x: Approximate, f: Any, value: np.ndarray) -> Approximate:
    if not x.error.any():
        return carry.rules.exactly(value)
    with np.errstate(all="ignore"):
        off = np.maximum(np.abs(f(x.value + x.error) - value), np.abs(f(x.value - x.error) - value))
    if off.any():
        carry.unsure["a rounding to integers"] += int((off > 0).sum())
    return carry.rules.closed(value, off)


@rule(*_STEPS)
def _step(carry: Carry, func: Any, args: Any, kwargs: Any, out: Any) -> Any:
    def f(v: np.ndarray) -> np.ndarray:
        return _numpy(func(_tensor(v)))

    return _stepped(carry, carry.at(args[0]), f, _numpy(out))


@rule("maximum", "minimum")
def _extreme(carry: Carry, func: Any, args: Any, kwargs: Any, out: Any) -> Any:
    a, b = carry.at(args[0]), carry.at(args[1])
    first = np.abs(_numpy(out) - b.value) > a.error + b.error
    second = np.abs(_numpy(out) - a.value) > a.error + b.error
    error = np.where(first, a.error, np.where(second, b.error, np.maximum(a.error, b.error)))
    return carry.rules.closed(_numpy(out), error)


@rule(*_COMPARED)
def _compared(carry: Carry, func: Any, args: Any, kwargs: Any, out: Any) -> Any:
    name = func._schema.name.partition("::")[2]
    compared = carry.rules.compared(name, carry.at(args[0]), carry.at(args[1]), _numpy(out))
    if compared.error.any():
        carry.unsure[f"a comparison ({name})"] += int(compared.error.sum())
    return compared


@rule(*_LOGICAL)
def _logical(carry: Carry, func: Any, args: Any, kwargs: Any, out: Any) -> Any:
    errors = [carry.at(a).error for a in args if isinstance(a, torch.Tensor)]
    return errors[0] if len(errors) == 1 else np.maximum(*errors)


@rule("any", "all")
def _any(carry: Carry, func: Any, args: Any, kwargs: Any, out: Any) -> Any:
    return np.full(tuple(out.shape), float(carry.at(args[0]).error.any()))


@rule("where")
def _where(carry: Carry, func: Any, args: Any, kwargs: Any, out: Any) -> Any:
    which, a, b = (carry.at(x) for x in args)
    return carry.rules.chosen(which, (b, a), _numpy(out))


@rule("mm", "bmm", "mv", "dot", "matmul", "vdot")
def _product(carry: Carry, func: Any, args: Any, kwargs: Any, out: Any) -> Any:
    def f(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return _numpy(func(_tensor(a), _tensor(b)))

    a, b = carry.at(args[0]), carry.at(args[1])
    return carry.rules.bilinear(f, a, b, a.value.shape[-1], _numpy(out))


def _with_bias(
    carry: Carry, product: Approximate, bias: Approximate, terms: int, out: Any
) -> Approximate:
    """The accumulator may start at the bias, which then is rounded with every term."""
    total = carry.rules.added(product, bias, _numpy(out))
    more = (terms + 4) * carry.rules.unit * (np.abs(bias.value) + bias.error)
    return carry.rules.closed(total.value, total.error + more)


@rule("addmm", "baddbmm", "addmv", "addbmm")
def _addmm(carry: Carry, func: Any, args: Any, kwargs: Any, out: Any) -> Any:
    bias, a, b = (carry.at(x) for x in args[:3])
    alpha, beta = kwargs.get("alpha", 1), kwargs.get("beta", 1)

    def f(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return np.asarray(np.matmul(x, y) * abs(alpha))

    product = carry.rules.bilinear(f, a, b, a.value.shape[-1])
    bias = Approximate(bias.value * beta, bias.error * abs(beta))
    return _with_bias(carry, product, bias, a.value.shape[-1], out)


@rule("convolution", "_convolution", "cudnn_convolution")
def _convolution(carry: Carry, func: Any, args: Any, kwargs: Any, out: Any) -> Any:
    x, weight, bias, *rest = args

    def f(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return _numpy(func(_tensor(a), _tensor(b), None, *rest))

    terms = prod(weight.shape[2:]) * max(weight.shape[:2])
    if bias is None:
        return carry.rules.bilinear(f, carry.at(x), carry.at(weight), terms, _numpy(out))
    product = carry.rules.bilinear(f, carry.at(x), carry.at(weight), terms)
    spread = carry.at(bias.reshape(1, -1, *(1 for _ in weight.shape[2:])))
    spread = Approximate(spread.value, carry.error(bias).numpy().reshape(spread.value.shape))
    return _with_bias(carry, product, spread, terms, out)


@rule("convolution_backward")
def _convolution_backward(carry: Carry, func: Any, args: Any, kwargs: Any, out: Any) -> Any:
    grad, x, weight, sizes, *rest, mask = args
    terms = prod(weight.shape[2:]) * max(weight.shape[:2])
    all_terms = grad.numel() // grad.shape[1]

    def pulled(which: int, place: int) -> Any:
        def f(a: np.ndarray, b: np.ndarray) -> np.ndarray:
            given = [_tensor(a), x, weight]
            given[place] = _tensor(b)
            only = [i == which for i in range(3)]
            return _numpy(func(*given, sizes, *rest, only)[which])

        return f

    dy, results = carry.at(grad), []
    if mask[0]:
        at = carry.at(weight)
        results.append(carry.rules.bilinear(pulled(0, 2), dy, at, terms, _numpy(out[0])))
    if mask[1]:
        at = carry.at(x)
        results.append(carry.rules.bilinear(pulled(1, 1), dy, at, all_terms, _numpy(out[1])))
    if mask[2]:
        axes = (0, *range(2, grad.ndim))
        results.append(carry.rules.summed(lambda v: v.sum(axes), dy, all_terms, _numpy(out[2])))
    return results


def _errors_instead(carry: Carry, args: Any, kwargs: Any) -> tuple[Any, Any, bool]:
    """The call with errors in the place of floating values; whether an index is unsure."""
    unsure = False

    def swapped(x: Any) -> Any:
        nonlocal unsure
        if not isinstance(x, torch.Tensor):
            return x
        if x.is_floating_point():
            return carry.error(x).clone()
        unsure = unsure or bool(carry.error(x).any())
        return x

    args, kwargs = tree_map(swapped, (list(args), dict(kwargs)))
    return args, kwargs, unsure


@rule(*_MOVES)
def _moved(carry: Carry, func: Any, args: Any, kwargs: Any, out: Any) -> Any:
    if not out.is_floating_point() and not any(
        isinstance(x, torch.Tensor) and carry.error(x).any() for x in tree_flatten(args)[0]
    ):
        return carry.rules.exactly(_numpy(out))
    name = func._schema.name.partition("::")[2]
    if name in ("_to_copy", "clone", "convert_element_type", "neg"):
        if args[0].is_floating_point() and not out.is_floating_point():
            return _stepped(carry, carry.at(args[0]), lambda v: _as(v, out.dtype), _numpy(out))
        return carry.error(args[0]).numpy().copy()
    if not out.is_floating_point():
        return carry.rules.unknown(_numpy(out))
    args, kwargs, unsure = _errors_instead(carry, args, kwargs)
    if name == "constant_pad_nd":
        args = args[:2]
        kwargs = {}
    if name == "scatter" and len(args) > 3 and not isinstance(args[3], torch.Tensor):
        args[3] = 0.0
    return carry.rules.unknown(_numpy(out)) if unsure else _numpy(func(*args, **kwargs))


@rule(*_SUMS)
def _sums(carry: Carry, func: Any, args: Any, kwargs: Any, out: Any) -> Any:
    source = max((x for x in args if isinstance(x, torch.Tensor)), key=lambda t: t.numel())
    if not out.is_floating_point():
        return carry.rules.exactly(_numpy(out))
    terms = source.numel()
    if func._schema.name == "aten::sum" or func._schema.name == "aten::mean":
        terms = source.numel() // max(out.numel(), 1)
    if func._schema.name == "aten::cumsum":
        terms = source.shape[args[1]] if source.ndim else 1
    args2, kwargs2, unsure = _errors_instead(carry, args, kwargs)
    if unsure:
        return carry.rules.unknown(_numpy(out))
    carried = _numpy(func(*args2, **kwargs2))
    sizes = tree_map(
        lambda t: t.abs() + carry.error(t)
        if isinstance(t, torch.Tensor) and t.is_floating_point() else t, (list(args), kwargs)
    )  # fmt: skip
    size = _numpy(func(*sizes[0], **sizes[1]))
    # Coefficients of an interpolation may be off by the size of a coordinate.
    wide = 16 + max(source.shape, default=1) if "upsample" in func._schema.name else 4
    return carry.rules.closed(_numpy(out), carried + (terms + wide) * carry.rules.unit * size)


@rule("amax", "amin")
def _amax(carry: Carry, func: Any, args: Any, kwargs: Any, out: Any) -> Any:
    error = torch.amax(carry.error(args[0]), *args[1:], **kwargs)
    return carry.rules.closed(_numpy(out), error.numpy())


@rule("max", "min", "argmax", "argmin")
def _largest(carry: Carry, func: Any, args: Any, kwargs: Any, out: Any) -> Any:
    x, *rest = args
    name = func._schema.name.partition("::")[2]
    if rest and isinstance(rest[0], torch.Tensor):
        return _extreme(carry, func, args, kwargs, out[0] if isinstance(out, tuple) else out)
    v, e = carry.at(x).value, carry.error(x).numpy()
    if name.endswith("min"):
        v = -v
    dim = rest[0] if rest else kwargs.get("dim")
    axis = None if dim is None else int(dim)
    if axis is None:
        v, e, axis = v.reshape(-1), e.reshape(-1), 0
    best = v.argmax(axis)
    low = np.take_along_axis(v - e, np.expand_dims(best, axis), axis)
    rivals = ((v + e >= low) & ((e > 0) | (low != v))).sum(axis)
    unsure = (rivals > 1).astype(float)
    if unsure.any() and (name.startswith("arg") or isinstance(out, tuple)):
        carry.unsure[f"the order at a maximum ({name})"] += int(unsure.sum())
    values = e.max(axis)
    outs = out if isinstance(out, tuple) else (out,)
    return [(values if t.is_floating_point() else unsure).reshape(tuple(t.shape)) for t in outs]


@rule("max_pool2d_with_indices", "max_pool3d_with_indices")
def _max_pool(carry: Carry, func: Any, args: Any, kwargs: Any, out: Any) -> Any:
    x, *rest = args
    errors = _numpy(func(carry.error(x).contiguous().clone(), *rest)[0])
    value, index = _numpy(out[0]), out[1].numpy()
    at = carry.at(x)
    unsure = np.zeros(value.shape)
    if at.error.any():
        # A second pool over what is left of each window: its winner out, everything else at most.
        n = 2 if "2d" in func._schema.name else 3
        kernel, stride, padding, dilation = (_sides(rest, i, n) for i in range(4))
        stride = stride or kernel
        top, low = at.value + at.error, at.value - at.error
        ends = [
            (o - 1) * s + d * (k - 1) + 1 - p - size
            for o, s, d, k, p, size in zip(
                value.shape[-n:], stride, dilation or (1,) * n, kernel, padding or (0,) * n,
                x.shape[-n:], strict=True,
            )
        ]  # fmt: skip
        pads = [(0, 0)] * (x.ndim - n) + [
            (p, max(e, 0)) for p, e in zip(padding or (0,) * n, ends, strict=True)
        ]
        spans = [d * (k - 1) + 1 for d, k in zip(dilation or (1,) * n, kernel, strict=True)]
        axes = tuple(range(x.ndim - n, x.ndim))
        steps = tuple(slice(None, o * s, s) for o, s in zip(value.shape[-n:], stride, strict=True))
        inner = tuple(slice(None, None, d) for d in (dilation or (1,) * n))
        seen = sliding_window_view(np.pad(top, pads, constant_values=-np.inf), spans, axis=axes)
        seen = seen[(..., *steps, *(slice(None),) * n)][(..., *inner)]
        lead = at.value.shape[:-n]
        least = np.take_along_axis(low.reshape(*lead, -1), index.reshape(*lead, -1), -1)
        least = least.reshape(value.shape)[(..., *(None,) * n)]
        rivals = (seen >= least).sum(tuple(range(-n, 0)))
        sure = np.take_along_axis(at.error.reshape(*lead, -1), index.reshape(*lead, -1), -1)
        ties = (seen == least).sum(tuple(range(-n, 0)))
        sure = sure.reshape(value.shape) == 0
        unsure = ((rivals > 1) & ~(sure & (rivals == ties))).astype(float)
        if unsure.any():
            carry.unsure["the order at a max pool"] += int(unsure.sum())
    return errors, unsure


def _sides(rest: Sequence[Any], i: int, n: int) -> tuple[int, ...] | None:
    if i >= len(rest) or rest[i] is None or rest[i] == []:
        return None
    given = rest[i]
    given = [given] if isinstance(given, int) else list(given)
    return tuple(given * n if len(given) == 1 else given)


@rule("max_pool2d_with_indices_backward", "max_pool3d_with_indices_backward")
def _max_pool_backward(carry: Carry, func: Any, args: Any, kwargs: Any, out: Any) -> Any:
    grad, x, *rest, index = args
    if carry.error(index).any():
        return carry.rules.unknown(_numpy(out))

    def f(v: np.ndarray) -> np.ndarray:
        return _numpy(func(_tensor(v), x, *rest, index))

    return carry.rules.summed(f, carry.at(grad), prod(rest[0]) if rest[0] else 1, _numpy(out))


@rule("sort", "topk")
def _sort(carry: Carry, func: Any, args: Any, kwargs: Any, out: Any) -> Any:
    values, index = out
    x = args[0]
    named = {"sort": 1, "topk": 2}[func._schema.name.partition("::")[2]]
    dim = kwargs.get("dim", args[named] if len(args) > named else -1)
    if "stable" in kwargs and len(args) == 1:
        dim = kwargs.get("dim", -1)
    error = carry.error(x)
    if not error.any():
        return carry.rules.exactly(_numpy(values)), carry.rules.exactly(_numpy(index))
    most = error.max()
    ordered = torch.sort(x.detach(), dim=dim)[0]
    close = bool((ordered.diff(dim=dim) <= 2 * most).any())
    if close:
        carry.unsure["the order of a sort"] += 1
        return torch.full(values.shape, float(most)).numpy(), np.ones(tuple(index.shape))
    return torch.gather(error, dim, index).numpy(), np.zeros(tuple(index.shape))
