from dataclasses import replace

import pytest

from conformance.core.checks import all_checks
from conformance.core.implementations import own
from conformance.core.outcomes import UsageError
from conformance.run import costs
from conformance.run.plan import make_plan
from conformance.subjects import all_cases

CHECKS = all_checks(own(), all_cases(), ("cpu",))


@pytest.mark.parametrize("count", [2, 3, 5, 8])
def test_shards_are_disjoint_together_everything_and_cost_alike(count):
    shards = [costs.shard_of(CHECKS, f"{i}/{count}") for i in range(1, count + 1)]
    ids = [check.id for shard in shards for check in shard]
    assert sorted(ids) == sorted(check.id for check in CHECKS)
    loads = [costs.seconds(shard) for shard in shards]
    assert max(loads) < 1.1 * min(loads)


def test_what_compiles_stays_in_one_shard():
    halves = [costs.shard_of(CHECKS, f"{i}/2") for i in (1, 2)]
    owners = [{check.implementation.id for check in half} for half in halves]
    assert owners[0] & owners[1] == set()


def test_an_implementation_that_is_most_of_a_run_is_divided():
    mine = [check for check in CHECKS if check.implementation.id == "channel_shuffle/torch_compile"]
    halves = [costs.shard_of(mine, f"{i}/2") for i in (1, 2)]
    assert all(len(half) > len(mine) / 3 for half in halves)


def test_more_shards_than_checks_leaves_some_empty():
    few = CHECKS[:3]
    assert sorted(len(costs.shard_of(few, f"{i}/5")) for i in range(1, 6)) == [0, 0, 1, 1, 1]


def test_a_new_implementation_costs_what_its_siblings_do():
    jax, torch = (
        next(c.implementation for c in CHECKS if c.implementation.id == f"channel_shuffle/{name}")
        for name in ("jax_jit", "torch_module")
    )
    new_jax, new_torch = (costs.seconds_of(replace(one, name="new")) for one in (jax, torch))
    assert new_jax > new_torch > 0


def test_every_recorded_implementation_is_there():
    assert set(costs.recorded()) <= {one.id for one in own()}


@pytest.mark.parametrize(
    "shard", ["0/2", "3/2", "1", "a/b", "1/0", "-1/2", "1/2/3", "1/1000000000000", "٣/٤", "01/2"]
)
def test_a_shard_that_is_none_is_refused(shard):
    with pytest.raises(UsageError, match="I/N is meant"):
        costs.shard_of(CHECKS, shard)


def test_shards_of_one_run_share_a_digest_and_frameworks():
    patterns = ["channel_shuffle/numpy_*", "channel_shuffle/torch_module"]
    whole, first, second = (make_plan(patterns, shard=s) for s in (None, "1/2", "2/2"))
    assert whole.digest == first.digest == second.digest
    assert whole.frameworks == first.frameworks == second.frameworks == ("numpy", "torch")
    assert make_plan(patterns[:1]).digest != whole.digest
