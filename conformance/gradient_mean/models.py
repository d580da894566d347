"""The models whose gradients are averaged, as plain data from which every framework builds them.

Names and shapes of parameters are torch's: a layer `first` has `first.weight` and `first.bias`.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from math import isqrt, prod
from typing import Literal

from conformance.core.questions import GradientQuestion

Kind = Literal[
    "linear",
    "conv2d",
    "embedding",
    "relu",
    "channel_shuffle",
    "avg_pool",
    "max_pool",
    "batch_norm",
    "layer_norm",
    "attention",
    "flatten",
    "dropout",
    "channel_dropout",
]
# The three projections of an attention with one head.
ATTENDING = ("query", "key", "value")
# The epsilon of both norms is a power of two, so that some variances give roots that are also.
EPSILON = 0.25


@dataclass(frozen=True)
class Layer:
    """One layer.

    Attributes:
        kind: the kind of the layer.
        name: the first part of its parameters' names; empty where it has none.
        weight: the shape of its weight: linear (out, in), conv2d (out, in / groups, h, w),
            embedding (words, features), norms (features,); of attention each of its projections'.
        bias: whether it has a bias of the weight's first extent; norms always have one.
        groups: the groups of a conv2d, or of a channel_shuffle.
        padding: zeros on each side of both axes of a conv2d, whose stride is 1.
        window: the side of a pool's window, and its stride.
        tied_to: the name of the embedding whose weight a linear layer multiplies by.
    """

    kind: Kind
    name: str = ""
    weight: tuple[int, ...] = ()
    bias: bool = False
    groups: int = 1
    padding: int = 0
    window: int = 1
    tied_to: str = ""

    def parameters(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Yields names and shapes of the parameters that the layer owns."""
        if self.kind == "attention":
            for projection in ATTENDING:
                yield f"{self.name}.{projection}.weight", self.weight
        elif self.weight and not self.tied_to:
            yield f"{self.name}.weight", self.weight
        if self.bias:
            yield f"{self.name}.bias", self.weight[:1]

    def buffers(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Yields names and shapes of the running statistics of a batch norm."""
        if self.kind == "batch_norm":
            yield f"{self.name}.running_mean", self.weight
            yield f"{self.name}.running_var", self.weight


@dataclass(frozen=True)
class Model:
    """Layers in order, and heads that each take the last layer's output.

    Attributes:
        sample: the shape of one sample's input.
        layers: the layers that all heads share.
        heads: linear layers, side by side; with several heads the output is a tuple, and so is the
            target. Without a head the output is the last layer's.
        summed: whether the heads' outputs add up to one: experts, which each see every sample.
        rare: linear layers of the sample itself, whose outputs are added where its first feature is
            positive; a batch without such a sample does not use them.
        unused: parameters that no output depends on, as layers.
        frozen: names of parameters that need no gradient; their right answer is zero.
        training: the mode of the batch norms: batch statistics, or running statistics.
        tokens: whether a sample consists of integers below the embedding's number of words.
    """

    about: str
    sample: tuple[int, ...]
    layers: tuple[Layer, ...]
    heads: tuple[Layer, ...] = ()
    summed: bool = False
    rare: tuple[Layer, ...] = ()
    unused: tuple[Layer, ...] = ()
    frozen: tuple[str, ...] = ()
    training: bool = True
    tokens: bool = False

    def parameters(self) -> dict[str, tuple[int, ...]]:
        """Returns names and shapes, in the order of the layers, the heads and the unused."""
        everything = (*self.layers, *self.heads, *self.rare, *self.unused)
        return {name: shape for layer in everything for name, shape in layer.parameters()}

    def buffers(self) -> dict[str, tuple[int, ...]]:
        """Returns names and shapes, in the order of the layers."""
        return {name: shape for layer in self.layers for name, shape in layer.buffers()}

    def outputs(self) -> tuple[tuple[int, ...], ...]:
        """Returns the shape of one sample of each output."""
        shape = self.sample
        for layer in self.layers:
            shape = _after(layer, shape)
        shapes = tuple((*shape[:-1], head.weight[0]) for head in self.heads) or (shape,)
        return shapes[:1] if self.summed else shapes


def _after(layer: Layer, shape: tuple[int, ...]) -> tuple[int, ...]:
    match layer.kind:
        case "linear":
            return (*shape[:-1], layer.weight[0])
        case "embedding":
            return (*shape, layer.weight[1])
        case "conv2d":
            sides = (
                side + 2 * layer.padding - kernel + 1
                for side, kernel in zip(shape[1:], layer.weight[2:], strict=True)
            )
            return (layer.weight[0], *sides)
        case "avg_pool" | "max_pool":
            return (shape[0], *(side // layer.window for side in shape[1:]))
        case "flatten":
            return (prod(shape),)
        case (
            "attention"
            | "relu"
            | "channel_shuffle"
            | "batch_norm"
            | "layer_norm"
            | "dropout"
            | "channel_dropout"
        ):
            return shape


def attention_scale(layer: Layer) -> Fraction:
    """Returns what scores are multiplied by: 1 / √d, where d is a power of four."""
    return Fraction(1, isqrt(layer.weight[0]))


def _linear(name: str, features_in: int, features_out: int, *, bias: bool = True) -> Layer:
    return Layer("linear", name, (features_out, features_in), bias=bias)


_RELU, _FLATTEN = Layer("relu"), Layer("flatten")
_HIDDEN = (_linear("first", 4, 8), _RELU)

MODELS = {
    "linear": Model("linear regression", (4,), (_linear("only", 4, 2),)),
    "mlp": Model("two linear layers with a ReLU between", (4,), (*_HIDDEN, _linear("last", 8, 2))),
    "classifier": Model(
        "two linear layers with a ReLU between, and a logit for each of four classes",
        (4,),
        (*_HIDDEN, _linear("last", 8, 4)),
    ),
    "convnet": Model(
        "a unit of ShuffleNet without its norms: grouped convolution, ReLU, shuffle, 1×1 "
        "convolution, average pool, linear layer",
        (6, 4, 4),
        (
            Layer("conv2d", "grouped", (6, 2, 3, 3), bias=True, groups=3, padding=1),
            _RELU,
            Layer("channel_shuffle", groups=3),
            Layer("conv2d", "pointwise", (4, 6, 1, 1)),
            Layer("avg_pool", window=2),
            _FLATTEN,
            _linear("last", 16, 2),
        ),
    ),
    "max_pool": Model(
        "a plain convolution, a max pool and a linear layer",
        (2, 5, 5),
        (
            Layer("conv2d", "plain", (4, 2, 2, 2), bias=True),
            Layer("max_pool", window=2),
            _FLATTEN,
            _linear("last", 16, 2),
        ),
    ),
    "batch_norm": Model(
        "a batch norm in training between two linear layers, of which it makes the first one's "
        "bias idle: it has none",
        (4,),
        (
            _linear("first", 4, 8, bias=False),
            Layer("batch_norm", "norm", (8,), bias=True),
            _RELU,
            _linear("last", 8, 2),
        ),
    ),
    "frozen_norm": Model(
        "a batch norm in evaluation, as in fine-tuning, between two linear layers",
        (4,),
        (
            _linear("first", 4, 8),
            Layer("batch_norm", "norm", (8,), bias=True),
            _RELU,
            _linear("last", 8, 2),
        ),
        training=False,
    ),
    "layer_norm": Model(
        "a layer norm between two linear layers",
        (4,),
        (
            _linear("first", 4, 8),
            Layer("layer_norm", "norm", (8,), bias=True),
            _linear("last", 8, 2),
        ),
    ),
    "tied": Model(
        "an embedding of four tokens, and its own weight as the last layer",
        (4,),
        (
            Layer("embedding", "words", (8, 4)),
            _linear("mix", 4, 4, bias=False),
            Layer("linear", "logits", (8, 4), tied_to="words"),
        ),
        tokens=True,
    ),
    "tokens": Model(
        "an embedding of four tokens, and two linear layers over each, of which the last has a "
        "logit for each of four classes",
        (4,),
        (Layer("embedding", "words", (8, 4)), *_HIDDEN, _linear("last", 8, 4)),
        tokens=True,
    ),
    "frozen": Model(
        "two linear layers, of which the first is frozen",
        (4,),
        (*_HIDDEN, _linear("last", 8, 2)),
        frozen=("first.weight", "first.bias"),
    ),
    "unused": Model(
        "two linear layers, and a third that no output depends on",
        (4,),
        (*_HIDDEN, _linear("last", 8, 2)),
        unused=(_linear("idle", 4, 2),),
    ),
    "two_heads": Model(
        "a hidden layer with two heads: the output is a tuple",
        (4,),
        _HIDDEN,
        heads=(_linear("left", 8, 2), _linear("right", 8, 4)),
    ),
    "attention": Model(
        "an embedding of four tokens, causal attention with one head, and a logit for each of four "
        "classes of every token",
        (4,),
        (
            Layer("embedding", "words", (8, 4)),
            Layer("attention", "attend", (4, 4)),
            _linear("last", 4, 4),
        ),
        tokens=True,
    ),
    "two_next": Model(
        "an embedding of four tokens, and two heads over each, for the next token and a later one",
        (4,),
        (Layer("embedding", "words", (8, 4)), *_HIDDEN),
        heads=(_linear("next", 8, 4), _linear("after_next", 8, 4)),
        tokens=True,
    ),
    "experts": Model(
        "a hidden layer, and two experts that each see every sample: their outputs add up",
        (4,),
        _HIDDEN,
        heads=(_linear("expert_0", 8, 2), _linear("expert_1", 8, 2)),
        summed=True,
    ),
    "gated": Model(
        "two linear layers, and a way past them that only some samples open",
        (4,),
        (*_HIDDEN, _linear("last", 8, 2)),
        rare=(_linear("past", 4, 2), _linear("beside", 4, 2, bias=False)),
    ),
}


SPECTROMETER = "spectrometer"
# The same for tokens, of which a sample has so many.
TOKEN_SPECTROMETER, TOKENS = "token_spectrometer", 5
# Virtual ranks that are no spectrometer have this model.
LINEAR_FORM = "linear-form"
FEATURES = 8
# Questions that observe noise have these models.
NOISY = ("dropout", "channel_dropout")
# The noise of a sample has a bit for each of its channels and features.
NOISE = (32, 2)


def model_of(question: GradientQuestion) -> Model:
    """Returns the model that a question names.

    The `spectrometer` has a weight for each sample of all micro-batches, and sample b's input is
    zero except at b: the gradient of w·x then shows how much each sample counts.

    >>> model_of(GradientQuestion("spectrometer", ((1, 2), (3, 4)), "output")).parameters()
    {'only.weight': (1, 10)}

    A noisy model has an embedding with rows of its own for every sample. The gradient of a row
    shows which elements of the sample were dropped, with probability 1/2, and which were doubled.

    >>> model_of(GradientQuestion("dropout", ((1, 1),), "output")).parameters()
    {'words.weight': (64, 2), 'only.weight': (1, 2)}

    A name with a number behind it has one head of the model alone, and the others' parameters.

    >>> model_of(GradientQuestion("two_heads/1", ((1, 1),))).outputs()
    ((4,),)
    """
    if question.model in MODELS:
        return MODELS[question.model]
    whole, is_part, head = question.model.rpartition("/")
    if is_part:
        model = MODELS[whole]
        one = model.heads[int(head)]
        others = tuple(layer for layer in model.heads if layer is not one)
        return replace(model, heads=(one,), unused=(*model.unused, *others))
    if question.model == LINEAR_FORM:
        return Model("w·x", (FEATURES,), (_linear("only", FEATURES, 1, bias=False),))
    samples = sum(sum(shards) for shards in question.shards)
    if question.model == TOKEN_SPECTROMETER:
        rows = Layer("embedding", "only", (samples * TOKENS, 1))
        return Model("a number for each token", (TOKENS,), (rows,), tokens=True)
    if question.model in NOISY:
        channels, features = NOISE
        return Model(
            "an embedding, a dropout, and the sum over features",
            (channels,),
            (
                Layer("embedding", "words", (samples * channels, features)),
                Layer("dropout" if question.model == "dropout" else "channel_dropout"),
                _linear("only", features, 1, bias=False),
            ),
            frozen=("only.weight",),
            tokens=True,
        )
    only = _linear("only", samples, 1, bias=False)
    return Model("w·x, with a weight for each sample", (samples,), (only,))
