"""Evaluates a jaxpr in NumPy, in float64, and carries an error with every value.

Calls, loops and branches are entered. What only moves elements is done by JAX's own primitive, to
values and to errors alike; so are convolutions and windows, on sizes where a bound needs them.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from conformance.arithmetic.running import Approximate
from conformance.compare.rules import Rules
from conformance.compare.trace import RANDOM, SEED, Value
from conformance.core.outcomes import UsageError

_KEYS = {"random_seed", "random_wrap", "random_unwrap", "random_fold_in", "random_split",
         "random_clone"}  # fmt: skip
_DRAWS = dict.fromkeys(("random_bits", "threefry2x32", "random_gamma"), RANDOM)
NARROW = {"bfloat16": "bf16", "float16": "f16", "float8_e4m3fn": "f8e4m3", "float8_e5m2": "f8e5m2"}


class Enough(Exception):  # noqa: N818  It ends an evaluation that went well.
    """The mark until which an evaluation was asked for has been met."""


_SCATTERS: dict[str, Callable[..., Any]] = {
    "scatter": jax.lax.scatter, "scatter-add": jax.lax.scatter_add,
    "scatter_add": jax.lax.scatter_add, "scatter-max": jax.lax.scatter_max,
    "scatter_max": jax.lax.scatter_max, "scatter-min": jax.lax.scatter_min,
    "scatter_min": jax.lax.scatter_min,
}  # fmt: skip


@dataclass(frozen=True)
class At:
    """A value with its error, and the bits of what it was made of."""

    x: Approximate
    depends: int = 0


@dataclass
class Carry:
    """The state of one evaluation.

    Attributes:
        anchors: errors that values get by their number, in the place of those carried.
        anchored_marks: the same by the name of a mark.
        marks: what was marked, by name, with the number of values made until then.
    """

    rules: Rules
    charged: bool
    keeps_values: bool
    anchors: Mapping[int, float] = field(default_factory=dict)
    anchored_marks: Mapping[str, float] = field(default_factory=dict)
    values: list[Value] = field(default_factory=list)
    marks: dict[str, tuple[At, int]] = field(default_factory=dict)
    bits: dict[str, int] = field(default_factory=dict)
    without_rule: Counter[str] = field(default_factory=Counter)
    unsure: Counter[str] = field(default_factory=Counter)
    narrows: bool = False
    idle: int = 0
    change: Callable[[Any, list[At]], Any] | None = None
    until: int | None = None

    def evaluate(self, closed: Any, arguments: Sequence[At]) -> list[At]:
        """The results of a closed jaxpr."""
        constants = [At(self.constant(c)) for c in closed.consts]
        return self._body(closed.jaxpr, constants, arguments)

    def constant(self, value: Any) -> Approximate:
        """A number or array of the program itself."""
        if is_key(value):
            return Approximate(value, np.zeros(()))
        return self.rules.constant(np.asarray(value) if np.ndim(value) else _decimal(value))

    def _body(self, jaxpr: Any, constants: Sequence[At], arguments: Sequence[At]) -> list[At]:
        known: dict[Any, At] = dict(zip(jaxpr.constvars, constants, strict=True))
        known.update(zip(jaxpr.invars, arguments, strict=True))

        def read(atom: Any) -> At:
            return At(self.constant(atom.val)) if hasattr(atom, "val") else known[atom]

        for eqn in jaxpr.eqns:
            outs = self._equation(eqn, [read(atom) for atom in eqn.invars])
            known.update(zip(eqn.outvars, outs, strict=True))
        return [read(atom) for atom in jaxpr.outvars]

    def _equation(self, eqn: Any, inputs: list[At]) -> list[At]:
        name = eqn.primitive.name
        entered = ENTERED.get(name)
        if entered is not None:
            if self.change is not None:
                changed = self.change(eqn, inputs)
                if changed is not None:
                    return [At(x, inputs[0].depends) for x in changed]
            return entered(self, eqn, inputs)
        depends = 0
        for at in inputs:
            depends |= at.depends
        xs = [at.x for at in inputs]
        if name == "name":
            return [self._marked(eqn.params["name"], xs[0], depends)]
        rule = RULES.get(name)
        results: list[Approximate] | None = None
        with np.errstate(all="ignore"):
            if self.change is not None:
                results = self.change(eqn, inputs)
            if results is None and rule is not None:
                out = rule(self, eqn, xs)
                results = (
                    None if out is None else list(out) if isinstance(out, list | tuple) else [out]
                )
        if results is None:
            # What is no float, and made of exact values alone, is exact, whatever made it.
            discrete = (
                name not in _DRAWS
                and not any(x.error.any() for x in xs)
                and not any(jnp.issubdtype(var.aval.dtype, jnp.floating) for var in eqn.outvars)
            )
            hides = name not in _KEYS and not discrete
            if hides:
                self.without_rule[_DRAWS.get(name, name)] += 1
            results = [
                self.rules.unknown(v) if hides and not is_key(v)
                else Approximate(v, np.zeros(np.shape(v)))
                for v in self.plainly(eqn, xs)
            ]  # fmt: skip
        return [
            self._noted(name, self._typed(x, var.aval, name), depends)
            for x, var in zip(results, eqn.outvars, strict=True)
        ]

    def _typed(self, x: Approximate, aval: Any, name: str) -> Approximate:
        """Rounded, where the result is of a narrow type and not merely moved."""
        narrow = NARROW.get(str(getattr(aval, "dtype", "")))
        if narrow is None or name in MOVES:
            return x
        self.narrows = True
        return self.rules.rounded_to(narrow, x, charged=self.charged)

    def _noted(self, name: str, x: Approximate, depends: int) -> At:
        if is_key(x.value):
            return At(x, depends)
        value = np.asarray(x.value)
        x = Approximate(value, np.broadcast_to(x.error, value.shape))
        if self.keeps_values and value.dtype.kind == "f" and value.size > 1:
            error = self.anchors.get(len(self.values))
            self.values.append(Value(name, x, bool(depends & SEED)))
            if error is not None:
                return At(Approximate(value, np.where(x.error == 0, 0.0, error)), depends)
        return At(x, depends)

    def _marked(self, name: str, x: Approximate, depends: int) -> At:
        if not name.startswith("conformance "):
            return At(x, depends)
        self.marks[name] = At(x, depends), len(self.values)
        if name == f"conformance call {self.until}":
            raise Enough
        error = self.anchored_marks.get(name)
        if error is not None:
            x = Approximate(x.value, np.where(x.error == 0, 0.0, error))
        return At(x, depends | self.bits.get(name, 0))

    def plainly(self, eqn: Any, xs: Sequence[Approximate]) -> list[Any]:
        """What JAX's own primitive makes of the values."""
        values = [
            v
            if is_key(v)
            else jnp.asarray(v, dtype=None if v.dtype.kind in "fc" else var.aval.dtype)
            for v, var in zip((x.value for x in xs), eqn.invars, strict=True)
        ]
        params = {
            k: jnp.float64 if k in ("preferred_element_type", "dtype", "new_dtype")
            and v is not None and jnp.issubdtype(v, jnp.floating) else v
            for k, v in eqn.params.items()
        }  # fmt: skip
        if "out_dtype" in params:
            params["out_dtype"] = jnp.float64
        scatter = _SCATTERS.get(eqn.primitive.name)
        if scatter is not None:  # Its own combiner may be of a narrower type.
            names = "dimension_numbers", "indices_are_sorted", "unique_indices", "mode"
            return [np.asarray(scatter(*values, **{name: params[name] for name in names}))]
        out = eqn.primitive.bind(*values, **params)
        outs = out if eqn.primitive.multiple_results else [out]
        return [v if is_key(v) else np.asarray(v) for v in outs]

    def through(self, eqn: Any, *values: Any) -> np.ndarray:
        """The primitive on other arrays than its values; the first result."""
        xs = [Approximate(np.asarray(v), np.zeros(())) for v in values]
        return np.asarray(self.plainly(eqn, xs)[0])

    def decided(self, at: At, what: str) -> Any:
        """A value by which a loop or branch decides."""
        if at.x.error.any():
            self.unsure[f"a comparison ({what})"] += 1
        return np.asarray(at.x.value)


