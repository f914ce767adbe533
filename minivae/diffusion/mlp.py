"""A denoiser for points: an MLP that is told the time, and the class, beside x.

    f(x_t, t, y) = MLP([x_t, sines and cosines of t, one-hot y])

x (B, D), t (B,) whole numbers, y (B,) in 0..K − 1, or K for "no class", which is all zeros. D numbers come out, 2 D
with a learned variance.
"""
from functools import lru_cache

import numpy as np

from autograd import ops
from autograd.nn import MLP, Module, check_rng, time_embedding

from ..checks import check_classes, check_count, check_times, check_widths

MANY = 2 ** 16                               # times, too many for a table


@lru_cache(maxsize=8)
def _times(n, dim):
    """time_embedding of 0..n − 1, a table: sines of t would be a tenth of a training step."""
    return time_embedding(np.arange(n), dim)


class MLPDenoiser(Module):
    """A denoiser of points (B, dim): `denoiser(x, t, y)` returns (B, dim), or (B, 2 dim) with `learned_variance`.

    hidden       widths of the hidden layers
    num_classes  K, if there are classes; y None then means "no class", as K does
    time_dim     how many sines and cosines of t it is given, even
    """

    def __init__(self, dim: int, hidden: tuple = (128, 128, 128), num_classes: int | None = None,
                 learned_variance: bool = False, *, time_dim: int = 32, activation: str = "relu",
                 rng: np.random.Generator):
        check_rng(rng)
        self.shape, self.num_classes = (check_count(dim, "dim"),), num_classes
        self.time_dim, self.learned_variance = check_count(time_dim, "time_dim", least=2), learned_variance
        if time_dim % 2:
            raise ValueError(f"time_dim must be even, a sine and a cosine for each frequency, not {time_dim}")
        widths = check_widths(hidden, "hidden")
        classes = 0 if num_classes is None else check_count(num_classes, "num_classes")
        self.net = MLP(dim + time_dim + classes, *widths, (1 + learned_variance) * dim, activation=activation, rng=rng)

    def forward(self, x, t, y=None):
        if np.shape(x)[1:] != self.shape:
            raise ValueError(f"this MLPDenoiser takes x (B, {self.shape[0]}), not {np.shape(x)}")
        t, y = check_times(t, len(x)), check_classes(y, len(x), self.num_classes)
        last, dim = int(t.max()) if t.size else 1, self.time_dim
        times = _times(1 << last.bit_length(), dim)[t] if last < MANY else time_embedding(t, dim)
        features = [x, times.astype(x.dtype, copy=False)]
        if y is not None:
            features.append((y[:, None] == np.arange(self.num_classes)).astype(x.dtype))
        return self.net(ops.concatenate(features, axis=1))

    def describe(self):
        return f"MLPDenoiser({self.shape[0]}{f', {self.num_classes} classes' if self.num_classes else ''})"
