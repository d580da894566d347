"""TRL's SFTTrainer on sequences that are tokenized already.

https://huggingface.co/docs/trl/sft_trainer
"""

import tempfile

import torch
from datasets import Dataset
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from torch import nn
from transformers import (
    GenerationConfig,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)
from transformers.loss.loss_utils import ForCausalLMLoss
from transformers.modeling_outputs import BaseModelOutput, CausalLMOutput
from trl import SFTConfig, SFTTrainer

import conformance


class Config(PretrainedConfig):
    model_type = "probe"


class Backbone(nn.Module):
    def __init__(self, probe):
        super().__init__()
        self.probe = probe

    def forward(self, input_ids, attention_mask=None, **kwargs):
        return BaseModelOutput(last_hidden_state=self.probe(input_ids))


class ProbeForCausalLM(PreTrainedModel):
    """Has the parts that TRL computes the loss of: a backbone, and a head that changes nothing."""

    config_class, base_model_prefix = Config, "model"

    def __init__(self, probe):
        super().__init__(Config(vocab_size=2))
        self.generation_config = GenerationConfig()
        self.model = Backbone(probe)
        self.lm_head = nn.Linear(2, 2, bias=False).requires_grad_(False)
        self.lm_head.weight.copy_(torch.eye(2))

    def get_output_embeddings(self):
        return self.lm_head

    def forward(self, input_ids, attention_mask=None, labels=None, **kwargs):
        logits = self.lm_head(self.model(input_ids).last_hidden_state)
        loss = None if labels is None else ForCausalLMLoss(logits, labels, 2, **kwargs)
        return CausalLMOutput(loss=loss, logits=logits)


@conformance.implementation("gradient_mean", framework="torch", runs="trainer", promise="1/N")
def trl_sft(model, dataset, batch_size, accumulate):
    arguments = SFTConfig(
        tempfile.mkdtemp(),
        per_device_train_batch_size=batch_size,
        gradient_accumulation_steps=accumulate,
        num_train_epochs=1,
        learning_rate=1.0,
        lr_scheduler_type="constant",
        max_grad_norm=0.0,
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        dataset_kwargs={"skip_prepare_dataset": True},
    )
    lengths = [int(row["attention_mask"].sum()) for row in dataset]
    rows = Dataset.from_list(
        [
            {name: row[name][:length].tolist() for name in ("input_ids", "labels")}
            for row, length in zip(dataset, lengths, strict=True)
        ]
    )
    words = {"pad_token": "a", "eos_token": "b"}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(WordLevel({"a": 0, "b": 1}, "a")), **words
    )
    SFTTrainer(
        ProbeForCausalLM(model),
        arguments,
        train_dataset=rows,
        processing_class=tokenizer,
        optimizers=(torch.optim.SGD(model.parameters(), lr=1.0), None),
    ).train()
