"""TRL's SFTTrainer on sequences that are tokenized already.

https://huggingface.co/docs/trl/sft_trainer
"""

import tempfile

import torch
from datasets import Dataset
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerFast
from transformers.loss.loss_utils import ForCausalLMLoss
from transformers.modeling_outputs import CausalLMOutput
from trl import SFTConfig, SFTTrainer

import conformance


class Config(PretrainedConfig):
    model_type = "probe"


class ProbeForCausalLM(PreTrainedModel):
    config_class = Config

    def __init__(self, probe):
        super().__init__(Config(vocab_size=2))
        self.probe = probe

    def forward(self, input_ids, attention_mask=None, labels=None, **kwargs):
        logits = self.probe(input_ids)
        return CausalLMOutput(loss=ForCausalLMLoss(logits, labels, 2, **kwargs), logits=logits)


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
    rows = Dataset.from_list([{k: v.tolist() for k, v in row.items()} for row in dataset])
    SFTTrainer(
        ProbeForCausalLM(model),
        arguments,
        train_dataset=rows,
        processing_class=PreTrainedTokenizerFast(
            tokenizer_object=Tokenizer(WordLevel({"a": 0, "b": 1}, "a")),
            pad_token="a",
            eos_token="b",
        ),
        optimizers=(torch.optim.SGD(model.parameters(), lr=1.0), None),
        data_collator=lambda samples: {
            key: torch.tensor([sample[key] for sample in samples]) for key in samples[0]
        },
    ).train()
