"""What JAX does over several processes is what the oracle says, on every device of each."""

from dataclasses import replace

import pytest

pytest.importorskip("jax", reason="JAX processes need JAX")

from conformance.asking import Ask
from conformance.cases.gradient_mean.jax_processes import cases
from conformance.judge.comparison import difference
from conformance.oracle import solve
from conformance.outcomes import Answer
from conformance.registry import own
from conformance.worlds import JaxProcesses, Task

CASES = cases()
ASKED = next(one for one in own() if one.id == "gradient_mean/jax_shard_map")


@pytest.fixture(scope="module")
def world():
    processes = JaxProcesses()
    yield processes
    processes.close()


def answers(world, question):
    ask = Ask(ASKED, question, {}, "cpu")
    return world.run(Task("conformance.asking:ask", ask, question.ranks), 60)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_process_holds_the_mean_over_all_samples(world, case):
    expected = solve(case).answers
    for outcome in answers(world, case.question):
        assert isinstance(outcome, Answer), outcome
        assert difference(outcome.arrays, expected) is None


def test_a_mean_of_other_samples_is_another(world):
    question = CASES[0].question
    arguments = dict(question.arguments)
    other = {**arguments, "targets": (*arguments["targets"][:-1], 9.0)}
    outcomes = answers(world, replace(question, arguments=tuple(other.items())))
    assert all(difference(o.arrays, solve(CASES[0]).answers) is not None for o in outcomes)
