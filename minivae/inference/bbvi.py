"""Black-box variational inference: gradients of an expectation under a Gaussian, for an f about which nothing is known.

    (1)  score function    ∇ E_q f = E_q f(z) ∇ ln q(z):  f need not be differentiable       [bbvi.score]
    (2)  control variates  E_q ∇ ln q = 0, so f − a does for f, if a is not made of this z   [bbvi.control-variate]
         least variance:   a = E f (∇ ln q)² / E (∇ ln q)², one for each parameter
    (3)  Rao-Blackwell     for the parameters of zⱼ, f may leave out factors without zⱼ      [bbvi.rao-blackwell]
    (4)  pathwise          z = μ + σ ε:  ∇ E_q f = E_ε ∂f/∂z ∇z                              [bbvi.pathwise]
    (5)  ∇ ELBO = ∇ E_q f,  f = ln p(x, z) − ln q̄(z),  q̄ = q held fixed, as E_q ∇ ln q = 0   [bbvi.elbo]

q = N(mu, exp(logvar)), mu and logvar (d,); z (S, d); f in nats, (S,), or (S, F) if it is given as F factors. Gradients
are (S, 2, d): of each draw, in mu and in logvar. With (5), (4) has no variance where q is the posterior (Roeder et al.,
arXiv:1703.09194). Ranganath et al., arXiv:1401.0118, sections 2 and 3, for (1) to (3).
"""
from typing import Callable, NamedTuple

import numpy as np

from autograd import Tensor, no_grad, ops
from autograd.nn import check_rng
from autograd.optim import Adam
from autograd.tensor import plain

from ..checks import check_choice, check_count, positive
from ..distributions import Normal
from .transforms import check_density, check_finite, value_and_gradient

ESTIMATORS = ("score", "baseline", "control-variate", "pathwise")


def expectation_gradients(f: Callable, mu: np.ndarray, logvar: np.ndarray, *, samples: int, rng: np.random.Generator,
                          estimator: str = "control-variate", blanket: np.ndarray | None = None,
                          ) -> tuple[np.ndarray, np.ndarray]:
    """f at `samples` draws of q, (S,), and as many estimates of ∇ E_q f, (S, 2, d), unbiased, as is their mean.

    estimator  "score" (1); "baseline": (2) with a = the mean f of the other draws; "control-variate": (2) with the best
               a, estimated from the other draws; "pathwise" (4), for which f must be made with autograd.ops
    blanket    (F, d) booleans, for an f that returns factors (S, F) whose sum is meant: which factor involves which
               coordinate, for (3). The pathwise estimator needs no telling
    """
    mu, logvar, blanket = _check(mu, logvar, samples, estimator, blanket)
    check_rng(rng)
    factors = () if blanket is None else blanket.shape[:1]
    eps, sigma = rng.standard_normal((samples, len(mu)), mu.dtype), np.exp(logvar / 2)
    z = mu + sigma * eps
    if estimator == "pathwise":
        whole = lambda z: ops.sum(check_density(f(z), z, factors).reshape(samples, -1), axis=1)
        values, g = value_and_gradient(whole, z)
        check_finite(values, z, "at a draw of q")
        return values, np.stack([g, g * (sigma * eps / 2)], axis=1)                        # (4)
    with no_grad():
        values = plain(check_density(f(Tensor(z)), z, factors)).reshape(samples, -1)
    check_finite(values, z, "at a draw of q")
    score = np.stack([eps / sigma, (eps * eps - 1) / 2], axis=1)
    parts = (values if blanket is None else values @ blanket)[:, None]                     # (3)
    a = 0
    if estimator != "score":
        weight = np.ones_like(score) if estimator == "baseline" else score * score
        others = lambda x: x.sum(axis=0) - x
        a = others(weight * parts) / others(weight)                                        # (2)
    return values.sum(axis=1), score * (parts - a)                                         # (1)


