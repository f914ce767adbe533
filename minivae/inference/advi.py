"""Automatic differentiation variational inference: a Gaussian fitted to any log joint, on a space without constraints.

    (1)  q(ζ) = N(ζ; μ, L Lᵀ):  mean-field L = diag(exp ω);  full-rank L is lower triangular, its diagonal exp ω
    (2)  ELBO = E_q[ln p(x, T(ζ)) + ln |det ∂T/∂ζ|] + H[q],  H[q] = ½ d ln 2πe + Σ ω         [advi.elbo]
    (3)  ζ = μ + L ε:  ∇ ELBO = E_ε ∇[ln p(x, ζ) − ln q̄(ζ)],  q̄ = q held fixed               [advi.gradient]
    (4)  for p = N(m, Λ⁻¹), at the optimum:  full-rank q = p                                 [advi.full-rank]
         mean-field  μ = m,  exp(−2ω) = diag Λ                                               [advi.mean-field]

ζ (S, d), ε ~ N(0, I). In (3) the paper has ∇H[q], which is exact; −∇ ln q̄ has the same mean, and noise that cancels
that of ∇ ln p, all of it where q = p. The transforms T are those of transforms.py; psis.py tells by k̂ where q falls
short of p, but not where it is too wide. Kucukelbir et al., JMLR 18, 2017, sections 2.3 to 2.6; Roeder et al.,
arXiv:1703.09194, for (3); Yao et al., arXiv:1802.02538, for judging q by k̂.
"""
import math
import warnings
from typing import Callable, NamedTuple

import numpy as np

from autograd import no_grad, ops, value_and_grad
from autograd.losses import LOG_2PI
from autograd.nn import check_rng
from autograd.tensor import plain

from ..checks import check_choice, check_count
from .bbvi import ascend
from .psis import pareto_k
from .transforms import Space, check_finite

FAMILIES = ("mean-field", "full-rank")
DRAWS = 20_000                               # weights that a fit is judged by: the tail of 4,000 can still be its bulk


class Approximation(NamedTuple):
    """q of (1): mu (d,), and omega (d,) for the mean field, or (d, d), whose lower triangle counts."""
    mu: np.ndarray
    omega: np.ndarray

    @property
    def log_scale(self):
        return self.omega if self.omega.ndim == 1 else ops.diag(self.omega)

    @property
    def factor(self):
        """L (d, d)."""
        return ops.diag(ops.exp(self.log_scale)) + (ops.tril(self.omega, -1) if self.omega.ndim == 2 else 0)       # (1)

    def at(self, eps):
        """ζ (S, d) of ε (S, d)."""
        return self.mu + (eps * ops.exp(self.omega) if self.omega.ndim == 1 else eps @ self.factor.T)       # (3)

    def log_prob(self, z):
        centred = z - self.mu
        eps = centred * ops.exp(-self.omega) if self.omega.ndim == 1 else ops.solve(self.factor, centred.T).T
        return -0.5 * ops.sum(LOG_2PI + eps * eps, axis=-1) - ops.sum(self.log_scale)

    def entropy(self):
        return 0.5 * len(self.mu) * (LOG_2PI + 1) + ops.sum(self.log_scale)                # (2)


class ADVI(NamedTuple):
    """A fitted q, and what speaks for it.

    elbo_trace_  the estimate of the ELBO at every step, in nats
    elbo_change  by how many nats its mean over the last tenth of the steps differs from that over the tenth before
    elbo_error   the standard error of that difference, from the noise within the two
    pareto_k     k̂ of the importance weights of q: below 0.7 q will do; see psis.py
    """
    space: Space
    q: Approximation
    elbo_trace_: np.ndarray
    elbo_change: float
    elbo_error: float
    pareto_k: float

    @property
    def mean(self) -> np.ndarray:
        """μ, (d,), in the unconstrained space, where its order is that of the parameters."""
        return self.q.mu

    @property
    def covariance(self) -> np.ndarray:
        """L Lᵀ, (d, d), in the unconstrained space."""
        return self.q.factor @ self.q.factor.T

    def sample(self, n: int, rng: np.random.Generator) -> np.ndarray | dict[str, np.ndarray]:
        """n draws of the parameters as `log_joint` takes them: (n, d), or a dict of (n, ...)."""
        check_rng(rng)
        return self.space.constrain(self.q.at(rng.standard_normal((check_count(n, "n"), self.space.dim))))[0]


