"""A torch script's parameters: who holds them, what they are called, what they are now."""

import gc
import hashlib
import sys
from collections.abc import Iterable, Sequence
from weakref import WeakKeyDictionary

import torch
from torch.optim.optimizer import Optimizer

_SAMPLED = 64  # elements of a parameter, by which one sees that it was changed


def held(optimizer: Optimizer) -> list[torch.Tensor]:
    """Return an optimizer's parameters in its order."""
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def local(tensor: torch.Tensor) -> torch.Tensor:
    """Return the shard of this rank, or the tensor itself."""
    return tensor.to_local() if hasattr(tensor, "to_local") else tensor


def state_of(parameters: Iterable[torch.Tensor]) -> str:
    """Return a digest of some elements of each parameter."""
    digest = hashlib.blake2b(digest_size=8)
    for parameter in parameters:
        flat = local(parameter).detach().reshape(-1)
        sample = flat[:: max(1, len(flat) // _SAMPLED)].cpu().clone()
        digest.update(sample.view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


_owners: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}


def owners(leaves: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """Return the parameters that an optimizer holds for leaves: of fully_shard the sharded ones."""
    module = sys.modules.get("torch.distributed.fsdp._fully_shard._fsdp_param")
    if module is None:
        return list(leaves)
    if any(_owners.get(id(leaf), (None,))[0] is not leaf for leaf in leaves):
        for candidate in gc.get_objects():
            if type(candidate) is module.FSDPParam:
                whole = getattr(candidate, "_unsharded_param", None)
                if whole is not None:
                    _owners[id(whole)] = (whole, candidate.sharded_param)
        for leaf in leaves:
            if _owners.get(id(leaf), (None,))[0] is not leaf:
                _owners[id(leaf)] = (leaf, leaf)
    return [_owners[id(leaf)][1] for leaf in leaves]


_names: "WeakKeyDictionary[Optimizer, dict[int, str]]" = WeakKeyDictionary()


def parameter_names(optimizer: Optimizer) -> dict[int, str]:
    """Return the names that modules have for parameters, without those of wrappers.

    Nobody tells an optimizer about modules, so that all objects of the process are looked through;
    once for each optimizer, since that takes a tenth of a second.
    """
    if optimizer not in _names:
        _names[optimizer] = _names_now()
    return _names[optimizer]


def _names_now() -> dict[int, str]:
    modules = [m for m in gc.get_objects() if issubclass(type(m), torch.nn.Module)]
    inner = {id(child) for module in modules for child in module._modules.values()}
    names: dict[int, str] = {}
    for root in modules:
        if id(root) not in inner:
            for name, parameter in root.named_parameters():
                for wrapper in ("module.", "_orig_mod.", "_fsdp_wrapped_module."):
                    name = name.replace(wrapper, "")  # noqa: PLW2901 - one name, made plain
                names.setdefault(id(parameter), name)
    return names
