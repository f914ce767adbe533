"""Importance-weighted bounds: k samples from q where the ELBO has one, and three estimators of their gradient.

    (1)  L_k = E ln 1/k Σᵢ wᵢ,  wᵢ = p(x, zᵢ) / q(zᵢ | x):  ELBO = L₁ <= L₂ <= … <= ln p(x)  [importance.bound]
    (2)  ln p(x) − L_k = ½ σ²/k + (¾ σ⁴ − ⅓ μ₃)/k² + O(1/k³),  σ², μ₃ moments of w/p(x)      [importance.rate]
    (3)  iwae:  ∇L_k = E Σᵢ ŵᵢ ∇ ln wᵢ,  ŵᵢ = wᵢ / Σⱼ wⱼ                                     [importance.iwae]
    (4)  stl:   ∇φ ≈ Σᵢ ŵᵢ (∂ ln wᵢ/∂zᵢ)(∂zᵢ/∂φ), which is 0 if q is the posterior: w = p(x) [importance.stl]
    (5)  dreg:  ∇φ L_k = E Σᵢ ŵᵢ² (∂ ln wᵢ/∂zᵢ)(∂zᵢ/∂φ)                                      [importance.dreg]
    (6)  SNR = |E g| / sd g ~ √k for θ; for φ it is 1/√k with iwae, √k with dreg             [importance.snr]

θ, of p, has the gradient (3) with all three. φ, of q, reaches ln w through z = z(φ, ε) and through the density of q.
That second part has mean 0 in ∇L₁: stl leaves it out, which is biased for k > 1; dreg reparameterises it once more,
which is not. Each is the plain derivative of one number, the bound, with q or z held still where the formula says so.
log_w (k, B), z (k, B, d). Burda et al., arXiv:1509.00519, for (1) and (3); Nowozin, ICLR 2018, for (2); Roeder et al.,
arXiv:1703.09194, for (4); Tucker et al., arXiv:1810.04152, for (5); Rainforth et al., arXiv:1802.04537, for (6).
"""
import math
from typing import Callable, NamedTuple, Sequence

import numpy as np

from autograd import Tensor, no_grad, ops
from autograd.nn import check_rng
from autograd.tensor import plain

from ..checks import check_choice, check_count, check_weight
from ..distributions import Normal

ESTIMATORS = ("iwae", "stl", "dreg")
BLOCK = 2 ** 14                              # numbers that `snr` works on at once


def importance_bound(log_w: Tensor | np.ndarray) -> Tensor | np.ndarray:
    """ln 1/k Σ w, (...) nats, of log weights (k, ...): in expectation L_k, a lower bound on ln p(x). Differentiable.

    A weight may be 0, ln w = −inf; if all are, so is the bound. Raises ValueError for no weights, NaN and +inf.
    """
    if not np.shape(log_w) or not len(log_w):
        raise ValueError(f"log_w must be (k, ...) with k >= 1 weights, not of shape {np.shape(log_w)}")
    if not np.all(np.less(plain(log_w), np.inf)):
        raise ValueError("log_w must be numbers or -inf: it holds NaN or +inf")
    with np.errstate(divide="ignore"):                             # ln 0 is the right limit
        return ops.logsumexp(log_w, axis=0) - math.log(len(log_w))                         # (1), (3)


def log_weights(log_joint: Callable, q: Normal, k: int, rng: np.random.Generator,
                estimator: str = "iwae") -> Tensor | np.ndarray:
    """ln w, (k, B), of k draws from each q(z | x), for `q` (B, d); `log_joint` takes z (k, B, d) to ln p(x, z), (k, B).

    `importance_bound` of them has the derivative that `estimator` names, "iwae", "stl" or "dreg"; dreg calls log_joint
    twice. Raises ValueError for another estimator, k < 1, and a log_joint that gives another shape.
    """
    check_choice(estimator, "estimator", ESTIMATORS)
    check_count(k, "k")
    check_rng(rng)
    z = Normal(ops.broadcast_to(q.mu, (k, *q.shape)), q.logvar).rsample(rng)
    if estimator != "iwae":
        q = Normal(plain(q.mu), plain(q.logvar))                                           # (4): only z depends on φ
    if estimator == "dreg":
        with no_grad():
            still = plain(z)
            w = _normalised(_log_ratio(log_joint, q, still))
        z = still + w[..., None] * (z - still)                     # (5): z, with ŵ dz; the other ŵ is that of (3)
    return _log_ratio(log_joint, q, z)


