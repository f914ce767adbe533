"""What a denoiser can predict: given x_t, its noise, its origin, their mix v and the score are linear in one another.

    (1)  x_t = √ᾱ x_0 + √(1 − ᾱ) ε,  v = √ᾱ ε − √(1 − ᾱ) x_0:  a rotation of (x_0, ε)        [diffusion.conversions]
    (2)  ∇ ln q(x_t | x_0) = −ε / √(1 − ᾱ)                                                   [diffusion.score]
    (3)  ∇ ln q(x_t) = E[∇ ln q(x_t | x_0) | x_t] = −E[ε | x_t] / √(1 − ᾱ)                   [diffusion.marginal-score]
    (4)  Tweedie:  E[x_0 | x_t] = (x_t + (1 − ᾱ) ∇ ln q(x_t)) / √ᾱ                           [diffusion.tweedie]
    (5)  x_0 ~ Σₖ πₖ N(mₖ, sₖ²):  E[x_0 | x_t] = Σₖ p(k | x_t) (mₖ + √ᾱ sₖ² (x_t − √ᾱ mₖ) / wₖ)
         p(k | x_t) ∝ πₖ N(x_t; √ᾱ mₖ, wₖ),  wₖ = ᾱ sₖ² + 1 − ᾱ                              [diffusion.mixture]

x_t and what is predicted (B, ...), t (B,) or one t for all, mₖ and sₖ (K, D). A squared error is least at the mean
given x_t, so a denoiser trained to predict any of the four has learned the score, by (3). Vincent, Neural Computation
23, 2011, for (3); Efron, JASA 106, 2011, for (4); Salimans and Ho, arXiv:2202.00512, for v.
"""
import numpy as np

from autograd import ops
from autograd.nn import Module

from ..checks import check_choice, check_classes, finite
from .schedule import Schedule

FORMS = ("eps", "x0", "v", "score")


def _coefficients(schedule, value, xt, t):
    """√ᾱ and √(1 − ᾱ) at t, to multiply xt and `value`, which must be of one shape."""
    if np.shape(value) != np.shape(xt):
        raise ValueError(f"what is converted must have the shape of xt, {np.shape(xt)}, not {np.shape(value)}")
    return schedule.at(t, xt, schedule.signal, schedule.noise)


def to_x0(schedule: Schedule, value, xt, t, form: str):
    """x_0 (B, ...), from a `value` that is of the form "eps", "x0", "v" or "score", for x_t (B, ...)."""
    signal, noise = _coefficients(schedule, value, xt, t)
    match check_choice(form, "form", FORMS):
        case "eps":
            return (xt - noise * value) / signal                                           # (1)
        case "x0":
            return value
        case "v":
            return signal * xt - noise * value                                             # (1)
        case "score":
            return (xt + noise ** 2 * value) / signal                                      # (4)


def from_x0(schedule: Schedule, x0, xt, t, form: str):
    """The inverse of `to_x0`: what x_0 means for x_t (B, ...), in that form."""
    signal, noise = _coefficients(schedule, x0, xt, t)
    match check_choice(form, "form", FORMS):
        case "eps":
            return (xt - signal * x0) / noise                                              # (1)
        case "x0":
            return x0
        case "v":
            return (signal * xt - x0) / noise                                              # (1)
        case "score":
            return (signal * x0 - xt) / noise ** 2                                         # (2), (3)


class MixtureDenoiser(Module):
    """The best denoiser there can be, where the data are a mixture of K Gaussians, each of which is a class.

    means (K, D); variances (K, D), or what broadcasts to it, >= 0; weights (K,), by default equal. It predicts the mean
    of `predict` given x_t and, unless y is None or K, the class. With the rows of a data set as the means, and no
    variance, it is the denoiser that has memorised them.
    """

    def __init__(self, schedule: Schedule, means: np.ndarray, variances: np.ndarray, weights: np.ndarray | None = None,
                 predict: str = "eps"):
        if not isinstance(schedule, Schedule):
            raise ValueError(f"a MixtureDenoiser needs a Schedule, not {schedule!r}")
        self.schedule, self.predict = schedule, check_choice(predict, "predict", FORMS)
        self.means = finite(means, "means", (None, None)).astype(np.float64)
        self.num_classes, dim = K, _ = self.means.shape
        try:
            self.shape, self.variances = (dim,), np.broadcast_to(variances, (K, dim)).astype(np.float64)
        except (TypeError, ValueError):
            raise ValueError(f"variances must be numbers that broadcast to {K, dim}, not {variances!r}") from None
        weights = np.ones(K) if weights is None else finite(weights, "weights", (K,))
        if not ((0 <= self.variances) & (self.variances < np.inf)).all() or not (weights > 0).all():
            raise ValueError(f"variances must be >= 0 and finite, and weights > 0, not {variances} and {weights}")
        self.log_prior = np.full((K + 1, K), -np.inf)              # ln p(k | y), a row for each y
        np.fill_diagonal(self.log_prior, 0)
        self.log_prior[K] = np.log(weights / weights.sum())

    def forward(self, x, t, y=None):
        """What is predicted, (B, D), for x (B, D), t and y (B,)."""
        if np.shape(x)[1:] != self.shape:
            raise ValueError(f"this MixtureDenoiser takes x (B, {self.shape[0]}), not {np.shape(x)}")
        y = check_classes(y, len(x), self.num_classes)
        signal, noise = self.schedule.at(t, x[:, None], self.schedule.signal, self.schedule.noise)
        w, away = signal ** 2 * self.variances + noise ** 2, x[:, None] - signal * self.means           # (B, K, D)
        p = ops.softmax(self.log_prior[y] - 0.5 * ops.sum(away ** 2 / w + np.log(w), axis=2))      # p(k | x_t), (B, K)
        x0 = ops.sum(ops.expand_dims(p, 2) * (self.means + signal * self.variances / w * away), axis=1)         # (5)
        return from_x0(self.schedule, x0, x, t, self.predict)
