"""How a case of channel shuffle is put together."""

from conformance.core.questions import Refusal, ShuffleCase, ShuffleQuestion

OPERATION = "channel_shuffle"
# The promises under which bits are copied, and not computed with.
COPIES = ("native", "copy")


def make_case(
    family: str, name: str, about: str, clauses: str, question: ShuffleQuestion, **more: object
) -> ShuffleCase:
    """A case; `clauses` are separated by blanks."""
    return ShuffleCase(OPERATION, name, family, about, tuple(clauses.split()), question, **more)  # type: ignore[arg-type]


def indivisible(channels: int, groups: int) -> Refusal:
    """The error that torch's operator promises where g does not divide C."""
    return Refusal(
        "RuntimeError",
        "Number of channels must be divisible by groups. "
        f"Got {channels} channels and {groups} groups.",
    )
