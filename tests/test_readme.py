"""What the README says is so."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_failure_is_what_the_wrong_example_gets_to_read():
    done = subprocess.run(
        [sys.executable, "-m", "ci.readme", "--check"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_it_is_read_in_a_few_minutes():
    assert len(README.splitlines()) <= 170


def test_every_room_of_the_package_stands_in_the_tree():
    rooms = {path.parent.name for path in (ROOT / "conformance").glob("*/__init__.py")} - {"impls"}
    told = set(re.findall(r"^conformance/(\w+)/ ", README, re.MULTILINE))
    assert told == rooms | {"goldens"}


def test_the_ten_lines_conform(cli, tmp_path):
    pytest.importorskip("torch")
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len(code.strip().splitlines()) <= 11
    (tmp_path / "mine.py").write_text(code)
    done = cli("run", "--adapter", "mine.py", "channel_shuffle/my_shuffle")
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md"])
def test_every_link_leads_somewhere(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    targets = re.findall(r"\]\((?!http)([^)#]+)\)", text)
    assert targets
    assert [target for target in targets if not (ROOT / target).exists()] == []


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
