"""A question about thousands of ranks reaches those who hold them in one process, and only them."""

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("jax")

from conformance.core import implementations as registry
from conformance.core.ask import Ask
from conformance.core.checks import asks
from conformance.core.outcomes import Answer, Raised
from conformance.core.questions import GradientQuestion, VirtualQuestion
from conformance.gradient_mean import virtual_definition as virtual_ranks
from conformance.gradient_mean.virtual_definition import NAME
from conformance.processes import LocalWorld, Task
from conformance.subjects import all_cases

VIRTUAL = {i.name: i for i in registry.own() if i.runs == "virtual"}


@pytest.fixture(scope="module")
def ask():
    worlds = {
        name: LocalWorld((), f"conformance.frameworks:prepare_{name}")
        for name in ("torch", "jax", "numpy")
    }

    def put(implementation, question):
        given = virtual_ranks.inputs(question)
        asked = Ask(implementation, question, given, "cpu")
        [outcome] = worlds[implementation.framework].run(
            Task("conformance.subjects:ask", asked), 60
        )
        return outcome, virtual_ranks.answer(question, given)[0][f"rank_mean/{NAME}"]

    yield put
    for world in worlds.values():
        world.close()


@pytest.mark.parametrize("name", VIRTUAL)
def test_every_implementation_gives_the_mean_over_all_ranks_and_micro_batches(ask, name):
    outcome, right = ask(VIRTUAL[name], VirtualQuestion(512, "small", 2, 3, "f32"))
    assert isinstance(outcome, Answer), outcome
    assert np.array_equal(outcome.arrays[NAME], right)


def test_what_swallows_is_seen_in_bfloat16(ask):
    """pmean sums in the dtype: it is not asked this, and why is seen here."""
    question = VirtualQuestion(1024, "swallowed", dtype="bf16")
    for name, is_right in (("jax_virtual_float32", True), ("jax_virtual_pmean", False)):
        outcome, right = ask(VIRTUAL[name], question)
        assert np.array_equal(outcome.arrays[NAME], right) == is_right, name


@pytest.mark.parametrize("gives", ["None", "{'other': p['only.weight']}", "{'only.weight': 1}"])
def test_numpy_must_give_arrays_like_its_parameters(ask, adapter, gives):
    file = adapter(
        "@conformance.implementation('gradient_mean', framework='numpy', runs='virtual')\n"
        f"def mine(gradient, p, batches, devices): return {gives}"
    )
    [mine] = registry.adapter(str(file))
    outcome, _ = ask(mine, VirtualQuestion(16, "small"))
    assert isinstance(outcome, Raised)
    assert outcome.type == "WrongAnswer"


def test_real_ranks_are_not_asked_for_virtual_ones_nor_the_other_way_round():
    for case in all_cases():
        askable = {i.runs for i in registry.own() if asks(case, i)}
        if isinstance(case.question, VirtualQuestion):
            assert askable == {"virtual"}
        elif isinstance(case.question, GradientQuestion):
            assert "virtual" not in askable
