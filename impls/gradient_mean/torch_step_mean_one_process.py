"""Divide the sum over all micro-batches by their number of items, on one device.

What every other way is to give: the loss over all of a step's items at once (M1).
https://pytorch.org/docs/stable/generated/torch.autograd.backward.html
"""

from conformance import implementation


@implementation("gradient_mean", framework="torch", promise="step_mean", devices="one")
def torch_step_mean_one_process(model, loss, batches, devices):
    model.to(devices[0])
    items = sum(weights.sum() for *_, weights in batches)
    for x, y, weights in batches:
        (loss(model(x), y, weights) * weights.sum() / items).backward()
