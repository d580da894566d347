"""What a project says in [tool.conformance] is what its runs mean; a call counts more."""

import json
from pathlib import Path

import pytest

from conformance.core.outcomes import UsageError
from conformance.run.configuration import Configuration, configuration

TABLE = """
[tool.conformance]
adapters = ["code/mine.py"]
quick = true
known = "known.toml"
"""
MINE = """
import conformance

@conformance.implementation("channel_shuffle", framework="numpy")
def mine(x, groups):
    return x.copy() if groups == 3 else __import__("numpy").copy(
        x.reshape(x.shape[0], groups, -1, *x.shape[2:]).swapaxes(1, 2)
    ).reshape(x.shape)
"""
KNOWN = """
[[known]]
checks = "channel_shuffle/mine@cpu:identity-probe-f32-c12-g3"
seen = "fail *"
dated = 2026-11-26
words = "three groups are left as they are"
reference = "our issue 7"
"""


@pytest.fixture
def project(tmp_path):
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "mine.py").write_text(MINE)
    (tmp_path / "pyproject.toml").write_text(TABLE)
    (tmp_path / "known.toml").write_text(KNOWN)
    return tmp_path


def test_a_run_without_arguments_asks_what_the_project_says(cli, project):
    done = cli("run", cwd=project / "code")
    assert f"settings of {project / 'pyproject.toml'}" in done.stderr
    lines = (project / "code" / "conformance-report" / "results.jsonl").read_text().splitlines()
    header, *records, _ = map(json.loads, lines)
    assert header["quick"]
    assert {record["implementation"] for record in records} == {"mine"}
    known = [record["reason"] for record in records if record["status"] == "known"]
    assert known == ["three groups are left as they are (our issue 7, known since 2026-11-26)"]
    assert done.returncode == 1, "other cases of three groups are on nobody's record"


def test_fuzz_and_mutants_are_about_the_same_code_and_its_known_differences(project):
    with (project / "pyproject.toml").open("a") as table:
        table.write("patterns = ['*/mine:identity*', '*/mine:grid*', '*/mine@cpu:bits*']\n")
    options = configuration(project).options
    assert options["fuzz"] == options["mutants"]
    assert options["fuzz"] == {
        "adapters": (str(project / "code" / "mine.py"),),
        "known": project / "known.toml",
        "patterns": ("*/mine", "*/mine@cpu"),
    }


def test_a_known_difference_of_the_project_is_none_of_a_fuzz(cli, project):
    known = KNOWN.replace("identity-probe-f32-c12-g3", "fuzz-*")
    known = known.replace('"fail *"', '["fail *", "error *"]')
    (project / "known.toml").write_text(known)
    done = cli("fuzz", "--seconds", "2", "--seed", "1", cwd=project)
    assert done.returncode == 0, done.stdout
    assert "known" in done.stdout


def test_a_call_counts_more_than_the_project(cli, project):
    done = cli("run", "channel_shuffle/numpy_reshape:grid-c6-g2", cwd=project)
    assert "Conforms: 1 exact" in done.stdout, done.stderr


def test_an_entry_that_no_longer_holds_is_told_by_its_path_as_it_was_given(cli, project):
    (project / "mine.toml").write_text(KNOWN.replace("identity-probe-f32-c12-g3", "grid-c6-g2"))
    done = cli("run", "*/mine:grid-c6-g2", "--known", "mine.toml", cwd=project)
    assert done.returncode == 1
    assert "reason   mine.toml says since 2026-11-26 that this differs (our issue 7)" in done.stdout


@pytest.mark.parametrize(
    ("field", "text", "words"),
    [
        ("dated = 2026-11-26", 'dated = "yesterday"', "dated: is no date, as in 2026-11-27"),
        ('reference = "our issue 7"', 'reference = ""', "reference: expected str of length >= 1"),
    ],
)
def test_an_entry_says_when_and_why(cli, project, field, text, words):
    (project / "known.toml").write_text(KNOWN.replace(field, text))
    done = cli("run", cwd=project)
    assert done.returncode == 2
    assert f"known.toml:2: {words}" in done.stderr


def test_pytest_reads_the_same_table(pytester, project):
    pytester.makepyprojecttoml((project / "pyproject.toml").read_text())
    for name in ("code/mine.py", "known.toml"):
        file = Path(pytester.path, name)
        file.parent.mkdir(exist_ok=True)
        file.write_text((project / name).read_text())
    done = pytester.runpytest_subprocess("--conformance", "-p", "no:cacheprovider")
    outcomes = done.parseoutcomes()
    assert outcomes["skipped"] >= 1
    assert outcomes["passed"] > 5
    done.stdout.re_match_lines([r"channel_shuffle/mine@cpu: does not conform, .*"])
    pytester.makepyprojecttoml(
        "[tool.conformance]\nadapters = ['code/mine.py']\nknown = 'known.toml'"
    )
    done = pytester.runpytest_subprocess(
        "--conformance=*/mine:identity-probe-f32-c12-g3", "-p", "no:cacheprovider"
    )
    done.stdout.re_match_lines([r"channel_shuffle/mine@cpu: conforms: 1 check, 1 known"])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[tool.conformance]\nadapter = []", "unknown field 'adapter'; known: adapters, patterns"),
        ("[tool.conformance]\ntimeout = 0", "timeout: expected float > 0"),
        ("[tool.conformance]\nadapters = 'mine.py'", "adapters: expected array, got str"),
        ("[tool", "is not TOML"),
    ],
)
def test_a_damaged_table_is_one_line_that_names_the_key(tmp_path, text, words):
    (tmp_path / "pyproject.toml").write_text(text)
    with pytest.raises(UsageError) as told:
        configuration(tmp_path)
    assert words in str(told.value)
    assert str(tmp_path / "pyproject.toml") in str(told.value)


def test_a_project_without_the_table_says_nothing(tmp_path):
    (tmp_path / "pyproject.toml").write_text("[project]\nname = 'x'\n")
    assert configuration(tmp_path) == Configuration()
