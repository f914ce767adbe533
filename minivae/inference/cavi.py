"""Coordinate ascent: q is a product of factors, and each in its turn is set to the best there is, the others held.

    (1)  ln qᵢ(zᵢ) = E_{q of the others} ln p(x, z) + constant maximises the ELBO in qᵢ      [cavi.argmax]
         so that the ELBO never falls                                                        [cavi.monotone]
    (2)  z ~ N(μ, Λ⁻¹):  qᵢ = N(mᵢ, 1/Λᵢᵢ),  mᵢ = μᵢ − Σ_{j≠i} Λᵢⱼ (mⱼ − μⱼ) / Λᵢᵢ             [cavi.gaussian]
    (3)  x ~ N(μ, 1/τ), μ ~ N(m₀, 1/(λ₀τ)), τ ~ Gam(a₀, b₀):  q(μ) = N(m, 1/λ), q(τ) = Gam(a, b),
         m = (λ₀m₀ + Σ x)/(λ₀ + N),  λ = (λ₀ + N) E τ,
         a = a₀ + (N + 1)/2,  b = b₀ + ½ E[Σ (x − μ)² + λ₀ (μ − m₀)²]                        [cavi.normal-gamma]
    (4)  x ~ Σₖ πₖ N(μₖ, Λₖ⁻¹), π ~ Dir(α₀), μₖ, Λₖ ~ NW(m₀, β₀, W₀, ν₀):
         rₙₖ ∝ ρₙₖ = exp E[ln πₖ + ln N(xₙ; μₖ, Λₖ⁻¹)]                                       [cavi.responsibilities]
         α = α₀ + N,  β = β₀ + N,  ν = ν₀ + N,  m = (β₀m₀ + Σₙ rₙ xₙ)/β,
         W⁻¹ = W₀⁻¹ + Σₙ rₙ (xₙ − m)(xₙ − m)ᵀ + β₀ (m − m₀)(m − m₀)ᵀ,  each of k with N = Σₙ rₙ
    (5)  ELBO = Σ r ln ρ/r − KL(Dir(α) ‖ Dir(α₀)) − Σₖ KL(NWₖ ‖ NW₀)                         [cavi.mixture-elbo]
    (6)  p(x | X) ~ Σₖ E[πₖ] St(x; mₖ, (1 + β)/((ν + 1 − D) β) W⁻¹, ν + 1 − D)               [cavi.predictive]

X (N, D), r (N, K), m (K, D), W (K, D, D), the others (K,). A small α₀ lets components that are not needed go empty:
their weight falls to almost nothing and their factor back to the prior. Bishop, Pattern Recognition and Machine
Learning, 2006, section 10.1.2 for (2), 10.1.3 for (3), 10.2 for (4) to (6), there with Σₙ rₙ taken about the mean of
the rₙ xₙ; about m, as here, nothing is divided by an N that may be 0.
"""
import math
import warnings
from typing import NamedTuple

import numpy as np
import scipy
from scipy.special import gammaln, logsumexp, multigammaln, psi, softmax, xlogy

from autograd import ops
from autograd.losses import LOG_2PI
from autograd.nn import check_rng

from ..checks import check_count, finite, positive
from .elbo import cholesky


class MeanField(NamedTuple):
    """q = Π N(mean_i, variance_i), (d,) each, and the ELBO before the first sweep and after each."""
    mean: np.ndarray
    variance: np.ndarray
    elbo_trace: list[float]


def cavi_gaussian(mu: np.ndarray, precision: np.ndarray, start: np.ndarray | None = None, max_iter: int = 1000,
                  tol: float = 1e-12) -> MeanField:
    """The mean-field approximation of N(mu, precision⁻¹), mu (d,), from means `start` (zeros) and unit variances.

    It stops when a sweep over the d factors gains no more than `tol` nats. The evidence is 1: the ELBO is −KL(q ‖ p).
    """
    mu = finite(mu, "mu", (None,))
    precision = finite(precision, "precision", mu.shape * 2)
    cholesky(precision, "precision")
    m = np.zeros_like(mu) if start is None else np.array(finite(start, "start", mu.shape))
    v, diagonal = np.ones_like(mu), np.diag(precision)

    def sweep():
        for i in range(len(mu)):
            others = precision[i] @ (m - mu) - diagonal[i] * (m[i] - mu[i])
            m[i], v[i] = mu[i] - others / diagonal[i], 1 / diagonal[i]                     # (2)

    return MeanField(m, v, _climb(sweep, lambda: gaussian_elbo(m, v, mu, precision), max_iter, tol))


