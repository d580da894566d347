"""Random loops, weighed: `torchrun --nproc-per-node W random_loops.py FOLDER FIRST LAST`.

Each seed draws K, counts, masks, a model, a scale, a loss and a formula of a table; the loop
gives every item that weight, with an all-reduce of its own. Rank 0 writes what was drawn to FOLDER.
"""

import json
import random as python_random
import sys
from pathlib import Path

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn

from conformance.weighing.torch_hooks import Enough, Recorder
from conformance.weighing.torch_step import Weigher

FORMULAS = ("1/N", "1/(W·n_r)", "1/(K·n_k)", "1/(W·K·n_rk)", "1/n_rk", "1/n_k", "1/n_r", "1",
            "W/N", "K/N", "1/(W·N)", "1/W", "1/(W·n_rk)", "1/(K·N)")  # fmt: skip


def divisor(formula, counts, rank, k):
    """What one item's loss is divided by; counts[r][k] are the items of all ranks."""
    world, many = len(counts), len(counts[0])
    values = {
        "W": world, "K": many, "n_rk": counts[rank][k], "n_r": sum(counts[rank]),
        "n_k": sum(own[k] for own in counts), "N": sum(map(sum, counts)),
    }  # fmt: skip
    above, _, below = formula.partition("/")
    result = 1.0
    for symbol in below.strip("()").split("·"):
        result *= values.get(symbol, 1)
    return result / values.get(above, 1)


def model_of(draw):
    width, depth = draw.choice([8, 24, 48]), draw.choice([1, 2, 3])
    layers = [nn.Embedding(17, width)]
    for _ in range(depth):
        layers += [nn.Linear(width, width), draw.choice([nn.Tanh, nn.ReLU, nn.GELU])()]
        layers += [nn.LayerNorm(width)] if draw.random() < 0.4 else []
    return nn.Sequential(*layers, nn.Linear(width, 11))


def one(seed, folder):
    rank, world = dist.get_rank(), dist.get_world_size()
    draw, own = python_random.Random(seed), torch.Generator().manual_seed(100 * seed + rank)
    torch.manual_seed(seed)
    model = model_of(draw)
    optimizer = draw.choice([torch.optim.SGD, torch.optim.AdamW])(model.parameters(), lr=0.01)
    many, formula = draw.choice([1, 2, 3]), draw.choice(FORMULAS)
    scale = draw.choice([1.0, 1.0, 1024.0])
    shapes = [
        [[(draw.randint(1, 4), draw.randint(3, 9)) for _ in range(many)] for _ in range(world)]
        for _ in range(2)
    ]
    steps = []

    def weigh(window):
        steps.append(WEIGHER[0].weigh(window, recorder.problems))

    recorder = Recorder(weigh, 2)
    loss_of = draw.choice([token_loss, square_loss])
    drawn = []
    try:
        with recorder.watching():
            for step in range(2):
                batches = [
                    (torch.randint(0, 17, shape, generator=own),
                     torch.randint(0, 11, shape, generator=own),
                     (torch.rand(shape, generator=own) < 0.8).float())
                    for shape in shapes[step][rank]
                ]  # fmt: skip
                for *_, mask in batches:
                    mask[0, 0] = 1
                counts = torch.zeros(world, many, dtype=torch.int64)
                counts[rank] = torch.tensor([int(mask.sum()) for *_, mask in batches])
                dist.all_reduce(counts)
                counts = counts.tolist()
                drawn.append(counts)
                optimizer.zero_grad()
                for k, (ids, labels, mask) in enumerate(batches):
                    total = (loss_of(model(ids), labels) * mask).sum()
                    (total / divisor(formula, counts, rank, k) * scale).backward()
                for parameter in model.parameters():
                    dist.all_reduce(parameter.grad)
                    parameter.grad /= scale
                optimizer.step()
    except Enough:
        pass
    if rank == 0:
        words = {"seed": seed, "formula": formula, "counts": drawn,
                 "problems": recorder.problems, "steps": [s.as_json() for s in steps]}  # fmt: skip
        (folder / f"{seed}.json").write_text(json.dumps(words))


def token_loss(logits, labels):
    return F.cross_entropy(logits.transpose(1, 2), labels, reduction="none")


def square_loss(logits, labels):
    return (logits[..., 0] - labels) ** 2


WEIGHER = []


def main():
    dist.init_process_group("gloo")
    WEIGHER.append(Weigher())
    folder, first, last = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    for seed in range(first, last):
        one(seed, folder)
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