def _decimal(value: Any) -> np.ndarray:
    """A number in float32 as it was written, where few digits tell it."""
    array = np.asarray(value)
    if array.dtype != np.float32 or not np.isfinite(array):
        return array
    written = np.format_float_scientific(np.float32(array), unique=True)
    digits = written.partition("e")[0].replace(".", "").lstrip("-").rstrip("0")
    return np.asarray(float(written)) if len(digits) <= 6 else array


def is_key(value: Any) -> bool:
    """Whether it is a key of JAX's random numbers, which NumPy cannot hold."""
    return hasattr(value, "dtype") and jnp.issubdtype(value.dtype, jax.dtypes.extended)


Rule = Callable[[Carry, Any, list[Approximate]], Any]
RULES: dict[str, Rule] = {}
MOVES = {"reshape", "transpose", "broadcast_in_dim", "squeeze", "expand_dims", "rev", "slice",
         "concatenate", "copy", "copy_p", "optimization_barrier", "gather", "dynamic_slice", "pad",
         "dynamic_update_slice", "scatter", "select_n", "stop_gradient", "neg", "split", "tile",
         "stack", "unstack", "real", "device_put", "sharding_constraint", "pvary",
         "layout_constraint", "reduce_max", "reduce_min", "max", "min"}  # fmt: skip


