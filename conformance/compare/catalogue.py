"""The causes that a port's layers are tried for, by name: what was done, and what to write."""

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, ClassVar

from conformance.core.mistake import Mistake
from conformance.core.outcomes import UsageError
from conformance.subjects import catalogue as of_operations


@dataclass(frozen=True)
class PortingMistake:
    """A known way to get a port wrong; the code that tries it is where layers are tried.

    Attributes:
        name: what `conformance compare` prints, and what `--allow` takes.
        done: one sentence on what was done.
        advice: what to write instead.
    """

    name: str
    done: str
    advice: str

    operation: ClassVar = "porting"
    seen: ClassVar = ""


MISTAKES = (
    PortingMistake(
        "same-padding",
        "A convolution or pool pads as SAME does where the original pads the same on both sides: "
        "at stride 2 SAME pads an even side after alone.",
        "In Flax write padding=((1, 1), (1, 1)) for torch's padding=1.",
    ),
    PortingMistake(
        "padding",
        "A convolution or pool pads otherwise than the original, or counts its padding in a mean.",
        "Write the padding of each axis, (before, after), as the original has it.",
    ),
    PortingMistake(
        "dilation",
        "A kernel is not spread as the original's is.",
        "torch's dilation is Flax's kernel_dilation, not input_dilation.",
    ),
    PortingMistake(
        "kernel-not-transposed",
        "A kernel was copied without moving its axes.",
        "A Flax kernel is (in, out) or (H, W, in, out), a torch weight (out, in) or "
        "(out, in, H, W): transpose by (1, 0), or by (2, 3, 1, 0).",
    ),
    PortingMistake(
        "kernel-flipped",
        "The kernel is turned around: a convolution as mathematics has it.",
        "Layers correlate, in torch and in Flax: leave the kernel as it is.",
    ),
    PortingMistake(
        "bias-left-out",
        "A layer does not add the bias that the original adds.",
        "Give the layer use_bias=True, and copy the bias.",
    ),
    PortingMistake(
        "default-epsilon",
        "A norm has the epsilon that is its framework's default, and not the original's.",
        "Write epsilon= of every norm: torch's default is 1e-5, Flax's 1e-5 for BatchNorm and 1e-6 "
        "for the others, Keras' 1e-3.",
    ),
    PortingMistake(
        "epsilon",
        "A norm has another epsilon than the original.",
        "Write the original's epsilon.",
    ),
    PortingMistake(
        "statistics",
        "A batch norm used its running statistics where the original used the batch's, or the "
        "other way round.",
        "Train and evaluate both: model.train() in torch is use_running_average=False in Flax.",
    ),
    PortingMistake(
        "batchnorm-momentum-swapped",
        "The running statistics move by 1 − momentum where the original moves them by momentum.",
        "torch's momentum is the share of the new statistics, Flax's that of the old ones: "
        "torch's 0.1 is Flax's 0.9.",
    ),
    PortingMistake(
        "momentum",
        "The running statistics move by another share than the original's.",
        "Write the original's momentum, in Flax 1 − torch's.",
    ),
    PortingMistake(
        "biased-running-variance",
        "The running variance is the biased one, over n, where the original keeps the unbiased "
        "one, over n − 1.",
        "Flax's BatchNorm keeps the biased variance: scale it by n/(n − 1) in a norm of your own, "
        "or tell the comparison to allow it.",
    ),
    PortingMistake(
        "unbiased-running-variance",
        "The running variance is the unbiased one, over n − 1, where the original keeps the "
        "biased one.",
        "Scale the variance by (n − 1)/n before it is mixed in.",
    ),
    PortingMistake(
        "tanh-gelu",
        "GELU by the tanh approximation where the original has the exact one.",
        "In JAX write gelu(x, approximate=False): torch's default is exact, JAX's is not.",
    ),
    PortingMistake(
        "erf-gelu",
        "The exact GELU where the original has the tanh approximation.",
        "In torch write gelu(x, approximate='tanh').",
    ),
    PortingMistake(
        "activation",
        "Another activation than the original's, or none.",
        "Put the original's activation in this place.",
    ),
    PortingMistake(
        "pooling",
        "Another pool than the original's: its kind, side or stride.",
        "Write the window, the strides and the kind of the original.",
    ),
    PortingMistake(
        "reduced-precision-matmul",
        "Operands of a product were rounded to fewer bits (TF32, bfloat16, float16).",
        "In JAX set jax_default_matmul_precision to 'highest', in torch leave allow_tf32 off; give "
        "layers the dtype of the original.",
    ),
    PortingMistake(
        "reduced-precision",
        "What came out has only the bits of a narrower type.",
        "Give the layer the original's dtype: in Flax `dtype` is what it computes in.",
    ),
    PortingMistake(
        "norm-axes",
        "A norm takes its mean and variance over other axes than the original's, or in other "
        "groups.",
        "Write the kind of norm and the number of groups of the original: InstanceNorm is "
        "GroupNorm with a group for each channel; GroupNorm with one group is over (C, H, W), "
        "not over the channels of each place.",
    ),
    PortingMistake(
        "norm-left-out",
        "A norm of the original is not there, or its result is not used.",
        "Put the norm where the original has it: the last one of a stack is easily forgotten.",
    ),
    PortingMistake(
        "norm-weight-plus-one",
        "A norm multiplies by 1 + w where the original multiplies by w, or its weight is off by "
        "one.",
        "Gemma's RMSNorm keeps w − 1; Llama's keeps w: multiply by what the original multiplies "
        "by.",
    ),
    PortingMistake(
        "rms-norm-centred",
        "An RMSNorm takes the mean off first, as a layer norm does.",
        "RMSNorm divides by the root of the mean square alone: in Flax nn.RMSNorm.",
    ),
    PortingMistake(
        "rotary-layout",
        "A rotary embedding rotates neighbouring entries where the original rotates the two "
        "halves.",
        "Pair entry i with i + d/2, as rotate_half does, or permute the rows of the query's and "
        "key's kernels.",
    ),
    PortingMistake(
        "rotary-sign",
        "A rotary embedding rotates the other way round than the original's.",
        "rotate_half joins −second and first: the second half has its sign changed, not the first.",
    ),
    PortingMistake(
        "causal-mask",
        "A mask was forgotten, added, or is shifted.",
        "Mask what comes later than each query: the diagonal stays.",
    ),
    PortingMistake(
        "attention-scale",
        "Attention's scores are scaled otherwise than the original's.",
        "Divide by the root of a head's width, once.",
    ),
    PortingMistake(
        "scale-left-out",
        "A constant factor is left out.",
        "Multiply by the factor of the original in this place.",
    ),
    PortingMistake(
        "term-left-out",
        "One of two terms of a sum is left out.",
        "Add what the original adds in this place.",
    ),
    PortingMistake(
        "factor-left-out",
        "One of two factors of a product is left out.",
        "Multiply by what the original multiplies by in this place: a gate, a mask, a scale.",
    ),
    PortingMistake(
        "token-position",
        "Positions are added before the class token is joined, so that it has none.",
        "Join the token first, then add the positions to all.",
    ),
    PortingMistake(
        "padding-row-gradient",
        "The row of an embedding that the original keeps for padding gets a gradient.",
        "torch's padding_idx takes the row out of training: mask its gradient, or tell the "
        "comparison to allow it.",
    ),
    PortingMistake(
        "heads-split",
        "An axis is split as (D, H) where the original splits it as (H, D).",
        "Reshape to (…, heads, width), in this order, then move the axes.",
    ),
    PortingMistake(
        "heads-repeated",
        "Shared heads are repeated all in turn where each is repeated by itself, or the other way "
        "round.",
        "torch's repeat_interleave is jnp.repeat, torch's repeat is jnp.tile.",
    ),
    PortingMistake(
        "axes-not-swapped",
        "Two axes that the original swaps are not swapped.",
        "Swap the axes, also where both have the same length.",
    ),
    PortingMistake(
        "concatenation-order",
        "Parts are joined, or taken, in another order than the original's.",
        "Write the parts in the order of the original.",
    ),
    PortingMistake(
        "cyclic-shift",
        "A cyclic shift is left out, or goes the other way.",
        "Roll by the original's amount, with its sign, and roll back where the original does.",
    ),
    PortingMistake(
        "split-interleaved",
        "Each part of a split has every second entry, where the original takes blocks.",
        "Use jnp.split, which takes blocks, as torch.chunk does.",
    ),
    PortingMistake(
        "gate-order",
        "The gates of a recurrent cell are in another order than the original's.",
        "torch's rows are i, f, g, o in an LSTM and r, z, n in a GRU.",
    ),
    PortingMistake(
        "layer-scale-left-out",
        "A weight that scales a branch is not multiplied by.",
        "Multiply the branch by its scale, as the original does.",
    ),
    PortingMistake(
        "embedding-scale",
        "An embedding is multiplied by the root of its width where the original does not.",
        "Leave the factor out, or put it where the original has it.",
    ),
    PortingMistake(
        "interpolation",
        "A resize interpolates otherwise than the original's.",
        "jax.image.resize is torch's interpolate with align_corners=False; write the same method.",
    ),
    PortingMistake(
        "pooling-counts-padding",
        "A mean pool counts its padding where the original does not, or the other way round.",
        "In Flax avg_pool write count_include_pad as the original has it.",
    ),
    PortingMistake(
        "softmax-axis",
        "A softmax sums over another axis than the original's.",
        "Write the axis of the original: the one of the keys.",
    ),
)


