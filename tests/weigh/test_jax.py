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


@pytest.mark.parametrize("world", [1, 2, 4])
def test_a_loop_is_called_what_it_does_and_its_right_form_passes(world):
    loops = Path(__file__).parent / "jax_loops.py"
    done = subprocess.run(
        [sys.executable, str(loops), str(world)], capture_output=True, text=True, timeout=280
    )
    assert done.returncode == 0, done.stderr[-3000:]
    rows = json.loads(done.stdout)
    assert len(rows) >= (20 if world > 1 else 12)
    assert [row for row in rows if not row[2] or row[1] not in row[2].partition(":")[0]] == []
    assert [(row[0], row[3]) for row in rows if row[3] is not None] == []
