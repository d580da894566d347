"""A trainer is asked in processes that torchrun starts, and judged window by window."""

from pathlib import Path

import pytest

from conformance.core.implementations import adapter, declared_in
from conformance.core.outcomes import UsageError
from conformance.run.plan import make_plan
from conformance.weighing import trainer as trainer_module
from conformance.weighing.trainer import QUESTIONS, ask
from conformance.weighing.trainer_text import lines, status_of

TRAINERS = Path(__file__).with_name("trainers.py")


@pytest.fixture(scope="module")
def verdicts():
    (question,) = [q for q in QUESTIONS if q.name == "unequal-k3"]
    found = ask(adapter(str(TRAINERS)), [question], seconds=60)
    return {trainer.name: verdict for trainer, verdict in found}


@pytest.mark.parametrize(
    "name", ["right", "right_by_items", "own_group", "drops_the_rest", "parameters_averaged"]
)
def test_right_trainers_are_not_accused(verdicts, name):
    assert [(part.status, part.lines) for part in verdicts[name].parts] in (
        [("conforms", ())],
        [("conforms", ())] * 2,
    )


@pytest.mark.parametrize(
    ("name", "full", "last"),
    [
        ("short_window", (), ("short-window-divided-by-k",)),
        ("mean_of_means", ("mean-of-means", "mean-of-micro-means"), None),
        ("not_divided_by_k", ("accumulation-unscaled",), None),
        ("divided_by_w_again", ("divided-twice",), ("divided-twice",)),
        ("labels_before_the_shift", ("shifted-labels-counted",), ("shifted-labels-counted",)),
        ("past_the_wrapper", ("never-synchronised",), ("never-synchronised",)),
        ("ignores_accumulation", ("accumulation-ignored",), None),
        ("parameters_of_rank_0", ("rank-missing",), ("rank-missing",)),
        ("places_counted", ("padding-counted",), ("padding-counted",)),
        ("scale_left_in", ("loss-scale-left-in",), ("loss-scale-left-in",)),
        ("not_cleared", ("stale-gradient",), ("stale-gradient",)),
    ],
)  # fmt: skip
def test_mistakes_have_the_names_of_the_suite(verdicts, name, full, last):
    parts = {part.kind: part.names for part in verdicts[name].parts}
    assert verdicts[name].status == "fail"
    assert parts["full"] == full
    if last is not None:
        assert parts["last"] == last


def test_samples_that_a_sampler_repeats_or_drops_are_told_apart_from_the_average(verdicts):
    assert verdicts["right"].samples == ("samples fed more than once: 0 (2 times)",)
    assert verdicts["drops_the_rest"].samples[0].startswith("samples never fed: ")
    assert verdicts["drops_the_rest"].status == "conforms"


def test_a_trainer_that_fails_on_one_rank_is_an_error_and_ends(verdicts):
    assert verdicts["raises_on_one_rank"].status == "error"
    assert "RuntimeError: no such luck" in verdicts["raises_on_one_rank"].problem


def test_a_trainer_that_trains_nothing_is_never_a_pass(verdicts):
    assert verdicts["trains_nothing"].status == "not-exercised"
    assert status_of([verdicts["right"], verdicts["trains_nothing"]]) == 3
    assert status_of([verdicts["right"]]) == 0


def test_a_rate_that_nobody_saw_is_no_mistake_and_no_pass(verdicts):
    assert verdicts["moves_by_itself"].status == "not-exercised"
    said = verdicts["moves_by_itself"].parts[0].lines[-1]
    assert said == "parameters moved 0.1 times as far: is the learning rate 1?"


