"""What a CVAE is without its latents: a network that predicts every pixel of x from y by itself, the baseline for it.

    (1)  ln p(x | y) = Σⱼ ln Bernoulli(xⱼ; σ(f(y)ⱼ))                                         [cvae.baseline]

Given y, (1) makes the pixels of x independent: where there are several ways to go on, it draws their average. x (B, D)
in [0, 1], y (B, C), in nats. It is the baseline of Sohn, Lee and Yan, 2015.
"""
import numpy as np

from autograd import Tensor
from autograd.nn import MLP
from autograd.tensor import plain

from ..checks import check_count, check_widths, finite
from ..distributions import Bernoulli
from ..train import Model


class FeedForward(Model):
    """An MLP from `condition_dim` numbers to `data_dim` independent pixels."""

    def __init__(self, data_dim: int, condition_dim: int, hidden: tuple = (500, 500), *, rng: np.random.Generator):
        self.data_dim = check_count(data_dim, "data_dim")
        self.condition_dim = check_count(condition_dim, "condition_dim")
        widths = check_widths(hidden, "hidden")
        self.net = MLP(self.condition_dim, *widths, self.data_dim, activation="relu", rng=rng)

    def predict(self, y) -> Bernoulli:
        """p(x | y), for y (B, C)."""
        finite(plain(y), "y", (None, self.condition_dim))
        return Bernoulli(self.net(y))

    def loss(self, batch: tuple, rng: np.random.Generator) -> tuple[Tensor, dict[str, float]]:
        """−ln p(x | y) in nats, averaged over a batch (x, y)."""
        if not isinstance(batch, (tuple, list)) or len(batch) != 2:
            raise ValueError("a batch must be a pair (x, y)")
        x, y = batch
        values = finite(plain(x), "x", (len(y), self.data_dim))
        if not 0 <= values.min() <= values.max() <= 1:
            raise ValueError(f"x must be in [0, 1]; it goes from {values.min()} to {values.max()}")
        nll = -self.predict(y).log_prob(x).mean()                                          # (1)
        return nll, {"nll": nll.item()}

    def describe(self):
        return f"FeedForward({self.data_dim} given {self.condition_dim})"
