"""The plugin is installed wherever the suite is: a project that does not use it notices nothing."""

import os
import subprocess
import sys
import tomllib
from importlib.metadata import entry_points
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PASSES = "def test_it():\n    import conformance\n    assert {found}\n"
# What each project has beside its configuration, by file.
PROJECTS = {
    "a folder of tests with a package": {
        "tests/conformance/__init__.py": "",
        "tests/conformance/test_mine.py": PASSES.format(found="'tests' in conformance.__file__"),
    },
    "a folder of tests without one": {
        "tests/conformance/test_mine.py": "def test_it(): pass\n",
    },
    "helpers beside the tests": {
        "tests/conformance/__init__.py": "",
        "tests/conformance/helpers.py": "def answer(): return 42\n",
        "tests/conformance/test_mine.py": (
            "from conformance.helpers import answer\ndef test_it(): assert answer() == 42\n"
        ),
    },
    "a package": {
        "conformance/__init__.py": "theirs = True\n",
        "test_mine.py": PASSES.format(found="conformance.theirs"),
    },
    "a package in src": {
        "src/conformance/__init__.py": "theirs = True\n",
        "conftest.py": "import sys; sys.path.insert(0, 'src')\n",
        "test_mine.py": "import conformance\ndef test_it(): assert conformance.theirs\n",
    },
    "a module": {
        "conformance.py": "theirs = True\n",
        "test_mine.py": "import conformance\ndef test_it(): assert conformance.theirs\n",
    },
    "a module of tests": {
        "conformance.py": "def test_it(): pass\n",
        "pytest.ini": "[pytest]\npython_files = conformance.py\n",
    },
    "a plugin of its own": {
        "conformance.py": "import pytest\n@pytest.fixture\ndef theirs(): return 42\n",
        "conftest.py": "pytest_plugins = ['conformance']\n",
        "test_mine.py": "def test_it(theirs): assert theirs == 42\n",
    },
}


# The suite's folder is on the path where it would be if it was installed: behind the project's.
START = f"""
import sys
if {{of_module}}:
    sys.path.insert(0, '')
installed = next(i for i, folder in enumerate(sys.path) if folder.endswith('-packages'))
sys.path.insert(installed, {str(ROOT)!r})
import pytest
sys.exit(pytest.main(sys.argv[1:]))
"""


@pytest.fixture
def run(tmp_path):
    """Makes a project, and runs pytest in it as if the plugin's entry point was installed."""

    def call(files, *arguments, of_module=False):
        for name, text in {"pytest.ini": "[pytest]\n", **files}.items():
            file = tmp_path / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        code = START.format(of_module=of_module)
        return subprocess.run(
            [sys.executable, "-P", "-c", code, "-q", "-p", "pytest_conformance", *arguments],
            cwd=tmp_path,
            env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONPATH": ""},
            capture_output=True,
            text=True,
        )

    return call


@pytest.mark.parametrize(
    ("project", "of_module"), [*((name, False) for name in PROJECTS), ("a package", True)]
)
def test_a_project_with_something_of_the_suites_name_runs_its_tests(run, project, of_module):
    if project == "a plugin of its own" and entry_points(group="pytest11", name="conformance"):
        pytest.skip("an older version is installed, whose entry point has this name")
    done = run(PROJECTS[project], of_module=of_module)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed" in done.stdout


@pytest.mark.parametrize("project", ["a package", "a module", "a folder of tests with a package"])
def test_what_hides_the_suite_is_told_in_one_line_once_it_is_used(run, project, tmp_path):
    done = run(PROJECTS[project], "--conformance=channel_shuffle/numpy_reshape:grid-c6-g2")
    assert done.returncode == pytest.ExitCode.USAGE_ERROR, done.stdout
    [line] = [line for line in done.stderr.splitlines() if line]
    assert line.startswith(f"ERROR: conformance is {tmp_path}")
    assert "hides the suite of this name" in line


def test_a_fixture_of_the_suite_is_told_the_same(run):
    test = "import conformance\ndef test_it(conformance_case): pass\n"
    done = run({**PROJECTS["a module"], "test_mine.py": test})
    assert done.returncode != 0
    assert "hides the suite of this name" in done.stdout


def test_the_suite_is_asked_where_nothing_hides_it(run):
    files = PROJECTS["a folder of tests without one"]
    done = run(files, "--conformance=channel_shuffle/numpy_reshape:grid-c6-g2")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 passed" in done.stdout


def test_ranks_find_the_suite_also_behind_a_package_of_its_name(tmp_path):
    (tmp_path / "conformance").mkdir()
    (tmp_path / "conformance" / "__init__.py").write_text("raise ImportError('theirs')\n")
    code = (
        f"import sys, conformance.processes as p; sys.path.insert(0, {str(tmp_path)!r}); "
        "task = p.Task('tests.processes.tasks_for_tests:echo', 5); "
        "print(p.LocalWorld().run(task, 60))"
    )
    path = {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env={**os.environ, **path}, capture_output=True
    )
    assert done.stdout == b"[5]\n", done


def test_unused_it_imports_nothing_that_pytest_does_not():
    code = (
        "import pytest, sys; before = set(sys.modules); import pytest_conformance; "
        "print(sorted(set(sys.modules) - before))"
    )
    path = {"PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **path}, capture_output=True, text=True
    )
    assert done.stdout == "['pytest_conformance']\n", done.stderr


def test_a_run_of_pytest_without_use_imports_nothing_of_the_suite(run):
    ends = "def pytest_unconfigure():\n    import sys; print('has', 'conformance' in sys.modules)\n"
    done = run({"conftest.py": ends, "test_mine.py": "def test_it(): pass\n"})
    assert done.returncode == 0, done.stderr
    assert "has False" in done.stdout


def test_the_plugin_is_the_entry_point_and_travels_in_the_wheel():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    points = project["project"]["entry-points"]["pytest11"]
    assert points == {"pytest_conformance": "pytest_conformance"}
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert "pytest_conformance.py" in wheel["only-include"]
