from fractions import Fraction

import numpy as np
import pytest

from conformance.arithmetic import Plain
from conformance.arithmetic.ball import Ball
from conformance.core.questions import GradientQuestion
from conformance.gradient_mean import definition as gradient_mean
from conformance.gradient_mean import inputs as drawing
from conformance.gradient_mean.cases import families
from conformance.gradient_mean.models import MODELS, model_of
from conformance.gradient_mean.step_cases import families as step_families
from conformance.subjects import solve

CASES = (*families(), *step_families())
# Data that rounds, of every model: nothing is zero at a ReLU, and nothing equal at a max.
ROUNDING = {
    model: GradientQuestion(model, ((2, 3),), dtype="f64", tier="bounded") for model in MODELS
}


def with_models():
    return pytest.mark.parametrize("model", MODELS)


def gradients(question, inputs, promise, numbers=None):
    return gradient_mean.averaged(numbers or Plain(), question, inputs, promise)


@with_models()
def test_pullbacks_are_the_central_differences_of_the_outputs(model):
    """In 256 bits with a step of 2^-60, whose error is below 2^-100."""
    question, numbers = ROUNDING[model], Ball()
    inputs = drawing.inputs(question)
    spec = model_of(question)
    state, x = gradient_mean.state_of(numbers, inputs), inputs["inputs/0"]
    outputs, pull = gradient_mean.outputs_of(numbers, spec, state, x)
    weights = [
        numbers.exactly(np.linspace(-1, 1, output.size).reshape(output.shape).round(3))
        for output in outputs
    ]
    _, found = pull(tuple(weights))
    step = Fraction(1, 2**60)

    def weighed(name, index, sign):
        moved = dict(state)
        moved[name] = state[name].copy()
        moved[name][index] = moved[name][index] + sign * 2.0**-60
        ys, _ = gradient_mean.outputs_of(numbers, spec, moved, x)
        return sum(np.sum(y * w) for y, w in zip(ys, weights, strict=True))

    for name, gradient in found.items():
        for index in {(0,) * gradient.ndim, tuple(size - 1 for size in gradient.shape)}:
            difference = (weighed(name, index, 1) - weighed(name, index, -1)) / float(2 * step)
            assert abs(float(difference - gradient[index])) < 2.0**-100, (name, index)


@pytest.mark.parametrize(
    ("model", "loss"),
    [(model, "mse") for model in MODELS]
    + [(model, "cross_entropy") for model in ("linear", "mlp", "classifier", "layer_norm")],
)
def test_gradients_are_those_of_torch_in_float64(model, loss):
    torch = pytest.importorskip("torch")
    from conformance.gradient_mean.torch_models import build

    question = GradientQuestion(model, ((5,),), loss=loss, dtype="f64", tier="bounded")
    inputs = drawing.inputs(question)
    spec = model_of(question)
    start = {n: a for n, a in inputs.items() if n.startswith(("parameter/", "buffer/"))}
    module = build(spec, start, torch.device("cpu"))
    targets = [torch.tensor(inputs[n]) for n in gradient_mean.target_names(spec, 0)]
    outputs = module(torch.tensor(inputs["inputs/0"]))
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    functions = {
        "mse": torch.nn.functional.mse_loss,
        "cross_entropy": torch.nn.functional.cross_entropy,
    }
    sum(functions[loss](y, t) for y, t in zip(outputs, targets, strict=True)).backward()
    mine = gradients(question, inputs, "sample_mean")
    for name, parameter in module.named_parameters():
        theirs = np.zeros(parameter.shape) if parameter.grad is None else parameter.grad.numpy()
        np.testing.assert_allclose(mine[name], theirs, rtol=1e-12, atol=1e-14)


def test_equal_shards_give_the_mean_of_samples():
    question = GradientQuestion("mlp", ((2, 2, 2, 2),))
    inputs = drawing.inputs(question)
    means = [gradients(question, inputs, promise) for promise in ("rank_mean", "sample_mean")]
    assert all(np.array_equal(means[0][name], means[1][name]) for name in means[0])


def test_unequal_shards_give_the_mean_of_means():
    question = GradientQuestion("linear", ((1, 3, 4),), tier="bounded")
    inputs = drawing.inputs(question)
    state = gradient_mean.state_of(Plain(), inputs)
    one, three, four = (
        gradient_mean.gradient(Plain(), question, inputs, state, (0, part))
        for part in (slice(0, 1), slice(1, 4), slice(4, 8))
    )
    ranks, samples = (gradients(question, inputs, p) for p in ("rank_mean", "sample_mean"))
    for name in ranks:
        g1, g3, g4 = one[name], three[name], four[name]
        np.testing.assert_allclose(ranks[name], (g1 + g3 + g4) / 3, rtol=1e-12)
        np.testing.assert_allclose(samples[name], (g1 + 3 * g3 + 4 * g4) / 8, rtol=1e-12)
    assert any(not np.allclose(ranks[name], samples[name]) for name in ranks)


