"""transformers: two steps of GPT-2, of random weights, by the Trainer; to be weighed as it stands.

conformance weigh --ranks 2 --promise step_mean transformers_gpt2_training.py
"""

import tempfile

import torch
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainingArguments

torch.manual_seed(0)
model = GPT2LMHeadModel(
    GPT2Config(
        vocab_size=60, n_positions=16, n_embd=16, n_layer=1, n_head=2,
        resid_pdrop=0, embd_pdrop=0, attn_pdrop=0,
    )
)  # fmt: skip
rows = []
for length in [3, 7, 2, 9, 5, 4, 8, 6, 3, 5, 7, 2, 9, 4, 6, 8]:
    ids, padding = torch.randint(0, 60, (length,)), torch.zeros(10 - length, dtype=torch.long)
    rows.append({
        "input_ids": torch.cat([ids, padding]),
        "attention_mask": torch.cat([torch.ones_like(ids), padding]),
        "labels": torch.cat([ids, padding - 100]),
    })  # fmt: skip
arguments = TrainingArguments(
    tempfile.mkdtemp(), per_device_train_batch_size=2, gradient_accumulation_steps=2, max_steps=2,
    max_grad_norm=0.0, use_cpu=True, report_to=[], save_strategy="no",
)  # fmt: skip
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
Trainer(model, arguments, train_dataset=rows, optimizers=(optimizer, None)).train()
