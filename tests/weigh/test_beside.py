"""What stands beside one another: optimizers under one clip, terms of one loss, parameters."""

import sys
from pathlib import Path

import pytest

from conformance.weighing.diagnosis import judge
from conformance.weighing.launch import read_steps

sys.path.append(str(Path(__file__).parent))
from ranks import run, task
from test_loops import HEAD

TWO_OPTIMIZERS = (
    "one, two = (torch.optim.SGD(m.parameters(), lr=0.1) for m in (net.a, net.b))\n"
    "scaler = torch.amp.GradScaler('cpu', init_scale=1024.0)\n"
    "for step in range(4):\n    x, y = batch()\n    net.zero_grad()\n"
    "    scaler.scale(F.cross_entropy(net(x), y)).backward()\n    average()\n    {}\n"
    "    nn.utils.clip_grad_norm_(net.parameters(), 0.01)\n"
    "    scaler.step(one)\n    scaler.step(two)\n    scaler.update()"
)
TWO_TERMS = (
    "def loss(x, y):\n    out = net(x)\n    one, two = F.cross_entropy(out, y), out.pow(2).mean()\n"
    "    return {}\ndef batch(n=5):\n    return torch.randn(5, 7), torch.randint(0, 4, (5,))\n"
    "train(loss)"
)
REAL_AND_MADE = (
    "score = DDP(nn.Sequential(nn.Linear(7, 5), nn.Tanh(), nn.Linear(5, 1)))\n"
    "optimizer = torch.optim.SGD(score.parameters(), lr=0.1)\n"
    "bce, ones = F.binary_cross_entropy_with_logits, torch.ones(5, 1)\n"
    "for step in range(4):\n    optimizer.zero_grad()\n    x, made = torch.randn(2, 5, 7)\n"
    "    ((bce(score(x), ones) + bce(score(made), 0 * ones)) / 2{}).backward()\n"
    "    optimizer.step()"
)
APART = (
    "def reduce():\n    average()\n    for p in net.b.parameters():\n        p.grad *= {}\n"
    "def batch(n=5):\n    return torch.randn(5, 7), torch.randint(0, 4, (5,))\n"
    "train(after=reduce)"
)
MASKED = (
    "def loss(x, y):\n    mask = (torch.arange(len(x)) < 3 + rank).float()\n"
    "    each = F.cross_entropy(net(x), y, reduction='none')\n"
    "    all_ = mask.sum()\n    dist.all_reduce(all_)\n    return {}\ntrain(loss)"
)
NAN = "each.masked_fill(mask == 0, math.nan).{}"
PASS, OPEN = "passes", "is not judged"
LOOPS = {
    "both unscaled": (TWO_OPTIMIZERS.format("scaler.unscale_(one), scaler.unscale_(two)"), PASS),
    "one unscaled": (TWO_OPTIMIZERS.format("scaler.unscale_(one)"), "clipped-by-another-norm"),
    "none unscaled": (TWO_OPTIMIZERS.format("pass"), "clipped-by-another-norm"),
    "a term of half the weight": (TWO_TERMS.format("one + 0.4 * two"), PASS),
    "W beside one over W": (TWO_TERMS.format("one * world + two"), OPEN),
    "real and made": (REAL_AND_MADE.format(""), PASS),
    "real and made times W": (REAL_AND_MADE.format(" * world"), OPEN),
    "a head of W": (APART.format("world"), "not-divided"),
    "a head of half": (APART.format("0.5"), PASS),
    "own sums of what is no NaN": (MASKED.format(NAN.format("nanmean()")), "local-count"),
    "sums of what is no NaN": (MASKED.format(NAN.format("nansum() * world / all_")), PASS),
    "a product with a mask": (MASKED.format("(each[None] @ mask[:, None]) * world / all_"), PASS),
    "an own product with a mask": (MASKED.format("torch.linalg.vecdot(each, mask) / mask.sum()"),
                                   "local-count"),
    "the worst item": (MASKED.format("each.max()"), OPEN),
}  # fmt: skip


def found(verdicts):
    names = [name for verdict in verdicts for name in verdict.names]
    if any(verdict.is_fault for verdict in verdicts):
        return names
    return PASS if verdicts and all(v.is_weighed for v in verdicts) else OPEN


def test_each_has_its_name_or_is_left_open_on_three_ranks(tmp_path):
    run(
        tmp_path, 3, [task(tmp_path, name, HEAD + body, 2, {}) for name, (body, _) in LOOPS.items()]
    )
    told = {name: found(judge(read_steps(tmp_path / name), "step_mean")) for name in LOOPS}
    wrong = {n: told[n] for n, (_, wanted) in LOOPS.items() if wanted not in (told[n], *told[n])}
    assert not wrong


@pytest.mark.parametrize("factor", ["world", "0.5"])
def test_a_factor_of_two_beside_two_ranks_is_left_open(factor, tmp_path):
    body = APART.format(factor)
    run(tmp_path, 2, [task(tmp_path, "apart", HEAD + body, 2, {})])
    assert found(judge(read_steps(tmp_path / "apart"), "step_mean")) == OPEN
