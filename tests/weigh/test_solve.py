"""Weights lie inside their intervals; what cannot be told is not told."""

import numpy as np
import pytest

from conformance.weighing.solve import Rounding, solve

ELEMENTS = 700


def solved(columns, gradient, roundings=8):
    vectors = np.column_stack([columns, gradient]).astype(np.float64)
    count = columns.shape[1]
    rounding = Rounding(2.0**-24, roundings, (len(vectors) + 3) * 2.0**-53)
    return solve(vectors.T @ vectors, count, count, rounding)


@pytest.mark.parametrize("seed", range(30))
def test_weights_of_sums_in_float32_lie_inside_their_intervals(seed):
    random = np.random.default_rng(seed)
    count = int(random.integers(1, 7))
    columns = random.normal(size=(ELEMENTS, count)).astype(np.float32)
    columns += random.uniform(0, 20) * columns[:, :1]  # badly conditioned, as gradients are
    right = random.choice([0, 1, 0.5, 1 / 3, 1 / 7, 2], count)
    gradient = np.zeros(ELEMENTS, np.float32)
    for column in random.permutation(count):
        gradient += columns[:, column] * np.float32(right[column])
    solution = solved(columns, gradient)
    assert (np.abs(solution.values - right) <= solution.half).all()
    assert solution.is_explained


def test_what_is_no_weighted_sum_is_not_explained():
    random = np.random.default_rng(0)
    columns = random.normal(size=(ELEMENTS, 3)).astype(np.float32)
    gradient = columns.sum(axis=1) + random.normal(size=ELEMENTS).astype(np.float32) * 1e-3
    assert not solved(columns, gradient).is_explained


def test_equal_columns_share_a_weight_and_are_named():
    random = np.random.default_rng(0)
    columns = random.normal(size=(ELEMENTS, 3)).astype(np.float32)
    columns[:, 2] = columns[:, 0]
    solution = solved(columns, columns @ np.float32([0.25, 0.5, 0.25]))
    assert solution.alike == ((0, 2),)
    assert solution.values == pytest.approx([0.25, 0.5, 0.25])


def test_columns_that_depend_on_each_other_have_no_weight():
    random = np.random.default_rng(0)
    columns = random.normal(size=(ELEMENTS, 4)).astype(np.float32).astype(np.float64)
    columns[:, 3] = columns[:, 1] + columns[:, 2]
    solution = solved(columns, columns.sum(axis=1))
    assert np.isnan(solution.values).tolist() == [False, True, True, True]
    assert solution.half[0] < 1e-4


def test_fewer_elements_than_columns_tell_nothing():
    columns = np.random.default_rng(0).normal(size=(3, 5))
    assert not np.isfinite(solved(columns, columns.sum(axis=1)).half).any()
