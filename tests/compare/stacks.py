"""Random stacks of layers for torch and for Flax; right ports, and ports wrong in one place.

Two hundred of each: `python tests/compare/stacks.py 200`; after it the first, where it is not 0.
"""

import os
import sys

import flax.linen as fnn
import jax
import jax.numpy as jnp
import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

# Of each kind of layer what is done wrong in a port, and the names that tell of it.
KINDS = {
    "conv": {"activation_added": ("activation",)},
    "conv_same": {"same": ("same-padding", "padding")},
    "depthwise": {"valid": ("padding",)},
    "grouped": {"no_bias": ("bias-left-out",)},
    "dilated": {},
    "transposed": {"flipped": ("kernel-flipped",)},
    "batch_norm": {"epsilon": ("default-epsilon",), "statistics": ("statistics", "norm-axes")},
    "group_norm": {"epsilon": ("default-epsilon",), "groups": ("norm-axes",)},
    "instance_norm": {"epsilon": ("default-epsilon",)},
    "layer_norm": {"epsilon": ("default-epsilon",)},
    "relu": {"other": ("activation",), "none": ("activation",)},
    "relu6": {},
    "silu": {"other": ("activation",)},
    "gelu": {"tanh": ("tanh-gelu",)},
    "gelu_tanh": {"erf": ("erf-gelu",)},
    "tanh": {"none": ("activation",)},
    "leaky_relu": {},
    "softplus": {},
    "hardswish": {},
    "max_pool": {"mean": ("pooling",)},
    "avg_pool": {"max": ("pooling",)},
    "shuffle": {"inverse": ("inverse-groups",), "none": ("no-transpose",)},
    "residual": {"dropped": ("term-left-out",)},
    "concatenated": {"swapped": ("concatenation-order",)},
    "upsample": {},
    "squeeze": {},
}
CHANNELS = 12


def spec_of(seed):
    """Three to eight layers; a stack ends in a mean over places and a dense layer."""
    generator = np.random.default_rng(seed)
    kinds = generator.choice(sorted(KINDS), generator.integers(3, 9))
    side, chosen = 8, []
    for kind in kinds:
        if kind in ("conv_same", "max_pool", "avg_pool") and side <= 4:
            continue
        if kind in ("transposed", "upsample") and side >= 16:
            continue
        side = {"conv_same": side // 2, "max_pool": side // 2, "avg_pool": side // 2,
                "transposed": side * 2, "upsample": side * 2}.get(kind, side)  # fmt: skip
        chosen.append(str(kind))
    return ["conv", *chosen]


def mistake_of(spec, seed):
    """A layer, what is wrong there, and the names of it."""
    generator = np.random.default_rng((seed, 1))
    every = [(i, m) for i, kind in enumerate(spec) for m in KINDS[kind]]
    place, name = every[generator.integers(len(every))]
    return place, name, KINDS[spec[place]][name]


class Of(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1)

    def forward(self, x):
        return F.relu(self.conv(x)) + x


