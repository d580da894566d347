"""Every way to ask a check widens bounds to what the device was measured to keep."""

import numpy as np
import pytest

from conformance.core.checks import Check
from conformance.core.formats import Bits
from conformance.core.implementations import own
from conformance.core.outcomes import Answer
from conformance.frameworks import Description
from conformance.run.devices import NOWHERE, Machine
from conformance.run.examiner import Examiner
from conformance.run.goldens import installed
from conformance.run.launch import ranks
from conformance.run.launch.sharing import Sharing
from conformance.run.plan import Plan
from conformance.subjects import all_cases
from conformance.testing import golden_cases

GOLDENS = installed()
CASES = {case.name: case for case in all_cases()}
TF32 = Machine({"torch": Description({}, {"cpu": "a CPU"}, {}, {}, {"cpu": {"f32": Bits(11, 24)}})})
RING = next(one for one in own() if one.name == "torch_ddp")
CHECK = Check(RING, CASES["classifier-w2-equal-k1-f32-rounding"], "cpu")


class _OneRank:
    """A launch of one process, whose world gives the answer of a device that keeps 11 bits."""

    engine, rank, size = "test", 0, 1
    changes = ()

    def __init__(self, arrays):
        self._arrays = arrays

    def takes_part(self, check):
        return 1

    def joined(self, generation, bus, environment):
        return self

    def run(self, task, timeout):
        return [ranks.Stood(Answer(self._arrays))]

    def close(self):
        pass


class _Bus:
    def put(self, key, value):
        pass

    def is_there(self, keys):
        return False

    def look_after(self, ranks):
        pass


@pytest.fixture(scope="module")
def arrays():
    """An answer outside of the stored bounds, and inside of those at 11 bits."""
    stored = Examiner(GOLDENS).prepare(CHECK).golden
    wide = Examiner(GOLDENS, machine=TF32).prepare(CHECK).golden
    answer = {}
    for name, right in stored.answers.items():
        if name.startswith("rank_mean/"):
            off = (stored.bounds[name] + wide.bounds[name]) / 2
            answer[name.removeprefix("rank_mean/")] = (right + off).astype(np.float32)
    return answer


@pytest.mark.parametrize(("machine", "status"), [(NOWHERE, "fail"), (TF32, "within-bound")])
def test_a_run_holds_an_answer_to_the_precision_of_its_device(arrays, machine, status):
    examiner = Examiner(GOLDENS, machine=machine)
    assert examiner.judge(examiner.prepare(CHECK), [Answer(arrays)] * 2).status == status


@pytest.mark.parametrize(("machine", "status"), [(NOWHERE, "fail"), (TF32, "within-bound")])
def test_a_worker_holds_an_answer_to_the_precision_of_its_device(arrays, machine, status):
    sharing = Sharing(Plan((CHECK,), GOLDENS), {}, 0)
    leader = ranks._Ranks(_OneRank(arrays), sharing, _Bus(), 10.0)
    [(check, verdict, _)] = leader.lead(Examiner(GOLDENS, machine=machine))
    assert (check, verdict.status) == (CHECK, status)


@pytest.mark.parametrize(("machine", "is_right"), [(NOWHERE, False), (TF32, True)])
def test_a_golden_case_holds_an_answer_to_the_precision_of_its_device(
    arrays, machine, is_right, monkeypatch
):
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(golden_cases, "_machine", lambda framework: machine)
    [case] = golden_cases.golden_cases(CHECK.case.id)
    gradients = {
        name.removeprefix("gradient/"): torch.from_numpy(array) for name, array in arrays.items()
    }
    if is_right:
        case.verify(gradients)
    else:
        with pytest.raises(AssertionError, match="outside the bound"):
            case.verify(gradients)


def test_a_worker_calls_checks_on_a_missing_device_unsupported(arrays):
    missing = Machine({"torch": Description({}, {}, {}, {"cpu": "there is none"})})
    sharing = Sharing(Plan((CHECK,), GOLDENS), {}, 0)
    leader = ranks._Ranks(_OneRank(arrays), sharing, _Bus(), 10.0)
    [(_, verdict, _)] = leader.lead(Examiner(GOLDENS, machine=missing))
    assert (verdict.status, verdict.reason) == ("unsupported", "there is none")
