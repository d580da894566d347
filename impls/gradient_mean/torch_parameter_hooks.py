"""All-reduce each gradient once the last backward has accumulated it, and those before it.

The collectives run beside the rest of the backward. They must begin in the same order on every
rank, which hooks need not: on a rank without samples they may run in another.
https://pytorch.org/docs/stable/generated/torch.Tensor.register_post_accumulate_grad_hook.html
"""

import torch.distributed as dist
from conformance import implementation


@implementation("gradient_mean", framework="torch", runs="per_rank", promise="rank_mean")
def torch_parameter_hooks(model, loss, batches, group):
    for tensor in (*model.parameters(), *model.buffers()):
        dist.broadcast(tensor.detach(), group=group, group_src=0)
    waiting = [parameter for parameter in model.parameters() if parameter.requires_grad]
    works, done = [], set()

    def average(parameter):
        done.add(parameter)
        while waiting and waiting[-1] in done:  # the last layer's come first
            grad = waiting.pop().grad
            grad /= group.size()
            works.append(dist.all_reduce(grad, group=group, async_op=True))

    *others, last = batches
    for x, y in others:
        loss(model(x), y).backward()
    hooks = [parameter.register_post_accumulate_grad_hook(average) for parameter in waiting]
    x, y = last
    loss(model(x), y).backward()
    waiting[:] = [p for p in waiting if p.grad is not None]  # None is unused, and so on every rank
    while waiting:
        average(waiting[-1])
    for work in works:
        work.wait()
    for hook in hooks:
        hook.remove()
