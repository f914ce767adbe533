"""Rate and distortion: the nats that a code costs, and those that the data still cost when it is known.

    (1)  R = E KL(q(z | x) ‖ p(z)),  D = −E_q ln p(x | z),  R + D = −ELBO                    [rate.point]
    (2)  R = I + TC + Σⱼ KL(q̄ⱼ ‖ pⱼ),  q̄ = mean of q(z | xₙ),  TC = KL(q̄ ‖ Πⱼ q̄ⱼ)           [rate.parts]
    (3)  I = mean of ln q(zₙ | xₙ) − ln q̄(zₙ) <= ln N,  zₙ ~ q(z | xₙ);  Iⱼ likewise, of latent j alone
         TC = Σⱼ Iⱼ − I,  KL(q̄ⱼ ‖ pⱼ) = Rⱼ − Iⱼ                                             [rate.estimator]
    (4)  linear decoder, noise s², θ = β s²:  R = ½ Σ (ln λᵢ/θ)₊,  S = Σ min(λᵢ, θ)
         D = S / 2s² + n/2 ln 2πs²                                                           [rate.linear]

x (N, n), z (N, d); λᵢ are the n eigenvalues of the covariance of x. (3) is unbiased for the N examples themselves. For
the population that they come from I is too low, whatever the encoder, since each zₙ meets its own xₙ in q̄: N examples
show no more than ln N nats. KL(q̄ⱼ ‖ pⱼ) is then too high, and so, as a rule, is TC, since I loses more than the Iⱼ.
Alemi et al., arXiv:1711.00464, for (1); Hoffman and Johnson, ELBO surgery, 2016, and Chen et al., arXiv:1802.04942, for
(2); Poole et al., arXiv:1905.06922, for the bias of (3); Cover and Thomas, Elements of information theory, for (4).
"""
import math
from typing import NamedTuple

import numpy as np

from autograd import no_grad, ops
from autograd.nn import check_rng
from autograd.tensor import plain

from ..checks import positive

ROWS = 512                                   # examples encoded at a time
PAIRS = 2 ** 18                              # densities of one z, or latent of it, under one q(z | xₙ), held at a time


class RatePoint(NamedTuple):
    """Nats an example. The last three, of which `dimension_kl` is (d,), sum to the rate."""
    rate: float
    distortion: float
    mutual_information: float
    total_correlation: float
    dimension_kl: np.ndarray


class LinearPoint(NamedTuple):
    """R and D in nats, S = E|x − f(z)|², and how many latents are in use."""
    rate: float | np.ndarray
    distortion: float | np.ndarray
    squared_error: float | np.ndarray
    active: int | np.ndarray


@no_grad()
def rate_distortion(model, x: np.ndarray, rng: np.random.Generator) -> RatePoint:
    """Where a model is in the (R, D) plane, and what its rate is made of, at x (N, D), from one draw of z an example.

    The model has `encode(x)` and `prior()`, which are Normal, and `decode(z)`. R is exact; D, I, and with it the parts,
    are estimates. Time grows as N² d, memory as N d. Raises ValueError for x that the model refuses or has no rows, and
    for codes that are not finite.
    """
    check_rng(rng)
    if np.ndim(x) != 2 or len(x) == 0:
        raise ValueError(f"x must be (N, D) with at least one row, not of shape {np.shape(x)}")
    parts = zip(*(_encode(model, x[i:i + ROWS], rng) for i in range(0, len(x), ROWS)))
    z, mu, logvar, kl, nll = (np.concatenate(part).astype(np.float64) for part in parts)
    if not all(np.isfinite(v).all() for v in (z, kl, nll)):
        raise ValueError("the model gives codes or densities that are not finite at these data")
    *each, joint = _information(z, mu, logvar)
    dimension_rate = kl.mean(axis=0)
    return RatePoint(float(dimension_rate.sum()), float(nll.mean()), float(joint), float(sum(each) - joint),
                     dimension_rate - each)                                                # (1), (2), (3)


def linear_rate_distortion(eigenvalues: np.ndarray, beta: float | np.ndarray, s2: float) -> LinearPoint:
    """The optimum (4) of a β-VAE with a linear decoder, noise s2 and enough latents; for an array `beta`, the curve.

    `eigenvalues` (n,) are all those of the data's covariance. Raises ValueError for a β of 0 too: R would be infinite.
    """
    values, beta = np.asarray(eigenvalues), np.asarray(beta)
    if values.ndim != 1 or not values.size or values.dtype.kind not in "iuf" or not (
            np.isfinite(values) & (values >= 0)).all():
        raise ValueError(f"eigenvalues must be (n,) finite numbers >= 0, not {eigenvalues!r}")
    if beta.dtype.kind not in "iuf" or not (np.isfinite(beta) & (beta > 0)).all():
        raise ValueError(f"beta must be positive, not {beta}")
    s2 = positive(s2, "s2, the variance of the noise,")
    theta = beta[..., None] * s2
    rate = 0.5 * np.sum(np.log(np.maximum(values / theta, 1)), axis=-1)                    # (4)
    squared_error = np.sum(np.minimum(values, theta), axis=-1)                             # (4)
    distortion = 0.5 * (squared_error / s2 + len(values) * math.log(2 * math.pi * s2))     # (4)
    return LinearPoint(rate, distortion, squared_error, np.sum(values > theta, axis=-1))


def _encode(model, x, rng):
    """z ~ q(z | x), the mean and logvar of q, the KL of each latent, and −ln p(x | z)."""
    q = model.encode(x)
    z = q.sample(rng)
    return [plain(v) for v in (z, q.mu, q.logvar, q.kl_terms(model.prior()), -model.decode(z).log_prob(x))]


def _information(z, mu, logvar):
    """(3), of each latent and, last, of all together: (d + 1,)."""
    n, d = z.shape
    rows, total = max(1, PAIRS // (n * d)), np.zeros(d + 1)
    mu, scale, logvar = (v.T[:, None] for v in (mu, np.exp(-0.5 * logvar), logvar))
    for i in range(0, n, rows):
        some = z[i:i + rows].T[:, :, None]
        log_q = -0.5 * (((some - mu) * scale) ** 2 + logvar)       # (d, rows, N), less ½ ln 2π, which cancels
        log_q = np.concatenate([log_q, log_q.sum(axis=0, keepdims=True)])
        own = np.arange(some.shape[1])
        total += np.sum(log_q[:, own, i + own] - ops.logsumexp(log_q, axis=2), axis=1)     # (3)
    return total / n + math.log(n)
