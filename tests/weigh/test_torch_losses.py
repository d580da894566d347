"""What autograd's graph tells of a loss: terms, items, shares; and nothing is disturbed."""

import pytest
import torch
import torch.nn.functional as F

from conformance.weighing.torch_graph import graph_of
from conformance.weighing.torch_losses import terms_of

MODEL = torch.nn.Linear(4, 5)
X, Y = torch.randn(6, 4), torch.tensor([0, 1, 2, 3, 4, -100])
TEXT, LABELS = (
    torch.randn(2, 7, 4),
    torch.randint(0, 5, (2, 7)).index_fill_(1, torch.tensor([5, 6]), -100),
)


def shifted(reduction):
    logits = MODEL(TEXT)[:, :-1].reshape(-1, 5)
    return F.cross_entropy(logits, LABELS[:, 1:].reshape(-1), reduction=reduction)


def masked():
    each = F.cross_entropy(MODEL(TEXT).transpose(1, 2), LABELS, reduction="none")
    mask = (LABELS != -100).float()
    return (each * mask).sum() / mask.sum()


def smoothed(part):
    logits = MODEL(X).log_softmax(dim=-1)
    of_labels = -logits.gather(dim=-1, index=Y.clamp(0)[:, None]).squeeze(1)
    return ((1 - part) * of_labels - part * logits.mean(dim=-1)).mean()


LOSSES = {
    "mean": (lambda: F.cross_entropy(MODEL(X), Y), "cross_entropy", 5, 1 / 5),
    "scaled mean": (lambda: F.cross_entropy(MODEL(X), Y) / 3 * 1024, "cross_entropy", 5, 1024 / 15),
    "sum of tokens": (lambda: shifted("sum") / 37, "cross_entropy", 8, 1 / 37),
    "mask": (masked, "cross_entropy", 10, 1 / 10),
    "gather": (lambda: -MODEL(X).log_softmax(-1).gather(1, Y.clamp(0)[:, None]).mean(),
               "cross_entropy", 6, 1 / 6),
    "soft labels": (lambda: F.cross_entropy(MODEL(X), torch.full((6, 5), 0.2)),
                    "cross_entropy", 6, 1 / 6),
    "smoothed labels": (lambda: F.cross_entropy(MODEL(X), Y, label_smoothing=0.1),
                        "cross_entropy", 5, 1 / 5),
    "smoothed by hand": (lambda: smoothed(0.1), "cross_entropy", 6, 1 / 6),
    "a mask over a loss of one's own": (
        lambda: ((MODEL(X).logsumexp(-1) - MODEL(X)[:, 0]) * torch.tensor([1.0] * 4 + [0] * 2)
                 ).sum() / 4, "Sub", 4, 1 / 4),
    "a loop over samples": (
        lambda: sum(F.cross_entropy(MODEL(x)[None], y[None])
                    for x, y in zip(X, Y.clamp(0), strict=True)) / 6, "cross_entropy", 6, 1 / 6),
    "an index that is spread out": (
        lambda: -MODEL(X).log_softmax(-1).gather(-1, torch.tensor([[2]]).expand(6, 1)).mean(),
        "cross_entropy", 6, 1 / 6),
    "mse": (lambda: F.mse_loss(MODEL(X), torch.zeros(6, 5)), "mse_loss", 30, 1 / 30),
    "squares by hand": (((MODEL(X) - 1) ** 2).sum, "squares", 30, 1),
    "binary": (lambda: F.binary_cross_entropy_with_logits(MODEL(X), torch.rand(6, 5)),
               "binary_cross_entropy_with_logits", 30, 1 / 30),
    "a sum of outputs": (lambda: MODEL(X).sum(), "Addmm", 30, 1),
}  # fmt: skip


@pytest.mark.parametrize("kind", LOSSES)
def test_a_loss_is_read_off_its_graph(kind):
    loss, name, count, share = LOSSES[kind]
    (term,), _ = terms_of([loss()], [None])
    assert (term.name, term.count, term.is_even, term.is_linear) == (name, count, True, True)
    assert abs(term.share - share) <= term.rounding * share


def test_tokens_know_their_sequences_padding_and_labels_before_the_shift():
    (term,), _ = terms_of([shifted("mean")], [None])
    assert (term.unit, term.samples, term.places, term.labels) == ("token", 2, 12, 10)


def test_terms_and_penalties_stand_apart():
    decay = sum(p.pow(2).sum() for p in MODEL.parameters())
    terms, _ = terms_of(
        [F.cross_entropy(MODEL(X), Y) + 0.1 * MODEL(X).abs().mean() + decay], [None]
    )
    assert [(t.name, t.is_penalty) for t in terms] == [
        ("cross_entropy", False), ("l1_loss", False), ("squares", True), ("squares #2", True)
    ]  # fmt: skip


def test_smoothed_labels_of_another_count_are_a_term_of_their_own():
    logits = MODEL(X).log_softmax(-1)
    loss = 0.9 * F.nll_loss(logits, Y) - 0.1 * logits.mean(-1).mean()
    terms, _ = terms_of([loss], [None])
    assert [(t.name, t.count) for t in terms] == [("cross_entropy", 5), ("cross_entropy #2", 6)]


