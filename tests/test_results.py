import json

import pytest

from conformance.errors import UsageError
from conformance.results import FILE, Writer, read
from tests.report.records import record

HEADER = {"suite": "0", "checks": 2}


def written(folder, *, finish):
    with Writer(folder, HEADER) as writer:
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
        ("", "no header"),
        ('{"kind": "check"}\n', "no header"),
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
    with Writer(tmp_path, HEADER) as writer:
        writer.add(record("a", "x", "1"))
        lines = (tmp_path / FILE).read_text().splitlines()
        assert [json.loads(line)["kind"] for line in lines] == ["header", "check"]
