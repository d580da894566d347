"""Shuffle channels with `torch.nn.functional.channel_shuffle` under `torch.compile`.

The output is contiguous whatever x is. Where the shuffle moves nothing, Inductor drops the copy,
and the output is x's own memory. `torch.func` has to be inside the compiled function.
https://pytorch.org/docs/stable/generated/torch.compile.html
"""

import torch
import torch.nn.functional as F
from conformance import implementation
from torch._dynamo.exc import TorchDynamoException

# Compiled at the first call, and again for each rank and dtype: the default limit is 8 of them.
_compiled = torch.compile(F.channel_shuffle, fullgraph=True, dynamic=True, recompile_limit=256)


@implementation("channel_shuffle", framework="torch", promise="native", needs="torch>=2.12")
def torch_compile(x, groups: int):
    try:
        return _compiled(x, groups)
    except TorchDynamoException:
        F.channel_shuffle(x, groups)  # what the operator itself refuses, it says in its own words
        raise
