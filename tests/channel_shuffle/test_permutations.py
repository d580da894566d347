import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from conformance.channel_shuffle.permutations import (
    channel_permutation,
    channels_in_words,
    stays_in_groups,
)

X = np.arange(2 * 6 * 3).reshape(2, 6, 3)


@given(st.permutations(range(6)))
def test_a_permutation_of_channels_is_read_back(p):
    assert channel_permutation(X, X[:, list(p)]) == tuple(p)


def test_what_is_no_permutation_of_channels_is_none():
    doubled = X[:, [0, 0, 1, 2, 3, 4]]
    by_sample = np.concatenate([X[:1], X[1:, ::-1]])
    for after in (doubled, by_sample, X + 1, X[:, :5], X.astype("f4"), X.swapaxes(0, 1)):
        assert channel_permutation(X, after) is None


def test_channels_that_are_alike_cannot_be_told_apart():
    x = np.zeros((1, 4, 2))
    assert channel_permutation(x, x) is None


def test_within_groups_means_that_something_moves_and_nothing_leaves():
    assert stays_in_groups((2, 0, 1, 3, 4, 5), 2)
    assert not stays_in_groups((0, 1, 2, 3, 4, 5), 2)
    assert not stays_in_groups((3, 1, 2, 0, 4, 5), 2)


@given(st.permutations(range(8)))
def test_every_channel_is_listed_beside_the_one_that_is_right(p):
    right = tuple(range(8))
    assert channels_in_words(tuple(p), right).split("input's ")[1] == (
        f"{' '.join(map(str, p))}, right are 0 1 2 3 4 5 6 7"
    )


def test_of_many_channels_those_from_the_first_that_is_wrong_are_listed():
    right = tuple(range(100))
    swapped = (*range(97), 98, 97, 99)
    assert channels_in_words(swapped, right) == (
        "the output's channels from 97 on are the input's 98 97 99, right are 97 98 99"
    )
    assert channels_in_words(right[::-1], right).count("…") == 2
