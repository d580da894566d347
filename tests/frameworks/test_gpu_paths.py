"""The code paths of GPUs, with host memory in the place of theirs; their number is made up."""

from types import SimpleNamespace

import numpy as np
import pytest

from conformance.core.ask import Ask
from conformance.core.checks import Check
from conformance.core.implementations import own
from conformance.core.outcomes import NotExercised, Unsupported
from conformance.core.rank import Rank
from conformance.run.verdict import judge
from conformance.subjects import all_cases, ask, solve

torch = pytest.importorskip("torch")
jax = pytest.importorskip("jax")

from conformance.frameworks.jax import devices as jax_devices  # noqa: E402
from conformance.frameworks.torch import devices as torch_devices  # noqa: E402
from conformance.frameworks.torch.host_data_parallel import HostDataParallel  # noqa: E402

jax_devices.prepare()  # before anything else makes the host one device
CASES = {case.name: case for case in all_cases() if case.operation == "gradient_mean"}
IMPLEMENTATIONS = {one.name: one for one in own() if one.operation == "gradient_mean"}
HOST = torch.device("cpu")
TWO, FOUR = "two-heads-w2-equal-k5-f32", "convnet-w4-equal-k1-f32-rounding"


class HostGpus(HostDataParallel):
    """`nn.DataParallel` as `torch_data_parallel` makes it: its devices, with host memory."""

    numbers = ()

    def __init__(self, module, device_ids):
        super().__init__(module, len(device_ids))
        self.device_ids = list(self.numbers[: len(device_ids)])


@pytest.fixture
def torch_gpus(monkeypatch):
    """Has so many GPUs, by their numbers as DataParallel is given them."""

    def have(count, ranks):
        numbers = [rank % count for rank in range(ranks)]
        monkeypatch.setattr(torch_devices, "matching_devices", lambda _: [HOST] * count)
        monkeypatch.setattr(torch_devices, "missing", lambda kind: "" if kind == "cpu" else "none")
        monkeypatch.setattr(HostGpus, "numbers", numbers)
        monkeypatch.setattr(torch.nn, "DataParallel", HostGpus)

    return have


def asked(name, case):
    """What an implementation gives for a case on `cuda`, and the verdict."""
    declared, chosen = IMPLEMENTATIONS[name], CASES[case]
    golden = solve(chosen)
    answer = ask(Ask(declared, chosen.question, golden.inputs, "cuda"), Rank(0, 1))
    return judge(Check(declared, chosen, "cuda"), golden, [answer])


def test_two_gpus_split_the_batch_on_the_path_that_real_ones_take(torch_gpus, monkeypatch):
    torch_gpus(2, 2)
    replicas = []
    monkeypatch.setattr(
        HostGpus,
        "replicate",
        lambda self, module, ids: (
            replicas.append(list(ids)) or HostDataParallel.replicate(self, module, ids)
        ),
    )
    assert asked("torch_data_parallel", TWO).status == "exact"
    assert replicas == [[0, 1]] * 5, "one forward for each micro-batch, over both"


def test_one_gpu_given_twice_is_not_exercised(torch_gpus):
    torch_gpus(1, 2)
    with pytest.raises(NotExercised, match="DataParallel has one device here"):
        asked("torch_data_parallel", TWO)


def test_two_gpus_for_four_ranks_are_too_few_for_data_parallel(torch_gpus):
    torch_gpus(2, 4)
    with pytest.raises(Unsupported, match="DataParallel would need 4 devices, here are 2"):
        asked("torch_data_parallel", FOUR)


def test_what_needs_no_data_parallel_answers_on_one_gpu_for_any_number_of_ranks(torch_gpus):
    torch_gpus(1, 4)
    assert asked("torch_func_vmap", FOUR).status == "within-bound"


