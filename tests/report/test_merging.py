import json
import re

import pytest

from conformance.core.outcomes import UsageError
from conformance.core.report_folder import ReportFolder
from conformance.report import forms
from conformance.report.comparison import cut_short
from conformance.report.merging import merge
from conformance.report.summary import summarize
from conformance.run.results import digest_of, read
from tests.report.records import header_of, record, results, saved

OLD = {"torch": "2.9.1", "jax": "0.7.1"}


def test_runs_of_two_versions_stand_side_by_side(tmp_path):
    new = results(tmp_path / "new", [record("a", "x", "1")])
    old = results(tmp_path / "old", [record("a", "x", "1")], packages=OLD)
    merged = merge([new, old])
    names = [run["name"] for run in merged.runs]
    assert names == [
        "torch 2.13.0, jax 0.10.2, Python 3.11.7, Linux x86_64 glibc 2.36, cpu",
        "torch 2.9.1, jax 0.7.1, Python 3.11.7, Linux x86_64 glibc 2.36, cpu",
    ]
    assert [r.run for r in merged.records] == names
    assert merged.conforms
    assert merged.header["environment"]["packages"]["torch"] == "2.13.0, 2.9.1"


def test_a_merge_is_a_results_file_with_the_fields_of_every_header(tmp_path):
    file = results(tmp_path / "a", [record("a", "x", "1"), record("a", "y", None, "fail")])
    written = saved(merge([file]), tmp_path / "merged")
    assert {"kind", "suite", "started", "checks", "goldens", "environment"} <= set(
        header_of(written)
    )
    again = read(written)
    assert again.header["checks"] == len(again.records) == 2
    assert again.footer["counts"] == {"exact": 1, "fail": 1}
    assert again.footer["conforms"] is False


def test_shards_are_put_together_also_through_a_merge(tmp_path):
    first, second = (
        results(
            tmp_path / str(i),
            [record("a", str(i), "1")],
            shard=f"{i}/2",
            started=f"2026-11-2{i}",
            plan=digest_of(f"channel_shuffle/a@cpu:{case}" for case in (1, 2)),
        )
        for i in (1, 2)
    )
    half = saved(merge([first]), tmp_path / "half")
    for files in ([first, second], [second, half]):
        merged = merge(files)
        [run] = merged.runs
        assert [part["shard"] for part in run["parts"]] == ["1/2", "2/2"]
        assert run["missing"] == []
        assert merged.conforms
        assert len(merged.records) == 2


def test_a_missing_shard_is_no_conformance(tmp_path):
    file = results(tmp_path / "1", [record("a", "x", "1")], shard="1/3")
    merged = merge([file])
    assert merged.footer is None
    assert not merged.conforms
    assert merged.runs[0]["missing"] == ["2/3", "3/3"]


def test_a_run_cut_short_is_no_conformance(tmp_path):
    whole = results(tmp_path / "a", [record("a", "x", "1")])
    cut = results(tmp_path / "b", [record("a", "x", "1")], finished=False, packages=OLD)
    merged = merge([whole, cut])
    assert merged.footer is None
    assert [run["cut_short"] for run in merged.runs] == [[], ["the run"]]


def test_merges_can_be_merged(tmp_path):
    files = [
        results(tmp_path / v, [record("a", "x", "1")], packages={"torch": v}) for v in ("1", "2")
    ]
    first = saved(merge(files), tmp_path / "first")
    other = results(tmp_path / "3", [record("a", "x", "1")], packages={"torch": "3"})
    merged = merge([first, other])
    assert [run["environment"]["packages"]["torch"] for run in merged.runs] == ["1", "2", "3"]
    assert len({r.run for r in merged.records}) == 3


def test_two_runs_on_the_same_versions_are_told_apart(tmp_path):
    files = [
        results(tmp_path / day, [record("a", "x", "1")], started=f"2026-11-{day}")
        for day in ("01", "02")
    ]
    names = [run["name"] for run in merge(files).runs]
    assert names[1] == f"{names[0]} #2"


def test_what_a_newer_suite_adds_is_handed_on(tmp_path):
    file = results(tmp_path / "a", [record("a", "x", "1", more={"witness": ["left", "right"]})])
    again = read(saved(merge([file]), tmp_path / "merged"))
    assert again.records[0].more == {"witness": ["left", "right"]}


def test_a_report_may_be_written_over_its_own_file(tmp_path):
    file = results(tmp_path / "a", [record("a", "x", "1")])
    once = saved(merge([file]), tmp_path / "a").read_text()
    twice = saved(merge([file]), tmp_path / "a").read_text()
    without = re.compile(r'"finished": "[^"]*"')
    assert without.sub("", once) == without.sub("", twice)


