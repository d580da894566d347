"""JAX on two devices: optax.MultiSteps over Flax, and plain steps of NNX, Equinox and Haiku.

`optax.MultiSteps` averages micro-batches, `optax.apply_every` adds them up; neither steps after a
last window that is not whole. Without accumulation each step is what its own code says.

Flax's models are the probe's. Equinox and Haiku have models of their own, whose gradient is
weighed (`conformance.weigh`); a batch has as many items on each device, or is masked.

https://optax.readthedocs.io/en/latest/api/optimizer_wrappers.html
"""

import os

os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=2"

import equinox
import haiku
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax import lax
from jax.sharding import PartitionSpec as P

import conformance

WORLD = 2
MESH = jax.sharding.Mesh(np.array(jax.devices()), ("ranks",))


def over_ranks(function):
    """Call a function of (params, batch) on each device, with its part of the batch."""
    specs = (P(), P("ranks"), P("ranks"))
    return jax.jit(
        jax.shard_map(function, mesh=MESH, in_specs=specs, out_specs=P(), check_vma=False)
    )


def epochs(probe, batch_size):
    """Yield batches of all devices; a rest that does not fill one is left out, as jit asks."""
    rows, size = probe.dataset[:], WORLD * batch_size
    for first in range(0, len(probe.dataset) - size + 1, size):
        part = slice(first, first + size)
        yield rows["input_ids"][part], rows["labels"][part]


def with_optax(optimizer, lengths, batch_size):
    """Train a model of Linen for an epoch, with the ranks' mean of means in each micro-batch."""
    probe = conformance.probe("linen", loss="next_token", lengths=lengths)
    params = probe.model.init(jax.random.key(0), probe.dataset[:1]["input_ids"])
    state = optimizer.init(params)

    @over_ranks
    def gradient(params, ids, labels):
        mean = jax.grad(lambda params: probe.model.apply(params, ids, labels)["loss"])
        return lax.pmean(mean(params), "ranks")

    for ids, labels in epochs(probe, batch_size):
        updates, state = optimizer.update(gradient(params, ids, labels), state, params)
        params = optax.apply_updates(params, updates)
    return probe.trace(params)


def optax_multi_steps(lengths, batch_size, accumulate):
    """1/(W*K*n)"""
    return with_optax(optax.MultiSteps(optax.sgd(1.0), accumulate), lengths, batch_size)


def optax_apply_every(lengths, batch_size, accumulate):
    """1/(W*n)"""
    optimizer = optax.chain(optax.sgd(1.0), optax.apply_every(accumulate))
    return with_optax(optimizer, lengths, batch_size)


def flax_nnx(lengths, batch_size, accumulate):
    """1/(W*n)"""
    if accumulate > 1:
        raise NotImplementedError("no accumulation here")
    probe = conformance.probe("nnx", loss="next_token", lengths=lengths)
    graph, state = nnx.split(probe.model)

    @over_ranks
    def step(state, ids, labels):
        mean = jax.grad(lambda state: nnx.merge(graph, state)(ids, labels)["loss"])
        gradient = lax.pmean(mean(state), "ranks")
        return jax.tree.map(lambda p, g: p - g, state, gradient)

    for ids, labels in epochs(probe, batch_size):
        state = step(state, ids, labels)
    return probe.trace(state)


RANDOM = np.random.default_rng(0)
BATCH = (
    RANDOM.normal(size=(2 * WORLD, 3, 16)).astype("f4"),
    np.array([[1, 1, 1], [1, 0, 0], [1, 1, 0], [1, 1, 1]], "f4"),  # which tokens count
)


def own_mean(losses):
    """Return the gradient of each device's own mean over tokens, averaged."""

    def of_rank(params, x, mask):
        mean = jax.grad(lambda params: losses(params, (x, mask)).sum() / mask.sum())
        return lax.pmean(mean(params), "ranks")

    function = over_ranks(of_rank)
    return lambda params, batch: function(params, *batch)


def step_mean(losses):
    """Return the gradient of one mean over the tokens of all devices."""

    def of_rank(params, x, mask):
        count = lax.psum(mask.sum(), "ranks")
        return lax.psum(
            jax.grad(lambda params: losses(params, (x, mask)).sum() / count)(params), "ranks"
        )

    function = over_ranks(of_rank)
    return lambda params, batch: function(params, *batch)


def weighed(gradient, losses, params):
    ranks = np.repeat(np.arange(WORLD), 2)[:, None] * np.ones((1, 3), int)
    return conformance.weigh(gradient(losses), losses, params, BATCH, ranks=ranks)


def equinox_own_means():
    """1/(W*N_rank)"""
    return _equinox(own_mean)


def equinox_one_mean():
    """1/N"""
    return _equinox(step_mean)


def _equinox(gradient):
    model = equinox.nn.Linear(16, 1, key=jax.random.key(0))

    def losses(model, batch):
        x, mask = batch
        return jnp.square(jax.vmap(jax.vmap(model))(x)[..., 0]) * mask

    return weighed(gradient, losses, model)


def haiku_own_means():
    """1/(W*N_rank)"""
    return _haiku(own_mean)


def haiku_one_mean():
    """1/N"""
    return _haiku(step_mean)


def _haiku(gradient):
    network = haiku.without_apply_rng(haiku.transform(lambda x: haiku.Linear(1)(x)[..., 0]))
    params = network.init(jax.random.key(0), BATCH[0])
    return weighed(
        gradient,
        lambda params, batch: jnp.square(network.apply(params, batch[0])) * batch[1],
        params,
    )


PROBED = (optax_multi_steps, optax_apply_every, flax_nnx)
WEIGHED = (equinox_own_means, equinox_one_mean, haiku_own_means, haiku_one_mean)
