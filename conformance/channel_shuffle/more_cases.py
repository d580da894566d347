"""Cases on derivatives, transforms, refusals, side effects, modules and convolutions."""

from collections.abc import Iterator
from itertools import product

from conformance.channel_shuffle.cases import BIT_PATTERNS, COPIES, indivisible, make_case
from conformance.core.questions import Layout, Refusal, ShuffleCase, ShuffleQuestion, Transform


def _derivatives() -> Iterator[ShuffleCase]:
    """Asks S3 with g² ≠ C: with g² = C the shuffle and its transpose are the same map."""
    for derivative, (channels, groups) in product(
        ("vjp", "jvp", "double"), ((6, 2), (8, 4), (12, 3), (12, 4), (20, 5), (24, 4))
    ):
        yield make_case(
            "derivatives",
            f"{derivative}-f32-c{channels}-g{groups}",
            "The derivative of the shuffle, with a value of its own in every element.",
            "S3",
            ShuffleQuestion((2, channels, 3, 2), groups, derivative=derivative),  # type: ignore[arg-type]
        )
    for derivative, dtype in product(("vjp", "jvp"), ("f64", "f16", "bf16", "c64", "c128")):
        yield make_case(
            "derivatives",
            f"{derivative}-{dtype}-c12-g3",
            f"The derivative in {dtype}.",
            "S3",
            ShuffleQuestion((2, 12, 5), 3, dtype, derivative=derivative),  # type: ignore[arg-type]
        )


def _transforms() -> Iterator[ShuffleCase]:
    """Asks S14: the framework's own machinery around the implementation changes no bit."""
    combinations: tuple[tuple[Transform, str], ...] = (
        ("eager", "none"),
        ("eager", "vjp"),
        ("compiled", "none"),
        ("compiled", "vjp"),
        ("exported", "none"),
        ("vmapped", "none"),
        ("vmapped", "vjp"),
        ("scripted", "none"),
    )
    for (transform, derivative), (channels, groups) in product(combinations, ((12, 3), (20, 5))):
        shape = (3,) * (transform == "vmapped") + (2, channels, 4)
        suffix = "-vjp" if derivative == "vjp" else ""
        yield make_case(
            "transforms",
            f"{transform}{suffix}-c{channels}-g{groups}",
            f"Asked {transform}{', through its gradient' if suffix else ''}.",
            "S3 S14" if suffix else "S14",
            ShuffleQuestion(shape, groups, transform=transform, derivative=derivative),  # type: ignore[arg-type]
        )
    yield make_case(
        "transforms",
        "export-graph-c12-g3",
        "torch.export shows one aten.channel_shuffle.",
        "S14",
        ShuffleQuestion((2, 12, 4), 3, transform="exported", observe="graph"),
        promises=("native",),
    )


def _transformed_copies() -> Iterator[ShuffleCase]:
    """Asks copies through the framework's machinery, where bits must survive as well.

    Through the gradient only torch's operator promises that: where a forward selects by index, the
    backward adds into zeros, and 0 + −0.0 is 0.
    """
    for kind in ("zeros", "subnormals", "quiet-nans"):
        yield make_case(
            "derivatives",
            f"vjp-{kind}-f32",
            f"{kind.replace('-', ' ')} in input and cotangent survive bit for bit.",
            "S3 S11",
            ShuffleQuestion((2, 12, 5), 3, fill=kind, derivative="vjp"),
            promises=("native",),
        )
    machinery: tuple[Transform, ...] = ("eager", "compiled", "exported", "vmapped")
    for transform, kind in product(machinery, ("zeros", "subnormals", "quiet-nans")):
        shape = (3,) * (transform == "vmapped") + (2, 12, 5)
        yield make_case(
            "transforms",
            f"{transform}-{kind}-f32",
            f"Asked {transform}: {kind.replace('-', ' ')} survive bit for bit.",
            "S11 S14",
            ShuffleQuestion(shape, 3, fill=kind, transform=transform),
            promises=COPIES,
        )
    for transform, groups in product(machinery[1:3], (1, 12)):
        yield make_case(
            "transforms",
            f"{transform}-no-alias-g{groups}",
            f"Asked {transform}: the output shares no memory with the input.",
            "S13 S14",
            ShuffleQuestion((2, 12, 3), groups, transform=transform, observe="effects"),
            promises=COPIES,
        )
    for transform in (machinery[0], machinery[1], machinery[3]):
        shape = (3,) * (transform == "vmapped") + (2, 4, 3)
        yield make_case(
            "transforms",
            f"{transform}-indivisible-c4-g3",
            f"Asked {transform}: C mod g ≠ 0 has no answer.",
            "S7 S14",
            ShuffleQuestion(shape, 3, transform=transform),
            refusal=indivisible(4, 3),
        )