def test_a_name_that_another_question_rules_out_is_not_told():
    # With as many micro-batches as ranks, W, K and a mean of means look alike.
    asked = [q for q in QUESTIONS if q.name in ("unequal-k1", "unequal-k2", "unequal-k3")]
    mistakes = {
        "mean_of_rank_means": [{"mean-of-means"}] * 3,
        # One micro-batch shows nothing of K, and takes nothing from what more of them show.
        "divided_by_nothing": [{"not-divided"}, *[{"not-divided", "accumulation-unscaled"}] * 2],
    }
    declared = [d for d in adapter(str(TRAINERS)) if d.name in mistakes]
    told = {d.name: [] for d in declared}
    for trainer, verdict in ask(declared, asked):
        told[trainer.name].append(set(verdict.parts[0].names))
    assert told == mistakes


def test_the_verdict_comes_first(verdicts):
    told = list(lines("short_window", verdicts["short_window"]))
    assert told[0].startswith(
        "✗ short_window, unequal-k3 (W = 2, K = 3, 19 samples of 1 to 7 items)"
    )
    assert told[0].endswith(": short-window-divided-by-k")
    assert "    full windows: 1/(W·K·n_rk), as promised" in told
    assert "    last window: 1/(W·K_full·n_rk) where 1/(W*K*n) is promised" in told


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ('promise="1/(W*K*m)"', "m is none of n,"),
        ('promise="mean"', "no weight formula"),
        ("", "promise='1/N'"),
    ],
)
def test_a_trainer_without_a_formula_is_refused(adapter_file, words, said):
    file = adapter_file(words)
    with pytest.raises(UsageError, match=r"trainer|formula") as raised:
        adapter(str(file))
    assert said in str(raised.value)


@pytest.fixture
def adapter_file(tmp_path):
    def written(words):
        file = tmp_path / "mine.py"
        file.write_text(
            "import conformance\n"
            '@conformance.implementation("gradient_mean", framework="torch", runs="trainer", '
            f"{words})\n"
            "def mine(model, dataset, batch_size, accumulate): ...\n"
        )
        return file

    return written


def test_examples_that_need_torch_alone_do_as_their_page_says():
    (question,) = [q for q in QUESTIONS if q.name == "unequal-k3"]
    examples = Path(__file__).parents[2] / "examples" / "trainers" / "torch_shards.py"
    found = {trainer.name: verdict for trainer, verdict in ask(adapter(str(examples)), [question])}
    assert {name: verdict.parts[0].formula for name, verdict in found.items()} == {
        "fsdp2": "1/(W·n_rk)",
        "fsdp2_divided_by_k": "1/(W·K·n_rk)",
        "hsdp": "1/(W·n_rk)",
    }
    assert found["fsdp2"].status == found["hsdp"].status == "conforms"
    assert found["fsdp2_divided_by_k"].parts[1].names == ("short-window-divided-by-k",)


def test_an_adapter_that_does_not_import_is_an_error_with_its_words(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(
        "import conformance\n"
        '@conformance.implementation("gradient_mean", framework="torch", runs="trainer", '
        'promise="1/N")\n'
        "def mine(model, dataset, batch_size, accumulate): ...\n"
        "import no_such_trainer\n"
    )
    [(_, verdict)] = ask(declared_in(file), QUESTIONS[:1])
    assert verdict.status == "error"
    assert "No module named 'no_such_trainer'" in verdict.problem


def test_a_run_says_who_asks_trainers():
    with pytest.raises(UsageError, match="conformance weigh --trainers"):
        make_plan(adapters=[str(TRAINERS)])


def test_a_question_whose_port_was_taken_is_asked_again(monkeypatch):
    trainers = adapter(str(TRAINERS))[:1]
    tries = []

    def took(trainer, question, number, folder, output):
        tries.append(question.name)
        problem = "DistNetworkError: … EADDRINUSE …" if len(tries) in (1, 3) else ""
        return trainer_module.TrainerVerdict(question, trainer.promise, problem=problem)

    monkeypatch.setattr(trainer_module, "_run", lambda *_: "")
    monkeypatch.setattr(trainer_module, "_verdict", took)
    told = [verdict.problem for _, verdict in ask(trainers, QUESTIONS[:2])]
    assert told == ["", ""]
    assert tries == [q.name for q in (*QUESTIONS[:2], QUESTIONS[0], QUESTIONS[0])]
