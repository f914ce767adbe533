"""What the ELBO leaves out, measured where the truth can be had: one or two latents, and integrals by quadrature.

    (1)  ln p(x) = ln ∫ p(x | z) p(z) dz                                                     [gaps.quadrature]
    (2)  ln p(x) − ELBO(q) = [ln p(x) − ELBO(q*)] + [ELBO(q*) − ELBO(q)]                      [gaps.decomposition]
         the approximation gap: no Gaussian q* is the posterior; the amortisation gap: the encoder's q is not q*
    (3)  mean KL(qₙ ‖ p) = I(n; z) + KL(q̄ ‖ p),  q̄ = mean of qₙ,  0 <= I <= ln N              [gaps.surgery]
    (4)  KL(q̄ ‖ p) = TC + Σⱼ KL(q̄ⱼ ‖ pⱼ),  TC = KL(q̄ ‖ Πⱼ q̄ⱼ)                             [gaps.total-correlation]

x (N, D), z (G, d) the nodes of a grid, q = N(mu, exp(logvar)), (N, d). The integrands vanish at the ends, and are
smooth if the decoder is ("tanh", not "relu"); then the trapezoidal rule converges exponentially. Cremer et al.,
arXiv:1801.03558, for (2); Hoffman and Johnson, ELBO surgery, 2016, for (3); Chen et al., arXiv:1802.04942, for (4).
"""
import math
from typing import NamedTuple

import numpy as np
from scipy.optimize import minimize
from scipy.special import logsumexp

from autograd import no_grad, ops, value_and_grad

from ..distributions import Normal

TOO_NARROW = "a posterior is too narrow, or too far from 0, for quadrature on [-8, 8] in steps of 0.08"


class Gaps(NamedTuple):
    """Per example, in nats: ln p(x), the ELBOs of the best Gaussian q and of the encoder's; and the best q."""
    log_likelihood: np.ndarray
    best: np.ndarray
    elbo: np.ndarray
    q: Normal

    @property
    def approximation(self):
        return self.log_likelihood - self.best

    @property
    def amortisation(self):
        return self.best - self.elbo


class Surgery(NamedTuple):
    """The mean KL of N encodings, taken apart, in nats."""
    mean_kl: float
    mutual_information: float
    total_correlation: float
    dimension_kl: np.ndarray


def grid(d: int, nodes: int = 201, reach: float = 8.0) -> tuple[np.ndarray, float]:
    """Nodes (nodes^d, d) of a uniform grid on [-reach, reach]^d, and the weight of each in the trapezoidal rule."""
    if d not in (1, 2):
        raise ValueError(f"quadrature is for one or two latents, not {d}")
    axis = np.linspace(-reach, reach, nodes)
    return np.stack(np.meshgrid(*[axis] * d, indexing="ij"), axis=-1).reshape(-1, d), (axis[1] - axis[0]) ** d


@no_grad()
def log_joint(model, x: np.ndarray, z: np.ndarray) -> np.ndarray:
    """ln p(x | z) + ln p(z) for every x (N, D) and z (G, d): (N, G)."""
    p, prior = model.decode(z), model.prior()
    return np.stack([np.asarray(p.log_prob(row[None])) for row in x]) + np.asarray(prior.log_prob(z))


def exact_log_likelihood(model, x: np.ndarray) -> np.ndarray:
    """ln p(x), (N,), by quadrature, for a float64 model: `model.astype(np.float64)`.

    Raises ValueError where the grid is too coarse or too small for a posterior: half of the nodes must give the same to
    1e-4, and then all of them are right to about 1e-8.
    """
    d = model.latent_dim
    z, weight = grid(d)
    joint = log_joint(model, x, z)
    whole = logsumexp(joint, axis=1) + math.log(weight)                                    # (1)
    coarse = joint.reshape(len(x), *[round(len(z) ** (1 / d))] * d)[(slice(None),) + (slice(None, None, 2),) * d]
    half = logsumexp(coarse.reshape(len(x), -1), axis=1) + math.log(2 ** d * weight)
    if not np.abs(whole - half).max() < 1e-4:
        raise ValueError(TOO_NARROW)
    return whole


def exact_elbo(model, x: np.ndarray, q: Normal, nodes: int = 41):
    """The ELBO of any Gaussian q, (N,), with the expectation over eps by quadrature instead of one sample."""
    d = model.latent_dim
    eps, weight = grid(d, nodes, reach=7.0)
    density = np.exp(model.prior().log_prob(eps)) * weight
    z = q.mu + ops.exp(0.5 * q.logvar) * eps[:, None]              # (G, N, d)
    recon = model.decode(z.reshape(-1, d)).log_prob(np.tile(x, (len(eps), 1))).reshape(len(eps), len(x))
    return density @ recon - q.kl()


def inference_gaps(model, x: np.ndarray) -> Gaps:
    """The two gaps of (2) for a float64 model with one or two latents, at x (N, D)."""
    q, shape = model.encode(x), (2, len(x), model.latent_dim)
    negative = value_and_grad(lambda v: -ops.sum(exact_elbo(model, x, Normal(v[0], v[1]))))
    start = np.stack([q.mu.data, q.logvar.data])

    def objective(v):
        value, g = negative(v.reshape(shape))
        return float(value), np.asarray(g).ravel()

    found = minimize(objective, start.ravel(), jac=True, method="L-BFGS-B",
                     options={"maxiter": 2000, "gtol": 1e-9, "ftol": 1e-15}).x.reshape(shape)
    best = Normal(found[0], found[1])
    return Gaps(exact_log_likelihood(model, x), np.asarray(exact_elbo(model, x, best)),
                np.asarray(exact_elbo(model, x, q)), best)                                 # (2)


def surgery(q: Normal) -> Surgery:
    """Take apart the mean KL of q, (N, d) with d <= 2, to a standard normal prior."""
    n, d = q.mu.shape
    z, weight = grid(d)
    log_q = _log_density(q, z)                                     # (N, G)
    if not np.abs(np.exp(log_q).sum(axis=1) * weight - 1).max() < 1e-8:
        raise ValueError(TOO_NARROW)
    aggregate = logsumexp(log_q, axis=0) - math.log(n)             # ln q̄ on the grid
    information = float(np.mean(np.sum(np.exp(log_q) * (log_q - aggregate), axis=1)) * weight)         # (3)

    line, step = grid(1)
    standard = _log_density(Normal(np.zeros((1, 1)), np.zeros((1, 1))), line)[0]
    parts = [Normal(q.mu[:, j:j + 1], q.logvar[:, j:j + 1]) for j in range(d)]
    marginals = [logsumexp(_log_density(part, line), axis=0) - math.log(n) for part in parts]
    dimension_kl = np.array([np.sum(np.exp(m) * (m - standard)) * step for m in marginals])
    independent = np.add.outer(*marginals).ravel() if d == 2 else marginals[0]
    tc = float(np.sum(np.exp(aggregate) * (aggregate - independent)) * weight)             # (4)
    return Surgery(float(np.mean(q.kl())), information, tc, dimension_kl)


def _log_density(q, z):
    """ln qₙ(z) for every n and node: (N, G)."""
    return np.stack([np.asarray(Normal(mu, logvar).log_prob(z)) for mu, logvar in zip(q.mu, q.logvar)])
