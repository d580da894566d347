"""What `conformance compare` says."""

from collections.abc import Iterator

from conformance.compare.compare import Compared, Settings
from conformance.compare.held_to import Parting
from conformance.compare.load_model import Side
from conformance.compare.trace import owner

_WHERE = {
    "forward": "forward",
    "gradient": "gradient",
    "running statistics": "the running statistics it keeps",
}


def lines(sides: tuple[Side, Side], settings: Settings, found: Compared) -> Iterator[str]:
    """The first parting with its cause, the others, and what was compared."""
    layers = len({owner(pair.first) for pair in found.pairs})
    mode = "training" if settings.training else "evaluation"
    yield f"{sides[1].said} held to {sides[0].said}"
    yield (
        f"{len(found.pairs)} weights of {layers} modules mapped, {mode}, seed {settings.seed}, "
        f"{len(found.judged)} draws of weights"
    )
    if found.partings:
        first, *others = found.partings
        yield f"parts at {_headline(first)}"
        yield from _details(first)
        for parting in others:
            yield f"parts also at {_headline(parting)}"
            yield from _details(parting)
    else:
        yield "agree: forward" + (", gradient and running statistics" if settings.training else
                                  " and gradient")  # fmt: skip
    for parting in found.allowed:
        yield f"allowed: {_headline(parting)}"
        yield from _details(parting)
    yield _counts(found)
    for words in dict.fromkeys(words for judged in found.judged for words in judged.unjudged):
        yield f"compared by bits alone: {words}"


def _headline(parting: Parting) -> str:
    cause = "no cause that is known fits" if parting.cause is None else parting.cause.name
    other = "" if parting.other in ("", parting.layer) else f" ({parting.other})"
    return f"{parting.layer}{other}, {_WHERE[parting.aspect]}: {cause}"


def _details(parting: Parting) -> Iterator[str]:
    if parting.cause is not None and parting.cause.words:
        yield f"    {parting.cause.words}"
    yield f"    {parting.words}"
    if parting.cause is not None:
        yield f"    instead: {parting.cause.advice}"


def _counts(found: Compared) -> str:
    compared = sum(judged.compared for judged in found.judged)
    equal = sum(judged.equal_bits for judged in found.judged)
    furthest = max((judged.furthest for judged in found.judged), default=0.0)
    return (
        f"{compared} arrays held to a derived bound: {equal} are the bits of the exact answer, "
        f"the others that agree use at most {furthest:.2g} of their bound"
    )
