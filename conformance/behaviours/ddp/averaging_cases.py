"""Cases on how DistributedDataParallel averages gradients (D1 to D31)."""

from collections.abc import Iterator
from itertools import product

from conformance.behaviours.case_parts import GRADIENTS, SINGLES, STARTS, BehaviourCase, ddp_case

# In f64 and in any order of addition, ×fl(1/3) and ÷3 give different bits of each column's mean,
# and ÷3 after the addition gives yet other bits of the last column.
_DIVIDED = {
    2: ((7.0, 2.0, 7.0), (7.0, 3.0, 9.0)),
    3: ((7.0, 2.0, 7.0), (7.0, 3.0, 9.0), (7.0, 7.0, 10.0)),
}


def _construction() -> Iterator[BehaviourCase]:
    for ranks, (how, init_sync) in product((2, 3), (("broadcast", True), ("no-init-sync", False))):
        yield ddp_case(
            f"start-{how}-w{ranks}",
            "Ranks start apart and change apart; "
            + ("construction alone joins them." if init_sync else "nothing joins them."),
            "D1",
            "ddp_construction.initial_values",
            ranks,
            starts=STARTS[ranks],
            init_sync=init_sync,
        )
    for module in ("frozen", "channel-shuffle", "trained"):
        yield ddp_case(
            f"module-{module}",
            "A module is refused if and only if nothing in it is to be trained.",
            "D18",
            "ddp_construction.without_gradient",
            2,
            module=module,
        )
    yield ddp_case(
        "before-init-process-group",
        "Without init_process_group, construction is refused.",
        "D31",
        "ddp_construction.before_init",
        2,
    )
    yield ddp_case(
        "nccl-of-a-cpu-build",
        "torch without NCCL refuses the backend nccl.",
        "D31",
        "ddp_construction.nccl_refused",
        2,
    )
    for ranks in (2, 3):
        yield ddp_case(
            f"processes-w{ranks}",
            "Each rank is a process of its own; on the CPU gloo joins them.",
            "D31 DA6",
            "ddp_construction.processes",
            ranks,
            gradients=GRADIENTS[ranks],
        )


def _averaging() -> Iterator[BehaviourCase]:
    for ranks, rows in GRADIENTS.items():
        yield ddp_case(
            f"mean-w{ranks}",
            "Every rank holds the sum of the ranks' own gradients, divided by W.",
            "D2",
            "ddp_averaging.mean",
            ranks,
            gradients=rows,
        )
        yield ddp_case(
            f"same-bits-w{ranks}",
            "Where sums round, every rank holds the same bits all the same.",
            "D2",
            "ddp_averaging.same_bits",
            ranks,
            features=50,
        )
    yield ddp_case(
        "same-bits-tiny-buckets-w3",
        "The same bits on every rank, with a bucket for every parameter.",
        "D2",
        "ddp_averaging.same_bits",
        3,
        "torch_ddp_tiny_buckets",
        features=50,
        bucket_cap_mb=1e-6,
    )
    shards = {
        2: ((6.0,), (0.0, 3.0, 9.0)),
        3: ((6.0,), (0.0, 18.0), (3.0, 9.0, 15.0, 81.0)),
        4: ((1.0,), (2.0, 6.0), (5.0,), (0.0, 1.0, 3.0, 16.0)),
    }
    for ranks, samples in shards.items():
        yield ddp_case(
            f"unequal-shards-w{ranks}",
            "Unequal shards give the mean of their means: ranks are averaged, not samples.",
            "D3",
            "ddp_averaging.unequal_shards",
            ranks,
            shards=samples,
        )
        yield ddp_case(
            f"sum-loss-w{ranks}",
            "A loss that sums gives the sum over all samples, divided by W.",
            "D4",
            "ddp_averaging.unequal_shards",
            ranks,
            shards=samples,
            reduction="sum",
        )
    for ranks in (2, 3):
        yield ddp_case(
            f"tied-weight-w{ranks}",
            "A weight that two layers share has one gradient, the sum over its uses, averaged.",
            "D19",
            "ddp_averaging.tied",
            ranks,
            uses=GRADIENTS[ranks],
        )


