"""Flax's probe writes down what it is fed under jit, scan, pmap and shard_map."""

import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from jax import lax

import conformance

LOSSES = ("cross_entropy", "mse", "next_token")


def arrays(probe):
    rows = probe.dataset[:]
    return (rows["input_ids"], rows["labels"]) if isinstance(rows, dict) else rows


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("kind", ["linen", "nnx"])
def test_one_jitted_step_is_one_mean(kind, loss):
    probe = conformance.probe(kind, items=24, loss=loss)
    x, y = arrays(probe)
    if kind == "nnx":
        graph, params = nnx.split(probe.model)
    else:
        params = probe.model.init(jax.random.key(0), x[:1])

    @jax.jit
    def step(params):
        def mean(params):
            if kind == "nnx":
                return probe.loss(nnx.merge(graph, params)(x), y)
            return probe.model.apply(params, x, y)["loss"]

        return jax.tree.map(lambda p, g: p - g, params, jax.grad(mean)(params))

    weights = probe.read(step(params))
    assert weights.values.shape == (24,)
    weights.verify("step_mean")


def test_micro_batches_of_a_scan_are_told_apart():
    probe = conformance.probe("linen", items=12)
    x, y = (part.reshape(3, 4) for part in probe.dataset[:])
    params = probe.model.init(jax.random.key(0), x[0])

    @jax.jit
    def step(params):
        def add(total, batch):
            ids, labels = batch
            own = jax.grad(lambda p: probe.loss(probe.model.apply(p, ids), labels))(params)
            return jax.tree.map(jnp.add, total, own), None

        total, _ = lax.scan(add, jax.tree.map(jnp.zeros_like, params), (x, y))
        return jax.tree.map(lambda p, g: p - g / 3, params, total)

    seen = probe.trace(step(params))
    assert seen.micro_batches == 3
    seen.weights.verify("1/(K*n)")


def test_a_window_that_optax_never_applies_is_told():
    probe = conformance.probe("linen", items=10)
    x, y = probe.dataset[:]
    params = probe.model.init(jax.random.key(0), x[:2])
    optimizer = optax.MultiSteps(optax.sgd(0.5), 2)
    state = optimizer.init(params)
    for first in range(0, 10, 2):
        part = slice(first, first + 2)
        gradient = jax.grad(lambda p, x, y: probe.loss(probe.model.apply(p, x), y))
        updates, state = optimizer.update(gradient(params, x[part], y[part]), state, params)
        params = optax.apply_updates(params, updates)
    seen = probe.trace(params, lr=0.5)
    seen.weights.verify("1/(K*n)")
    assert seen.unstepped == (8, 9)


def test_nothing_trained_is_never_a_pass():
    probe = conformance.probe("linen")
    params = probe.model.init(jax.random.key(0), probe.dataset[:2][0])
    with pytest.raises(ValueError, match="not-exercised"):
        probe.read(params)
    with pytest.raises(ValueError, match="Linen's model has none"):
        probe.read(probe.model)
    with pytest.raises(ValueError, match="trained model, state or parameters"):
        probe.read({"rows": np.zeros(3)})


def test_mapped_axes_are_ranks():
    done = subprocess.run(
        [sys.executable, Path(__file__).with_name("probe_ranks.py")],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[:3] == ["2 1/(W·n_r) []", "2 1/(W·n_r) []", "2 1/n_r []"]
    assert done.stdout.splitlines()[3].endswith("['never-synchronised']")
