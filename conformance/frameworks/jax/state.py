"""The global state of JAX: what a check must find, and what it may not leave changed."""

from functools import cache

import jax

from conformance.frameworks.jax import devices as jax_devices
from conformance.frameworks.state import Settings, Watch, seed


def reset() -> None:
    """Sets what every check must find: 64-bit types, precision and the host's seeds."""
    jax_devices.full_precision()
    seed()


@cache
def watch() -> Watch:
    """Returns the watch over this process."""
    return Watch(_settings, (jax, jax.numpy, jax.lax, jax.nn))


def _settings() -> Settings:
    return {f"jax.config.{name}": value for name, value in jax.config.values.items()}
