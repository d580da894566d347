import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

ROOT = Path(__file__).parents[1]
# A shell starts what runs in the background with Ctrl-C ignored, and children inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
# `python -m` would put the working folder first among the places to import from.
SCRIPT = Path(sys.executable).with_name("conformance")
WRONG = ROOT / "examples" / "wrong_shuffle.py"


def pytest_ignore_collect(collection_path):
    """Leave scripts alone: a look for examples would import them, and some set the scene."""
    if collection_path.suffix == ".py" and not collection_path.name.startswith("test_"):
        return True
    return None


@pytest.fixture(scope="session", autouse=True)
def _shared_kills(tmp_path_factory):
    """The processes of one run of the tests ask once what each case kills."""
    from tests.proofs import kills

    if "PYTEST_XDIST_WORKER" in os.environ:
        kills.shared = tmp_path_factory.getbasetemp().parent / "kills"
        kills.shared.mkdir(exist_ok=True)


@pytest.fixture
def cli(tmp_path):
    """The console script as a user has it: a process of its own, in an empty folder."""

    def call(*arguments, cwd=tmp_path, **environment):
        return subprocess.run(
            [SCRIPT, *map(str, arguments)],
            cwd=cwd,
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            timeout=240,
        )

    return call


@pytest.fixture
def adapter(tmp_path):
    """A NumPy adapter file of this body, after `import conformance`."""

    def written(body, name="mine.py"):
        file = tmp_path / name
        file.write_text(f"import conformance\nimport numpy as np\n{body}")
        return file

    return written
