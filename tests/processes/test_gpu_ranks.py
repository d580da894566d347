"""How ranks are joined where there are GPUs, made up here: which backend, and on which device."""

from types import SimpleNamespace

import pytest

from conformance.core.outcomes import Declined
from conformance.processes import Task, TorchRanks
from conformance.processes.torch_ranks import TorchAddress, TorchRendezvous, backend_of
from conformance.run.examiner import Examiner
from conformance.run.plan import make_plan
from conformance.run.worlds import PRELOAD, environment_of, takes_ranks, world_of

torch = pytest.importorskip("torch")
GPUS = [torch.device("cuda", index) for index in range(4)]


@pytest.mark.parametrize(
    ("ranks", "gpus", "backend"),
    [(1, 1, "nccl"), (2, 1, "gloo"), (8, 1, "gloo"), (2, 2, "nccl"), (3, 2, "gloo")],
)
def test_nccl_joins_ranks_that_have_a_gpu_each_and_gloo_those_that_share(
    ranks, gpus, backend, monkeypatch
):
    monkeypatch.setattr(torch.distributed, "is_nccl_available", lambda: True)
    assert backend_of(ranks, GPUS[:gpus]) == backend


def test_a_torch_without_nccl_joins_everything_by_gloo(monkeypatch):
    monkeypatch.setattr(torch.distributed, "is_nccl_available", lambda: False)
    assert backend_of(1, GPUS) == "gloo"
    assert backend_of(2, [torch.device("cpu")]) == "gloo"


def test_ranks_share_out_the_gpus_and_make_their_groups_by_size(monkeypatch):
    import torch.distributed as dist

    from conformance.frameworks.torch import devices as torch_devices

    chosen, groups = [], {}
    monkeypatch.setattr(torch_devices, "matching_devices", {"cuda": GPUS[:2]}.__getitem__)
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    monkeypatch.setattr(dist, "is_nccl_available", lambda: True)
    monkeypatch.setattr(dist, "FileStore", lambda *_: None)
    monkeypatch.setattr(dist, "init_process_group", lambda backend, **_: groups.update(all=backend))
    monkeypatch.setattr(dist, "group", SimpleNamespace(WORLD="world"))
    monkeypatch.setattr(
        dist, "new_group", lambda ranks, timeout, backend: groups.update({len(ranks): backend})
    )
    for index in range(4):
        TorchRendezvous(TorchAddress(index, 4, "/nowhere", [1, 2, 4], device="cuda"))
    assert [device.index for device in chosen] == [0, 1, 0, 1]
    assert groups == {"all": "gloo", 1: "nccl", 2: "nccl", 4: "gloo"}


def test_ranks_on_a_gpu_that_is_not_here_decline_with_the_reason():
    from conformance.frameworks.torch import devices as torch_devices

    if not torch_devices.missing("cuda"):
        pytest.skip("there is a GPU here")
    world = TorchRanks(2, "conformance.frameworks:prepare_torch", device="cuda")
    try:
        outcomes = world.run(Task("math:sqrt", 1.0, 2), 60)
    finally:
        world.close()
    assert {type(one) for one in outcomes} == {Declined}
    assert {one.status for one in outcomes} == {"unsupported"}
    assert outcomes[0].reason == torch_devices.missing("cuda")


def test_each_device_has_a_world_of_ranks_of_its_own():
    chosen = ["gradient_mean/torch_ddp:mlp-w2-growing-k3-f32"]
    checks = make_plan(chosen, ["cpu", "cuda", "cuda:1"]).checks
    assert [world_of(check) for check in checks] == [
        "torch-ranks",
        "torch-ranks@cuda",
        "torch-ranks@cuda:1",
    ]
    assert all(map(takes_ranks, checks))
    examiner = Examiner(None)
    assert examiner._world("torch-ranks@cuda:1")._device == "cuda:1"
    assert examiner._world("torch-ranks")._device == "cpu"


def test_torch_and_jax_can_share_a_gpu(monkeypatch):
    for name in ("XLA_PYTHON_CLIENT_PREALLOCATE", "PYTORCH_NVML_BASED_CUDA_CHECK"):
        monkeypatch.delenv(name, raising=False)
    told = environment_of(None)
    assert told["XLA_PYTHON_CLIENT_PREALLOCATE"] == "false"
    assert told["PYTORCH_NVML_BASED_CUDA_CHECK"] == "1"
    monkeypatch.setenv("XLA_PYTHON_CLIENT_PREALLOCATE", "true")
    assert environment_of(None)["XLA_PYTHON_CLIENT_PREALLOCATE"] == "true", "who sets it, has it so"


def test_what_ranks_preload_starts_no_cuda():
    """A process that is forked from one that asked CUDA anything can never use a GPU."""
    import subprocess
    import sys

    from conformance.processes import torch_ranks

    modules = [*torch_ranks._PRELOAD, *PRELOAD["torch"]]
    code = (
        "import importlib, torch\n"
        "asked = []\n"
        "for name in ('is_available', 'device_count', 'init', '_lazy_init'):\n"
        "    setattr(torch.cuda, name, lambda *_, name=name, **__: asked.append(name) or 0)\n"
        f"for module in {modules!r}: importlib.import_module(module)\n"
        "assert not asked, asked\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
