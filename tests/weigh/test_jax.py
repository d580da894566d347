"""JAX: mistakes through pmap, shard_map, jit and scan have their names, right steps none."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("jax")
pytest.importorskip("flax")
pytest.importorskip("optax")


def test_every_mistake_has_its_name_and_no_right_step_is_accused():
    steps = Path(__file__).parent / "jax_steps.py"
    done = subprocess.run([sys.executable, str(steps)], capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr[-3000:]
    rows = json.loads(done.stdout)
    wrong = [row for row in rows if row[2] is not None]
    assert len({row[2] for row in wrong}) >= 11
    assert len(wrong) >= 15
    assert [row for row in wrong if row[3] is None or row[2] not in row[3]] == []
    right = [row for row in rows if row[2] is None]
    assert len(right) >= 10
    assert [row for row in right if row[3] is not None] == []
