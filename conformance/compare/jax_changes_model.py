"""Changes that are tried on a JAX original: its activations, and small numbers that are added."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from conformance.compare.catalogue import Cause
from conformance.compare.changes import Option, Site

if TYPE_CHECKING:
    from conformance.arithmetic.running import Approximate

_ACTIVATIONS: dict[str, Callable[[Any], Any]] = {
    "relu": jax.nn.relu, "relu6": jax.nn.relu6, "silu": jax.nn.silu, "tanh": jnp.tanh,
    "gelu (erf)": lambda x: jax.nn.gelu(x, approximate=False),
    "gelu (tanh)": lambda x: jax.nn.gelu(x, approximate=True),
    "sigmoid": jax.nn.sigmoid, "leaky_relu": jax.nn.leaky_relu, "elu": jax.nn.elu,
    "nothing": lambda x: x * 1.0,
}  # fmt: skip
_EPSILONS = (1e-5, 1e-6, 1e-3, 1e-4, 1e-7, 1e-8, 1e-12)


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
        option = next((o for o in options if o.key == key), None)
        if option is None:
            return None
        values = [np.asarray(at.x.value) for at in inputs]
        closed = jax.make_jaxpr(option.made)(*(jnp.asarray(v) for v in values))
        changing, self._carry.change = self._carry.change, None
        outs: list[Approximate] = [at.x for at in self._carry.evaluate(closed, inputs)]
        self._carry.change = changing
        return outs


def _options(eqn: Any) -> tuple[Option, ...]:
    name = str(eqn.params.get("name", ""))
    if name in ("relu", "silu", "gelu", "relu6", "swish", "leaky_relu", "elu"):
        if name == "gelu":
            erf = "erf" in str(eqn.params.get("jaxpr", ""))
            name = f"gelu ({'erf' if erf else 'tanh'})"
        options = []
        for other, made in _ACTIVATIONS.items():
            both = name.startswith("gelu") and other.startswith("gelu")
            cause = ("tanh-gelu" if "tanh" in other else "erf-gelu") if both else "activation"
            if other != name:
                words = f"what came out is {other} where {name} is right"
                options.append(Option(Cause(cause, words), made))
        return tuple(options)
    if eqn.primitive.name == "add" and hasattr(eqn.invars[1], "val"):
        value = (
            float(np.asarray(eqn.invars[1].val).reshape(-1)[0])
            if np.ndim(eqn.invars[1].val) == 0
            else 1.0
        )
        if 0 < value < 0.01:
            return tuple(
                Option(Cause("default-epsilon" if e in (1e-3, 1e-5, 1e-6) else "epsilon",
                             f"its epsilon is {e:g} where {value:g} is right"),
                       lambda x, y, e=e: x + e)
                for e in _EPSILONS if abs(e - value) > 1e-3 * value
            )  # fmt: skip
    return ()
