"""The same models and losses in both frameworks: equal gradients on random data."""

import copy
import pickle

import ml_dtypes
import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("jax")

import jax
import jax.numpy as jnp
import torch

from conformance.core.questions import GradientQuestion
from conformance.frameworks.jax import bridge as jax_bridge
from conformance.frameworks.torch import bridge as torch_bridge
from conformance.gradient_mean.jax_models import forward, loss_of
from conformance.gradient_mean.models import MODELS, SPECTROMETER, model_of
from conformance.gradient_mean.torch_models import Loss, build, tensor

CPU = torch.device("cpu")
N = 5
QUESTIONS = [
    GradientQuestion(name, ((N,),), loss, reduction)
    for name in (*MODELS, SPECTROMETER)
    for loss in ("mse", "cross_entropy", "output")
    for reduction in ("mean", "sum")
    if (name, loss) != (SPECTROMETER, "cross_entropy")  # of one class there is nothing to learn
]
# Every layer, and every loss, once.
FEWER = [
    q for q in QUESTIONS if (q.loss, q.reduction) == ("mse", "mean") or q.model == "classifier"
]
DTYPES = {"f64": "f8", "f32": "f4", "f16": "f2", "bf16": ml_dtypes.bfloat16}


@pytest.fixture(autouse=True, scope="module")
def _prepared():
    torch_bridge.prepare()
    jax_bridge.prepare()


def identity(question):
    return f"{question.model}-{question.loss}-{question.reduction}"


def made(question, dtype="f8", n=N):
    """Random parameters and buffers, inputs and targets."""
    model, random = model_of(question), np.random.default_rng(7)
    start = {f"parameter/{k}": random.normal(size=s) for k, s in model.parameters().items()}
    start |= {f"buffer/{k}": random.uniform(0.5, 2, s) for k, s in model.buffers().items()}
    start = {name: array.astype(dtype) for name, array in start.items()}
    x = random.normal(size=(n, *model.sample)).astype(dtype)
    if model.tokens:
        x = random.integers(0, 8, (n, *model.sample))
    if question.loss == "cross_entropy":
        y = tuple(random.integers(0, s[-1], (n, *s[:-1])) for s in model.outputs())
    else:
        y = tuple(random.normal(size=(n, *s)).astype(dtype) for s in model.outputs())
    return start, x, y if len(y) > 1 else y[0]


def torch_gradients(question, start, x, y):
    model = build(model_of(question), start, CPU)
    y = tuple(tensor(t, CPU) for t in y) if isinstance(y, tuple) else tensor(y, CPU)
    loss = Loss(question.loss, question.reduction)(model(tensor(x, CPU)), y)
    loss.backward()
    gradients = {
        name: torch.zeros_like(p) if p.grad is None else p.grad
        for name, p in model.named_parameters()
    }
    return loss.item(), {n: torch_bridge.values(g, "cpu") for n, g in gradients.items()}


def split(start, head):
    return {n.removeprefix(head): a for n, a in start.items() if n.startswith(head)}


def jax_gradients(question, start, x, y, weights):
    loss = loss_of(question, split(start, "buffer/"))
    params = jax.tree.map(jnp.asarray, split(start, "parameter/"))
    value, gradients = jax.jit(jax.value_and_grad(loss))(params, x, y, weights)
    return value, gradients


@pytest.mark.parametrize("question", QUESTIONS, ids=identity)
def test_both_frameworks_give_the_same_gradients(question):
    start, x, y = made(question)
    theirs, expected = torch_gradients(question, start, x, y)
    ours, given = jax_gradients(question, start, x, y, np.ones(N))
    assert ours == pytest.approx(theirs, rel=1e-12)
    assert list(expected) == list(model_of(question).parameters())
    assert any(gradient.any() for gradient in expected.values())
    for name, gradient in expected.items():
        np.testing.assert_allclose(given[name], gradient, rtol=1e-12, atol=1e-12, err_msg=name)


