"""The names of causes: each means one thing, and can be looked up."""

from collections import Counter

import pytest

from conformance.cli.explained import explain
from conformance.compare.catalogue import MISTAKES, Cause, all_mistakes


def test_every_name_means_one_thing():
    assert [n for n, count in Counter(m.name for m in all_mistakes()).items() if count > 1] == []


@pytest.mark.parametrize("name", [m.name for m in MISTAKES])
def test_a_cause_that_is_printed_can_be_looked_up(name):
    words = explain(name)
    assert words.startswith(f"{name}, a known mistake of porting\n")
    assert Cause(name, "").advice in words


def test_a_cause_that_nothing_explains_is_refused():
    with pytest.raises(ValueError, match="'bad-luck'"):
        Cause("bad-luck", "")
