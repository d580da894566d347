"""The causes that a port's layers are tried for, by name: what was done, and what to write."""

from dataclasses import dataclass
from typing import ClassVar


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
        "bias-added-twice",
        "A bias is added twice.",
        "Add it in the layer alone: torch's recurrent cells have two biases, most others one.",
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
        "epsilon-placement",
        "An epsilon is added to a root where the original adds it under the root, or the other way "
        "round.",
        "Write sqrt(v + eps) or sqrt(v) + eps, as the original has it.",
    ),
    PortingMistake(
        "variance-correction",
        "A variance is divided by n - 1 where the original divides by n, or the other way round.",
        "torch's var and std divide by n - 1, jnp's by n: write correction= in torch, ddof= in "
        "JAX. Norms divide by n.",
    ),
    PortingMistake(
        "weight-as-kept",
        "A weight is used as it is kept where the original changes it first.",
        "Do to the weight what the original does before it multiplies: standardise it, divide it "
        "by its norm, scale it.",
    ),
    PortingMistake(
        "stride",
        "A convolution has another stride than the original's.",
        "Write the strides of the original, at the layer that has them there.",
    ),
    PortingMistake(
        "channel-groups",
        "The channels of a grouped convolution's groups are taken in turn where the original has "
        "blocks of neighbours, or the other way round.",
        "A group is a block of neighbouring channels, going in and coming out: in Flax "
        "feature_group_count; a depthwise kernel's multiples are of one channel after the other.",
    ),
    PortingMistake(
        "pixel-shuffle",
        "Channels become places in another order than the original's.",
        "torch's channels are (C, r, r), TensorFlow's (r, r, C): reshape to the original's, then "
        "move each r behind its side.",
    ),
    PortingMistake(
        "order-of-steps",
        "Two steps are done in the other order: a norm or an activation before a sum, a pool or "
        "one another, or after it.",
        "Follow the original: norm(x + f(x)) is not x + f(norm(x)), nor is relu(a + b) "
        "relu(a) + b.",
    ),
    PortingMistake(
        "other-input",
        "A step is given another value of the same shape than in the original.",
        "Hand over the value of the original: cross attention takes the memory's keys, a residual "
        "what went into its branch.",
    ),
    PortingMistake(
        "sum-or-mean",
        "A mean is taken where the original sums, or the other way round.",
        "Write the reduction of the original.",
    ),
    PortingMistake(
        "sum-or-product",
        "Two values are added where the original multiplies them, or the other way round.",
        "Write the operation of the original.",
    ),
    PortingMistake(
        "difference-sign",
        "A term has the other sign, or what is taken off and what it is taken from are exchanged.",
        "Take off what the original takes off: a relative position is the key's less the "
        "query's, or the other way round.",
    ),
    PortingMistake(
        "count-off-by-one",
        "A divisor is one more or one less than the original's.",
        "Divide by what the original divides by: d/2 or d/2 - 1 frequencies, n or n - 1 values.",
    ),
    PortingMistake(
        "position-offset",
        "Positions begin elsewhere than in the original.",
        "Count from where the original counts: from 0, or from padding_idx + 1 as RoBERTa does.",
    ),
    PortingMistake(
        "rotary-base",
        "The base of the wave lengths is another than the original's.",
        "Write the original's base, as its configuration has it (rope_theta).",
    ),
    PortingMistake(
        "top-k",
        "Another number of the largest values is taken.",
        "Write the k of the original.",
    ),
    PortingMistake(
        "mask-inverted",
        "A mask shows what the original hides, and hides what it shows.",
        "In torch's scaled_dot_product_attention and in JAX True is what may be seen, in "
        "nn.MultiheadAttention and masked_fill what may not.",
    ),
    PortingMistake(
        "forget-bias",
        "One is added to an LSTM's forget gate.",
        "Leave it out: Haiku and TensorFlow's old cells add it, torch and Flax do not.",
    ),
    PortingMistake(
        "gate-exchanged",
        "A gate and what it gates are exchanged: the activation is done to the other one.",
        "Do the activation to the half, or the projection, to which the original does it: in "
        "SwiGLU silu(gate) * up.",
    ),
    PortingMistake(
        "reset-gate",
        "A GRU resets its state before the product with its kernel, not after it.",
        "Multiply the product with its bias by the reset gate, as torch and Flax do (reset_after "
        "in Keras).",
    ),
    PortingMistake(
        "sequence-order",
        "A sequence is run from its other end, over another axis, or its results are not turned "
        "back.",
        "Run over the original's axis (batch_first in torch, time_major in Flax), and turn round "
        "what the way back gives before it is joined.",
    ),
    PortingMistake(
        "softmax-axis",
        "A softmax sums over another axis than the original's.",
        "Write the axis of the original: the one of the keys.",
    ),
)
