"""The list of lines that only a machine with a GPU runs, against the source as it is."""

import ast
import importlib.util
import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ENTRIES = tomllib.loads((ROOT / "ci" / "gpu_lines.toml").read_text(encoding="utf-8"))["unrun"]


@pytest.fixture(scope="module")
def measuring():
    spec = importlib.util.spec_from_file_location("gpu_lines", ROOT / "ci" / "gpu_lines.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda one: f"{one['file']}:{one['function']}")
def test_every_listed_line_stands_in_its_function(entry):
    text = (ROOT / entry["file"]).read_text(encoding="utf-8")
    body = text.splitlines()
    if entry["function"] != "(the module)":
        node = ast.parse(text)
        for name in entry["function"].split("."):
            node = next(
                one
                for one in ast.walk(node)
                if isinstance(one, ast.FunctionDef | ast.ClassDef) and one.name == name
            )
        body = body[node.lineno - 1 : node.end_lineno]
    stripped = [line.strip() for line in body]
    missing = [line for line in entry["lines"] if line not in stripped]
    assert not missing, "the file has changed: measure again by `python ci/gpu_lines.py`"


def test_every_file_that_knows_of_devices_is_measured(measuring):
    listed = {entry["file"] for entry in ENTRIES}
    assert listed <= set(measuring.FILES)
    assert all((ROOT / file).is_file() for file in measuring.FILES)
    naming = {
        path.relative_to(ROOT).as_posix()
        for room in ("frameworks", "worlds")
        for path in (ROOT / "conformance" / room).rglob("*.py")
        if re.search(r'torch\.cuda|torch\.accelerator|"cuda', path.read_text(encoding="utf-8"))
    }
    names_it_only = {"conformance/frameworks/__init__.py"}
    assert naming - names_it_only <= set(measuring.FILES)


def test_lines_are_told_by_the_innermost_function(measuring, tmp_path, monkeypatch):
    inner = "        def g():\n            return 1\n        return g\n"
    (tmp_path / "a.py").write_text(f"x = 1\n\n\nclass A:\n    def f(self):\n{inner}")
    monkeypatch.setattr(measuring, "ROOT", tmp_path)
    found = {one.function: one.lines for one in measuring.by_function("a.py", [1, 7, 8])}
    assert found == {"(the module)": ("x = 1",), "A.f.g": ("return 1",), "A.f": ("return g",)}


def test_what_is_written_reads_back(measuring):
    one = measuring.Unrun("a.py", "f", ('say("ä \\n")', "return"))
    (read,) = tomllib.loads(measuring.rendered([one]))["unrun"]
    assert read == {"file": "a.py", "function": "f", "lines": ['say("ä \\n")', "return"]}
