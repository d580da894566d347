"""Map every rank's own gradient along a first axis, and average along it.

torch's vmap has no named axes and no collectives: the mean is one over the axis of what comes out,
in which float16 and bfloat16 are summed in float32 and rounded once. The model has no buffers.
https://pytorch.org/docs/stable/generated/torch.func.vmap.html
"""

from conformance import implementation
from torch.func import functional_call, grad, vmap


@implementation("gradient_mean", framework="torch", runs="virtual", promise="rank_mean")
def torch_virtual_vmap(model, loss, batches, devices):
    trainable = {name: p for name, p in model.named_parameters() if p.requires_grad}

    def replica(parameters, x, y):
        return loss(functional_call(model, parameters, (x,)), y)

    for x, y in batches:
        xs, ys = (whole.unflatten(0, (len(devices), -1)) for whole in (x, y))
        grads = vmap(grad(replica), in_dims=(None, 0, 0))(trainable, xs, ys)
        for name, parameter in trainable.items():
            mean = grads[name].mean(0)
            parameter.grad = mean if parameter.grad is None else parameter.grad + mean
