import sys
from pathlib import Path

import pytest

from conformance.worlds import LocalWorld


@pytest.fixture(autouse=True)
def _tasks_can_be_found(monkeypatch):
    monkeypatch.setattr(sys, "path", [str(Path(__file__).parent), *sys.path])


@pytest.fixture
def local():
    world = LocalWorld(prepare="tasks_for_tests:prepare")
    yield world
    world.close()
