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
from torch._decomp import decomposition_table
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

from conformance.arithmetic.running import Approximate
from conformance.compare.rules import Rules
from conformance.compare.trace import INPUT, RANDOM, Value
from conformance.core.outcomes import UsageError

NARROW = {torch.bfloat16: "bf16", torch.float16: "f16"}
_TURNS = {"transpose_", "t_", "squeeze_", "unsqueeze_", "swapaxes_", "swapdims_", "as_strided_"}
_RANDOM = {"rand", "randn", "randint", "rand_like", "randn_like", "randint_like", "bernoulli",
           "native_dropout", "normal", "uniform", "multinomial", "randperm", "poisson",
           "exponential", "log_normal", "random"}  # fmt: skip


class Uncompiled(TorchDispatchMode):
    """A mode that compiles nothing: to import the compiler takes longer than most runs."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False


class Carry(Uncompiled):
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
        self.idle = 0
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
        wide, named = tree_map(self._widened, (list(args), dict(kwargs or {})))
        return self._dispatched(func, wide, named)

    def _dispatched(self, func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
        name = func._schema.name.partition("::")[2]
        tensors = [x for x in tree_flatten((args, kwargs))[0] if isinstance(x, torch.Tensor)]
        if name in ("view_as_real", "view_as_complex"):
            return self._copied(func, name, args[0])
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
        if name in _TURNS:  # Errors lie in storages: however a tensor sees its own, it sees these.
            return func(*args, **kwargs)
        if func._schema.is_mutable and not name.startswith(
            ("_native_batch_norm_legit", "native_batch_norm")
        ):
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

    def _copied(self, func: Any, name: str, x: torch.Tensor) -> torch.Tensor:
        """A view of other elements than its storage's, whose errors could not be a view."""
        out: torch.Tensor = func(x).clone()
        error = self.error(x)
        error = error.sum(-1) if name == "view_as_complex" else torch.stack((error, error), -1)
        self.note(out, error.numpy(), [x], name)
        return out

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
                own = error.error if isinstance(error, Approximate) else error
                exact = sure and not t.is_floating_point()
                self.note(t, 0.0 if exact else own, tensors, name)
            return out
        if name in _COMPOSED:
            with self:
                return _COMPOSED[name](*args, **kwargs)
        out = NotImplemented if name in _RANDOM else self._decomposed(func, args, kwargs)
        if out is not NotImplemented:
            return out
        out = func(*args, **kwargs)
        self.without_rule[RANDOM if name in _RANDOM else str(func._schema.name)] += 1
        for t in tree_flatten(out)[0]:
            if isinstance(t, torch.Tensor):
                self.note(t, np.full(t.shape, np.inf), tensors, name)
        return out

    def _decomposed(self, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        with self:
            out = func.decompose(*args, **kwargs)
            if out is NotImplemented and func in decomposition_table:
                out = decomposition_table[func](*args, **kwargs)
            if out is NotImplemented and hasattr(func, "impl_aten"):
                out = func.impl_aten(*args, **kwargs)
            return out

    def _in_place(self, func: Any, name: str, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
        """As its functional form, then a copy into what is written."""
        target = kwargs.get("out", args[0])
        rest = {k: v for k, v in kwargs.items() if k != "out"}
        plain = name.rstrip("_")
        if plain in _RANDOM:
            out: Any = target.detach().clone()
            func(*args, **kwargs)
            self.without_rule[RANDOM] += 1
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
        overload = getattr(
            packet, func._overloadname.replace("_out", "").replace("out", "default"), None
        )
        if packet is None or overload is None or (plain == name and "out" not in kwargs):
            self.without_rule[str(func._schema.name)] += 1
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
            return self.rules.stored(self.rules.exactly(np.asarray(x)))
        plain = x.detach()
        plain = plain.double() if plain.is_floating_point() else plain
        return Approximate(plain.resolve_conj().numpy(), self.error(x).numpy())

    def _widened(self, x: Any) -> Any:
        """float32 is taken for the model's own float64, a constant in it for a rounded one."""
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
    "addbmm": lambda t, a, b, beta=1, alpha=1: t * beta + torch.bmm(a, b).sum(0) * alpha,
}


def values_of(t: Any) -> np.ndarray:
    """A tensor's values, floats in float64."""
    plain = t.detach().resolve_conj()
    return np.asarray((plain.double() if plain.is_floating_point() else plain).numpy())


def tensor_of(x: np.ndarray) -> torch.Tensor:
    """A tensor of its own, in the order of its axes."""
    return torch.from_numpy(np.array(x, order="C"))


Rule = Callable[[Carry, Any, Any, dict[str, Any], Any], Any]
RULES: dict[str, Rule] = {}


def rule(*names: str) -> Callable[[Rule], Rule]:
    """Registers the rule of some operations."""

    def registered(function: Rule) -> Rule:
        RULES.update(dict.fromkeys(names, function))
        return function

    return registered
