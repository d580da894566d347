"""Cases on which elements come out where: shapes, dtypes, bits and layouts.

Each family is a function that yields its cases. Its docstring says what the family must be able to
tell apart; `conformance mistakes` shows that it does.
"""

from collections.abc import Iterator
from itertools import product

from conformance.core.questions import Layout, Refusal, ShuffleCase, ShuffleQuestion

OPERATION = "channel_shuffle"
# Implementations with these promises copy bits, and compute nothing with them.
COPIES = ("native", "copy")


def make_case(
    family: str, name: str, about: str, clauses: str, question: ShuffleQuestion, **more: object
) -> ShuffleCase:
    """Makes a case; `clauses` are separated by spaces."""
    return ShuffleCase(OPERATION, name, family, about, tuple(clauses.split()), question, **more)  # type: ignore[arg-type]


def indivisible(channels: int, groups: int) -> Refusal:
    """Returns the error that torch's operator promises where g does not divide C."""
    return Refusal(
        "RuntimeError",
        "Number of channels must be divisible by groups. "
        f"Got {channels} channels and {groups} groups.",
    )


# What a copy must bring through bit for bit, and arithmetic need not.
BIT_PATTERNS = (
    "zeros", "infinities", "subnormals", "quiet-nans", "signalling-nans", "arbitrary-bits",
)  # fmt: skip
# (C, g) with 1 < g < C and g² ≠ C: a shuffle with these differs from its inverse.
PROBES = (
    (6, 2),
    (6, 3),
    (8, 2),
    (8, 4),
    (12, 2),
    (12, 3),
    (12, 4),
    (12, 6),
    (18, 3),
    (20, 5),
    (24, 4),
    (24, 6),
)
ACCEPTED = (
    "f64",
    "f32",
    "f16",
    "bf16",
    "i64",
    "i32",
    "i16",
    "i8",
    "u8",
    "bool",
    "c64",
    "c128",
    "quint8",
)
REFUSED = ("c32", "f8e4m3fn", "u16", "u32")


def _identity_probes() -> Iterator[ShuffleCase]:
    """Probes with distinct N, C, H and W, where g divides H and W: a wrong axis or fold shows.

    An implementation with the channels last gets the same tensors with the channels last.
    """
    for channels, groups in PROBES:
        height, width = [k * groups for k in (2, 3, 4) if k * groups != channels][:2]
        shape = (groups + 1, channels, height, width)
        yield make_case(
            "identity-probe",
            f"identity-probe-f32-c{channels}-g{groups}",
            "Every element has a value of its own: the answer's permutation can be read off.",
            "S1 S15 SA1" if (channels, groups) == (12, 3) else "S1 S15",
            ShuffleQuestion(shape, groups),
        )


def _grid() -> Iterator[ShuffleCase]:
    """Takes all g | C for C ≤ 24, with the degenerate g ∈ {1, C} and g² = C."""
    for channels in range(1, 25):
        for groups in (g for g in range(1, channels + 1) if channels % g == 0):
            degenerate = groups in (1, channels) or groups**2 == channels
            yield make_case(
                "grid",
                f"grid-c{channels}-g{groups}",
                "One of all pairs (C, g) with g | C, C ≤ 24.",
                "S1 S4 SA3" if degenerate else "S1 SA3",
                ShuffleQuestion((2, channels, 3), groups),
            )


