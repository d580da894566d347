"""Counts of the attacks, printed at the end."""

import pytest

COUNTS = pytest.StashKey()


@pytest.fixture(scope="session")
def counts(request):
    """What was tried, and what came of it; printed at the end of the tests."""
    zeros = dict.fromkeys(("attacks", "verdicts changed", "tracebacks", "hangs", "leftovers"), 0)
    return request.config.stash.setdefault(COUNTS, zeros)


def pytest_terminal_summary(terminalreporter, config):
    if counted := config.stash.get(COUNTS, None):
        words = ", ".join(f"{name} {count}" for name, count in counted.items())
        terminalreporter.write_line(f"harm: {words}")