def elbo_gradients(log_joint: Callable, mu: np.ndarray, logvar: np.ndarray, *, samples: int, rng: np.random.Generator,
                   estimator: str = "control-variate", blanket: np.ndarray | None = None,
                   ) -> tuple[np.ndarray, np.ndarray]:
    """Estimates of the ELBO, (S,), and of its gradient, (S, 2, d), unbiased, for ln p(x, z) = `log_joint(z)`.

    `log_joint`, of z (S, d), returns (S,), or (S, F) with `blanket`; see `expectation_gradients`.
    """
    mu, logvar, blanket = _check(mu, logvar, samples, estimator, blanket)
    if blanket is None:
        f = lambda z: check_density(log_joint(z), z) - Normal(mu, logvar).log_prob(z)      # (5)
    else:                                                          # q has a factor for each coordinate
        each, factors = Normal(mu[:, None], logvar[:, None]), blanket.shape[:1]
        f = lambda z: ops.concatenate([check_density(log_joint(z), z, factors),
                                       -each.log_prob(ops.expand_dims(z, 2))], axis=1)     # (5)
        blanket = np.concatenate([blanket, np.eye(len(mu), dtype=mu.dtype)])
    return expectation_gradients(f, mu, logvar, samples=samples, rng=rng, estimator=estimator, blanket=blanket)


class BBVI(NamedTuple):
    """q = N(mu, exp(logvar)), (d,) each, and the estimate of the ELBO at every step, in nats."""
    mu: np.ndarray
    logvar: np.ndarray
    elbo_trace_: np.ndarray


def bbvi(log_joint: Callable, dim: int, *, rng: np.random.Generator, estimator: str = "control-variate",
         blanket: np.ndarray | None = None, steps: int = 2000, samples: int = 32, lr: float = 0.05) -> BBVI:
    """Fit q to the posterior that `log_joint(z)`, z (S, dim), is of: climb its ELBO by (5) from q = N(0, 1).

    `samples` draws a step, of which `estimator` makes the gradient; `lr` is the first step of Adam.
    """
    check_count(dim, "dim")
    def estimate(q):
        values, g = elbo_gradients(log_joint, *q, samples=samples, rng=rng, estimator=estimator, blanket=blanket)
        return values.mean(), [g.mean(axis=0)]
    [q], trace = ascend(estimate, [np.zeros((2, dim))], steps, lr)
    return BBVI(*q, trace)


def ascend(estimate: Callable, params: list[np.ndarray], steps: int, lr: float,
           on_step: Callable[[int, float], None] | None = None) -> tuple[list[np.ndarray], np.ndarray]:
    """Adam up the gradients that `estimate(*params) -> (value, gradients)` draws: the best parameters, all the values.

    The step falls as lr / √(1 + t / 100), and the mean over the last half of the way is the answer: what noise is left
    in one iterate averages out (Polyak and Juditsky 1992). Adam's second moment forgets within 20 steps, not 1000: the
    gradients of a q far wider than p are so large that remembering them would all but stop it on the way.
    """
    check_count(steps, "steps")
    positive(lr, "lr")
    tensors = [Tensor(p, requires_grad=True) for p in params]
    optimizer = Adam(tensors, lambda t: lr / (1 + t / 100) ** 0.5, betas=(0.9, 0.95))
    means, trace, half = [np.zeros_like(p) for p in params], np.empty(steps), steps // 2
    for t in range(1, steps + 1):
        trace[t - 1], gradients = estimate(*[p.data for p in tensors])
        for p, g in zip(tensors, gradients):
            p.grad = -g
        optimizer.step()
        if t > half:
            for m, p in zip(means, tensors):
                m += (p.data - m) / (t - half)
        if on_step:
            on_step(t, trace[t - 1])
    return means, trace


def _check(mu, logvar, samples, estimator, blanket):
    mu, logvar = np.asarray(plain(mu)), np.asarray(plain(logvar))
    if mu.ndim != 1 or mu.shape != logvar.shape or not (np.isfinite(mu) & np.isfinite(logvar)).all():
        raise ValueError(f"mu and logvar must be finite vectors of one length, not {mu!r} and {logvar!r}")
    check_choice(estimator, "estimator", ESTIMATORS)
    check_count(samples, "samples", least=2 if estimator in ("baseline", "control-variate") else 1)
    dtype = np.result_type(mu, logvar, np.float32)
    if blanket is not None:
        blanket = np.asarray(blanket, dtype)
        if blanket.ndim != 2 or blanket.shape[1] != len(mu) or not np.isin(blanket, (0, 1)).all():
            raise ValueError(f"blanket must be (factors, {len(mu)}) booleans, not of shape {blanket.shape}")
    return mu.astype(dtype), logvar.astype(dtype), blanket
