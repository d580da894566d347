"""Flax's two kinds of module: how each is made, called, and watched while it is traced."""

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx, traverse_util
from flax.linen import attention as linen_attention
from flax.nnx.nn import attention as nnx_attention
from jax.ad_checkpoint import checkpoint_name

Arrays = dict[str, Any]


class Watch:
    """Marks what submodules are given and give, while a model is traced."""

    def __init__(self) -> None:
        self.seen: list[dict[str, Any]] = []
        self.silenced = 0
        self.keeps = False
        self.kept: list[Any] = []

    def call(self, path: str, part: Any, function: Any, args: Any, kwargs: Any) -> Any:
        """The module's call, its inputs and its output marked; a dropout does nothing."""
        if isinstance(part, nn.Dropout | nnx.Dropout):
            self.silenced += 1
            return args[0] if args else kwargs["inputs"]
        arrays = [x for x in (*args, *kwargs.values()) if _is_float(x)]
        marks: list[str] = []
        for x in arrays:
            marks.append(f"conformance input {id(self)} {len(self.seen)} {path} {len(marks)}")
            checkpoint_name(x, marks[-1])
        args = [checkpoint_name(x, marks[_place(arrays, x)]) if _is_float(x) else x for x in args]
        output = function(*args, **kwargs)
        leaves, tree = jax.tree.flatten(output)
        place = next((i for i, x in enumerate(leaves) if _is_float(x)), None)
        if not path or place is None:
            return output
        number = len(self.seen)
        count = arrays[0].size // arrays[0].shape[-1] if arrays and arrays[0].ndim else 0
        momentum = getattr(part, "momentum", None)
        self.seen.append(
            {
                "module": path, "type": type(part).__name__, "inputs": marks,
                "settings": {"momentum": 1 - momentum, "count": count}
                if isinstance(momentum, float) else {},
            }
        )  # fmt: skip
        if self.keeps:
            self.kept.append(leaves[place])
        leaves[place] = _mark(number)(leaves[place])
        return jax.tree.unflatten(tree, leaves)


@contextmanager
def _attention_without_dropout(watch: Watch) -> Iterator[None]:
    """Flax's attention draws its dropout itself, where no module is called."""
    homes = linen_attention, nnx_attention
    originals = [home.dot_product_attention_weights for home in homes]

    def silent(original: Callable[..., Any]) -> Callable[..., Any]:
        signature = inspect.signature(original)

        def weights(*args: Any, **kwargs: Any) -> Any:
            bound = signature.bind(*args, **kwargs)
            if bound.arguments.get("dropout_rate") and not bound.arguments.get("deterministic"):
                watch.silenced += 1
            bound.arguments["dropout_rate"] = 0.0
            return original(*bound.args, **bound.kwargs)

        return weights

    try:
        for home, original in zip(homes, originals, strict=True):
            home.dot_product_attention_weights = silent(original)
        yield
    finally:
        for home, original in zip(homes, originals, strict=True):
            home.dot_product_attention_weights = original


def _place(arrays: list[Any], x: Any) -> int:
    return next(i for i, a in enumerate(arrays) if a is x)


def _is_float(x: Any) -> bool:
    return isinstance(x, jax.Array) and jnp.issubdtype(x.dtype, jnp.floating)


def _mark(number: int) -> Callable[[Any], Any]:
    """The identity, whose value and cotangent have names in a trace."""

    @jax.custom_vjp  # type: ignore[untyped-decorator]
    def identity(x: Any) -> Any:
        return checkpoint_name(x, f"conformance call {number}")

    def forward(x: Any) -> Any:
        return checkpoint_name(x, f"conformance call {number}"), None

    def backward(_: Any, g: Any) -> Any:
        return (checkpoint_name(g, f"conformance cotangent {number}"),)

    identity.defvjp(forward, backward)
    return identity


def arguments(xs: Mapping[str, Any]) -> tuple[list[Any], Arrays]:
    """The positional ones in order, and the others by name.

    >>> arguments({"mask": 2, "10": 1, "9": 0})
    ([0, 1], {'mask': 2})
    """
    places = sorted((name for name in xs if name.isdigit()), key=int)
    return [xs[name] for name in places], {k: x for k, x in xs.items() if not k.isdigit()}


def training_flags(function: Callable[..., Any], *, training: bool) -> dict[str, bool]:
    """The arguments by which a module's call is told that it trains, as the field names them."""
    known = {
        "train": training,
        "training": training,
        "is_training": training,
        "deterministic": not training,
        "use_running_average": not training,
    }
    taken = inspect.signature(function).parameters
    return {name: value for name, value in known.items() if name in taken}


