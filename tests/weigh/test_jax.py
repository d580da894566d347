"""JAX: mistakes through pmap, shard_map, jit and scan have their names, right steps none."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import conformance
from tests.sampling import IS_FULL

jax = pytest.importorskip("jax")
pytest.importorskip("flax")
pytest.importorskip("optax")


def test_every_mistake_has_its_name_and_no_right_step_is_accused():
    steps = Path(__file__).parent / "jax_steps.py"
    done = subprocess.run([sys.executable, str(steps)], capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr[-3000:]
    rows = json.loads(done.stdout)
    wrong = [row for row in rows if row[2] is not None]
    assert len({row[2] for row in wrong}) >= 11
    assert len(wrong) >= 15
    assert [row for row in wrong if row[3] is None or row[2] not in row[3]] == []
    right = [row for row in rows if row[2] is None]
    assert len(right) >= 10
    assert [row for row in right if row[3] is not None] == []


@pytest.mark.parametrize("world", [1, 2, 4] if IS_FULL else [2])
@pytest.mark.timeout(600)
def test_a_loop_is_called_what_it_does_and_its_right_form_passes(world):
    loops = Path(__file__).parent / "jax_loops.py"
    done = subprocess.run(
        [sys.executable, str(loops), str(world)], capture_output=True, text=True, timeout=580
    )
    assert done.returncode == 0, done.stderr[-3000:]
    rows = json.loads(done.stdout)
    assert len(rows) >= (20 if world > 1 else 12)
    assert [row for row in rows if not row[2] or row[1] not in row[2].partition(":")[0]] == []
    assert [(row[0], row[3]) for row in rows if row[3] is not None] == []


PARAMS = {"w": np.random.default_rng(0).normal(size=(4, 24)).astype("f4")}
ROWS = np.random.default_rng(1).normal(size=(5, 4)).astype("f4")


def losses(params, rows):
    return (jax.numpy.tanh(rows @ params["w"]) ** 3).sum(-1)


def mean(params, rows):
    return losses(params, rows).mean()


def told(gradient, own=losses, params=PARAMS):
    try:
        conformance.weigh(gradient, own, params, ROWS).verify("step_mean")
    except AssertionError as error:
        return str(error).partition("\n")[0]
    return "passes"


def half(tree):
    return jax.tree.map(lambda leaf: leaf.astype(jax.numpy.bfloat16), tree)


@pytest.mark.parametrize("value", [0.0, np.nan])
def test_infinities_are_not_judged(value):
    """Neither those of a gradient, nor those of a loss."""
    said = told(lambda p, b: jax.tree.map(lambda g: g / value, jax.grad(mean)(p, b)))
    assert said == "not-exercised: the gradient is not finite"
    said = told(jax.grad(mean), lambda p, b: losses(p, b) / value)
    assert said == "not-exercised: the gradient of an item's loss is not finite"


def test_gradients_in_bf16_are_judged_as_far_as_their_bits_go():
    assert told(lambda p, b: half(jax.grad(mean)(p, b))) == "passes"
    said = told(lambda p, b: half(jax.grad(lambda p: 5 * mean(p, b))(p)))
    assert said.startswith("sum-loss")
    said = told(jax.grad(mean), params=half(PARAMS))
    assert said == "passes" or said.startswith("not-exercised")


def test_a_loss_without_a_gradient_explains_none():
    assert told(jax.grad(mean), lambda p, b: jax.lax.stop_gradient(losses(p, b))).startswith(
        "no-weighted-sum"
    )
    nothing = lambda p, b: jax.tree.map(np.zeros_like, p)  # noqa: E731
    assert told(nothing, lambda p, b: jax.lax.stop_gradient(losses(p, b))).startswith(
        "not-exercised"
    )
