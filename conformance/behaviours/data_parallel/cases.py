"""Cases about `torch.nn.DataParallel` (P, PA), for torch's own class and the class on the host.

Without accelerators the real class runs nothing in parallel and is not exercised, except by the
cases of P1, which is about such a machine.
"""

from typing import Any

from conformance.behaviours.case_parts import (
    REAL,
    SHAPES,
    BehaviourCase,
    Cases,
    data_parallel_case,
    sizes,
)
from conformance.behaviours.data_parallel import input_cases as data_parallel_inputs
from conformance.behaviours.data_parallel import training_cases as data_parallel_training


def _passing_through() -> Cases:
    """Asks P1 and P2, where nothing is parallel."""
    for word, device_ids, dim in (
        ("all", None, 0),
        ("one", (0,), 0),
        ("three", (0, 1, 2), 0),
        ("reversed", (1, 0), 1),
    ):
        yield data_parallel_case(
            f"dp-pass-through-{word}",
            f"Without an accelerator, and {word} asked for, the module is called with the input.",
            "P1 PA6 PA11 PA13" if word == "three" else "P1 PA6 PA11",
            ".pass_through",
            REAL,
            batch=4,
            asked=device_ids,
            dim=dim,
        )
    for returns, batch in (("tensor", 5), ("scalar", 5), ("object", 1)):
        yield data_parallel_case(
            f"dp-one-device-{returns}",
            f"With one device the module itself is called, and its {returns} comes back untouched.",
            "P2",
            ".one_device",
            batch=batch,
            returns=returns,
        )


def _places() -> Cases:
    """Asks which device holds what (P8, P9, PA6, PA10 to PA14)."""
    for what, devices in (("parameter", 2), ("buffer", 2), ("parameter", 3)):
        yield data_parallel_case(
            f"dp-misplaced-{what}-d{devices}",
            f"One {what} on another device is an error at every forward, and none when it is back.",
            "P8 PA13" if devices == 3 else "P8",
            ".misplaced",
            devices=devices,
            what=what,
        )
    for word, here, asked, output in (
        ("all", 3, None, None),
        ("all-four", 4, None, None),
        ("three", 3, (0, 1, 2), None),
        ("two-of-four", 4, (1, 3), None),
        ("in-another-order", 3, (2, 0, 1), None),
        ("as-torch-devices", 3, ("device:1", "device:0"), None),
        ("output-on-last", 3, (0, 1, 2), 2),
        ("output-elsewhere", 4, (2, 1), 3),
    ):
        yield data_parallel_case(
            f"dp-constructed-{word}",
            "The constructor's devices, the first of which holds the module, and its output's.",
            "P8 P9 PA3 PA6 PA10 PA11 PA12",
            "_article.constructed",
            here=here,
            batch=5,
            device_ids=asked,
            output_device=output,
        )
    yield data_parallel_case(
        "dp-not-a-module",
        "What is no module is refused, at forward.",
        "PA10",
        "_article.not_a_module",
        batch=4,
        devices=2,
    )
    for batch, given_on in ((6, "cpu"), (7, "cpu"), (6, "first"), (5, "last"), (2, "cpu")):
        yield data_parallel_case(
            f"dp-example-b{batch}-on-{given_on}",
            "The article's example: three devices give what the model alone gives, bit for bit.",
            "P8 P9 PA13 PA14",
            "_article.example",
            batch=batch,
            devices=3,
            given_on=given_on,
        )


def _outputs() -> Cases:
    """Asks how outputs are gathered (P9)."""
    for shape, devices, dim in (
        ((9, 2), 4, 0),
        ((5, 3, 2), 2, 0),
        ((3, 5, 2), 2, 1),
        ((2, 3, 7), 4, 2),
        ((3, 5), 2, -1),
    ):
        axis = f"dim{dim}" if dim >= 0 else f"dim-minus-{-dim}"
        yield data_parallel_case(
            f"dp-gathered-{'x'.join(map(str, shape))}-d{devices}-{axis}",
            f"The outputs are concatenated along axis {dim}, on the first device.",
            "P9 PA12",
            ".concatenated",
            shape=shape,
            devices=devices,
            dim=dim,
        )
    structures: tuple[tuple[str, Any], ...] = (
        ("tensor", 1),
        ("none", "none"),
        ("tuple", ("tuple", 1, "none")),
        ("list", ("list", 1, ("tuple", 1))),
        ("dict", ("dict", 1, ("list", 1))),
        ("named-tuple", ("Pair", 1, ("dict", 1))),
    )
    for word, structure in structures:
        yield data_parallel_case(
            f"dp-returned-{word}",
            "An output comes back inside the containers in which the replicas returned it.",
            "P9",
            ".returned",
            batch=5,
            devices=4,
            structure=structure,
        )
    for batch, devices, dim in ((5, 2, 0), (9, 4, 0), (1, 2, 0), (5, 2, 1)):
        yield data_parallel_case(
            f"dp-0d-output-b{batch}-d{devices}-dim{dim}",
            "0-d outputs are an error along another axis than 0."
            if dim
            else "0-d outputs become a vector, one element per replica, with a warning.",
            "P9",
            ".scalars",
            batch=batch,
            devices=devices,
            dim=dim,
        )


def _as_the_article_says() -> Cases:
    """Asks PA1, PA2, PA15 and PA16: a container, threads, and no deprecation."""
    for batch, devices in SHAPES:
        size = sizes(batch, devices)
        ending = f"b{batch}-d{devices}"
        yield data_parallel_case(
            f"dp-threads-{ending}",
            "The replicas run at once, in a thread each, and each holds the whole module.",
            "PA2",
            "_article.threads",
            **size,
        )
    for batch, devices in SHAPES[:2]:
        size = sizes(batch, devices)
        ending = f"b{batch}-d{devices}"
        yield data_parallel_case(
            f"dp-container-of-the-module-{ending}",
            "The container holds the module that it was given, and no copy.",
            "PA1",
            "_article.container",
            **size,
        )
        yield data_parallel_case(
            f"dp-no-deprecation-{ending}",
            "It works, and no warning calls it deprecated.",
            "PA15",
            "_article.no_deprecation",
            **size,
        )
        yield data_parallel_case(
            f"dp-both-classes-{ending}",
            "Both classes are modules around a module; this one's replicas share a process.",
            "PA16",
            "_article.both_classes",
            **size,
        )


FAMILIES = (
    _passing_through,
    *data_parallel_inputs.FAMILIES,
    _places,
    _outputs,
    *data_parallel_training.FAMILIES,
    _as_the_article_says,
)


def cases() -> tuple[BehaviourCase, ...]:
    """Returns every case of P and PA."""
    return tuple(case for family in FAMILIES for case in family())