def rule(*names: str) -> Callable[[Rule], Rule]:
    """Registers the rule of some primitives."""

    def registered(function: Rule) -> Rule:
        RULES.update(dict.fromkeys(names, function))
        return function

    return registered


def _closed(jaxpr: Any) -> Any:
    return jaxpr if hasattr(jaxpr, "consts") else jax.extend.core.ClosedJaxpr(jaxpr, ())


def _call(carry: Carry, eqn: Any, inputs: list[At]) -> list[At]:
    p = eqn.params
    inner = next(p[k] for k in ("jaxpr", "call_jaxpr", "fun_jaxpr", "call") if k in p)
    return carry.evaluate(_closed(inner), inputs)


def _scan(carry: Carry, eqn: Any, inputs: list[At]) -> list[At]:
    p = eqn.params
    fixed, kept = p["num_consts"], p["num_carry"]
    constants, state = inputs[:fixed], inputs[fixed : fixed + kept]
    rows = inputs[fixed + kept :]
    made: list[list[At]] = []
    order = range(p["length"])
    for i in reversed(order) if p["reverse"] else order:
        slices = [At(Approximate(r.x.value[i], r.x.error[i]), r.depends) for r in rows]
        out = carry.evaluate(p["jaxpr"], [*constants, *state, *slices])
        state = out[:kept]
        made.append(out[kept:])
    if p["reverse"]:
        made.reverse()
    stacked = []
    for i, var in enumerate(eqn.outvars[kept:]):
        parts = [row[i] for row in made]
        depends = 0
        for part in parts:
            depends |= part.depends
        if parts:
            x = Approximate(
                np.stack([part.x.value for part in parts]),
                np.stack([np.broadcast_to(part.x.error, part.x.value.shape) for part in parts]),
            )
        else:
            x = carry.rules.exactly(np.zeros(var.aval.shape))
        stacked.append(carry._noted("scan", x, depends))
    return [*state, *stacked]


def _while(carry: Carry, eqn: Any, inputs: list[At]) -> list[At]:
    p = eqn.params
    of_test, of_body = p["cond_nconsts"], p["body_nconsts"]
    test, body = inputs[:of_test], inputs[of_test : of_test + of_body]
    state = inputs[of_test + of_body :]
    for _ in range(100_000):
        (goes_on,) = carry.evaluate(p["cond_jaxpr"], [*test, *state])
        if not carry.decided(goes_on, "while"):
            return state
        state = carry.evaluate(p["body_jaxpr"], [*body, *state])
    raise UsageError("a while loop does not end within 100000 turns")


def _cond(carry: Carry, eqn: Any, inputs: list[At]) -> list[At]:
    branches = eqn.params["branches"]
    index = int(np.clip(int(carry.decided(inputs[0], "cond")), 0, len(branches) - 1))
    outs = carry.evaluate(branches[index], inputs[1:])
    if not inputs[0].x.error.any():
        return outs
    return [At(carry.rules.unknown(out.x.value), out.depends) for out in outs]


ENTERED: dict[str, Callable[[Carry, Any, list[At]], list[At]]] = {
    **dict.fromkeys(
        ("jit", "pjit", "closed_call", "core_call", "remat", "checkpoint", "remat2", "xla_call",
         "custom_jvp_call", "custom_vjp_call", "custom_vjp_call_jaxpr", "custom_lin",
         "custom_jvp_call_jaxpr", "call", "composite", "custom_vmap_call", "remat_opt"), _call
    ),
    "scan": _scan,
    "while": _while,
    "cond": _cond,
}  # fmt: skip
