"""Cases on training with `torch.nn.DataParallel` (P10 to P16, PA5, PA7 to PA9)."""

from itertools import product

from conformance.behaviours.case_parts import REAL, SHAPES, Cases, data_parallel_case, sizes


def _gradients() -> Cases:
    """Asks which gradients the parameters hold (P10, P14, P16, PA5, PA7)."""
    for batch, devices in SHAPES:
        size = sizes(batch, devices)
        ending = f"b{batch}-d{devices}"
        yield data_parallel_case(
            f"dp-summed-gradients-{ending}",
            "The gradients of the replicas are summed, and added to what was there.",
            "P10",
            "_training.summed_gradients",
            **size,
        )
        yield data_parallel_case(
            f"dp-tied-weight-{ending}",
            "A weight under two names gets the sum over both, and over the replicas.",
            "P10",
            "_training.tied_weight",
            **size,
        )
    # For these chunks and numbers of replicas no mean rounds.
    for (batch, devices), inside in product(
        ((3, 2), (5, 2), (9, 2), (8, 4), (6, 2)), (False, True)
    ):
        yield data_parallel_case(
            f"dp-mean-loss-{'inside' if inside else 'outside'}-b{batch}-d{devices}",
            "A mean loss inside forward gives the mean of the chunk means."
            if inside
            else "A mean loss on the gathered output averages over all samples.",
            "P14",
            "_training.mean_loss",
            batch=batch,
            devices=devices,
            inside=inside,
        )
    for batch, devices in ((3, 2), (5, 2), (8, 4), (6, 2)):
        yield data_parallel_case(
            f"dp-same-gradient-b{batch}-d{devices}",
            "It is the module's own gradient; the mean of the shards' means only if equal.",
            "P14 PA5 PA7",
            "_article.same_gradient",
            batch=batch,
            devices=devices,
        )
    for batch, devices in ((1, 2), (3, 4), (4, 4), (3, 8), (8, 8), (9, 8)):
        yield data_parallel_case(
            f"dp-small-batch-b{batch}-d{devices}",
            "A batch that is hardly or not larger than the number of devices works all the same.",
            "P4 P16",
            "_training.small_batch",
            batch=batch,
            devices=devices,
        )


def _replicas() -> Cases:
    """Asks what a replica is, and what of it stays in the module (P11 to P13, P15)."""
    for batch, devices in (*SHAPES, (5, 1)):
        size = sizes(batch, devices)
        ending = f"b{batch}-d{devices}"
        contrast = " P2" if devices == 1 else ""
        yield data_parallel_case(
            f"dp-attributes-{ending}",
            "Attributes that forward sets are lost, unless there is one device.",
            "P11" + contrast,
            "_training.attributes",
            **size,
        )
        yield data_parallel_case(
            f"dp-replica-weights-{ending}",
            "A replica has no parameters, and a penalty on them does nothing.",
            "P13" + contrast,
            "_training.replica_weights",
            **size,
        )
        for in_place in (True, False):
            yield data_parallel_case(
                f"dp-buffers-{'in-place' if in_place else 'rebound'}-{ending}",
                "Of the changes to a buffer only those of replica 0 stay, and only in place.",
                "P11 PA8" + contrast,
                "_training.buffers",
                **size,
                in_place=in_place,
            )
    for name, devices, momentum in (
        ("data-parallel-running-statistics", 2, 0.5),
        ("dp-running-statistics-d4", 4, 1.0),
        ("dp-running-statistics-d3", 3, 0.25),
    ):
        yield data_parallel_case(
            name,
            "BatchNorm's running statistics stay, and are those of the first chunk.",
            "P11 PA8",
            "_training.running_statistics",
            devices=devices,
            momentum=momentum,
        )
    for name, batch, devices in (
        ("data-parallel-hooks", 4, 2),
        ("dp-hooks-b9-d4", 9, 4),
        ("dp-hooks-b5-d4", 5, 4),
        ("dp-hooks-b3-d8", 3, 8),
        ("dp-hooks-b5-d1", 5, 1),
    ):
        yield data_parallel_case(
            name,
            "Forward and backward hooks run once for each replica.",
            "P12 PA9",
            "_training.hooks",
            batch=batch,
            devices=devices,
        )
    names = ("weight", "norm.running_mean", "norm.weight", "module.deep.bias")
    for devices in (1, 2):
        yield data_parallel_case(
            f"dp-state-keys-d{devices}",
            "Every key of the state begins with `module.`.",
            "P15",
            "_training.state_keys",
            devices=devices,
            names=names,
        )
    yield data_parallel_case(
        "dp-state-keys-pass-through",
        "Every key of the state begins with `module.`, without an accelerator too.",
        "P1 P15",
        "_training.state_keys",
        REAL,
        devices=0,
        names=names,
    )


FAMILIES = (_gradients, _replicas)
