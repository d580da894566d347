import numpy as np
import pytest

from conformance.channel_shuffle.definition import permutation
from conformance.channel_shuffle.permutations import nearest_permutation

RIGHT = permutation(12, 3)
ORDER = np.arange(12)


@pytest.mark.parametrize(
    ("moved", "words"),
    [
        (ORDER, "nothing: every channel stays"),
        (permutation(12, 4), "a shuffle with 4 groups"),
        (permutation(12, 6), "a shuffle with 6 groups"),
        (ORDER[::-1], "a flip of all channels"),
        (np.roll(ORDER, 5), "a roll of all channels by 5"),
        (ORDER.reshape(3, 4)[:, ::-1].reshape(-1), "a flip inside each of 3 groups"),
        (ORDER.reshape(3, 4)[::-1].reshape(-1), "a flip of the order of 3 groups"),
        (RIGHT[::-1], "the right shuffle, and then a flip of all channels"),
        (RIGHT[np.roll(ORDER, 1)], "the right shuffle, and then a roll of all channels by 1"),
        (np.roll(ORDER, 2)[RIGHT], "a roll of all channels by 2, and then the right shuffle"),
        ((3 + 5 * ORDER) % 12, "every 5th channel from channel 3 on, around the 12"),
    ],
    ids=str,
)
def test_a_move_is_told_in_the_simplest_words_that_give_it(moved, words):
    assert nearest_permutation(tuple(moved.tolist()), 3) == words


def test_two_channels_that_stand_for_each_other_are_named():
    moved = RIGHT.copy()
    moved[[4, 9]] = moved[[9, 4]]
    assert nearest_permutation(tuple(moved.tolist()), 3) == (
        "the right shuffle, but with output channels 4 and 9 exchanged"
    )


def test_what_is_like_nothing_known_gets_no_words():
    moved = (1, 0, 5, 3, 2, 4, 11, 6, 8, 10, 7, 9)
    assert nearest_permutation(moved, 3) == ""


@pytest.mark.parametrize("groups", [2, 3, 4, 6])
def test_no_wrong_move_is_told_as_the_right_one(groups):
    for seed in range(200):
        moved = np.random.default_rng(seed).permutation(12)
        assert (
            nearest_permutation(tuple(moved.tolist()), groups) != f"a shuffle with {groups} groups"
        )