def gaussian_elbo(m, v, mu: np.ndarray, precision: np.ndarray):
    """E_q ln N(z; mu, precision⁻¹) + H[q] for q = Π N(mᵢ, vᵢ), differentiable in m and v."""
    squares = ops.sum((m - mu) * (precision @ (m - mu))) + ops.sum(np.diag(precision) * v)
    return 0.5 * (np.linalg.slogdet(precision)[1] - squares + ops.sum(1 + ops.log(v)))


class NormalGamma(NamedTuple):
    """p(μ, τ) = N(μ; m, 1/(lam τ)) Gam(τ; a, b), b a rate: the conjugate prior of N(x; μ, 1/τ)."""
    m: float = 0.0
    lam: float = 1.0
    a: float = 1.0
    b: float = 1.0

    def posterior(self, x: np.ndarray) -> "NormalGamma":
        """p(μ, τ | x), exactly, for x (N,)."""
        x, (m, lam, a, b) = finite(x, "x", (None,)), self.checked()
        n, mean = len(x), np.mean(x)
        spread = np.sum((x - mean) ** 2) + lam * n / (lam + n) * (mean - m) ** 2
        return NormalGamma((lam * m + n * mean) / (lam + n), lam + n, a + n / 2, b + spread / 2)

    def log_evidence(self, x: np.ndarray) -> float:
        """ln p(x), nats, for x (N,)."""
        return float(self.checked()._log_mass() - self.posterior(x)._log_mass() - len(x) * LOG_2PI / 2)

    def checked(self) -> "NormalGamma":
        """self in floats; ValueError unless m is finite and the others are positive."""
        return NormalGamma(float(finite(self.m, "m", ())), *map(positive, self[1:], self._fields[1:]))

    def _log_mass(self):
        return 0.5 * math.log(self.lam) + self.a * math.log(self.b) - gammaln(self.a)


class NormalGammaFactors(NamedTuple):
    """q(μ) = N(m, 1/lam) and q(τ) = Gam(a, b), and the ELBO before the first sweep and after each."""
    m: float
    lam: float
    a: float
    b: float
    elbo_trace: list[float]


def cavi_normal_gamma(x: np.ndarray, prior: NormalGamma = NormalGamma(), max_iter: int = 1000,
                      tol: float = 1e-12) -> NormalGammaFactors:
    """q(μ) q(τ) for a Gaussian of unknown mean and precision, from x (N,); stops when a sweep gains <= `tol` nats."""
    x = finite(x, "x", (None,)).astype(np.float64)
    if not isinstance(prior, NormalGamma):
        raise ValueError(f"prior must be a NormalGamma, not {prior!r}")
    m0, lam0, a0, b0 = q = [*prior.checked()]

    def sweep():
        m, lam, a, b = q
        m, lam = (lam0 * m0 + np.sum(x)) / (lam0 + len(x)), (lam0 + len(x)) * a / b        # (3)
        a = a0 + (len(x) + 1) / 2                                                          # (3)
        b = b0 + 0.5 * (np.sum((x - m) ** 2) + lam0 * (m - m0) ** 2 + (lam0 + len(x)) / lam)            # (3)
        q[:] = m, lam, a, b

    trace = _climb(sweep, lambda: normal_gamma_elbo(x, prior, *q), max_iter, tol)
    return NormalGammaFactors(*map(float, q), trace)


def normal_gamma_elbo(x: np.ndarray, prior: NormalGamma, m: float, lam: float, a: float, b: float) -> float:
    """The ELBO of q(μ) = N(m, 1/lam) and q(τ) = Gam(a, b), in nats."""
    n, (m0, lam0, a0, b0) = len(x), prior
    tau, log_tau = a / b, psi(a) - np.log(b)                       # E τ and E ln τ
    squares = np.sum((x - m) ** 2) + lam0 * (m - m0) ** 2 + (lam0 + n) / lam
    joint = 0.5 * ((n + 1) * (log_tau - LOG_2PI) + np.log(lam0) - tau * squares) \
        + a0 * np.log(b0) - gammaln(a0) + (a0 - 1) * log_tau - b0 * tau
    return joint + 0.5 * (LOG_2PI + 1 - np.log(lam)) + a - np.log(b) + gammaln(a) + (1 - a) * psi(a)


