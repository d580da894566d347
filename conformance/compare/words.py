"""What `conformance compare` says."""

from collections.abc import Iterator

from conformance.compare.compare import AS_IT_RUNS, Compared, Parting
from conformance.compare.load_model import Side
from conformance.compare.settings import Settings
from conformance.compare.trace import owner

_WHERE = {
    "forward": "forward",
    "gradient": "gradient",
    "running statistics": "the running statistics it keeps",
}
_SHOWN = 6


def lines(sides: tuple[Side, Side], settings: Settings, compared: Compared) -> Iterator[str]:
    """The first parting with its cause, the others, what was compared and what was not."""
    weights, modules = len(compared.pairs), len({owner(pair.first) for pair in compared.pairs})
    modes = " and ".join("training" if training else "evaluation" for training in settings.modes)
    yield f"{sides[1].said} held to {sides[0].said}"
    yield (
        f"{weights} weight{'s' * (weights != 1)} of {modules} module{'s' * (modules != 1)} mapped, "
        f"{modes}, seed {settings.seed}, float64 with errors carried"
    )
    if compared.partings:
        told: set[str] = set()
        for parting in compared.partings:
            yield f"parts{' also' * (parting is not compared.partings[0])} at {_headline(parting)}"
            yield from (words for words in _details(parting) if words not in told)
            told |= set(_details(parting))
        yield from _agreed(compared)
    else:
        agreed = _listed([aspect for aspect in _WHERE if aspect in compared.compared])
        yield f"agree: {agreed}" + ", but for what is not judged" * bool(compared.unjudged)
    causes = [p.cause.name if p.cause else "" for p in compared.allowed]
    for name in dict.fromkeys(causes):
        more = causes.count(name) - 1
        headline = _headline(compared.allowed[causes.index(name)])
        yield f"allowed: {headline}" + f", and at {more} more" * bool(more)
    yield _counts(compared)
    for words in compared.unjudged[:_SHOWN]:
        yield f"not judged: {words}"
    if len(compared.unjudged) > _SHOWN:
        yield f"not judged: {len(compared.unjudged) - _SHOWN} more"
    for words in compared.notes:
        yield f"note: {words}"


def _listed(words: list[str]) -> str:
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def _agreed(compared: Compared) -> Iterator[str]:
    """What agrees all the same, where the forward does."""
    parted = {p.aspect for p in compared.partings if p.mode != AS_IT_RUNS}
    agreed = [aspect for aspect in _WHERE if aspect in compared.compared and aspect not in parted]
    if "forward" in agreed:
        in_wide = any(p.mode == AS_IT_RUNS for p in compared.partings)
        yield f"agree: {_listed(agreed)}" + " in float64" * in_wide


def _headline(parting: Parting) -> str:
    cause = "no cause that is known fits" if parting.cause is None else parting.cause.name
    mode = f" in {parting.mode}" if parting.mode else ""
    mode = f", {AS_IT_RUNS}" if parting.mode == AS_IT_RUNS else mode
    return f"{parting.layer}, {_WHERE[parting.aspect]}{mode}: {cause}"


def _details(parting: Parting) -> Iterator[str]:
    if parting.cause is not None and parting.cause.words:
        yield f"    {parting.cause.words}"
    if parting.words:
        yield f"    {parting.words}"
    if parting.cause is not None:
        yield f"    instead: {parting.cause.advice}"


def _counts(compared: Compared) -> str:
    counts = ", ".join(f"{n} of {aspect}" for aspect, n in compared.compared.items())
    return (
        f"held to derived errors: {counts or 'nothing'}; those that agree use at most "
        f"{compared.furthest:.2g} of theirs"
    )
