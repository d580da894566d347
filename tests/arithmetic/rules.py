"""Each rule of `Running`, and a computation of the same formula in an order that it must cover.

A rule's function draws, computes on the machine, and returns the result, and the formula's value
over whatever number system it is given.
"""

from fractions import Fraction

import numpy as np

from conformance.arithmetic.system import negative
from tests.arithmetic.machines import Rounding, drawn
from tests.arithmetic.sums import dotted, quotient, summed

TRIALS = 32  # of a call, each with numbers of its own


def _vectors(machine, rng, *shapes):
    """Draws arrays whose last axis is the trials."""
    return [drawn(rng, (*shape, TRIALS), machine.dtype) for shape in shapes]


def _entered(machine, rows):
    return [machine.enter(row) for row in rows]


def addition(machine, rng):
    a, b = _vectors(machine, rng, (), ())
    result = machine.add(machine.enter(a), machine.enter(b))
    return result, lambda n: n.add(n.exactly(a), n.exactly(b))


def three_factors(machine, rng):
    """a·b·c, or a·b/(1/c) with c a power of two, in either association."""
    a, b, c = _vectors(machine, rng, (), (), ())
    x, y, z = _entered(machine, (a, b, c))
    way = rng.integers(3)
    if way == 0:
        result = machine.mul(machine.mul(x, y), z)
    elif way == 1:
        result = machine.mul(x, machine.mul(y, z))
    else:
        result = machine.mul(machine.mul(x, z), y)
    return result, lambda n: n.multiply(n.multiply(n.exactly(a), n.exactly(b)), n.exactly(c))


def scaling(machine, rng):
    (a,) = _vectors(machine, rng, ())
    down = int(rng.choice([3, 5, 7, 9, 12, 15, 21, 49]))
    up = int(rng.choice([1, 2, 4, 11]))
    result = quotient(machine, machine.enter(a), up, down, rng)
    return result, lambda n: n.scale(n.exactly(a), Fraction(up, down))


def sum_of_terms(machine, rng):
    (a,) = _vectors(machine, rng, (int(rng.integers(2, 24)),))
    result = summed(machine, _entered(machine, a), rng)
    return result, lambda n: n.moved(n.total(n.exactly(a), (0,)), lambda v: v[0])


def sum_of_products(machine, rng):
    terms = int(rng.integers(1, 24))
    a, b = _vectors(machine, rng, (terms,), (terms,))
    result = dotted(machine, _pairs(machine, a, b), rng)
    return result, lambda n: n.contract("it,it->t", n.exactly(a), n.exactly(b))


def _pairs(machine, a, b):
    return list(zip(_entered(machine, a), _entered(machine, b), strict=True))


def sum_of_products_and_a_bias(machine, rng):
    """Of which the bias is large, and the products cancel."""
    terms = int(rng.integers(1, 24))
    a, b, bias = _vectors(machine, rng, (terms,), (terms,), ())
    bias = bias * 2.0 ** rng.integers(-2, 6)
    result = dotted(machine, _pairs(machine, a, b), rng, [machine.enter(bias)])

    def formula(n):
        return n.add(n.contract("it,it->t", n.exactly(a), n.exactly(b)), n.exactly(bias))

    return result, formula


def scale_in_a_sum_of_products(machine, rng):
    """c·(Σab + bias): the scale on the sum, on every term, on a factor or on the bias's lane."""
    terms = int(rng.integers(1, 12))
    a, b, bias = _vectors(machine, rng, (terms,), (terms,), ())
    down = int(rng.choice([3, 7, 12]))
    pairs, start = _pairs(machine, a, b), machine.enter(bias)

    def scaled(x):
        return quotient(machine, x, 1, down, rng)

    way = rng.integers(3)
    if way == 0:
        result = scaled(dotted(machine, pairs, rng, [start]))
    elif way == 1:
        result = dotted(machine, [(scaled(x), y) for x, y in pairs], rng, [scaled(start)])
    else:
        products = [scaled(machine.mul(x, y)) for x, y in pairs]
        result = summed(machine, [*products, scaled(start)], rng)

    def formula(n):
        total = n.contract("it,it->t", n.exactly(a), n.exactly(b))
        return n.scale(n.add(total, n.exactly(bias)), Fraction(1, down))

    return result, formula


def heads_in_one_pass(machine, rng):
    """Cotangents of several heads, each with weights of its own, in one sum."""
    counts = [int(rng.integers(1, 8)) for _ in range(int(rng.integers(2, 4)))]
    heads = [tuple(_vectors(machine, rng, (count,), (count,))) for count in counts]
    pairs = [pair for a, b in heads for pair in _pairs(machine, a, b)]
    result = dotted(machine, pairs, rng)

    def formula(n):
        return _added(n, [n.contract("it,it->t", n.exactly(a), n.exactly(b)) for a, b in heads])

    return result, formula


def _added(n, terms):
    total, *rest = terms
    for term in rest:
        total = n.add(total, term)
    return total


