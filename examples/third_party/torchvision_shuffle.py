"""torchvision's channel shuffle, of its ShuffleNetV2.

pip install torchvision==0.28.0
conformance run --adapter examples/third_party/torchvision_shuffle.py '*/torchvision_shuffle'
"""

import torch

import conformance

try:
    import torchvision
except RuntimeError:
    # A torchvision that was built for CUDA lacks its operators beside a CPU build of torch, and
    # wants two of them when it is imported; the shuffle is Python alone, and calls none.
    operators = torch.library.Library("torchvision", "FRAGMENT")
    operators.define("nms(Tensor boxes, Tensor scores, float threshold) -> Tensor")
    operators.define("qnms(Tensor boxes, Tensor scores, float threshold) -> Tensor")
    import torchvision

channel_shuffle = torchvision.models.shufflenetv2.channel_shuffle


@conformance.implementation("channel_shuffle", framework="torch")
def torchvision_shuffle(x, groups):
    return _of_four_dimensions(channel_shuffle, x, groups)


def _of_four_dimensions(shuffle, x, groups):
    """It takes (N, C, H, W) alone, and so is given one long row of what is (N, C, *spatial)."""
    return shuffle(x.flatten(2).unsqueeze(-1), groups).reshape(x.shape)
