"""Random stacks of layers: no right port is accused, a wrong one is found where it is wrong."""

import pytest

pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("flax", reason="flax is not installed")

from stacks import compared, is_at, mistake_of, spec_of


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_right_stack_is_not_accused(seed):
    result = compared(seed, "flax_stack")
    assert result.partings == ()
    assert result.unjudged == ()


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_wrong_stack_parts_at_the_layer_that_is_wrong(seed):
    place, wrong, names = mistake_of(spec_of(seed), seed)
    first, *_ = compared(seed, "wrong_stack").partings
    assert is_at(first.layer, place), (first.layer, place, wrong)
    assert first.cause is None or first.cause.name in names
