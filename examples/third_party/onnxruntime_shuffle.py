"""ONNX Runtime, of the graph that exporters write: Reshape, Transpose, Reshape.

pip install onnxruntime==1.32.0 onnx==1.23.2
conformance run --adapter examples/third_party/onnxruntime_shuffle.py
"""

import onnx
import onnxruntime

import conformance

DTYPES = {"f4": "float", "f8": "double", "f2": "float16", "i1": "int8", "i2": "int16"}
DTYPES |= {"i4": "int32", "i8": "int64", "u1": "uint8", "b1": "bool"}


@conformance.implementation("channel_shuffle", framework="numpy", name="onnxruntime_shuffle")
def shuffle(x, groups):
    if (dtype := DTYPES.get(x.dtype.str[1:])) is None:
        raise conformance.Unsupported(f"its Reshape and Transpose are not written for {x.dtype}")
    n, c, *spatial = x.shape
    parts = [n, groups, c // groups, *spatial]
    order = [0, 2, 1, *range(3, len(parts))]
    text = f"""<ir_version: 10, opset_import: ["" : 21]>
        shuffle ({dtype}{list(x.shape)} x) => ({dtype}{list(x.shape)} y)
        <int64[{len(parts)}] parts = {{{str(parts)[1:-1]}}},
         int64[{x.ndim}] whole = {{{str(x.shape)[1:-1]}}}>
        {{ a = Reshape<allowzero=1>(x, parts)
           b = Transpose<perm={order}>(a)
           y = Reshape<allowzero=1>(b, whole) }}"""
    session = onnxruntime.InferenceSession(onnx.parser.parse_model(text).SerializeToString())
    return session.run(None, {"x": x})[0]
