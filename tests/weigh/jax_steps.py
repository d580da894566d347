"""Training steps in JAX with one mistake each, and their right forms: run with 8 host devices.

Prints a JSON list of (name, promise, expected mistake or None, mistakes named or None, formula).
"""

import json
import os

os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=8"
os.environ["JAX_PLATFORMS"] = "cpu"

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

import conformance

W, K, SAMPLES = 4, 3, 3
RANDOM = np.random.default_rng(0)
PARAMS = {
    "w": RANDOM.normal(size=(9, 16)).astype(np.float32),
    "b": np.zeros(16, np.float32),
    "v": RANDOM.normal(size=(16, 7)).astype(np.float32),
}
MESH = Mesh(jax.devices()[:W], ("ranks",))


def batch(k=None, even=False):
    """(inputs, labels, mask) with ranks in front, and micro-batches before them where there are."""
    lead = (W, SAMPLES) if k is None else (k, W, SAMPLES)
    mask = np.ones(lead, np.float32)
    if not even:
        mask = (RANDOM.random(lead) < 0.6).astype(np.float32)
        mask[..., 0] = 1
        mask[..., 1, :] = 1
    return (
        RANDOM.normal(size=(*lead, 9)).astype(np.float32),
        RANDOM.integers(0, 7, lead),
        mask,
    )


def losses(params, batch):
    inputs, labels, mask = batch
    logits = jnp.tanh(inputs @ params["w"] + params["b"]) @ params["v"]
    each = -jnp.take_along_axis(jax.nn.log_softmax(logits), labels[..., None], -1)[..., 0]
    return each * mask


def mean(params, batch):
    return losses(params, batch).sum() / batch[2].sum()


def total(params, batch):
    return losses(params, batch).sum()


def pmapped(step):
    """A step of one rank's batch, on all ranks; gradients of rank 0 are returned."""

    def gradient(params, batch):
        each = jax.pmap(lambda b: step(params, b), axis_name="ranks", devices=jax.devices()[:W])
        return each(batch)

    return gradient


def shard_mapped(step):
    def gradient(params, batch):
        def of_rank(params, batch):
            return step(params, jax.tree.map(lambda x: x[0], batch))

        mapped = jax.shard_map(
            of_rank, mesh=MESH, in_specs=(P(), P("ranks")), out_specs=P(), check_vma=False
        )
        return jax.jit(mapped)(params, batch)

    return gradient


def jitted(step):
    def gradient(params, batch):
        sharded = jax.device_put(batch, NamedSharding(MESH, P("ranks")))
        return jax.jit(jax.grad(step))(params, sharded)

    return gradient


def pmean(tree):
    return lax.pmean(tree, "ranks")


def psum(tree):
    return lax.psum(tree, "ranks")


def scaled(tree, factor):
    return jax.tree.map(lambda x: x * factor, tree)


def token_mean(params, batch):
    count = lax.psum(batch[2].sum(), "ranks")
    return psum(scaled(jax.grad(total)(params, batch), 1 / count))


def means(params, batch):
    return pmean(jax.grad(mean)(params, batch))


def own(params, batch):
    return jax.grad(mean)(params, batch)


def of_psum(params, batch):
    return jax.grad(lambda p: lax.psum(mean(p, batch), "ranks"))(params)


def without_rank_0(params, batch):
    kept = lax.axis_index("ranks") > 0
    return psum(scaled(jax.grad(mean)(params, batch), kept / W))


def sums(params, batch):
    return psum(jax.grad(total)(params, batch))


def undivided(params, batch):
    return psum(jax.grad(mean)(params, batch))


def twice(params, batch):
    return scaled(means(params, batch), 1 / W)


def squared(params, batch):
    return scaled(undivided(params, batch), W)


def mean_of_rows(params, batch):
    each = losses(params, batch).sum(-1) / batch[2].sum(-1)
    return each.mean()


def row_sums(params, batch):
    return losses(params, batch).sum() / W


def with_padding(params, batch):
    return losses(params, batch).mean()


EVEN, UNEVEN = batch(even=True), batch()
CASES = []
for name, mapped in (("pmap", pmapped), ("shard_map", shard_mapped)):
    CASES += [
        (f"{name} token mean", mapped(token_mean), UNEVEN, "step_mean", None),
        (f"{name} rank mean", mapped(means), UNEVEN, "rank_mean", None),
        (f"{name} even mean", mapped(means), EVEN, "step_mean", None),
        (f"{name} mean of means", mapped(means), UNEVEN, "step_mean", "mean-of-means"),
        (f"{name} psum", mapped(undivided), EVEN, "step_mean", "not-divided"),
        (f"{name} twice", mapped(twice), EVEN, "step_mean", "divided-twice"),
        (f"{name} squared", mapped(squared), EVEN, "step_mean", "squared-world"),
        (f"{name} sums", mapped(sums), UNEVEN, "step_mean", "sum-loss"),
        (f"{name} a rank missing", mapped(without_rank_0), UNEVEN, "rank_mean", "rank-missing"),
    ]
