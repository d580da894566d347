"""torchvision's channel shuffle, of its ShuffleNetV2.

pip install torchvision==0.28.0
conformance run --adapter examples/third_party/torchvision_shuffle.py '*/torchvision_shuffle'
"""

from torchvision.models.shufflenetv2 import channel_shuffle

import conformance


@conformance.implementation("channel_shuffle", framework="torch")
def torchvision_shuffle(x, groups):
    return _of_four_dimensions(channel_shuffle, x, groups)


def _of_four_dimensions(shuffle, x, groups):
    """It takes (N, C, H, W) alone, and so is given one long row of what is (N, C, *spatial)."""
    return shuffle(x.flatten(2).unsqueeze(-1), groups).reshape(x.shape)
