"""A formula is found where it lies inside every interval, and nowhere else."""

from fractions import Fraction

import pytest

from conformance.weighing.formula import Cell, Formula, candidates, counts_around, read

COUNTS = {(0, 0): 3, (0, 1): 5, (0, 2): 2, (1, 0): 7, (1, 1): 1, (1, 2): 4}


def cells_of(formula, counts=COUNTS, world=2, width=2.0**-20, **more):
    plain = [Cell(r, k, n, 0, 0, **more) for (r, k), n in counts.items()]
    values = [float(formula.value(around)) for around in counts_around(plain, world)]
    return [
        Cell(c.rank, c.micro_batch, c.count, v - abs(v) * width, v + abs(v) * width, **more)
        for c, v in zip(plain, values, strict=True)
    ]


@pytest.mark.parametrize("formula", candidates(True, True, frozenset()), ids=str)
def test_every_product_that_is_tried_is_read_back(formula):
    cells = cells_of(formula)
    reading = read(cells, 2)
    around = counts_around(cells, 2)
    wanted = [formula.value(counts) for counts in around]
    assert any([f.value(counts) for counts in around] == wanted for f in reading.same)


def test_counts_that_cannot_tell_formulas_apart_tell_the_simplest():
    even = {(r, k): 4 for r in range(2) for k in range(3)}
    assert str(read(cells_of(Formula({"W": -1, "K": -1, "n_rk": -1}), even), 2)) == "1/N"


def test_formulas_that_the_intervals_cannot_exclude_are_all_told():
    near = {(0, 0): 100, (1, 0): 101}
    text = str(read(cells_of(Formula({"N": -1}), near, width=0.02), 2))
    assert "1/N" in text
    assert "or 1/(W·n_r)" in text


def test_another_count_is_found_by_its_name():
    cells = [Cell(r, 0, n, 1 / 14, 1 / 14, samples=2, labels=n + 2) for r, n in ((0, 3), (1, 7))]
    assert str(read(widened(cells), 2)) == "1/M"


def test_a_factor_is_told_where_no_product_fits():
    cells = [Cell(r, 0, n, 0.7 / 10, 0.7 / 10) for r, n in ((0, 3), (1, 7))]
    assert str(read(widened(cells), 2)) == "7/10 · 1/N"
    assert read(widened(cells), 2).simplest.factor == Fraction(7, 10)


def test_weights_that_no_formula_gives_are_said_to_have_none():
    cells = [Cell(r, 0, n, w, w) for r, n, w in ((0, 3, 0.1), (1, 7, 0.37), (2, 2, 0.9))]
    assert str(read(widened(cells), 3)) == "no known formula"


def test_a_wider_interval_excludes_no_formula_that_a_narrower_one_admits():
    formula = Formula({"W": -1, "n_r": -1})
    for width in (2.0**-30, 2.0**-10, 0.1):
        reading = read(cells_of(formula, width=width), 2)
        assert any(str(f) == "1/(W·n_r)" for f in (*reading.same, *reading.others))


def widened(cells):
    return [
        Cell(c.rank, c.micro_batch, c.count, c.low * (1 - 1e-9), c.high * (1 + 1e-9), c.step,
             c.samples, c.places, c.labels)
        for c in cells
    ]  # fmt: skip
