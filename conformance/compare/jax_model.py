"""A Flax module, Linen or NNX, run in float64 with errors carried: traced once, then evaluated.

Its calls are found by interception: what a submodule is given and gives is marked in the trace.
"""

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
from jax.ad_checkpoint import checkpoint_name

from conformance.arithmetic.running import Approximate
from conformance.compare.jax_changes_model import Change
from conformance.compare.jaxpr_model import At, Carry
from conformance.compare.rules import Rules
from conformance.compare.trace import (
    FIRST_CALL,
    INPUT,
    SEED,
    Asked,
    Call,
    Trace,
    as_given,
    channels_first,
    flattened,
    owner,
)
from conformance.core.errors import UsageError

Arrays = dict[str, Any]


@contextmanager
def wide_types() -> Iterator[None]:
    """While a factory is called, and everywhere else here: numbers are float64 by default."""
    with jax.enable_x64(True):
        yield


class _Watch:
    """Marks what submodules are given and give, while a model is traced."""

    def __init__(self) -> None:
        self.seen: list[dict[str, Any]] = []
        self.silenced = 0

    def call(self, path: str, part: Any, function: Any, args: Any, kwargs: Any) -> Any:
        """The module's call, its inputs and its output marked; a dropout does nothing."""
        if isinstance(part, nn.Dropout | nnx.Dropout):
            self.silenced += 1
            return args[0] if args else kwargs["inputs"]
        arrays = [x for x in (*args, *kwargs.values()) if _is_float(x)]
        marks = []
        for x in arrays:
            marks.append(f"conformance input {id(self)} {len(self.seen)} {path} {len(marks)}")
            checkpoint_name(x, marks[-1])
        args = [
            checkpoint_name(x, marks[_place(arrays, x)]) if _is_float(x) else x for x in args
        ]
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
        leaves[place] = _mark(number)(leaves[place])
        return jax.tree.unflatten(tree, leaves)


def _place(arrays: list[Any], x: Any) -> int:
    return next(i for i, a in enumerate(arrays) if a is x)


def _is_float(x: Any) -> bool:
    return isinstance(x, jax.Array) and jnp.issubdtype(x.dtype, jnp.floating)


def _mark(number: int) -> Callable[[Any], Any]:
    """The identity, whose value and cotangent have names in a trace."""

    @jax.custom_vjp
    def identity(x: Any) -> Any:
        return checkpoint_name(x, f"conformance call {number}")

    def forward(x: Any) -> Any:
        return checkpoint_name(x, f"conformance call {number}"), None

    def backward(_: Any, g: Any) -> Any:
        return (checkpoint_name(g, f"conformance cotangent {number}"),)

    identity.defvjp(forward, backward)
    return identity  # type: ignore[no-any-return]


