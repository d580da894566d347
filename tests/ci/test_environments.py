"""Environments of the matrix are made with the Pythons of a machine, wherever it keeps them."""

import sys

import pytest

sys.path.append("ci")
from environments import CannotRun, python_of
from jobs import Job


def job(python):
    return Job("one", "cpu", python, os="", shards=1, packages={})


def test_pythons_of_pyenv_and_uv_are_found(tmp_path, monkeypatch):
    monkeypatch.setattr("pathlib.Path.home", lambda: tmp_path)
    for place in (".pyenv/versions/3.98.2/bin", ".local/share/uv/python/cpython-3.99.0-x/bin"):
        folder = tmp_path / place
        folder.mkdir(parents=True)
        version = "3.98" if "pyenv" in place else "3.99"
        program = folder / ("python" if "pyenv" in place else "python3")
        program.write_text(f"#!/bin/sh\necho {version}\n")
        program.chmod(0o755)
    assert python_of(job("3.98")).endswith("3.98.2/bin/python")
    assert python_of(job("3.99")).endswith("bin/python3")


def test_a_python_that_is_nowhere_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr("pathlib.Path.home", lambda: tmp_path)
    with pytest.raises(CannotRun, match=r"one needs Python 3\.97, which is not here"):
        python_of(job("3.97"))
