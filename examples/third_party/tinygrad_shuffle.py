"""tinygrad, on its device that is Python itself and needs no compiler.

pip install tinygrad==0.14.0
conformance run --adapter examples/third_party/tinygrad_shuffle.py
"""

from tinygrad import Tensor

import conformance


@conformance.implementation("channel_shuffle", framework="numpy")
def tinygrad_shuffle(x, groups):
    if x.size > 100_000:
        raise conformance.Unsupported("its device PYTHON is too slow for so many elements")
    n, c, *spatial = x.shape
    parts = Tensor(x, device="PYTHON").reshape(n, groups, c // groups, *spatial)
    return parts.transpose(1, 2).reshape(x.shape).numpy()
