"""DistributedDataParallel and DistributedSampler answer as the oracle's model of them does."""

import sys
import tomllib
from pathlib import Path

import pytest

from conformance.behaviours import model as behaviours
from conformance.behaviours.ddp import averaging_model as ddp_averaging
from conformance.behaviours.ddp.cases import cases
from conformance.core.clauses import FOLDER
from conformance.core.comparison import difference
from conformance.core.dtypes import of_numpy
from conformance.core.outcomes import Declined
from conformance.processes import Task, TorchRanks
from conformance.subjects import all_cases

pytest.importorskip("torch", reason="these ranks need torch")

# Ranks import their tasks by name, along the path that they take over from this process.
sys.path.append(str(Path(__file__).parent))

CASES = {case.name: case for case in cases()}
[DOCUMENT] = FOLDER.glob("distributed_data_parallel.toml*")
CLAUSES = tomllib.loads(DOCUMENT.read_text(encoding="utf-8"))["clause"]
# What only a machine with other devices, or another build of torch, can answer.
ELSEWHERE = {
    "ddp-current-device-of-every-process": "CUDA",
    "ddp-device-ids-of-a-gpu-module": "GPU",
}


@pytest.fixture(scope="module")
def pool():
    world = TorchRanks(8, prepare="conformance.frameworks:prepare_torch")
    yield world
    world.close()


def differences(pool, function, payload, question):
    """What is wrong with each rank's answer, or None."""
    outcomes = pool.run(Task(f"ddp_tasks_for_tests:{function}", payload, question.ranks), 60)
    for outcome in outcomes:
        assert isinstance(outcome, dict), outcome
    expected = behaviours.answer(question)
    return [difference(outcome, expected) for outcome in outcomes]


@pytest.mark.parametrize("name", [name for name in CASES if name not in ELSEWHERE])
def test_the_framework_answers_as_its_model_does(pool, name):
    question = CASES[name].question
    assert differences(pool, "ask", question, question) == [None] * question.ranks


@pytest.mark.parametrize(("name", "words"), ELSEWHERE.items())
def test_what_cannot_be_asked_here_is_told(pool, name, words):
    import torch

    if torch.cuda.is_available():
        pytest.skip("it can be asked here")
    question = CASES[name].question
    task = Task("ddp_tasks_for_tests:ask", question, question.ranks)
    for outcome in pool.run(task, 60):
        assert isinstance(outcome, Declined)
        assert outcome.status == "not-exercised"
        assert words in outcome.reason


@pytest.mark.parametrize("clause", CLAUSES, ids=lambda clause: clause["id"])
def test_every_clause_has_a_case_and_a_contradicted_one_its_evidence(clause):
    citing = [case.name for case in all_cases() if clause["id"] in case.clauses]
    assert citing
    if clause["verdict"] == "contradicted":
        assert clause["evidence"] in citing


def test_names_are_unique_and_no_case_cites_what_is_not_there():
    assert len(CASES) == len(cases())
    assert {c for case in CASES.values() for c in case.clauses} <= {c["id"] for c in CLAUSES}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_an_answer_can_be_kept_as_a_golden(case):
    for array in behaviours.answer(case.question).values():
        assert of_numpy(array.dtype).name in ("bool", "f32", "f64", "i64", "u8")


def test_shards_are_such_that_ranks_weigh_otherwise_than_samples():
    for ranks in (2, 3, 4):
        shards = dict(CASES[f"ddp-unequal-shards-w{ranks}"].question.arguments)["shards"]
        samples = [x for shard in shards for x in shard]
        answers = [
            float(ddp_averaging.unequal_shards(shards=shards, reduction=how)["gradient"][0])
            for how in ("mean", "sum")
        ]
        assert len({*answers, sum(samples), sum(samples) / len(samples)}) == 4


@pytest.mark.parametrize(
    ("gradients", "multiplied", "divided"),
    [(((2.0,), (3.0,), (7.0,)), 3.9999999999999996, 4.0), (((2.0,), (3.0,)), 2.5, 2.5)],
)
def test_the_bits_that_the_clause_on_division_names(gradients, multiplied, divided):
    for path, expected in (("default-zeroed", multiplied), ("batched-copy", divided)):
        answer = ddp_averaging.scaling(gradients=gradients, path=path, steps=1)
        assert answer["gradients"].tolist() == [[expected]]


def test_a_model_promises_no_bits_that_depend_on_an_order():
    with pytest.raises(ValueError, match="order of addition shows"):
        ddp_averaging.scaling(gradients=((1.0,), (2.0,), (3.0,)), path="default-zeroed", steps=1)
    with pytest.raises(ValueError, match="nothing rounds"):
        ddp_averaging.mean(gradients=((1.0,), (0.0,), (0.0,)))


BROKEN = [
    ("Sums", "mean-w2"),
    ("Sums", "mean-w3"),
    ("Sums", "unequal-shards-w2"),
    ("Sums", "sum-loss-w3"),
    ("Sums", "micro-batches-k5-w3"),
    ("Sums", "beside-data-parallel-w2"),
    ("Sums", "tied-weight-w2"),
    ("Sums", "reduction-w2"),
    ("Sums", "channel-shuffle-network-w4"),
    ("NeverAverages", "mean-w8"),
    ("NeverAverages", "same-bits-w2"),
    ("NeverAverages", "shards-no-input"),
    ("NeverAverages", "group-of-2"),
    ("NeverAverages", "replicas-after-adam-w2"),
    ("NeverAverages", "models-averaged-sgd-w2"),
    ("NeverAverages", "models-averaged-sgd-w3"),
    ("ForgetsToBroadcast", "start-broadcast-w2"),
    ("ForgetsToBroadcast", "replicas-after-adam-w3"),
    ("AlwaysDivides", "scaling-default-set-to-none-w3"),
    ("AlwaysDivides", "scaling-bucket-view-set-to-none-w3"),
    ("AlwaysSynchronises", "no-sync-around-the-forward-w2"),
    ("AlwaysSynchronises", "no-sync-around-both-w3"),
    ("DecidesInTheBackward", "no-sync-around-the-backward-w2"),
    ("KeepsBuffersApart", "buffers-train-w2"),
    ("KeepsBuffersApart", "buffers-eval-w3"),
    ("KeepsBuffersApart", "reduction-w3"),
    ("SynchronisesAllBuffers", "buffers-after-no-sync-w2"),
    ("SynchronisesAllBuffers", "buffers-after-no-grad-w2"),
    ("TakesEverything", "device-ids-of-a-cpu-module"),
    ("TakesEverything", "two-device-ids"),
    ("TakesEverything", "output-device-1-of-a-cpu-module"),
    ("FindsUnused", "unused-w2"),
    ("DividesByItsUsers", "find-unused-rank-1-uses-w2"),
    ("SplitsInputs", "shards-no-input"),
    ("SplitsInputs", "whole-batch-on-every-rank-w2"),
    ("CopiesTheModule", "container-w2"),
    ("NeverRebuilds", "bucket-order-abc"),
    ("TakesManyHooks", "second-hook-a-hook-after-a-hook"),
]


@pytest.mark.parametrize(("broken", "name"), BROKEN)
def test_a_broken_framework_is_noticed(pool, broken, name):
    question = CASES[f"ddp-{name}"].question
    assert any(differences(pool, "ask_broken", (broken, question), question))
    x = CASES["ddp-mean-w2"].question
    assert differences(pool, "ask", x, x) == [None] * x.ranks  # the ranks are none the worse
