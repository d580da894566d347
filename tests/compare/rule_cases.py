"""A function of each primitive that has a rule, and the shapes of what it is given."""
# ruff: noqa: E501  A table has one row in one line.

import jax
import jax.numpy as jnp
import torch
import torch.nn.functional as F
from jax import lax

_A, _M = (4, 6), (6, 3)
_IMAGE, _KERNEL = (2, 6, 6, 3), (3, 3, 3, 4)
_aten = torch.ops.aten


def _conv(x, w):
    return lax.conv_general_dilated(
        x, w, (2, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def _window(f, start):
    return lambda x: lax.reduce_window(x, start, f, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")


def _pulled(f):
    """The gradient of a sum, by which the rules of what is pulled back are asked."""
    return jax.grad(
        lambda *xs: (f(*xs) * jnp.arange(1, 1 + f(*xs).size).reshape(f(*xs).shape)).sum()
    )


def _parts(z):
    return jnp.stack((z.real, z.imag))


_UNARY = {
    "neg": lambda x: -x, "exp": jnp.exp, "exp2": jnp.exp2, "expm1": jnp.expm1, "log": jnp.log,
    "log1p": jnp.log1p, "tanh": jnp.tanh, "sinh": jnp.sinh, "cosh": jnp.cosh,
    "asin": lambda x: jnp.arcsin(x / 8), "acos": lambda x: jnp.arccos(x / 8), "atan": jnp.arctan,
    "asinh": jnp.arcsinh, "acosh": lambda x: jnp.arccosh(x + 2), "atanh": lambda x: lax.atanh(x / 8),
    "sqrt": jnp.sqrt, "rsqrt": lax.rsqrt, "cbrt": lax.cbrt, "logistic": jax.nn.sigmoid,
    "erf": lax.erf, "erfc": lax.erfc, "erf_inv": lambda x: lax.erf_inv(x / 8), "sin": jnp.sin,
    "cos": jnp.cos, "tan": jnp.tan, "abs": lambda x: jnp.abs(x - 0.2), "square": jnp.square,
    "integer_pow": lambda x: x**3, "negative power": lambda x: (x + 1) ** -2, "pow": lambda x: x**1.7,
    "clamp": lambda x: lax.clamp(0.1, x, 0.3), "sign": jnp.sign, "floor": lambda x: jnp.floor(x + 0.01),
    "ceil": lambda x: jnp.ceil(x + 0.01), "round": lambda x: jnp.round(x + 0.01),
    "reduce_sum": lambda x: x.sum(0), "reduce_prod": lambda x: x.prod(1),
    "reduce_max": lambda x: x.max(0), "reduce_min": lambda x: x.min(1), "cumsum": lambda x: jnp.cumsum(x, 1),
    "cumprod": lambda x: jnp.cumprod(x, 1), "cummax": lambda x: lax.cummax(x, 1),
    "cummin": lambda x: lax.cummin(x, 0, reverse=True), "cumlogsumexp": lambda x: lax.cumlogsumexp(x, 1),
    "sort": lambda x: jnp.sort(x, 1), "top_k": lambda x: lax.top_k(x, 2),
    "argmax": lambda x: x.argmax(0), "argmin": lambda x: x.argmin(1),
    "softmax": lambda x: jax.nn.softmax(x, -1), "logsumexp": lambda x: jax.nn.logsumexp(x, 0),
    "reshape": lambda x: x.reshape(3, 8), "transpose": lambda x: x.T, "squeeze": lambda x: x[:1].squeeze(0),
    "expand_dims": lambda x: lax.expand_dims(x, (1,)), "rev": lambda x: x[::-1],
    "broadcast_in_dim": lambda x: jnp.broadcast_to(x, (2, 4, 6)), "slice": lambda x: x[1:3, ::2],
    "split": lambda x: jnp.split(x, 2), "tile": lambda x: jnp.tile(x, (2, 1)),
    "pad": lambda x: jnp.pad(x, 1), "reduce_precision": lambda x: lax.reduce_precision(x, 11, 52),
    "gather": lambda x: x[jnp.array([2, 0])], "dynamic_slice": lambda x: lax.dynamic_slice(x, (1, 2), (2, 2)),
    "copy": lambda x: jnp.array(x, copy=True), "stop_gradient": lax.stop_gradient,
    "optimization_barrier": lax.optimization_barrier,
    "convert": lambda x: x.astype(jnp.float64).astype(jnp.int32),
    "scatter-add": lambda x: x.at[jnp.array([1, 1, 2])].add(x[:3]),
    "scatter": lambda x: x.at[jnp.array([1, 3])].set(2 * x[:2]),
    "reduce_and": lambda x: (x > 0.1).all(0), "reduce_or": lambda x: (x > 0.3).any(0),
    "iota": lambda x: x + jnp.arange(6.0), "stack": lambda x: jnp.stack([x, 2 * x]),
    "is_finite": jnp.isfinite, "real": jnp.real,
    "fft": lambda x: _parts(jnp.fft.fft(x)), "rfft": lambda x: jnp.fft.irfft(jnp.fft.rfft(x, axis=0), axis=0),
    "fft2": lambda x: _parts(jnp.fft.ifft2(jnp.fft.fft2(x))),
    "complex": lambda x: _parts(lax.complex(x, x / 2) * jnp.conj(jnp.exp(lax.complex(x, 3 * x)))),
    "complex quotient": lambda x: _parts(lax.complex(x, x / 2) / (lax.complex(x, x) + x) - x),
    "complex sum": lambda x: (jnp.abs(lax.complex(x, x / 4).sum(0)), _parts(lax.complex(x, x) @ x.T)),
    "scatter-max": lambda x: x.at[jnp.array([1, 1, 2])].max(1.5 * x[:3]),
    "scatter-min": lambda x: x.at[jnp.array([1, 1, 2])].min(x[:3] / 2),
}  # fmt: skip
_BINARY = {
    "add": jnp.add, "sub": jnp.subtract, "mul": jnp.multiply, "div": jnp.divide, "pow": jnp.power,
    "max": jnp.maximum, "min": jnp.minimum, "atan2": jnp.arctan2, "gt": lambda x, y: x > y + 0.001,
    "lt": lambda x, y: x < y + 0.001, "ge": lambda x, y: x >= y + 0.001, "le": lambda x, y: x <= y + 0.001,
    "eq": lambda x, y: x == y + 5, "ne": lambda x, y: x != y + 5,
    "select_n": lambda x, y: jnp.where(x > 0.201, x, y), "concatenate": lambda x, y: jnp.concatenate([x, y], 1),
    "dynamic_update_slice": lambda x, y: lax.dynamic_update_slice(x, y[:2, :2], (1, 1)),
    "add_any": jax.grad(lambda x, y: (x * y + x * x).sum()),
}  # fmt: skip
JAX_CASES = {
    **{name: (f, (_A,)) for name, f in _UNARY.items()},
    **{f"{name} of two": (f, (_A, _A)) for name, f in _BINARY.items()},
    "dot_general": (jnp.matmul, (_A, _M)),
    "einsum": (lambda x, y: jnp.einsum("bik,bjk->bij", x, y), ((2, 3, 4), (2, 5, 4))),
    "conv_general_dilated": (_conv, (_IMAGE, _KERNEL)),
    "conv, pulled": (_pulled(_conv), (_IMAGE, _KERNEL)),
    "reduce_window_sum": (_window(lax.add, 0.0), (_IMAGE,)),
    "reduce_window_max": (_window(lax.max, -jnp.inf), (_IMAGE,)),
    "reduce_window_min": (_window(lax.min, jnp.inf), (_IMAGE,)),
    "select_and_scatter_add": (_pulled(_window(lax.max, -jnp.inf)), (_IMAGE,)),
    "scan": (lambda x: lax.scan(lambda h, r: (h * 0.5 + r, h * r), x[0], x), (_A,)),
    "while": (lambda x: lax.fori_loop(0, 3, lambda i, h: h * 0.5 + i, x), (_A,)),
    "cond": (lambda x: lax.cond(x.shape[0] > 2, jnp.sin, jnp.cos, x), (_A,)),
    "remat": (jax.grad(lambda x: jax.checkpoint(lambda y: jnp.sin(y) ** 2)(x).sum()), (_A,)),
}
# What has no floats, what only a compiler or a mesh adds, and other names of what is asked.
JAX_DISCRETE = {
    "and", "clz", "copy_p", "device_put", "empty", "empty2", "expand_dims", "layout_constraint",
    "nextafter", "not", "or", "population_count", "pvary", "real", "rem", "scatter_add",
    "scatter_max", "scatter_min",
    "sharding_constraint", "shift_left", "shift_right_arithmetic", "shift_right_logical",
    "unstack", "xor",
}  # fmt: skip

_T_UNARY = {
    "exp": torch.exp, "exp2": torch.exp2, "expm1": torch.expm1, "log": torch.log, "log2": torch.log2,
    "log10": torch.log10, "log1p": torch.log1p, "tanh": torch.tanh, "sigmoid": torch.sigmoid,
    "erf": torch.erf, "erfc": torch.erfc, "erfinv": lambda x: torch.erfinv(x / 8), "sqrt": torch.sqrt,
    "rsqrt": torch.rsqrt, "atan": torch.atan, "asin": lambda x: torch.asin(x / 8),
    "acos": lambda x: torch.acos(x / 8), "asinh": torch.asinh, "acosh": lambda x: torch.acosh(x + 2),
    "atanh": lambda x: torch.atanh(x / 8), "sinh": torch.sinh, "sin": torch.sin, "cos": torch.cos,
    "ndtri": lambda x: torch.special.ndtri(x / 8), "log_ndtr": torch.special.log_ndtr,
    "abs": lambda x: (x - 0.2).abs(), "neg": torch.neg, "reciprocal": torch.reciprocal,
    "pow": lambda x: x**1.7, "square": torch.square, "relu": lambda x: F.relu(x - 0.2),
    "clamp": lambda x: x.clamp(0.1, 0.3), "hardtanh": lambda x: F.hardtanh(x, 0.1, 0.3),
    "relu6": lambda x: F.relu6(x * 30), "threshold": lambda x: F.threshold(x - 0.2001, 0.0, 0.0),
    "clamp_min": lambda x: x.clamp_min(0.2), "clamp_max": lambda x: x.clamp_max(0.2),
    "floor": lambda x: (x + 0.01).floor(), "ceil": lambda x: (x + 0.01).ceil(),
    "round": lambda x: (x + 0.01).round(), "trunc": lambda x: (x + 0.01).trunc(), "sign": torch.sign,
    "sgn": torch.sgn, "sum": lambda x: x.sum(0), "mean": lambda x: x.mean(1), "cumsum": lambda x: x.cumsum(1),
    "var": lambda x: x.var(1), "std": lambda x: x.std(0), "amax": lambda x: x.amax(1), "amin": lambda x: x.amin(0),
    "max": lambda x: x.max(1), "min": lambda x: x.min(0), "argmax": lambda x: x.argmax(1),
    "argmin": lambda x: x.argmin(0), "sort": lambda x: x.sort(1), "topk": lambda x: x.topk(2, 1),
    "softmax": lambda x: x.softmax(-1), "log_softmax": lambda x: x.log_softmax(0),
    "logsumexp": lambda x: x.logsumexp(1), "gelu": F.gelu, "silu": F.silu, "softplus": F.softplus,
    "hardswish": F.hardswish, "mish": F.mish, "elu": F.elu, "trace": torch.trace,
    "any": lambda x: (x > 0.1).any(0), "all": lambda x: (x > 0.1).all(1), "not": lambda x: ~(x > 0.2001),
    "and": lambda x: (x > 0.2001) & (x < 0.3001) | (x > 0.1001) ^ (x < 0.0001),
    "logical": lambda x: torch.logical_and(x > 0.2001, torch.logical_or(x < 0.3001, torch.logical_xor(
        x > 0.1001, torch.logical_not(x < 0.0001)))),
    "isfinite": torch.isfinite, "layer_norm": lambda x: F.layer_norm(x, (6,)),
    "embedding": lambda x: F.embedding(torch.tensor([2, 0, 2]), x),
    "fft": lambda x: torch.view_as_real(torch.fft.fft(x)),
    "rfft": lambda x: torch.fft.irfft(torch.fft.rfft(x, dim=0), dim=0),
    "fft2": lambda x: torch.view_as_real(torch.fft.ifft2(torch.fft.fft2(x))),
    "complex": lambda x: torch.view_as_real(torch.complex(x, x / 2) * torch.polar(x, 3 * x).conj()),
    "complex exp": lambda x: torch.exp(torch.complex(x, 3 * x)).abs(),
    "complex pairs": lambda x: torch.view_as_real(torch.view_as_complex(x.reshape(4, 3, 2)) / x[:, :3]),
    "cross_entropy": lambda x: F.cross_entropy(x, torch.tensor([1, 0, 5, 2])),
}  # fmt: skip
_T_BINARY = {
    "add": torch.add, "sub": lambda x, y: torch.sub(x, y, alpha=2), "rsub": torch.rsub,
    "mul": torch.mul, "div": torch.div, "floor_divide": lambda x, y: torch.div(x + 9.01, y + 64 - y, rounding_mode="floor"),
    "pow": torch.pow, "maximum": torch.maximum, "minimum": torch.minimum,
    "where": lambda x, y: torch.where(x > 0.2001, x, y), "gt": lambda x, y: x > y + 0.001,
    "lt": lambda x, y: x < y + 0.001, "ge": lambda x, y: x >= y + 0.001, "le": lambda x, y: x <= y + 0.001,
    "eq": lambda x, y: x == y + 5, "ne": lambda x, y: x != y + 5, "clamp": lambda x, y: x.clamp(y, y + 0.1),
    "scatter_add": lambda x, y: x.scatter_add(0, torch.zeros(4, 6, dtype=torch.long), y),
    "scatter_reduce": lambda x, y: x.scatter_reduce(0, torch.zeros(4, 6, dtype=torch.long), y, "amax"),
    "index_add": lambda x, y: x.index_add(0, torch.tensor([1, 1, 2, 0]), y),
    "index_put": lambda x, y: x.index_put((torch.tensor([1, 1]),), y[:2], accumulate=True),
}  # fmt: skip
_T_MOVES = {
    "moves": lambda x: torch.cat([
        x.clone().reshape(-1), x.flip(0).reshape(-1), x.roll(1, 0).reshape(-1), x.repeat(2, 1).reshape(-1),
        x.tril().reshape(-1), x.triu().reshape(-1), x.gather(1, torch.zeros(4, 1, dtype=torch.long)).reshape(-1),
        x.index_select(0, torch.tensor([2, 0])).reshape(-1), x[torch.tensor([1, 1])].reshape(-1),
        x.masked_fill(torch.eye(4, 6).bool(), 0.0).reshape(-1), torch.stack([x, x]).reshape(-1),
        x.take(torch.tensor([3, 4])), x.masked_select(torch.eye(4, 6).bool()), x.rot90().reshape(-1),
        x.index_copy(0, torch.tensor([1]), x[:1]).reshape(-1), torch.diag_embed(x).reshape(-1),
        x.scatter(1, torch.zeros(4, 1, dtype=torch.long), x[:, :1]).reshape(-1),
        x.repeat_interleave(2).reshape(-1), x.select_scatter(x[0], 0, 1).reshape(-1),
        x.slice_scatter(x[:1], 0, 1, 2).reshape(-1), x.diagonal_scatter(x.diagonal()).reshape(-1),
        x.masked_scatter(torch.eye(4, 6).bool(), x).reshape(-1), torch.block_diag(x, x).reshape(-1),
        F.pad(x, (1, 2)).reshape(-1), x.as_strided_scatter(x[:2], (2, 6), (6, 1)).reshape(-1),
        _aten.lift_fresh_copy(x).reshape(-1), _aten.alias_copy(x).reshape(-1), _aten.copy(x, x).reshape(-1),
        _aten._reshape_copy(x, [24]), x.unfold(1, 2, 2).reshape(-1), _aten.unfold_copy(x, 1, 2, 2).reshape(-1),
        x.to(torch.float64, copy=True).reshape(-1),
        _aten.select_backward(x[0], [4, 6], 0, 1).reshape(-1),
        _aten.slice_backward(x[:2], [4, 6], 0, 1, 3, 1).reshape(-1),
        _aten.diagonal_backward(x.diagonal(), [4, 6], 0, 0, 1).reshape(-1),
        _aten.trace_backward(x[0, 0], [4, 6]).reshape(-1),
    ]),
    "factories": lambda x: x + torch.ones(6) * torch.arange(6.0, dtype=torch.float64) + torch.zeros_like(x),
}  # fmt: skip


def _image(f):
    return f, ((2, 4, 6, 6),)


def _t_pulled(f):
    """The gradient of what a layer gives, with its own values as cotangents."""

    def pulled(*xs):
        xs = [x.detach().requires_grad_() for x in xs]
        out = f(*xs)
        return torch.autograd.grad(out, xs, torch.ones_like(out) * 0.5)

    return pulled


_LAYERS = {
    "max_pool2d": lambda x: F.max_pool2d(x, 3, 2, 1), "avg_pool2d": lambda x: F.avg_pool2d(x, 2, 2),
    "adaptive_avg_pool2d": lambda x: F.adaptive_avg_pool2d(x, 2),
    "upsample_nearest": lambda x: F.interpolate(x, scale_factor=2),
    "upsample_bilinear": lambda x: F.interpolate(x, scale_factor=2, mode="bilinear"),
    "upsample_bicubic": lambda x: F.interpolate(x, scale_factor=2, mode="bicubic"),
    "reflection_pad": lambda x: F.pad(x, (1, 1, 2, 1), mode="reflect"),
    "replication_pad": lambda x: F.pad(x, (1, 1, 2, 1), mode="replicate"),
    "circular_pad": lambda x: F.pad(x, (1, 1, 2, 1), mode="circular"),
    "pixel_shuffle": lambda x: F.pixel_shuffle(x, 2), "pixel_unshuffle": lambda x: F.pixel_unshuffle(x, 2),
    "channel_shuffle": lambda x: F.channel_shuffle(x, 2), "unfold": lambda x: F.unfold(x, 2),
    "group_norm": lambda x: F.group_norm(x, 2), "instance_norm": F.instance_norm,
    "batch_norm": lambda x: F.batch_norm(x, None, None, training=True),
}  # fmt: skip
_LINES = {
    "reflection_pad1d": lambda x: F.pad(x, (1, 2), mode="reflect"),
    "replication_pad1d": lambda x: F.pad(x, (1, 2), mode="replicate"),
    "upsample_nearest1d": lambda x: F.interpolate(x, scale_factor=2),
    "upsample_linear1d": lambda x: F.interpolate(x, scale_factor=2, mode="linear"),
    "avg_pool1d": lambda x: F.avg_pool1d(x, 2), "max_pool1d": lambda x: F.max_pool1d(x, 2),
}  # fmt: skip
_SPACES = {
    "reflection_pad3d": lambda x: F.pad(x, (1,) * 6, mode="reflect"),
    "replication_pad3d": lambda x: F.pad(x, (1,) * 6, mode="replicate"),
    "upsample_nearest3d": lambda x: F.interpolate(x, scale_factor=2),
    "upsample_trilinear3d": lambda x: F.interpolate(x, scale_factor=2, mode="trilinear"),
    "avg_pool3d": lambda x: F.avg_pool3d(x, 2), "max_pool3d": lambda x: F.max_pool3d(x, 2),
    "adaptive_avg_pool3d": lambda x: F.adaptive_avg_pool3d(x, 2),
}  # fmt: skip
_LINEAR = {
    "linear": (F.linear, (_A, (3, 6), (3,))), "matmul": (torch.matmul, (_A, _M)),
    "bmm": (torch.bmm, ((2, 3, 4), (2, 4, 3))), "mv": (torch.mv, (_A, (6,))),
    "dot": (torch.dot, ((6,), (6,))), "vdot": (torch.vdot, ((6,), (6,))),
    "baddbmm": (torch.baddbmm, ((2, 3, 3), (2, 3, 4), (2, 4, 3))),
    "addbmm": (torch.addbmm, ((3, 3), (2, 3, 4), (2, 4, 3))), "addmv": (torch.addmv, ((4,), _A, (6,))),
    "conv1d": (F.conv1d, ((2, 3, 8), (4, 3, 3), (4,))),
    "conv2d": (lambda x, w, b: F.conv2d(x, w, b, 2, 1), ((2, 3, 6, 6), (4, 3, 3, 3), (4,))),
    "conv_transpose2d": (lambda x, w, b: F.conv_transpose2d(x, w, b, 2), ((2, 3, 3, 3), (3, 4, 2, 2), (4,))),
    "attention": (F.scaled_dot_product_attention, ((2, 3, 4), (2, 5, 4), (2, 5, 4))),
}  # fmt: skip
TORCH_CASES = {
    **{name: (f, (_A,)) for name, f in (_T_UNARY | _T_MOVES).items()},
    **{f"{name} of two": (f, (_A, _A)) for name, f in _T_BINARY.items()},
    **_LINEAR,
    **{f"{name}, pulled": (_t_pulled(f), shapes) for name, (f, shapes) in _LINEAR.items()},
    **{name: _image(f) for name, f in _LAYERS.items()},
    **{name: (f, ((2, 3, 8),)) for name, f in _LINES.items()},
    **{f"{name}, pulled": (_t_pulled(f), ((2, 3, 8),)) for name, f in _LINES.items()},
    **{name: (f, ((1, 2, 4, 4, 4),)) for name, f in _SPACES.items()},
    **{f"{name}, pulled": (_t_pulled(f), ((1, 2, 4, 4, 4),)) for name, f in _SPACES.items()},
    "softplus, pulled": (_t_pulled(F.softplus), (_A,)),
    "embedding, pulled": (_t_pulled(lambda x: F.embedding(torch.tensor([2, 0, 2]), x)), (_A,)),
    # Bicubic weights have both signs: its pull has no rule, and its gradient is not judged.
    **{
        f"{name}, pulled": _image(_t_pulled(f))
        for name, f in _LAYERS.items()
        if name != "upsample_bicubic"
    },
}
# What only makes a tensor, or has no float: it is as exact as what it is made of.
TORCH_DISCRETE = {
    "convert_element_type", "empty_like", "empty_permuted", "empty_strided", "fill", "full",
    "full_like", "iota", "isfinite", "isinf", "isnan", "linspace", "new_full", "new_ones",
    "new_zeros", "nonzero", "repeat_interleave", "scalar_tensor", "trace_backward", "tril_indices",
    "triu_indices", "unfold_backward", "zero",
}  # fmt: skip
