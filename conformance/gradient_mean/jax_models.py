"""The models of `gradient_mean.models` as functions of their parameters, in plain JAX."""

from collections.abc import Callable, Mapping
from functools import reduce
from math import prod
from operator import add
from typing import TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from conformance.core.questions import GradientQuestion
from conformance.gradient_mean.models import (
    ATTENDING,
    EPSILON,
    Layer,
    Model,
    attention_scale,
    model_of,
)

Params: TypeAlias = Mapping[str, jax.Array]
Outputs: TypeAlias = "jax.Array | tuple[jax.Array, ...]"


def loss_of(
    question: GradientQuestion, buffers: Mapping[str, np.ndarray]
) -> Callable[..., jax.Array]:
    """Makes the loss of a question: `loss(params, inputs, targets, weights)`, a scalar.

    The loss takes the model's parameters by name, inputs (n, *sample), targets (n, …) or a tuple of
    targets for several heads, and weights (n,), or (n, T) of tokens; weights of several heads may
    be a tuple too, each head's own, and the heads' losses add up. It is Σ w·l / Σ w over what
    has a weight, or Σ w·l where the question reduces by a sum. A sample of weight 0 has no effect,
    not even on batch statistics; where all weights are 0 the loss is 0, and so is its gradient.

    Args:
        question: has the names of the model, the loss and the reduction.
        buffers: the running statistics of the model's batch norms, by name.
    """
    model = model_of(question)

    def loss(params: Params, inputs: jax.Array, targets: Outputs, weights: Outputs) -> jax.Array:
        params = {
            name: lax.stop_gradient(array) if name in model.frozen else array
            for name, array in params.items()
        }
        own = [each.astype(jnp.result_type(*params.values())) for each in _several(weights)]
        weights = own[0]
        outputs = forward(model, params, buffers, inputs, weights)
        heads = zip(_several(outputs), _several(targets), strict=True)
        if question.loss == "coupled":
            return _coupled(_several(outputs)[0], weights)
        axes = weights.ndim
        losses = [_per_item(question, y, target, axes) for y, target in heads]
        if len(own) == 1:
            losses = [reduce(add, losses)]
        if question.reduction == "sum":
            return reduce(add, (jnp.sum(w * each) for w, each in zip(own, losses, strict=True)))
        means = (
            _weighted_mean(each.ravel(), w.ravel(), (0,)).squeeze()
            for w, each in zip(own, losses, strict=True)
        )
        return reduce(add, means)

    return loss


def forward(
    model: Model,
    params: Params,
    buffers: Mapping[str, np.ndarray],
    inputs: jax.Array,
    weights: jax.Array,
) -> Outputs:
    """Computes outputs (n, …) of inputs (n, *sample); several heads give a tuple of outputs.

    Args:
        model: the layers.
        params: the parameters by name, all of the floating-point dtype of the computation.
        buffers: the running statistics by name, which batch norms in evaluation use.
        inputs: (n, *sample).
        weights: (n,), the weight of each sample in batch statistics.
    """
    x = inputs
    for layer in model.layers:
        if layer.kind == "batch_norm" and model.training:
            axes = (0, *range(2, x.ndim))
            mean = _weighted_mean(x, weights, axes)
            variance = _weighted_mean(jnp.square(x - mean), weights, axes)
            x = _scaled(layer, params, _normalised(x, mean, variance))
        elif layer.kind == "batch_norm":
            running = (
                buffers[f"{layer.name}.running_{statistic}"] for statistic in ("mean", "var")
            )
            mean, variance = (_along_channels(jnp.asarray(array), x) for array in running)
            x = _scaled(layer, params, _normalised(x, mean, variance))
        else:
            x = _after(layer, params, x)
    outputs = tuple(_after(head, params, x) for head in model.heads) or (x,)
    if model.summed:
        outputs = (reduce(add, outputs),)
    past = (jnp.where(inputs[:, :1] > 0, _after(layer, params, inputs), 0) for layer in model.rare)
    outputs = (reduce(add, past, outputs[0]), *outputs[1:])
    return outputs if len(outputs) > 1 else outputs[0]