class JaxModel:
    """A Linen or NNX module, and the layout that it takes."""

    framework = "jax"

    def __init__(self, made: Any, *, channels_last: bool, unit: float | None = None) -> None:
        self.channels_last = channels_last
        self._rules = Rules() if unit is None else Rules(unit)
        self._order: list[str] = []
        self._held: Arrays = {}
        self._traced: dict[tuple[bool, bool], tuple[Any, Any, _Watch]] = {}
        self._is_wide = True
        if isinstance(made, nn.Module):
            self._kind: _Linen | _Nnx = _Linen(made)
        elif isinstance(made, nnx.Module):
            self._kind = _Nnx(made)
        else:
            raise UsageError(
                f"the factory gave {type(made).__name__}, not flax.linen.Module or flax.nnx.Module"
            )

    def change(self, chosen: Mapping[int, tuple[str, str]]) -> Change:
        """What a run may be asked to do otherwise."""
        return Change(chosen)

    def weights(self) -> dict[str, tuple[int, ...]]:
        """Modules that were called first come first."""
        place = {path: i for i, path in enumerate(self._order)}
        names = sorted(self._held, key=lambda name: place.get(owner(name), len(place)))
        return {name: tuple(self._held[name].shape) for name in names}

    def vocabulary(self) -> int | None:
        """The rows of its smallest table of embeddings."""
        tables = [v.shape[0] for n, v in self._held.items() if n.endswith("embedding")]
        return min(tables, default=None)

    def shapes(
        self, inputs: Mapping[int | str, np.ndarray], *, training: bool
    ) -> dict[str, tuple[int, ...]]:
        """Traces the model, and notes the order of calls."""
        try:
            outputs, watch = self._shaped(inputs, training)
        except TypeError:  # Where a model fixes float32 at some places, it is traced in float32.
            self._is_wide = False
            outputs, watch = self._shaped(inputs, training)
        self._order = [call["module"] for call in watch.seen]
        return {
            path: channels_first(
                np.broadcast_to(np.float32(0), x.shape), channels_last=self.channels_last
            ).shape
            for path, x in outputs.items()
        }

    def _shaped(self, inputs: Mapping[int | str, np.ndarray], training: bool) -> Any:
        with jax.enable_x64(self._is_wide):
            xs = self._arrays(inputs)
            self._held = self._kind.initial(xs, self._held, training=training)
            forward, watch = self._forward(training)
            return jax.eval_shape(forward, self._held, xs)[0], watch

    def run(self, asked: Asked) -> Trace:
        """Evaluates the trace of the forward, and of its `jax.vjp` where there are seeds."""
        with jax.enable_x64(True):
            return self._run(asked)

    def _run(self, asked: Asked) -> Trace:
        xs = self._arrays(asked.inputs)
        held = {name: asked.weights.get(name, values) for name, values in self._held.items()}
        parameters = {name: np.asarray(held[name]) for name in self._kind.parameters}
        rest = {name: v for name, v in held.items() if name not in parameters}
        floats = {k: x for k, x in xs.items() if jnp.issubdtype(x.dtype, jnp.floating)}
        others = {k: x for k, x in xs.items() if k not in floats}
        seeds = {} if asked.seeds is None else {
            k: jnp.asarray(as_given(x, channels_last=self.channels_last))
            for k, x in asked.seeds.items()
        }  # fmt: skip
        arguments = parameters, floats, rest, others, seeds
        key = asked.training, asked.seeds is not None
        if key not in self._traced:
            with jax.enable_x64(self._is_wide):
                self._traced[key] = self._trace(arguments, *key)
        closed, tree, watch = self._traced[key]
        carry = Carry(
            self._rules, asked.charged, asked.keeps_values,
            anchors=asked.anchors, anchored_marks={
                **{f"conformance call {i}": e for i, e in asked.anchored_calls.items()},
                **{f"conformance cotangent {i}": e for i, e in asked.anchored_cotangents.items()},
            },
            bits={f"conformance call {i}": FIRST_CALL << i for i in range(len(watch.seen))},
            change=asked.change,
        )  # fmt: skip
        if asked.change is not None:
            asked.change.begin(carry, watch)
        bits = [0, INPUT, 0, INPUT, SEED]
        flat = [
            At(_given(leaf), bit)
            for part, bit in zip(arguments, bits, strict=True)
            for leaf in jax.tree.leaves(part)
        ]
        outs = carry.evaluate(closed, flat)
        outputs, state, gradients, dxs = jax.tree.unflatten(tree, [at.x for at in outs])
        return Trace(
            calls=self._calls(carry, watch),
            outputs={path: self._moved(x) for path, x in outputs.items()},
            gradients=gradients,
            input_gradients=tuple(
                self._moved(dxs[k]) if dxs and k in floats else None for k in asked.inputs
            ),
            state=state,
            values=tuple(carry.values),
            without_rule=dict(carry.without_rule),
            unsure=dict(carry.unsure),
            narrows=carry.narrows,
            silenced=watch.silenced,
        )

    def _trace(self, arguments: Any, training: bool, with_seeds: bool) -> tuple[Any, Any, _Watch]:
        forward, watch = self._forward(training)

        def both(parameters: Any, floats: Any, rest: Any, others: Any, seeds: Any) -> Any:
            def of_floats(parameters: Any, floats: Any) -> Any:
                return forward({**parameters, **rest}, {**floats, **others})

            if not with_seeds:
                return *of_floats(parameters, floats), {}, {}
            outputs, pull, state = jax.vjp(of_floats, parameters, floats, has_aux=True)
            given = {
                path: seeds[path].astype(x.dtype) if path in seeds else jnp.zeros_like(x)
                for path, x in outputs.items()
            }
            return outputs, state, *pull(given)

        arguments = jax.tree.map(jnp.asarray, arguments)
        closed, shapes = jax.make_jaxpr(both, return_shape=True)(*arguments)
        return closed, jax.tree.structure(shapes), watch

    def _forward(self, training: bool) -> tuple[Callable[..., Any], _Watch]:
        """The function of weights and inputs; what it calls is noted as it is traced."""
        watch = _Watch()

        def forward(held: Arrays, xs: Mapping[int | str, Any]) -> Any:
            watch.seen.clear()
            watch.silenced = 0
            places = [x for k, x in sorted(xs.items(), key=str) if isinstance(k, int)]
            names = {str(k): x for k, x in xs.items() if not isinstance(k, int)}
            output, state = self._kind.apply(watch, held, places, names, training)
            try:
                return flattened(output, lambda x: isinstance(x, jax.Array)), state
            except TypeError as error:
                raise UsageError(f"what the model gave is no array: {error}") from error

        return forward, watch

    def _calls(self, carry: Carry, watch: _Watch) -> tuple[Call, ...]:
        calls = []
        for i, seen in enumerate(watch.seen):
            if f"conformance call {i}" not in carry.marks:
                continue
            at, ended = carry.marks[f"conformance call {i}"]
            cotangent = carry.marks.get(f"conformance cotangent {i}")
            calls.append(
                Call(
                    module=seen["module"],
                    type=seen["type"],
                    inputs=tuple(carry.marks[m][0].x for m in seen["inputs"] if m in carry.marks),
                    output=at.x,
                    depends=at.depends,
                    bit=FIRST_CALL << i,
                    ended=ended,
                    cotangent=None if cotangent is None else cotangent[0].x,
                    settings=seen["settings"],
                )
            )
        return tuple(calls)

    def _arrays(self, inputs: Mapping[int | str, np.ndarray]) -> dict[int | str, Any]:
        return {
            k: jnp.asarray(as_given(x, channels_last=self.channels_last)) for k, x in inputs.items()
        }

    def _moved(self, x: Approximate) -> Approximate:
        last = self.channels_last
        return Approximate(
            channels_first(np.asarray(x.value), channels_last=last),
            channels_first(np.broadcast_to(x.error, np.shape(x.value)), channels_last=last),
        )


