"""Whole layers as frameworks compute them, against `conformance.gradient_mean.layers`.

Every function is a rule as those of `tests.arithmetic.rules` are.
"""

from fractions import Fraction

import numpy as np

from conformance.core.questions import GradientQuestion
from conformance.gradient_mean.definition import loss_cotangent
from conformance.gradient_mean.layers import forward
from conformance.gradient_mean.models import EPSILON, Layer
from tests.arithmetic.machines import Rounding, drawn
from tests.arithmetic.norms import STATISTICS, cotangents, weight_gradient
from tests.arithmetic.rules import TRIALS, affine
from tests.arithmetic.sums import dotted, quotient, summed


def _state(n, layer, **values):
    return {f"{layer.name}.{role}": n.exactly(array) for role, array in values.items()}


def _enter(machine, rows):
    return [machine.enter(row) for row in rows]


def _wide(machine, value):
    """Enters one number for all trials."""
    return machine.enter(np.full(TRIALS, float(value)))


def linear(machine, rng):
    """A large bias, and products that cancel."""
    terms = int(rng.integers(1, 12))
    x, w = drawn(rng, (terms, TRIALS), machine.dtype), drawn(rng, (terms,), machine.dtype)
    bias = drawn(rng, (1,), machine.dtype) * 2.0 ** rng.integers(-2, 6)
    pairs = [(machine.enter(row), _wide(machine, weight)) for row, weight in zip(x, w, strict=True)]
    result = dotted(machine, pairs, rng, [_wide(machine, bias[0])])
    layer = Layer("linear", "it", (1, terms), bias=True)

    def formula(n):
        state = _state(n, layer, weight=w[None], bias=bias)
        y, _ = forward(n, layer, state, n.exactly(x.T), training=True)
        return n.moved(y, lambda v: v[:, 0])

    return result, formula


def linear_gradients(machine, rng):
    """dW over the rows, db, or dx over the outputs."""
    rows, outputs = int(rng.integers(1, 8)), int(rng.integers(1, 8))
    x, w = drawn(rng, (rows, TRIALS), machine.dtype), drawn(rng, (outputs, TRIALS), machine.dtype)
    dy = drawn(rng, (rows, outputs), machine.dtype)
    layer = Layer("linear", "it", (outputs, TRIALS), bias=True)
    which = rng.choice(["weight", "x"])
    if which == "weight":
        pairs = [(machine.enter(row), _wide(machine, d[0])) for row, d in zip(x, dy, strict=True)]
    else:
        pairs = [(machine.enter(row), _wide(machine, d)) for row, d in zip(w, dy[0], strict=True)]
    result = dotted(machine, pairs, rng)

    def formula(n):
        state = _state(n, layer, weight=w, bias=np.zeros(outputs))
        _, pull = forward(n, layer, state, n.exactly(x), training=True)
        dx, gradients = pull(n.exactly(dy))
        wanted = gradients["it.weight"] if which == "weight" else dx
        return n.moved(wanted, lambda v: v[0])

    return result, formula


def conv2d(machine, rng):
    """One place of a padded, grouped convolution with a bias."""
    channels = int(rng.integers(1, 3))
    x = drawn(rng, (TRIALS, 2 * channels, 3, 3), machine.dtype)
    w = drawn(rng, (2, channels, 2, 2), machine.dtype)
    bias = drawn(rng, (2,), machine.dtype) * 2.0 ** rng.integers(-2, 6)
    h, v = (int(i) for i in rng.integers(0, 4, size=2))
    padded = np.pad(x, [(0, 0), (0, 0), (1, 1), (1, 1)])[:, channels:, h : h + 2, v : v + 2]
    places = list(np.ndindex(channels, 2, 2))
    if rng.integers(2):  # Some kernels leave the padding out.
        places = [p for p in places if padded[(0, *p)] != 0] or places
    pairs = [(machine.enter(padded[(slice(None), *p)]), _wide(machine, w[(1, *p)])) for p in places]
    result = dotted(machine, pairs, rng, [_wide(machine, bias[1])])
    layer = Layer("conv2d", "it", w.shape, bias=True, groups=2, padding=1)

    def formula(n):
        state = _state(n, layer, weight=w, bias=bias)
        y, _ = forward(n, layer, state, n.exactly(x), training=True)
        return n.moved(y, lambda values: values[:, 1, h, v])

    return result, formula