def _after(layer: Layer, params: Params, x: jax.Array) -> jax.Array:
    match layer.kind:
        case "linear":
            y = x @ params[f"{layer.tied_to or layer.name}.weight"].T
            return y + params[f"{layer.name}.bias"] if layer.bias else y
        case "conv2d":
            y = lax.conv_general_dilated(
                x,
                params[f"{layer.name}.weight"],
                window_strides=(1, 1),
                padding=[(layer.padding, layer.padding)] * 2,
                feature_group_count=layer.groups,
            )
            return y + _along_channels(params[f"{layer.name}.bias"], y) if layer.bias else y
        case "embedding":
            return params[f"{layer.name}.weight"][x]
        case "relu":
            return jax.nn.relu(x)
        case "channel_shuffle":
            n, channels, *spatial = x.shape
            grouped = x.reshape(n, layer.groups, channels // layer.groups, *spatial)
            return grouped.swapaxes(1, 2).reshape(x.shape)
        case "avg_pool":
            return _pooled(x, 0.0, lax.add, layer.window) / layer.window**2
        case "max_pool":
            return _pooled(x, -jnp.inf, lax.max, layer.window)
        case "layer_norm":
            mean = x.mean(axis=-1, keepdims=True)
            variance = jnp.square(x - mean).mean(axis=-1, keepdims=True)
            scale, shift = params[f"{layer.name}.weight"], params[f"{layer.name}.bias"]
            return _normalised(x, mean, variance) * scale + shift
        case "attention":
            query, key, value = (x @ params[f"{layer.name}.{name}.weight"].T for name in ATTENDING)
            scores = query @ key.swapaxes(1, 2) * float(attention_scale(layer))
            is_past = np.tri(x.shape[1], dtype=bool)
            return jax.nn.softmax(jnp.where(is_past, scores, -jnp.inf), axis=-1) @ value
        case "flatten":
            # Without samples, the size of an axis of -1 would be ambiguous.
            return x.reshape(len(x), prod(x.shape[1:]))
        case "dropout" | "channel_dropout":
            raise ValueError("a dropout needs a key, and a loss of (params, batch) has none")
        case "batch_norm":
            raise ValueError("a batch norm depends on more than its input: see `forward`")


def _pooled(
    x: jax.Array, start: float, combine: Callable[..., jax.Array], window: int
) -> jax.Array:
    sides = (1, 1, window, window)
    return lax.reduce_window(x, np.array(start, x.dtype), combine, sides, sides, "VALID")


def _normalised(x: jax.Array, mean: jax.Array, variance: jax.Array) -> jax.Array:
    # XLA rounds square root and division correctly; its rsqrt may be off even at 1.
    return (x - mean) / jnp.sqrt(variance + EPSILON)


def _scaled(layer: Layer, params: Params, x: jax.Array) -> jax.Array:
    scale, shift = (params[f"{layer.name}.{kind}"] for kind in ("weight", "bias"))
    return x * _along_channels(scale, x) + _along_channels(shift, x)


def _along_channels(values: jax.Array, x: jax.Array) -> jax.Array:
    """Reshapes values (C,) to broadcast against x (n, C, *spatial)."""
    return values.reshape(-1, *(1 for _ in x.shape[2:]))


def _weighted_mean(x: jax.Array, weights: jax.Array, axes: tuple[int, ...]) -> jax.Array:
    """Averages over axes of x (n, …), with the first; they keep extent 1. No weight gives 0."""
    weights = jnp.broadcast_to(weights.reshape(-1, *(1 for _ in x.shape[1:])), x.shape)
    count = weights.sum(axis=axes, keepdims=True)
    return (weights * x).sum(axis=axes, keepdims=True) / jnp.where(count == 0, 1, count)


def _per_item(
    question: GradientQuestion, output: jax.Array, target: jax.Array, axes: int
) -> jax.Array:
    """Returns a loss (n,) or (n, T) of one head's output, reduced over all but the first axes."""
    match question.loss:
        case "mse":
            losses = jnp.square(output - target)
        case "cross_entropy":
            logarithms = jax.nn.log_softmax(output, axis=-1)
            losses = -jnp.take_along_axis(logarithms, target[..., None], axis=-1)
        case "output":
            losses = output
        case "coupled":
            raise ValueError("a loss that couples samples is none of single samples")
    losses = losses.reshape(*losses.shape[:axes], prod(losses.shape[axes:]))
    return losses.mean(axis=-1) if question.reduction == "mean" else losses.sum(axis=-1)


def _coupled(output: jax.Array, weights: jax.Array) -> jax.Array:
    """Returns the mean over outputs of the square of their sum over samples, over n."""
    count = weights.sum()
    total = jnp.tensordot(weights, output.reshape(len(output), prod(output.shape[1:])), 1)
    return jnp.square(total).mean() / jnp.where(count == 0, 1, count)


def _several(outputs: Outputs) -> tuple[jax.Array, ...]:
    return outputs if isinstance(outputs, tuple) else (outputs,)
