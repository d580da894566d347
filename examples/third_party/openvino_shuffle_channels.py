"""OpenVINO's own operation, on its CPU.

pip install openvino==2026.4.1
conformance run --adapter examples/third_party/openvino_shuffle_channels.py
"""

import openvino
from openvino import opset15 as ops

import conformance


@conformance.implementation("channel_shuffle", framework="numpy")
def openvino_shuffle_channels(x, groups):
    parameter = ops.parameter(x.shape, x.dtype)
    model = openvino.Model([ops.shuffle_channels(parameter, 1, groups)], [parameter])
    return openvino.compile_model(model, "CPU")(x)[0].copy()
