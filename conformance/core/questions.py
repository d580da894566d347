"""Questions and cases, as plain data."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from fractions import Fraction
from typing import Any, ClassVar, Generic, Literal, TypeAlias, TypeVar

# A question is about a shuffle, about an average over ranks that are processes or devices, about an
# average over ranks that one process holds, or about what a framework's own class does.
Kind = Literal["shuffle", "average", "virtual", "behaviour"]
Derivative = Literal["none", "vjp", "jvp", "double"]
Transform = Literal["plain", "eager", "compiled", "exported", "vmapped", "scripted"]
Layout = Literal[
    "contiguous",
    "channels_last",
    "channels_last_3d",
    "transposed",
    "sliced",
    "expanded",
    "negative",
]


@dataclass(frozen=True)
class ShuffleQuestion:
    """One question about channel shuffle.

    Attributes:
        shape: (N, C, *spatial); under `vmapped` (V, N, C, *spatial), mapped over V.
        groups: g, as it is handed over; a float or a bool where the case asks for a refusal.
        dtype: a name of `conformance.core.dtypes`.
        fill: what the input holds, a name of `conformance.channel_shuffle.fills`.
        layout: how the input lies in memory.
        derivative: none, one VJP, one JVP, or the VJP of the VJP.
        transform: plain (torch eagerly, JAX under jit), or through the framework's own machinery.
        then: groups of further shuffles applied to the output, in order.
        observe: what the case compares beside the values: strides, effects, graph, modules, or the
            answer between two grouped convolutions.
    """

    kind: ClassVar[Kind] = "shuffle"
    shape: tuple[int, ...]
    groups: int | float | bool
    dtype: str = "f32"
    fill: str = "identity"
    layout: Layout = "contiguous"
    derivative: Derivative = "none"
    transform: Transform = "plain"
    then: tuple[int, ...] = ()
    observe: Literal["values", "strides", "effects", "graph", "modules", "convolutions"] = "values"

    def processes(self, runs: str) -> int:
        """Returns how many processes the question takes: one."""
        del runs
        return 1

    @property
    def channels(self) -> int:
        """Returns C."""
        return self.shape[2 if self.transform == "vmapped" else 1]


@dataclass(frozen=True)
class BehaviourQuestion:
    """What a framework's own class does, beside the values that it computes.

    Attributes:
        probe: `document_subject.function`, as `conformance.behaviours.model` has them: the probe
            of this name asks the framework, the model of this name says what must be answered.
        arguments: the function's keyword arguments, as pairs.
        ranks: how many processes it needs; 1 for a probe that lives in one.
    """

    kind: ClassVar[Kind] = "behaviour"
    probe: str
    arguments: tuple[tuple[str, Any], ...] = ()
    ranks: int = 1

    def processes(self, runs: str) -> int:
        """Returns how many processes the question takes, for any implementation."""
        del runs
        return self.ranks


@dataclass(frozen=True)
class GradientQuestion:
    """One question about averaging gradients over W ranks.

    A rank's share of a micro-batch are consecutive samples, in the order of the ranks. The inputs
    are named `parameter/NAME` and `buffer/NAME` (rank 0's), `inputs/k` (N_k, …) and `targets/k`
    (N_k, …) for micro-batch k from 0, and `targets/k/h` for head h of several. An answer is named
    `gradient/NAME`, or `parameter/NAME` after a step, or `noise/…`; a golden has the name of a
    promise before it. Where items are counted, `weights/k` are (N_k,) or (N_k, T), and where the
    heads' items are counted apart, `weights/k/h`.

    Attributes:
        model: a name of `conformance.gradient_mean.models`.
        shards: for each of the K micro-batches, how many samples each of the W ranks gets.
        loss: mean squared error, softmax cross entropy, the output itself, of models with one, or
            what couples samples: the mean over outputs of the square of their sum, over n.
        reduction: whether the loss averages over its samples, or sums. A sample's squared error is
            the mean over its outputs, or under `sum` their sum; several heads' losses add up.
        dtype: a name of `conformance.core.dtypes`.
        starts: whether torch's ranks start from equal parameters; those of rank 0 are averaged at.
        tier: exact where no order of summation rounds, or bounded.
        observe: the averaged gradients, the parameters after a step of SGD with rate 1/2, the
            noise that a dropout put on every sample, read off the gradients, or the gradients
            clipped to a norm of 1.
        counts: of a mean over the items of a whole step, for each micro-batch the sum of the
            weights that each rank's items have; empty where a loss has no weights.
        terms: of a loss with a term for each head, the counts of the second head and of those
            after it, whose items have weights of their own; `counts` are the first one's.
        items: whether a weight is a sample's or a token's.
        fractions: whether weights are 0, 1/4, 1/2, 3/4 and 1, or 0 and 1 alone.
        windows: where there are several steps, how many micro-batches each has; the answer is that
            of the last one, at the same parameters. Empty where all are of one step.
    """

    kind: ClassVar[Kind] = "average"
    model: str
    shards: tuple[tuple[int, ...], ...]
    loss: Literal["mse", "cross_entropy", "output", "coupled"] = "mse"
    reduction: Literal["mean", "sum"] = "mean"
    dtype: str = "f32"
    starts: Literal["equal", "different"] = "equal"
    tier: Literal["exact", "bounded"] = "exact"
    observe: Literal["gradients", "step", "noise", "clipped"] = "gradients"
    # Inputs are drawn by what a question prints; so that older inputs stay, these are not printed.
    counts: tuple[tuple[float, ...], ...] = field(default=(), repr=False)
    terms: tuple[tuple[tuple[float, ...], ...], ...] = field(default=(), repr=False)
    items: Literal["samples", "tokens"] = field(default="samples", repr=False)
    fractions: bool = field(default=False, repr=False)
    windows: tuple[int, ...] = field(default=(), repr=False)

    def processes(self, runs: str) -> int:
        """Returns how many processes the question takes: W where each rank has its own."""
        return self.world_size if runs == "per_rank" else 1

    @property
    def world_size(self) -> int:
        """Returns W."""
        return len(self.shards[0])

    @property
    def micro_batches(self) -> int:
        """Returns K."""
        return len(self.shards)

    @property
    def all_items(self) -> Fraction:
        """Returns N, the sum of all weights of the step; of several terms the first one's."""
        return self.items_of(0)

    def items_of(self, term: int) -> Fraction:
        """Returns the sum of all weights of the step that a term of the loss has."""
        rows = (self.counts, *self.terms)[term]
        return sum((Fraction(count) for counts in rows for count in counts), Fraction(0))

    def window(self, number: int) -> tuple["GradientQuestion", range]:
        """Returns a window as a question of its own, and its micro-batches; -1 is the last.

        >>> GradientQuestion("linear", ((1,), (2,), (3,)), windows=(2, 1)).window(-1)[1]
        range(2, 3)
        """
        if not self.windows:
            return self, range(self.micro_batches)
        number %= len(self.windows)
        first = sum(self.windows[:number])
        ks = range(first, first + self.windows[number])
        shards, counts = self.shards[ks.start : ks.stop], self.counts[ks.start : ks.stop]
        terms = tuple(rows[ks.start : ks.stop] for rows in self.terms)
        return replace(self, shards=shards, counts=counts, terms=terms, windows=()), ks


@dataclass(frozen=True)
class VirtualQuestion:
    """One question about averaging over W ranks that are virtual: one process holds them all.

    A rank has n samples of each of K micro-batches, and its loss is the mean of w·x over them, so
    that its gradient is the mean of its inputs. The inputs have the names of a `GradientQuestion`:
    `parameter/only.weight` (1, P), `inputs/k` (W·n, P) and `targets/k` (W·n, 1), which the loss
    does not read; the answer is `gradient/only.weight`.

    Attributes:
        world_size: W.
        fill: what the inputs are, and so the gradients: one-hot, a place for each sample (the
            spectrometer: P = K·W·n), or of P = 8: small integers whose sum is exact in the dtype in
            any order; powers of two that are equal on every rank, whose sum passes 2^p; a large
            number among ones, which a running sum swallows; or numbers of which W overflow.
        samples: n.
        micro_batches: K.
        dtype: f64, f32, f16 or bf16.
        divided: whether the implementation may divide where it wants, as long as nothing is lost,
            or is known to sum in the dtype first.
    """

    kind: ClassVar[Kind] = "virtual"
    world_size: int
    fill: Literal["one-hot", "small", "alike", "swallowed", "overflowing"]
    samples: int = 1
    micro_batches: int = 1
    dtype: str = "f32"
    divided: Literal["anywhere", "after"] = "anywhere"

    def processes(self, runs: str) -> int:
        """Returns how many processes the question takes: one holds all ranks."""
        del runs
        return 1

    @property
    def model(self) -> GradientQuestion:
        """Returns the same question in the form from which models and losses are made."""
        name = "spectrometer" if self.fill == "one-hot" else "linear-form"
        shards = ((self.samples,) * self.world_size,) * self.micro_batches
        return GradientQuestion(name, shards, loss="output", dtype=self.dtype)


Question: TypeAlias = ShuffleQuestion | GradientQuestion | VirtualQuestion | BehaviourQuestion
Asked_co = TypeVar("Asked_co", bound=Question, covariant=True)


@dataclass(frozen=True)
class Refusal:
    """An error that is promised: its type by name, and words that its message holds."""

    type: str
    words: str = ""


@dataclass(frozen=True)
class Case(Generic[Asked_co]):
    """One question, the clauses it cites, and which implementations are asked.

    `promises` and `frameworks` name the promises and frameworks whose implementations are asked,
    `asked_of` names the implementations themselves, by shell globs; empty means all. `against`
    names the mistakes that the case was made to kill. The goldens of an `on_the_fly` case are
    hashes, not tensors.
    """

    operation: str
    name: str
    family: str
    about: str
    clauses: tuple[str, ...]
    question: Asked_co
    promises: tuple[str, ...] = ()
    frameworks: tuple[str, ...] = ()
    asked_of: tuple[str, ...] = ()
    against: tuple[str, ...] = ()
    refusal: Refusal | None = None
    on_the_fly: bool = False

    @property
    def id(self) -> str:
        """Returns `operation:name`, unique in the suite."""
        return f"{self.operation}:{self.name}"

    @property
    def kind(self) -> Kind:
        """Returns what kind of question the case asks."""
        return self.question.kind

    @property
    def tier(self) -> str:
        """Returns `exact` or `bounded`."""
        return str(getattr(self.question, "tier", "exact"))

    def parameters(self) -> dict[str, Any]:
        """Returns the question's fields that differ from their defaults, ready for JSON."""
        return {
            each.name: _plain(getattr(self.question, each.name))
            for each in fields(self.question)
            if getattr(self.question, each.name) != each.default
        }


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return value


AnyCase: TypeAlias = Case[Any]
ShuffleCase: TypeAlias = Case[ShuffleQuestion]
