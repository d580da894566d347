import sys
import time
from pathlib import Path

import pytest

# Ranks import their tasks by name, along the path that they take over from this process.
sys.path.append(str(Path(__file__).parent))


@pytest.fixture
def is_alive():
    def is_alive(pid):
        try:
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
        except OSError:
            return False

    return is_alive


@pytest.fixture
def until():
    def until(condition, seconds=10.0):
        late = time.monotonic() + seconds
        while not condition() and time.monotonic() < late:
            time.sleep(0.01)
        return condition()

    return until
