from collections import Counter

from conformance.channel_shuffle.cases import ACCEPTED, PROBES, REFUSED
from conformance.channel_shuffle.inputs import inputs
from conformance.subjects import all_cases

CASES = [case for case in all_cases() if case.operation == "channel_shuffle"]


def test_names_are_unique():
    assert max(Counter(case.id for case in CASES).values()) == 1


def test_there_are_at_least_three_hundred():
    assert len(CASES) >= 300


def test_probes_cannot_be_answered_by_the_inverse_or_by_nothing():
    for channels, groups in PROBES:
        assert channels % groups == 0
        assert 1 < groups < channels
        assert groups**2 != channels


def test_probe_shapes_have_distinct_sizes_and_space_that_the_groups_divide():
    for case in (case for case in CASES if case.family == "identity-probe"):
        n, c, h, w = case.question.shape
        assert len({n, c, h, w}) == 4, case.name
        assert h % case.question.groups == w % case.question.groups == 0


def test_the_grid_is_every_pair_up_to_24():
    grid = {(c.question.channels, c.question.groups) for c in CASES if c.family == "grid"}
    assert grid == {(c, g) for c in range(1, 25) for g in range(1, c + 1) if c % g == 0}


def test_every_dtype_of_s9_is_asked():
    asked = {case.question.dtype for case in CASES if case.family == "dtypes"}
    assert asked == {*ACCEPTED, *REFUSED}


def test_large_cases_are_more_than_ten_megabytes_and_not_stored():
    large = [case for case in CASES if case.on_the_fly]
    assert len(large) >= 3
    assert all(inputs(case.question)["input"].nbytes >= 10_000_000 for case in large)


def test_a_question_says_only_what_is_out_of_the_ordinary():
    case = next(case for case in CASES if case.name == "grid-c6-g2")
    assert case.parameters() == {"shape": [2, 6, 3], "groups": 2}
