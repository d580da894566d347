"""MLX, on its CPU.

pip install "mlx[cpu]==0.32.4"
conformance run --adapter examples/third_party/mlx_shuffle.py
"""

import mlx.core as mx
import numpy as np

import conformance


@conformance.implementation("channel_shuffle", framework="numpy")
def mlx_shuffle(x, groups):
    n, c, *spatial = x.shape
    parts = mx.array(x).reshape(n, groups, c // groups, *spatial)
    return np.array(parts.swapaxes(1, 2).reshape(x.shape))
