"""The variational bound of a diffusion model: a VAE's with T latents, x_1 to x_T, whose encoder learns nothing.

    (1)  −ln p(x_0) <= L_T + Σ_{t=2}^T L_{t−1} + L_0 = E_q ln q(x_1..x_T | x_0) / p(x_0..x_T)        [diffusion.vlb]
         L_T = KL(q(x_T | x_0) ‖ N(0, I)),  L_{t−1} = KL(q(x_{t−1} | x_t, x_0) ‖ p(x_{t−1} | x_t)), L_0 = −ln p(x_0|x_1)
    (2)  L_{t−1} = ½ Σ [ln σ²/β̃ + (β̃ + (μ̃(x_t, x_0) − μ̃(x_t, x̂_0))²) / σ² − 1]
    (3)  grey levels k = 0..255 as x_0 = k / 127.5 − 1:  p(x_0 | x_1) = Φ((x_0 + h − μ)/σ) − Φ((x_0 − h − μ)/σ)
         h = 1/255, but ∞ above the last level and below the first                           [diffusion.discretised]
    (4)  bits per dimension = nats / (d ln 2)                                                [diffusion.bits]
    (5)  x_0 ~ N(m, s² I):  the best denoiser and variances give E[bound] = H[x_0] + KL(q(x_T) ‖ N(0, I))
         and any others more                                                                 [diffusion.best-vlb]

x (B, ...), of d numbers each; each L is (B,), in nats; Φ is the standard normal distribution function. Ho et al.,
arXiv:2006.11239, sections 2 and 3.3, for (1) to (3).
"""
import math
from typing import NamedTuple

import numpy as np
from scipy import special

from autograd import ops
from autograd.nn import check_rng
from autograd.primitive import op

from ..distributions import Normal
from ..train import Progress
from .schedule import Schedule

erfcx = op(special.erfcx, lambda g, x, y: g * (2 * x * y - 2 / math.sqrt(math.pi)))
log_ndtr = op(special.log_ndtr, lambda g, x: g * math.sqrt(2 / math.pi) / erfcx(-x / math.sqrt(2)))


class VLB(NamedTuple):
    """`terms` (B, T + 1), L_0 to L_T in nats, of examples of `dim` numbers."""
    terms: np.ndarray
    dim: int

    @property
    def nats(self) -> np.ndarray:
        """The bound on −ln p(x), (B,)."""
        return self.terms.sum(axis=1)                                                      # (1)

    @property
    def bits_per_dim(self) -> np.ndarray:
        """The same, (B,), in bits for each number of x."""
        return self.nats / (self.dim * math.log(2))                                        # (4)


def vlb(model, x: np.ndarray, rng: np.random.Generator, y=None) -> VLB:
    """The bound on −ln p(x), or −ln p(x | y), term by term, for x (B, *shape), from one ε a term. T denoisings."""
    check_rng(rng)
    (x0, _), s = model.check(x, y), model.schedule
    x0, terms, progress = x0.astype(np.float64), np.empty((len(x0), s.T + 1)), Progress(s.T)
    terms[:, s.T] = end_term(s, x0)
    try:
        for t in range(1, s.T + 1):
            xt = s.q_sample(x0, t, rng.standard_normal(x0.shape))
            x0_hat, logvar = (v.astype(np.float64) for v in model.denoise(xt.astype(model.dtype), t, y))
            terms[:, t - 1] = step_terms(s, x0, xt, np.full(len(x0), t), x0_hat, logvar, model.images)
            progress.show(t, f"term {t}/{s.T}", {})
    finally:
        progress.close()
    return VLB(terms, x0[0].size)


def end_term(schedule: Schedule, x0):
    """L_T, (B,)."""
    logvar = np.full((1, 1), 2 * math.log(schedule.noise[-1]), x0.dtype)
    return Normal(x0.dtype.type(schedule.signal[-1]) * x0.reshape(len(x0), -1), logvar).kl()              # (1)


def step_terms(schedule: Schedule, x0, xt, t, x0_hat, logvar, discretised: bool):
    """L_{t−1}, (B,), for t (B,) and logvar = ln σ², (B, ...) or (B, 1, ..., 1); differentiable in x0_hat and logvar."""
    flat = lambda v: v.reshape(len(v), -1)
    true, guess = (flat(schedule.posterior(x, xt, t)[0]) for x in (x0, x0_hat))
    p, true_logvar = Normal(guess, flat(logvar)), flat(*schedule.at(t, xt, schedule.log_beta_tilde))
    terms = Normal(true, true_logvar).kl(p)                                                # (2)
    if (first := t == 1).any():
        nll = -(discretised_log_prob(flat(x0), p.mu, p.logvar) if discretised else p.log_prob(flat(x0)))
        terms = ops.where(first, nll, terms)                                               # (1)
    return terms


def discretised_log_prob(x, mu, logvar):
    """ln of (3), summed: x (B, d) in [−1, 1], mu and logvar (B, d) or (B, 1); (B,) nats, right in the far tails too."""
    scale, (h, far) = ops.exp(-0.5 * logvar), np.array([1 / 255, 1e6], x.dtype)            # far stands for ∞
    low = (x - np.where(x < h - 1, far, h) - mu) * scale
    high = (x + np.where(x > 1 - h, far, h) - mu) * scale
    right = low + high > 0                                         # Φ(b) − Φ(a) = Φ(−a) − Φ(−b): digits are kept
    low, high = log_ndtr(ops.where(right, -high, low)), log_ndtr(ops.where(right, -low, high))
    return ops.sum(high + ops.log(-ops.expm1(low - high)), axis=1)                         # (3)
