"""What the README says is so."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_generated_parts_are_up_to_date():
    done = subprocess.run(
        [sys.executable, ROOT / "ci" / "readme.py", "--check"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_the_ten_lines_conform(cli, tmp_path):
    pytest.importorskip("torch")
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len(code.strip().splitlines()) <= 11
    (tmp_path / "mine.py").write_text(code)
    done = cli("run", "--adapter", "mine.py", "channel_shuffle/my_shuffle")
    assert done.returncode == 0, done.stdout


def test_every_link_leads_somewhere():
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", README):
        assert (ROOT / target).exists(), target


def test_the_picture_is_what_its_command_draws(cli, tmp_path):
    image = pytest.importorskip("PIL.Image")
    cli("explain", "photographs-u8", "--picture", "fresh.png")
    fresh, kept = (
        np.asarray(image.open(file))
        for file in (tmp_path / "fresh.png", ROOT / "docs" / "channel-shuffle.png")
    )
    assert np.array_equal(fresh, kept)


@pytest.mark.parametrize(
    "command", re.findall(r"^conformance (?:run|list|explain|regen)[^\n#]*", README, re.MULTILINE)
)
def test_every_command_is_understood(cli, command):
    import shlex

    arguments = shlex.split(command)[1:]
    if arguments[0] == "run":  # that the checks exist; other tests run them
        pattern = [word for word in arguments[1:] if "/" in word and not word.endswith(".py")]
        if "my_shuffle" in command or "--shard" in command or "wrong" in command:
            return
        assert cli("list", "checks", *pattern).returncode == 0
    else:
        assert cli(*arguments).returncode == 0
