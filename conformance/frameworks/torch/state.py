"""The global state of torch: what a check must find, and what it may not leave changed."""

import sys
from functools import cache

import torch
from torch.nn.modules import module
from torch.overrides import _len_torch_function_stack
from torch.utils._python_dispatch import _get_current_dispatch_mode_stack

from conformance.frameworks.state import Settings, Watch, seed
from conformance.frameworks.torch import devices as torch_devices

_HOOKS = (
    "_global_forward_hooks",
    "_global_forward_pre_hooks",
    "_global_backward_hooks",
    "_global_backward_pre_hooks",
    "_global_parameter_registration_hooks",
    "_global_buffer_registration_hooks",
    "_global_module_registration_hooks",
)


def reset() -> None:
    """Sets what every check must find: threads, precision, modes, defaults, and seeds."""
    torch.set_num_threads(1)
    torch_devices.prepare()
    torch.set_default_dtype(torch.float32)
    torch.set_grad_enabled(mode=True)
    torch.default_generator.manual_seed(0)
    seed()


@cache
def watch() -> Watch:
    """Returns the watch over this process."""
    return Watch(_settings, (torch, torch.nn.functional, torch.Tensor, torch.nn.Module))


def _settings() -> Settings:
    # To ask torch for its compiler imports it, which takes as long as torch itself.
    compiler = sys.modules.get("torch._dynamo.config")
    return {
        "torch.get_default_dtype()": torch.get_default_dtype(),
        "torch.get_default_device()": str(torch.get_default_device()),
        "torch.is_grad_enabled()": torch.is_grad_enabled(),
        "torch.is_inference_mode_enabled()": torch.is_inference_mode_enabled(),
        "torch.is_anomaly_enabled()": torch.is_anomaly_enabled(),
        "torch.is_autocast_enabled('cpu')": torch.is_autocast_enabled("cpu"),
        "torch.get_num_threads()": torch.get_num_threads(),
        "torch.get_num_interop_threads()": torch.get_num_interop_threads(),
        "torch.backends.mkldnn.enabled": torch._C._get_mkldnn_enabled(),
        "torch._dynamo.config.disable": getattr(compiler, "disable", False),
        "the stack of torch function modes": _len_torch_function_stack(),
        "the stack of torch dispatch modes": len(_get_current_dispatch_mode_stack()),
        "the hooks on saved tensors": torch._C._autograd._top_saved_tensors_default_hooks(True)
        is not None,
        **{f"torch.nn.modules.module.{name}": len(getattr(module, name)) for name in _HOOKS},
        **torch_devices.precision(),
    }
