"""What the frameworks say of devices: on this machine, and of drivers and GPUs that are made up."""

from types import SimpleNamespace

import pytest

from conformance.core.outcomes import Unsupported

torch = pytest.importorskip("torch")
jax = pytest.importorskip("jax")

from conformance.frameworks.jax import devices as jax_devices  # noqa: E402
from conformance.frameworks.torch import devices as torch_devices  # noqa: E402


@pytest.fixture(autouse=True)
def forgetful():
    caches = (torch_devices.missing, torch_devices.driver_version, jax_devices.missing)
    for one in caches:
        one.cache_clear()
    yield
    for one in caches:
        one.cache_clear()


@pytest.fixture
def gpus(monkeypatch):
    """Two GPUs as far as torch's questions go: nothing can be put on them."""
    told = SimpleNamespace(name="Made-up 9000", total_memory=80 * 2**30, major=9, minor=0)
    monkeypatch.setattr(torch.backends.cuda, "is_built", lambda: True)
    monkeypatch.setattr(torch.cuda, "init", lambda: None)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: told)
    monkeypatch.setattr(torch, "zeros", lambda *_, **__: None)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch_devices, "driver_version", lambda: "580.1")
    monkeypatch.setattr(torch_devices, "_module", lambda _: torch.cuda)


def test_a_gpu_is_told_with_memory_capability_driver_and_runtime(gpus):
    words = "Made-up 9000, 80.0 GiB, compute capability 9.0, driver 580.1, runtime 13.0"
    described = torch_devices.described()
    assert described == {"cpu": described["cpu"], "cuda:0": words, "cuda:1": words}
    assert "cuda" not in torch_devices.all_missing()


def test_one_of_several_is_named_by_its_number(gpus):
    assert list(map(str, torch_devices.matching_devices("cuda"))) == ["cuda:0", "cuda:1"]
    assert list(map(str, torch_devices.matching_devices("cuda:1"))) == ["cuda:1"]
    with pytest.raises(Unsupported, match="torch sees 2 cuda devices: there is no cuda:2"):
        torch_devices.matching_devices("cuda:2")


def test_a_driver_that_does_not_start_is_told_in_one_line(gpus, monkeypatch):
    def fails():
        raise RuntimeError("Unexpected error from cudaGetDeviceCount().\n Error 804: " + "no " * 99)

    monkeypatch.setattr(torch.cuda, "init", fails)
    reason = torch_devices.missing("cuda")
    assert reason.startswith(
        "torch cannot start cuda: Unexpected error from cudaGetDeviceCount(). "
    )
    assert "Error 804" in reason
    assert "\n" not in reason
    assert len(reason) < 200
    with pytest.raises(Unsupported, match="cannot start cuda"):
        torch_devices.of_kind("cuda")


def test_a_gpu_that_is_full_to_the_last_byte_is_not_here(gpus, monkeypatch):
    def full(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 MiB.")

    monkeypatch.setattr(torch, "zeros", full)
    assert torch_devices.missing("cuda") == (
        "torch cannot start cuda: CUDA out of memory. Tried to allocate 2.00 MiB."
    )


def test_no_gpu_where_torch_has_cuda_is_no_driver_failure(gpus, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert torch_devices.missing("cuda") == "torch sees no cuda device"


def test_a_kind_that_torch_does_not_have_is_told_by_its_version():
    assert torch_devices.missing("tpu") == f"torch {torch.__version__} has no tpu of its own"


@pytest.mark.parametrize(
    "told",
    [
        "NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.159.04  Mon Aug 5\nGCC version: x",
        "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.159.04  Release Build\n",
    ],
)
def test_the_driver_s_version_is_read_from_the_kernel(told, tmp_path, monkeypatch):
    (tmp_path / "version").write_text(told)
    monkeypatch.setattr(torch_devices, "_DRIVER", tmp_path / "version")
    assert torch_devices.driver_version() == "580.159.04"


def test_the_driver_s_version_is_asked_of_nvidia_smi_where_the_kernel_does_not_tell(
    tmp_path, monkeypatch
):
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 580.1\necho 580.1\n")
    program.chmod(0o755)
    monkeypatch.setattr(torch_devices, "_DRIVER", tmp_path / "none")
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert torch_devices.driver_version() == "580.1"
    torch_devices.driver_version.cache_clear()
    program.write_text("#!/bin/sh\nexit 9\n")
    assert torch_devices.driver_version() == ""


def test_jax_tells_why_it_has_no_gpu(monkeypatch):
    def fails(_platform):
        raise RuntimeError("Unable to initialize backend 'cuda': FAILED_PRECONDITION: no driver")

    monkeypatch.setattr(jax, "devices", fails)
    assert jax_devices.missing("cuda").endswith("FAILED_PRECONDITION: no driver")
    with pytest.raises(Unsupported, match="FAILED_PRECONDITION"):
        jax_devices.matching_devices("cuda:0")


def test_jax_asks_for_cuda_by_its_own_name_for_it(monkeypatch):
    def gpu(index):
        return SimpleNamespace(
            device_kind="Made-up 9000",
            compute_capability="9.0",
            platform="gpu",
            client=SimpleNamespace(platform_version="PJRT C API\ncuda 13000"),
            memory_stats=lambda: {"bytes_limit": 60 * 2**30},
            id=index,
        )

    monkeypatch.setattr(jax, "devices", {"gpu": [gpu(0), gpu(1)]}.__getitem__)
    words = "Made-up 9000, 60.0 GiB, compute capability 9.0, PJRT C API cuda 13000"
    assert jax_devices.described() == {"cuda:0": words, "cuda:1": words}
    assert [one.id for one in jax_devices.matching_devices("cuda:1")] == [1]
    with pytest.raises(Unsupported, match="jax sees 2 cuda devices: there is no cuda:5"):
        jax_devices.matching_devices("cuda:5")


def test_full_precision_is_set_and_recorded():
    torch_devices.prepare()
    told = torch_devices.precision()
    assert told["float32_matmul"] == "highest"
    assert {told[name] for name in told if name.endswith(("tf32", "sums", "benchmark"))} == {
        "False"
    }
    assert told["deterministic"] == told["cudnn_deterministic"] == "True"
    jax_devices.prepare()
    assert jax_devices.precision()["jax_default_matmul_precision"] == "highest"


def test_variables_that_choose_kernels_are_recorded_where_they_are_set(monkeypatch):
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "1")
    monkeypatch.setenv("XLA_FLAGS", "--xla_gpu_deterministic_ops=true")
    assert torch_devices.precision()["NVIDIA_TF32_OVERRIDE"] == "1"
    assert jax_devices.precision()["XLA_FLAGS"] == "--xla_gpu_deterministic_ops=true"
