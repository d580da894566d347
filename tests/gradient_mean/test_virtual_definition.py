"""All ranks at once are what the oracle of few ranks computes one by one."""

import numpy as np
import pytest

from conformance.arithmetic import Plain, Uncertified
from conformance.core.questions import VirtualQuestion
from conformance.gradient_mean import definition as gradient_mean
from conformance.gradient_mean import virtual_definition as virtual_ranks
from conformance.gradient_mean.virtual_cases import WORLDS, cases
from conformance.gradient_mean.virtual_definition import NAME


@pytest.mark.parametrize("fill", ["one-hot", "small"])
@pytest.mark.parametrize(("n", "k"), [(1, 1), (2, 3)])
def test_both_oracles_agree_where_ranks_are_few(fill, n, k):
    question = VirtualQuestion(8, fill, n, k)
    given = virtual_ranks.inputs(question)
    (answer, _), one_by_one = (
        virtual_ranks.answer(question, given),
        gradient_mean.averaged(Plain(), question.model, given, "rank_mean"),
    )
    assert np.array_equal(answer[f"rank_mean/{NAME}"], one_by_one["only.weight"])


def test_every_world_size_is_asked_for_weights_and_for_sums():
    asked = {(case.question.world_size, case.question.fill) for case in cases()}
    assert {(world, fill) for world in WORLDS for fill in ("one-hot", "small")} <= asked


def test_a_sum_without_room_is_not_certified():
    question = VirtualQuestion(4096, "small", dtype="bf16")
    loud = virtual_ranks.inputs(VirtualQuestion(4096, "small"))
    with pytest.raises(Uncertified, match=r"a sum of 1\d bits in bf16, which has 8"):
        virtual_ranks.answer(question, loud)


def test_summed_first_what_overflows_is_infinite():
    after = VirtualQuestion(4096, "overflowing", dtype="f16", divided="after")
    given = virtual_ranks.inputs(after)
    assert np.isinf(virtual_ranks.answer(after, given)[0][f"rank_mean/{NAME}"]).all()
    finite = VirtualQuestion(4096, "overflowing", dtype="f16")
    right = virtual_ranks.answer(finite, given)[0][f"rank_mean/{NAME}"]
    assert right[0, :4].tolist() == [32.0, -32.0, 48.0, -48.0]