def _log_ratio(log_joint, q, z):
    joint = log_joint(z)
    if np.shape(joint) != z.shape[:-1]:
        raise ValueError(f"log_joint must give {z.shape[:-1]}, a number for each z, not shape {np.shape(joint)}")
    return joint - q.log_prob(z)                                                           # (1)


def _normalised(log_w):
    """ŵ, (k, B), with sum 1 over k; all 0 if the weights are."""
    bound = importance_bound(log_w := plain(log_w))
    return np.exp(log_w - np.where(bound == -np.inf, 0, bound)) / len(log_w)


def model_log_joint(model, x) -> Callable:
    """z (k, B, d) -> ln p(x | z) + ln p(z), (k, B), for x (B, D) and a model that has `decode` and `prior`."""
    def log_joint(z):
        many, flat = ops.broadcast_to(x, (len(z), *x.shape)).reshape(-1, *x.shape[1:]), z.reshape(-1, z.shape[-1])
        log_p = model.decode(flat).log_prob(many) + model.prior().log_prob(flat)    # of one batch of k B
        return log_p.reshape(z.shape[:-1])
    return log_joint


def iw_elbo(model, x, k: int, rng: np.random.Generator, estimator: str = "iwae") -> Tensor:
    """An estimate of L_k, (B,) nats, for x (B, D), whose mean, negated, is the loss of an importance-weighted VAE.

    `model` has `encode(x)`, a Normal, `decode(z)` and `prior()`. Its gradient is the `estimator`'s: "iwae", "stl"
    or "dreg". Raises as `log_weights` and `importance_bound` do.
    """
    return importance_bound(log_weights(model_log_joint(model, x), model.encode(x), k, rng, estimator))


class Snr(NamedTuple):
    """For each k, the mean over the parameters of |mean| / deviation, and the `floor`, which noise alone would show."""
    k: np.ndarray
    encoder: np.ndarray
    decoder: np.ndarray
    floor: float


def snr(ks: Sequence[int], rng: np.random.Generator, *, estimator: str = "iwae", draws: int = 10_000, dim: int = 20,
        perturbation: float = 0.01) -> Snr:
    """The SNR (6) for each k, estimated from `draws` gradients. Rainforth et al., section 4.

    Their model is p(z) = N(μ, I), p(x | z) = N(z, I), q(z | x) = N(A x + b, ⅔ I), in `dim` dimensions, near its optimum
    A = I/2, b = μ/2: Gaussian noise of deviation `perturbation` is added to all parameters. There is one x, so that the
    gradient in A is that in b times x, and its SNR the same.
    """
    if not len(ks):
        raise ValueError("ks must be one number of samples or more, and is empty")
    for count, name in [(dim, "dim"), *((k, "k") for k in ks)]:
        check_count(count, name)
    check_count(draws, "draws", least=2)                           # of one, there is no deviation
    check_weight(perturbation, "perturbation")
    check_rng(rng)
    mu = rng.standard_normal(dim)
    x = mu + math.sqrt(2) * rng.standard_normal(dim)
    mu, A, b = (v + perturbation * rng.standard_normal(v.shape) for v in (mu, np.eye(dim) / 2, mu / 2))
    rows = []
    for k in ks:
        block = max(1, BLOCK // (k * dim))
        sizes = [min(block, draws - i) for i in range(0, draws, block)]
        g = np.concatenate([_gradients(x, mu, A @ x + b, k, n, rng, estimator) for n in sizes], axis=1)
        rows.append(np.mean(np.abs(g.mean(axis=1)) / g.std(axis=1), axis=-1))              # (6)
    return Snr(np.array(ks), *np.transpose(rows), math.sqrt(2 / (math.pi * draws)))


def _gradients(x, mu, mean, k, n, rng, estimator):
    """n estimates of ∇L_k in the mean of q and in μ, (2, n, D): each has parameters of its own, in a batch of n."""
    mean, mu = (Tensor(np.tile(v, (n, 1)), requires_grad=True) for v in (mean, mu))
    unit, q = np.zeros(1), Normal(mean, np.full(1, math.log(2 / 3)))                       # logvars
    log_w = log_weights(lambda z: Normal(mu, unit).log_prob(z) + Normal(z, unit).log_prob(x), q, k, rng, estimator)
    importance_bound(log_w).sum().backward()
    return np.stack([mean.grad, mu.grad])