def advi(log_joint: Callable, parameters: int | dict, *, rng: np.random.Generator, family: str = "mean-field",
         steps: int = 2000, samples: int = 16, lr: float = 0.05, start=None,
         on_step: Callable[[int, float], None] | None = None) -> ADVI:
    """Fit q to the posterior that `log_joint` (nats, up to a constant) is of.

        advi(lambda w, sigma: ..., {"w": 3, "sigma": "positive"}, rng=rng).sample(1000, rng)["sigma"]

    log_joint   of Tensors with a leading axis of S draws, w (S, 3) and sigma (S,); returns (S,)
    parameters  names, shapes and transforms, as `Space` takes them; a number d for `log_joint(z)`, z (S, d) real
    family      "mean-field" or "full-rank"
    samples     draws a step;  lr  the first step of Adam;  on_step  called with the step and its ELBO
    start       where to begin, as `sample` gives one draw; by default ζ = 0

    Warns that the fit is not to be trusted if k̂ > 0.7, or the ELBO still changes by more than 0.05 nats and 4 standard
    errors. Raises ValueError where the log joint is not finite, has another shape, or ignores the parameters.
    """
    check_rng(rng)
    check_choice(family, "family", FAMILIES)
    check_count(samples, "samples")
    space = Space(parameters)
    density, d = space.density(log_joint), space.dim
    mu = np.zeros(d) if start is None else space.unconstrain(start)
    if mu.shape != (d,):
        raise ValueError(f"start must be one draw, not {mu.shape[:-1]} of them")

    both = value_and_grad(lambda mu, omega, eps: elbo(density, mu, omega, eps), (0, 1))
    estimate = lambda mu, omega: both(mu, omega, rng.standard_normal((samples, d)))
    with no_grad():
        check_finite(plain(density(mu[None])), mu[None], "at the start")
    omega = np.zeros(d if family == "mean-field" else (d, d))
    (mu, omega), trace = ascend(estimate, [mu, omega], steps, lr, on_step)
    q = Approximation(mu, omega)
    k, (change, error) = pareto_k(_log_weights(density, q, DRAWS, rng)), _change(trace)
    if k > 0.7 or change > max(0.05, 4 * error):
        warnings.warn(f"this {family} q is not to be trusted: Pareto k = {k:.2f} (good below 0.7), and the ELBO still "
                      f"changes by {change:.2g} nats, with a standard error of {error:.1g} (good below 0.05, or 4 "
                      "standard errors)", RuntimeWarning, stacklevel=2)
    return ADVI(space, q, trace, change, error, k)


def elbo(density: Callable, mu, omega, eps: np.ndarray):
    """An estimate of (2) from ε (S, d), for `density(z)` (S,), whose gradient in mu and omega is (3)."""
    held, z = Approximation(plain(mu), plain(omega)), Approximation(mu, omega).at(eps)
    log_p = density(z)
    check_finite(plain(log_p), plain(z), "at a draw of q")
    return ops.mean(log_p - held.log_prob(z))                                              # (3)


@no_grad()
def _log_weights(density: Callable, q: Approximation, n: int, rng: np.random.Generator) -> np.ndarray:
    """ln p(ζ) − ln q(ζ) of n draws of q, (n,), worked on 256 at a time."""
    zs = np.array_split(q.at(rng.standard_normal((n, len(q.mu)))), -(-n // 256))
    return np.concatenate([plain(density(z)) - q.log_prob(z) for z in zs])


def _change(trace):
    """The distance of the means of the last two tenths, and its standard error: each step draws its own ε."""
    tenth = max(4, len(trace) // 10)                               # of fewer, a steady climb is within 4 errors
    if len(trace) < 2 * tenth:
        return math.inf, 0.0
    tenths = trace[-2 * tenth:].reshape(2, tenth)
    return float(abs(np.subtract(*tenths.mean(axis=1)))), float(np.sqrt(np.sum(tenths.var(axis=1, ddof=1)) / tenth))
