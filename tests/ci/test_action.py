"""The action's step runs what its inputs say, shows the summary, and fails as the run does."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
STEP = ROOT / "ci" / "action" / "run"
WRONG = ROOT / "examples" / "wrong_shuffle.py"
PATTERN = "channel_shuffle/wrong_inverse:identity-probe-f32-c12-g3"


def step(folder, **inputs):
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    summary = {"GITHUB_STEP_SUMMARY": str(folder / "summary")}
    environment = {**os.environ, "PATH": path, **summary, **inputs}
    return subprocess.run(
        ["bash", STEP], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize(
    ("patterns", "status", "words"),
    [
        (PATTERN, 1, "Does not conform"),
        ("channel_shuffle/numpy_reshape:grid-c6-g2\nchannel_shuffle/numpy_reshape:grid-c6-g3",
         0, "Conforms: 2 checks"),
        ("channel_shuffle/nobody", 2, ""),
    ],
)  # fmt: skip
def test_the_step_ends_as_the_run_does_and_shows_its_summary(tmp_path, patterns, status, words):
    done = step(tmp_path, ADAPTERS=str(WRONG), PATTERNS=patterns)
    assert done.returncode == status, done.stderr
    summary = tmp_path / "summary"
    assert words in (summary.read_text(encoding="utf-8") if summary.exists() else "")


def test_the_step_asks_what_the_project_says(tmp_path):
    (tmp_path / "pyproject.toml").write_text(f"[tool.conformance]\nadapters = ['{WRONG}']\n")
    done = step(tmp_path, QUICK="true", REPORT="there")
    assert done.returncode == 1
    assert "wrong_inverse" in done.stdout
    assert (tmp_path / "there" / "junit.xml").is_file()


def test_the_inputs_of_the_action_are_those_of_the_step():
    action = (STEP.parent / "action.yml").read_text(encoding="utf-8")
    script = STEP.read_text(encoding="utf-8")
    for name in ("adapters", "patterns", "quick", "report"):
        assert f"{name.upper()}: ${{{{ inputs.{name} }}}}" in action
        assert f"${{{name.upper()}:-" in script