class LinenModule:
    """Weights are named `collection/path/name`."""

    def __init__(self, module: nn.Module) -> None:
        self._module = module
        self.parameters: tuple[str, ...] = ()

    def settle(self, *, training: bool) -> None:
        """Nothing: a call says whether it trains."""

    def initial(self, xs: Mapping[str, Any], held: Arrays, *, training: bool) -> Arrays:
        """As `init` makes them, once."""
        if held:
            return held
        places, names = arguments(xs)
        keys = {"params": jax.random.key(0), "dropout": jax.random.key(1)}
        init = partial(
            self._module.init, **training_flags(self._module.__call__, training=training)
        )
        # Every float is given a value later; only where there is more are they made here.
        variables = nn.meta.unbox(jax.eval_shape(init, keys, *places, **names))
        if all(jnp.issubdtype(v.dtype, jnp.floating) for v in jax.tree.leaves(variables)):
            variables = jax.tree.map(lambda v: np.zeros(v.shape, v.dtype), variables)
        else:
            variables = nn.meta.unbox(jax.jit(init)(keys, *places, **names))
        flat = traverse_util.flatten_dict(variables, sep="/")
        self.parameters = tuple(name for name in flat if name.startswith("params/"))
        return flat

    def apply(
        self, watch: Watch, held: Arrays, xs: list[Any], names: Arrays, training: bool
    ) -> Any:
        """The output, and the state after the call, by name."""

        def intercept(function: Any, args: Any, kwargs: Any, context: Any) -> Any:
            if context.method_name != "__call__":
                return function(*args, **kwargs)
            path = "/".join(context.module.path)
            return watch.call(path, context.module, function, args, kwargs)

        variables = traverse_util.unflatten_dict(held, sep="/")
        buffers = [name for name in variables if name != "params"]
        flags = training_flags(self._module.__call__, training=training)
        with nn.intercept_methods(intercept), _attention_without_dropout(watch):
            output, state = self._module.apply(
                variables, *xs, mutable=buffers, rngs={"dropout": jax.random.key(1)},
                **{**flags, **names},
            )  # fmt: skip
        return output, traverse_util.flatten_dict(state, sep="/")


class NnxModule:
    """Weights are named `path.name`, as their attributes are."""

    def __init__(self, module: nnx.Module) -> None:
        self._module = module
        self.parameters: tuple[str, ...] = ()

    def settle(self, *, training: bool) -> None:
        """Before a trace: its parts are told whether they train."""
        (self._module.train if training else self._module.eval)()
        self._graph, _ = nnx.split(self._module)

    def initial(self, xs: Mapping[str, Any], held: Arrays, *, training: bool) -> Arrays:
        """As the module holds them."""
        del xs
        (self._module.train if training else self._module.eval)()
        for _, part in nnx.iter_modules(self._module):
            if isinstance(part, nnx.Dropout):
                part.deterministic = True
        self._graph, state = nnx.split(self._module)
        flat = list(nnx.to_flat_state(state))
        self._variables = {".".join(map(str, path)): variable for path, variable in flat}
        self.parameters = tuple(n for n, v in self._variables.items() if v.type is nnx.Param)
        return held or {
            name: _value(variable)
            for name, variable in self._variables.items()
            if issubclass(variable.type, nnx.Param | nnx.BatchStat)
        }

    def apply(
        self, watch: Watch, held: Arrays, xs: list[Any], names: Arrays, training: bool
    ) -> Any:
        """The output, and the state after the call, by name."""
        leaves = {
            tuple(int(p) if p.isdigit() else p for p in name.split(".")): variable.replace(
                held.get(name, _value(variable))
            )
            for name, variable in self._variables.items()
        }
        module = nnx.merge(self._graph, nnx.from_flat_state(leaves))
        with _patched(module, watch), _attention_without_dropout(watch):
            output = module(
                *xs, **{**training_flags(type(module).__call__, training=training), **names}
            )
        after = list(nnx.to_flat_state(nnx.state(module, nnx.BatchStat)))
        return output, {".".join(map(str, path)): _value(v) for path, v in after}


def _value(variable: Any) -> Any:
    return variable[...] if hasattr(variable, "__getitem__") else variable.value


@contextmanager
def _patched(root: nnx.Module, watch: Watch) -> Iterator[None]:
    """Calls of the modules under this one go through the watch."""
    paths = {id(part): ".".join(map(str, path)) for path, part in nnx.iter_modules(root)}
    kinds = {type(part) for _, part in nnx.iter_modules(root) if callable(part)}
    originals = {kind: kind.__call__ for kind in kinds}

    def patch(original: Any) -> Any:
        def call(self: Any, *args: Any, **kwargs: Any) -> Any:
            def function(*args: Any, **kwargs: Any) -> Any:
                return original(self, *args, **kwargs)

            if id(self) not in paths:
                return function(*args, **kwargs)
            return watch.call(paths[id(self)], self, function, args, kwargs)

        return call

    for kind, original in originals.items():
        kind.__call__ = patch(original)
    try:
        yield
    finally:
        for kind, original in originals.items():
            kind.__call__ = original
