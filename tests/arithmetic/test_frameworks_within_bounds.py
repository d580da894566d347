"""What torch and JAX compute of biased and normalised layers is inside the layers' bounds."""

from fractions import Fraction

import ml_dtypes
import numpy as np
import pytest

from conformance.arithmetic.running import Running
from conformance.core.questions import GradientQuestion
from conformance.gradient_mean.definition import loss_cotangent
from conformance.gradient_mean.layers import forward
from conformance.gradient_mean.models import EPSILON, Layer, Model

CARRIERS = {"f32": np.float32, "bf16": ml_dtypes.bfloat16}
# Of long sums of bfloat16 no digit is certain: then there is no bound, and nothing is claimed.
BOTH, WIDE = ("f32", "bf16"), ("f32",)
LAYERS = {
    "linear": (Layer("linear", "it", (64, 300), bias=True), (17, 300), WIDE),
    "narrow": (Layer("linear", "it", (3, 5), bias=True), (64, 5), BOTH),
    "conv2d": (Layer("conv2d", "it", (16, 8, 3, 3), bias=True, padding=1), (2, 8, 9, 9), WIDE),
    "many": (Layer("conv2d", "it", (8, 8, 3, 3), bias=True, padding=1), (16, 8, 8, 8), WIDE),
    "pointwise": (Layer("conv2d", "it", (24, 32, 1, 1), bias=True), (4, 32, 5, 5), BOTH),
    "grouped": (
        Layer("conv2d", "it", (12, 4, 3, 3), bias=True, groups=3, padding=1),
        (3, 12, 6, 6),
        BOTH,
    ),
    "depthwise": (Layer("conv2d", "it", (16, 1, 3, 3), bias=True, groups=16), (2, 16, 8, 8), BOTH),
    "batch-norm": (Layer("batch_norm", "it", (24,), bias=True), (48, 24), WIDE),
    "batch-norm-of-four": (Layer("batch_norm", "it", (24,), bias=True), (4, 24), BOTH),
    "layer-norm": (Layer("layer_norm", "it", (40,), bias=True), (24, 40), WIDE),
    "layer-norm-of-four": (Layer("layer_norm", "it", (4,), bias=True), (24, 4), BOTH),
}
ASKED = [(name, dtype) for name, (*_, dtypes) in LAYERS.items() for dtype in dtypes]


def drawn(layer, shape, dtype, seed):
    """Returns x, dy, weight and bias: a large bias, products that cancel, a mean far from zero."""
    rng = np.random.default_rng(seed)
    is_norm = layer.kind.endswith("norm")
    y_shape = {"linear": (*shape[:-1], layer.weight[0])}.get(layer.kind, shape)
    if layer.kind == "conv2d":
        side = shape[2] + 2 * layer.padding - layer.weight[2] + 1
        y_shape = (shape[0], layer.weight[0], side, side)
    wide = (
        rng.normal(size=shape) + is_norm * (0 if dtype == "bf16" else 32 * seed),
        rng.normal(size=y_shape),
        rng.normal(size=layer.weight),
        rng.normal(size=layer.weight[:1]) * (1 if is_norm else 64),
    )
    return [values.astype(CARRIERS[dtype]) for values in wide]


def by_torch(layer, draws):
    torch = pytest.importorskip("torch")
    import torch.nn.functional as F

    from conformance.gradient_mean.torch_models import tensor

    cpu = torch.device("cpu")
    for inputs, dy, weight, bias in draws:
        x, w, b = (tensor(v, cpu).clone().requires_grad_() for v in (inputs, weight, bias))
        match layer.kind:
            case "linear":
                y = F.linear(x, w, b)
            case "conv2d":
                y = F.conv2d(x, w, b, padding=layer.padding, groups=layer.groups)
            case "batch_norm":
                y = F.batch_norm(x, None, None, w, b, training=True, eps=EPSILON)
            case "layer_norm":
                y = F.layer_norm(x, layer.weight, w, b, eps=EPSILON)
        y.backward(tensor(dy, cpu))
        yield [v.detach().double().numpy() for v in (y, x.grad, w.grad, b.grad)]


def by_jax(layer, draws):
    jax = pytest.importorskip("jax")
    import jax.numpy as jnp

    from conformance.gradient_mean.jax_models import forward as compute

    model = Model("", draws[0][0].shape[1:], (layer,))

    @jax.jit
    def both(x, dy, w, b):
        def computed(x, w, b):
            params = {"it.weight": w, "it.bias": b}
            return compute(model, params, {}, x, jnp.ones(len(x), x.dtype))

        y, pull = jax.vjp(computed, x, w, b)
        return y, *pull(dy)

    for arrays in draws:
        yield [np.asarray(v).astype(np.float64) for v in both(*map(jnp.asarray, arrays))]


def bounded(layer, dtype, x, dy, weight, bias):
    numbers = Running(dtype)
    state = {"it.weight": numbers.exactly(weight), "it.bias": numbers.exactly(bias)}
    y, pull = forward(numbers, layer, state, numbers.exactly(x), training=True)
    dx, gradients = pull(numbers.exactly(dy))
    return y, dx, gradients["it.weight"], gradients["it.bias"]


@pytest.mark.parametrize(("name", "dtype"), ASKED)
@pytest.mark.parametrize("framework", [by_torch, by_jax])
def test_a_layer_of_a_framework_is_within_its_bounds(framework, name, dtype):
    layer, shape, _ = LAYERS[name]
    draws = [drawn(layer, shape, dtype, seed) for seed in range(2)]
    for arrays, answers in zip(draws, framework(layer, draws), strict=True):
        bounds = bounded(layer, dtype, *arrays)
        for what, answer, bound in zip(("y", "dx", "dw", "db"), answers, bounds, strict=True):
            off = np.abs(answer - bound.value)
            worst = np.max(np.where(off == 0, 0, off / bound.error))
            assert worst <= 1, (what, worst)


@pytest.mark.parametrize("dtype", ["f32", "bf16"])
@pytest.mark.parametrize("framework", ["torch", "jax"])
def test_the_cotangent_of_a_cross_entropy_is_within_its_bound(framework, dtype):
    rng = np.random.default_rng(0)
    targets = rng.integers(0, 50, size=24)
    question = GradientQuestion("classifier", ((24,),), loss="cross_entropy")
    numbers, share = Running(dtype), Fraction(1, 24)
    for scale, shift in ((1, 0), (8, 0), (1, 30)):
        logits = (scale * rng.normal(size=(24, 50)) + shift).astype(CARRIERS[dtype])
        answer = by_cross_entropy(framework, logits, targets)
        bound = loss_cotangent(numbers, question, numbers.exactly(logits), targets, (50,), share)
        assert (np.abs(answer - bound.value) <= bound.error).all()


def by_cross_entropy(framework, logits, targets):
    if framework == "torch":
        torch = pytest.importorskip("torch")
        from conformance.gradient_mean.torch_models import tensor

        x = tensor(logits, torch.device("cpu")).clone().requires_grad_()
        torch.nn.functional.cross_entropy(x, torch.tensor(targets)).backward()
        return x.grad.double().numpy()
    jax = pytest.importorskip("jax")

    def loss(x):
        logarithms = jax.nn.log_softmax(x, axis=-1)
        return -jax.numpy.take_along_axis(logarithms, targets[:, None], axis=-1).mean()

    return np.asarray(jax.jit(jax.grad(loss))(jax.numpy.asarray(logits))).astype(np.float64)