def test_one_gpu_is_enough_for_vmap_in_jax(monkeypatch):
    monkeypatch.setattr(jax_devices, "matching_devices", lambda _: jax.devices("cpu")[:1])
    for name in ("jax_vmap_axis", "jax_vmap_mean"):
        assert asked(name, FOUR).status == "within-bound"


def test_one_gpu_is_not_enough_for_pmap_and_shard_map(monkeypatch):
    monkeypatch.setattr(jax_devices, "matching_devices", lambda _: jax.devices("cpu")[:1])
    for name in ("jax_pmap", "jax_shard_map", "jax_jit_sharding"):
        with pytest.raises(Unsupported, match="4 devices are asked for, 1 are here"):
            asked(name, FOUR)


def test_two_gpus_are_what_pmap_and_shard_map_run_on(monkeypatch):
    monkeypatch.setattr(jax_devices, "matching_devices", lambda _: jax.devices("cpu")[:2])
    for name in ("jax_pmap", "jax_shard_map"):
        assert asked(name, TWO).status == "exact"


def out_of_memory(_framework):
    def fails(*_):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\n GPU 0 has")

    return fails


def test_a_gpu_out_of_memory_is_unsupported_in_one_line(torch_gpus, monkeypatch):
    torch_gpus(2, 2)
    monkeypatch.setattr("conformance.gradient_mean.ask.loaded", out_of_memory)
    with pytest.raises(Unsupported) as told:
        asked("torch_data_parallel", TWO)
    assert str(told.value).startswith(
        "cuda is out of memory: CUDA out of memory. Tried to allocate"
    )
    assert "\n" not in str(told.value)


def test_xla_out_of_memory_is_unsupported(monkeypatch):
    def loaded(_):
        def fails(*_):
            raise RuntimeError(
                "RESOURCE_EXHAUSTED: Out of memory while trying to allocate 99 bytes"
            )

        return fails

    monkeypatch.setattr(jax_devices, "matching_devices", lambda _: jax.devices("cpu")[:2])
    monkeypatch.setattr("conformance.gradient_mean.ask.loaded", loaded)
    with pytest.raises(Unsupported, match="cuda is out of memory: RESOURCE_EXHAUSTED"):
        asked("jax_pmap", TWO)


def test_what_torch_kept_is_given_back_after_each_question(torch_gpus, monkeypatch):
    torch_gpus(2, 2)
    emptied = []

    def module(kind):
        return SimpleNamespace(empty_cache=lambda: emptied.append(kind))

    monkeypatch.setattr(torch_devices, "missing", lambda _: "")
    monkeypatch.setattr(
        torch,
        "get_device_module",
        lambda kind: SimpleNamespace(empty_cache=lambda: emptied.append(kind)),
    )
    asked("torch_data_parallel", TWO)
    assert emptied == ["cuda"]


def test_where_there_is_no_gpu_a_question_about_one_is_unsupported():
    declared, case = IMPLEMENTATIONS["torch_module"], CASES[TWO]
    payload = Ask(declared, case.question, solve(case).inputs, "cuda")
    if torch_devices.missing("cuda"):
        with pytest.raises(Unsupported, match="torch"):
            ask(payload, Rank(0, 1))


def test_values_know_on_which_device_they_are():
    from conformance.core.outcomes import WrongAnswer
    from conformance.frameworks.torch import bridge as torch_bridge

    with pytest.raises(WrongAnswer, match="gave a tensor on cpu, not on cuda:1"):
        torch_bridge.values(torch.zeros(1), "cuda:1")
    assert torch_bridge.values(torch.ones(1), "cpu") == np.ones(1)


def test_what_is_asked_of_the_cpu_runs_there_on_a_machine_with_a_gpu(monkeypatch):
    from conformance.frameworks.jax import bridge as jax_bridge

    assert jax.config.jax_default_device is None
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    jax_bridge.settle("cpu")
    assert jax.config.jax_default_device == jax.devices("cpu")[0]
    monkeypatch.undo()
    jax_bridge.settle("cpu")
    assert jax.config.jax_default_device is None
