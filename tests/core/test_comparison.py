import ml_dtypes
import numpy as np
import pytest

from conformance.core.comparison import difference, sha256_of_answer, shown


def one(array):
    return {"output": np.asarray(array)}


def test_equal_bits_are_no_difference_also_for_nan():
    nan = np.array([np.nan, -0.0, np.inf])
    assert difference(one(nan), one(nan.copy())) is None


def test_minus_zero_is_not_zero():
    found = difference(one([0.0]), one([-0.0]))
    assert found.words == (
        "output: 1 of 1 element is wrong, at [0]: "
        "expected -0.0 (0x8000000000000000), given 0.0 (0x0000000000000000)"
    )


def test_nan_payloads_are_told_apart():
    first, second = (np.array([bits], dtype="u4").view("f4") for bits in (0x7FC00001, 0x7FC00002))
    found = difference(one(first), one(second))
    assert "expected nan (0x7fc00002), given nan (0x7fc00001)" in found.words


def test_the_count_and_the_first_index_are_said():
    right = np.arange(12.0).reshape(3, 4)
    wrong = right.copy()
    wrong[1, 2], wrong[2, 0] = 0, 0
    found = difference(one(wrong), one(right))
    assert found.wrong == 2
    assert found.words.startswith("output: 2 of 12 elements are wrong, first at [1, 2]: ")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({}, "output: missing"),
        (one(np.zeros(2, dtype="f4")), "output: expected dtype float64, given float32"),
        (one(np.zeros((2, 1))), "output: expected shape [2], given [2, 1]"),
        ({**one(np.zeros(2)), "more": np.zeros(1)}, "more: not asked for"),
    ],
)
def test_what_is_wrong_about_an_array_as_a_whole_is_said(given, words):
    assert difference(given, one(np.zeros(2))).words == words


def test_a_0d_array_has_no_index():
    assert "at" not in difference(one(np.array(2)), one(np.array(1))).words.split("expected")[0]


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.array([True]), "True"),
        (np.array([1 + 2j], dtype="c8"), "(1+2j) (0x3f800000 0x40000000)"),
        (np.array([1.5], dtype=ml_dtypes.bfloat16), "1.5 (0x3fc0)"),
        (np.array([-1], dtype="i2"), "-1 (0xffff)"),
    ],
)
def test_an_element_is_shown_in_decimal_and_bits(array, words):
    assert shown(array, (0,)) == words


def test_both_halves_of_complex128_are_compared():
    assert difference(one(np.array([1 + 1j])), one(np.array([1 + 2j]))).wrong == 1


def test_the_hash_tells_names_dtypes_and_shapes_apart():
    arrays = [
        {"a": np.zeros(4, dtype="f4")},
        {"b": np.zeros(4, dtype="f4")},
        {"a": np.zeros(4, dtype="i4")},
        {"a": np.zeros((2, 2), dtype="f4")},
        {"a": np.zeros(4, dtype="f4"), "b": np.zeros(0)},
    ]
    assert len({sha256_of_answer(named) for named in arrays}) == len(arrays)


def test_the_hash_does_not_see_memory_layout():
    x = np.arange(6).reshape(2, 3)
    assert sha256_of_answer(one(x)) == sha256_of_answer(one(np.asfortranarray(x)))