def refused(files, words):
    with pytest.raises(UsageError, match=words) as caught:
        merge(files)
    assert "\n" not in str(caught.value)


def test_different_goldens_are_refused(tmp_path):
    first = results(tmp_path / "a", [record("a", "x", "1")])
    second = results(tmp_path / "b", [record("a", "x", "1")], goldens="beef")
    refused([first, second], "different goldens .9acd… and beef….: their answers cannot")


def test_the_same_run_twice_is_refused(tmp_path):
    file = results(tmp_path / "a", [record("a", "x", "1")])
    merged = saved(merge([file]), tmp_path / "merged")
    refused([file, file], "both hold the run that started at 2026-11-25")
    refused([file, merged], "both hold the run that started at 2026-11-25")


def test_a_shard_twice_is_refused(tmp_path):
    files = [
        results(tmp_path / day, [record("a", "x", "1")], shard="1/2", started=day)
        for day in ("1", "2")
    ]
    refused(files, "are both shard 1/2 of the same checks on the same versions")


@pytest.mark.parametrize(
    ("case", "words"),
    [("x", "x is in two shards of one run"), ("y", "do not hold the checks that were divided")],
)
def test_a_shard_under_the_number_of_another_is_refused(tmp_path, case, words):
    first = results(tmp_path / "a", [record("a", "x", "1")], shard="1/2")
    second = results(tmp_path / "b", [record("a", case, "1")], shard="2/2")
    refused([first, second], words)


@pytest.mark.parametrize(
    ("other", "words"),
    [
        ({"plan": "another"}, "they divide different sets of checks"),
        ({"packages": OLD}, "packages .*0.10.2.* and .*0.7.1"),
        ({"suite": "0.2.0"}, "suite 0.1.0 and 0.2.0"),
    ],
)
def test_shards_of_different_runs_are_refused(tmp_path, other, words):
    first = results(tmp_path / "a", [record("a", "x", "1")], shard="1/2")
    second = results(tmp_path / "b", [record("a", "y", "1")], shard="2/2", **other)
    refused([first, second], f"are shards of different runs: {words}")


def test_a_header_without_what_a_merge_must_know_is_refused(tmp_path):
    file = results(tmp_path / "a", [record("a", "x", "1")], goldens=None)
    refused([file], ":1: goldens: expected str, got null")
    file = results(tmp_path / "b", [record("a", "x", "1")], environment=None)
    refused([file], ":1: environment: expected object, got null")


@pytest.mark.parametrize("value", [None, 5, "x", [], {}, ["a"], {"a": 1}], ids=repr)
def test_a_header_of_another_form_is_one_line_or_a_report(tmp_path, value):
    file = results(tmp_path / "a", [record("a", "x", "1", "fail")])
    head, *rest = file.read_text().split("\n")
    header = json.loads(head)
    environment = header["environment"]
    strange = [{**header, name: value} for name in header]
    strange += [{**header, "environment": {**environment, name: value}} for name in environment]
    for one in strange:
        file.write_text("\n".join([json.dumps(one), *rest]))
        try:
            merged = merge([file])
        except UsageError as error:
            assert str(error).startswith(f"results {file}")
            assert "\n" not in str(error)
        else:
            with ReportFolder(tmp_path / "to") as folder:
                forms.write(summarize(merged), folder)


def test_a_run_of_thousands_of_shards_and_a_merge_of_many_runs_take_no_time(tmp_path):
    file = results(tmp_path / "a", [record("a", "x", "1")], shard="1/9999")
    merged = merge([file])
    [part] = merged.runs
    assert len(part["missing"]) == 9998
    words = cut_short(merged)
    assert words.startswith("Not whole (R1: shard 2/9999 is missing; R1: shard 3/9999")
    assert words.endswith("; R1: 9986 more are missing or were cut short)")
    header = {"kind": "header", **merged.header}
    parts = [{**part["parts"][0], "shard": f"{n}/9999"} for n in range(1, 500)]
    header["runs"] = [{**part, "parts": parts, "missing": [], "name": f"{n}"} for n in range(9)]
    (tmp_path / "many.jsonl").write_text(json.dumps(header) + "\n")
    refused([tmp_path / "many.jsonl"], "both hold shard 1/9999")
    header["runs"] = [{**part, "missing": []}] * 1001
    (tmp_path / "many.jsonl").write_text(json.dumps(header) + "\n")
    refused([tmp_path / "many.jsonl"], ":1: runs: expected array of length <= 1000")
