"""accelerate and Lightning: the last window of an epoch is divided by K, however short it is.

Three batches with K = 2: the third is a window by itself, and counts half of what it should.
Prints by how much one weight moves in each step; both should be 1.
"""

from itertools import pairwise

import lightning
import torch
from accelerate import Accelerator
from torch import nn
from torch.optim.optimizer import register_optimizer_step_post_hook
from torch.utils.data import DataLoader

ONES = [torch.ones(1)] * 3


def moves(weight):
    """Return the list of moves, which grows with each step of an optimizer."""
    seen = [0.0]
    register_optimizer_step_post_hook(
        lambda *_: seen.append(-weight.item()) if weight.item() != -seen[-1] else None
    )
    return seen


def show(name, seen):
    print(name, [round(b - a, 4) for a, b in pairwise(seen)])


accelerator = Accelerator(cpu=True, gradient_accumulation_steps=2)
model = nn.Linear(1, 1, bias=False)
nn.init.zeros_(model.weight)
seen = moves(model.weight)
model, optimizer, loader = accelerator.prepare(
    model, torch.optim.SGD(model.parameters(), lr=1.0), DataLoader(ONES)
)
for x in loader:
    with accelerator.accumulate(model):
        accelerator.backward(model(x).mean())
        optimizer.step()
        optimizer.zero_grad()
show("accelerate", seen)


class Module(lightning.LightningModule):
    def __init__(self):
        super().__init__()
        self.model = nn.Linear(1, 1, bias=False)
        nn.init.zeros_(self.model.weight)

    def training_step(self, batch, index):
        return self.model(batch).mean()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=1.0)


module = Module()
seen = moves(module.model.weight)
lightning.Trainer(
    accelerator="cpu", devices=1, max_epochs=1, accumulate_grad_batches=2, logger=False,
    enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
).fit(module, DataLoader(ONES))  # fmt: skip
show("Lightning", seen)