def _given(leaf: Any) -> Approximate:
    if jnp.issubdtype(leaf.dtype, jax.dtypes.extended):
        return Approximate(leaf, np.zeros(()))
    array = np.asarray(leaf)
    array = array.astype(np.float64) if jnp.issubdtype(array.dtype, jnp.floating) else array
    return Approximate(array, np.zeros(array.shape))


def _flags(function: Callable[..., Any], *, training: bool) -> dict[str, bool]:
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


class _Linen:
    """Weights are named `collection/path/name`."""

    def __init__(self, module: nn.Module) -> None:
        self._module = module
        self.parameters: tuple[str, ...] = ()

    def initial(self, xs: Mapping[int | str, Any], held: Arrays, *, training: bool) -> Arrays:
        """As `init` makes them, once."""
        if held:
            return held
        places = [x for k, x in sorted(xs.items(), key=str) if isinstance(k, int)]
        names = {str(k): x for k, x in xs.items() if not isinstance(k, int)}
        keys = {"params": jax.random.key(0), "dropout": jax.random.key(1)}
        init = partial(self._module.init, **_flags(self._module.__call__, training=training))
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
        self, watch: _Watch, held: Arrays, xs: list[Any], names: Arrays, training: bool
    ) -> Any:
        def intercept(function: Any, args: Any, kwargs: Any, context: Any) -> Any:
            if context.method_name != "__call__":
                return function(*args, **kwargs)
            path = "/".join(context.module.path)
            return watch.call(path, context.module, function, args, kwargs)

        variables = traverse_util.unflatten_dict(held, sep="/")
        buffers = [name for name in variables if name != "params"]
        flags = _flags(self._module.__call__, training=training)
        with nn.intercept_methods(intercept):
            output, state = self._module.apply(
                variables, *xs, mutable=buffers, rngs={"dropout": jax.random.key(1)},
                **{**flags, **names},
            )  # fmt: skip
        return output, traverse_util.flatten_dict(state, sep="/")


class _Nnx:
    """Weights are named `path.name`, as their attributes are."""

    def __init__(self, module: nnx.Module) -> None:
        self._module = module
        self.parameters: tuple[str, ...] = ()

    def initial(self, xs: Mapping[int | str, Any], held: Arrays, *, training: bool) -> Arrays:
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
        self, watch: _Watch, held: Arrays, xs: list[Any], names: Arrays, training: bool
    ) -> Any:
        (self._module.train if training else self._module.eval)()
        self._graph, _ = nnx.split(self._module)
        leaves = {
            tuple(int(p) if p.isdigit() else p for p in name.split(".")): variable.replace(
                held.get(name, _value(variable))
            )
            for name, variable in self._variables.items()
        }
        module = nnx.merge(self._graph, nnx.from_flat_state(leaves))
        with _patched(module, watch):
            output = module(*xs, **{**_flags(type(module).__call__, training=training), **names})
        after = list(nnx.to_flat_state(nnx.state(module, nnx.BatchStat)))
        return output, {".".join(map(str, path)): _value(v) for path, v in after}


def _value(variable: Any) -> Any:
    return variable[...] if hasattr(variable, "__getitem__") else variable.value


@contextmanager
def _patched(root: nnx.Module, watch: _Watch) -> Iterator[None]:
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
