"""The probes of P and PA: what they find is what the oracle's model says, and they can fail."""

import copy
import threading
import tomllib
import warnings
from pathlib import Path

import pytest
import torch

from conformance.behaviours import model as behaviours
from conformance.behaviours import probe as probes
from conformance.behaviours.data_parallel import article_probe as data_parallel_article
from conformance.behaviours.data_parallel import probe as data_parallel
from conformance.behaviours.data_parallel import training_probe as data_parallel_training
from conformance.behaviours.data_parallel.cases import cases
from conformance.core.comparison import difference
from conformance.core.outcomes import NotExercised, Unsupported
from conformance.frameworks.torch.host_data_parallel import HostDataParallel

HOST, REAL = "torch_host_data_parallel", "torch_data_parallel"
CASES = {case.name: case for case in cases()}
OF_HOST = {name: case for name, case in CASES.items() if HOST in case.asked_of}
NO_ACCELERATOR = {name for name in CASES if name not in OF_HOST}
ACCELERATOR = (
    torch.accelerator.current_accelerator().type if torch.accelerator.is_available() else ""
)
FOLDER = Path(behaviours.__file__).parents[1] / "core" / "clauses"
DOCUMENT = next(FOLDER.glob("data_parallel.toml*"))  # a draft until every clause has its cases


def found(case, implementation=HOST, device="cpu"):
    """The difference between what the probe says and what the oracle does."""
    place = probes.Place(implementation, device)
    answers = probes.run(case.question.probe, place, dict(case.question.arguments))
    return difference(answers, behaviours.answer(case.question))


def notices(case):
    """Whether the case would not conform."""
    try:
        return found(case) is not None
    except Exception:  # noqa: BLE001 - whatever a broken class raises, the check is an error
        return True


@pytest.mark.parametrize("name", OF_HOST)
def test_the_host_does_what_the_oracle_says(name):
    assert found(CASES[name]) is None


@pytest.mark.parametrize("name", OF_HOST if ACCELERATOR else sorted(NO_ACCELERATOR))
def test_the_real_class_does_too(name):
    try:
        said = found(CASES[name], REAL, ACCELERATOR or "cpu")
    except NotExercised as error:
        assert ACCELERATOR
        pytest.skip(str(error))
    assert said is None


@pytest.mark.parametrize("name", sorted(set(CASES) - NO_ACCELERATOR))
def test_p1_passing_through_on_the_cpu_is_never_a_pass(name):
    with pytest.raises(NotExercised, match="passes through: nothing is parallel"):
        found(CASES[name], REAL, "cpu")


def test_too_few_accelerators_are_counted(monkeypatch):
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: 1)
    with pytest.raises(NotExercised, match="needs 4 accelerators, and here are 1"):
        found(CASES["dp-chunks-b9-d4"], REAL, "cuda")


def test_the_class_on_the_host_is_not_asked_on_an_accelerator():
    with pytest.raises(Unsupported, match="ask it on the CPU"):
        found(CASES["dp-chunks-b9-d4"], HOST, "cuda")


def test_an_implementation_that_uses_neither_class_is_an_error():
    with pytest.raises(ValueError, match="torch_ddp uses neither class"):
        found(CASES["dp-chunks-b9-d4"], "torch_ddp")


def test_every_clause_is_cited_and_no_other():
    clauses = tomllib.loads(DOCUMENT.read_text(encoding="utf-8"))["clause"]
    wanted = {clause["id"] for clause in clauses}
    assert wanted == {f"{head}{n}" for head in ("P", "PA") for n in range(1, 17)}
    assert {clause for case in CASES.values() for clause in case.clauses} == wanted
    for clause in clauses:
        if clause["verdict"] == "contradicted":
            assert clause["id"] in CASES[clause["evidence"]].clauses


def test_names_are_unique_and_kebab_case():
    assert len(CASES) == len(cases())
    for name in CASES:
        assert name.startswith(("dp-", "data-parallel-"))
        assert name.replace("-", "").isalnum()
        assert name == name.lower()


def test_what_the_article_says_of_updates_and_hooks_is_another_answer():
    """PA8: no update stays. PA9: several times on every device, and not once."""
    statistics = behaviours.answer(CASES["data-parallel-running-statistics"].question)
    assert (statistics["running_mean"] != 0).all()
    assert (statistics["running_var"] != 1).all()
    hooks = behaviours.answer(CASES["data-parallel-hooks"].question)
    assert hooks["back"].tolist() == hooks["before"].tolist() == [1, 1]


