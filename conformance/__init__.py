"""Reference and conformance suite for channel shuffle and data-parallel gradient averaging.

Decorate a function, and ask `conformance run --adapter FILE.py` whether it conforms:

>>> import conformance
>>> @conformance.implementation("channel_shuffle", framework="numpy")
... def my_shuffle(x, groups):
...     n, c, *spatial = x.shape
...     return x.reshape(n, groups, c // groups, *spatial).swapaxes(1, 2).reshape(x.shape).copy()
"""

from typing import TYPE_CHECKING, Any

from conformance.core.implementations import Implementation, implementation
from conformance.core.outcomes import Unsupported, UsageError

if TYPE_CHECKING:
    from conformance.weighing.function import weigh
    from conformance.weighing.probe import probe

__all__ = ["Implementation", "Unsupported", "UsageError", "implementation", "probe", "weigh"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Import what weighs on first use: most runs weigh nothing."""
    if name == "weigh":
        from conformance.weighing.function import weigh

        return weigh
    if name == "probe":
        from conformance.weighing.probe import probe

        return probe
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
