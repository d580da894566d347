"""The key-value stores that the engines of launches keep for their processes.

Each has `set(key, bytes)`, `get(key)` and `check(keys)`, and raises RuntimeError once it is gone.
"""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

_NAMES = "conformance"
# Machines may not start together, so joining may take so many seconds.
_JOINING = 300


def of_torchrun() -> Any:
    """Joins the store that torchrun names in the environment.

    Raises:
        RuntimeError, ValueError: if the store cannot be reached in time.
    """
    import torch.distributed as dist

    store, _, _ = next(dist.rendezvous("env://", timeout=timedelta(seconds=_JOINING)))
    return dist.PrefixStore(_NAMES, store)


@dataclass(frozen=True)
class JaxCluster:
    """A launch by `jax.distributed`: the number of this process, and the host of process 0."""

    process: int
    processes: int
    host: str
    store: "KeyValues"


def of_jax(coordinator: str | None, processes: int | None, process: int | None) -> JaxCluster:
    """Joins the launch by `jax.distributed.initialize`, without looking for devices.

    Args:
        coordinator: host:port of process 0; this and the next two are None where JAX knows its
            cluster.
        processes: how many processes there are.
        process: the number of this process.

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

    JAX has no public name for it; this class uses the same private names as JAX's checkpointing
    libraries.
    """

    def __init__(self, client: Any) -> None:
        self._client = client

    def set(self, key: str, value: bytes | str) -> None:
        """Stores bytes, in the place of earlier bytes."""
        raw = value.encode() if isinstance(value, str) else value
        self._client.key_value_set_bytes(f"{_NAMES}/{key}", raw, allow_overwrite=True)

    def get(self, key: str) -> bytes:
        """Returns the bytes of a key that exists."""
        raw: bytes = self._client.key_value_try_get_bytes(f"{_NAMES}/{key}")
        return raw

    def check(self, keys: list[str]) -> bool:
        """Says whether all of these keys exist."""
        try:
            for key in keys:
                self.get(key)
        except RuntimeError as error:
            # JaxRuntimeError is a RuntimeError.
            if "NOT_FOUND" in str(error):
                return False
            raise
        return True
