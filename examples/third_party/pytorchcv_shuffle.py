"""pytorchcv's two channel shuffles.

pip install --no-deps pytorchcv==0.0.74
conformance run --adapter examples/third_party/pytorchcv_shuffle.py '*/pytorchcv_*'
"""

from pytorchcv.models.common.tutti import channel_shuffle, channel_shuffle2

import conformance


@conformance.implementation("channel_shuffle", framework="torch")
def pytorchcv_shuffle(x, groups):
    return _of_four_dimensions(channel_shuffle, x, groups)


@conformance.implementation("channel_shuffle", framework="torch")
def pytorchcv_shuffle2(x, groups):
    return _of_four_dimensions(channel_shuffle2, x, groups)


def _of_four_dimensions(shuffle, x, groups):
    """It takes (N, C, H, W) alone, and so is given one long row of what is (N, C, *spatial)."""
    return shuffle(x.flatten(2).unsqueeze(-1), groups).reshape(x.shape)