def test_items_that_a_loop_weighs_apart_are_not_alike():
    loss = sum(k * F.mse_loss(MODEL(x), torch.zeros(5)) for k, x in enumerate(X[:3], 1))
    terms, _ = terms_of([loss], [None])
    assert [term.count for term in terms] == [5, 5, 5]
    loss = sum(k * F.cross_entropy(MODEL(x), Y[0]) for k, x in enumerate(X[:3], 1))
    ((term,), _) = terms_of([loss], [None])
    assert (term.count, term.is_even, list(term.shares)) == (3, False, [1, 2, 3])


def test_a_mean_is_told_from_a_sum_that_is_divided():
    each = F.cross_entropy(MODEL(X), Y.clamp(0), reduction="none")
    told = [terms_of([loss], [None])[0][0].is_mean for loss in (each.mean(), each.sum() / 6)]
    assert told == [True, False]


def test_targets_that_are_one_number_are_told():
    targets = torch.ones(6, 5), torch.rand(6, 5)
    told = [
        terms_of([F.binary_cross_entropy_with_logits(MODEL(X), y)], [None])[0][0].target
        for y in targets
    ]
    assert told == [1.0, None]


def test_a_function_of_a_mean_is_no_weighted_sum():
    (term,), _ = terms_of([F.mse_loss(MODEL(X), torch.zeros(6, 5)).sqrt()], [None])
    assert not term.is_linear


def test_items_that_the_script_weighs_are_not_alike():
    weights = torch.arange(6.0)
    (term,), _ = terms_of(
        [(F.cross_entropy(MODEL(X), Y.clamp(0), reduction="none") * weights).sum()], [None]
    )
    assert not term.is_even
    assert list(term.shares) == [1, 2, 3, 4, 5]


def test_reading_runs_no_hook_frees_nothing_and_leaves_the_gradient_alone():
    calls = []
    logits = MODEL(X)
    logits.register_hook(lambda g: calls.append("logits"))
    loss = F.cross_entropy(logits, Y) * 2
    loss.register_hook(lambda g: calls.append("loss"))
    state = torch.get_rng_state()
    terms_of([loss], [None])
    graph_of([loss])
    assert not calls
    assert torch.equal(state, torch.get_rng_state())
    assert MODEL.weight.grad is None
    loss.backward()
    assert sorted(calls) == ["logits", "loss"]
    MODEL.zero_grad()


def told(loss):
    terms, _ = terms_of([loss], [None])
    return [(t.name, t.batch, t.count, t.is_of_loop) for t in terms]


def test_losses_of_forward_passes_of_their_own_are_micro_batches_of_one_term():
    total = 0
    for size in (2, 3, 4):
        total = total + F.cross_entropy(MODEL(X[:size]), Y[:size])
    name = "cross_entropy"
    assert told(total) == [(name, 0, 2, True), (name, 1, 3, True), (name, 2, 4, True)]
    two = [F.cross_entropy(MODEL(X[:size]), Y[:size]) for size in (2, 3)]
    assert told(two[0] + two[1]) == [(name, 0, 2, False), (name, 1, 3, False)]
    assert told(torch.stack(two).sum()) == [(name, 0, 2, True), (name, 1, 3, True)]


def test_heads_and_tasks_and_losses_of_other_kinds_are_terms_of_their_own():
    hidden, other = MODEL(X), torch.nn.Linear(4, 5)
    for first, second in (
        (F.cross_entropy(hidden, Y), F.cross_entropy(2 * hidden, Y)),
        (F.cross_entropy(hidden, Y), F.cross_entropy(other(X), Y)),
        (F.relu(1 - hidden).mean(), F.relu(1 + MODEL(X)).mean()),
    ):
        assert [batch for _, batch, _, _ in told(first + second)] == [None, None]


def test_a_cast_of_a_parameter_that_several_forward_passes_use_joins_none_of_them():
    with torch.autocast("cpu", torch.bfloat16):
        losses = [F.cross_entropy(MODEL(X[:size]), Y[:size]) for size in (2, 3)]
    assert [batch for _, batch, _, _ in told(losses[0] + losses[1])] == [0, 1]
    first, second = (graph_of([loss]).numbers for loss in losses)
    assert not first & second


def test_weights_of_the_script_stand_beside_what_a_weight_of_one_gives():
    weights = torch.rand(6) + 0.1
    each = F.cross_entropy(MODEL(X), Y.clamp(0), reduction="none")
    (term,), _ = terms_of([(weights * each).sum() / 7], [None])
    assert not term.is_even
    assert term.plain == pytest.approx(1 / 7)
    assert term.weighs == pytest.approx(float(weights.sum()))
    (term,), _ = terms_of([(each / torch.tensor([-1.0, 1, 2, 3, 4, 5])).mean()], [None])
    assert (term.plain, term.weighs) == (pytest.approx(1 / 6), None)
