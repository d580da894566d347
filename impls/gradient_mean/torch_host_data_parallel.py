"""Differentiate the loss on the outputs that `HostDataParallel` gathers.

It is DataParallel's own code, with host memory for every device. It asks `torch.accelerator` for
its devices, and so needs torch 2.10.
https://pytorch.org/docs/stable/generated/torch.nn.DataParallel.html
"""

from conformance import implementation
from conformance.frameworks.torch.host_data_parallel import HostDataParallel


@implementation("gradient_mean", framework="torch", promise="sample_mean", needs="torch>=2.10")
def torch_host_data_parallel(model, loss, batches, devices):
    parallel = HostDataParallel(model, len(devices))
    for x, y in batches:
        loss(parallel(x), y).backward()
