"""What Flax's own layers say of themselves, in torch's terms."""

from typing import Any

import flax.linen as nn
from flax import nnx

from conformance.compare.trace import Layer

_NAMES = {"weight": ("kernel", "scale"), "bias": ("bias",), "running_mean": ("mean",),
          "running_var": ("var",)}  # fmt: skip
_COLLECTIONS = {"running_mean": "batch_stats", "running_var": "batch_stats"}
# The axes of a Flax kernel that give torch's, by rank: (in, out), (H, W, in, out).
KERNEL = {2: (1, 0), 4: (3, 2, 0, 1)}


def layer_of(module: Any, path: str) -> Layer | None:
    """None for classes that the suite has no model of.

    A kernel that is masked, or normal padding words that mean something else in one framework
    alone (CIRCULAR, CAUSAL), leave a convolution without a model.
    """
    kind = type(module)
    if kind in (nn.Dense, nnx.Linear):
        return Layer("linear", _roles(module, path, 2))
    if kind in (nn.Conv, nnx.Conv):
        return _conv(module, path)
    if kind in (nn.BatchNorm, nnx.BatchNorm):
        roles = _roles(module, path, 0, ("running_mean", "running_var"))
        return Layer("batch_norm", roles, epsilon=module.epsilon, momentum=1 - module.momentum)
    if kind in (nn.LayerNorm, nnx.LayerNorm):
        return Layer("layer_norm", _roles(module, path, 0), epsilon=module.epsilon)
    if kind in (nn.GroupNorm, nnx.GroupNorm):
        roles = _roles(module, path, 0)
        return Layer("group_norm", roles, groups=module.num_groups or 1, epsilon=module.epsilon)
    return None


def _roles(
    module: Any, path: str, rank: int, buffers: tuple[str, ...] = ()
) -> dict[str, tuple[str, tuple[int, ...] | None]]:
    linen = isinstance(module, nn.Module)
    has = {
        "weight": rank > 0 or getattr(module, "use_scale", True),
        "bias": getattr(module, "use_bias", True),
        **{role: role in buffers for role in ("running_mean", "running_var")},
    }
    found: dict[str, tuple[str, tuple[int, ...] | None]] = {}
    for role, names in _NAMES.items():
        if not has[role]:
            continue
        name = names[0] if rank or len(names) == 1 else names[1]
        full = f"{_COLLECTIONS.get(role, 'params')}/{path}/{name}" if linen else f"{path}.{name}"
        found[role] = (full, KERNEL[rank] if role == "weight" and rank else None)
    return found


def _conv(module: Any, path: str) -> Layer | None:
    sides = module.kernel_size
    if isinstance(sides, int) or len(sides) != 2 or module.mask is not None:
        return None
    padding = module.padding
    if isinstance(padding, str):
        if padding.upper() not in ("SAME", "VALID"):
            return None
        pads: Any = padding.upper()
    else:
        each = [padding] * 2 if isinstance(padding, int) else list(padding)
        pads = tuple((p, p) if isinstance(p, int) else tuple(p) for p in each)
    if any(d != 1 for d in _pair(module.input_dilation)):
        return None
    return Layer("conv", _roles(module, path, 4), _pair(module.strides), pads,
                 _pair(module.kernel_dilation), module.feature_group_count)  # fmt: skip


def _pair(value: Any) -> tuple[int, ...]:
    if value is None:
        return (1, 1)
    return (value, value) if isinstance(value, int) else tuple(value)
