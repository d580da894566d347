"""Cases on the inputs of `torch.nn.DataParallel` (P3 to P7)."""

from itertools import product
from typing import Any

from conformance.behaviours.case_parts import SHAPES, BehaviourCase, Cases, data_parallel_case


def _chunks() -> Cases:
    """Asks which samples go to which replica (P3, P4, PA3, PA4)."""
    for batch, devices in (
        *product((1, 2, 3, 4, 5, 8, 9), (2, 3, 4, 8)),
        (9, 1),
        (6, 4),
        (7, 4),
        (0, 3),
    ):
        yield data_parallel_case(
            f"dp-chunks-b{batch}-d{devices}",
            f"{batch} samples over {devices} devices are split as by torch.chunk.",
            "P3 P4 PA3" if batch < devices else "P3 PA3",
            ".chunk_sizes",
            batch=batch,
            devices=devices,
        )
    for dim, (batch, devices) in product((1, 2), ((9, 4), (5, 2))):
        yield data_parallel_case(
            f"dp-chunks-b{batch}-d{devices}-dim{dim}",
            f"Along axis {dim}, {batch} over {devices} devices is split as along axis 0.",
            "P3 PA3 PA12",
            ".chunk_sizes",
            batch=batch,
            devices=devices,
            dim=dim,
        )
    for batch, devices in SHAPES:
        yield data_parallel_case(
            f"dp-rows-b{batch}-d{devices}",
            f"Of {batch} samples, replica r of {devices} devices sees chunk r and nothing else.",
            "P3 P4 PA4" if batch < devices else "P3 PA4",
            "_article.rows_seen",
            batch=batch,
            devices=devices,
        )


def _scattered(
    name: str, about: str, clauses: str, devices: int, **arguments: Any
) -> BehaviourCase:
    return data_parallel_case(name, about, clauses, ".scattered", devices=devices, **arguments)


def _containers() -> Cases:
    """Asks which arguments are split and which are shared (P4, P5)."""
    nested: tuple[tuple[str, Any], ...] = (
        ("tuple", ("tuple", 5, 5)),
        ("list", ("list", 5, ("list", 5))),
        ("dict", ("dict", 5, ("tuple", 5, "object"))),
        ("named-tuple", ("Pair", 5, ("dict", 5))),
        ("all", ("dict", ("Pair", 5, "none"), ("list", ("tuple", 5), ("list",)), ("dict",))),
    )
    for (word, structure), devices in product(nested, (2, 4)):
        yield _scattered(
            f"dp-container-{word}-d{devices}",
            f"Of {word}, each replica of {devices} devices gets the same containers, of chunks.",
            "P5",
            devices,
            positional=(structure,),
        )
        yield _scattered(
            f"dp-container-{word}-by-name-d{devices}",
            f"The same of {word} given by name.",
            "P5",
            devices,
            named=(structure,),
        )
    shared: tuple[tuple[str, Any], ...] = (
        ("object", "object"),
        ("none", "none"),
        ("empty-tuple", ("tuple",)),
        ("empty-list", ("list",)),
        ("empty-dict", ("dict",)),
    )
    for word, structure in shared:
        yield _scattered(
            f"dp-shared-{word}",
            "What is no tensor is handed to every replica as it is, by position and by name.",
            "P5",
            3,
            positional=(6, structure),
            named=(structure,),
        )
    for devices in (2, 4):
        yield _scattered(
            f"dp-only-objects-d{devices}",
            "An input without any tensor runs on every device.",
            "P5",
            devices,
            positional=("object",),
        )
    for batch, devices in ((1, 2), (3, 4), (3, 8), (5, 4), (4, 4)):
        yield _scattered(
            f"dp-plain-argument-b{batch}-d{devices}",
            "An object by position leaves the number of replicas to the batch.",
            "P4" if batch < devices else "P3",
            devices,
            positional=(batch, "object"),
        )
        yield _scattered(
            f"dp-plain-keyword-b{batch}-d{devices}",
            "An object by name goes to every device, also to one that gets no sample.",
            "P4 P6",
            devices,
            positional=(batch,),
            named=("object",),
        )


def _unequal() -> Cases:
    """Passes tensors that split into different numbers of chunks (P6), and 0-d tensors (P7)."""
    for first, second, devices in (
        (5, 1, 2),
        (1, 5, 2),
        (8, 5, 4),
        (9, 2, 4),
        (5, 9, 4),
        (8, 7, 4),
    ):
        lengths = (first, second)
        ways: tuple[tuple[str, dict[str, Any]], ...] = (
            ("positional", {"positional": lengths}),
            ("container", {"positional": (("list", *lengths),)}),
            ("keyword", {"named": lengths}),
        )
        for word, arguments in ways:
            yield _scattered(
                f"dp-unequal-{word}-{first}-{second}-d{devices}",
                f"Of lengths {first} and {second} the fewest chunks decide, and the rest is lost.",
                "P6",
                devices,
                **arguments,
            )
    for positional, named, devices in (
        ((1,), (4,), 2),
        ((2,), (8,), 4),
        ((4,), (1,), 2),
        ((4, 4), (1,), 2),
        ((8, 8, 8), (2,), 4),
        ((8, 8), (2,), 4),
        ((4, 4), (1, 4), 2),
        ((5,), (6,), 4),
        ((5,), (9,), 4),
    ):
        word = f"{'-'.join(map(str, positional))}-against-{'-'.join(map(str, named))}"
        yield _scattered(
            f"dp-padded-{word}-d{devices}",
            "Between arguments by position and by name, the fewer chunks are padded with nothing.",
            "P6",
            devices,
            positional=positional,
            named=named,
        )
    with_scalar: tuple[tuple[str, dict[str, Any]], ...] = (
        ("positional", {"positional": (4, "scalar")}),
        ("keyword", {"positional": (4,), "named": ("scalar",)}),
        ("container", {"positional": (("list", 4, ("tuple", "scalar")),)}),
        ("alone", {"positional": ("scalar",)}),
    )
    for word, arguments in with_scalar:
        yield _scattered(
            f"dp-0d-input-{word}", "A 0-d tensor cannot be split.", "P7", 2, **arguments
        )


FAMILIES = (_chunks, _containers, _unequal)
