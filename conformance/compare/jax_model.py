"""A Flax module, Linen or NNX: its calls by interception, the backward by `jax.vjp`.

To every captured input and output a probe of zeros is added. The cotangent of a probe is that of
the place where it was added, for this call alone.
"""

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx, traverse_util

from conformance.compare.flax_layers import layer_of
from conformance.compare.trace import Call, Trace, as_given, channels_first, owner
from conformance.core.outcomes import UsageError

_DTYPES = {"float64": "f64", "float32": "f32", "float16": "f16", "bfloat16": "bf16"}
Arrays = dict[str, Any]


@dataclass
class _Watch:
    """What a run under a tracer sees; `probes` are added where their key is reached."""

    owners: frozenset[str]
    probes: Mapping[str, Any] = field(default_factory=dict)
    seen: list[dict[str, Any]] = field(default_factory=list)
    _count: dict[str, int] = field(default_factory=dict)
    _inside: list[int] = field(default_factory=list)

    def call(self, path: str, part: Any, function: Any, args: Any, kwargs: Any) -> Any:
        """The module's call, its inputs and its output noted where it is a layer."""
        if self._inside:
            self._inside[-1] += 1
        nth = self._count[path] = self._count.get(path, -1) + 1
        record: dict[str, Any] = {"module": path, "nth": nth, "type": type(part).__name__}
        record["layer"] = layer_of(part, path)
        args = list(args)
        record["inputs"] = inputs = []
        for i, x in enumerate(args):
            if isinstance(x, jax.Array):
                args[i] = self._probed(f"{path}#{nth}/{i}", x)
                inputs.append(args[i])
        self._inside.append(0)
        output = function(*args, **kwargs)
        is_leaf = self._inside.pop() == 0
        if not path or not isinstance(output, jax.Array) or not (is_leaf or path in self.owners):
            return output
        output = self._probed(f"{path}#{nth}/output", output)
        self.seen.append({**record, "output": output})
        return output

    def _probed(self, key: str, x: Any) -> Any:
        return jax.lax.optimization_barrier(x + self.probes[key] if key in self.probes else x)


class JaxModel:
    """A Linen or NNX module, and the layout that it takes."""

    framework = "jax"

    def __init__(self, made: Any, *, channels_last: bool) -> None:
        self.channels_last = channels_last
        self._order: list[str] = []
        self._held: Arrays = {}
        self._facts: list[dict[str, Any]] = []
        self._compiled: dict[bool, tuple[Callable[..., Any], Callable[..., Any]]] = {}
        if isinstance(made, nn.Module):
            self._kind: _Linen | _Nnx = _Linen(made)
        elif isinstance(made, nnx.Module):
            self._kind = _Nnx(made)
        else:
            raise UsageError(
                f"the factory gave {type(made).__name__}, not flax.linen.Module or flax.nnx.Module"
            )

    def weights(self) -> dict[str, tuple[int, ...]]:
        """Modules that were called first come first."""
        place = {path: i for i, path in enumerate(self._order)}
        names = sorted(self._held, key=lambda name: place.get(owner(name), len(place)))
        return {name: tuple(self._held[name].shape) for name in names}

    def run(
        self,
        weights: Mapping[str, np.ndarray],
        inputs: Sequence[np.ndarray],
        cotangent: np.ndarray | None,
        *,
        training: bool,
    ) -> Trace:
        """Compiled as one function, with a barrier around every captured array; dropouts evaluate.

        A barrier keeps XLA from computing on what it has not yet rounded.
        """
        given = [jnp.asarray(as_given(x, channels_last=self.channels_last)) for x in inputs]
        self._held = self._kind.initial(given, self._held, training=training)
        held = {**self._held, **{name: jnp.asarray(values) for name, values in weights.items()}}
        parameters = {name: held[name] for name in self._kind.parameters}
        rest = {name: values for name, values in held.items() if name not in parameters}
        if training not in self._compiled:
            forward = self._forward(training)
            self._compiled[training] = forward, _compiled(forward)
        forward, compiled = self._compiled[training]
        shaped, (arrays, state) = jax.eval_shape(forward, parameters, {}, given, rest)
        facts = self._facts
        self._order = list(dict.fromkeys(one["module"] for one in facts))
        if not weights:  # what was asked is the order, and the output's shape
            nothing = np.broadcast_to(np.float32(0), shaped.shape)
            output = channels_first(nothing, channels_last=self.channels_last)
            return Trace((), tuple(inputs), output, _dtype(shaped))
        probes = {} if cotangent is None else _probes(facts, arrays)
        seed = None if cotangent is None else jnp.asarray(
            as_given(cotangent, channels_last=self.channels_last), shaped.dtype
        )  # fmt: skip
        output, (arrays, state), gradients, cotangents, dxs = compiled(
            parameters, probes, given, rest, seed
        )
        return Trace(
            calls=tuple(
                self._call(one, seen, cotangents) for one, seen in zip(facts, arrays, strict=True)
            ),
            inputs=tuple(inputs),
            output=self._first(output),
            dtype=_dtype(output),
            input_cotangents=tuple(
                self._first(dx) if jnp.issubdtype(dx.dtype, jnp.floating) else None for dx in dxs
            ),
            gradients={name: _numpy(values) for name, values in gradients.items()},
            state={name: _numpy(values) for name, values in state.items()},
        )

    def _forward(self, training: bool) -> Callable[..., Any]:
        """The function of weights, probes and inputs; what it calls is noted as it is traced."""
        owners = frozenset(map(owner, self._held)) - {""}

        def forward(parameters: Arrays, probes: Arrays, xs: list[Any], rest: Arrays) -> Any:
            watch = _Watch(owners, probes)
            output, state = self._kind.apply(watch, {**parameters, **rest}, xs, training)
            if not isinstance(output, jax.Array):
                raise UsageError(f"jax: the model gave {type(output).__name__}, not one array")
            self._facts = [_facts(one) for one in watch.seen]
            return output, ([(one["inputs"], one["output"]) for one in watch.seen], state)

        return forward

    def _first(self, x: Any) -> np.ndarray:
        return channels_first(_numpy(x), channels_last=self.channels_last)

    def _call(self, one: dict[str, Any], seen: tuple[list[Any], Any], cotangents: Arrays) -> Call:
        inputs, output = seen
        place = f"{one['module']}#{one['nth']}"

        def cotangent(key: str) -> np.ndarray | None:
            found = cotangents.get(f"{place}/{key}")
            return None if found is None else self._first(found)

        return Call(
            module=one["module"],
            nth=one["nth"],
            type=one["type"],
            layer=one["layer"],
            inputs=tuple(map(self._first, inputs)),
            output=self._first(output),
            dtype=_dtype(output),
            cotangent=cotangent("output"),
            input_cotangents=tuple(cotangent(str(i)) for i in range(len(inputs))),
        )


