"""The ways in which frameworks compute a norm's statistics and its derivatives."""

import numpy as np

from tests.arithmetic.sums import dotted, summed


def _like(machine, node, value):
    """Enters one number as often as the node has elements."""
    return machine.enter(np.full_like(getattr(node, "value", node), float(value)))


def _minus(machine, node):
    return machine.mul(node, _like(machine, node, -1))


def _divided(machine, node, count, rng):
    count = _like(machine, node, count)
    if rng.integers(2):
        return machine.div(node, count)
    return machine.mul(node, machine.div(_like(machine, node, 1), count))


def _mean(machine, terms, rng):
    return _divided(machine, summed(machine, terms, rng), len(terms), rng)


def two_passes(machine, nodes, rng):
    mean = _mean(machine, nodes, rng)
    centred = [machine.add(node, _minus(machine, mean)) for node in nodes]
    squares = dotted(machine, [(c, c) for c in centred], rng)
    return mean, _divided(machine, squares, len(nodes), rng)


def one_pass(machine, nodes, rng):
    """E[x²] − E[x]², as Flax has it by default."""
    mean = _mean(machine, nodes, rng)
    squares = _divided(machine, dotted(machine, [(x, x) for x in nodes], rng), len(nodes), rng)
    minus = _minus(machine, mean)
    if rng.integers(2):
        return mean, machine.fma(minus, mean, squares)
    return mean, machine.add(squares, machine.mul(minus, mean))


def welford(machine, nodes, rng):
    mean, squares = _welford(machine, nodes)
    return mean, _divided(machine, squares, len(nodes), rng)


def _welford(machine, nodes):
    m, mean = machine, nodes[0]
    squares = _like(machine, mean, 0)
    for index, node in enumerate(nodes[1:], 2):
        before = m.add(node, _minus(m, mean))
        mean = m.add(mean, m.div(before, _like(m, node, index)))
        squares = m.fma(before, m.add(node, _minus(m, mean)), squares)
    return mean, squares


def chunks(machine, nodes, rng):
    """Welford's of two chunks, joined as Chan, Golub and LeVeque do, as torch's layer norm does."""
    m, at = machine, int(rng.integers(1, len(nodes)))
    (mean_a, squares_a), (mean_b, squares_b) = (
        _welford(m, part) for part in (nodes[:at], nodes[at:])
    )
    first, second, count = (_like(m, mean_a, n) for n in (at, len(nodes) - at, len(nodes)))
    delta = m.add(mean_b, _minus(m, mean_a))
    mean = m.add(mean_a, m.mul(delta, m.div(second, count)))
    weight = m.div(m.mul(first, second), count)
    between = m.mul(m.mul(delta, delta), weight)
    return mean, _divided(m, m.add(m.add(squares_a, squares_b), between), len(nodes), rng)


STATISTICS = (two_passes, one_pass, welford, chunks)


def weight_gradient(machine, nodes, slopes, minus_mean, root, rng):
    """Σ dy·(x − μ)·r, with the mean and the root inside or outside of the sum."""
    m = machine
    match rng.integers(4):
        case 0:
            normal = [m.mul(m.add(x, minus_mean), root) for x in nodes]
            return dotted(m, list(zip(slopes, normal, strict=True)), rng)
        case 1:
            centred = [m.add(x, minus_mean) for x in nodes]
            return m.mul(dotted(m, list(zip(slopes, centred, strict=True)), rng), root)
        case 2:
            raw, total = (
                dotted(m, list(zip(slopes, nodes, strict=True)), rng),
                summed(m, slopes, rng),
            )
            return m.mul(m.fma(minus_mean, total, raw), root)
        case 3:
            shift = m.mul(minus_mean, root)
            normal = [m.fma(x, root, shift) for x in nodes]
            return dotted(m, list(zip(slopes, normal, strict=True)), rng)