CASES += [
    ("pmap own", pmapped(own), UNEVEN, "step_mean", "never-synchronised"),
    ("pmap psum in loss", pmapped(of_psum), EVEN, "step_mean", "psum-loss-unsynchronised"),
    ("shard_map own", shard_mapped(own), UNEVEN, "rank_mean", "never-synchronised"),
    ("jit token mean", jitted(mean), UNEVEN, "step_mean", None),
    ("jit mean of means", jitted(mean_of_rows), UNEVEN, "step_mean", "mean-of-means"),
    ("jit sum", jitted(row_sums), UNEVEN, "step_mean", "sum-loss"),
    ("jit even", jitted(with_padding), EVEN, "step_mean", None),
    ("jit padding", jitted(with_padding), UNEVEN, "step_mean", "padding-counted"),
    ("jit twice", jitted(lambda p, b: mean(p, b) / W), EVEN, "step_mean", "divided-twice"),
    ("jit world left in", jitted(lambda p, b: mean(p, b) * W), EVEN, "step_mean", "not-divided"),
]  # fmt: skip


def scanned(divide):
    """K micro-batches in a scan; divide says by what each is divided."""

    def gradient(params, batches):
        def add(gradients, one):
            new = jax.grad(total)(params, one)
            scale = 1 / divide(one, batches)
            return jax.tree.map(lambda g, n: g + n * scale, gradients, new), None

        return jax.jit(lambda: lax.scan(add, scaled(params, 0.0), batches)[0])()

    return gradient


SCANNED = [
    ("scan token mean", scanned(lambda one, all_: all_[2].sum()), "step_mean", None),
    ("scan micro means", scanned(lambda one, all_: one[2].sum() * K), "step_mean",
     "mean-of-micro-means"),
    ("scan times K", scanned(lambda one, all_: all_[2].sum() / K), "step_mean",
     "accumulation-unscaled"),
]  # fmt: skip


def libraries():
    """Steps of Flax NNX, Linen, optax and, where it is installed, Equinox; on one device."""
    import optax
    from flax import linen, nnx

    inputs, labels, _ = (x.reshape(-1, *x.shape[2:]) for x in EVEN)
    data = inputs, labels

    def each(logits, labels):
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels)

    model = nnx.Linear(9, 7, rngs=nnx.Rngs(0))
    graph, state = nnx.split(model)

    def of_nnx(state, data):
        return each(nnx.merge(graph, state)(data[0]), data[1])

    yield "nnx", lambda s, d: jax.grad(lambda s: of_nnx(s, d).mean())(s), of_nnx, state, data
    dense = linen.Dense(7)
    variables = dense.init(jax.random.key(0), inputs)

    def of_linen(variables, data):
        return each(dense.apply(variables, data[0]), data[1])

    yield (
        "linen",
        lambda v, d: jax.grad(lambda v: of_linen(v, d).mean())(v),
        of_linen,
        variables,
        data,
    )
    every = optax.MultiSteps(optax.sgd(1.0), every_k_schedule=2)

    def of_optax(variables, data):
        """The update that MultiSteps makes of two halves is minus the gradient."""
        state = every.init(variables)
        for half in range(2):
            part = tuple(x[half::2] for x in data)
            gradients = jax.grad(lambda v, d: of_linen(v, d).mean())(variables, part)
            updates, state = every.update(gradients, state, variables)
        return jax.tree.map(jnp.negative, updates)

    yield "optax", of_optax, of_linen, variables, data
    try:
        import equinox as eqx
    except ImportError:
        return
    net = eqx.nn.MLP(9, 7, 8, 1, key=jax.random.key(0))

    def of_equinox(net, data):
        return each(jax.vmap(net)(data[0]), data[1])

    def gradient(net, data):
        return eqx.filter_grad(lambda n: of_equinox(n, data).mean())(net)

    yield "equinox", gradient, of_equinox, net, data


def main():
    rows = []

    def weigh(name, gradient, losses, params, data, promise, expected, **more):
        weights = conformance.weigh(gradient, losses, params, data, **more)
        named = None
        if weights.faults:
            named = [fault.partition(":")[0] for fault in weights.faults]
        elif weights.mistakes(promise) is not None:
            named = list(weights.mistakes(promise))
        rows.append((name, promise, expected, named, weights.formula))

    for name, gradient, data, promise, expected in CASES:
        weigh(name, gradient, losses, PARAMS, data, promise, expected, ranks=0)
    batches = batch(K)
    flat = tuple(x.reshape(K, W * SAMPLES, *x.shape[3:]) for x in batches)
    for name, gradient, promise, expected in SCANNED:
        weigh(name, gradient, losses, PARAMS, flat, promise, expected, micro_batches=0)
    for name, gradient, of_items, params, data in libraries():
        weigh(name, gradient, of_items, params, data, "step_mean", None)
    print(json.dumps(rows))


if __name__ == "__main__":
    main()
