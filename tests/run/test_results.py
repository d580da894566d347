import json
import shlex
from dataclasses import replace

import pytest

from conformance.core.outcomes import UsageError
from conformance.core.report_folder import ReportFolder
from conformance.run.results import FILE, Run, Writer, read
from tests.report.records import record

HEADER = {"suite": "0"}


def written(folder, *, finish):
    with ReportFolder(folder) as report_folder, Writer(report_folder, HEADER) as writer:
        writer.add(record("a", "x", "1"))
        writer.add(record("a", "y", None, "fail", "no-transpose"))
        if finish:
            writer.finish()
    return folder / FILE


def test_what_is_written_is_read_back(tmp_path):
    run = read(written(tmp_path, finish=True))
    assert run.records == (record("a", "x", "1"), record("a", "y", None, "fail", "no-transpose"))
    assert run.footer["conforms"] is False
    assert run.footer["counts"] == run.counts == {"exact": 1, "fail": 1}


def test_a_file_without_a_footer_is_a_run_cut_short(tmp_path):
    assert read(written(tmp_path, finish=False)).footer is None


def test_a_last_line_that_was_not_finished_is_left_out(tmp_path):
    file = written(tmp_path, finish=False)
    file.write_text(file.read_text()[:-20])
    assert len(read(file).records) == 1


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty"),
        ('{"kind": "check"}\n', "no header"),
        ("[]\n", ":1: is no JSON object"),
        ("[" * 100_000 + "\n\n", "is not JSON"),
        ('{"kind": "header", "format": 2, "suite": "9.0"}\n', "is in format 2, .*reads format 1"),
        ('{"kind": "header"}\n{"kind": "check"}\n', ":2: 'id' is missing"),
        ("no json\nat all\n", "is not JSON"),
        ('{"kind": "header"}\n{"kind": "verdict"}\n{"kind": "footer"}\n', ":2: is neither"),
    ],
)
def test_a_foreign_file_is_named(tmp_path, text, words):
    (tmp_path / FILE).write_text(text)
    with pytest.raises(UsageError, match=words):
        read(tmp_path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UsageError, match="cannot be read"):
        read(tmp_path / "nothing.jsonl")


def test_lines_are_on_disk_as_each_check_ends(tmp_path):
    with ReportFolder(tmp_path) as folder, Writer(folder, HEADER) as writer:
        writer.add(record("a", "x", "1"))
        lines = (tmp_path / FILE).read_text().splitlines()
        assert [json.loads(line)["kind"] for line in lines] == ["header", "check"]


def altered(tmp_path, **changes):
    file = written(tmp_path, finish=True)
    header, first, *rest = file.read_text().splitlines()
    file.write_text("\n".join([header, json.dumps({**json.loads(first), **changes}), *rest]))
    return file


EVIDENCE = {
    "differs": {"name": "output", "words": "output: wrong", "wrong": 1, "index": [0]},
    "permutation": [1, 0],
    "factor": 2.0,
    "observed": ["it moves the channels"],
    "done": "swapped",
    "advice": "Do not.",
}


def test_evidence_is_written_and_read_back_and_absent_where_there_is_none(tmp_path):
    with ReportFolder(tmp_path) as folder, Writer(folder, HEADER) as writer:
        writer.add(record("a", "x", "1"))
        writer.add(record("a", "y", "2", "fail", evidence=EVIDENCE))
    _, right, wrong = map(json.loads, (tmp_path / FILE).read_text().splitlines())
    assert "evidence" not in right
    assert wrong["evidence"] == read(tmp_path).records[1].evidence == EVIDENCE


@pytest.mark.parametrize(
    "evidence",
    [
        "inverse",
        {"permutation": "(0 1)"},
        {"permutation": [0, "1"]},
        {"differs": "output"},
        {"differs": {"words": 3}},
        {"observed": [None]},
        {"done": 1},
    ],
)
def test_evidence_of_another_form_is_named_with_its_line(tmp_path, evidence):
    with pytest.raises(UsageError, match=r"results\.jsonl:2: evidence: .*expected "):
        read(altered(tmp_path, evidence=evidence))


def test_evidence_that_is_not_known_is_kept(tmp_path):
    run = read(altered(tmp_path, evidence={"witness": 1}))
    assert run.records[0].evidence == {"witness": 1}


def test_fields_that_are_not_known_are_kept(tmp_path):
    run = read(altered(tmp_path, witness=["rank_mean"]))
    assert run.records[0].more == {"witness": ["rank_mean"]}
    assert run.records[0].as_object()["witness"] == ["rank_mean"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"status": "green"}, ":2: status: unknown value 'green'"),
        ({"id": 5}, ":2: id: expected str, got int"),
        ({"seconds": "long"}, ":2: seconds: expected float, got str"),
        ({"status": "crash"}, "the footer counts .*'exact': 1.*, its lines are .*'crash': 1"),
    ],
)
def test_a_damaged_check_is_named(tmp_path, changes, words):
    with pytest.raises(UsageError, match=words):
        read(altered(tmp_path, **changes))


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        (None, "environment: expected object, got null"),
        ([], "environment: expected object, got array"),
        ({"packages": 3}, "environment.packages: expected object, got int"),
        ({"devices": {"torch": 1}}, r"environment.devices\[...\]: expected object, got int"),
        ({"adapters": "mine.py"}, "environment.adapters: expected array, got str"),
    ],
)
def test_an_environment_of_another_form_is_named_with_its_line(tmp_path, environment, words):
    (tmp_path / FILE).write_text(json.dumps({"kind": "header", "environment": environment}) + "\n")
    with pytest.raises(UsageError, match=f":1: {words}"):
        read(tmp_path)


def test_every_character_of_a_reason_comes_back(tmp_path):
    nasty = "\u2028 \x85 \x0b \r\n \udc80 <script> \u202e 🙂"
    one = replace(record("a", "x", "1"), reason=nasty)
    with ReportFolder(tmp_path) as folder, Writer(folder, HEADER) as writer:
        writer.add(one)
        writer.finish()
    assert read(tmp_path).records == (one,)


def test_a_rerun_line_is_quoted_for_a_shell():
    run = Run({"environment": {"adapters": ["my file.py"]}}, ())
    assert run.rerun("a/b@cpu:c") == "conformance run a/b@cpu:c --adapter 'my file.py'"
    line = run.rerun("a/'; touch hacked; '@cpu:c")
    assert shlex.split(line)[2] == "a/'; touch hacked; '@cpu:c"