def _compiled(forward: Callable[..., Any]) -> Callable[..., Any]:
    """Forward, and the cotangents of parameters, probes and inputs where a seed is given."""

    def both(parameters: Arrays, probes: Arrays, xs: list[Any], rest: Arrays, seed: Any) -> Any:
        floats = [i for i, x in enumerate(xs) if jnp.issubdtype(x.dtype, jnp.floating)]

        def of_floats(parameters: Arrays, probes: Arrays, chosen: list[Any]) -> Any:
            full = list(xs)
            for i, x in zip(floats, chosen, strict=True):
                full[i] = x
            return forward(parameters, probes, full, rest)

        chosen = [xs[i] for i in floats]
        if seed is None:
            return *of_floats(parameters, probes, chosen), {}, {}, []
        output, pull, aux = jax.vjp(of_floats, parameters, probes, chosen, has_aux=True)
        gradients, cotangents, dxs = pull(seed)
        by_input = dict(zip(floats, dxs, strict=True))
        return output, aux, gradients, cotangents, [by_input.get(i, x) for i, x in enumerate(xs)]

    compiled: Callable[..., Any] = jax.jit(both)
    return compiled


def _dtype(x: Any) -> str:
    return _DTYPES.get(str(x.dtype), str(x.dtype))


def _facts(one: dict[str, Any]) -> dict[str, Any]:
    """What of a record is no array, so that nothing of a trace stays."""
    return {key: one[key] for key in ("module", "nth", "type", "layer")}


def _probes(facts: list[dict[str, Any]], arrays: list[tuple[list[Any], Any]]) -> Arrays:
    probes = {}
    for one, (inputs, output) in zip(facts, arrays, strict=True):
        place = f"{one['module']}#{one['nth']}"
        for key, x in [*enumerate(inputs), ("output", output)]:
            if jnp.issubdtype(x.dtype, jnp.floating):
                probes[f"{place}/{key}"] = jnp.zeros_like(x)
    return probes


def _numpy(x: Any) -> np.ndarray:
    if x.dtype in (jnp.bfloat16, jnp.float16):
        x = x.astype(jnp.float32)
    return np.array(x)


def _flags(function: Callable[..., Any], *, training: bool) -> dict[str, bool]:
    """The arguments by which a module's call is told that it trains, as the field names them."""
    known = {
        "train": training,
        "training": training,
        "is_training": training,
        "deterministic": True,
        "use_running_average": not training,
    }
    taken = inspect.signature(function).parameters
    return {name: value for name, value in known.items() if name in taken}


class _Linen:
    """Weights are named `collection/path/name`."""

    def __init__(self, module: nn.Module) -> None:
        self._module = module
        self.parameters: tuple[str, ...] = ()

    def initial(self, xs: list[Any], held: Arrays, *, training: bool) -> Arrays:
        """As `init` makes them, once."""
        if held:
            return held
        keys = {"params": jax.random.key(0), "dropout": jax.random.key(1)}
        init = partial(self._module.init, **_flags(self._module.__call__, training=training))
        # Every float is given a value later; only where there is more are they made here.
        variables = nn.meta.unbox(jax.eval_shape(init, keys, *xs))
        if all(jnp.issubdtype(v.dtype, jnp.floating) for v in jax.tree.leaves(variables)):
            variables = jax.tree.map(lambda v: np.zeros(v.shape, v.dtype), variables)
        else:
            variables = nn.meta.unbox(jax.jit(init)(keys, *xs))
        flat = traverse_util.flatten_dict(variables, sep="/")
        self.parameters = tuple(name for name in flat if name.startswith("params/"))
        return flat

    def apply(self, watch: _Watch, held: Arrays, xs: list[Any], training: bool) -> Any:
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
                variables, *xs, mutable=buffers, rngs={"dropout": jax.random.key(1)}, **flags
            )
        return output, traverse_util.flatten_dict(state, sep="/")


class _Nnx:
    """Weights are named `path.name`, as their attributes are."""

    def __init__(self, module: nnx.Module) -> None:
        self._module = module
        self.parameters: tuple[str, ...] = ()

    def initial(self, xs: list[Any], held: Arrays, *, training: bool) -> Arrays:
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

    def apply(self, watch: _Watch, held: Arrays, xs: list[Any], training: bool) -> Any:
        leaves = {
            tuple(int(p) if p.isdigit() else p for p in name.split(".")): variable.replace(
                held.get(name, _value(variable))
            )
            for name, variable in self._variables.items()
        }
        module = nnx.merge(self._graph, nnx.from_flat_state(leaves))
        with _patched(module, watch):
            output = module(*xs, **_flags(type(module).__call__, training=training))
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
