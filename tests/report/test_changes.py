import json

import pytest

from conformance.core.outcomes import UsageError
from conformance.report.changes import changes, lines
from conformance.report.merging import merge
from tests.report.records import record, results, saved


def compared(tmp_path, before, after, **header):
    first = results(tmp_path / "before", before)
    return changes(first, results(tmp_path / "after", after, **header))


def test_the_same_run_has_no_difference(tmp_path):
    found = compared(tmp_path, [record("a", "x", "1")], [record("a", "x", "1")])
    assert list(lines(found))[-1] == "No difference"
    assert not found.is_worse


def test_one_altered_answer_names_its_check(tmp_path):
    before = [record("a", "x", "1"), record("a", "y", "1")]
    found = compared(tmp_path, before, [record("a", "x", "1"), record("a", "y", "2")])
    assert [change.check for change in found.of("other answers")] == ["channel_shuffle/a@cpu:y"]
    assert "  channel_shuffle/a@cpu:y: exact, 1 and 2" in list(lines(found))
    assert not found.is_worse


@pytest.mark.parametrize(
    ("before", "after", "kind"),
    [
        ("exact", "fail", "worse"),
        ("known", "timeout", "worse"),
        ("unsupported", "error", "worse"),
        ("fail", "exact", "better"),
        ("exact", "known", "other verdict"),
        ("fail", "crash", "other verdict"),
        ("exact", "unsupported", "no longer asked"),
        ("fail", "not-exercised", "no longer asked"),
        ("not-exercised", "exact", "newly asked"),
        ("unsupported", "not-exercised", "not asked"),
    ],
)
def test_every_change_of_verdict_has_its_name(tmp_path, before, after, kind):
    found = compared(
        tmp_path, [record("a", "x", "1", before)], [record("a", "x", "1", after, reason="so")]
    )
    assert [change.kind for change in found.checks] == [kind]
    assert found.is_worse == (kind == "worse")
    if kind != "not asked":
        assert f"  channel_shuffle/a@cpu:x: {before} → {after}: so" in list(lines(found))


def test_answers_within_bound_may_differ(tmp_path):
    found = compared(
        tmp_path, [record("a", "x", "1", "within-bound")], [record("a", "x", "2", "within-bound")]
    )
    assert len(found.of("within bound")) == 1


def test_checks_of_one_run_alone_are_told(tmp_path):
    found = compared(tmp_path, [record("a", "x", "1")], [record("a", "y", "1")])
    assert [change.kind for change in found.checks] == ["gone", "new"]


def test_two_runs_without_a_check_in_common_were_not_compared(tmp_path, cli):
    found = compared(tmp_path, [record("a", "x", "1")], [record("a", "y", "1")])
    assert list(lines(found))[-1] == "Nothing was compared: no check has an answer in both"
    assert cli("diff", "before", "after").returncode == 3
    told = cli("diff", "before", "after", "--json")
    assert (told.returncode, json.loads(told.stdout)["compared"]) == (3, 0)
    asked = compared(tmp_path, [record("a", "x", "1")], [record("a", "x", "1", "unsupported")])
    assert not asked.compared


def test_what_fails_in_the_second_run_alone_is_told_first(tmp_path):
    after = [record("a", str(i), "1") for i in range(30)]
    found = compared(tmp_path, [], [*after, record("a", "last", "2", "fail")])
    assert "  channel_shuffle/a@cpu:last: · → fail" in list(lines(found))


def test_two_devices_are_compared_check_by_check(tmp_path):
    found = compared(tmp_path, [record("a", "x", "1")], [record("a", "x", "1", device="cuda")])
    assert [(c.check, c.kind) for c in found.checks] == [("channel_shuffle/a:x", "same bits")]


def test_a_run_cut_short_is_said_to_be(tmp_path):
    both = [record("a", "x", "1")]
    found = changes(results(tmp_path / "a", both), results(tmp_path / "b", both, finished=False))
    assert not found.is_whole
    assert "cut short" in list(lines(found))[1]


def test_many_differences_are_shown_on_demand(tmp_path):
    before = [record("a", str(i), "1") for i in range(30)]
    found = compared(tmp_path, before, [record("a", str(i), "2") for i in range(30)])
    assert "  and 10 more; --all shows them" in list(lines(found))
    assert len(list(lines(found, everything=True))) == len(list(lines(found))) + 9


def test_other_goldens_and_several_runs_are_refused(tmp_path):
    with pytest.raises(UsageError, match="different goldens"):
        compared(tmp_path, [record("a", "x", "1")], [record("a", "x", "1")], goldens="beef")
    files = [
        results(tmp_path / v, [record("a", "x", "1")], packages={"torch": v}) for v in ("1", "2")
    ]
    merged = saved(merge(files), tmp_path / "merged")
    with pytest.raises(UsageError, match="holds 2 runs; a diff is of one with one"):
        changes(files[0], merged)
