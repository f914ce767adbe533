"""Layers. What makes them Modules is in module.py.

    (1)  Linear:           y = φ(x W + b),  W and b ~ U(−1/√in, 1/√in)                       [nn.linear-init]
    (2)  Dropout:          y = m ⊙ x / (1 − p),  m ~ Bernoulli(1 − p), so E y = x            [nn.dropout]
    (3)  Conv2d:           y = x ∗ w + b,  w and b ~ U(−1/√in, 1/√in),  in = k² c_in         [nn.conv-init]
    (4)  SelfAttention:    softmax(q kᵀ / √d) v  in each head, of width d = C / heads        [nn.attention]
    (5)  time_embedding:   e(t) = (sin ω₁t, ..., sin ωₙt, cos ω₁t, ..., cos ωₙt),
                           so ⟨e(t), e(t')⟩ = Σ cos ωᵢ(t − t')                               [nn.time-embedding]

The initialisations are those of PyTorch's layers, for sizes that their users know to work. Images are channel-last,
(B, H, W, C): see conv.py. Vaswani et al., Attention is all you need, 2017, sections 3.2 for (4) and 3.5 for (5).
"""
import numpy as np

from . import ops
from .conv import check_step, conv2d
from .linear import ACTIVATIONS, linear
from .module import Module, Parameter, check_state
from .norm import group_norm


class Linear(Module):
    """y = φ(x W + b): x (..., n_in) to (..., n_out), `activation` None or the name of an op; no b if not `bias`."""

    def __init__(self, n_in: int, n_out: int, activation: str | None = None, *, bias: bool = True,
                 rng: np.random.Generator):
        check_rng(rng)
        if not _whole(n_in, n_out):
            raise ValueError(f"Linear needs at least one input and one output, not {n_in} and {n_out}")
        check_activation(activation)
        bound = n_in ** -0.5
        self.activation = activation
        self.w = Parameter(rng.uniform(-bound, bound, (n_in, n_out)))                      # (1)
        self.b = Parameter(rng.uniform(-bound, bound, n_out)) if bias else None

    def forward(self, x):
        if getattr(x, "shape", ())[-1:] != self.w.shape[:1]:
            raise ValueError(f"Linear({self.w.shape[0]}, {self.w.shape[1]}) was given {np.shape(x)}, "
                             f"a {type(x).__name__}: the last axis must be {self.w.shape[0]}")
        if self.activation in ACTIVATIONS:
            return linear(x, self.w, self.b, activation=self.activation)             # (1)
        return getattr(ops, self.activation)(linear(x, self.w, self.b))

    def describe(self):
        return f"Linear({self.w.shape[0]} -> {self.w.shape[1]}{', ' + self.activation if self.activation else ''})"


class Dropout(Module):
    """In training, zeroes each element with probability p and scales the others by 1 / (1 − p)."""
    draws = True

    def __init__(self, p: float = 0.5):
        if not 0 <= p < 1:
            raise ValueError(f"dropout needs 0 <= p < 1, not {p}")
        self.p = p

    def forward(self, x, rng: np.random.Generator):
        if not self.training or self.p == 0:
            return x
        if rng is None:
            raise ValueError("dropout in training draws: give it a numpy.random.Generator, or call eval()")
        return x * ((rng.random(x.shape, np.float32) >= self.p).astype(x.dtype) / x.dtype.type(1 - self.p))    # (2)

    def describe(self):
        return f"Dropout({self.p})"


class Embedding(Module):
    """A table of n vectors of length dim, looked up by integers: (...) to (..., dim). N(0, 1) at the start."""

    def __init__(self, n: int, dim: int, *, rng: np.random.Generator):
        check_rng(rng)
        if not _whole(n, dim):
            raise ValueError(f"Embedding needs at least one vector and one number in it, not {n} and {dim}")
        self.w = Parameter(rng.standard_normal((n, dim)))

    def forward(self, index):
        index = np.asarray(index)
        if index.dtype.kind not in "iu":
            raise ValueError(f"Embedding takes integers, not {index.dtype}")
        if index.size and not 0 <= index.min() <= index.max() < len(self.w):
            raise ValueError(f"Embedding of {len(self.w)} was asked for {index.min()} to {index.max()}")
        return self.w[index]

    def describe(self):
        return f"Embedding({self.w.shape[0]}, {self.w.shape[1]})"


