# ruff: noqa: ISC004 - bodies of scripts are long
"""Loops as people write them, all of them right: none is accused, and what is judged passes."""

import json
import sys
from pathlib import Path

import pytest

from conformance.weighing.diagnosis import judge
from conformance.weighing.launch import read_steps
from conformance.weighing.text import lines

sys.path.append(str(Path(__file__).parent))
from ranks import run, task

HEAD = """
import math, torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn
from torch.nn.parallel import DistributedDataParallel as DDP
rank, world = dist.get_rank(), dist.get_world_size()
torch.manual_seed(0)
class Net(nn.Module):
    def __init__(self, inputs=7, outputs=4):
        super().__init__()
        self.a, self.b = nn.Linear(inputs, 14), nn.Linear(14, outputs)
    def forward(self, x):
        return self.b(torch.relu(self.a(x)))
net = Net()
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
torch.manual_seed(rank + 1)
def batch(n=5):
    return torch.randn(n, 7), torch.randint(0, 4, (n,))
def average():
    for p in net.parameters():
        dist.all_reduce(p.grad)
        p.grad /= world
def train(loss=lambda x, y: F.cross_entropy(net(x), y), after=average, before=lambda: None):
    for step in range(4):
        before()
        x, y = batch(5 + step)
        optimizer.zero_grad()
        loss(x, y).backward()
        after()
        optimizer.step()
"""
PASS, OPEN = "passes", "is not judged"
SEQUENCES = (
    "def loss(x, y):\n    x, y = torch.randn(4, 6, 7), torch.randint(0, 4, (4, 6))\n"
    "    mask = (torch.arange(6) < torch.tensor([6, 2, 3, 4 + rank])[:, None]).float()\n"
    "    each = F.cross_entropy(net(x).transpose(1, 2), y, reduction='none')\n"
)
ONE = {
    "averaged in the optimizer's own step": (
        "class Averaging(torch.optim.AdamW):\n    def step(self, closure=None):\n"
        "        average()\n        return super().step(closure)\n"
        "optimizer = Averaging(net.parameters(), lr=0.1)\ntrain(after=lambda: None)",
        "step_mean", PASS, "1/N",
    ),
    "averaged in a hook of the optimizer's own": (
        "optimizer.register_step_pre_hook(lambda *_: average())\ntrain(after=lambda: None)",
        "step_mean", PASS, "1/N",
    ),
    "clipped by hand": (
        "def clip():\n    norm = torch.stack([p.grad.norm() for p in net.parameters()]).norm()\n"
        "    for p in net.parameters():\n        p.grad *= min(1.0, 0.1 / float(norm + 1e-6))\n"
        "train(after=clip)",
        "step_mean", PASS, "a clip of the script's own",
    ),
    "clipped by two parts of the public function": (
        "def clip():\n    norm = nn.utils.get_total_norm([p.grad for p in net.parameters()])\n"
        "    nn.utils.clip_grads_with_norm_(net.parameters(), 0.1, norm)\ntrain(after=clip)",
        "step_mean", PASS, "1/N",
    ),
    "two optimizers clipped by one norm": (
        "one, two = (torch.optim.SGD(m.parameters(), lr=0.1) for m in (net.a, net.b))\n"
        "for step in range(4):\n    x, y = batch(5 + step)\n    net.zero_grad()\n"
        "    F.cross_entropy(net(x), y).backward()\n"
        "    nn.utils.clip_grad_norm_(net.parameters(), 0.1)\n    one.step()\n    two.step()",
        "step_mean", PASS, "SGD 2: step_mean: 1/N",
    ),
    "two optimizers clipped by hand": (
        "one, two = (torch.optim.SGD(m.parameters(), lr=0.1) for m in (net.a, net.b))\n"
        "for step in range(4):\n    x, y = batch(5 + step)\n    net.zero_grad()\n"
        "    F.cross_entropy(net(x), y).backward()\n"
        "    norm = torch.stack([p.grad.norm() for p in net.parameters()]).norm()\n"
        "    for p in net.parameters():\n        p.grad *= min(1.0, 0.1 / float(norm + 1e-6))\n"
        "    one.step()\n    two.step()",
        "step_mean", PASS, "a clip of the script's own",
    ),
    "an actor and a critic, each clipped after its own backward pass": (
        "other = Net(7, 1)\noptimizer.add_param_group({'params': list(other.parameters())})\n"
        "def loss(x, y):\n    F.cross_entropy(net(x), y).backward()\n"
        "    nn.utils.clip_grad_norm_(net.parameters(), 0.1)\n"
        "    return F.mse_loss(other(x)[:, 0], x[:, 0])\n"
        "train(loss, after=lambda: nn.utils.clip_grad_norm_(other.parameters(), 0.1))",
        "step_mean", PASS, "1/N",
    ),
    "images made and scored, all gradients clipped before each step": (
        "make, score = nn.Linear(7, 7), nn.Linear(7, 1)\n"
        "of_make, of_score = (torch.optim.SGD(m.parameters(), lr=0.1) for m in (make, score))\n"
        "every = [*make.parameters(), *score.parameters()]\n"
        "bce, ones = F.binary_cross_entropy_with_logits, torch.ones(5, 1)\n"
        "for step in range(4):\n    of_score.zero_grad()\n"
        "    made = score(make(torch.randn(5, 7)))\n"
        "    (bce(score(batch()[0]), ones) + bce(made, 0 * ones)).backward()\n"
        "    nn.utils.clip_grad_norm_(every, 0.05)\n    of_score.step()\n"
        "    of_make.zero_grad()\n    bce(score(make(torch.randn(5, 7))), ones).backward()\n"
        "    nn.utils.clip_grad_norm_(every, 0.05)\n    of_make.step()",
        "step_mean", PASS, "SGD 2: step_mean: 1/N",
    ),
    "clipped layer by layer": (
        "train(after=lambda: [nn.utils.clip_grad_norm_(m.parameters(), 0.05)"
        " for m in (net.a, net.b)])",
        "step_mean", PASS, "1/N",
    ),
    "a norm that is asked for, and two clips": (
        "def clip():\n    for limit in (math.inf, 0.3, 0.1):\n"
        "        nn.utils.clip_grad_norm_(net.parameters(), limit)\ntrain(after=clip)",
        "step_mean", PASS, "1/N",
    ),
    "clipped by the largest element": (
        "train(after=lambda: nn.utils.clip_grad_norm_(net.parameters(), 0.01, math.inf))",
        "step_mean", PASS, "1/N",
    ),
    "each parameter scaled by its norm": (
        "train(after=lambda: [p.grad.mul_(0.01 * p.detach().norm() / p.grad.norm())"
        " for p in net.parameters()])",
        "step_mean", OPEN, "every parameter has a factor of its own",
    ),
    "a hook that halves the largest parameter's gradient": (
        "net.a.weight.register_hook(lambda g: g / 2)\ntrain()",
        "step_mean", PASS, "a.weight: every item counts 0.5 times what it counts for the others",
    ),
    "LBFGS with a fresh batch at each step": (
        "optimizer = torch.optim.LBFGS(net.parameters(), max_iter=3)\nfor _ in range(3):\n"
        "    x, y = batch()\n    def closure():\n        optimizer.zero_grad()\n"
        "        loss = F.cross_entropy(net(x), y)\n        loss.backward()\n        return loss\n"
        "    optimizer.step(closure)",
        "step_mean", PASS, "1/N",
    ),
    "scores of all places divided by the objects that there are": (
        "def loss(x, y):\n    out, found = net(x), y == y[0]\n"
        "    scores = F.binary_cross_entropy_with_logits(out[:, :3], torch.rand(len(x), 3),"
        " reduction='sum')\n"
        "    boxes = F.l1_loss(out[found, 3], torch.ones(int(found.sum())), reduction='sum')\n"
        "    return (scores + boxes) / found.sum()\ntrain(loss)",
        "step_mean", OPEN, "share the count of the fewer ones of l1_loss",
    ),
    "a mask over a loss that no function knows": (
        "def loss(x, y):\n    out = net(x)\n    mask = (torch.arange(len(x)) < 4).float()\n"
        "    each = out.logsumexp(-1) - out.gather(-1, y[:, None])[:, 0]\n"
        "    return (each * mask).sum() / mask.sum()\ntrain(loss)",
        "step_mean", PASS, "1/N",
    ),
    "returns of a policy": (
        "def loss(x, y):\n    terms = []\n    for row in x:\n"
        "        policy = torch.distributions.Categorical(logits=net(row[None]))\n"
        "        terms.append(-policy.log_prob(policy.sample()) * torch.randn(()).item())\n"
        "    return torch.cat(terms).sum()\ntrain(loss)",
        "step_mean", OPEN, "weights of the script's own",
    ),
    "soft targets over the last dimension": (
        "def loss(x, y):\n    targets = torch.rand(len(x), 4).softmax(-1)\n"
        "    return -(targets * net(x).log_softmax(dim=-1)).sum(-1).mean()\ntrain(loss)",
        "step_mean", PASS, "1/N",
    ),
    "real and made images in two backward passes": (
        "score = nn.Sequential(net, nn.Linear(4, 1), nn.Sigmoid())\n"
        "def loss(x, y):\n    F.binary_cross_entropy(score(x), torch.ones(len(x), 1)).backward()\n"
        "    return F.binary_cross_entropy(score(x * 2), torch.zeros(len(x), 1))\ntrain(loss)",
        "step_mean", PASS, "binary_cross_entropy of targets 0",
    ),
    "a critic's scores, added and taken away": (
        "def loss(x, y):\n    (-net(x).mean()).backward()\n    return net(x * 2).mean()\n"
        "train(loss)",
        "step_mean", PASS, "",
    ),
    "real and made images in one backward pass": (
        "score = nn.Sequential(net, nn.Linear(4, 1), nn.Sigmoid())\n"
        "def loss(x, y):\n    real = F.binary_cross_entropy(score(x), torch.ones(len(x), 1))\n"
        "    made = F.binary_cross_entropy(score(x * 2), torch.zeros(len(x), 1))\n"
        "    return real + made\ntrain(loss)",
        "step_mean", PASS, "binary_cross_entropy of targets 0",
    ),
    "two looks at a batch in one backward pass": (
        "train(lambda x, y: F.cross_entropy(net(x), y) + F.cross_entropy(net(x + 0.1), y))",
        "step_mean", PASS, "cross_entropy, again",
    ),
    "two tasks, one of half the weight": (
        "def loss(x, y):\n    other, labels = batch(6)\n"
        "    return F.cross_entropy(net(x), y) + 0.5 * F.cross_entropy(net(other), labels)\n"
        "train(loss)",
        "step_mean", PASS, "1/2 · 1/N",
    ),
    "two tasks, or two micro-batches": (
        "def loss(x, y):\n    other, labels = batch(6)\n"
        "    return F.cross_entropy(net(x), y) + F.cross_entropy(net(other), labels)\n"
        "train(loss)",
        "step_mean", OPEN, "as tasks of their own they keep it",
    ),
    "items that the model is sure of": (
        "def loss(x, y):\n    other, labels = batch(6)\n"
        "    each = F.cross_entropy(net(other), labels, reduction='none')\n"
        "    sure = (torch.rand(6) < 0.6).float()\n    sure[:2] = torch.tensor([0.0, 1.0])\n"
        "    return F.cross_entropy(net(x), y) + 0.7 * (each * sure).mean()\ntrain(loss)",
        "step_mean", OPEN, "chosen among places",
    ),
    "a term that comes in by and by": (
        "share = iter((0.0, 0.1, 0.3, 0.5))\ndef loss(x, y):\n    out = net(x)\n"
        "    return F.cross_entropy(out, y) + next(share) * out.pow(2).mean()\ntrain(loss)",
        "step_mean", OPEN, "squares is not judged: it has a factor of its own in each step",
    ),
    "labels that are mixed": (
        "def loss(x, y):\n    out, part = net(x), torch.rand(()).item()\n    mixed = y.flip(0)\n"
        "    return part * F.cross_entropy(out, y) + (1 - part) * F.cross_entropy(out, mixed)\n"
        "train(loss)",
        "step_mean", OPEN, "of a mix that is drawn",
    ),
    "levels of a pyramid that share a count": (
        "def loss(x, y):\n    out = net(x)\n"
        "    levels = [F.cross_entropy(out[p], y[p], reduction='sum')"
        " for p in (slice(0, 2), slice(2, 9))]\n    return 0.7 * sum(levels) / len(x)\ntrain(loss)",
        "step_mean", PASS, "7/10 · 1/N",
    ),
    "tasks of a loop, each with a weight": (
        "def loss(x, y):\n    total = 0\n    for weight, size in ((1.0, 5), (0.3, 6), (0.1, 7)):\n"
        "        x, y = batch(size)\n        total = total + weight * F.cross_entropy(net(x), y)\n"
        "    return total\ntrain(loss)",
        "step_mean", OPEN, "as tasks of their own they keep it",
    ),
    "a recurrent net, cut at every step": (
        "cell = nn.GRUCell(7, 4)\noptimizer.add_param_group({'params': list(cell.parameters())})\n"
        "def loss(x, y):\n    state, total = torch.zeros(len(x), 4), 0\n    for turn in range(3):\n"
        "        state = cell(x, state.detach())\n"
        "        total = total + F.cross_entropy(state, (y + turn) % 4)\n    return total / 3\n"
        "train(loss, after=lambda: None)",
        "step_mean", PASS, "1/N",
    ),
    "half of a loss over batches of one size": (
        "def loss(x, y):\n    return 0.5 * F.mse_loss(net(x[:5]), torch.ones(5, 4))\ntrain(loss)",
        "step_mean", PASS, "1/2 · 1/N",
    ),
    "a second head's loss in a backward pass of its own": (
        "def loss(x, y):\n    out = net(x)\n"
        "    F.cross_entropy(out, y).backward(retain_graph=True)\n"
        "    return 0.4 * F.cross_entropy(out / 2, y)\ntrain(loss)",
        "step_mean", PASS, "cross_entropy, again",
    ),
}  # fmt: skip
TWO = {
    "averaged in the parameters' hooks": (
        "def hook(gradient):\n    gradient = gradient / world\n    dist.all_reduce(gradient)\n"
        "    return gradient\n[p.register_hook(hook) for p in net.parameters()]\n"
        "train(after=lambda: None)",
        "rank_mean", PASS, "1/N",
    ),
    "parameters averaged after the step": (
        "def share():\n    for p in net.parameters():\n        dist.all_reduce(p.data)\n"
        "        p.data /= world\ntrain(before=share, after=lambda: None)",
        "rank_mean", OPEN, "it is parameters that are averaged",
    ),
    "a step that all ranks skip": (
        "for step in range(6):\n    x, y = batch()\n    optimizer.zero_grad()\n"
        "    F.cross_entropy(net(x), y).backward()\n    average()\n"
        "    overflow = torch.tensor(float(rank == step == 1))\n    dist.all_reduce(overflow)\n"
        "    if not overflow:\n        optimizer.step()",
        "step_mean", PASS, "step 2 was not weighed: its first passes count nothing",
    ),
    "parameters averaged every sixth step": (
        "for step in range(9):\n    x, y = batch()\n    optimizer.zero_grad()\n"
        "    F.cross_entropy(net(x), y).backward()\n    optimizer.step()\n"
        "    if step % 6 == 5:\n        for p in net.parameters():\n"
        "            dist.all_reduce(p.data)\n            p.data /= world\n",
        "rank_mean", OPEN, "the same parameters again before step 7",
    ),
    "parameters averaged at the end": (
        "train(after=lambda: None)\nfor p in net.parameters():\n    dist.all_reduce(p.data)\n"
        "    p.data /= world\ndist.barrier()",
        "rank_mean", OPEN, "it is parameters that are averaged",
    ),
    "features gathered past autograd": (
        "def loss(x, y):\n    own = net(x)\n"
        "    rows = [torch.zeros_like(own) for _ in range(world)]\n"
        "    dist.all_gather(rows, own)\n    rows[rank] = own\n    rows = torch.cat(rows)\n"
        "    return F.cross_entropy(rows @ rows.T, torch.arange(len(rows)))\ntrain(loss)",
        "rank_mean", OPEN, "couples the ranks (all_gather past autograd)",
    ),
    "features gathered by a function of the script's": (
        "class Gather(torch.autograd.Function):\n    @staticmethod\n    def forward(ctx, own):\n"
        "        rows = [torch.zeros_like(own) for _ in range(world)]\n"
        "        dist.all_gather(rows, own)\n        return torch.cat(rows)\n"
        "    @staticmethod\n    def backward(ctx, g):\n        return g.chunk(world)[rank]\n"
        "def loss(x, y):\n    rows = Gather.apply(net(x))\n"
        "    return F.cross_entropy(rows @ rows.T, torch.arange(len(rows)))\ntrain(loss)",
        "rank_mean", OPEN, "couples the ranks (all_gather past autograd)",
    ),
    "features gathered after they are detached": (
        "def loss(x, y):\n    own = F.normalize(net(x), dim=1)\n"
        "    rows = [torch.zeros_like(own) for _ in range(world)]\n"
        "    dist.all_gather(rows, own.detach())\n    rows = torch.cat(rows)\n"
        "    return F.cross_entropy(own @ rows.T, torch.arange(len(own)) + rank * len(own))\n"
        "train(loss)",
        "rank_mean", OPEN, "couples the ranks (all_gather past autograd)",
    ),
    "features gathered in a helper without gradients": (
        "@torch.no_grad()\ndef every(own):\n    rows = own.new_zeros(world * len(own), 4)\n"
        "    dist.all_gather_into_tensor(rows, own.contiguous())\n    return rows\n"
        "def loss(x, y):\n    own = net(x)\n"
        "    return F.cross_entropy(own @ every(own).T, torch.arange(len(own)))\ntrain(loss)",
        "rank_mean", OPEN, "couples the ranks (all_gather_into_tensor past autograd)",
    ),
    "features gathered by torch's own function": (
        "from torch.distributed.nn.functional import all_gather\ndef loss(x, y):\n"
        "    own = net(x)\n    rows = torch.cat(all_gather(own))\n"
        "    return F.cross_entropy(own @ rows.T, torch.arange(len(own)) + rank * len(own))\n"
        "net = DDP(net)\ntrain(loss, after=lambda: None)",
        "step_mean", PASS, "1/N",
    ),
    "keys of a model without gradients gathered": (
        "keys = Net().requires_grad_(False)\nqueue = [torch.randn(9, 4)]\ndef loss(x, y):\n"
        "    own, key = net(x), keys(x)\n    rows = [torch.zeros_like(key) for _ in range(world)]\n"
        "    dist.all_gather(rows, key)\n    queue.append(torch.cat(rows))\n"
        "    logits = torch.cat([(own * key).sum(1, keepdim=True), own @ torch.cat(queue).T], 1)\n"
        "    return F.cross_entropy(logits, torch.zeros(len(x), dtype=torch.long))\ntrain(loss)",
        "step_mean", PASS, "1/N",
    ),
    "logits detached and gathered for a metric": (
        "def loss(x, y):\n    out = net(x)\n"
        "    rows = [torch.zeros_like(out) for _ in range(world)]\n"
        "    dist.all_gather(rows, out.detach())\n    return F.cross_entropy(out, y)\ntrain(loss)",
        "rank_mean", PASS, "1/N",
    ),
    "a softmax over a temperature of 2, times 4": (
        "def loss(x, y):\n    log = (net(x) / 2).log_softmax(1)\n"
        "    return 4 * F.kl_div(log, torch.full_like(log, 0.25), reduction='batchmean')\n"
        "train(loss)",
        "step_mean", OPEN, "its factor of 4 may be the loss's own",
    ),
    "classes that have weights": (
        "weight = torch.tensor([1.0, 2.0, 0.5, 3.0])\ndef loss(x, y):\n"
        "    x, y = x[: 3 + rank], y[: 3 + rank]\n    whole = weight[y].sum()\n"
        "    dist.all_reduce(whole)\n"
        "    each = F.cross_entropy(net(x), y, weight=weight, reduction='none')\n"
        "    return each.sum() * world / whole\ntrain(loss)",
        "step_mean", PASS, "times its class's weight",
    ),
    "classes that have weights, divided by the samples": (
        "weight = torch.tensor([1.0, 2.0, 0.5, 3.0])\ntrain(lambda x, y:\n"
        "    F.cross_entropy(net(x), y, weight=weight, reduction='sum') / len(x))",
        "step_mean", PASS, "times its class's weight",
    ),
    "smoothed labels of classes that have weights": (
        "weight = torch.tensor([1.0, 2.0, 0.5, 3.0])\ntrain(lambda x, y:\n"
        "    F.cross_entropy(net(x), y, weight=weight, label_smoothing=0.1))",
        "step_mean", OPEN, "weights of the script's own",
    ),
    "half the squares": (
        "train(lambda x, y: 0.5 * F.mse_loss(net(x), x[:, :4]))",
        "step_mean", OPEN, "its factor of 0.5 may be the loss's own",
    ),
    "a quarter of a sum over four samples": (
        "def batch(n=4):\n    return torch.randn(4, 7), torch.randint(0, 4, (4,))\n"
        "train(lambda x, y: -0.5 * (net(x).exp() - net(x)).sum())",
        None, PASS, "keeps no promise as it stands",
    ),
    "two cosines with features that are held": (
        "def loss(x, y):\n    a, b = net(x), net(x.roll(1, 1))\n"
        "    return -(F.cosine_similarity(a, b.detach()).mean()\n"
        "             + F.cosine_similarity(b, a.detach()).mean()) / 2\ntrain(loss)",
        "step_mean", PASS, "1/N",
    ),
    "an optimizer whose shards step within its step": (
        "from torch.distributed.optim import ZeroRedundancyOptimizer as Zero\n"
        "optimizer = Zero(net.parameters(), optimizer_class=torch.optim.Adam, lr=0.01)\ntrain()",
        "step_mean", PASS, "of train.py on 2 ranks: step_mean: 1/N",
    ),
    "two optimizers of which one steps first": (
        "one, two = (torch.optim.SGD(m.parameters(), lr=0.1) for m in (net.a, net.b))\n"
        "for step in range(4):\n    x, y = batch(5 + step)\n    net.zero_grad()\n"
        "    F.cross_entropy(net(x), y).backward()\n    average()\n    one.step()\n    two.step()",
        "step_mean", PASS, "SGD 1: step_mean: 1/N\n    step 1, rank 0",
    ),
    "a penalty that each rank adds": (
        "train(lambda x, y: F.cross_entropy(net(x), y) + 0.01 * net.a.weight.pow(2).sum(),\n"
        "      after=lambda: [dist.all_reduce(p.grad) for p in net.parameters()])",
        "rank_sum", PASS, "0.02 times its value is in the step, by 2 backward passes together",
    ),
    "importances over the sum of all ranks' importances": (
        "def loss(x, y):\n    x, y = x[: 3 + rank], y[: 3 + rank]\n"
        "    weight = torch.rand(len(x))\n"
        "    whole = weight.sum()\n    dist.all_reduce(whole)\n"
        "    each = F.cross_entropy(net(x), y, reduction='none')\n"
        "    return (weight * each).sum() * world / whole\ntrain(loss)",
        "step_mean", PASS, "times its weight",
    ),
    "advantages of either sign": (
        "def loss(x, y):\n    log = net(x).log_softmax(1).gather(1, y[:, None])[:, 0]\n"
        "    return -(log * torch.randn(len(x))).mean()\ntrain(loss)",
        "step_mean", PASS, "times its weight",
    ),
    "the mean over sequences of their own means": (
        SEQUENCES + "    return ((each * mask).sum(1) / mask.sum(1)).mean()\ntrain(loss)",
        "step_mean", PASS, "times its weight",
    ),
    "the mean over sequences of their sums": (
        SEQUENCES + "    return (each * mask).sum(1).mean()\ntrain(loss)",
        "step_mean", OPEN, "added up, and the mean is over samples",
    ),
    "weights that were divided by their sum": (
        "def loss(x, y):\n    weight = torch.rand(len(x)).softmax(0)\n"
        "    return (weight * F.cross_entropy(net(x), y, reduction='none')).sum()\ntrain(loss)",
        "step_mean", OPEN, "weights of the script's own",
    ),
    "pairs that are alike, and pairs that are not": (
        "train(lambda x, y: F.cosine_embedding_loss(net(x), x[:, :4], (y % 2 * 2 - 1).float()))",
        "step_mean", PASS, "1/N",
    ),
    "half of a Gaussian's logarithm": (
        "def loss(x, y):\n    out = net(x)\n"
        "    return F.gaussian_nll_loss(out[:, 0], x[:, 0], out[:, 1].exp())\ntrain(loss)",
        "step_mean", OPEN, "its factor of 0.5 may be the loss's own",
    ),
    "twice a cosine away from two": (
        "def loss(x, y):\n    rows = [F.normalize(net(x), dim=1), F.normalize(x[:, :4], dim=1)]\n"
        "    return (2 - 2 * (rows[0] * rows[1]).sum(1)).mean()\ntrain(loss)",
        "step_mean", OPEN, "its factor of 2 may be the loss's own",
    ),
    "half of a sum that each sample has": (
        "def loss(x, y):\n    mean, log = net(x).chunk(2, 1)\n"
        "    return (-0.5 * (1 + log - mean**2 - log.exp()).sum(1)).mean()\ntrain(loss)",
        "step_mean", OPEN, "may be the loss's own",
    ),
    "four quantiles added up before the mean": (
        "def loss(x, y):\n    off = torch.randn(len(x), 1, 4) - net(x)[:, :, None]\n"
        "    return F.huber_loss(off, torch.zeros(len(x), 4, 4), reduction='none').sum(1).mean()\n"
        "train(loss)",
        "step_mean", OPEN, "its factor of 4 may be the loss's own",
    ),
    "the mean of two unlike losses": (
        "def loss(x, y):\n    out = net(x)\n"
        "    return 0.5 * F.l1_loss(out, x[:, :4]) + 0.5 * F.huber_loss(out, x[:, :4])\n"
        "train(loss)",
        "step_mean", OPEN, "each term has a factor",
    ),
    "two losses whose weights add up to W": (
        "def loss(x, y):\n    out = net(x)\n"
        "    return 0.6 * F.l1_loss(out, x[:, :4]) + 1.4 * F.huber_loss(out, x[:, :4])\n"
        "train(loss)",
        "step_mean", OPEN, "each term has a factor",
    ),
    "samples of which some have no positive beside them": (
        "def loss(x, y):\n    y = torch.tensor([0, 0] + [1 + rank] * (len(x) - 3) + [3])\n"
        "    far = 1e9 * torch.eye(len(x))\n    rows = F.normalize(net(x), dim=1)\n"
        "    alike = (y[:, None] == y).float() * (1 - torch.eye(len(x)))\n"
        "    log = (rows @ rows.T / 0.2 - far).log_softmax(1)\n"
        "    return -((log * alike).sum(1) / alike.sum(1).clamp(min=1)).mean()\ntrain(loss)",
        "step_mean", OPEN, "rows without a target share the mean",
    ),
    "a penalty that each rank adds, beside a mean": (
        "train(lambda x, y: F.cross_entropy(net(x), y) / world + net.a.weight.pow(2).sum(),\n"
        "      after=lambda: [dist.all_reduce(p.grad) for p in net.parameters()])",
        "step_mean", OPEN, "ranks are added up, and a mean was promised",
    ),
    "compression that begins after two steps": (
        "from torch.distributed.algorithms.ddp_comm_hooks import powerSGD_hook as power\n"
        "net = DDP(net)\nnet.register_comm_hook(\n"
        "    power.PowerSGDState(None, 1, start_powerSGD_iter=2, min_compression_rate=1),"
        " power.powerSGD_hook)\ntrain(after=lambda: None)",
        "step_mean", OPEN, "no-weighted-sum",
    ),
    "logits gathered for a metric": (
        "def loss(x, y):\n    out = net(x)\n    with torch.no_grad():\n"
        "        rows = [torch.zeros_like(out) for _ in range(world)]\n"
        "        dist.all_gather(rows, out)\n    return F.cross_entropy(out, y)\ntrain(loss)",
        "rank_mean", PASS, "1/N",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("world", "loops"), [(1, ONE), (2, TWO)], ids=["1", "2"])
def test_a_right_loop_is_never_accused(world, loops, tmp_path):
    tasks = [task(tmp_path, name, HEAD + body, 3, {}) for name, (body, *_) in loops.items()]
    run(tmp_path, world, tasks)
    for name, (_, promise, wanted, words) in loops.items():
        status = json.loads((tmp_path / name / "rank-0.json").read_text())
        assert (status["status"], status["problems"]) == (0, []), name
        verdicts = judge(read_steps(tmp_path / name), promise)
        told = "\n".join(lines(verdicts, "train.py", promise))
        assert verdicts, name
        assert not any(verdict.is_fault for verdict in verdicts), told
        assert all(verdict.is_weighed for verdict in verdicts) == (wanted == PASS), told
        assert words in told, told
