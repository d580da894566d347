"""Cases on the article's sentences about DistributedDataParallel (DA1 to DA19)."""

from collections.abc import Iterator

from conformance.behaviours.case_parts import GRADIENTS, SINGLES, STARTS, BehaviourCase, ddp_case

# Every rank's loader holds this batch, (B, F), or its own batch of those below.
_BATCH = ((1.0, 8.0), (2.0, -3.0), (5.0, 7.0), (4.0, 0.0))
_OWN_BATCHES = {
    2: (((1.0, 8.0), (3.0, 4.0)), ((5.0, -6.0), (7.0, 2.0))),
    3: (((3.0, 6.0), (9.0, 0.0)), ((12.0, 6.0), (0.0, 6.0)), ((21.0, -6.0), (9.0, 24.0))),
}
# The arguments of DDP's constructor; `none` passes no argument.
_OPTIONS = (
    "none",
    "forward_sync_buffers",
    "init_sync",
    "dim",
    "bucket_cap_mb",
    "find_unused_parameters",
    "gradient_as_bucket_view",
    "static_graph",
    "batched_grad_copy",
)


def _container() -> Iterator[BehaviourCase]:
    for ranks in (2, 3):
        yield ddp_case(
            f"container-w{ranks}",
            "DDP is a module around the module that it was given, not a copy, over the group.",
            "DA1 DA10",
            "ddp_construction.container",
            ranks,
            gradients=GRADIENTS[ranks],
        )
    yield ddp_case(
        "module-by-keyword",
        "The module to be made parallel is the argument `module`.",
        "DA10",
        "ddp_construction.by_keyword",
        2,
        gradients=GRADIENTS[2],
    )
    for ranks in (2, 3):
        yield ddp_case(
            f"group-of-{ranks}",
            "A group of fewer ranks than there are averages over those alone.",
            "DA2",
            "ddp_averaging.subgroup",
            ranks,
            gradients=GRADIENTS[ranks],
        )
    yield ddp_case(
        "default-group-w8",
        "Where no group is named, gradients are averaged over all ranks.",
        "DA2",
        "ddp_averaging.default_group",
        8,
        gradients=GRADIENTS[8],
    )
    yield ddp_case(
        "default-group-is-the-world",
        "Where no group is named, the group is that of all ranks.",
        "DA2",
        "ddp_averaging.default_is_the_world",
        2,
    )


def _devices() -> Iterator[BehaviourCase]:
    yield ddp_case(
        "device-ids-of-a-cpu-module",
        "DDP places no module: one on the CPU stays there, and device_ids=[0] is refused.",
        "DA3 DA11 DA14 DA15",
        "ddp_construction.placing",
        2,
        inputs=GRADIENTS[2],
    )
    yield ddp_case(
        "forward-and-backward-are-each-ranks-own",
        "DDP places no module; each of three ranks has its own output and gradient.",
        "DA3",
        "ddp_construction.placing",
        3,
        inputs=GRADIENTS[3],
    )
    yield ddp_case(
        "two-device-ids",
        "More than one device in a process is refused.",
        "DA6 DA11",
        "ddp_construction.devices",
        2,
        device_ids=(0, 1),
    )
    yield ddp_case(
        "no-device-ids",
        "A module on the CPU is taken where device_ids is None.",
        "DA11",
        "ddp_construction.devices",
        2,
    )
    for device, word in ((0, "overlooked"), (1, "refused")):
        yield ddp_case(
            f"output-device-{device}-of-a-cpu-module",
            f"output_device={device} is {word} for a module on the CPU.",
            "DA12",
            "ddp_construction.devices",
            2,
            output_device=device,
        )
    yield ddp_case(
        "device-ids-of-a-gpu-module",
        "A module on a GPU takes that one device, where its output lies by default.",
        "DA11 DA12",
        "ddp_construction.gpu_module",
        2,
    )
    yield ddp_case(
        "current-device-of-every-process",
        "Where no process chooses a device, the current one is 0 in all of them.",
        "DA14",
        "ddp_construction.current_devices",
        2,
        world_size=2,
    )


def _documentation() -> Iterator[BehaviourCase]:
    sentences = {
        "one-process-per-gpu": (
            "DA6",
            "DistributedDataParallel",
            ("spawn up ``N`` processes, ensuring that each process exclusively works on a single",),
        ),
        "speed": (
            "DA7",
            "DistributedDataParallel",
            ("significantly faster than :class:`torch.nn.DataParallel`",),
        ),
        "nccl": (
            "DA9",
            "DistributedDataParallel",
            (
                "``nccl`` backend is currently the fastest and highly recommended backend",
                "This applies to both single-node and multi-node distributed training.",
            ),
        ),
        "device-ids": (
            "DA11",
            "DistributedDataParallel",
            (
                "``device_ids`` can contain exactly one device id",
                "For multi-device modules and CPU modules, ``device_ids`` must be ``None``.",
            ),
        ),
        "output-device": (
            "DA12",
            "DistributedDataParallel",
            (
                "For multi-device modules and CPU modules, it must be ``None``",
                "(default: ``device_ids[0]`` for single-device modules)",
            ),
        ),
        "recommended-on-one-node": (
            "DA17",
            "DataParallel",
            (
                "It is recommended to use :class:`~torch.nn.parallel.DistributedDataParallel`",
                "to do multi-GPU training, even if there is only a single node.",
            ),
        ),
    }
    for word, (clause, of, words) in sentences.items():
        yield ddp_case(
            f"documentation-{word}",
            f"torch's own documentation of {of} says so.",
            clause,
            "ddp_article.documented",
            1,
            of=of,
            words=words,
        )
    yield ddp_case(
        "where-the-modules-live",
        "All three are modules under torch.nn, the third in torch.nn.parallel alone.",
        "DA18",
        "ddp_article.homes",
        1,
    )


