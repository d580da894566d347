"""Map every rank's own gradient along a named axis, and average along it.

pmean sums in the gradient's own dtype, and divides then (J4): in float16 the sum may overflow where
the mean does not, and in bfloat16 a rank 256 times louder than others swallows some.
https://docs.jax.dev/en/latest/_autosummary/jax.lax.pmean.html
"""

from functools import partial

import jax
from conformance import implementation
from jax import lax


@implementation("gradient_mean", framework="jax", runs="virtual", promise="rank_mean")
def jax_virtual_pmean(loss, params, batches, devices):
    @jax.jit
    @partial(jax.vmap, axis_name="ranks", in_axes=(None, 0), out_axes=None)
    def mean(params, batch):
        return lax.pmean(jax.grad(loss)(params, *batch), "ranks")

    with jax.default_device(devices[0]):
        first, *others = (mean(params, batch) for batch in batches)
        return jax.tree.map(lambda *ks: sum(ks[1:], ks[0]), first, *others)
