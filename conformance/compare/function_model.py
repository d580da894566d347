"""A JAX model without Flax: a function with its weights, or a callable that is a tree of arrays."""

import inspect
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from conformance.compare.flax_model import Arrays, Watch, training_flags


class FunctionModule:
    """Weights are named `path.name`, by the keys and attributes under which they lie.

    Of a pair (function, weights) the function takes the weights first; an Equinox module, or any
    other callable tree, is called as it is.
    """

    def __init__(self, made: Any) -> None:
        is_pair = isinstance(made, tuple)
        self._function = made[0] if is_pair else type(made).__call__
        flat, self._tree = jax.tree.flatten_with_path(made[1] if is_pair else made)
        self._leaves = [leaf for _, leaf in flat]
        self._names = [".".join(map(_key, path)) for path, _ in flat]
        self._held = {
            name: leaf for name, leaf in zip(self._names, self._leaves, strict=True)
            if hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jnp.floating)
        }  # fmt: skip
        self.parameters = tuple(self._held)

    def settle(self, *, training: bool) -> None:
        """Nothing: a call says whether it trains."""

    def initial(self, xs: Mapping[str, Any], held: Arrays, *, training: bool) -> Arrays:
        """As they were handed over."""
        del xs, training
        return held or dict(self._held)

    def apply(
        self, watch: Watch, held: Arrays, xs: list[Any], names: Arrays, training: bool
    ) -> Any:
        """The output; there is no state."""
        del watch
        leaves = [
            held.get(name, leaf) for name, leaf in zip(self._names, self._leaves, strict=True)
        ]
        flags = training_flags(self._function, training=training)
        return self._function(jax.tree.unflatten(self._tree, leaves), *xs, **{**flags, **names}), {}


def is_function(made: Any) -> bool:
    """Whether a factory gave what this module takes."""
    if isinstance(made, tuple):
        return len(made) == 2 and callable(made[0])
    is_tree = not jax.tree_util.all_leaves([made])
    return callable(made) and is_tree and not inspect.isclass(made)


def _key(key: Any) -> str:
    return str(getattr(key, "key", getattr(key, "name", getattr(key, "idx", key))))
