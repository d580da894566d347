"""OpenCV's dnn, of the ONNX graph that exporters write; it takes float32 alone.

pip install opencv-python-headless==5.0.0.93 onnx==1.23.2
conformance run --adapter examples/third_party/opencv_shuffle.py
"""

import cv2
import numpy as np
import onnx

import conformance


@conformance.implementation("channel_shuffle", framework="numpy", dtypes="f32", ndim=4)
def opencv_shuffle(x, groups):
    n, c, h, w = x.shape
    text = f"""<ir_version: 8, opset_import: ["" : 13]>
        shuffle (float[{n},{c},{h},{w}] x) => (float[{n},{c},{h},{w}] y)
        <int64[5] parts = {{{n},{groups},{c // groups},{h},{w}}},
         int64[4] whole = {{{n},{c},{h},{w}}}>
        {{ a = Reshape(x, parts)
           b = Transpose<perm=[0,2,1,3,4]>(a)
           y = Reshape(b, whole) }}"""
    graph = onnx.parser.parse_model(text).SerializeToString()
    net = cv2.dnn.readNetFromONNX(np.frombuffer(graph, np.uint8))
    net.setInput(x)
    return net.forward().copy()