class NormalWishart(NamedTuple):
    """p(μ, Λ) = N(μ; m, (beta Λ)⁻¹) W(Λ; W, nu), K of them: m (K, D), beta (K,), inv_W = W⁻¹ (K, D, D), nu (K,)."""
    m: np.ndarray
    beta: np.ndarray
    inv_W: np.ndarray
    nu: np.ndarray

    def expected_log_det(self) -> np.ndarray:
        """E ln |Λ|, (K,)."""
        D = self.m.shape[-1]
        return np.sum(psi((self.nu[:, None] - np.arange(D)) / 2), axis=1) + D * math.log(2) - self._log_det()

    def expected_log_prob(self, X: np.ndarray) -> np.ndarray:
        """E ln N(x; μ, Λ⁻¹), (N, K), for X (N, D)."""
        D, squares = X.shape[1], self.nu * self._squares(X) + X.shape[1] / self.beta       # E (x − μ)ᵀ Λ (x − μ)
        return 0.5 * (self.expected_log_det() - D * LOG_2PI - squares)

    def predictive_log_prob(self, X: np.ndarray) -> np.ndarray:
        """ln E N(x; μ, Λ⁻¹), (N, K), for X (N, D)."""
        D, df, wider = X.shape[1], self.nu + 1 - X.shape[1], 1 + 1 / self.beta
        log_norm = gammaln((df + D) / 2) - gammaln(df / 2) - 0.5 * (D * np.log(math.pi * wider) + self._log_det())
        return log_norm - 0.5 * (df + D) * np.log1p(self._squares(X) / wider)              # (6)

    def kl(self, p: "NormalWishart") -> np.ndarray:
        """KL(self ‖ p), (K,)."""
        D, ratio, shift = self.m.shape[-1], p.beta / self.beta, self.m - p.m
        W = np.linalg.inv(self.inv_W)
        squares = p.beta * self.nu * np.einsum("ki,kij,kj->k", shift, W, shift)
        means = 0.5 * (D * (ratio - 1 - np.log(ratio)) + squares)
        trace = self.nu * (np.sum(p.inv_W * W, axis=(1, 2)) - D)
        wisharts = 0.5 * ((self.nu - p.nu) * self.expected_log_det() + trace) + self._log_norm() - p._log_norm()
        return means + wisharts

    def update(self, X: np.ndarray, r: np.ndarray) -> "NormalWishart":
        """The posterior for X (N, D), seen by component k to the degree r (N, K): self is the prior of each."""
        n = r.sum(axis=0)
        m = (self.beta[:, None] * self.m + r.T @ X) / (self.beta + n)[:, None]
        spread = [(r[:, k, None] * (X - m[k])).T @ (X - m[k]) for k in range(len(m))]
        shift = m - self.m
        inv_W = self.inv_W + spread + self.beta[:, None, None] * shift[:, :, None] * shift[:, None]
        return NormalWishart(m, self.beta + n, inv_W, self.nu + n)                         # (4)

    def _squares(self, X):
        """(x − m)ᵀ W (x − m), (N, K)."""
        scaled = [scipy.linalg.solve_triangular(l, (X - m).T, lower=True)
                  for l, m in zip(np.linalg.cholesky(self.inv_W), self.m)]
        return np.sum(np.square(scaled), axis=1).T

    def _log_det(self):
        return np.linalg.slogdet(self.inv_W)[1]                    # −ln |W|

    def _log_norm(self):
        D = self.m.shape[-1]
        return 0.5 * self.nu * (self._log_det() - D * math.log(2)) - multigammaln(self.nu / 2, D)


class BayesianMixture(NamedTuple):
    """q(Z) = r, q(π) = Dir(alpha), q(μ, Λ) = components, and the ELBO after each iteration, in nats."""
    responsibilities: np.ndarray
    alpha: np.ndarray
    components: NormalWishart
    elbo_trace: list[float]

    @property
    def weights(self) -> np.ndarray:
        """E π, (K,)."""
        return self.alpha / self.alpha.sum()

    @property
    def means(self) -> np.ndarray:
        """E μ, (K, D)."""
        return self.components.m

    @property
    def covariances(self) -> np.ndarray:
        """(E Λ)⁻¹, (K, D, D)."""
        return self.components.inv_W / self.components.nu[:, None, None]

    def predictive_log_prob(self, X: np.ndarray) -> np.ndarray:
        """ln p(x | the data), (N,), for X (N, D)."""
        X = finite(X, "X", (None, self.means.shape[1]))
        return logsumexp(np.log(self.weights) + self.components.predictive_log_prob(X), axis=1)             # (6)


