"""Differentiate the loss of the whole batch, on one device.

What the others share out among ranks is this. A batch norm sees all samples.
The definition; its twin is `jax_one_device`.
"""

from conformance import implementation


@implementation(
    "gradient_mean", framework="torch", promise="sample_mean", devices="one", batch="whole"
)
def torch_module(model, loss, batches, devices):
    model.to(devices[0])
    for x, y in batches:
        loss(model(x), y).backward()
