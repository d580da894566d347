import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent))  # for `launches`


@pytest.fixture
def started(tmp_path):
    """Starts a launch, and sees to it that none of its processes is left."""
    from launches import until

    launches = []

    def start(kind, *arguments, **settings):
        launches.append(kind(tmp_path, *arguments, **settings))
        return launches[-1]

    yield start
    for launch in launches:
        launch.end()
        until(lambda: not any(launch.living() for launch in launches), 20)
        assert launch.living() == []
