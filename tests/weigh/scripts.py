"""Training scripts with one mistake each, as people write them, and the right form of each.

Every script is the head, then its own body. A body may use `model` (not wrapped), `rank`, `world`,
`make_optimizer`, `micro_batches(step)` with masked labels of unequal counts, `even(step)` with
equal counts, and `token_loss(model, ids, labels, reduction)`.
"""

from dataclasses import dataclass

HEAD = '''\
import copy, os, sys
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn
from torch.nn.parallel import DistributedDataParallel as DDP

STEPS = int(os.environ.get("STEPS", "3"))
if not dist.is_initialized():
    dist.init_process_group("gloo")
rank, world = dist.get_rank(), dist.get_world_size()
K = 3 if world == 2 else 2  # a factor W is not a factor K
torch.manual_seed(0)
model = nn.Sequential(nn.Embedding(13, 12), nn.Linear(12, 16), nn.Tanh(), nn.Linear(16, 9))


def make_optimizer(parameters):
    if os.environ.get("OPTIMIZER") == "adamw":
        return torch.optim.AdamW(parameters, lr=0.01)
    return torch.optim.SGD(parameters, lr=0.1)


def batch(step, k, samples, length, masked):
    random = torch.Generator().manual_seed(1000 * step + 10 * rank + k)
    ids = torch.randint(0, 13, (samples, length), generator=random)
    labels = torch.randint(0, 9, (samples, length), generator=random)
    for sample in range(samples):
        labels[sample, length - masked[sample % len(masked)] :] = -100
    return ids, labels


def micro_batches(step, k=K):
    """K micro-batches of (ids, labels), more tokens on some ranks than on others."""
    return [
        batch(step, i, 1 + (i + j) % 3, 5 + (rank + i + j) % 4, [(rank + i) % 3, 1])
        for i in range(k)
        for j in [rank + step]
    ]


def even(step, k=K):
    """K micro-batches of 2 times 5 tokens each."""
    return [batch(step, i, 2, 5, [0]) for i in range(k)]


def token_loss(model, ids, labels, reduction="mean"):
    autocast = torch.autocast("cpu", torch.bfloat16, enabled="BF16" in os.environ)
    with autocast:
        logits = model(ids)
        logits = logits.view(-1, logits.shape[-1])
        return F.cross_entropy(logits, labels.view(-1), reduction=reduction)


def count(batches):
    return sum(int((labels != -100).sum()) for _, labels in batches)


def over_ranks(value):
    total = torch.tensor(float(value), dtype=torch.float64)
    dist.all_reduce(total)
    return int(total)


'''


@dataclass(frozen=True)
class Script:
    """A mistake's name, what was promised, and the two bodies."""

    name: str
    expects: str
    wrong: str
    right: str
    promise: str = "step_mean"
    least_world: int = 1
    steps: int = 2


def _loop(
    body: str, setup: str = "ddp = DDP(model)\noptimizer = make_optimizer(model.parameters())"
) -> str:
    lines = "\n".join(f"    {line}" for line in body.strip("\n").splitlines())
    return f"{setup}\nfor step in range(STEPS):\n{lines}\n"


_TOKEN_MEAN = _loop(
    """
batches = micro_batches(step)
tokens = over_ranks(count(batches))
optimizer.zero_grad()
for ids, labels in batches:
    loss = token_loss(ddp, ids, labels, "sum") * world / tokens
    loss.backward()
optimizer.step()
"""
)
_BY_HAND = "optimizer = make_optimizer(model.parameters())"


def _of_tokens(old: str, new: str) -> str:
    """The right loop with one thing changed."""
    assert old in _TOKEN_MEAN, old
    return _TOKEN_MEAN.replace(old, new)


def _reduced(gradients: str, loss: str = 'token_loss(model, ids, labels, "sum") / tokens') -> str:
    body = f"""
batches = micro_batches(step)
tokens = over_ranks(count(batches))
optimizer.zero_grad()
for ids, labels in batches:
    ({loss}).backward()
for p in model.parameters():
    {gradients}
optimizer.step()
"""
    return _loop(body, _BY_HAND)


