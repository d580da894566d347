"""A run that is killed at any moment leaves nothing behind, and results that can be read."""

import os
import random
import signal
import subprocess
import sys
import time
import uuid

import pytest
from click.testing import CliRunner

from conformance.cli import commands
from conformance.core.outcomes import UsageError
from conformance.frameworks import is_installed
from tests.harm import campaign
from tests.sampling import IS_FULL

KILLS = 200 if IS_FULL else 3
LONGEST = 6.0  # seconds: a whole run takes about as long


@pytest.mark.timeout(3600)
def test_a_run_killed_at_a_random_moment_leaves_nothing_and_can_be_reported(cli, tmp_path, counts):
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    adapter = campaign.right_adapter(tmp_path, "numpy")
    patterns = ["channel_shuffle/numpy_reshape:grid*", "channel_shuffle/innocent*:grid*"]
    if is_installed("torch"):
        patterns.append("gradient_mean/torch_ddp:linear-w2-equal-k1*")
    call = [sys.executable, "-m", "conformance", "run", *patterns, "--adapter", str(adapter)]
    report = ["report", str(tmp_path / "conformance-report"), "--to", str(tmp_path / "again")]
    before = campaign.shared_memory()
    moments = random.Random(7)
    for _ in range(KILLS):
        mark = uuid.uuid4().hex
        environment = {**os.environ, campaign.MARK: mark, "TMPDIR": str(temporary)}
        run = subprocess.Popen(
            call,
            cwd=tmp_path,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            run.wait(moments.uniform(0, LONGEST))
        except subprocess.TimeoutExpired:
            os.kill(run.pid, signal.SIGKILL)
        status = run.wait()
        left = _left(mark)
        counts["kills"] = counts.get("kills", 0) + (status == -signal.SIGKILL)
        counts["leftovers"] += len(left)
        assert left == []
        # In this process, since starting the console script takes longer than most of the runs.
        told = CliRunner().invoke(commands, report)
        raised = not isinstance(told.exception, SystemExit | UsageError | None)
        counts["tracebacks"] += raised
        assert not raised, told.exception
        # Killed before its first line, it has no results; later it is cut short; or it was whole.
        has_none = isinstance(told.exception, UsageError)
        assert has_none or told.exit_code in (0, 3), told.output
        # It may be killed when all its results are written, and before it ends.
        is_whole = not has_none and _is_whole(tmp_path / "conformance-report" / "results.jsonl")
        assert (told.exit_code == 0) == is_whole
        assert is_whole or status != 0
    # The next start sweeps away what the killed ones had no time for.
    whole = cli("run", *patterns, "--adapter", adapter, cwd=tmp_path, TMPDIR=str(temporary))
    assert whole.returncode == 0, whole.stderr
    assert list(temporary.iterdir()) == []
    assert campaign.shared_memory() <= before


def _is_whole(results):
    *_, last = ["", *results.read_text().splitlines(keepends=True)]
    return last.startswith('{"kind": "footer"') and last.endswith("}\n")


def _left(mark):
    late = time.monotonic() + 20
    while (processes := campaign.marked(mark)) and time.monotonic() < late:
        time.sleep(0.02)
    return processes