def cavi_gaussian_mixture(X: np.ndarray, n_components: int, alpha0: float = 1e-2, beta0: float = 1.0,
                          m0: np.ndarray | None = None, W0: np.ndarray | None = None, nu0: float | None = None, *,
                          max_iter: int = 500, tol: float = 1e-7, rng: np.random.Generator) -> BayesianMixture:
    """A Bayesian Gaussian mixture of at most `n_components`, from X (N, D) and responsibilities by k-means++.

    The priors are those of (4); m0 is the mean of X unless given, W0⁻¹ its covariance, nu0 its width D. It stops when
    an iteration gains no more than `tol` nats an example, and warns if `max_iter` come first. Raises ValueError if
    n_components > N, if a prior is not one, and if X has a singular covariance and no W0 says how wide a component is.
    """
    from ..linear.gaussian_mixture import nearest_seed             # which loads scipy.linalg, scipy.spatial
    check_rng(rng)
    data = finite(X, "X", (None, None))
    X, K = data.astype(np.float64), check_count(n_components, "n_components", len(data), ", the rows of X")
    alpha0, prior = positive(alpha0, "alpha0"), _prior(X, K, positive(beta0, "beta0"), m0, W0, nu0)
    r = nearest_seed(X @ np.linalg.cholesky(np.linalg.inv(prior.inv_W[0])), K, rng)
    alpha, q = None, None

    def sweep():
        nonlocal r, alpha, q
        alpha, q = alpha0 + r.sum(axis=0), prior.update(X, r)                              # (4)
        r = softmax(log_rho(X, alpha, q), axis=1)                                          # (4)

    sweep()
    trace = _climb(sweep, lambda: mixture_elbo(X, r, alpha, q, alpha0, prior), max_iter, tol, len(X))
    return BayesianMixture(*[a.astype(data.dtype) for a in (r, alpha)],
                           NormalWishart(*[a.astype(data.dtype) for a in q]), trace)


def log_rho(X: np.ndarray, alpha: np.ndarray, q: NormalWishart) -> np.ndarray:
    """E[ln πₖ + ln N(xₙ; μₖ, Λₖ⁻¹)], (N, K)."""
    return psi(alpha) - psi(alpha.sum()) + q.expected_log_prob(X)                          # (4)


def mixture_elbo(X: np.ndarray, r: np.ndarray, alpha: np.ndarray, q: NormalWishart, alpha0: float,
                 prior: NormalWishart) -> float:
    """The ELBO, in nats, of any r (N, K), alpha (K,) and q: they need not be each other's best."""
    likelihood = np.sum(r * log_rho(X, alpha, q)) - np.sum(xlogy(r, r))
    return float(likelihood - dirichlet_kl(alpha, np.full_like(alpha, alpha0)) - np.sum(q.kl(prior)))   # (5)


def dirichlet_kl(alpha: np.ndarray, other: np.ndarray) -> float:
    """KL(Dir(alpha) ‖ Dir(other)), (K,) both."""
    log_norm = lambda a: gammaln(a.sum()) - np.sum(gammaln(a))
    return float(log_norm(alpha) - log_norm(other) + (alpha - other) @ (psi(alpha) - psi(alpha.sum())))


def _prior(X, K, beta0, m0, W0, nu0):
    """K times NW(m0, beta0, W0, nu0), with what was not given taken from X."""
    D = X.shape[1]
    m0 = X.mean(axis=0) if m0 is None else finite(m0, "m0", (D,))
    nu0 = D if nu0 is None else positive(nu0, "nu0")
    if nu0 <= D - 1:
        raise ValueError(f"nu0 must be more than D - 1 = {D - 1}, not {nu0}: a Wishart has no density otherwise")
    if W0 is None:
        inv_W = np.atleast_2d(np.cov(X.T)) if len(X) > 1 else np.zeros((D, D))
        if np.linalg.matrix_rank(inv_W, hermitian=True) < D:
            raise ValueError(f"the covariance of X, {X.shape}, is singular and cannot be the prior's: give W0, (D, D)")
    else:
        W0 = finite(W0, "W0", (D, D))
        cholesky(W0, "W0")
        inv_W = np.linalg.inv(W0)
    return NormalWishart(np.tile(m0, (K, 1)), np.full(K, beta0), np.tile(inv_W, (K, 1, 1)), np.full(K, float(nu0)))


def _climb(sweep, elbo, max_iter, tol, examples=1):
    """Sweep until that gains no more than `tol` nats an example; the ELBO at the start and after each sweep."""
    check_count(max_iter, "max_iter")
    tol = examples * float(finite(tol, "tol", ()))
    trace = [float(elbo())]
    for _ in range(max_iter):
        sweep()                                                                            # (1)
        trace.append(float(elbo()))
        if trace[-1] - trace[-2] <= tol:
            return trace
    warnings.warn(f"not converged in max_iter={max_iter} sweeps: the last gained {trace[-1] - trace[-2]:.2g} nats, "
                  f"tol={tol:g}", RuntimeWarning, stacklevel=3)
    return trace
