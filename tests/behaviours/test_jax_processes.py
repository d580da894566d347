"""What JAX does over several processes is what the oracle says, on every device of each."""

from dataclasses import replace

import pytest

pytest.importorskip("jax", reason="JAX processes need JAX")

from conformance.behaviours.jax.processes_cases import DEVICES, cases, devices_of
from conformance.core.ask import Ask
from conformance.core.comparison import difference
from conformance.core.implementations import own
from conformance.core.outcomes import Answer, Declined
from conformance.processes import JaxProcesses, Task
from conformance.subjects import solve

CASES = cases()
ASKED = next(one for one in own() if one.id == "gradient_mean/jax_shard_map")


@pytest.fixture(scope="module", params=DEVICES)
def world(request):
    processes = JaxProcesses(devices=request.param)
    processes.cases = [case for case in CASES if devices_of(case.question) == request.param]
    yield processes
    processes.close()


def answers(world, question):
    ask = Ask(ASKED, question, {}, "cpu")
    return world.run(Task("conformance.subjects:ask", ask, question.ranks), 60)


def test_every_process_holds_the_mean_over_all_samples(world):
    for case in world.cases:
        expected = solve(case).answers
        for outcome in answers(world, case.question):
            assert isinstance(outcome, Answer), outcome
            assert difference(outcome.arrays, expected) is None


def test_another_number_of_devices_is_unsupported(world):
    other = next(case for case in CASES if case not in world.cases)
    for outcome in answers(world, other.question):
        assert isinstance(outcome, Declined), outcome
        assert "devices of each process are asked for" in outcome.reason


def test_a_mean_of_other_samples_is_another(world):
    question = world.cases[0].question
    arguments = dict(question.arguments)
    other = {**arguments, "targets": (*arguments["targets"][:-1], 9.0)}
    outcomes = answers(world, replace(question, arguments=tuple(other.items())))
    assert all(difference(o.arrays, solve(world.cases[0]).answers) is not None for o in outcomes)
