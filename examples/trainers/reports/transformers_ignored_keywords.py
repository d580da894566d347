"""transformers: a model that takes `**kwargs` and ignores them trains with K times the gradient.

The Trainer takes `**kwargs` for a promise to divide by the count that it hands over, and so
divides neither by K nor by W itself. Prints by how much one weight moves, with and without
`**kwargs`, where K is 4.
"""

import tempfile

import torch
from torch import nn
from transformers import Trainer, TrainingArguments


class Plain(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))

    def forward(self, input_ids, labels):
        return {"loss": (self.weight * input_ids.float().mean()).mean()}


class WithKeywords(Plain):
    def forward(self, input_ids, labels, **kwargs):
        return super().forward(input_ids, labels)


for make in (Plain, WithKeywords):
    model = make()
    arguments = TrainingArguments(
        tempfile.mkdtemp(), per_device_train_batch_size=1, gradient_accumulation_steps=4,
        max_steps=1, lr_scheduler_type="constant", max_grad_norm=0, use_cpu=True, report_to=[],
        save_strategy="no", disable_tqdm=True,
    )  # fmt: skip
    ones = torch.ones(1, dtype=torch.long)
    rows = [{"input_ids": ones, "labels": ones}] * 4
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    Trainer(model, arguments, train_dataset=rows, optimizers=(optimizer, None)).train()
    print(f"{make.__name__}: {-model.weight.item():.4f}")
