"""Divide each term of a loss by its own number of items inside `jax.pmap`.

The loss adds its terms up: with the weights of all heads but one at zero it is that head's alone.
Each term's sum and count are added up over ranks and micro-batches before it is divided (M7).
https://docs.jax.dev/en/latest/_autosummary/jax.pmap.html
"""

from functools import partial

import jax
import jax.numpy as jnp
from conformance import implementation
from jax import lax


@implementation("gradient_mean", framework="jax", promise="step_mean", spans="process")
def jax_step_mean_terms(loss, params, batches, devices):
    terms = len(jax.tree.leaves(batches[0][-1]))

    def alone(term, weights):
        leaves, tree = jax.tree.flatten(weights)
        return tree.unflatten([w if t == term else w * 0 for t, w in enumerate(leaves)])

    def summed(params, batches, term):
        of_term = [(x, y, alone(term, weights)) for x, y, weights in batches]
        counts = [jnp.sum(jax.tree.leaves(weights)[term]) for *_, weights in of_term]
        return sum(loss(params, *b) * n for b, n in zip(of_term, counts, strict=True)), sum(counts)

    @partial(jax.pmap, axis_name="ranks", in_axes=(None, 0), out_axes=None, devices=devices)
    def step(params, batches):
        means = []
        for term in range(terms):
            own = jax.grad(summed, has_aux=True)(params, batches, term)
            grads, items = lax.psum(own, "ranks")
            means.append(jax.tree.map(lambda g, n=items: g / n, grads))
        return jax.tree.map(lambda *grads: sum(grads), *means)

    return step(params, batches)
