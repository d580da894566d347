"""Average the micro-batches' own means, over the samples of all ranks, on one device.

That is gradient accumulation as most loops have it (M3).
https://pytorch.org/docs/stable/notes/amp_examples.html#gradient-accumulation
"""

from conformance import implementation


@implementation(
    "gradient_mean", framework="torch", promise="sample_mean", micro_batches="mean", devices="one"
)
def torch_micro_mean_one_process(model, loss, batches, devices):
    model.to(devices[0])
    for x, y in batches:
        (loss(model(x), y) / len(batches)).backward()
