from conformance.report import forms
from conformance.report.comparison import comparisons, tally
from conformance.report.merging import merge
from conformance.report.summary import summarize
from conformance.run.results import Run
from tests.report.records import record, results


def merged(tmp_path, *runs):
    return merge(
        [
            results(tmp_path / str(i), records, packages={"torch": str(i)})
            for i, records in enumerate(runs)
        ]
    )


def test_each_check_is_compared_across_versions(tmp_path):
    first = [
        record("a", "same", "1"),
        record("a", "near", "1", "within-bound"),
        record("a", "broke", "1"),
        record("a", "lost", "1"),
    ]
    second = [
        record("a", "same", "1"),
        record("a", "near", "2", "within-bound"),
        record("a", "broke", "2", "fail"),
        record("a", "lost", None, "unsupported"),
    ]
    found = comparisons(merged(tmp_path, first, second))
    assert [one.kind for one in found] == ["same bits", "within bound", "verdicts", "alone"]
    assert found[2].words == "channel_shuffle/a:broke: exact 1 on R1; fail 2 on R2"
    assert tally(found) == (
        "1 of 3 checks gave the same bits in every place; 1 are within bound in every place, and "
        "differ; 1 changed verdict; 1 were asked in one place alone"
    )


def test_each_check_is_compared_across_devices_of_one_run():
    records = (record("a", "x", "1"), record("a", "x", "2", device="cuda"))
    [one] = comparisons(Run({}, records))
    assert one.words == "channel_shuffle/a:x: exact 1 on cpu; exact 2 on cuda"


def test_one_run_on_one_device_has_nothing_to_compare():
    assert comparisons(Run({}, (record("a", "x", "1"), record("b", "x", "1")))) == ()


def test_agreement_names_the_run_of_who_differs(tmp_path):
    run = merged(tmp_path, [record("a", "x", "1"), record("b", "x", "1")], [record("a", "x", "2")])
    text = forms.agreement_text(summarize(run))
    assert "2 of 3 answers are the same bits; differing: a@cpu R2" in text
    assert "R2  torch 1, " in text
