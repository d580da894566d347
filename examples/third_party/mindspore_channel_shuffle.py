"""MindSpore's own operator, on its CPU.

pip install mindspore==2.10.0
conformance run --adapter examples/third_party/mindspore_channel_shuffle.py
"""

import mindspore

import conformance


@conformance.implementation("channel_shuffle", framework="numpy", ndim=(4, 5))
def mindspore_channel_shuffle(x, groups):
    return mindspore.ops.channel_shuffle(mindspore.Tensor(x), groups).asnumpy()
