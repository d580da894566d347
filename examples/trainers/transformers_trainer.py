"""transformers' Trainer: as it comes, without its averaging, and with models that it misjudges.

One mean over all tokens, also in the last window, if the model's class is called …ForCausalLM and
hands the count to its loss. GPT-2's class has another name: there labels are counted before the
model shifts them, one too many for each sequence (`reports/transformers_gpt2_count.py`; by
`conformance weigh`, `reports/transformers_gpt2_training.py`). A model that takes `**kwargs` and
ignores them trains with W·K times the gradient (`reports/transformers_ignored_keywords.py`); one
that names `num_items_in_batch` and takes no `**kwargs` is never handed it, and gets the mean of
means. Label smoothing divides by the same counts.

https://huggingface.co/docs/transformers/main_classes/trainer
"""

import tempfile

import torch
from transformers import PretrainedConfig, PreTrainedModel, Trainer, TrainingArguments
from transformers.loss.loss_utils import ForCausalLMLoss

import conformance


class LlamaForCausalLM(PreTrainedModel):
    """Hands the Trainer's count to its loss; its name says that this shifts labels."""

    config_class = PretrainedConfig

    def __init__(self, probe):
        super().__init__(PretrainedConfig())
        self.probe = probe

    def forward(self, input_ids, attention_mask=None, labels=None, **kwargs):
        logits = self.probe(input_ids)
        if labels is None:
            return {"logits": logits}
        return {"loss": ForCausalLMLoss(logits, labels, 2, **kwargs), "logits": logits}


class GPT2LMHeadModel(LlamaForCausalLM):
    """Does the same; its name, that of the library's own GPT-2, does not end in ForCausalLM."""


class IgnoresKeywordsForCausalLM(LlamaForCausalLM):
    """Takes **kwargs and ignores them, as many models from elsewhere do."""

    def forward(self, input_ids, attention_mask=None, labels=None, **kwargs):
        return super().forward(input_ids, attention_mask, labels)


class NamesTheCountForCausalLM(LlamaForCausalLM):
    """Takes the count by its name, and no other keywords."""

    def forward(self, input_ids, attention_mask=None, labels=None, num_items_in_batch=None):
        return super().forward(
            input_ids, attention_mask, labels, num_items_in_batch=num_items_in_batch
        )


def run(model, dataset, batch_size, accumulate, **options):
    arguments = TrainingArguments(
        tempfile.mkdtemp(),
        per_device_train_batch_size=batch_size,
        gradient_accumulation_steps=accumulate,
        num_train_epochs=1,
        learning_rate=1.0,
        lr_scheduler_type="constant",
        max_grad_norm=0.0,
        use_cpu=True,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        **options,
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    Trainer(model, arguments, train_dataset=dataset, optimizers=(optimizer, None)).train()


@conformance.implementation("gradient_mean", framework="torch", runs="trainer", promise="1/N")
def transformers_trainer(model, dataset, batch_size, accumulate):
    run(LlamaForCausalLM(model), dataset, batch_size, accumulate)


@conformance.implementation("gradient_mean", framework="torch", runs="trainer", promise="1/N")
def transformers_trainer_gpt2(model, dataset, batch_size, accumulate):
    run(GPT2LMHeadModel(model), dataset, batch_size, accumulate)


@conformance.implementation(
    "gradient_mean", framework="torch", runs="trainer", promise="1/(W*N_rank)"
)
def transformers_trainer_without_averaging(model, dataset, batch_size, accumulate):
    options = {"average_tokens_across_devices": False}
    run(LlamaForCausalLM(model), dataset, batch_size, accumulate, **options)


@conformance.implementation("gradient_mean", framework="torch", runs="trainer", promise="1/(W*K*n)")
def transformers_trainer_ignored_keywords(model, dataset, batch_size, accumulate):
    run(IgnoresKeywordsForCausalLM(model), dataset, batch_size, accumulate)


@conformance.implementation("gradient_mean", framework="torch", runs="trainer", promise="1/N")
def transformers_trainer_count_by_name(model, dataset, batch_size, accumulate):
    run(NamesTheCountForCausalLM(model), dataset, batch_size, accumulate)


@conformance.implementation("gradient_mean", framework="torch", runs="trainer", promise="7/(10*N)")
def transformers_trainer_label_smoothing(model, dataset, batch_size, accumulate):
    """Smooths 3/10 of a label away; of two classes 7/10 of the gradient are left."""
    run(LlamaForCausalLM(model), dataset, batch_size, accumulate, label_smoothing_factor=0.3)


@conformance.implementation("gradient_mean", framework="torch", runs="trainer", promise="7/(10*N)")
def transformers_trainer_label_smoothing_gpt2(model, dataset, batch_size, accumulate):
    run(GPT2LMHeadModel(model), dataset, batch_size, accumulate, label_smoothing_factor=0.3)
