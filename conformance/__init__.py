"""Reference and conformance suite for channel shuffle and data-parallel gradient averaging.

Decorate a function, and ask `conformance run --adapter FILE.py` whether it conforms:

>>> import conformance
>>> @conformance.implementation("channel_shuffle", framework="numpy")
... def my_shuffle(x, groups):
...     n, c, *spatial = x.shape
...     return x.reshape(n, groups, c // groups, *spatial).swapaxes(1, 2).reshape(x.shape).copy()
"""

from conformance.core.implementations import Implementation, implementation
from conformance.core.outcomes import UsageError

__all__ = ["Implementation", "UsageError", "implementation"]
__version__ = "0.1.0"
