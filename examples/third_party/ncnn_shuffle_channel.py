"""ncnn's layer of this name, which takes one image of float32 at a time.

pip install ncnn==1.0.20261020
conformance run --adapter examples/third_party/ncnn_shuffle_channel.py
"""

import ncnn
import numpy as np

import conformance

GRAPH = "7767517\n2 2\nInput x 0 1 x\nShuffleChannel y 1 1 x y 0={}\n"


@conformance.implementation("channel_shuffle", framework="numpy", dtypes="f32", ndim=4)
def ncnn_shuffle_channel(x, groups):
    net = ncnn.Net()
    net.load_param_mem(GRAPH.format(groups))
    images = []
    for image in x:
        run = net.create_extractor()
        run.input("x", ncnn.Mat(np.ascontiguousarray(image)))
        status, output = run.extract("y")
        if status:
            raise ValueError(f"ncnn ended with {status}")
        images.append(np.array(output))
    return np.array(images, x.dtype).reshape(x.shape)
