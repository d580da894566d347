"""The suite's own implementations share processes, since none of them leaves one changed."""

from itertools import groupby

import pytest

from conformance.core.checks import all_checks
from conformance.core.implementations import own
from conformance.frameworks import is_installed
from conformance.run.examiner import Examiner
from conformance.run.goldens import installed
from conformance.run.worlds import world_of
from conformance.subjects import all_cases
from tests.sampling import IS_FULL

# Checks of each implementation. A run looks after every check of every implementation, too.
MOST = 4 if IS_FULL else 1


@pytest.fixture(scope="module")
def examiner():
    examiner = Examiner(installed(), timeout=120)
    yield examiner
    examiner.close()


def of_each(framework):
    """A check of each implementation, or a few that are spread over its cases."""
    checks = all_checks([one for one in own() if one.framework == framework], all_cases(), ["cpu"])
    for _, group in groupby(checks, lambda check: check.implementation.id):
        own_checks = list(group)
        yield from own_checks[:: max(1, len(own_checks) // MOST)][:MOST]
    # Compilers leave in modules what they compiled of one, and take it away at the next.
    for how in ("compiled", "exported"):
        transformed = {c.implementation.id: c for c in checks[::-1] if transform_of(c) == how}
        yield from list(transformed.values())[:4]


def transform_of(check):
    return check.case.question.transform if check.case.kind == "shuffle" else ""


@pytest.mark.parametrize("framework", ["numpy", "torch", "jax"])
def test_no_own_implementation_leaves_its_process_changed(examiner, framework):
    if not is_installed(framework):
        pytest.skip(f"{framework} is not installed")
    left = {}
    for check in of_each(framework):
        verdict, _ = examiner.examine(check)
        if "it left its process changed" in verdict.reason:
            left[check.id] = verdict.reason
        examiner.keep_only(world_of(check))
    assert not left
