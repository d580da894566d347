"""Training loops in JAX as people write them, each wrong and right: `jax_loops.py W`.

Prints a JSON list of (name, mistakes expected, what a wrong form is called, and a right one).
"""

import json
import os
import sys
from functools import partial
from operator import itemgetter

os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=4"
os.environ["JAX_PLATFORMS"] = "cpu"

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen, nnx
from flax.training.train_state import TrainState
from jax import lax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

import conformance

W = int(sys.argv[1]) if len(sys.argv) > 1 else 2
K, ROWS, LENGTH, WIDTH, CLASSES = 3, 3, 5, 8, 5
RANDOM = np.random.default_rng(W)
MESH = Mesh(jax.devices()[:W], ("data",))
PARAMS = {
    "in": RANDOM.normal(size=(WIDTH, 24)).astype("f4"),
    "bias": np.zeros(24, "f4"),
    "out": (RANDOM.normal(size=(24, CLASSES)) / 2).astype("f4"),
}
cross_entropy = optax.softmax_cross_entropy_with_integer_labels
tree_map = jax.tree.map


def batch(*lead, even=False):
    """(inputs, labels, mask), of W ranks, and of micro-batches where there are."""
    mask = np.ones((*lead, ROWS, LENGTH), "f4")
    for number, one in enumerate([] if even else mask.reshape(-1, ROWS, LENGTH)):
        one[0, 2 + number % LENGTH :] = 0
        one[1, 1 + (number // 2) % 3 + number % 2 :] = 0
        one[2, 3:] = 0
    inputs = RANDOM.normal(size=(*mask.shape, WIDTH)).astype("f4")
    return inputs, RANDOM.integers(0, CLASSES, mask.shape), mask


def losses(p, b):
    return cross_entropy(jnp.tanh(b[0] @ p["in"] + p["bias"]) @ p["out"], b[1]) * b[2]


def in_bf16(p, b):
    half = tree_map(lambda x: x.astype(jnp.bfloat16), (p, b[0]))
    logits = jnp.tanh(half[1] @ half[0]["in"] + half[0]["bias"]) @ half[0]["out"]
    return cross_entropy(logits.astype(jnp.float32), b[1]) * b[2]


def total(p, b, loss=losses):
    return loss(p, b).sum()


def mean(p, b, loss=losses):
    return loss(p, b).sum() / b[2].sum()


def plain(p, b):
    return losses(p, b).mean()


def of_all(p, b, loss=losses):
    """A rank's share of the mean over the items of all ranks."""
    return loss(p, b).sum() / lax.psum(b[2].sum(), "data")


def psum(tree):
    return lax.psum(tree, "data")


def pmean(tree):
    return lax.pmean(tree, "data")


def times(tree, factor):
    return tree_map(lambda x: x * factor, tree)


def pmapped(step, axis=0, first=False):
    def gradient(p, b):
        each = jax.pmap(
            step, axis_name="data", in_axes=(None, axis), devices=jax.devices()[:W]
        )(p, b)  # fmt: skip
        return tree_map(itemgetter(0), each) if first else each

    return gradient


def shard_mapped(step, **options):
    return jax.jit(
        jax.shard_map(step, mesh=MESH, in_specs=(P(), P("data")), out_specs=P(), **options)
    )


def jitted(loss):
    return jax.jit(jax.grad(loss))


def flat(b):
    """Put ranks one after another in the samples' axis, sharded."""
    axis = b[2].ndim - 3
    whole = [x.reshape(*x.shape[:axis], -1, *x.shape[axis + 2 :]) for x in b]
    return jax.device_put(tuple(whole), NamedSharding(MESH, P(*[None] * axis, "data")))


UNEVEN, EVEN = batch(W), batch(W, even=True)
MICRO, EVEN_MICRO = batch(K, W), batch(K, W, even=True)
RANK_OF = np.broadcast_to(np.repeat(np.arange(W), ROWS)[:, None], (K, W * ROWS, LENGTH))
BY_RANK = {"ranks": 0}
MICROS = {"ranks": 1, "micro_batches": 0}
FLAT_MICROS = {"ranks": RANK_OF, "micro_batches": 0}


def synchronised(skip, p, b):
    gradients = jax.grad(of_all)(p, b)
    return {name: g if name in skip else psum(g) for name, g in gradients.items()}


def clipped(first, p, b):
    clip = optax.clip_by_global_norm(0.02)
    gradients = jax.grad(plain)(p, b)
    if first:
        return pmean(clip.update(gradients, clip.init(p))[0])
    return clip.update(pmean(gradients), clip.init(p))[0]


def accumulated(loss, scale, reduce, p, bs):
    def add(gradients, b):
        return tree_map(jnp.add, gradients, times(jax.grad(loss)(p, b), scale(bs))), None

    return reduce(lax.scan(add, times(p, 0.0), bs)[0])


def overwritten(p, bs):
    return psum(lax.scan(lambda _, b: (jax.grad(total)(p, b), None), p, bs)[0])


def started_with_the_first(p, bs):
    start = jax.grad(total)(p, tree_map(itemgetter(0), bs))

    def add(gradients, b):
        return tree_map(jnp.add, gradients, jax.grad(total)(p, b)), None

    return times(psum(lax.scan(add, start, bs)[0]), 1 / psum(bs[2].sum()))


def stepped(transform, loss):
    """The updates of K calls; that of plain descent is minus the gradient."""

    def gradient(p, bs):
        state, whole = transform.init(p), times(p, 0.0)
        for k in range(K):
            own = jitted(partial(loss, bs))(p, tree_map(itemgetter(k), bs))
            update, state = transform.update(own, state, p)
            whole = tree_map(jnp.add, whole, update)
        return times(whole, -1)

    return gradient


def multi_steps(inner=None, **options):
    return optax.MultiSteps(inner or optax.sgd(1.0), K, **options)


def trained(loss):
    """A jitted step that is given its state to overwrite; the gradient is what it moved."""

    def gradient(p, b):
        before = tree_map(np.array, p)
        state = TrainState.create(apply_fn=None, params=p, tx=optax.sgd(1.0))
        step = jax.jit(
            lambda s, b: s.apply_gradients(grads=jax.grad(loss)(s.params, b)), donate_argnums=0
        )
        return tree_map(lambda old, new: old - np.asarray(new), before, step(state, b).params)

    return gradient


def shifted(p, b):
    return losses(p, (b[0][:, :-1], b[1][:, 1:], b[2][:, 1:]))


def pairs():
    """Yield (name, expected, wrong, right, batch, losses, params, further arguments)."""
    token_mean = pmapped(lambda p, b: psum(jax.grad(of_all)(p, b)))
    even_mean = pmapped(lambda p, b: pmean(jax.grad(plain)(p, b)))
    if W > 1:
        yield (
            "the global mean averaged", "divided-twice",
            pmapped(lambda p, b: pmean(jax.grad(of_all)(p, b))), token_mean, UNEVEN, BY_RANK,
        )  # fmt: skip
        yield (
            "masked means averaged", "mean-of-means",
            pmapped(lambda p, b: pmean(jax.grad(mean)(p, b)), first=True), token_mean,
            UNEVEN, BY_RANK,
        )  # fmt: skip
        for left in ("out", "bias"):
            yield (
                f"{left} not summed", "partly-synchronised",
                pmapped(partial(synchronised, (left,))), token_mean, UNEVEN, BY_RANK,
            )  # fmt: skip
        yield (
            "the bias divided by W as well",
            "parameters-weighed-apart",
            pmapped(lambda p, b: {n: g / W if n == "bias" else g
                                  for n, g in synchronised((), p, b).items()}),
            token_mean, UNEVEN, BY_RANK,
        )  # fmt: skip
        yield (
            "clipped before the mean", "clipped-before-averaging",
            pmapped(partial(clipped, True)), pmapped(partial(clipped, False)), EVEN, BY_RANK,
        )  # fmt: skip
        yield (
            "a mean of a loss that is averaged", "never-synchronised",
            pmapped(lambda p, b: jax.grad(lambda p: pmean(plain(p, b)))(p)),
            pmapped(lambda p, b: pmean(jax.grad(lambda p: pmean(plain(p, b)))(p))), EVEN, BY_RANK,
        )  # fmt: skip
        yield (
            "gradients of replicated parameters", "not-divided",
            shard_mapped(lambda p, b: pmean(jax.grad(plain)(p, b))),
            shard_mapped(lambda p, b: jax.grad(lambda p: pmean(plain(p, b)))(p)), flat(EVEN), {},
        )  # fmt: skip
        yield (
            "a loss that is summed, and its gradient", "not-divided",
            shard_mapped(lambda p, b: psum(jax.grad(lambda p: psum(of_all(p, b)))(p)),
                         check_vma=False),
            shard_mapped(lambda p, b: psum(jax.grad(of_all)(p, b)), check_vma=False),
            flat(UNEVEN), {},
        )  # fmt: skip
        yield (
            "bf16: masked means averaged", "mean-of-means",
            pmapped(lambda p, b: pmean(jax.grad(partial(mean, loss=in_bf16))(p, b))),
            pmapped(lambda p, b: psum(jax.grad(partial(of_all, loss=in_bf16))(p, b))),
            UNEVEN, {**BY_RANK, "losses": in_bf16},
        )  # fmt: skip
    yield (
        "one rank's gradient, clipped or padded", "padding-counted",
        even_mean, pmapped(partial(clipped, False)), UNEVEN, {**BY_RANK, "right": EVEN},
    )  # fmt: skip
    right = pmapped(
        partial(accumulated, total, lambda bs: 1 / psum(bs[2].sum()), psum), axis=1
    )  # fmt: skip
    yield (
        "means of micro-batches averaged", "mean-of-micro-means",
        pmapped(partial(accumulated, mean, lambda _: 1 / K, pmean), axis=1), right, MICRO, MICROS,
    )  # fmt: skip
    yield (
        "never divided by K", "accumulation-unscaled",
        pmapped(partial(accumulated, plain, lambda _: 1.0, pmean), axis=1),
        pmapped(partial(accumulated, plain, lambda _: 1 / K, pmean), axis=1), EVEN_MICRO, MICROS,
    )  # fmt: skip
    yield "overwritten", "last-micro-batch-only", pmapped(overwritten, 1), right, MICRO, MICROS
    yield (
        "started with the first, and it again", "counted-twice",
        pmapped(started_with_the_first, 1), right, MICRO, MICROS,
    )  # fmt: skip
    whole = stepped(multi_steps(use_grad_mean=False), lambda bs, p, b: total(p, b) / bs[2].sum())
    yield (
        "MultiSteps of masked means", "mean-of-micro-means",
        stepped(multi_steps(), lambda _, p, b: mean(p, b)), whole, flat(MICRO), FLAT_MICROS,
    )  # fmt: skip
    yield (
        "MultiSteps, and divided by K", "accumulation-unscaled",
        stepped(multi_steps(), lambda _, p, b: plain(p, b) / K),
        stepped(multi_steps(), lambda _, p, b: plain(p, b)), flat(EVEN_MICRO), FLAT_MICROS,
    )  # fmt: skip
    clip = optax.clip_by_global_norm(0.05)
    if W < 4:  # of more items than that the weights are too uncertain
        yield (
            "clipped outside of MultiSteps", "clipped-before-averaging",
            stepped(optax.chain(clip, multi_steps().gradient_transformation()),
                    lambda _, p, b: plain(p, b)),
            stepped(multi_steps(optax.chain(clip, optax.sgd(1.0))), lambda _, p, b: plain(p, b)),
            flat(EVEN_MICRO), FLAT_MICROS,
        )  # fmt: skip
    replicated = jax.device_put(PARAMS, NamedSharding(MESH, P()))
    yield (
        "a donated state", "padding-counted", trained(plain), trained(mean), flat(UNEVEN),
        {"params": replicated},
    )  # fmt: skip
    yield (
        "labels counted before the shift", "shifted-labels-counted",
        jitted(lambda p, b: shifted(p, b).sum() / b[2].sum()),
        jitted(lambda p, b: shifted(p, b).sum() / b[2][:, 1:].sum()), flat(UNEVEN),
        {"losses": shifted},
    )  # fmt: skip
    yield from of_flax()


def of_flax():
    model = nnx.Sequential(
        nnx.Linear(WIDTH, 24, rngs=nnx.Rngs(0)), jnp.tanh, nnx.Linear(24, CLASSES, rngs=nnx.Rngs(1))
    )

    def of_nnx(model, b):
        return cross_entropy(model(b[0]), b[1]) * b[2]

    def graded(loss):
        return nnx.jit(lambda model, b: nnx.grad(lambda m: loss(m, b, of_nnx))(model))

    yield (
        "an NNX module, and padding", "padding-counted",
        graded(lambda m, b, loss: loss(m, b).mean()), graded(mean), flat(UNEVEN),
        {"losses": of_nnx, "params": model},
    )  # fmt: skip

    class Net(linen.Module):
        @linen.compact
        def __call__(self, x):
            x = linen.Dense(24)(x)
            for _ in range(2):
                x = x + jnp.tanh(linen.remat(linen.Dense)(24)(x))
            return linen.Dense(CLASSES)(x)

    net = Net()

    def of_linen(variables, b):
        return cross_entropy(net.apply(variables, b[0]), b[1]) * b[2]

    yield (
        "Linen: a sum over samples", "sum-loss",
        jitted(lambda v, b: total(v, b, of_linen) / len(b[0])),
        jitted(partial(mean, loss=of_linen)), flat(UNEVEN),
        {"losses": of_linen, "params": net.init(jax.random.key(0), UNEVEN[0])},
    )  # fmt: skip


def called(gradient, data, more):
    more = dict(more)
    weights = conformance.weigh(
        gradient, more.pop("losses", losses), more.pop("params", PARAMS), data, **more
    )
    try:
        weights.verify("step_mean")
    except AssertionError as error:
        return str(error)
    return None


def main():
    rows = []
    for name, expected, wrong, right, data, more in pairs():
        own = {key: value for key, value in more.items() if key != "right"}
        other = more.get("right", data)
        rows.append((name, expected, called(wrong, data, own), called(right, other, own)))
    print(json.dumps(rows))


if __name__ == "__main__":
    main()
