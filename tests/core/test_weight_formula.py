"""A weight formula is a product of powers of counts, and nothing else."""

from fractions import Fraction

import pytest

from conformance.core.outcomes import UsageError
from conformance.core.weight_formula import powers_of


@pytest.mark.parametrize(
    ("text", "powers", "factor"),
    [
        ("1/N", {"N": -1}, 1),
        ("1/(W*N_rank)", {"W": -1, "n_r": -1}, 1),
        ("1/(W·K·n)", {"W": -1, "K": -1, "n_rk": -1}, 1),
        ("1/W/K/n", {"W": -1, "K": -1, "n_rk": -1}, 1),
        ("W/(W*N)", {"N": -1}, 1),
        ("1/(W**2*n)", {"W": -2, "n_rk": -1}, 1),
        ("7/(10*N)", {"N": -1}, Fraction(7, 10)),
        ("1", {}, 1),
    ],
)
def test_a_product_is_read(text, powers, factor):
    assert powers_of(text) == (powers, factor)


@pytest.mark.parametrize(
    "text",
    ["", "1/", "1/M", "1+N", "1/N+0", "N()", "1.5/N", "-1/N", "0/N", "1/0", "W**9", "W**K",
     "rank_mean", "x" * 9999, "(" * 500 + "N" + ")" * 500, "__import__('os')", "True/N"],
)  # fmt: skip
def test_whatever_else_is_refused_in_one_line(text):
    with pytest.raises(UsageError, match="is no weight formula") as raised:
        powers_of(text)
    assert "\n" not in str(raised.value)
