"""Add up the ranks' own gradients in float64, and divide by W.

D2: the sum of the ranks' own gradients divided by W.
"""

import numpy as np
from conformance import implementation


@implementation("gradient_mean", framework="numpy", runs="virtual", promise="rank_mean")
def numpy_virtual_definition(gradient, params, batches, devices):
    total = {name: np.zeros(p.shape) for name, p in params.items()}
    for batch in batches:
        for rank in range(len(devices)):
            own = gradient(params, *(array[rank] for array in batch))
            for name in total:
                total[name] += own[name]
    return {name: (total[name] / len(devices)).astype(p.dtype) for name, p in params.items()}
