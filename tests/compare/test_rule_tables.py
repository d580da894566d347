"""Every rule of both tables: no point inside the errors given leaves the errors that come.

Inputs, errors and points inside are dyadic numbers of few bits, so that sums and products of them
are exact in float64: a run at the point is the true value there. What a function of a library is
off by is asked of Arb in `test_rules.py`.
"""

from functools import cache

import numpy as np
import pytest

pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("flax", reason="flax is not installed")

import jax
import jax.numpy as jnp
import torch
from rule_cases import JAX_CASES, JAX_DISCRETE, TORCH_CASES, TORCH_DISCRETE

from conformance.arithmetic.running import Approximate
from conformance.compare import aten_model, jaxpr_model
from conformance.compare import jax_model as _jax_model  # noqa: F401  It registers rules.
from conformance.compare import torch_model as _torch_model  # noqa: F401  So does this.
from conformance.compare.rules import Rules


def drawn(shapes, seed):
    """Values of one sign's size, errors, and two points inside them."""
    generator = np.random.default_rng(seed)
    values, errors, points = [], [], []
    for shape in shapes:
        value = generator.permutation(np.arange(1, 1 + int(np.prod(shape)))).reshape(shape) / 64
        error = generator.integers(0, 3, shape) * 2.0**-16
        values.append(value)
        errors.append(error)
        points.append([value + sign * error for sign in (1, -1)]
                      + [value + generator.integers(-1, 2, shape) * error])  # fmt: skip
    return values, errors, list(zip(*points, strict=True))


def holds(name, outs, at_points):
    """Whether the values at every point lie within the errors of the outputs."""
    for others in at_points:
        for out, other in zip(outs, others, strict=True):
            value = np.asarray(out.value, dtype=float)
            error = np.broadcast_to(out.error, value.shape)
            apart = np.abs(np.asarray(other, dtype=float) - value)
            slack = 2.0**-48 * (1 + np.abs(value))  # A library's functions at the point.
            assert (apart <= error + slack).all(), (name, float((apart - error).max()))
            sizes = error[np.isfinite(error)]
            assert sizes.size, f"{name}: nothing is known of its result"
            assert sizes.max(initial=0) < 1, (name, float(sizes.max(initial=0)))


def run_jax(function, values, errors):
    with jax.enable_x64(True):
        closed = jax.make_jaxpr(function)(*map(jnp.asarray, values))
        carry = jaxpr_model.Carry(Rules(), charged=False, keeps_values=False)
        given = [jaxpr_model.At(Approximate(v, e)) for v, e in zip(values, errors, strict=True)]
        return [at.x for at in carry.evaluate(closed, given)], carry, closed


def primitives(jaxpr):
    for eqn in jaxpr.eqns:
        yield eqn.primitive.name
        for param in eqn.params.values():
            inner = getattr(param, "jaxpr", param)
            if hasattr(inner, "eqns"):
                yield from primitives(inner)


def run_torch(function, values, errors):
    names = set()

    class Watched(aten_model.Carry):
        def note(self, t, error, sources, name):
            names.add(name)
            super().note(t, error, sources, name)

    carry = Watched(Rules(), charged=False, keeps_values=False, anchors={})
    tensors = [torch.from_numpy(np.array(v)) for v in values]
    for t, e in zip(tensors, errors, strict=True):
        carry.write(t, e, [])
    with carry:
        out = function(*tensors)
    outs = [out] if isinstance(out, torch.Tensor) else list(out)
    return [carry.at(t) for t in outs], carry, names


@cache
def jax_case(name):
    function, shapes = JAX_CASES[name]
    return run_jax(function, *drawn(shapes, 0)[:2])


@cache
def torch_case(name):
    function, shapes = TORCH_CASES[name]
    return run_torch(function, *drawn(shapes, 0)[:2])


@pytest.mark.parametrize("name", JAX_CASES)
def test_no_point_inside_leaves_the_error_of_a_jax_primitive(name):
    function, shapes = JAX_CASES[name]
    points = drawn(shapes, 0)[2]
    outs, carry, _ = jax_case(name)
    assert not carry.without_rule
    with jax.enable_x64(True):
        at = [jax.tree.leaves(function(*map(jnp.asarray, point))) for point in points]
    holds(name, outs, at)


@pytest.mark.parametrize("name", TORCH_CASES)
def test_no_point_inside_leaves_the_error_of_a_torch_operation(name):
    function, shapes = TORCH_CASES[name]
    points = drawn(shapes, 0)[2]
    outs, carry, _ = torch_case(name)
    assert not carry.without_rule
    at = []
    for point in points:
        out = function(*(torch.from_numpy(np.array(v)) for v in point))
        at.append([t.numpy() for t in ([out] if isinstance(out, torch.Tensor) else out)])
    holds(name, outs, at)


def test_every_jax_rule_is_asked():
    seen = {n for name in JAX_CASES for n in primitives(jax_case(name)[2].jaxpr)}
    assert sorted(set(jaxpr_model.RULES) - seen - JAX_DISCRETE) == []


def test_every_torch_rule_is_asked():
    seen = {n for name in TORCH_CASES for n in torch_case(name)[2]}
    assert sorted(set(aten_model.RULES) - seen - TORCH_DISCRETE) == []