def _rounding() -> Iterator[BehaviourCase]:
    paths = {
        "default-set-to-none": "torch_ddp",
        "default-zeroed": "torch_ddp",
        "bucket-view-set-to-none": "torch_ddp_bucket_view",
        "bucket-view-zeroed": "torch_ddp_bucket_view",
        "batched-copy-set-to-none": "torch_ddp_batched_grad_copy",
        "builtin-hook-set-to-none": "torch_ddp_builtin_hook",
    }
    for ranks, (path, asked_of) in product((2, 3), paths.items()):
        yield ddp_case(
            f"scaling-{path}-w{ranks}",
            "The bits of the mean tell whether it was multiplied by 1/W or divided by W.",
            "D5",
            "ddp_averaging.scaling",
            ranks,
            asked_of,
            gradients=_DIVIDED[ranks],
            path=path,
            steps=3,
        )
    for ranks in (2, 3):
        yield ddp_case(
            f"allreduce-hook-w{ranks}",
            "allreduce_hook divides before it adds, whatever its docstring says of the default.",
            "D6",
            "ddp_hooks.allreduce",
            ranks,
            "torch_ddp_allreduce_hook",
            gradients=_DIVIDED[ranks],
        )
    for ranks, rounds in product((2, 3, 4, 8), (True, False)):
        yield ddp_case(
            f"steps-{'rounding' if rounds else 'exact'}-w{ranks}",
            "On the same data, steps repeat the second"
            + (", and the first too." if ranks == 2 or not rounds else "."),
            "D24",
            "ddp_averaging.repeated_steps",
            ranks,
            features=100,
            steps=4,
            rounds=rounds,
            world_size=ranks,
        )
    for used in ("abc", "cab", "bca"):
        yield ddp_case(
            f"bucket-order-{used}",
            f"Parameters used in the order {used} are put in buckets anew after the first step.",
            "D24",
            "ddp_averaging.bucket_orders",
            2,
            used=used,
            steps=3,
        )


def _bypassing() -> Iterator[BehaviourCase]:
    insides = {
        "nothing": (),
        "the-forward": ("forward",),
        "the-backward": ("backward",),
        "both": ("forward", "backward"),
    }
    for ranks, (word, inside) in product((2, 3), insides.items()):
        yield ddp_case(
            f"no-sync-around-{word}-w{ranks}",
            "Gradients stay apart if and only if no_sync() holds the forward.",
            "D12",
            "ddp_bypassing.no_sync",
            ranks,
            "torch_ddp_no_sync",
            gradients=GRADIENTS[ranks],
            inside=inside,
        )
    for ranks in (2, 3):
        # Micro-batch k of rank r has 1 + (k + r) mod 2 samples with the mean W·(1 + r + 2k).
        batches = tuple(
            tuple(
                tuple(float(ranks * (1 + r + 2 * k + s)) for s in ((0,), (-1, 1))[(k + r) % 2])
                for k in range(5)
            )
            for r in range(ranks)
        )
        yield ddp_case(
            f"micro-batches-k5-w{ranks}",
            "Five micro-batches leave the mean over the ranks of the sum, which no 5 divides.",
            "D13",
            "ddp_bypassing.micro_batches",
            ranks,
            "torch_ddp_no_sync",
            batches=batches,
        )
        yield ddp_case(
            f"past-the-wrapper-w{ranks}",
            "A forward through .module leaves every rank its own gradient, without a word.",
            "D14",
            "ddp_bypassing.past_the_wrapper",
            ranks,
            gradients=GRADIENTS[ranks],
        )
    for ranks, after in product((2, 3), (False, True)):
        yield ddp_case(
            f"autograd-grad-{'after-backward' if after else 'alone'}-w{ranks}",
            "torch.autograd.grad returns each rank's own gradient and leaves .grad as it was.",
            "D15",
            "ddp_bypassing.autograd_grad",
            ranks,
            gradients=GRADIENTS[ranks],
            after_backward=after,
        )


def _graphs() -> Iterator[BehaviourCase]:
    for ranks in (2, 3):
        yield ddp_case(
            f"unused-w{ranks}",
            "After a step with an unused parameter nothing is averaged; the next forward raises.",
            "D16",
            "ddp_bypassing.unused",
            ranks,
            gradients=SINGLES[ranks],
        )
    for (ranks, user), old in product(((2, 0), (2, 1), (3, 2)), (None, 7.0)):
        yield ddp_case(
            f"find-unused-rank-{user}-uses{'-old' if old else ''}-w{ranks}",
            "A parameter that one rank used gets its gradient over W; one that none did, nothing.",
            "D17",
            "ddp_bypassing.find_unused",
            ranks,
            "torch_ddp_find_unused",
            gradients=SINGLES[ranks],
            user=user,
            old=old,
        )
    graphs = {
        "same": (("ab", "ab", "ab"), 3),
        "used-later": (("a", "ab"), 1),
        "used-in-the-third-step": (("a", "a", "ab"), 2),
        "no-longer-used": (("ab", "a", "a"), 2),
        "no-longer-used-but-again": (("ab", "a", "ab"), 2),
    }
    for ranks, (word, (steps, stops)) in product((2, 3), graphs.items()):
        yield ddp_case(
            f"static-graph-{word}-w{ranks}",
            "With static_graph, a graph that changes raises: where, depends on how it changes.",
            "D28",
            "ddp_bypassing.static_graph",
            ranks,
            "torch_ddp_static_graph",
            gradients=SINGLES[ranks],
            steps=steps,
            stops=stops,
        )


FAMILIES = (_construction, _averaging, _rounding, _bypassing, _graphs)
