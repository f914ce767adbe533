"""Distributions over vectors: the last axis is the event, the others are the batch.

    (1)  ln N(x; μ, σ²) = −½ Σ ln 2π + ln σ² + (x − μ)²/σ²                                   [distributions.normal]
    (2)  H[N(μ, σ²)] = ½ Σ ln 2πe + ln σ²                                                    [distributions.entropy]
    (3)  KL(N(μ, σ²) ‖ N(m, s²)) = ½ Σ ln s²/σ² + (σ² + (μ − m)²)/s² − 1                     [distributions.kl-normal]
    (4)  z = μ + σ ε, ε ~ N(0, 1)  ⇒  z ~ N(μ, σ²), differentiable in μ and σ                [distributions.rsample]
    (5)  cross-entropy H(p, q) = −E_p ln q = H(p) + KL(p ‖ q)                                [distributions.kl-discrete]

A Normal holds logvar = ln σ², so σ = exp(logvar / 2): the variance, not the standard deviation, is exp(logvar).
`log_prob`, `entropy` and `kl` sum over the event and have the batch's shape, in nats. They and `rsample` return Tensors
if the parameters are Tensors; `sample` returns an ndarray. Kingma and Welling, arXiv:1312.6114, section 2.4, for (4).
"""
import numpy as np

from autograd import losses, ops
from autograd.losses import LOG_2PI
from autograd.nn import check_rng
from autograd.tensor import FLOATS, plain


class Normal:
    """Independent Gaussians N(mu, exp(logvar)): mu and logvar (..., D), or either one broadcast to the other."""

    def __init__(self, mu, logvar):
        if getattr(mu, "dtype", object) not in FLOATS or getattr(logvar, "dtype", object) not in FLOATS:
            given = " and ".join(str(getattr(v, "dtype", type(v).__name__)) for v in (mu, logvar))
            raise ValueError(f"mu and logvar must be arrays or Tensors of float32 or float64, not {given}")
        self.mu, self.logvar, self.shape = mu, logvar, mu.shape
        if logvar.shape != mu.shape:
            try:
                self.shape = np.broadcast_shapes(mu.shape, logvar.shape)
            except ValueError:
                shapes = f"mu of shape {mu.shape} and logvar of shape {logvar.shape}"
                raise ValueError(f"{shapes} do not broadcast") from None

    @property
    def mean(self):
        return self.mu

    @property
    def variance(self):
        return ops.exp(self.logvar)

    def log_prob(self, x):
        return -losses.gaussian_nll(x, self.mu, self.logvar)                                # (1)

    def entropy(self):
        logvar = ops.broadcast_to(self.logvar, self.shape)
        return 0.5 * ops.sum(LOG_2PI + 1 + logvar, axis=-1)                                # (2)

    def kl_terms(self, p: "Normal | None" = None):
        """The summands of `kl`, (..., D): the nats that each dimension costs."""
        mu, logvar = self.mu, self.logvar
        if p is None:
            return 0.5 * (ops.square(mu) + ops.expm1(logvar) - logvar)
        ratio = logvar - p.logvar
        return 0.5 * (ops.square(mu - p.mu) * ops.exp(-p.logvar) + ops.expm1(ratio) - ratio)            # (3)

    def kl(self, p: "Normal | None" = None):
        """KL(self ‖ p); without p, to the standard normal."""
        mu, logvar = self.mu, self.logvar
        if p is not None:                                          # in the units of p, which then is the standard one
            mu, logvar = (mu - p.mu) * ops.exp(-0.5 * p.logvar), logvar - p.logvar         # (3)
        return losses.gaussian_kl(mu, logvar)

    def rsample(self, rng: np.random.Generator):
        """A draw by the reparameterisation trick: differentiable in mu and logvar."""
        check_rng(rng)
        eps = rng.standard_normal(self.shape, dtype=self.mu.dtype)
        return self.mu + ops.exp(0.5 * self.logvar) * eps                                  # (4)

    def sample(self, rng: np.random.Generator) -> np.ndarray:
        return plain(self.rsample(rng))


class Bernoulli:
    """Independent bits with logits (..., D): p(1) = σ(logits). `log_prob` takes x in [0, 1]."""

    def __init__(self, logits):
        self.logits = logits

    @property
    def mean(self):
        return ops.sigmoid(self.logits)

    @property
    def variance(self):
        return self.mean * (1 - self.mean)

    def log_prob(self, x):
        return -losses.bernoulli_nll(self.logits, x)

    def entropy(self):
        return losses.bernoulli_nll(self.logits, self.mean)

    def kl(self, p: "Bernoulli"):
        return losses.bernoulli_nll(p.logits, self.mean) - self.entropy()                   # (5)

    def sample(self, rng: np.random.Generator) -> np.ndarray:
        check_rng(rng)
        mean = plain(self.mean)
        return (rng.random(mean.shape, mean.dtype) < mean).astype(mean.dtype)


class Categorical:
    """One of K classes, with logits (..., K): p = softmax(logits). `log_prob` and `sample` deal in integers (...)."""

    def __init__(self, logits):
        self.logits = logits

    @property
    def mean(self):
        """The probabilities: the mean of the one-hot vector."""
        return ops.softmax(self.logits)

    def log_prob(self, labels):
        return -losses.softmax_cross_entropy(self.logits, labels)

    def entropy(self):
        return self._cross_entropy(self)

    def kl(self, p: "Categorical"):
        return self._cross_entropy(p) - self.entropy()                                     # (5)

    def _cross_entropy(self, p):
        mean = self.mean
        return -ops.sum(mean * ops.where(plain(mean) > 0, ops.log_softmax(p.logits), 0.0), axis=-1)     # 0 ln 0 = 0

    def sample(self, rng: np.random.Generator) -> np.ndarray:
        check_rng(rng)
        gumbel = rng.gumbel(size=self.logits.shape)                # argmax of ln p + Gumbel noise is a draw from p
        if np.isnan(noisy := plain(self.logits) + gumbel).any():
            raise ValueError("a class cannot be drawn from logits that are NaN")
        return np.argmax(noisy, axis=-1)