def _refusals() -> Iterator[ShuffleCase]:
    """Asks what has no answer: torch's operator refuses in its own words, others with any error."""
    for channels, groups in ((4, 3), (6, 4), (8, 3), (12, 5), (2, 4), (1, 2)):
        yield make_case(
            "refusals",
            f"indivisible-c{channels}-g{groups}",
            "C mod g ≠ 0 has no answer.",
            "S7",
            ShuffleQuestion((2, channels, 3), groups),
            refusal=indivisible(channels, groups),
        )
    yield make_case(
        "refusals",
        "indivisible-n0-c15-g4",
        "C mod g ≠ 0 has no answer, though there is nothing to move.",
        "S7",
        ShuffleQuestion((0, 15, 5), 4),
        refusal=indivisible(15, 4),
    )
    for channels, groups in ((6, 0), (6, -1), (6, -3), (1, -1)):
        yield make_case(
            "refusals",
            f"groups-{'minus-' * (groups < 0)}{abs(groups)}{'-c1' * (channels == 1)}",
            "g ≤ 0 has no answer.",
            "S6",
            ShuffleQuestion((2, channels, 3), groups),
            refusal=_not_positive(groups),
        )
    for shape in ((2, 4), (4,)):
        sizes = "[" + ", ".join(map(str, shape)) + "]"
        yield make_case(
            "refusals",
            f"rank-{len(shape)}",
            "torch's own operator wants three dimensions.",
            "S5",
            ShuffleQuestion(shape, 2),
            promises=("native",),
            refusal=Refusal(
                "RuntimeError",
                f"channel_shuffle expects input with > 2 dims, but got input with sizes {sizes}",
            ),
        )
    for word, refused in (("float", 2.0), ("bool", True)):
        yield make_case(
            "refusals",
            f"groups-{word}",
            f"torch's own operator refuses a {word} for groups.",
            "S8",
            ShuffleQuestion((2, 4, 3), refused),
            promises=("native",),
            refusal=Refusal("TypeError"),
        )


def _images() -> Iterator[ShuffleCase]:
    """Asks of (N, C, H, W) what other families ask of three dimensions.

    A shuffle of images takes no other, and would else be green for half of the mistakes.
    """
    for kind in BIT_PATTERNS:
        yield make_case(
            "images",
            f"image-bits-{kind}-f32",
            f"{kind.replace('-', ' ')} survive bit for bit, in an image.",
            "S11",
            ShuffleQuestion((2, 12, 2, 3), 3, "f32", kind),
            promises=COPIES,
        )
    for channels, groups in ((6, 4), (2, 4)):
        yield make_case(
            "images",
            f"image-indivisible-c{channels}-g{groups}",
            "C mod g ≠ 0 has no answer, in an image.",
            "S7",
            ShuffleQuestion((2, channels, 3, 2), groups),
            refusal=indivisible(channels, groups),
        )
    for groups in (0, -3):
        yield make_case(
            "images",
            f"image-groups-{'minus-' * (groups < 0)}{abs(groups)}",
            "g ≤ 0 has no answer, in an image.",
            "S6",
            ShuffleQuestion((2, 6, 3, 2), groups),
            refusal=_not_positive(groups),
        )


def _not_positive(groups: int) -> Refusal:
    return Refusal(
        "RuntimeError",
        f"Number of groups to divide channels in must be positive. Value of groups:{groups}",
    )


def _effects() -> Iterator[ShuffleCase]:
    """Asks S13, also where the shuffle is the identity and a view would have the right values."""
    layouts: tuple[Layout, ...] = ("contiguous", "channels_last")
    for groups, layout in product((1, 3, 12), layouts):
        yield make_case(
            "effects",
            f"no-alias-{layout.replace('_', '-')}-g{groups}",
            "The output shares no memory with the input, and the input is unchanged.",
            "S13",
            ShuffleQuestion((2, 12, 3, 2), groups, layout=layout, observe="effects"),
            promises=COPIES,
        )


def _modules() -> Iterator[ShuffleCase]:
    """Asks S16, about the state of the module that an implementation calls."""
    for channels, groups in ((6, 2), (12, 3)):
        yield make_case(
            "modules",
            f"module-c{channels}-g{groups}",
            "The module has no parameter, no buffer and no state; train and eval agree.",
            "S16",
            ShuffleQuestion((2, channels, 3), groups, observe="modules"),
        )


def _convolutions() -> Iterator[ShuffleCase]:
    """Asks S17: sample i feeds group i alone, so that the answer shows which groups it reached."""
    for channels, groups in ((12, 2), (12, 3), (32, 4)):
        yield make_case(
            "convolutions",
            f"between-convolutions-c{channels}-g{groups}",
            "Between two grouped convolutions, every output group depends on every input group.",
            "S17 SA2 SA4 SA8",
            ShuffleQuestion(
                (groups, channels, 2, 3), groups, fill="one-group-at-a-time", observe="convolutions"
            ),
        )


FAMILIES = (
    _derivatives,
    _transforms,
    _transformed_copies,
    _refusals,
    _images,
    _effects,
    _modules,
    _convolutions,
)
