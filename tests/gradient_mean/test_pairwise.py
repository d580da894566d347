from itertools import combinations, product

from hypothesis import given
from hypothesis import strategies as st

from conformance.gradient_mean.pairwise import covering

FACTORS = st.lists(st.integers(1, 5), min_size=2, max_size=6).map(
    lambda sizes: {f"f{i}": list(range(size)) for i, size in enumerate(sizes)}
)


def pairs_of(rows):
    return {pair for row in rows for pair in combinations(sorted(row.items()), 2)}


@given(FACTORS)
def test_every_pair_occurs_in_few_rows(factors):
    rows = covering(factors)
    wanted = {
        ((f, u), (g, v))
        for f, g in combinations(sorted(factors), 2)
        for u, v in product(factors[f], factors[g])
    }
    assert pairs_of(rows) == wanted
    largest = sorted(map(len, factors.values()))[-2:]
    assert len(rows) <= 3 * largest[0] * largest[1]


def test_what_is_impossible_never_occurs_and_everything_else_does():
    def possible(row):
        return not (row.get("w") == 1 and row.get("shards") == "unequal")

    factors = {"w": [1, 2, 3], "shards": ["equal", "unequal"], "k": [1, 5]}
    rows = covering(factors, possible)
    assert all(possible(row) for row in rows)
    found = pairs_of(rows)
    assert (("shards", "unequal"), ("w", 1)) not in found
    assert (("shards", "unequal"), ("w", 2)) in found
    assert (("k", 5), ("shards", "unequal")) in found


def test_the_same_factors_give_the_same_rows():
    factors = {"a": [1, 2, 3], "b": "xy", "c": [True, False]}
    assert covering(factors) == covering(factors)
