import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conformance.channel_shuffle.definition import (
    dense_strides,
    grouped_pointwise,
    permutation,
    shuffle,
    transpose,
)
from conformance.subjects import all_cases, solve

PAIRS = st.integers(1, 60).flatmap(
    lambda c: st.tuples(st.just(c), st.sampled_from([g for g in range(1, c + 1) if c % g == 0]))
)


@given(PAIRS)
def test_s1_is_view_transpose_flatten(pair):
    channels, groups = pair
    x = np.arange(2 * channels * 3).reshape(2, channels, 3)
    viewed = x.reshape(2, groups, channels // groups, 3).swapaxes(1, 2).reshape(x.shape)
    assert np.array_equal(shuffle(x, groups), viewed)


@given(PAIRS)
def test_the_inverse_has_c_over_g_groups(pair):
    channels, groups = pair
    x = np.arange(channels).reshape(1, channels, 1)
    assert np.array_equal(shuffle(shuffle(x, groups), channels // groups), x)


@given(PAIRS)
def test_the_transpose_is_the_inverse(pair):
    channels, groups = pair
    x = np.arange(channels).reshape(1, channels, 1)
    assert np.array_equal(transpose(x, groups), shuffle(x, channels // groups))


@given(PAIRS)
def test_self_inverse_just_where_g_squared_is_c_and_identity_just_at_the_ends(pair):
    channels, groups = pair
    p = permutation(channels, groups)
    nothing = np.arange(channels)
    assert np.array_equal(p, nothing) == (groups in (1, channels))
    assert np.array_equal(p[p], nothing) == (groups**2 == channels or groups in (1, channels))


@given(PAIRS)
def test_the_transpose_is_adjoint(pair):
    channels, groups = pair
    x = np.arange(channels).reshape(1, channels, 1)
    y = (np.arange(channels)[::-1] ** 2).reshape(1, channels, 1)
    assert (shuffle(x, groups) * y).sum() == (x * transpose(y, groups)).sum()


def test_strides_are_numpys_own():
    x = np.moveaxis(np.zeros((2, 3, 5, 12), dtype=np.int8), -1, 1)
    assert dense_strides(x.shape, "channels_last") == x.strides


def test_grouped_convolution_equals_the_dense_one_with_a_block_diagonal_kernel():
    generator = np.random.default_rng(0)
    x, kernel = generator.integers(-8, 9, (2, 6, 2, 3)), generator.integers(-8, 9, (6, 3, 1, 1))
    dense = np.zeros((6, 6))
    dense[:3, :3], dense[3:, 3:] = kernel[:3, :, 0, 0], kernel[3:, :, 0, 0]
    assert np.array_equal(grouped_pointwise(x, kernel, 2), np.einsum("oi,nihw->nohw", dense, x))


@pytest.mark.parametrize(
    "case", [c for c in all_cases() if c.family == "convolutions"], ids=lambda case: case.name
)
def test_without_the_shuffle_an_output_group_depends_on_one_input_group(case):
    """S17. Sample i feeds group i alone; an output group that is zero did not see it."""
    golden, groups = solve(case), case.question.groups
    hidden = grouped_pointwise(golden.inputs["input"], golden.inputs["first_kernel"], groups)
    unshuffled = grouped_pointwise(hidden, golden.inputs["second_kernel"], groups)

    def depends(answer):
        return np.abs(answer).reshape(groups, groups, -1).sum(axis=-1) > 0

    assert depends(golden.answers["output"]).all()
    assert np.array_equal(depends(unshuffled), np.eye(groups, dtype=bool))