_EVEN = """
optimizer.zero_grad()
for ids, labels in even(step):
    loss = token_loss(ddp, ids, labels) / K
    loss.backward()
optimizer.step()
"""
_NO_SYNC = """
batches = micro_batches(step)
tokens = over_ranks(count(batches))
optimizer.zero_grad()
for k, (ids, labels) in enumerate(batches):
    with contextlib.nullcontext() if k == K - 1 else ddp.no_sync():
        (token_loss(ddp, ids, labels, "sum") * world / tokens).backward()
optimizer.step()
"""
_DDP = "import contextlib\nddp = DDP(model)\noptimizer = make_optimizer(model.parameters())"
_WINDOWS = """
batches = micro_batches(step, K if step % 2 == 0 else 1)
batches = [(ids[:1, :4], labels[:1, :4].clamp(0)) for ids, labels in batches]
optimizer.zero_grad()
for ids, labels in batches:
    (token_loss(ddp, ids, labels) / {}).backward()
optimizer.step()
"""
_CLIPPED = """
batches = micro_batches(step)
tokens = over_ranks(count(batches))
optimizer.zero_grad()
for ids, labels in batches:
    (token_loss(ddp, ids, labels, "sum") * world / tokens).backward()
    {}
{}
optimizer.step()
"""
_SCALED = """
ids, labels = even(step)[0]
optimizer.zero_grad()
scaler.scale(token_loss(ddp, ids, labels)).backward()
{}
scaler.update()
"""
_CLIP = "nn.utils.clip_grad_norm_(ddp.parameters(), 0.1)"
_SCALER = 'scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)\n' + _DDP
_TWO_HEADS = """
batches = micro_batches(step, 1)
(ids, labels), = batches
boxes = labels[:, : 2 + step]
tokens, all_boxes = over_ranks(count(batches)), over_ranks(int((boxes != -100).sum()))
optimizer.zero_grad()
classes = token_loss(ddp, ids, labels, "sum") * world / tokens
where = ddp(ids[:, : 2 + step])[boxes != -100][:, 0]
distance = F.smooth_l1_loss(where, torch.ones_like(where), reduction="sum") * world / {}
(classes + 5 * distance).backward()
optimizer.step()
"""
_SMOOTH = """
optimizer.zero_grad()
for ids, labels in even(step):
    logits = ddp(ids).flatten(0, 1)
    (F.cross_entropy(logits, labels.flatten(), label_smoothing=0.1) / K).backward()
optimizer.step()
"""
_OVERFLOW = """
(ids, labels), = even(step, 1)
optimizer.zero_grad()
token_loss(ddp, ids, labels).backward()
if {}:
    optimizer.zero_grad()
optimizer.step()
"""
_ONE_BACKWARD = """
optimizer.zero_grad()
total = 0
for ids, labels in {}:
    total = total + {}
({}).backward()
optimizer.step()
"""
_SUM = 'token_loss(ddp, ids, labels, "sum")'
_ALL_TOKENS = "total * world / over_ranks(count(micro_batches(step)))"
_TWO_KINDS = """
optimizer.zero_grad()
for ids, labels in even(step):
    logits = ddp(ids).flatten(0, 1)
    loss = F.cross_entropy(logits, labels.flatten()) + F.cross_entropy(-logits, labels.flatten())
    (loss / K * {}).backward()
optimizer.step()
"""
_ONE_AUTOCAST = """
optimizer.zero_grad()
with torch.autocast("cpu", torch.bfloat16):
    for ids, labels in even(step):
        (token_loss(ddp, ids, labels) / {}).backward()
optimizer.step()
"""
_SHARDS = """
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
mesh = init_device_mesh("cpu", (world, 1), mesh_dim_names=("all", "own"))["{}"]
for layer in (model[1], model[3]):
    fully_shard(layer, mesh=mesh)
ddp = fully_shard(model, mesh=mesh)
optimizer = make_optimizer(model.parameters())
"""
SCRIPTS = (
    Script(
        "micro-batch means averaged", "mean-of-micro-means",
        _of_tokens('token_loss(ddp, ids, labels, "sum") * world / tokens',
                   "token_loss(ddp, ids, labels) / K"),
        _TOKEN_MEAN,
    ),
    Script(
        "every rank divides by its own count", "local-count",
        _of_tokens("over_ranks(count(batches))", "count(batches) * world"),
        _TOKEN_MEAN, least_world=2,
    ),
    Script(
        "rank means averaged", "mean-of-means",
        _loop("optimizer.zero_grad()\n(ids, labels), = micro_batches(step, 1)\n"
              "token_loss(ddp, ids, labels).backward()\noptimizer.step()"),
        _TOKEN_MEAN, least_world=2,
    ),
    Script(
        "divided by the global count, and by DDP", "divided-twice",
        _of_tokens("* world / tokens", "/ tokens"), _TOKEN_MEAN, least_world=2,
    ),
    Script(
        "sums backpropagated", "sum-loss",
        _of_tokens(" * world / tokens", ""), _TOKEN_MEAN,
    ),
    Script(
        "share of samples for share of tokens", "sample-share-for-token-share",
        _loop(
            """
batches = micro_batches(step)
samples = over_ranks(sum(len(ids) for ids, _ in batches))
optimizer.zero_grad()
for ids, labels in batches:
    loss = token_loss(ddp, ids, labels) * len(ids) / samples * world
    loss.backward()
optimizer.step()
"""
        ),
        _TOKEN_MEAN,
    ),
    Script(
        "the count of the window before", "other-windows-count",
        _of_tokens("tokens = over_ranks(count(batches))",
                   "tokens = over_ranks(count(micro_batches(max(step - 1, 0))))"),
        _TOKEN_MEAN, steps=3,
    ),
    Script(
        "labels counted before the shift", "shifted-labels-counted",
        _of_tokens("over_ranks(count(batches))",
                   "over_ranks(count(batches) + sum(len(ids) for ids, _ in batches))"),
        _TOKEN_MEAN,
    ),
    Script(
        "padding counted", "padding-counted",
        _of_tokens("over_ranks(count(batches))",
                   "over_ranks(sum(labels.numel() for _, labels in batches))"),
        _TOKEN_MEAN,
    ),
    Script(
        "times world where gradients are summed", "world-left-in",
        _reduced("dist.all_reduce(p.grad)",
                 'token_loss(model, ids, labels, "sum") * world / tokens'),
        _reduced("dist.all_reduce(p.grad)"), least_world=2,
    ),
    Script(
        "a mean loss times world under DDP", "world-left-in",
        _loop(_EVEN.replace("/ K", "/ K * world")), _loop(_EVEN), least_world=2,
    ),
    Script(
        "a mean of smoothed labels times world", "world-left-in",
        _loop(_SMOOTH.replace("/ K", "/ K * world")), _loop(_SMOOTH), least_world=2,
    ),
    Script(
        "shards of a mesh of one rank", "never-synchronised",
        _loop(_EVEN, _SHARDS.format("own")), _loop(_EVEN, _SHARDS.format("all")), least_world=2,
    ),
    Script(
        "a second head divided by the rank's own count", "local-count",
        _loop(_TWO_HEADS.format("int((boxes != -100).sum())")),
        _loop(_TWO_HEADS.format("all_boxes")), least_world=2,
    ),
    Script(
        "times K where micro-batches add up", "micro-batches-left-in",
        _of_tokens("* world / tokens", "* world / tokens * K"), _TOKEN_MEAN,
    ),
    Script(
        "never divided by K", "accumulation-unscaled",
        _loop(_EVEN.replace(" / K", "")), _loop(_EVEN),
    ),
    Script(
        "micro-batches added up for one backward", "accumulation-unscaled",
        _loop(_ONE_BACKWARD.format("even(step)", "token_loss(ddp, ids, labels)", "total")),
        _loop(_ONE_BACKWARD.format("even(step)", "token_loss(ddp, ids, labels)", "total / K")),
    ),
    Script(
        "micro-batches averaged in one backward", "mean-of-micro-means",
        _loop(_ONE_BACKWARD.format("micro_batches(step)", "token_loss(ddp, ids, labels)",
                                   "total / K")),
        _loop(_ONE_BACKWARD.format("micro_batches(step)", _SUM, _ALL_TOKENS)),
    ),
    Script(
        "two terms of one kind times world", "world-left-in",
        _loop(_TWO_KINDS.format("world")), _loop(_TWO_KINDS.format("1")), least_world=2,
    ),
    Script(
        "micro-batches under one autocast", "accumulation-unscaled",
        _loop(_ONE_AUTOCAST.format("1")), _loop(_ONE_AUTOCAST.format("K")),
    ),
    Script(
        "divided by K twice", "accumulation-unscaled",
        _loop(_EVEN.replace("loss.backward()", "(loss / K).backward()")), _loop(_EVEN),
    ),
    Script(
        "a short window divided by the full K", "short-window-divided-by-k",
        _loop(_WINDOWS.format("K")), _loop(_WINDOWS.format("len(batches)")),
    ),
    Script(
        "summed over ranks, not divided", "not-divided",
        _reduced("dist.all_reduce(p.grad)",
                 "token_loss(model, ids[:1, :4], labels[:1, :4].clamp(0)) / K"),
        _reduced("dist.all_reduce(p.grad); p.grad /= world",
                 "token_loss(model, ids[:1, :4], labels[:1, :4].clamp(0)) / K"), least_world=2,
    ),
    Script(
        "past the wrapper", "never-synchronised",
        _TOKEN_MEAN.replace("token_loss(ddp,", "token_loss(ddp.module,"), _TOKEN_MEAN,
        least_world=2,
    ),
    Script(
        "no wrapper at all", "never-synchronised",
        _TOKEN_MEAN.replace("ddp = DDP(model)", "ddp = model"), _TOKEN_MEAN, least_world=2,
    ),
    Script(
        "the flag set after the forward", "never-synchronised",
        _loop(
            """
batches = micro_batches(step)
tokens = over_ranks(count(batches))
optimizer.zero_grad()
ddp.require_backward_grad_sync = False
for k, (ids, labels) in enumerate(batches):
    loss = token_loss(ddp, ids, labels, "sum") * world / tokens
    ddp.require_backward_grad_sync = k == K - 1
    loss.backward()
    ddp.require_backward_grad_sync = False
optimizer.step()
"""
        ),
        _loop(_NO_SYNC, _DDP), least_world=2,
    ),
    Script(
        "the first micro-batch synchronised", "synchronised-too-early",
        _loop(_NO_SYNC.replace("k == K - 1", "k == 0"), _DDP), _loop(_NO_SYNC, _DDP), least_world=2,
    ),
    Script(
        "gradients zeroed at every micro-batch", "last-micro-batch-only",
        _of_tokens("    for ids, labels in batches:\n",
                   "    for ids, labels in batches:\n        optimizer.zero_grad()\n"),
        _TOKEN_MEAN,
    ),
    Script(
        "gradients never zeroed", "stale-gradient",
        _of_tokens("    optimizer.zero_grad()\n", ""), _TOKEN_MEAN,
    ),
    Script(
        "the optimizer holds a copy", "moved-after-wrapping",
        _TOKEN_MEAN.replace("ddp = DDP(model)\noptimizer = make_optimizer(model.parameters())",
                            "optimizer = make_optimizer(model.parameters())\n"
                            "ddp = DDP(copy.deepcopy(model))"),
        _TOKEN_MEAN,
    ),
    Script(
        "a head replaced after wrapping", "partly-synchronised",
        _TOKEN_MEAN.replace("ddp = DDP(model)\n",
                            "ddp = DDP(model, find_unused_parameters=True)\n"
                            "model[3] = nn.Linear(16, 9)\n"),
        _TOKEN_MEAN.replace("ddp = DDP(model)\n",
                            "model[3] = nn.Linear(16, 9)\nddp = DDP(model)\n"), least_world=2,
    ),
    Script(
        "biases left out of the all-reduce", "partly-synchronised",
        _reduced("dist.all_reduce(p.grad) if p.dim() > 1 else None"),
        _reduced("dist.all_reduce(p.grad)"), least_world=2,
    ),
    Script(
        "broadcast for all-reduce", "shard-0-returned",
        _reduced("dist.broadcast(p.grad, 0)"), _reduced("dist.all_reduce(p.grad)"), least_world=3,
    ),
    Script(
        "one rank left out of the sum", "rank-missing",
        _reduced("p.grad *= rank > 0; dist.all_reduce(p.grad)"),
        _reduced("dist.all_reduce(p.grad)"), least_world=2,
    ),
    Script(
        "clipped at every micro-batch", "clipped-before-averaging",
        _loop(_CLIPPED.format("nn.utils.clip_grad_norm_(ddp.parameters(), 0.05)", "")),
        _loop(_CLIPPED.format("pass", "nn.utils.clip_grad_norm_(ddp.parameters(), 0.05)")),
    ),
    Script(
        "clipped before the all-reduce", "clipped-before-averaging",
        _reduced("pass").replace(
            "    for p in model.parameters():\n        pass\n",
            "    nn.utils.clip_grad_norm_(model.parameters(), 0.01)\n"
            "    for p in model.parameters():\n        dist.all_reduce(p.grad)\n"),
        _reduced("dist.all_reduce(p.grad)").replace(
            "    optimizer.step()", "    nn.utils.clip_grad_norm_(model.parameters(), 0.01)\n"
            "    optimizer.step()"), least_world=2,
    ),
    Script(
        "clipped before unscaling", "clipped-by-another-norm",
        _loop(_SCALED.format(_CLIP + "\nscaler.step(optimizer)"),
              _SCALER),
        _loop(_SCALED.format("scaler.unscale_(optimizer)\n" +
                             _CLIP + "\nscaler.step(optimizer)"),
              _SCALER),
    ),
    Script(
        "a step past the scaler", "loss-scale-left-in",
        _loop(_SCALED.format("optimizer.step()"), _SCALER).replace("    scaler.update()\n", ""),
        _loop(_SCALED.format("scaler.step(optimizer)"), _SCALER),
    ),
    Script(
        "boxes divided by the count of tokens", "one-count-for-all-terms",
        _loop(_TWO_HEADS.format("tokens")), _loop(_TWO_HEADS.format("all_boxes")), steps=3,
    ),
    Script(
        "an overflow that one rank sees alone", "step-skipped-by-one-rank",
        _loop(_OVERFLOW.format("rank == world - 1")), _loop(_OVERFLOW.format("over_ranks(0)")),
        least_world=2,
    ),
    Script(
        "each rank divides by a loss scale of its own", "ranks-disagree",
        _loop(
            """
(ids, labels), = even(step, 1)
optimizer.zero_grad()
(token_loss(ddp, ids, labels) * 2**rank).backward()
for p in model.parameters():
    p.grad /= 2**rank
optimizer.step()
"""
        ),
        _loop(_EVEN), least_world=2,
    ),
)  # fmt: skip
