"""A Flax module, Linen or NNX, run in float64 with errors carried: traced once, then evaluated.

Its calls are found by interception: what a submodule is given and gives is marked in the trace.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from copy import copy
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from conformance.arithmetic.running import Approximate
from conformance.compare import jaxpr_reductions_model as _reductions  # noqa: F401  It registers
from conformance.compare import jaxpr_rules_model as _rules  # noqa: F401  rules, as this does.
from conformance.compare.flax_model import LinenModule, NnxModule, Watch
from conformance.compare.flax_model import arguments as given_arguments
from conformance.compare.function_model import FunctionModule, is_function
from conformance.compare.jax_changes_model import Change
from conformance.compare.jaxpr_model import NARROW as _NARROW
from conformance.compare.jaxpr_model import At, Carry, Enough
from conformance.compare.rules import U32, U64, Rules
from conformance.compare.trace import (
    FIRST_CALL,
    INPUT,
    SEED,
    Asked,
    Call,
    Plain,
    Reached,
    Trace,
    as_given,
    channels_first,
    flattened,
    owner,
)
from conformance.core.outcomes import UsageError

Arrays = dict[str, Any]


@contextmanager
def wide_types() -> Iterator[None]:
    """While a factory is called, and everywhere else here: numbers are float64 by default."""
    with jax.enable_x64(True):
        yield


class JaxModel:
    """A Linen or NNX module, and the layout that it takes."""

    framework = "jax"

    def __init__(
        self, made: Any, channels_from: int, *, unit: float = U64, is_wide: bool = True
    ) -> None:
        del is_wide  # An array has the type of what it is made of.
        self.channels_from = self.outputs_from = channels_from
        self._made, self._rules = made, Rules(unit)
        self._order: list[str] = []
        self._held: Arrays = {}
        self._traced: dict[tuple[bool, bool], tuple[Any, Any, Watch]] = {}
        self._is_wide = True
        if isinstance(made, nn.Module):
            self._kind: LinenModule | NnxModule | FunctionModule = LinenModule(made)
        elif isinstance(made, nnx.Module):
            self._kind = NnxModule(made)
        elif is_function(made):
            self._kind = FunctionModule(made)
        else:
            raise UsageError(
                f"the factory gave {type(made).__name__}, not flax.linen.Module, flax.nnx.Module, "
                "an Equinox module or (function, weights)"
            )

    def laid(self, channels_from: int, outputs_from: int) -> "JaxModel":
        """The same model, with its channels last from these ranks on."""
        other = copy(self)
        other.channels_from, other.outputs_from = channels_from, outputs_from
        other._kind, other._held, other._traced = copy(self._kind), {}, {}
        return other

    def change(self, chosen: Mapping[int, tuple[str, str]], *, records: bool = False) -> Change:
        """What a run may be asked to do otherwise; it is always recorded."""
        del records
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
            path: channels_first(np.broadcast_to(np.float32(0), x.shape), self.outputs_from).shape
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

    def plain(self, asked: Asked) -> Plain:
        """Called as it is, without a trace, where 64 bits are off."""
        with jax.enable_x64(False):
            xs = self._arrays(asked.inputs)
            held = self._kind.initial(xs, {}, training=asked.training)
            held = {
                name: jnp.asarray(asked.weights.get(name, value), dtype=value.dtype)
                for name, value in held.items()
            }
            forward, watch = self._forward(asked.training)
            watch.keeps = True
            outputs, _ = forward(held, xs)
            seen = [call["module"] for call in watch.seen]
            calls = zip(seen, map(_wide, watch.kept), strict=True)
            return Plain(
                calls=tuple(calls),
                outputs={
                    k: channels_first(_wide(x), self.outputs_from) for k, x in outputs.items()
                },
                narrow=frozenset(str(v.dtype) for v in held.values()) & frozenset(_NARROW),
            )

    def in_float32(self) -> "JaxModel":
        """Its own constants are kept, in float64."""
        model = JaxModel(self._made, self.channels_from, unit=U32)
        return model.laid(self.channels_from, self.outputs_from)

    def _run(self, asked: Asked) -> Trace:
        xs = self._arrays(asked.inputs)
        held = {name: asked.weights.get(name, values) for name, values in self._held.items()}
        parameters = {name: np.asarray(held[name]) for name in self._kind.parameters}
        rest = {name: v for name, v in held.items() if name not in parameters}
        floats = {k: x for k, x in xs.items() if jnp.issubdtype(x.dtype, jnp.floating)}
        others = {k: x for k, x in xs.items() if k not in floats}
        seeds = {} if asked.seeds is None else {
            k: jnp.asarray(as_given(x, self.outputs_from))
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
            change=asked.change, until=asked.until,
        )  # fmt: skip
        if asked.change is not None:
            asked.change.begin(carry, watch)
        bits = [0, INPUT, 0, INPUT, SEED]
        flat = [
            At(_given(leaf), bit)
            for part, bit in zip(arguments, bits, strict=True)
            for leaf in jax.tree.leaves(part)
        ]
        try:
            outs = carry.evaluate(closed, flat)
        except Enough:
            bit = FIRST_CALL << (asked.until or 0)
            calls = self._calls(carry, watch)
            raise Reached(next(call for call in calls if call.bit == bit)) from None
        outputs, state, gradients, dxs = jax.tree.unflatten(tree, [at.x for at in outs])
        return Trace(
            calls=self._calls(carry, watch),
            outputs={path: self._moved(x, self.outputs_from) for path, x in outputs.items()},
            gradients=gradients,
            input_gradients=tuple(
                self._moved(dxs[k], self.channels_from) if dxs and k in floats else None
                for k in map(str, asked.inputs)
            ),
            state=state,
            values=tuple(carry.values),
            without_rule=dict(carry.without_rule),
            unsure=dict(carry.unsure),
            narrows=carry.narrows,
            idle=carry.idle,
            silenced=watch.silenced,
        )

    def _trace(self, arguments: Any, training: bool, with_seeds: bool) -> tuple[Any, Any, Watch]:
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

    def _forward(self, training: bool) -> tuple[Callable[..., Any], Watch]:
        """The function of weights and inputs; what it calls is noted as it is traced."""
        watch = Watch()
        self._kind.settle(training=training)

        def forward(held: Arrays, xs: Mapping[str, Any]) -> Any:
            watch.seen.clear()
            watch.silenced = 0
            places, names = given_arguments(xs)
            output, state = self._kind.apply(watch, held, places, names, training)
            try:
                return flattened(output, lambda x: isinstance(x, jax.Array)), state
            except TypeError as error:
                raise UsageError(f"what the model gave is no array: {error}") from error

        return forward, watch

    def _calls(self, carry: Carry, watch: Watch) -> tuple[Call, ...]:
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

    def _arrays(self, inputs: Mapping[int | str, np.ndarray]) -> dict[str, Any]:
        """By names alone, `0` for the first: keys of one dict must have an order in JAX."""
        return {str(k): jnp.asarray(as_given(x, self.channels_from)) for k, x in inputs.items()}

    def _moved(self, x: Approximate, last: int) -> Approximate:
        return Approximate(
            channels_first(np.asarray(x.value), last),
            channels_first(np.broadcast_to(x.error, np.shape(x.value)), last),
        )


def _wide(x: Any) -> np.ndarray:
    return np.asarray(x).astype(np.float64)


def _given(leaf: Any) -> Approximate:
    if jnp.issubdtype(leaf.dtype, jax.dtypes.extended):
        return Approximate(leaf, np.zeros(()))
    array = np.asarray(leaf)
    array = array.astype(np.float64) if jnp.issubdtype(array.dtype, jnp.floating) else array
    return Approximate(array, np.zeros(array.shape))
