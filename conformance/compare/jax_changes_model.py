"""Changes that are tried on a JAX original: its activations, and small numbers that are added."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from conformance.compare.changes import Option, Site, other_activations, other_epsilons

if TYPE_CHECKING:
    from conformance.arithmetic.running import Approximate

_ACTIVATIONS: dict[str, Callable[[Any], Any]] = {
    "relu": jax.nn.relu, "relu6": jax.nn.relu6, "silu": jax.nn.silu, "tanh": jnp.tanh,
    "gelu (erf)": lambda x: jax.nn.gelu(x, approximate=False),
    "gelu (tanh)": lambda x: jax.nn.gelu(x, approximate=True),
    "sigmoid": jax.nn.sigmoid, "leaky_relu": jax.nn.leaky_relu, "elu": jax.nn.elu,
    "nothing": lambda x: x * 1.0,
}  # fmt: skip


class Change:
    """Asked of every equation that is evaluated: whether to change it, and into what."""

    def __init__(self, chosen: Mapping[int, tuple[str, str]] | None = None) -> None:
        """Changes nothing where nothing is chosen, and notes what could be changed."""
        self.sites: list[Site] = []
        self.chosen = dict(chosen or {})
        self._carry: Any = None

    def begin(self, carry: Any, _: Any) -> None:
        """A run begins."""
        self._carry, self.sites = carry, []

    def __call__(self, eqn: Any, inputs: list[Any]) -> Any:
        """The results of a changed equation; None where it is as it was."""
        options = _options(eqn)
        if not options:
            return None
        number, key = len(self.sites), self.chosen.get(len(self.sites))
        since = sum(name.startswith("conformance call") for name in self._carry.marks)
        depends = 0
        for at in inputs:
            depends |= at.depends
        self.sites.append(Site(number, "", since, options, eqn.primitive.name, depends))
        chosen = next((option for option in options if option.key == key), None)
        if chosen is None:
            return None
        values = [jnp.asarray(np.asarray(at.x.value)) for at in inputs]
        closed = jax.make_jaxpr(chosen.made)(*values)
        changing, self._carry.change = self._carry.change, None
        outs: list[Approximate] = [at.x for at in self._carry.evaluate(closed, inputs)]
        self._carry.change = changing
        return outs


def _options(eqn: Any) -> tuple[Option, ...]:
    """Of an equation what may be done instead, each a function of its inputs."""
    name = str(eqn.params.get("name", ""))
    if name == "gelu":
        name = f"gelu ({'erf' if 'erf' in str(eqn.params.get('jaxpr', '')) else 'tanh'})"
    if name in _ACTIVATIONS or name == "swish":
        return tuple(other_activations(name, _ACTIVATIONS))
    own = getattr(eqn.invars[1], "val", None) if eqn.primitive.name == "add" else None
    if own is None or np.ndim(own) or not 0 < float(own) < 0.01:
        return ()
    return tuple(
        Option(cause, lambda x, _, value=value: x + value)
        for value, cause in other_epsilons(float(own))
    )