def conv2d_weight_gradient(machine, rng):
    """A sum over samples and places in one pass."""
    x = drawn(rng, (2, TRIALS, 3, 3), machine.dtype)
    dy = drawn(rng, (2, 1, 2, 2), machine.dtype)
    pairs = [
        (machine.enter(x[s, :, h : h + 1, v : v + 1].reshape(-1)), _wide(machine, dy[s, 0, h, v]))
        for s, h, v in np.ndindex(2, 2, 2)
    ]
    result = dotted(machine, pairs, rng)
    layer = Layer("conv2d", "it", (1, TRIALS, 2, 2), bias=True)

    def formula(n):
        state = _state(n, layer, weight=np.ones(layer.weight), bias=np.zeros(1))
        _, pull = forward(n, layer, state, n.exactly(x), training=True)
        return n.moved(pull(n.exactly(dy))[1]["it.weight"], lambda v: v[0, :, 0, 0])

    return result, formula


def _norm_data(machine, rng, samples):
    """Values whose mean is up to 64 times what they spread; half of them are not centred at all."""
    x = rng.normal(size=(samples, TRIALS))
    if rng.integers(2):
        x = x + rng.choice([-1, 1]) * 2.0 ** rng.integers(0, 7 if machine.dtype[-2:] != "16" else 3)
    x = Rounding(machine.dtype).round(x)
    return x, *(drawn(rng, (TRIALS,), machine.dtype) for _ in range(2))


def _statistics(machine, nodes, rng):
    mean, variance = STATISTICS[rng.integers(len(STATISTICS))](machine, nodes, rng)
    shifted = machine.add(variance, _wide(machine, EPSILON))
    root = machine.div(_wide(machine, 1), machine.sqrt(shifted))
    return machine.mul(mean, _wide(machine, -1)), root


def batch_norm(machine, rng):
    """In training: statistics in one pass, in two, or Welford's; affine maps of every kind."""
    samples = int(rng.integers(2, 9))
    x, w, b = _norm_data(machine, rng, samples)
    nodes = _enter(machine, x)
    minus_mean, root = _statistics(machine, nodes, rng)
    result = affine(machine, nodes[0], minus_mean, root, *_enter(machine, (w, b)), rng)
    layer = Layer("batch_norm", "it", (TRIALS,), bias=True)

    def formula(n):
        y, _ = forward(n, layer, _state(n, layer, weight=w, bias=b), n.exactly(x), training=True)
        return n.moved(y, lambda v: v[0])

    return result, formula


def batch_norm_gradients(machine, rng):
    """By x or by the weight, as one derives it by hand, or as automatic differentiation does."""
    samples = int(rng.integers(2, 9))
    x, w, b = _norm_data(machine, rng, samples)
    dy = drawn(rng, (samples, TRIALS), machine.dtype)
    nodes, slopes = _enter(machine, x), _enter(machine, dy)
    minus_mean, root = _statistics(machine, nodes, rng)
    by_weight = bool(rng.integers(2))
    if by_weight:
        result = weight_gradient(machine, nodes, slopes, minus_mean, root, rng)
    else:
        weights = [machine.enter(w)] * samples
        result = cotangents(machine, nodes, slopes, weights, minus_mean, root, rng)
    layer = Layer("batch_norm", "it", (TRIALS,), bias=True)

    def formula(n):
        state = _state(n, layer, weight=w, bias=b)
        _, pull = forward(n, layer, state, n.exactly(x), training=True)
        dx, gradients = pull(n.exactly(dy))
        return gradients["it.weight"] if by_weight else n.moved(dx, lambda v: v[0])

    return result, formula


def layer_norm(machine, rng):
    """Forward or backward; the trials are the samples."""
    features = int(rng.integers(2, 9))
    x, *_ = _norm_data(machine, rng, features)
    w, b = (drawn(rng, (features,), machine.dtype) for _ in range(2))
    dy = drawn(rng, (features, TRIALS), machine.dtype)
    nodes, slopes = _enter(machine, x), _enter(machine, dy)
    weights = [_wide(machine, weight) for weight in w]
    minus_mean, root = _statistics(machine, nodes, rng)
    is_forward = bool(rng.integers(2))
    if is_forward:
        result = affine(machine, nodes[0], minus_mean, root, weights[0], _wide(machine, b[0]), rng)
    else:
        result = cotangents(machine, nodes, slopes, weights, minus_mean, root, rng)
    layer = Layer("layer_norm", "it", (features,), bias=True)

    def formula(n):
        state = _state(n, layer, weight=w, bias=b)
        y, pull = forward(n, layer, state, n.exactly(x.T), training=True)
        chosen = y if is_forward else pull(n.exactly(dy.T))[0]
        return n.moved(chosen, lambda v: v[:, 0])

    return result, formula