class Conv2d(Module):
    """y = x ∗ w + b: images (B, H, W, c_in) to (B, H', W', c_out), H' = (H + 2 padding − kernel) // stride + 1.

    `padding` is of zeros, on each side; None is kernel // 2, which for an odd kernel and stride 1 keeps H and W.
    """

    def __init__(self, c_in: int, c_out: int, kernel: int = 3, *, stride: int = 1, padding: int | None = None,
                 bias: bool = True, rng: np.random.Generator):
        check_rng(rng)
        if not _whole(c_in, c_out, kernel):
            raise ValueError(f"Conv2d needs channels and a kernel of at least 1, not {c_in}, {c_out} and {kernel}")
        self.stride, self.padding = check_step(stride, kernel // 2 if padding is None else padding)
        bound = (kernel * kernel * c_in) ** -0.5
        self.w = Parameter(rng.uniform(-bound, bound, (kernel, kernel, c_in, c_out)))      # (3)
        self.b = Parameter(rng.uniform(-bound, bound, c_out)) if bias else None

    def forward(self, x):
        return conv2d(x, self.w, self.b, stride=self.stride, padding=self.padding)         # (3)

    def describe(self):
        k, _, c_in, c_out = self.w.shape
        return f"Conv2d({c_in} -> {c_out}, {k} x {k}{f', stride {self.stride}' if self.stride > 1 else ''})"


class GroupNorm(Module):
    """Each image's groups of channels to mean 0 and variance 1; gain and shift, and SiLU if `silu`: x (B, ..., C)."""

    def __init__(self, groups: int, channels: int, silu: bool = False):
        if not _whole(groups, channels) or channels % groups:
            raise ValueError(f"GroupNorm needs channels that are a multiple of groups, not {channels} and {groups}")
        self.groups, self.silu = groups, silu
        self.gain, self.shift = Parameter(np.ones(channels)), Parameter(np.zeros(channels))

    def forward(self, x):
        return group_norm(x, self.gain, self.shift, self.groups, silu=self.silu)

    def describe(self):
        return f"GroupNorm({self.groups} groups of {len(self.gain) // self.groups}{', silu' if self.silu else ''})"


class SelfAttention(Module):
    """Each position of x (B, ..., C) becomes a mean of what all positions have: the same shape. No norm, no residual.

    `qkv` maps C to 3 C: queries, keys, values, and in each the heads, one after the other; `out` maps the result.
    """

    def __init__(self, channels: int, heads: int = 1, *, rng: np.random.Generator):
        if not _whole(channels, heads) or channels % heads:
            raise ValueError(f"SelfAttention needs channels that are a multiple of heads, not {channels} and {heads}")
        self.heads = heads
        self.qkv, self.out = Linear(channels, 3 * channels, rng=rng), Linear(channels, channels, rng=rng)

    def forward(self, x):
        B, d = x.shape[0], x.shape[-1] // self.heads
        q, k, v = self.qkv(x).reshape(B, -1, 3, self.heads, d).transpose(2, 0, 3, 1, 4)    # (B, heads, positions, d)
        y = ops.softmax((q * d ** -0.5) @ k.swapaxes(-1, -2)) @ v                          # (4)
        return self.out(y.transpose(0, 2, 1, 3).reshape(x.shape))

    def describe(self):
        return f"SelfAttention({self.out.w.shape[0]}{f', {self.heads} heads' if self.heads > 1 else ''})"


class Sequential(Module):
    """Layers one after the other. `rng` is handed to those that draw, such as Dropout."""
    draws = True

    def __init__(self, *layers: Module):
        self.layers = list(layers)

    def forward(self, x, rng: np.random.Generator | None = None):
        for layer in self.layers:
            x = layer(x, rng) if layer.draws else layer(x)
        return x


class MLP(Sequential):
    """Linear layers of sizes[0] to sizes[-1], with `activation` after all but the last."""

    def __init__(self, *sizes: int, activation: str = "relu", rng: np.random.Generator):
        if len(sizes) < 2:
            raise ValueError(f"an MLP needs an input and an output size, not {sizes}")
        names = [activation] * (len(sizes) - 2) + [None]
        super().__init__(*[Linear(i, o, a, rng=rng) for i, o, a in zip(sizes, sizes[1:], names)])


def time_embedding(t, dim: int, period: float = 10_000, dtype=np.float32) -> np.ndarray:
    """Sines, then cosines, of t (B,), the times: (B, dim), dim even. Frequencies fall from 1 towards 1 / period.

    ωᵢ = period^(−2 (i − 1) / dim): nearby times are told apart by the first, distant ones by the last.
    """
    if np.ndim(t) != 1 or not _whole(dim) or dim % 2:
        raise ValueError(f"time_embedding takes t (B,) and an even dim >= 2, not t {np.shape(t)} and {dim!r}")
    angle = np.asarray(t, np.float64)[:, None] * period ** (-np.arange(0, dim, 2) / dim)
    return np.concatenate([np.sin(angle), np.cos(angle)], axis=1).astype(dtype)            # (5)


def _whole(*sizes):
    """Whether each is a whole number, Python's or NumPy's, and at least 1."""
    return all(isinstance(n, (int, np.integer)) and not isinstance(n, bool) and n >= 1 for n in sizes)


def check_rng(rng):
    if not isinstance(rng, np.random.Generator):
        raise ValueError(f"rng must be a numpy.random.Generator, such as np.random.default_rng(0), not {rng!r}")


def check_activation(name):
    choices = [*ACTIVATIONS, "leaky_relu", "silu", "gelu", "softplus"]
    if name not in choices:
        raise ValueError(f"activation must be one of {choices}, not {name!r}")
