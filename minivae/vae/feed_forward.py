"""What a CVAE is without its latents: a network that predicts every pixel of x from y by itself, the baseline for it.

    (1)  ln p(x | y) = Σⱼ ln Bernoulli(xⱼ; σ(f(y)ⱼ))                                         [cvae.baseline]

Given y, (1) makes the pixels of x independent: where there are several ways to go on, it draws their average. x (B, D),
y (B, C), in nats. Sohn, Lee and Yan, 2015, section 5, call it NN.
"""
import numpy as np

from autograd.nn import MLP

from ..distributions import Bernoulli
from ..train import Model


class FeedForward(Model):
    """An MLP from `condition_dim` numbers to `data_dim` independent pixels."""

    def __init__(self, data_dim: int, condition_dim: int, hidden: tuple = (500, 500), *, rng: np.random.Generator):
        self.net = MLP(condition_dim, *hidden, data_dim, activation="relu", rng=rng)

    def predict(self, y) -> Bernoulli:
        """p(x | y), for y (B, C)."""
        return Bernoulli(self.net(y))

    def loss(self, batch: tuple, rng: np.random.Generator):
        """−ln p(x | y) in nats, averaged over a batch (x, y)."""
        x, y = batch
        nll = -self.predict(y).log_prob(x).mean()                                          # (1)
        return nll, {"nll": nll.item()}
