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
    tree = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    told = set(re.findall(r"^conformance/(\w+)/ ", tree, re.MULTILINE))
    assert told == rooms | {"goldens"}


BLOCKS = {
    block.splitlines()[0].removeprefix("# "): block
    for block in re.findall(r"```python\n(.*?)```", README, re.DOTALL)
}


@pytest.fixture
def folder(tmp_path):
    """A folder with the files that the README has one write, and nothing else."""
    for name, block in BLOCKS.items():
        (tmp_path / name).write_text(block)
    return tmp_path


def test_the_ten_lines_conform(cli, folder):
    assert len(BLOCKS["mine.py"].strip().splitlines()) <= 11
    done = cli("run", "--adapter", "mine.py", cwd=folder)
    assert done.returncode == 0, done.stdout
    assert re.search(r"mine.py +# (\d+) questions", README)[1] in done.stdout


def test_the_loop_and_its_port_conform(cli, folder):
    done = cli("run", "--quick", "--adapter", "loops.py", cwd=folder)
    assert done.returncode == 0, done.stdout
    assert "gradient_mean jax" in done.stdout


def test_the_plugin_takes_the_adapter(folder):
    [line] = re.findall(r"^pytest ([^#\n]*)", README, re.MULTILINE)
    script = Path(sys.executable).with_name("pytest")
    call = [script, *line.split(), "-k", "identity", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(call, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_the_whole_script_and_the_models_are_called_as_the_commands_take_them(cli):
    """Their pages run them; here are the options alone."""
    for command in re.findall(r"`?conformance ((?:weigh|compare) [^`\n]*)", README):
        done = cli(*command.split())
        assert done.returncode == 2
        assert re.search("no such (file|script)", done.stderr.lower()), done.stderr


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md"])
def test_every_link_leads_somewhere(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    targets = re.findall(r"\]\((?!http)([^)#]+)\)", text)
    assert targets
    assert [target for target in targets if not (ROOT / target).exists()] == []