class Concatenated(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Conv2d(CHANNELS, CHANNELS // 2, 1)
        self.b = nn.Conv2d(CHANNELS, CHANNELS // 2, 1)

    def forward(self, x):
        return torch.cat((self.a(x), self.b(x)), 1)


class Squeeze(nn.Module):
    def __init__(self):
        super().__init__()
        self.dense = nn.Linear(CHANNELS, CHANNELS)

    def forward(self, x):
        return x * torch.sigmoid(self.dense(x.mean((2, 3))))[:, :, None, None]


class LayerNorm(nn.LayerNorm):
    def forward(self, x):
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def torch_layer(kind):
    c = CHANNELS
    return {
        "conv": lambda: nn.Conv2d(c, c, 3, padding=1),
        "conv_same": lambda: nn.Conv2d(c, c, 3, 2, padding=1),
        "depthwise": lambda: nn.Conv2d(c, c, 3, padding=1, groups=c, bias=False),
        "grouped": lambda: nn.Conv2d(c, c, 1, groups=3),
        "dilated": lambda: nn.Conv2d(c, c, 3, padding=2, dilation=2),
        "transposed": lambda: nn.ConvTranspose2d(c, c, 2, stride=2),
        "batch_norm": lambda: nn.BatchNorm2d(c),
        "group_norm": lambda: nn.GroupNorm(3, c),
        "instance_norm": lambda: nn.InstanceNorm2d(c, affine=True),
        "layer_norm": lambda: LayerNorm(c),
        "relu": nn.ReLU,
        "relu6": nn.ReLU6,
        "silu": nn.SiLU,
        "gelu": nn.GELU,
        "gelu_tanh": lambda: nn.GELU(approximate="tanh"),
        "tanh": nn.Tanh,
        "leaky_relu": nn.LeakyReLU,
        "softplus": nn.Softplus,
        "hardswish": nn.Hardswish,
        "max_pool": lambda: nn.MaxPool2d(2),
        "avg_pool": lambda: nn.AvgPool2d(2),
        "shuffle": lambda: nn.ChannelShuffle(3),
        "residual": Residual,
        "concatenated": Concatenated,
        "upsample": lambda: nn.Upsample(scale_factor=2),
        "squeeze": Squeeze,
    }[kind]()


class TorchStack(nn.Module):
    def __init__(self, spec):
        super().__init__()
        self.layers = nn.ModuleDict({f"l{i}": torch_layer(kind) for i, kind in enumerate(spec)})
        self.head = nn.Linear(CHANNELS, 5)

    def forward(self, x):
        for layer in self.layers.values():
            x = layer(x)
        return self.head(x.mean((2, 3)))


def shuffled(x, groups):
    *rest, c = x.shape
    return x.reshape(*rest, groups, c // groups).swapaxes(-1, -2).reshape(x.shape)


class FlaxStack(fnn.Module):
    spec: tuple
    place: int = -1
    wrong: str = ""

    @fnn.compact
    def __call__(self, x, train=True):
        for i, kind in enumerate(self.spec):
            x = self.layer(kind, f"layers_l{i}", self.wrong if i == self.place else "", x, train)
        return fnn.Dense(5, name="head")(x.mean((1, 2)))

    def layer(self, kind, name, wrong, x, train):
        c = CHANNELS
        eps = 1e-3 if wrong == "epsilon" else 1e-5
        if kind == "conv":
            y = fnn.Conv(c, (3, 3), padding=1, name=name)(x)
            return fnn.relu(y) if wrong else y
        if kind == "conv_same":
            padding = "SAME" if wrong else ((1, 1), (1, 1))
            return fnn.Conv(c, (3, 3), 2, padding, name=name)(x)
        if kind == "depthwise":
            padding = "VALID" if wrong else 1
            return fnn.Conv(c, (3, 3), padding=padding, feature_group_count=c, use_bias=False,
                            name=name)(x)  # fmt: skip
        if kind == "grouped":
            y = fnn.Conv(c, (1, 1), feature_group_count=3, name=name)
            return y(x) - y.variables["params"]["bias"] if wrong else y(x)
        if kind == "dilated":
            return fnn.Conv(c, (3, 3), padding=2, kernel_dilation=2, name=name)(x)
        if kind == "transposed":
            return Transposed(c, bool(wrong), name=name)(x)
        if kind == "batch_norm":
            fixed = not train if wrong != "statistics" else train
            return fnn.BatchNorm(fixed, momentum=0.9, epsilon=eps, name=name)(x)
        if kind == "group_norm":
            return fnn.GroupNorm(4 if wrong == "groups" else 3, epsilon=eps, name=name)(x)
        if kind == "instance_norm":
            return fnn.InstanceNorm(epsilon=eps, name=name)(x)
        if kind == "layer_norm":
            return fnn.LayerNorm(epsilon=eps, name=name)(x)
        if kind == "residual":
            y = fnn.relu(fnn.Conv(c, (3, 3), padding=1, name=f"{name}_conv")(x))
            return y if wrong else y + x
        if kind == "concatenated":
            a, b = (fnn.Conv(c // 2, (1, 1), name=f"{name}_{part}")(x) for part in "ab")
            return jnp.concatenate((b, a) if wrong else (a, b), -1)
        if kind == "squeeze":
            return (
                x * fnn.sigmoid(fnn.Dense(c, name=f"{name}_dense")(x.mean((1, 2))))[:, None, None]
            )
        return self.function(kind, wrong, x)

    def function(self, kind, wrong, x):
        if wrong == "none":
            return x
        if kind == "shuffle":
            return shuffled(x, 4 if wrong == "inverse" else 3)
        if kind in ("max_pool", "avg_pool"):
            is_max = (kind == "max_pool") != bool(wrong)
            return (fnn.max_pool if is_max else fnn.avg_pool)(x, (2, 2), (2, 2))
        if kind == "upsample":
            n, h, w, c = x.shape
            return jax.image.resize(x, (n, 2 * h, 2 * w, c), "nearest")
        functions = {
            "relu": fnn.relu, "relu6": fnn.relu6, "silu": fnn.silu, "tanh": jnp.tanh,
            "gelu": lambda x: fnn.gelu(x, approximate=False), "gelu_tanh": fnn.gelu,
            "leaky_relu": fnn.leaky_relu, "softplus": fnn.softplus, "hardswish": fnn.hard_swish,
        }  # fmt: skip
        other = {"tanh": "gelu_tanh", "erf": "gelu", "other": "gelu_tanh"}
        return functions[other[wrong] if wrong else kind](x)


class Transposed(fnn.Module):
    features: int
    unflipped: bool

    @fnn.compact
    def __call__(self, x):
        shape = (2, 2, self.features, self.features)
        kernel = self.param("kernel", fnn.initializers.normal(), shape)
        bias = self.param("bias", fnn.initializers.zeros, (self.features,))
        if self.unflipped:
            kernel = kernel[::-1, ::-1]
        return bias + jax.lax.conv_transpose(
            x, kernel, (2, 2), "VALID", transpose_kernel=True,
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )  # fmt: skip


def torch_stack():
    return TorchStack(spec_of(int(os.environ["STACK"])))


def flax_stack():
    return FlaxStack(tuple(spec_of(int(os.environ["STACK"]))))


def wrong_stack():
    seed = int(os.environ["STACK"])
    spec = spec_of(seed)
    place, wrong, _ = mistake_of(spec, seed)
    return FlaxStack(tuple(spec), place, wrong)


def compared(seed, port):
    """What is said of a stack's port."""
    from conformance.compare.compare import compare
    from conformance.compare.load_model import side
    from conformance.compare.settings import Settings

    os.environ["STACK"] = str(seed)
    sides = side(f"torch:{__file__}:torch_stack"), side(f"jax:{__file__}:{port}")
    allowed = frozenset({"biased-running-variance"})
    return compare(sides, Settings(inputs={0: (2, CHANNELS, 8, 8)}, allowed=allowed))


def is_at(layer, place, wrong=""):
    """Whether a place is the layer's, or the code on either side of it.

    An activation that is added before another one, or after it, is another activation there.
    """
    near = [f"layers.l{place}"] + ["layers.l" + str(place + step) for step in (-1, 1)]
    is_code = layer.startswith("code")
    if is_code and (layer.endswith("head") or "before the output" in layer):
        return True
    parts = near if is_code or wrong == "activation_added" else near[:1]
    last = layer.split()[-1]
    return any(part == last or last.startswith(part + ".") for part in parts)


def is_seen(seed):
    """Whether what comes out is another with the mistake: a mean may hide a kernel's order.

    So does an instance norm, of which a mean over places is its bias, whatever came before.
    """
    os.environ["STACK"] = str(seed)
    right, wrong = flax_stack(), wrong_stack()
    with jax.enable_x64(True):
        x = jax.random.normal(jax.random.key(seed), (2, 8, 8, CHANNELS), float)
        variables = jax.tree.map(lambda v: v.astype(float), right.init(jax.random.key(1), x))
        for train in (True, False):
            outs = [
                m.apply(variables, x, train, mutable=["batch_stats"])[0] for m in (right, wrong)
            ]
            if outs[0].shape != outs[1].shape or float(jnp.abs(outs[0] - outs[1]).max()) > 1e-9:
                return True
    return False


def verdict(seed):
    """What is said of a right port and of a wrong one: nothing where both are judged rightly."""
    right = compared(seed, "flax_stack")
    if right.partings or right.unjudged:
        return "accused", (right.partings[:1], right.unjudged[:1])
    place, wrong, names = mistake_of(spec_of(seed), seed)
    what = spec_of(seed)[place], wrong
    if not is_seen(seed):
        return "the same function", ()
    try:
        partings = list(compared(seed, "wrong_stack").partings)
    except Exception as error:  # noqa: BLE001
        return "missed", (*what, str(error)[:80])
    if not partings or not is_at(partings[0].layer, place, wrong):
        return "missed", (*what, place, [p.layer for p in partings][:2])
    if partings[0].cause is None:
        return "unnamed", what
    name = partings[0].cause.name
    return ("named", ()) if name in names else ("misnamed", (*what, name))


def main(first, count):
    """Counts what is said of stacks, and prints all that is not as it should be."""
    counts = {}
    for seed in range(first, first + count):
        said, words = verdict(seed)
        counts[said] = counts.get(said, 0) + 1
        if words:
            print(seed, said, *words, flush=True)
        if seed % 10 == 9:
            print(counts, flush=True)
    print(counts)


if __name__ == "__main__":
    main(int(sys.argv[2]) if len(sys.argv) > 2 else 0, int(sys.argv[1]))
