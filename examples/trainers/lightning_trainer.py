"""Lightning: its Trainer with accumulate_grad_batches, and Fabric with a loop of one's own.

The Trainer steps after the last window of an epoch, however short, and divides it by the K of a
full one: with one micro-batch of two its items count half (`reports/short_window.py`). Fabric
leaves that to the loop, and this one, which divides by K as its guide does, does the same.

https://lightning.ai/docs/pytorch/stable/advanced/training_tricks.html
https://lightning.ai/docs/fabric/stable/advanced/gradient_accumulation.html
"""

import lightning
import torch
from lightning.pytorch.plugins.environments import TorchElasticEnvironment
from torch.utils.data import DataLoader

import conformance


class Module(lightning.LightningModule):
    def __init__(self, probe):
        super().__init__()
        self.probe = probe

    def training_step(self, batch, index):
        return self.probe(batch["input_ids"], batch["labels"])["loss"]

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=1.0)


@conformance.implementation("gradient_mean", framework="torch", runs="trainer", promise="1/(W*K*n)")
def lightning_trainer(model, dataset, batch_size, accumulate):
    trainer = lightning.Trainer(
        accelerator="cpu",
        strategy="ddp",
        devices=torch.distributed.get_world_size(),
        plugins=[TorchElasticEnvironment()],
        max_epochs=1,
        accumulate_grad_batches=accumulate,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(Module(model), DataLoader(dataset, batch_size))


@conformance.implementation("gradient_mean", framework="torch", runs="trainer", promise="1/(W*K*n)")
def lightning_fabric(model, dataset, batch_size, accumulate):
    fabric = lightning.Fabric(
        accelerator="cpu",
        strategy="ddp",
        devices=torch.distributed.get_world_size(),
        plugins=[TorchElasticEnvironment()],
    )
    fabric.launch()
    model, optimizer = fabric.setup(model, torch.optim.SGD(model.parameters(), lr=1.0))
    loader = fabric.setup_dataloaders(DataLoader(dataset, batch_size))
    for index, batch in enumerate(loader):
        is_accumulating = (index + 1) % accumulate != 0 and index + 1 < len(loader)
        with fabric.no_backward_sync(model, enabled=is_accumulating):
            loss = model(batch["input_ids"], batch["labels"])["loss"]
            fabric.backward(loss / accumulate)
        if not is_accumulating:
            optimizer.step()
            optimizer.zero_grad()
