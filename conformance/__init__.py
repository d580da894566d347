"""Reference and conformance suite for channel shuffle and data-parallel gradient averaging.

Decorate a function, and ask `conformance run --adapter FILE.py` whether it conforms:

>>> import conformance
>>> @conformance.implementation("channel_shuffle", framework="numpy")
... def my_shuffle(x, groups):
...     n, c, *spatial = x.shape
...     return x.reshape(n, groups, c // groups, *spatial).swapaxes(1, 2).reshape(x.shape).copy()
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from conformance.core.implementations import Implementation, implementation
    from conformance.core.outcomes import Unsupported, UsageError
    from conformance.weighing.function import weigh
    from conformance.weighing.probe import probe

__all__ = ["Implementation", "Unsupported", "UsageError", "implementation", "probe", "weigh"]
__version__ = "0.1.0"
_HOMES = {
    "Implementation": "core.implementations",
    "implementation": "core.implementations",
    "Unsupported": "core.outcomes",
    "UsageError": "core.outcomes",
    "probe": "weighing.probe",
    "weigh": "weighing.function",
}


def __getattr__(name: str) -> Any:
    """Import what is used on its first use: the command line is entered before all of it."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = found = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    return found
