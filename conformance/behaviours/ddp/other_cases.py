"""Cases on DistributedDataParallel's hooks, buffers and training, and on the sampler."""

from collections.abc import Iterator
from itertools import product
from typing import Any

from conformance.behaviours.case_parts import GRADIENTS, STARTS, BehaviourCase, ddp_case

_LATER = {2: (11.0, 13.0), 3: (11.0, 13.0, 17.0)}


def _hooks() -> Iterator[BehaviourCase]:
    for ranks in (2, 3):
        yield ddp_case(
            f"sum-hook-w{ranks}",
            "A hook is shown buckets that nobody has divided; one that only sums leaves the sum.",
            "D7",
            "ddp_hooks.summing",
            ranks,
            "torch_ddp_sum_hook",
            gradients=GRADIENTS[ranks],
        )
    for first, second in product((False, True), repeat=2):
        words = ("a-hook", "the-builtin")
        yield ddp_case(
            f"second-hook-{words[second]}-after-{words[first]}",
            "A second communication hook is refused when it is registered.",
            "D8",
            "ddp_hooks.second",
            2,
            "torch_ddp_allreduce_hook",
            first_builtin=first,
            second_builtin=second,
        )
    # 70000 and 1e-8 are on one rank alone; f16 holds the third row; 65504 is f16's greatest number.
    big, small, representable, greatest = (
        (7e4, 0.0, 0.0),
        (1e-8, 0.0, 0.0),
        (6.0, 12.0, 24.0),
        (65504.0,) * 3,
    )
    for ranks in (2, 3):
        yield ddp_case(
            f"fp16-hook-w{ranks}",
            "fp16_compress_hook casts before it divides: 70000 is infinite, 1e-8 is 0.",
            "D9",
            "ddp_hooks.fp16",
            ranks,
            gradients=tuple(
                zip(*(row[:ranks] for row in (big, small, representable, greatest)), strict=True)
            ),
        )
    for wrapped in (False, True):
        yield ddp_case(
            f"bf16-{'wrapper' if wrapped else 'hook'}-refused",
            "torch without NCCL and XCCL refuses a bf16 hook when it is registered.",
            "D10",
            "ddp_hooks.bf16_refused",
            2,
            wrapped=wrapped,
        )
    for ranks in (2, 3):
        yield ddp_case(
            f"bf16-hook-renamed-w{ranks}",
            "Under another name the bf16 hook averages, over gloo too.",
            "D10",
            "ddp_hooks.bf16_renamed",
            ranks,
            gradients=GRADIENTS[ranks],
        )


def _buffers() -> Iterator[BehaviourCase]:
    looks: dict[str, dict[str, str]] = {
        "train": {"mode": "train"},
        "eval": {"mode": "eval"},
        "after-no-sync": {"after": "no_sync"},
        "after-no-grad": {"after": "no_grad"},
        "forward-sync-off": {"option": "forward_sync_buffers"},
        "broadcast-off": {"option": "broadcast_buffers"},
    }
    for ranks, (word, arguments) in product((2, 3), looks.items()):
        yield ddp_case(
            f"buffers-{word}-w{ranks}",
            "A buffer when DDP is built, and as a forward finds it: rank 0's, or each rank's own.",
            "D21",
            "ddp_buffers.before_forward",
            ranks,
            starts=STARTS[ranks],
            later=_LATER[ranks],
            **arguments,
        )
    for how in ("training", "inside-ddp"):
        yield ddp_case(
            f"sync-batch-norm-{how}",
            "SyncBatchNorm on the CPU is refused, in training and at DDP's construction.",
            "D23",
            "ddp_buffers.sync_batch_norm",
            2,
            how=how,
        )
    yield ddp_case(
        "sync-batch-norm-eval",
        "SyncBatchNorm in eval mode works on the CPU.",
        "D23",
        "ddp_buffers.sync_batch_norm_eval",
        2,
        inputs=((5.0, 1.0), (-3.0, 7.0)),
        mean=1.0,
        variance=4.0,
    )


def _training() -> Iterator[BehaviourCase]:
    inputs = {2: ((2.0,), (4.0, 6.0, 10.0)), 3: ((6.0, 12.0, 30.0), (18.0,), (36.0, 24.0))}
    for ranks, by_initial in product((2, 3), (True, False)):
        yield ddp_case(
            f"join-by-{'initial' if by_initial else 'active'}-w{ranks}",
            "Under join(), ranks that ran out count as zero; who is counted in W is an option.",
            "D22",
            "ddp_training.join",
            ranks,
            "torch_ddp_join",
            inputs=inputs[ranks],
            by_initial=by_initial,
        )
    ways: dict[str, dict[str, Any]] = {
        "sgd": {},
        "momentum-kept": {"optimizer": "momentum"},
        "momentum-restarted": {"optimizer": "momentum", "restart": True},
    }
    for ranks, (word, arguments) in product((2, 4), ways.items()):
        yield ddp_case(
            f"models-averaged-{word}-w{ranks}",
            "Averaging models after steps, and averaging gradients before them: the same or not.",
            "D27",
            "ddp_training.models_or_gradients",
            ranks,
            gradients=GRADIENTS[ranks],
            steps=3,
            exact=True,
            **arguments,
        )
    others = {**ways, "adam": {"optimizer": "adam"}, "clipping": {"clip": 1.0}}
    for word, arguments in others.items():
        yield ddp_case(
            f"models-averaged-{word}-w3",
            "The same or not, up to rounding.",
            "D27",
            "ddp_training.models_or_gradients",
            3,
            gradients=((0.1, -0.7), (0.3, 0.9), (1.7, 2.3)),
            steps=3,
            **arguments,
        )


def _sampler() -> Iterator[BehaviourCase]:
    sizes = ((10, 3), (9, 3), (2, 5), (7, 4), (1, 3))
    for (samples, replicas), drop_last in product(sizes, (False, True)):
        yield ddp_case(
            f"sampler-{samples}-over-{replicas}{'-drop-last' if drop_last else ''}",
            "Every rank gets as many samples: the head is repeated, or the tail dropped.",
            "D25",
            "sampler.shares",
            1,
            samples=samples,
            replicas=replicas,
            drop_last=drop_last,
        )
    for drop_last in (False, True):
        yield ddp_case(
            f"sampler-shuffled{'-drop-last' if drop_last else ''}",
            "Of a shuffled list it is the shuffled head that is repeated.",
            "D25",
            "sampler.shuffled",
            1,
            samples=50,
            replicas=4,
            drop_last=drop_last,
        )
    for set_epoch in (False, True):
        yield ddp_case(
            f"sampler-{'with' if set_epoch else 'without'}-set-epoch",
            "A shuffled order is another in each epoch only if set_epoch is called.",
            "D26",
            "sampler.epochs",
            1,
            samples=50,
            replicas=2,
            epochs=3,
            set_epoch=set_epoch,
        )


FAMILIES = (_hooks, _buffers, _training, _sampler)