def _algebra() -> Iterator[ShuffleCase]:
    """Composes two shuffles, as S2 and S4 do."""
    for channels, groups in ((6, 2), (12, 3), (12, 4), (24, 4)):
        yield make_case(
            "algebra",
            f"inverse-c{channels}-g{groups}",
            "A shuffle with g and then one with C/g groups give the input back.",
            "S2",
            ShuffleQuestion((2, channels, 5), groups, then=(channels // groups,)),
        )
    for channels, groups in ((4, 2), (9, 3), (12, 3)):
        yield make_case(
            "algebra",
            f"twice-c{channels}-g{groups}",
            "Two shuffles with g groups: the input again just where g² = C.",
            "S4",
            ShuffleQuestion((2, channels, 5), groups, then=(groups,)),
        )


def _shapes() -> Iterator[ShuffleCase]:
    """Varies the shape: 3 to 5 axes; a batch of 0, 1 and 5; spatial sizes empty, one, odd."""
    spatials = {
        "3d": ((5,), (1,), (0,)),
        "4d": ((3, 5), (1, 7), (0, 3)),
        "5d": ((3, 1, 5), (2, 3, 3), (2, 0, 3)),
    }
    for (rank, sizes), batch, place in product(spatials.items(), (0, 1, 5), range(3)):
        spatial = sizes[place]
        yield make_case(
            "shapes",
            f"shape-{rank}-n{batch}-{'x'.join(map(str, spatial))}",
            "A shape out of the ordinary.",
            "S1 S10 SA5",
            ShuffleQuestion((batch, 12, *spatial), 3),
        )


def _dtypes() -> Iterator[ShuffleCase]:
    """Takes every dtype of S9, with values that the next narrower dtype does not hold."""
    for name, (channels, groups) in product(ACCEPTED, ((6, 2), (12, 4))):
        yield make_case(
            "dtypes",
            f"dtype-{name}-c{channels}-g{groups}",
            f"The element type {name} goes through unchanged.",
            "S1 S9",
            ShuffleQuestion((2, channels, 2, 5), groups, name, "full-width"),
        )
    yield make_case(
        "dtypes",
        "indivisible-u8-c4-g3",
        "C mod g ≠ 0 has no answer, in whatever dtype.",
        "S7",
        ShuffleQuestion((2, 4, 3), 3, "u8"),
        refusal=indivisible(4, 3),
    )
    yield make_case(
        "dtypes",
        "dtype-quint8-3d-refused",
        "torch's own operator shuffles quint8 in four dimensions alone.",
        "S9",
        ShuffleQuestion((2, 12, 5), 3, "quint8"),
        promises=("native",),
        refusal=Refusal(
            "RuntimeError", "channel_shuffle expects 4D input, but got input with sizes [2, 12, 5]"
        ),
    )
    for name in REFUSED:
        question = ShuffleQuestion((2, 12, 2, 2), 3, name)
        yield make_case(
            "dtypes",
            f"dtype-{name}-refused",
            f"torch's own operator refuses {name}.",
            "S9",
            question,
            promises=("native",),
            refusal=Refusal("NotImplementedError"),
        )
        yield make_case(
            "dtypes",
            f"dtype-{name}",
            f"{name}, which torch's own operator refuses, where it is accepted.",
            "S1",
            question,
            promises=("copy", "arithmetic"),
        )


def _bit_patterns() -> Iterator[ShuffleCase]:
    """Asks for a copy of bits, as S11 promises; arithmetic formulations promise none."""
    for dtype, kind in product(("f64", "f32", "f16", "bf16", "c64", "c128"), BIT_PATTERNS):
        yield make_case(
            "bit-patterns",
            f"bits-{kind}-{dtype}",
            f"{kind.replace('-', ' ')} survive bit for bit.",
            "S11",
            ShuffleQuestion((2, 12, 5), 3, dtype, kind),
            promises=COPIES,
        )


def _layouts() -> Iterator[ShuffleCase]:
    """Lays the input in memory in every way; the values must not depend on the layout."""
    shapes: dict[Layout, tuple[int, ...]] = {
        "channels_last": (2, 12, 3, 5),
        "channels_last_3d": (2, 12, 3, 2, 5),
        "transposed": (2, 12, 3, 5),
        "sliced": (2, 12, 3, 5),
        "expanded": (3, 12, 3, 5),
        "negative": (2, 12, 3, 5),
    }
    for (layout, shape), groups, derivative in product(shapes.items(), (2, 3), ("none", "vjp")):
        suffix = "-vjp" if derivative == "vjp" else ""
        yield make_case(
            "layouts",
            f"layout-{layout.replace('_', '-')}-g{groups}{suffix}",
            f"The input lies {layout.replace('_', ' ')} in memory.",
            "S1 S3" if suffix else "S1",
            ShuffleQuestion(shape, groups, layout=layout, derivative=derivative),  # type: ignore[arg-type]
        )
    strided: tuple[Layout, ...] = ("transposed", "sliced")
    for layout, groups in product(strided, (1, 12)):
        yield make_case(
            "layouts",
            f"no-alias-{layout}-g{groups}",
            f"The input lies {layout} in memory, and the output shares none of it.",
            "S13",
            ShuffleQuestion(shapes[layout], groups, layout=layout, observe="effects"),
            promises=COPIES,
        )
    yield make_case(
        "layouts",
        "no-alias-sliced-one-element",
        "A single element, apart from the end of what it lies in, is copied.",
        "S13",
        ShuffleQuestion((1, 1, 1), 1, layout="sliced", observe="effects"),
        promises=COPIES,
    )
    yield make_case(
        "layouts",
        "indivisible-channels-last-c4-g3",
        "C mod g ≠ 0 has no answer, however the input lies.",
        "S7",
        ShuffleQuestion((2, 4, 3, 5), 3, layout="channels_last"),
        refusal=indivisible(4, 3),
    )
    keeping: tuple[Layout, ...] = ("contiguous", "channels_last", "channels_last_3d")
    for layout, groups in product(keeping, (2, 3)):
        yield make_case(
            "layouts",
            f"strides-{layout.replace('_', '-')}-g{groups}",
            f"The output of a {layout.replace('_', ' ')} input keeps its strides.",
            "S12",
            ShuffleQuestion(
                shapes.get(layout, (2, 12, 3, 5)), groups, layout=layout, observe="strides"
            ),
            promises=("native",),
        )


def _pictures() -> Iterator[ShuffleCase]:
    """Asks what the documents show, and shuffles photographs."""
    yield make_case(
        "pictures",
        "documentation-example",
        "The only example of the documentation: it cannot tell the shuffle from its inverse.",
        "S1 S4 SA6 SA7",
        ShuffleQuestion((1, 4, 2, 2), 2),
    )
    for dtype in ("u8", "f32"):
        yield make_case(
            "pictures",
            f"photographs-{dtype}",
            "Four photographs, their R, G and B planes as twelve channels.",
            "S1",
            ShuffleQuestion((2, 12, 96, 128), 4, dtype, "photographs"),
        )


def _large() -> Iterator[ShuffleCase]:
    """Asks with 10 MB or more, where a parallel kernel takes over; answers are compared by hash.

    Thousands of channels are for copies alone: as a one-hot product they are 19 GFLOP of integers.
    """
    for name, shape, groups, dtype, fill in (
        ("one-sample", (1, 48, 256, 256), 4, "f32", "identity"),
        ("many-samples", (512, 24, 32, 32), 3, "u8", "scattered"),
        ("many-channels", (2, 3072, 32, 32), 64, "i16", "scattered"),
    ):
        yield make_case(
            "large",
            f"large-{name}-{dtype}",
            "More than ten megabytes.",
            "S1",
            ShuffleQuestion(shape, groups, dtype, fill),
            promises=COPIES if name == "many-channels" else (),
            on_the_fly=True,
        )


FAMILIES = (
    _identity_probes,
    _grid,
    _algebra,
    _shapes,
    _dtypes,
    _bit_patterns,
    _layouts,
    _pictures,
    _large,
)
