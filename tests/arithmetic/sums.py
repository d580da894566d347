"""The orders in which a sum, or a sum of products, may be computed on a machine."""


def summed(machine, terms, rng):
    """Adds the terms one after another, in pairs, blocks or lanes, or in any tree."""
    terms = [terms[index] for index in rng.permutation(len(terms))]
    match rng.choice(["chain", "pairs", "lanes", "blocks", "tree"]):
        case "chain":
            return _chain(machine, terms)
        case "pairs":
            while len(terms) > 1:
                rest = terms[len(terms) // 2 * 2 :]
                pairs = zip(terms[::2], terms[1::2], strict=False)
                terms = [machine.add(a, b) for a, b in pairs] + rest
            return terms[0]
        case "lanes":
            width = int(rng.integers(1, len(terms) + 1))
            return _chain(machine, [_chain(machine, terms[lane::width]) for lane in range(width)])
        case "blocks":
            size = int(rng.integers(1, len(terms) + 1))
            starts = range(0, len(terms), size)
            return _chain(machine, [_chain(machine, terms[at : at + size]) for at in starts])
        case "tree":
            while len(terms) > 1:
                first, second = (terms.pop(int(rng.integers(len(terms)))) for _ in range(2))
                terms.append(machine.add(first, second))
            return terms[0]


def _chain(machine, terms):
    total, *rest = terms
    for term in rest:
        total = machine.add(total, term)
    return total


def dotted(machine, pairs, rng, others=()):
    """Adds products and other terms, the products rounded first or fused into accumulators.

    An accumulator starts at any of the products, or at another term, such as a bias.
    """
    if rng.integers(2):
        return summed(machine, [machine.mul(a, b) for a, b in pairs] + list(others), rng)
    steps = [(a, b) for a, b in pairs] + [(other,) for other in others]
    steps = [steps[index] for index in rng.permutation(len(steps))]
    if others and rng.integers(2):  # The usual one: the first accumulator starts at the bias.
        steps.sort(key=len)
    width = int(rng.integers(1, 4))
    lanes = [_accumulated(machine, steps[lane::width]) for lane in range(width)]
    return summed(machine, [lane for lane in lanes if lane is not None], rng)


def _accumulated(machine, steps):
    total = None
    for step in steps:
        if total is None:
            total = step[0] if len(step) == 1 else machine.mul(*step)
        else:
            total = machine.add(total, *step) if len(step) == 1 else machine.fma(*step, total)
    return total


def quotient(machine, a, up, down, rng):
    """Scales by up/down: by the rounded quotient, in either order, or in two parts."""
    ups, downs = (machine.enter(float(x) + 0 * _value(a)) for x in (up, down))
    match rng.integers(4):
        case 0:
            return machine.mul(a, machine.div(ups, downs))
        case 1:
            return machine.div(machine.mul(a, ups), downs)
        case 2:
            return machine.mul(machine.div(a, downs), ups)
        case 3:
            first = next(d for d in (3, 5, 7, down) if down % d == 0)
            rest = machine.enter(down / first + 0 * _value(a))
            one = machine.enter(1.0 + 0 * _value(a))
            part = machine.mul(machine.div(ups, rest), a)
            return machine.mul(part, machine.div(one, machine.enter(first + 0 * _value(a))))


def _value(a):
    return getattr(a, "value", a)
