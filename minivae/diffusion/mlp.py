"""A denoiser for points: an MLP that is told the time, and the class, beside x.

    f(x_t, t, y) = MLP([x_t, sines and cosines of t, one-hot y])

x (B, D), t (B,) whole numbers, y (B,) in 0..K − 1, or K for "no class", which is all zeros. D numbers come out, 2 D
with a learned variance.
"""
from functools import lru_cache

import numpy as np

from autograd import ops
from autograd.nn import MLP, Module, check_rng, time_embedding

from ..checks import check_count


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
        if not isinstance(hidden, (tuple, list)):
            raise ValueError(f"hidden must be a tuple of widths, not {hidden!r}")
        self.shape, self.num_classes = (check_count(dim, "dim"),), num_classes
        self.time_dim, self.learned_variance = check_count(time_dim, "time_dim", least=2), learned_variance
        widths = [check_count(n, "a width in hidden") for n in hidden]
        classes = 0 if num_classes is None else check_count(num_classes, "num_classes")
        self.net = MLP(dim + time_dim + classes, *widths, (1 + learned_variance) * dim, activation=activation, rng=rng)

    def forward(self, x, t, y=None):
        if np.min(t, initial=0) < 0 or y is not None and np.min(y, initial=0) < 0:
            raise ValueError(f"times and classes are not negative: {np.min(t)}" + ("" if y is None else f", {np.min(y)}"))
        features = [x, _times(1 << int(np.max(t)).bit_length(), self.time_dim)[t].astype(x.dtype, copy=False)]
        if self.num_classes:
            K = self.num_classes
            features.append(np.eye(K + 1, K, dtype=x.dtype)[np.full(len(x), K) if y is None else y])
        elif y is not None:
            raise ValueError("this MLPDenoiser has no classes: build it with num_classes to give it y")
        return self.net(ops.concatenate(features, axis=1))

    def describe(self):
        return f"MLPDenoiser({self.shape[0]}{f', {self.num_classes} classes' if self.num_classes else ''})"
