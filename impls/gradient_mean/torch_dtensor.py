"""Call every gradient a part of an average after the last backward, and ask for the whole.

https://pytorch.org/docs/stable/distributed.tensor.html
"""

from conformance import implementation
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Partial, Replicate, distribute_tensor


@implementation("gradient_mean", framework="torch", runs="per_rank", promise="rank_mean")
def torch_dtensor(model, loss, batches, group):
    mesh = DeviceMesh.from_group(group, next(model.parameters()).device.type)
    for tensor in (*model.parameters(), *model.buffers()):
        tensor.detach().copy_(distribute_tensor(tensor.detach(), mesh, [Replicate()]).to_local())
    for x, y in batches:
        loss(model(x), y).backward()
    for parameter in model.parameters():
        if parameter.grad is not None:  # None is frozen or unused, and so on every rank
            part = DTensor.from_local(parameter.grad, mesh, [Partial("avg")])
            parameter.grad = part.redistribute(placements=[Replicate()]).to_local()
