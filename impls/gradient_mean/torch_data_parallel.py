"""Differentiate the loss on the outputs that `torch.nn.DataParallel` gathers.

Without an accelerator it passes the batch straight through to the model (P1).
https://pytorch.org/docs/stable/generated/torch.nn.DataParallel.html
"""

from conformance import implementation
from torch import nn


@implementation("gradient_mean", framework="torch", promise="sample_mean")
def torch_data_parallel(model, loss, batches, devices):
    parallel = nn.DataParallel(model, device_ids=devices)
    for x, y in batches:
        loss(parallel(x), y).backward()