# Broken on purpose


class PassesThrough(HostDataParallel):
    def __init__(self, module, replicas=0, dim=0):
        super().__init__(module, replicas, dim)
        self.device_ids = []


def weights_of(replica):
    tensors = (m._former_parameters.values() for m in replica.modules())
    return {id(tensor): tensor for several in tensors for tensor in several}.values()


class Averages(HostDataParallel):
    def replicate(self, module, device_ids):
        replicas = super().replicate(module, device_ids)
        for replica in replicas:
            for weight in weights_of(replica):
                weight.register_hook(lambda gradient: gradient / len(replicas))
        return replicas


class SplitsEvenly(HostDataParallel):
    """9 over 4 in 3, 2, 2, 2, as NumPy's array_split."""

    def scatter(self, inputs, kwargs, device_ids):
        parts = [x.tensor_split(len(device_ids), self.dim) for x in inputs]
        named = {key: x.tensor_split(len(device_ids), self.dim) for key, x in kwargs.items()}
        each = range(len(device_ids))
        return (
            [tuple(part[i] for part in parts) for i in each],
            [{key: part[i] for key, part in named.items()} for i in each],
        )


class SharesKeywords(HostDataParallel):
    def scatter(self, inputs, kwargs, device_ids):
        parts, _ = super().scatter(inputs, {}, device_ids)
        return parts, [kwargs] * len(parts)


class RunsHooksOnce(HostDataParallel):
    def replicate(self, module, device_ids):
        first, *others = super().replicate(module, device_ids)
        for replica in others:
            for part in replica.modules():
                for name in vars(part):
                    if name.endswith("_hooks"):
                        setattr(part, name, {})
        return [first, *others]


class RunsHooksTwice(HostDataParallel):
    """What the article says: several times on every device."""

    def replicate(self, module, device_ids):
        for part in module.modules():
            for hook in list(part._forward_hooks.values()):
                part.register_forward_hook(hook)
        return super().replicate(module, device_ids)


class LosesEveryUpdate(HostDataParallel):
    """What the article says: nothing that forward does to the module stays."""

    def replicate(self, module, device_ids):
        replicas = super().replicate(module, device_ids)
        for part in replicas[0].modules():
            for name, buffer in part._buffers.items():
                setattr(part, name, buffer.clone())
        return replicas


class KeepsLastStatistics(HostDataParallel):
    def replicate(self, module, device_ids):
        return super().replicate(module, device_ids)[::-1]


class SharesTheModule(HostDataParallel):
    def replicate(self, module, device_ids):
        return [module] * len(device_ids)


class CopiesTheModule(HostDataParallel):
    def __init__(self, module, replicas, dim=0):
        super().__init__(copy.deepcopy(module), replicas, dim)


class RunsInTurn(HostDataParallel):
    def parallel_apply(self, replicas, inputs, kwargs):
        return [
            replica(*given, **named)
            for replica, given, named in zip(replicas, inputs, kwargs, strict=True)
        ]


class RunsInTurnOnThreads(HostDataParallel):
    def parallel_apply(self, replicas, inputs, kwargs):
        outputs = []
        for replica, given, named in zip(replicas, inputs, kwargs, strict=True):
            thread = threading.Thread(
                target=lambda r=replica, g=given, n=named: outputs.append(r(*g, **n))
            )
            thread.start()
            thread.join()
        return outputs


class GathersBackwards(HostDataParallel):
    def gather(self, outputs, output_device):
        return super().gather(outputs[::-1], output_device)


class GathersOnDevice0(HostDataParallel):
    def forward(self, *inputs, **kwargs):
        self.output_device = 0
        return super().forward(*inputs, **kwargs)


class AlwaysGathers(HostDataParallel):
    """One device as if it were several."""

    def forward(self, *inputs, **kwargs):
        scattered, named = self.scatter(inputs, kwargs, self.device_ids)
        replicas = self.replicate(self.module, self.device_ids[: len(scattered)])
        return self.gather(self.parallel_apply(replicas, scattered, named), self.output_device)


class HidesThePrefix(HostDataParallel):
    def state_dict(self, *args, **kwargs):
        return self.module.state_dict(*args, **kwargs)


class Deprecated(HostDataParallel):
    def forward(self, *inputs, **kwargs):
        warnings.warn("use DistributedDataParallel", FutureWarning, stacklevel=1)
        return super().forward(*inputs, **kwargs)