def _replicas() -> Iterator[BehaviourCase]:
    for ranks in (2, 3):
        yield ddp_case(
            f"replicas-after-adam-w{ranks}",
            "Ranks that began apart hold the same bits from construction on, through three steps.",
            "DA4",
            "ddp_construction.replicas",
            ranks,
            starts=STARTS[ranks],
            gradients=GRADIENTS[ranks],
            steps=3,
        )
    for word, nodes in (("one-node", (0, 0, 0)), ("two-nodes", (0, 0, 1)), ("three", (0, 1, 2))):
        yield ddp_case(
            f"ranks-on-{word}",
            "The gradient does not depend on which node a rank is told that it is on.",
            "DA5",
            "ddp_averaging.nodes",
            3,
            gradients=GRADIENTS[3],
            nodes=nodes,
        )
    for ranks in (2, 3):
        yield ddp_case(
            f"orders-of-addition-w{ranks}",
            "Where no order of summation rounds, what adds does not show.",
            "DA9",
            "ddp_averaging.orders",
            ranks,
            gradients=GRADIENTS[ranks],
        )


def _inputs() -> Iterator[BehaviourCase]:
    yield ddp_case(
        "shards-no-input",
        "With every argument of DDP, each rank computes on all that it is given, and on nothing "
        "else.",
        "D30 DA13",
        "ddp_article.inputs_seen",
        2,
        batches=_OWN_BATCHES[2],
        options=_OPTIONS,
    )
    yield ddp_case(
        "shards-no-input-w3",
        "Three ranks compute each on all that it is given, and on nothing else.",
        "D30 DA13",
        "ddp_article.inputs_seen",
        3,
        batches=_OWN_BATCHES[3],
        options=_OPTIONS[:1],
    )
    for ranks in (2, 4):
        yield ddp_case(
            f"whole-batch-on-every-rank-w{ranks}",
            "A batch that every rank is given is computed on whole by every rank.",
            "D30",
            "ddp_article.inputs_seen",
            ranks,
            batches=(_BATCH,) * ranks,
            options=("none",),
        )
    for ranks, samples in ((2, (1.0, 6.0, 2.0, -1.0)), (3, (3.0, 6.0, 9.0, 12.0, 0.0, 24.0))):
        yield ddp_case(
            f"parts-by-the-sampler-w{ranks}",
            "The same code on every rank works on the part that DistributedSampler gives it.",
            "D30 DA16",
            "ddp_article.sampled",
            ranks,
            samples=samples,
            world_size=ranks,
        )
    dataset = ((1.0, 2.0), (0.0, 3.0), (-4.0, 7.0))
    yield ddp_case(
        "articles-loop",
        "The article's loop gives every rank the whole data set, and adds gradients up.",
        "DA14 DA16",
        "ddp_article.loop",
        2,
        dataset=dataset,
        mended=False,
        world_size=2,
    )
    yield ddp_case(
        "articles-loop-mended",
        "With a part each and cleared gradients, the article's loop trains.",
        "DA15",
        "ddp_article.loop",
        2,
        dataset=dataset,
        mended=True,
        world_size=2,
    )


def _data_parallel() -> Iterator[BehaviourCase]:
    for ranks, samples in ((2, (1.0, 6.0, 2.0, -1.0)), (3, (3.0, 6.0, 9.0, 12.0, 0.0, 24.0))):
        yield ddp_case(
            f"beside-data-parallel-w{ranks}",
            "For equal shards and a mean loss, DDP and DataParallel give the same gradient.",
            "DA7",
            "ddp_article.beside_data_parallel",
            ranks,
            samples=samples,
            world_size=ranks,
        )
        yield ddp_case(
            f"reduction-w{ranks}",
            "DDP takes the mean of what DataParallel sums; parameters agree, buffers are rank 0's.",
            "DA8",
            "ddp_article.reduction",
            ranks,
            inputs=SINGLES[ranks],
        )
        yield ddp_case(
            f"spans-processes-w{ranks}",
            "DataParallel's replicas are in one process, DDP's each in its own.",
            "DA17",
            "ddp_article.spans",
            ranks,
            world_size=ranks,
        )
    # Weights are (groups, out, in): 4 channels in 2 groups, 6 shuffled channels, and 2 in 2 groups.
    first = (((1.0, -1.0), (2.0, 1.0), (0.0, 1.0)), ((1.0, 2.0), (-1.0, 1.0), (3.0, 0.0)))
    second = (((1.0, -2.0, 1.0),), ((2.0, 1.0, -1.0),))
    images = (
        (1.0, 2.0, -1.0, 3.0),
        (2.0, 0.0, 1.0, 1.0),
        (-1.0, 3.0, 2.0, 0.0),
        (0.0, 1.0, 1.0, -2.0),
    )
    for ranks in (2, 4):
        yield ddp_case(
            f"channel-shuffle-network-w{ranks}",
            "A network with a channel shuffle gets the same gradients from one device, from "
            "DataParallel and from DDP.",
            "DA19",
            "ddp_article.shuffled_network",
            ranks,
            samples=images,
            first=first,
            second=second,
        )


FAMILIES = (_container, _devices, _documentation, _replicas, _inputs, _data_parallel)
