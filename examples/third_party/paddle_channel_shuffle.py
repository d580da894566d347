"""Paddle's own operator, which takes images alone.

pip install paddlepaddle==3.3.1
conformance run --adapter examples/third_party/paddle_channel_shuffle.py
"""

import paddle

import conformance


@conformance.implementation("channel_shuffle", framework="numpy", ndim=4)
def paddle_channel_shuffle(x, groups):
    return paddle.nn.functional.channel_shuffle(paddle.to_tensor(x), groups).numpy()
