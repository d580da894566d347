"""OpenCV's transpose of any dimensions.

pip install opencv-python-headless==5.0.0.93
conformance run --adapter examples/third_party/opencv_transpose.py
"""

import cv2

import conformance


@conformance.implementation("channel_shuffle", framework="numpy")
def opencv_transpose(x, groups):
    n, c, *spatial = x.shape
    parts = x.reshape(n, groups, c // groups, *spatial)
    return cv2.transposeND(parts, (0, 2, 1, *range(3, parts.ndim))).reshape(x.shape)
