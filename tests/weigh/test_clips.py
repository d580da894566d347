"""Clips are no mistakes where they come once the gradient is whole, in whatever parts."""

from dataclasses import replace

import pytest

from conformance.weighing.clips import clipping, is_clipped_by_hand, of_clips
from conformance.weighing.records import Clip, Part, Pass, Solved, Step


def step(*clips, number=1, norms=(0.6, 0.8)):
    parts = [
        Part([name], 10, [Solved([1.0, 1.0], [1e-6, 1e-6], 0.0, 1e-6, 1.0, norm)])
        for name, norm in zip("ab", norms, strict=True)
    ]
    return Step(number, "SGD 1", 1, [Pass(0, 0, [])], parts, clips=clips)


def names(step):
    return [name for finding in of_clips(step) for name in finding.names]


def test_calls_one_after_another_multiply_and_one_without_a_limit_does_nothing():
    clips = Clip(0, float("inf"), 4.0, 1), Clip(0, 2.0, 4.0, 1), Clip(0, 1.0, 2.0, 1)
    assert clipping(step(*clips)).of(step().parts[0]) == pytest.approx(1 / 4, rel=1e-5)
    assert names(step(*clips)) == []


def test_calls_for_some_parameters_have_factors_of_their_own():
    clips = Clip(0, 0.6, 1.2, 1, False, ["a"]), Clip(0, 0.8, 3.2, 1, False, ["b"])
    factors = [clipping(step(*clips)).of(part) for part in step().parts]
    assert factors == pytest.approx([1 / 2, 1 / 4], rel=1e-5)
    assert names(step(*clips)) == []


def test_a_norm_that_is_not_the_gradients_is_named_unless_it_is_no_two_norm():
    assert names(step(Clip(0, 1.0, 3.0, 1))) == []
    assert names(step(Clip(0, 1.0, 3.0, 1), norms=(0.6, 0.7))) == ["clipped-by-another-norm"]
    assert names(step(Clip(0, 1.0, 3.0, 1, is_of_all=False), norms=(0.6, 0.7))) == []
    largest = Clip(0, 1.0, 3.0, 1, is_two_norm=False)
    assert names(step(largest, norms=(0.6, 0.7))) == []


def test_a_norm_that_has_each_replica_in_it_is_named_whatever_kind_it_is():
    clips = [Clip(rank, 1.0, 8**0.5, 1, is_two_norm=False) for rank in (0, 1)]
    passes = [Pass(rank, 0, []) for rank in (0, 1)]
    half, most = (replace(step(*clips, norms=n), world=2, passes=passes)
                  for n in ((0.5, 0.5), (0.6, 0.7)))  # fmt: skip
    assert names(half) == ["clipped-by-another-norm"]
    assert names(most) == []


def test_a_clip_before_the_last_micro_batch_is_named():
    two = replace(step(Clip(0, 1.0, 3.0, 1)), passes=[Pass(0, 0, []), Pass(0, 1, [])])
    assert names(two) == ["clipped-before-averaging"]


def test_a_clip_is_early_only_if_a_later_micro_batch_reaches_what_was_clipped():
    two = [Pass(0, 0, []), Pass(0, 1, [])]
    clips = (
        Clip(0, 1.0, 2.0, 1, is_of_all=False, parameters=["a"], reached=[0]),
        Clip(0, 1.0, 4.0, 2, is_of_all=False, parameters=["b"], reached=[1]),
    )
    apart = replace(step(*clips), passes=two)
    assert names(apart) == []
    (part, _) = apart.parts
    both = replace(part, parameters=["a", "b"])
    factors = [clipping(apart).of(both, micro_batch) for micro_batch in (0, 1)]
    assert factors == pytest.approx([1 / 2, 1 / 4], rel=1e-5)


def test_a_clip_of_gradients_that_were_zeroed_afterwards_is_none():
    nothing = Solved([0.0, 1.0], [1e-6, 1e-6], 0.0, 1e-6, 1.0, 1.0)
    zeroed = replace(
        step(Clip(0, 1.0, 3.0, 1)), passes=[Pass(0, 0, []), Pass(0, 1, [])],
        parts=[Part(["a"], 10, [nothing])],
    )  # fmt: skip
    assert names(zeroed) == []
    assert clipping(zeroed).of(zeroed.parts[0], 1) == 1


def test_the_script_clips_by_itself_where_steps_have_one_norm_and_the_others_less():
    steps = [step(number=1), step(number=2), step(number=3, norms=(0.1, 0.1))]
    clipped = {1: (0.3, 0.4), 2: (0.5, 0.6), 3: (0.999, 1.001)}
    assert is_clipped_by_hand(steps, clipped)
    assert not is_clipped_by_hand(steps, {**clipped, 3: (0.3, 0.4)})
    assert is_clipped_by_hand(steps[:2], {1: (0.3, 0.4), 2: (0.999, 1.001)}) is None
    assert not is_clipped_by_hand([steps[0], steps[2]], {1: (0.999, 1.001), 3: (0.3, 0.4)})


def test_the_script_clips_two_optimizers_by_one_norm():
    steps = [step(number=1), step(number=2, norms=(0.6, 0.0))]
    others = [step(number=1, norms=(0.0, 1.0)), step(number=2, norms=(0.8, 1.0))]
    clipped = {1: (0.3, 0.4), 2: (0.5, 0.6)}
    assert is_clipped_by_hand(steps, clipped, others)
    assert not is_clipped_by_hand(steps, clipped)
