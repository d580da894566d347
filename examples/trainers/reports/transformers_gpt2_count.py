"""transformers: the Trainer counts GPT-2's labels before the model shifts them.

It takes one label too many for each sequence, where a model's class is not called …ForCausalLM:
the loss, and its gradient, are too small by N / (N + sequences). Prints the loss of one batch as
the Trainer and as the model have it; they should be equal.
"""

import tempfile

import torch
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainingArguments

model = GPT2LMHeadModel(
    GPT2Config(
        vocab_size=8, n_positions=8, n_embd=8, n_layer=1, n_head=1,
        resid_pdrop=0, embd_pdrop=0, attn_pdrop=0,
    )
)  # fmt: skip
ids = torch.tensor([[1, 2, 3], [4, 5, 6]])  # two predicted tokens each: N = 4, labels = 6
own = model(ids, labels=ids).loss.item()
arguments = TrainingArguments(
    tempfile.mkdtemp(), per_device_train_batch_size=2, max_steps=1, learning_rate=0.0,
    use_cpu=True, report_to=[], save_strategy="no", disable_tqdm=True,
)  # fmt: skip
rows = [{"input_ids": row, "labels": row} for row in ids]
trainers = Trainer(model, arguments, train_dataset=rows).train().training_loss
print(f"model {own:.4f}, Trainer {trainers:.4f}, Trainer / model {trainers / own:.4f}")
