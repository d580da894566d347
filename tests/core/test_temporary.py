"""Where temporary files go is chosen without writing anything there."""

import os
import tempfile
from pathlib import Path

import pytest

from conformance.core import temporary


@pytest.fixture
def unset(monkeypatch):
    for name in ("TMPDIR", "TEMP", "TMP"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(tempfile, "tempdir", None)


@pytest.mark.parametrize("name", ["TMPDIR", "TEMP", "TMP"])
def test_the_folder_of_the_environment_is_taken_and_nothing_is_written(
    unset, monkeypatch, tmp_path, name
):
    monkeypatch.setenv(name, str(tmp_path))
    written = tmp_path.stat().st_mtime_ns
    temporary.choose()
    assert tempfile.gettempdir() == str(tmp_path)
    assert tmp_path.stat().st_mtime_ns == written


def test_what_is_no_folder_is_passed_over_as_python_does(unset, monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "file"))
    monkeypatch.setenv("TEMP", str(tmp_path / "none"))
    monkeypatch.setenv("TMP", str(tmp_path))
    temporary.choose()
    assert tempfile.gettempdir() == str(tmp_path)


def test_without_a_word_of_the_environment_it_is_the_usual_one(unset):
    temporary.choose()
    assert Path(tempfile.gettempdir()).is_dir()
    assert tempfile.gettempdir() == "/tmp" or not os.access("/tmp", os.W_OK)
