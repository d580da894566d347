"""Weights have the names of all mistakes that give them, and no others."""

from dataclasses import replace
from typing import NamedTuple

from conformance.weighing.formula import Cell
from conformance.weighing.naming import Origin, mistakes


class At(NamedTuple):
    n: int
    N: int
    K: int
    W: int


def cells(weight, counts=(((3, 4), (5, 6)),)):
    """Cells of (steps, ranks, micro-batches) of items, each of which counts weight(at) ± a bit."""
    made = []
    for step, ranks in enumerate(counts):
        total = sum(map(sum, ranks))
        for rank, micro_batches in enumerate(ranks):
            for k, n in enumerate(micro_batches):
                value = weight(At(n, total, len(micro_batches), len(ranks)))
                made.append(Cell(rank, k, n, value * (1 - 1e-6), value * (1 + 1e-6), step))
    return made


def test_where_w_is_k_both_ways_to_be_too_small_are_told():
    too_small = cells(lambda at: 1 / (at.K * at.N))
    assert mistakes(too_small, 2, "step_mean") == ("divided-twice", "accumulation-unscaled")
    three = cells(lambda at: 1 / (at.K * at.N), [((3, 4, 5), (5, 6, 7))])
    assert mistakes(three, 2, "step_mean") == ("accumulation-unscaled",)


def test_a_short_window_is_named_also_where_its_number_is_w():
    windows = [((4, 4), (4, 4)), ((4,), (4,))]
    short = cells(lambda at: 1 / (at.W * 2 * at.n), windows)
    assert mistakes(short, 2, "step_mean")[0] == "short-window-divided-by-k"


def test_a_factor_w_is_the_losss_own_where_ranks_are_averaged():
    even = [((4,), (4,))]
    weighed = cells(lambda at: 2 / at.N, even)
    averaged = [replace(c, low=2 * c.low, high=2 * c.high) for c in weighed]
    assert mistakes(weighed, 2, "rank_mean", None, Origin(averaged)) == ("world-left-in",)
    assert mistakes(weighed, 2, "rank_mean", None, Origin(weighed)) == ("not-divided",)


def test_the_counts_of_a_term_are_named_whatever_its_factor_is():
    uneven = [((3,), (5,)), ((4,), (7,))]
    assert mistakes(cells(lambda at: 0.7 / at.n, uneven), 2, "step_mean") == ("mean-of-means",)
    assert mistakes(cells(lambda at: 0.7, uneven), 2, "step_mean") == ("sum-loss",)
    assert mistakes(cells(lambda at: 0.7 / at.n, uneven), 2, "rank_mean") == ()