def test_a_rank_without_samples_counts_as_zero():
    question = GradientQuestion("linear", ((2, 0),))
    inputs = drawing.inputs(question)
    sums, means = (gradients(question, inputs, p) for p in ("rank_sum", "rank_mean"))
    assert all(np.array_equal(sums[name], 2 * means[name]) for name in sums)


def test_the_spectrometer_reads_the_weight_of_every_sample():
    question = GradientQuestion("spectrometer", ((1, 3), (2, 2)), "output", tier="bounded")
    ((_, weights),) = gradients(question, drawing.inputs(question), "rank_mean").items()
    sixth, quarter = 1 / 6, 1 / 4
    np.testing.assert_allclose(
        weights, [[1 / 2, sixth, sixth, sixth, quarter, quarter, quarter, quarter]]
    )


TOKENS = GradientQuestion(
    "tokens",
    ((1, 2), (2, 2)),
    loss="cross_entropy",
    dtype="f64",
    tier="bounded",
    counts=((3, 1.5), (0, 7)),
    items="tokens",
    fractions=True,
)


def test_a_step_mean_is_the_weighted_mean_of_everything_at_once():
    torch = pytest.importorskip("torch")
    from conformance.gradient_mean.torch_models import build

    inputs = drawing.inputs(TOKENS, ("step_mean",))
    start = {n: a for n, a in inputs.items() if n.startswith("parameter/")}
    module = build(model_of(TOKENS), start, torch.device("cpu"))
    x, y, w = (
        torch.cat([torch.tensor(inputs[f"{part}/{k}"]) for k in range(2)])
        for part in ("inputs", "targets", "weights")
    )
    losses = torch.nn.functional.cross_entropy(module(x).mT, y, reduction="none")
    ((w * losses).sum() / w.sum()).backward()
    mine = gradients(TOKENS, inputs, "step_mean")
    for name, parameter in module.named_parameters():
        np.testing.assert_allclose(mine[name], parameter.grad.numpy(), rtol=1e-12, atol=1e-14)


def test_weights_have_the_counts_that_are_asked_for():
    inputs = drawing.inputs(TOKENS, ("step_mean",))
    sums = [
        [inputs[f"weights/{k}"][rows].sum() for rows in (slice(0, n), slice(n, None))]
        for k, (n, _) in enumerate(TOKENS.shards)
    ]
    assert sums == [[3, 1.5], [0, 7]]
    assert {0, 0.25, 0.5, 0.75, 1} >= set(np.concatenate([inputs["weights/0"].ravel()]).tolist())


def test_a_micro_mean_is_a_kth_of_the_sum():
    question = GradientQuestion("linear", ((1, 2), (2, 1), (1, 1)), tier="bounded")
    inputs = drawing.inputs(question)
    for promise in ("rank_mean", "sample_mean", "rank_sum"):
        added, averaged = (gradients(question, inputs, p) for p in (promise, f"micro_{promise}"))
        for name in added:
            np.testing.assert_allclose(averaged[name] * 3, added[name], rtol=1e-12)


def test_what_is_frozen_or_unused_has_zero():
    for model, names in (("frozen", MODELS["frozen"].frozen), ("unused", ("idle.weight",))):
        question = GradientQuestion(model, ((2,),))
        found = gradients(question, drawing.inputs(question), "rank_mean")
        assert all(not found[name].any() for name in names)


@pytest.mark.parametrize(
    "case", [c for c in CASES if c.question.tier == "exact"], ids=lambda c: c.name
)
def test_exact_cases_are_certified(case):
    solved = solve(case)
    bits = {"f64": 53, "f32": 24, "f16": 11, "bf16": 8}[case.question.dtype]
    assert solved.certificate is not None
    assert solved.certificate["sums"] <= bits + 1
    assert solved.certificate["nonzero"] >= drawing.NONZERO
    assert not solved.bounds


@pytest.mark.parametrize(
    "case", [c for c in CASES if c.question.tier == "bounded"], ids=lambda c: c.name
)
def test_bounds_are_small_beside_the_answers_and_never_zero(case):
    solved = solve(case)
    for name, bound in solved.bounds.items():
        right = np.abs(solved.answers[name].astype(np.float64))
        if solved.answers[name].dtype.kind == "b":  # nothing may be off
            assert not bound.any()
            continue
        assert (bound > 0)[right > 0].all()  # a word that only masked tokens have has 0 exactly
        assert bound.max() < 1e-3 * right.max(), name