class ReturnsBareTensors(HostDataParallel):
    def gather(self, outputs, output_device):
        gathered = super().gather(outputs, output_device)
        return list(gathered) if isinstance(gathered, tuple) else gathered


BROKEN = {
    PassesThrough: "dp-chunks-b9-d4 dp-example-b6-on-cpu dp-threads-b8-d4 dp-not-a-module "
    "dp-misplaced-parameter-d2 dp-misplaced-buffer-d2 dp-mean-loss-outside-b5-d2 "
    "dp-summed-gradients-b9-d4 dp-0d-input-alone dp-0d-output-b5-d2-dim0 dp-returned-tuple",
    Averages: "dp-summed-gradients-b9-d4 dp-tied-weight-b5-d4 dp-mean-loss-outside-b5-d2 "
    "dp-mean-loss-inside-b5-d2 dp-same-gradient-b3-d2 dp-small-batch-b3-d8",
    SplitsEvenly: "dp-chunks-b9-d4 dp-chunks-b5-d4 dp-rows-b9-d4 dp-chunks-b9-d4-dim1 "
    "dp-gathered-9x2-d4-dim0",
    SharesKeywords: "dp-chunks-b9-d4 dp-container-list-by-name-d2 dp-unequal-keyword-5-1-d2 "
    "dp-padded-4-against-1-d2",
    RunsHooksOnce: "data-parallel-hooks dp-hooks-b9-d4",
    RunsHooksTwice: "data-parallel-hooks dp-hooks-b9-d4",
    LosesEveryUpdate: "data-parallel-running-statistics dp-buffers-in-place-b9-d4",
    KeepsLastStatistics: "data-parallel-running-statistics dp-buffers-in-place-b9-d4",
    SharesTheModule: "dp-attributes-b9-d4 dp-replica-weights-b9-d4 dp-buffers-rebound-b9-d4 "
    "dp-threads-b8-d4 dp-chunks-b9-d4",
    CopiesTheModule: "dp-container-of-the-module-b8-d4 dp-one-device-tensor",
    RunsInTurn: "dp-threads-b8-d4 dp-both-classes-b8-d4",
    RunsInTurnOnThreads: "dp-threads-b8-d4 dp-both-classes-b8-d4",
    GathersBackwards: "dp-rows-b9-d4 dp-gathered-5x3x2-d2-dim0 dp-0d-output-b9-d4-dim0 "
    "dp-example-b7-on-cpu",
    GathersOnDevice0: "dp-constructed-output-on-last dp-constructed-in-another-order",
    AlwaysGathers: "dp-one-device-scalar dp-one-device-object dp-attributes-b5-d1 "
    "dp-replica-weights-b5-d1",
    HidesThePrefix: "dp-state-keys-d2",
    Deprecated: "dp-no-deprecation-b8-d4",
    ReturnsBareTensors: "dp-returned-tuple dp-returned-named-tuple",
}


@pytest.mark.parametrize("broken", BROKEN, ids=lambda broken: broken.__name__)
def test_a_broken_class_is_noticed(monkeypatch, broken):
    monkeypatch.setattr(data_parallel, "HOST_CLASS", broken)
    monkeypatch.setattr(data_parallel_article, "PATIENCE_S", 0.05)
    unnoticed = [name for name in BROKEN[broken].split() if not notices(CASES[name])]
    assert unnoticed == []


def test_every_probe_can_fail():
    named = {CASES[name].question.probe for names in BROKEN.values() for name in names.split()}
    assert {case.question.probe for case in OF_HOST.values()} - named == set()


def test_every_clause_has_a_case_that_can_fail():
    named = {name for names in BROKEN.values() for name in names.split()}
    failing = {clause for name in named for clause in CASES[name].clauses}
    of_host = {clause for case in OF_HOST.values() for clause in case.clauses}
    assert of_host - failing == set()


@pytest.mark.parametrize("name", sorted(NO_ACCELERATOR))
def test_p1_is_noticed_where_the_real_class_does_more(monkeypatch, name):
    """A net that is parallel without an accelerator, and one that gives what it holds no prefix."""

    class Splits(HidesThePrefix):
        def __init__(self, module, device_ids=None, dim=0):
            super().__init__(module, 2, dim)

    if ACCELERATOR:
        pytest.skip("there is an accelerator here")
    monkeypatch.setattr(data_parallel, "DataParallel", Splits)
    monkeypatch.setattr(data_parallel_training, "DataParallel", Splits)
    assert found(CASES[name], REAL) is not None
