# ruff: noqa: ISC004 - bodies of scripts are long
"""Loops with one mistake, as people write them: each is called that, and nothing else."""

import sys
from pathlib import Path

from conformance.weighing.diagnosis import judge
from conformance.weighing.launch import read_steps

sys.path.append(str(Path(__file__).parent))
from ranks import run, task
from test_loops import HEAD

EVEN = "def batch(n=5):\n    return torch.randn(5, 7), torch.randint(0, 4, (5,))\n"
SUMMED = "[dist.all_reduce(p.grad) for p in net.parameters()]"
WRONG = {
    "summed in the optimizer's own step": (
        "class Summing(torch.optim.SGD):\n    @torch.no_grad()\n"
        f"    def step(self, closure=None):\n        {SUMMED}\n"
        "        return torch.optim.SGD.step(self, closure)\n"
        "optimizer = Summing(net.parameters(), lr=0.1)\n" + EVEN + "train(after=lambda: None)",
        "step_mean", "not-divided",
    ),
    "summed in a hook of the optimizer's own": (
        f"optimizer.register_step_pre_hook(lambda *_: {SUMMED} and None)\n"
        + EVEN + "train(after=lambda: None)",
        "step_mean", "not-divided",
    ),
    "noise, and no rank synchronised": (
        "def noise():\n    for p in net.parameters():\n"
        "        p.grad += 1e-3 * torch.ones_like(p) * torch.arange(len(p)).sin().mean()\n"
        "        p.grad[0] += 0.01\ntrain(after=noise)",
        "step_mean", "never-synchronised",
    ),
    "shards that are never reduced": (
        "from torch.distributed.fsdp import fully_shard\nfully_shard(net)\n"
        "optimizer = torch.optim.SGD(net.parameters(), lr=0.1)\n"
        "net.set_requires_gradient_sync(False)\ntrain(after=lambda: None)",
        "step_mean", "counts-nothing",
    ),
    "a gain that is divided twice": (
        EVEN + "train(lambda x, y: -net(x).sigmoid().mean() / world)",
        "step_mean", "divided-twice",
    ),
    "cosines that are not divided by the micro-batches": (
        EVEN + "net = DDP(net)\nfor step in range(4):\n    optimizer.zero_grad()\n"
        "    for _ in range(3):\n        x, y = batch()\n"
        "        (-F.cosine_similarity(net(x), x[:, :4]).mean()).backward()\n    optimizer.step()",
        "step_mean", "accumulation-unscaled",
    ),
    "features gathered by torch's own function, and gradients summed": (
        EVEN + "from torch.distributed.nn.functional import all_gather\ndef loss(x, y):\n"
        "    own = net(x)\n    rows = torch.cat(all_gather(own))\n"
        "    return F.cross_entropy(own @ rows.T, torch.arange(5) + 5 * rank)\n"
        f"train(loss, after=lambda: {SUMMED})",
        "step_mean", "not-divided",
    ),
    "a softmax over a temperature, divided by each rank's count": (
        "def loss(x, y):\n    x = x[: 3 + rank]\n    log = (net(x) / 2).log_softmax(1)\n"
        "    return 4 * F.kl_div(log, torch.full_like(log, 0.25), reduction='batchmean')\n"
        "train(loss)",
        "step_mean", "local-count",
    ),
    "each rank divides by the weights of its own classes": (
        "weight = torch.tensor([1.0, 2.0, 0.5, 3.0])\n"
        "train(lambda x, y: F.cross_entropy(net(x), y, weight=weight))",
        "step_mean", "mean-of-means",
    ),
    "each rank clipped by hand before the average": (
        "def clip():\n    norm = torch.stack([p.grad.norm() for p in net.parameters()]).norm()\n"
        "    for p in net.parameters():\n        p.grad *= min(1.0, 0.01 / float(norm + 1e-6))\n"
        "    average()\n" + EVEN + "train(after=clip)",
        "step_mean", "clipped-before-averaging",
    ),
    "importances over each rank's own sum": (
        "def loss(x, y):\n    x, y = x[: 3 + rank], y[: 3 + rank]\n"
        "    weight = torch.rand(len(x))\n"
        "    each = F.cross_entropy(net(x), y, reduction='none')\n"
        "    return (weight * each).sum() / weight.sum()\ntrain(loss)",
        "step_mean", "local-count",
    ),
    "advantages, times W": (
        "def loss(x, y):\n    log = net(x).log_softmax(1).gather(1, y[:, None])[:, 0]\n"
        "    return -(log * torch.randn(len(x))).mean() * world\ntrain(loss)",
        "step_mean", "world-left-in",
    ),
    "a margin in two branches, times W": (
        "train(lambda x, y: world * F.cosine_embedding_loss(\n"
        "    net(x), x[:, :4], (y % 2 * 2 - 1).float()))",
        "step_mean", "world-left-in",
    ),
    "a second loss of four times the weight, divided by each rank's count": (
        "def loss(x, y):\n    x, y = x[: 3 + 2 * rank], y[: 3 + 2 * rank]\n    out = net(x)\n"
        "    whole = torch.tensor(float(len(x)))\n    dist.all_reduce(whole)\n"
        "    first = F.cross_entropy(out, y, reduction='sum') * world / whole\n"
        "    return first + 4 * F.l1_loss(out[:, 0], x[:, 0])\n" + EVEN + "train(loss)",
        "step_mean", "mean-of-means",
    ),
}  # fmt: skip


def test_a_loop_with_one_mistake_is_called_that(tmp_path):
    tasks = [task(tmp_path, name, HEAD + body, 2, {}) for name, (body, *_) in WRONG.items()]
    run(tmp_path, 2, tasks)
    for name, (_, promise, wanted) in WRONG.items():
        names = [
            n for verdict in judge(read_steps(tmp_path / name), promise) for n in verdict.names
        ]
        assert names == [wanted], name
