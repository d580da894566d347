"""The table of ports: a table that cannot be read is one line, and status 2."""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "ci" / "ports_table.py"


@pytest.mark.parametrize(
    ("table", "words"),
    [
        (None, "Is a directory; name a ports.toml"),
        ("", "holds no table of ports: 'port'"),
        ("[[port", "holds no table of ports: "),
        ('[[port]]\nname = "a"\n', "a port has name, first, second and input"),
    ],
)
def test_a_table_that_cannot_be_read_is_one_line(tmp_path, table, words):
    path = tmp_path if table is None else tmp_path / "ports.toml"
    if table is not None:
        path.write_text(table)
    ended = subprocess.run(
        [sys.executable, SCRIPT, path], capture_output=True, text=True, check=False
    )
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.startswith(f"{path}: {words}")
    assert ended.stderr.count("\n") == 1