@pytest.mark.parametrize("question", FEWER, ids=identity)
def test_padding_takes_no_part(question):
    start, x, y = made(question)

    def padded(array):
        return np.concatenate([array, np.zeros((2, *array.shape[1:]), array.dtype)])

    weights = np.ones(N)
    plain = jax_gradients(question, start, x, y, weights)
    with_padding = jax_gradients(
        question, start, padded(x), jax.tree.map(padded, y), padded(weights)
    )
    for a, b in zip(jax.tree.leaves(plain), jax.tree.leaves(with_padding), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("question", FEWER, ids=identity)
@pytest.mark.parametrize("n", [0, 3])
def test_of_no_samples_the_gradient_is_zero(question, n):
    start, x, y = made(question, n=n)
    loss, gradients = jax_gradients(question, start, x, y, np.zeros(n))
    assert loss == 0
    assert not any(np.any(gradient) for gradient in gradients.values())
    model = model_of(question)
    if n == 0 and not (model.buffers() and model.training):  # torch has no statistics of nothing
        _, gradients = torch_gradients(question, start, x, y)
        assert not any(gradient.any() for gradient in gradients.values())


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", MODELS)
def test_nothing_leaves_the_dtype(name, dtype):
    question = GradientQuestion(name, ((N,),))
    start, x, y = made(question, DTYPES[dtype])
    _, expected = torch_gradients(question, start, x, y)
    buffers, params = split(start, "buffer/"), split(start, "parameter/")
    # Dtypes are known without compiling anything; the weights are of another one.
    value, given = jax.eval_shape(
        jax.value_and_grad(loss_of(question, buffers)), params, x, y, np.ones(N)
    )
    assert value.dtype == np.dtype(DTYPES[dtype])
    for gradient in (*given.values(), *expected.values()):
        assert gradient.dtype == np.dtype(DTYPES[dtype])
    outputs = jax.eval_shape(
        lambda params, x, weights: forward(model_of(question), params, buffers, x, weights),
        params, x, np.ones(N, DTYPES[dtype]),
    )  # fmt: skip
    assert all(output.dtype == np.dtype(DTYPES[dtype]) for output in jax.tree.leaves(outputs))


@pytest.mark.parametrize("name", MODELS)
def test_a_torch_model_is_as_the_plan_says(name):
    plan = MODELS[name]
    start, x, _ = made(GradientQuestion(name, ((N,),)))
    model = build(plan, start, CPU)
    assert {n: tuple(p.shape) for n, p in model.named_parameters()} == plan.parameters()
    assert {n for n, p in model.named_parameters() if not p.requires_grad} == set(plan.frozen)
    assert model.training == plan.training
    x = tensor(x, CPU)
    outputs = model(x)
    shapes = [outputs] if isinstance(outputs, torch.Tensor) else outputs
    assert tuple(tuple(o.shape[1:]) for o in shapes) == plan.outputs()
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert [n for n, _ in twin.named_parameters()] == list(plan.parameters())
        torch.testing.assert_close(twin(x), model(x), rtol=0, atol=0)
    state = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    called = torch.func.functional_call(model, {n: t.clone() for n, t in state.items()}, (x,))
    torch.testing.assert_close(called, outputs, rtol=0, atol=0)


def test_a_tied_weight_is_one_parameter():
    start, *_ = made(GradientQuestion("tied", ((N,),)))
    model = copy.deepcopy(build(MODELS["tied"], start, CPU))
    assert model.logits.weight is model.words.weight


def test_where_maxima_are_equal_the_first_gets_the_gradient():
    x = np.zeros((1, 2, 5, 5))
    question = GradientQuestion("max_pool", ((1,),), "output", "sum")
    start, *_ = made(question)
    start["parameter/plain.weight"][:] = 0
    y = np.zeros((1, 2))
    _, expected = torch_gradients(question, start, x + np.arange(25.0).reshape(5, 5), y)
    _, given = jax_gradients(question, start, x + np.arange(25.0).reshape(5, 5), y, np.ones(1))
    np.testing.assert_allclose(
        given["plain.weight"], expected["plain.weight"], rtol=1e-12, atol=1e-12
    )
