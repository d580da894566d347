"""The parameters of a probe after a step are the weights, and its log says whose they are."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

import conformance
from conformance.weighing.probe_log import Fed, Stepped, rank_steps

LOSSES = ("cross_entropy", "mse", "next_token")
torch.manual_seed(0)


def batches(probe, size):
    for batch in DataLoader(probe.dataset, size):
        yield (batch["input_ids"], batch["labels"]) if isinstance(batch, dict) else batch


def train(probe, size=6, accumulate=1, model=None, make=torch.optim.SGD, **options):
    """Train for one epoch, and divide each loss by K."""
    model = probe.model if model is None else model
    optimizer = make(model.parameters(), **{"lr": 1.0, **options})
    loader = list(batches(probe, size))
    for k, (x, y) in enumerate(loader, 1):
        (probe.loss(model(x), y) / accumulate).backward()
        if k % accumulate == 0 or k == len(loader):
            optimizer.step()
            optimizer.zero_grad()


@pytest.mark.parametrize("loss", LOSSES)
def test_one_step_over_everything_is_one_mean(loss):
    probe = conformance.probe("torch", items=24, loss=loss)
    train(probe, size=24)
    weights = probe.read(probe.model)
    assert weights.values.shape == (24,)
    assert weights.formula == "1/N"
    assert set(weights.fractions) == {Fraction(1, 24)}
    weights.verify("step_mean")


@pytest.mark.parametrize("loss", LOSSES)
def test_the_parameters_alone_are_the_weights(loss):
    probe = conformance.probe("torch", items=6, loss=loss)
    train(probe, size=6)
    table = probe.model.rows.weight.detach()[1:, 0].numpy()
    np.testing.assert_allclose(-table / 512, 1 / 6, rtol=1e-6)


def test_micro_batches_and_a_short_window_are_told_apart():
    probe = conformance.probe("torch", items=25, loss="next_token")
    train(probe, size=2, accumulate=3)
    seen = probe.trace()
    assert seen.micro_batches == 3
    assert str(seen.reading(seen.full)) == "1/(K·n_k)"
    assert str(seen.reading(seen.last)) == "1/(K_full·n_k)"
    with pytest.raises(AssertionError, match="short-window-divided-by-k"):
        seen.weights.verify("1/(K*n)")


@pytest.mark.parametrize("make", [torch.optim.AdamW, torch.optim.Adagrad])
def test_the_gradient_is_read_where_parameters_do_not_move_by_it(make):
    probe = conformance.probe("torch", items=24, loss="next_token")
    train(probe, size=3, make=make)
    probe.read().verify("1/n")


def test_several_steps_stay_exact():
    probe = conformance.probe("torch", items=9)
    for _ in range(3):
        train(probe, size=4, lr=0.25)
    weights = probe.read()
    assert weights.values.shape == (27,)
    assert set(weights.fractions) == {Fraction(1, 4), Fraction(1)}


def test_repeated_and_dropped_samples_are_told():
    probe = conformance.probe("torch", items=6)
    optimizer = torch.optim.SGD(probe.model.parameters(), lr=1.0)
    for indices in ([0, 1], [2, 3], [3, 4]):
        x, y = (
            torch.stack(part) for part in zip(*map(probe.dataset.__getitem__, indices), strict=True)
        )
        probe.loss(probe.model(x), y).backward()
        optimizer.step()
        optimizer.zero_grad()
    seen = probe.trace()
    assert seen.repeated == {3: 2}
    assert seen.dropped == (5,)
    assert seen.weights.is_item.sum() == 6
    seen.weights.verify("step_mean")


def test_an_item_twice_in_one_step_counts_as_its_neighbours_do():
    probe = conformance.probe("torch", items=3)
    x, y = torch.tensor([1, 2, 3, 3]), torch.zeros(4, dtype=int)
    optimizer = torch.optim.SGD(probe.model.parameters(), lr=1.0)
    (
        probe.loss(probe.model(x[:3]), y[:3]) / 2 + probe.loss(probe.model(x[2:]), y[2:]) / 2
    ).backward()
    optimizer.step()
    weights = probe.read()
    assert not np.isfinite(weights.low).all()
    with pytest.raises(AssertionError, match="not-exercised"):
        weights.verify("step_mean")


def test_forward_passes_without_a_backward_pass_are_no_micro_batches():
    probe = conformance.probe("torch", items=8)
    probe.model(torch.tensor([1, 2]))
    train(probe, size=4)
    with torch.no_grad():
        probe.model(torch.tensor([3, 4]))
    assert probe.trace().micro_batches == 1
    assert not probe.trace().repeated


@pytest.mark.parametrize("reentrant", [False, True])
def test_recomputed_activations_are_fed_once(reentrant):
    probe = conformance.probe("torch", items=8)
    enter = torch.zeros((), requires_grad=True)  # without it a reentrant checkpoint has no gradient
    optimizer = torch.optim.SGD(probe.model.parameters(), lr=1.0)
    for x, y in batches(probe, 4):
        again = torch.utils.checkpoint.checkpoint(
            lambda enter, x=x: probe.model(x) + 0 * enter, enter, use_reentrant=reentrant
        )
        probe.loss(again, y).backward()
        optimizer.step()
        optimizer.zero_grad()
    assert not probe.trace().repeated
    probe.read().verify("1/n")


def test_a_clip_that_nobody_asked_for_is_named():
    probe = conformance.probe("torch", items=20)
    optimizer = torch.optim.SGD(probe.model.parameters(), lr=1.0)
    for x, y in batches(probe, 8):
        probe.loss(probe.model(x), y).backward()
        torch.nn.utils.clip_grad_norm_(probe.model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    with pytest.raises(AssertionError, match=r"clipped-unasked: .* norm of just 1"):
        probe.read().verify("1/n")


def test_a_gradient_that_is_not_cleared_is_stale():
    probe = conformance.probe("torch", items=8)
    optimizer = torch.optim.SGD(probe.model.parameters(), lr=1.0)
    for x, y in batches(probe, 4):
        probe.loss(probe.model(x), y).backward()
        optimizer.step()
    with pytest.raises(AssertionError, match="stale-gradient"):
        probe.read().verify("1/n")


def test_a_factor_of_the_loss_is_told_and_no_clip():
    probe = conformance.probe("torch", items=16)
    optimizer = torch.optim.SGD(probe.model.parameters(), lr=1.0)
    ((x, y),) = batches(probe, 16)
    (0.9 * probe.loss(probe.model(x), y)).backward()
    optimizer.step()
    assert probe.read().formula == "9/10 · 1/N"
    assert not probe.read().faults


def test_nothing_trained_is_never_a_pass():
    probe = conformance.probe("torch")
    with pytest.raises(ValueError, match="not-exercised"):
        probe.read(probe.model)
    ((x, y),) = batches(probe, 24)
    probe.loss(probe.model(x), y).backward()
    with pytest.raises(ValueError, match="not-exercised: the model was fed, and no step"):
        probe.read(probe.model)
    with pytest.raises(ValueError, match="the probe's model"):
        probe.read(torch.nn.Linear(1, 1))


@pytest.mark.parametrize("words", [{"loss": "hinge"}, {"items": 0}, {"lengths": [2, 3]}])
def test_a_probe_that_cannot_be_is_refused(words):
    with pytest.raises(ValueError, match=r"a probe|lengths are of"):
        conformance.probe("torch", **words)
    with pytest.raises(ValueError, match="torch, linen, nnx"):
        conformance.probe("mxnet")


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_dtypes_have_intervals_of_their_own(dtype):
    probe = conformance.probe("torch", items=24, loss="next_token")
    probe.model.to(dtype)
    train(probe, size=3)
    probe.read().verify("1/n")


def test_autocast_changes_nothing():
    probe = conformance.probe("torch", items=24, loss="next_token")
    with torch.autocast("cpu", torch.bfloat16):
        train(probe, size=3)
    probe.read().verify("1/n")


def test_a_compiled_model_is_seen_as_well():
    probe = conformance.probe("torch", items=24, loss="next_token")
    train(probe, size=3, model=torch.compile(probe.model, backend="eager"))
    probe.read().verify("1/n")


def test_parameters_that_a_forward_pass_sees_rounded_did_not_move():
    table = np.array([1 / 3, 1 / 7])
    seen = torch.tensor(table).bfloat16().double().numpy()
    fed = Fed(((1,),), np.zeros(2), unit=2.0**-8)
    events = [
        fed,
        Stepped(1.0, holds=True, gradient=-table, table=table, is_plain=True),
        replace(fed, table=seen),
        Stepped(1.0, holds=True, gradient=-table, table=2 * table, is_plain=True),
    ]
    steps, rest = rank_steps(events, None)
    assert [step.strayed for step in steps] == [None, None]
    assert not rest


def test_parameters_that_move_between_steps_are_told():
    probe = conformance.probe("torch", items=8)
    optimizer = torch.optim.SGD(probe.model.parameters(), lr=1.0)
    for x, y in batches(probe, 4):
        probe.loss(probe.model(x), y).backward()
        optimizer.step()
        optimizer.zero_grad()
        with torch.no_grad():
            probe.model.rows.weight *= 0.5
    with pytest.raises(AssertionError, match="moved-between-steps"):
        probe.read().verify("1/n")