def parts_of_ranks(machine, rng):
    """The mean over W ranks of the sums over K micro-batches, in one pass or part by part."""
    world, k = int(rng.integers(2, 6)), int(rng.integers(1, 6))
    parts = [
        tuple(_vectors(machine, rng, (count,), (count,)))
        for count in rng.integers(1, 4, size=world * k)
    ]
    if rng.integers(2):
        parts = [(np.abs(a), np.abs(b)) for a, b in parts]

    def scaled(x):
        return quotient(machine, x, 1, world, rng)

    way = rng.integers(4)
    if way == 0:  # The accumulator of one part is where the next begins.
        pairs = [pair for a, b in parts for pair in _pairs(machine, a, b)]
        result = scaled(dotted(machine, pairs, rng))
    elif way == 1:
        totals = [dotted(machine, _pairs(machine, a, b), rng) for a, b in parts]
        result = summed(machine, [scaled(x) for x in totals], rng)
    elif way == 2:  # Folded into the loss.
        pairs = [(scaled(x), y) for a, b in parts for x, y in _pairs(machine, a, b)]
        result = dotted(machine, pairs, rng)
    else:
        totals = [dotted(machine, _pairs(machine, a, b), rng) for a, b in parts]
        own = [_running_mean(machine, totals[at : at + k]) for at in range(0, world * k, k)]
        result = scaled(summed(machine, own, rng))

    def formula(n):
        totals = [n.contract("it,it->t", n.exactly(a), n.exactly(b)) for a, b in parts]
        extra = 12 + (0 if k == 1 else 5 + 2 * k)  # as `definition.averaged` has it
        return n.scale(n.with_roundings(_added(n, totals), extra), Fraction(1, world))

    return result, formula


def _running_mean(machine, terms):
    """K times the mean m + (g − m)/k of k = 1 … K."""
    mean = terms[0]
    minus = machine.enter(-np.ones(TRIALS))
    for index, term in enumerate(terms[1:], 2):
        step = machine.add(term, machine.mul(mean, minus))
        step = machine.div(step, machine.enter(np.full(TRIALS, float(index))))
        mean = machine.add(mean, step)
    return machine.mul(mean, machine.enter(np.full(TRIALS, float(len(terms)))))


def reciprocal_of_a_rank(machine, rng):
    """A rank's mean, weighed n·W/N, and divided by W: what is multiplied is divided again."""
    n_own, world = int(rng.choice([3, 5, 6, 7])), int(rng.choice([3, 5, 6]))
    samples = n_own + int(rng.integers(1, 9))
    a, b = _vectors(machine, rng, (n_own,), (n_own,))
    pairs = _pairs(machine, a, b)
    mean = quotient(machine, dotted(machine, pairs, rng), 1, n_own, rng)
    constants = [machine.enter(np.full(TRIALS, float(x))) for x in (n_own, samples, world)]
    weight = machine.div(constants[0], constants[1])
    if rng.integers(2):
        result = machine.div(machine.mul(machine.mul(mean, weight), constants[2]), constants[2])
    else:
        weight = machine.mul(weight, constants[2])
        result = quotient(machine, machine.mul(mean, weight), 1, world, rng)

    def formula(n):
        dy = n.scale(n.exactly(a), Fraction(1, samples))
        return n.with_roundings(n.contract("it,it->t", n.stored(dy), n.exactly(b)), 12)

    return result, formula


def normal_as_an_affine_map(machine, rng):
    """(x − μ)·(w·r) + b, or x·(w·r) + (b − μ·w·r)."""
    x, mean, r, w, b = _vectors(machine, rng, (), (), (), (), ())
    mean = x * (1 + 2.0**-4 * mean) if rng.integers(2) else mean
    mean = Rounding(machine.dtype).round(mean)
    nodes = _entered(machine, (x, -mean, r, w, b))
    result = affine(machine, *nodes, rng)

    def formula(n):
        centred = n.add(n.exactly(x), negative(n, n.exactly(mean)))
        normal = n.multiply(centred, n.exactly(r))
        return n.add(n.multiply(normal, n.exactly(w)), n.exactly(b))

    return result, formula


def affine(machine, x, minus_mean, root, weight, bias, rng):
    """Normalises in one of the ways that frameworks have; the mean comes negated."""
    m = machine
    match rng.integers(5):
        case 0:
            normal = m.mul(m.add(x, minus_mean), root)
            return m.add(m.mul(normal, weight), bias)
        case 1:
            return m.fma(m.add(x, minus_mean), m.mul(root, weight), bias)
        case 2:
            scale = m.mul(root, weight)
            return m.fma(x, scale, m.fma(minus_mean, scale, bias))
        case 3:
            scale = m.mul(weight, root)
            return m.add(m.mul(x, scale), m.add(bias, m.mul(minus_mean, scale)))
        case 4:
            normal = m.fma(x, root, m.mul(minus_mean, root))
            return m.fma(normal, weight, bias)


RULES = (
    addition,
    three_factors,
    scaling,
    sum_of_terms,
    sum_of_products,
    sum_of_products_and_a_bias,
    scale_in_a_sum_of_products,
    heads_in_one_pass,
    parts_of_ranks,
    reciprocal_of_a_rank,
    normal_as_an_affine_map,
)
