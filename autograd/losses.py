"""Losses: the negative log densities that models are trained on, and a KL divergence.

    (1)  bernoulli_nll:          −ln Π σ(l)ˣ (1 − σ(l))¹⁻ˣ = Σ x softplus(−l) + (1 − x) softplus(l)
                                                                                             [losses.bernoulli-nll]
    (2)  gaussian_nll:           −ln N(x; μ, σ²) = ½ Σ ln 2π + ln σ² + (x − μ)² / σ²         [losses.gaussian-nll]
    (3)  gaussian_kl:            KL(N(μ, σ²) ‖ N(0, 1)) = ½ Σ μ² + σ² − 1 − ln σ²            [losses.gaussian-kl]
    (4)  softmax_cross_entropy:  −ln softmax(l)_c = ln Σ exp(l) − l_c                    [losses.softmax-cross-entropy]

Derivation of (1): the probability of x = 1 is p = σ(l) = 1 / (1 + e⁻ˡ), and softplus(l) = ln(1 + eˡ). So

    −ln p = ln(1 + e⁻ˡ) = softplus(−l)   and   −ln(1 − p) = ln(1 + eˡ) = softplus(l).

No probability is rounded to 0 or 1 on the way, so the loss is finite and right for logits of ±1000.

Derivation of (3), for one dimension: KL(q ‖ p) = E_q[ln q] − E_q[ln p]. Under q = N(μ, σ²),

    E_q[ln q] = −½ (ln 2π + ln σ² + 1)   and   E_q[ln p] = −½ (ln 2π + μ² + σ²),

since E_q (x − μ)² = σ² and E_q x² = μ² + σ². Their difference is ½ (μ² + σ² − 1 − ln σ²).

Derivatives: (1) has σ(l) − x in l, and (4) has softmax(l) − onehot(c). For (2), let r = (x − μ) / σ² and ℓ = ln σ².
Since ∂(1/σ²)/∂ℓ = −1/σ², the derivatives are r in x, −r in μ and ½ (1 − (x − μ) r) in ℓ. (3) has μ in μ and ½ (σ² − 1)
in ℓ.

Sums run over the last axis, so (B, D) gives (B,), in nats. (1) and (4) are composed of ops; (2) and (3) are ops, with
their derivatives beside them.
"""
import math

import numpy as np

from . import ops
from .floors import faster
from .primitive import op
from .tensor import Tensor

LOG_2PI = math.log(2 * math.pi)


@faster
def bernoulli_nll(logits, x):
    """−ln p(x) of independent Bernoulli variables: logits and x (..., D), x in [0, 1]; returns (...,) nats."""
    logits, x = _arrays(logits, x)
    return ops.sum(x * ops.softplus(-logits) + (1 - x) * ops.softplus(logits), axis=-1)    # (1)


def _gaussian_nll(x, mu, logvar):
    """−ln N(x; mu, exp(logvar)): arguments (..., D) or broadcast to that; returns (...,) nats."""
    return 0.5 * np.sum(LOG_2PI + logvar + (x - mu) ** 2 * np.exp(-logvar), axis=-1)       # (2)


def _gaussian_kl(mu, logvar):
    """KL(N(mu, exp(logvar)) ‖ N(0, 1)): (..., D) each; returns (...,) nats."""
    return 0.5 * np.sum(mu * mu + (np.expm1(logvar) - logvar), axis=-1)                    # (3)


# expm1(ln σ²) is σ² − 1, with all its digits where σ² is nearly 1. In gaussian_kl, mu alone may be of one element where
# logvar has D: each of the D terms then counts, so its derivative is repeated before the engine sums it.
gaussian_nll = op(_gaussian_nll,
                  lambda g, x, mu, logvar: g[..., None] * (x - mu) * np.exp(-logvar),
                  lambda g, x, mu, logvar: g[..., None] * (mu - x) * np.exp(-logvar),
                  lambda g, x, mu, logvar: 0.5 * g[..., None] * (1 - np.square(x - mu) * np.exp(-logvar)))
gaussian_kl = op(_gaussian_kl,
                 lambda g, mu, shapes: g[..., None] * np.broadcast_to(mu, np.broadcast_shapes(*shapes)),
                 lambda g, logvar, shapes: 0.5 * g[..., None] * np.broadcast_to(np.expm1(logvar),
                                                                               np.broadcast_shapes(*shapes)))


def softmax_cross_entropy(logits, labels):
    """−ln softmax(logits)[labels]: logits (..., K), labels (...,) integers in [0, K); returns (...,) nats."""
    labels = np.asarray(labels)
    if labels.dtype.kind not in "iu" or labels.shape != logits.shape[:-1]:
        raise ValueError(f"labels must be integers of shape {logits.shape[:-1]}, not {labels.dtype} of {labels.shape}")
    if labels.size and not 0 <= labels.min() <= labels.max() < logits.shape[-1]:
        raise ValueError(f"labels must be in [0, {logits.shape[-1]}), got {labels.min()} to {labels.max()}")
    return -ops.log_softmax(logits)[(*np.indices(labels.shape), labels)]                   # (4)


def _arrays(*values):
    """The values, where a number has become an array of the others' dtype."""
    dtype = next((v.dtype for v in values if isinstance(v, (Tensor, np.ndarray))), np.float64)
    return [v if isinstance(v, (Tensor, np.ndarray)) else np.asarray(v, dtype) for v in values]
