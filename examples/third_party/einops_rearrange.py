"""einops, of NumPy's arrays.

pip install einops==0.8.2
conformance run --adapter examples/third_party/einops_rearrange.py
"""

import einops

import conformance


@conformance.implementation("channel_shuffle", framework="numpy")
def einops_rearrange(x, groups):
    return einops.rearrange(x, "n (g c) ... -> n (c g) ...", g=groups)
