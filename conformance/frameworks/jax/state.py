"""The global state of JAX: what a check must find, and what it may not leave changed."""

import jax

from conformance.frameworks.jax import devices as jax_devices
from conformance.frameworks.state import Settings, Watch


def reset() -> None:
    """Sets what every check must find: 64-bit types and precision; JAX has no global seed."""
    jax_devices.full_precision()


def watch() -> Watch:
    """Notes the state, to be compared after a check."""
    return Watch(_settings, (jax, jax.numpy, jax.lax, jax.nn))


def _settings() -> Settings:
    return {f"jax.config.{name}": value for name, value in jax.config.values.items()}