def cotangents(machine, nodes, slopes, weights, minus_mean, root, rng):
    """The first element's cotangent, in one of five ways."""
    m = machine
    inner = [m.mul(dy, w) for dy, w in zip(slopes, weights, strict=True)]
    ways = (_by_normal, _by_projection, _by_raw_sums, _by_two_passes, _by_one_pass)
    return ways[rng.integers(len(ways))](m, nodes, inner, minus_mean, root, rng)


def _by_normal(m, nodes, inner, minus_mean, root, rng):
    """r·(dŷ − mean(dŷ) − x̂·mean(dŷ·x̂))."""
    normal = [m.mul(m.add(x, minus_mean), root) for x in nodes]
    along = dotted(m, list(zip(inner, normal, strict=True)), rng)
    along = m.mul(normal[0], _divided(m, along, len(nodes), rng))
    rest = summed(m, [inner[0], *(_minus(m, x) for x in (_mean(m, inner, rng), along))], rng)
    return m.mul(rest, root)


def _by_projection(m, nodes, inner, minus_mean, root, rng):
    """(dŷ − mean(dŷ) − (x − μ)·k)·r with k = Σ dŷ·(x − μ)·r²/n, as torch's batch norm has it."""
    centred = [m.add(x, minus_mean) for x in nodes]
    along = dotted(m, list(zip(inner, centred, strict=True)), rng)
    along = _divided(m, m.mul(m.mul(along, root), root), len(nodes), rng)
    rest = m.add(inner[0], _minus(m, m.mul(centred[0], along)))
    return m.mul(m.add(rest, _minus(m, _mean(m, inner, rng))), root)


def _by_raw_sums(m, nodes, inner, minus_mean, root, rng):
    """r·dŷ + b·x + c of sums of dŷ·x and dŷ that are not centred, as torch's layer norm has it."""
    raw = dotted(m, list(zip(inner, nodes, strict=True)), rng)
    total = summed(m, inner, rng)
    cube = _divided(m, m.mul(m.mul(root, root), root), len(nodes), rng)
    b = m.mul(_minus(m, m.fma(minus_mean, total, raw)), cube)
    c = m.add(m.mul(b, minus_mean), _minus(m, _divided(m, m.mul(total, root), len(nodes), rng)))
    return m.add(m.fma(root, inner[0], m.mul(b, nodes[0])), c)


def _by_two_passes(m, nodes, inner, minus_mean, root, rng):
    """By automatic differentiation, through (x − μ)/√v, v = mean((x − μ)²) and μ."""
    centred = [m.add(x, minus_mean) for x in nodes]
    by_variance = _by_variance(m, centred, inner, root, rng)
    slopes = [
        m.add(m.mul(dy, root), m.mul(x, m.mul(_like(m, x, 2), by_variance)))
        for dy, x in zip(inner, centred, strict=True)
    ]
    return m.add(slopes[0], _minus(m, _mean(m, slopes, rng)))


def _by_one_pass(m, nodes, inner, minus_mean, root, rng):
    """By automatic differentiation, through v = mean(x²) − μ²."""
    centred = [m.add(x, minus_mean) for x in nodes]
    by_variance = _by_variance(m, centred, inner, root, rng)
    two = m.mul(_like(m, root, 2), by_variance)
    own = m.add(m.mul(inner[0], root), m.mul(nodes[0], two))
    by_mean = _minus(m, _mean(m, [m.mul(dy, root) for dy in inner], rng))
    return m.add(own, m.add(by_mean, m.mul(minus_mean, two)))


def _by_variance(m, centred, inner, root, rng):
    """The loss by the variance, divided by n: −½·Σ dŷ·(x − μ)·r³/n."""
    total = dotted(m, list(zip(inner, centred, strict=True)), rng)
    total = m.mul(m.mul(m.mul(total, root), root), root)
    return _divided(m, m.mul(total, _like(m, total, -0.5)), len(centred), rng)