def folded_batch_norm(machine, rng):
    """A linear layer and a batch norm in evaluation, one after the other or as one linear layer."""
    terms = int(rng.integers(1, 6))
    x, w = drawn(rng, (terms, TRIALS), machine.dtype), drawn(rng, (terms,), machine.dtype)
    bias, mean, weight, shift = (drawn(rng, (1,), machine.dtype) for _ in range(4))
    variance = Rounding(machine.dtype).round(rng.uniform(0.5, 4, size=(1,)))
    bias_node, minus_mean, scale, beta, eps, var = (
        _wide(machine, v) for v in (bias[0], -mean[0], weight[0], shift[0], EPSILON, variance[0])
    )
    root = machine.div(_wide(machine, 1), machine.sqrt(machine.add(var, eps)))
    factors = [_wide(machine, v) for v in w]
    rows = _enter(machine, x)
    if rng.integers(2):
        y = dotted(machine, list(zip(rows, factors, strict=True)), rng, [bias_node])
        result = affine(machine, y, minus_mean, root, scale, beta, rng)
    else:
        by = machine.mul(root, scale)
        folded = [machine.mul(by, factor) for factor in factors]
        start = affine(machine, bias_node, minus_mean, root, scale, beta, rng)
        result = dotted(machine, list(zip(rows, folded, strict=True)), rng, [start])
    first = Layer("linear", "first", (1, terms), bias=True)
    layer = Layer("batch_norm", "it", (1,), bias=True)

    def formula(n):
        state = _state(n, first, weight=w[None], bias=bias) | _state(
            n, layer, weight=weight, bias=shift, running_mean=mean, running_var=variance
        )
        y, _ = forward(n, first, state, n.exactly(x.T), training=False)
        y, _ = forward(n, layer, state, y, training=False)
        return n.moved(y, lambda v: v[:, 0])

    return result, formula


def cross_entropy(machine, rng):
    """softmax − one-hot, times 1/n: by a division, or by exp of a difference of logarithms."""
    classes, count = int(rng.integers(2, 9)), int(rng.integers(1, 8))
    y = drawn(rng, (classes, TRIALS), machine.dtype)
    if rng.integers(2):
        y = Rounding(machine.dtype).round(y + rng.choice([-1, 1]) * 2.0 ** rng.integers(0, 6))
    is_target = bool(rng.integers(2))
    m, nodes = machine, _enter(machine, y)
    minus_most = m.enter(-y.max(axis=0))
    shifted = [m.add(node, minus_most) for node in nodes]
    total = summed(m, [m.exp(node) for node in shifted], rng)
    way = rng.integers(5 if np.abs(y).max() < 8 else 4)  # Without a shift others overflow.
    if way == 0:
        softmax = m.div(m.exp(shifted[0]), total)
    elif way == 1:
        softmax = m.mul(m.exp(shifted[0]), m.div(_wide(m, 1), total))
    elif way == 2:
        softmax = m.exp(m.add(shifted[0], m.mul(m.log(total), _wide(m, -1))))
    elif way == 3:
        largest = m.enter(y.max(axis=0))
        normaliser = m.add(largest, m.log(total))
        softmax = m.exp(m.add(nodes[0], m.mul(normaliser, _wide(m, -1))))
    else:
        softmax = m.div(m.exp(nodes[0]), summed(m, [m.exp(node) for node in nodes], rng))
    one_hot = _wide(m, -1.0 * is_target)
    if rng.integers(2):
        result = quotient(m, m.add(softmax, one_hot), 1, count, rng)
    else:
        result = m.add(quotient(m, softmax, 1, count, rng), quotient(m, one_hot, 1, count, rng))
    targets = np.full(TRIALS, 0 if is_target else 1)
    question = GradientQuestion("classifier", ((count,),), loss="cross_entropy")

    def formula(n):
        dy = loss_cotangent(n, question, n.exactly(y.T), targets, (classes,), Fraction(1, count))
        return n.moved(dy, lambda v: v[:, 0])

    return result, formula


LAYERS = (
    linear,
    linear_gradients,
    conv2d,
    conv2d_weight_gradient,
    batch_norm,
    batch_norm_gradients,
    layer_norm,
    folded_batch_norm,
    cross_entropy,
)
