"""The key-value stores that the engines of launches keep for their processes.

Each has `set(key, bytes)`, `get(key)` and `check(keys)`, and raises RuntimeError once it is gone.
"""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

_NAMES = "conformance"
_JOINING = 300  # seconds, for machines that do not start together


def of_torchrun() -> Any:
    """The store that torchrun names in the environment.

    Raises:
        RuntimeError, ValueError: if it cannot be reached in time.
    """
    import torch.distributed as dist

    store, _, _ = next(dist.rendezvous("env://", timeout=timedelta(seconds=_JOINING)))
    return dist.PrefixStore(_NAMES, store)


@dataclass(frozen=True)
class JaxCluster:
    """What `jax.distributed` says of a launch: which process this is, and where process 0 is."""

    process: int
    processes: int
    host: str
    store: "KeyValues"


def of_jax(coordinator: str | None, processes: int | None, process: int | None) -> JaxCluster:
    """Join the launch by `jax.distributed.initialize`; no device is looked at.

    Args:
        coordinator: host:port of process 0; None, as the next two, where JAX knows its cluster.
        processes: how many there are.
        process: which of them this is.

    Raises:
        ImportError: if JAX is not installed.
        RuntimeError, ValueError: if there is no cluster, or it cannot be reached in time.
    """
    import jax
    from jax._src.distributed import global_state

    jax.distributed.initialize(coordinator, processes, process, initialization_timeout=_JOINING)
    host = str(global_state.coordinator_address or coordinator).rpartition(":")[0]
    return JaxCluster(
        int(global_state.process_id),
        int(global_state.num_processes),
        host,
        KeyValues(global_state.client),
    )


class KeyValues:
    """The store of JAX's coordination service.

    JAX has no public name for it; what is used here is what its checkpointing libraries use.
    """

    def __init__(self, client: Any) -> None:
        self._client = client

    def set(self, key: str, value: bytes | str) -> None:
        """Leave bytes, in the place of others."""
        raw = value.encode() if isinstance(value, str) else value
        self._client.key_value_set_bytes(f"{_NAMES}/{key}", raw, allow_overwrite=True)

    def get(self, key: str) -> bytes:
        """The bytes of a key that is there."""
        raw: bytes = self._client.key_value_try_get_bytes(f"{_NAMES}/{key}")
        return raw

    def check(self, keys: list[str]) -> bool:
        """Whether all of these are there."""
        try:
            for key in keys:
                self.get(key)
        except RuntimeError as error:  # JaxRuntimeError is one
            if "NOT_FOUND" in str(error):
                return False
            raise
        return True
