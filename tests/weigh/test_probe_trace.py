"""Logs of drawn loops give the drawn formula, and of a wrong one never a pass."""

import random
from functools import partial

import numpy as np
import pytest

from conformance.weighing.probe import GAIN
from conformance.weighing.probe_layout import Layout
from conformance.weighing.probe_log import Fed, RankStep
from conformance.weighing.probe_trace import trace

FORMULAS = {
    "1/N": lambda w, k, n, n_r, n_all: 1 / n_all,
    "1/(W*N_rank)": lambda w, k, n, n_r, n_all: 1 / (w * n_r),
    "1/(W*K*n)": lambda w, k, n, n_r, n_all: 1 / (w * k * n),
    "1/(W*n)": lambda w, k, n, n_r, n_all: 1 / (w * n),
    "1/(K*n)": lambda w, k, n, n_r, n_all: 1 / (k * n),
    "1/(W*N)": lambda w, k, n, n_r, n_all: 1 / (w * n_all),
    "1/n": lambda w, k, n, n_r, n_all: 1 / n,
    "1": lambda w, k, n, n_r, n_all: 1.0,
}


def drawn(seed):
    """Return the counts of (step, rank, micro-batch)."""
    draw = random.Random(seed)
    world, k = draw.randint(2, 4), draw.choice([1, 2, 3])
    k += k == world  # where they are equal nobody can tell them apart
    return [[[draw.randint(1, 9) for _ in range(k)] for _ in range(world)] for _ in range(3)]


def traced(counts, weight, rounding):
    """Return what a loop of these counts and this weight would be seen to do, in float32."""
    lengths = [n for step in counts for rank in step for n in rank]
    starts = iter(np.cumsum([0, *lengths]).tolist())
    logs = [([], ()) for _ in counts[0]]
    for step in counts:
        rows = [[(next(starts), n) for n in rank] for rank in step]
        gradient = np.zeros(sum(lengths))
        for rank in rows:
            for first, n in rank:
                n_r, n_all = sum(m for _, m in rank), sum(map(sum, step))
                value = weight(len(step), len(rank), n, n_r, n_all) * (1 + rounding() * 2.0**-24)
                gradient[first : first + n] = np.float32(GAIN * value)
        for r, rank in enumerate(rows):
            feds = tuple(
                Fed((tuple(range(first + 1, first + n + 1)),), np.zeros(sum(lengths)))
                for first, n in rank
            )
            logs[r][0].append(RankStep(feds, gradient=gradient, lr=1.0))
    return trace(logs, Layout(tuple(lengths)), GAIN, 1.0)


@pytest.mark.parametrize("seed", range(10))
def test_a_drawn_loop_keeps_its_own_formula_and_no_other(seed):
    counts = drawn(seed)
    rounding = partial(random.Random(seed).uniform, -4, 4)
    values = {name: traced(counts, weight, rounding) for name, weight in FORMULAS.items()}
    for name, done in values.items():
        done.weights.verify(name)
        assert done.last is None
        for other, theirs in values.items():
            if not np.allclose(theirs.weights.values, done.weights.values, rtol=1e-5):
                with pytest.raises(AssertionError):
                    done.weights.verify(other)


def test_intervals_are_narrow():
    counts = drawn(0)
    weights = traced(counts, FORMULAS["1/N"], lambda: 0).weights
    assert ((weights.high - weights.low) < 1e-5 * weights.values).all()