def all_mistakes() -> tuple[Mistake[Any] | PortingMistake, ...]:
    """Every mistake that has a name: those of the operations, then those of ports."""
    return (*of_operations(), *MISTAKES)


_BY_NAME = {m.name: m for m in all_mistakes()}


def named(names: Iterable[str]) -> frozenset[str]:
    """These names, all of which something explains.

    Raises:
        UsageError: for one that nothing does; it tells the nearest.
    """
    for name in names:
        if name not in _BY_NAME:
            near = ", ".join(get_close_matches(name, _BY_NAME, cutoff=0.3)) or "nothing"
            raise UsageError(
                f"no cause is called {name!r}; nearest: {near}; `conformance list mistakes` names "
                "them all"
            )
    return frozenset(names)


@dataclass(frozen=True)
class Cause:
    """What an answer shows: the name of a known mistake, and what was seen of it, in words.

    Raises:
        ValueError: for a name that nothing explains.
    """

    name: str
    words: str

    def __post_init__(self) -> None:
        """Refuse a name that nobody could look up."""
        if self.name not in _BY_NAME:
            raise ValueError(f"no mistake is called {self.name!r}: it belongs in MISTAKES")

    @property
    def advice(self) -> str:
        """What to write instead."""
        return _BY_NAME[self.name].advice
