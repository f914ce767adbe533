"""What the ELBO is, where nothing has to be estimated: a linear-Gaussian model, and grids of one or two latents.

    (1)  ln p(x) = ELBO(q) + KL(q(z) ‖ p(z | x)),  ELBO(q) = E_q ln p(x, z) + H[q]           [elbo.identity]
    (2)  x = W z + μ + s ε:  p(x) = N(x; μ, W Wᵀ + s² I)                                     [elbo.evidence]
    (3)  p(z | x) = N(z; M⁻¹ Wᵀ (x − μ), s² M⁻¹),  M = Wᵀ W + s² I                           [elbo.posterior]
    (4)  KL(N(m, S) ‖ N(n, T)) = ½ [tr T⁻¹S + (n − m)ᵀ T⁻¹ (n − m) − d + ln |T|/|S|]         [elbo.kl-gaussian]
    (5)  ∂/∂m E_q f = E_q ∇f  (Bonnet),  ∂/∂S E_q f = ½ E_q ∇²f  (Price),  q = N(m, S)       [elbo.bonnet-price]
    (6)  reverse KL(q ‖ p) is least where E_q ∇ ln p = 0 and S⁻¹ = −E_q ∇² ln p              [elbo.reverse-kl]
    (7)  forward KL(p ‖ q) is least where q has the mean and the covariance of p             [elbo.forward-kl]

x (D,), z (d,), W (D, d), ε and z standard normal, all in nats. (1) is Bayes' rule under E_q: the evidence does not move
with q, so what the ELBO gains the KL loses. By (6) q seeks a mode, too narrow where q is simpler; by (7) it covers p.
Bishop, Pattern Recognition and Machine Learning, 2006, sections 10.1 and 12.2; Opper and Archambeau, The variational
Gaussian approximation revisited, 2009, for (5) and (6).
"""
import math
from typing import Callable, NamedTuple

import numpy as np
import scipy                                 # whose linalg and optimize load when they are used: 0.1 s
from scipy.special import logsumexp

from autograd import grad, hvp, ops, value_and_grad
from autograd.losses import LOG_2PI

from ..checks import finite, positive


class Terms(NamedTuple):
    """The three terms of (1), in nats: log_evidence = elbo + gap, and gap = KL(q ‖ p(z | x)) >= 0."""
    log_evidence: float
    elbo: float
    gap: float


class Gaussian:
    """N(mean, cov) with a full covariance: mean (d,), cov (d, d). ValueError unless cov is positive definite."""

    def __init__(self, mean: np.ndarray, cov: np.ndarray):
        self.mean = finite(mean, "mean", (None,))
        self.cov = finite(cov, "cov", self.mean.shape * 2)
        self.root = cholesky(self.cov, "cov")

    def log_prob(self, z: np.ndarray) -> np.ndarray:
        """ln N(z; mean, cov), (...), for z (..., d)."""
        z = finite(z, "z", (None,) * (np.ndim(z) - 1) + self.mean.shape)
        e = scipy.linalg.solve_triangular(self.root, (z - self.mean).reshape(-1, len(self.mean)).T, lower=True)
        return -0.5 * (np.sum(e * e, axis=0).reshape(z.shape[:-1]) + len(self.mean) * LOG_2PI) - self._log_volume

    def entropy(self) -> float:
        return 0.5 * len(self.mean) * (LOG_2PI + 1) + self._log_volume

    def kl(self, p: "Gaussian") -> float:
        """KL(self ‖ p)."""
        check_gaussian(p, "p", len(self.mean))
        scale = scipy.linalg.solve_triangular(p.root, self.root, lower=True)
        shift = scipy.linalg.solve_triangular(p.root, p.mean - self.mean, lower=True)
        volumes = p._log_volume - self._log_volume
        return float(0.5 * (np.sum(scale ** 2) + shift @ shift - len(shift)) + volumes)    # (4)

    @property
    def _log_volume(self):
        return float(np.sum(np.log(np.diag(self.root))))           # ½ ln |cov|


class LinearGaussian:
    """x = W z + mu + sqrt(s2) eps, with z and eps standard normal: W (D, d), mu (D,), s2 > 0 a variance."""

    def __init__(self, W: np.ndarray, mu: np.ndarray, s2: float):
        self.W = finite(W, "W", (None, None))
        self.mu = finite(mu, "mu", self.W.shape[:1])
        self.s2 = positive(s2, "s2")

    def log_evidence(self, x: np.ndarray) -> float:
        """ln p(x) for one x (D,)."""
        noise = self.s2 * np.eye(len(self.mu))
        return float(Gaussian(self.mu, self.W @ self.W.T + noise).log_prob(self._check(x)))            # (2)

    def posterior(self, x: np.ndarray) -> Gaussian:
        """p(z | x) for one x (D,)."""
        M = self.W.T @ self.W + self.s2 * np.eye(self.W.shape[1])
        solve = lambda b: scipy.linalg.cho_solve((cholesky(M, "WᵀW + s2 I"), True), b)
        return Gaussian(solve(self.W.T @ (self._check(x) - self.mu)), self.s2 * solve(np.eye(len(M))))  # (3)

    def elbo(self, x: np.ndarray, q: Gaussian) -> float:
        """E_q ln p(x | z) + E_q ln p(z) + H[q]: it knows neither the evidence nor the posterior."""
        x = self._check(x)
        check_gaussian(q, "q", self.W.shape[1])
        error = x - self.mu - self.W @ q.mean
        squares = error @ error + np.sum((self.W @ q.root) ** 2)   # E_q |x − μ − W z|²
        recon = -0.5 * (len(error) * (LOG_2PI + math.log(self.s2)) + squares / self.s2)
        prior = -0.5 * (len(q.mean) * LOG_2PI + q.mean @ q.mean + np.trace(q.cov))
        return float(recon + prior + q.entropy())                                          # (1)

    def terms(self, x: np.ndarray, q: Gaussian) -> Terms:
        """The three terms of (1), none computed from the others."""
        return Terms(self.log_evidence(x), self.elbo(x, q), q.kl(self.posterior(x)))

    def _check(self, x):
        return finite(x, "x", self.mu.shape)


def terms_on_grid(log_joint: np.ndarray, z: np.ndarray, weight: np.ndarray | float, q) -> Terms:
    """The terms of (1) for any model: ln p(x, z) (G,) at nodes z (G, d) with quadrature weights, q with a `log_prob`.

    Raises ValueError if q has more than 1e-6 of its mass off the grid, or is too narrow for it. That the grid holds the
    posterior too is the caller's affair.
    """
    log_joint, log_q = _log_density(log_joint, z), np.asarray(q.log_prob(z))
    mass = np.exp(log_q) * weight
    if not abs(np.sum(mass) - 1) < 1e-6:
        raise ValueError(f"q has {np.sum(mass):.6f} of its mass on the grid, not 1: that is too small or too coarse")
    seen = mass > 0
    mean = lambda f: float(mass[seen] @ f[seen])
    evidence = logsumexp(log_joint, b=weight)
    return Terms(float(evidence), mean(log_joint) - mean(log_q), mean(log_q - (log_joint - evidence)))      # (1)


def gauss_hermite(d: int, nodes: int = 32) -> tuple[np.ndarray, np.ndarray]:
    """Nodes (nodes^d, d) and weights (nodes^d,) with Σ w f(eps) = E f(eps), eps ~ N(0, I), up to degree 2 nodes − 1."""
    line, weight = np.polynomial.hermite_e.hermegauss(nodes)
    eps = np.stack(np.meshgrid(*[line] * d, indexing="ij"), axis=-1).reshape(-1, d)
    return eps, np.prod(np.meshgrid(*[weight / math.sqrt(2 * math.pi)] * d), axis=0).ravel()


def bonnet_price(f: Callable, q: Gaussian, nodes: int = 32) -> tuple[np.ndarray, np.ndarray]:
    """The derivatives of E_q f in q's mean, (d,), and covariance, (d, d); f maps z (G, d) to (G,) with our ops."""
    eps, weight = gauss_hermite(len(q.mean), nodes)
    z, total = q.mean + eps @ q.root.T, lambda z: ops.sum(f(z))
    curvature = [weight @ hvp(total)(z, np.broadcast_to(e, z.shape)) for e in np.eye(len(q.mean))]
    return weight @ grad(total)(z), 0.5 * np.stack(curvature)                              # (5)


def fit_reverse(log_p: Callable, start: Gaussian, mean_field: bool = False, nodes: int = 32) -> Gaussian:
    """The Gaussian of least KL(q ‖ p) that is downhill from `start`; with `mean_field`, of those with a diagonal cov.

    log_p maps z (G, d) to ln p(z) + any constant, (G,), with our ops; expectations are by Gauss-Hermite quadrature. If
    p has several modes, the start decides which of them q finds.
    """
    d = len(start.mean)
    (eps, weight), below = gauss_hermite(d, nodes), np.tril_indices(d, -1)

    def unpack(v):
        root = ops.diag(ops.exp(v[d:2 * d]))
        return v[:d], root if mean_field else root + ops.scatter_add(v[2 * d:], below, (d, d))

    def kl(v):
        mean, root = unpack(v)
        return -(weight @ log_p(mean + eps @ root.T)) - ops.sum(v[d:2 * d])                # (6), but for constants

    v = np.concatenate([start.mean, np.log(np.diag(start.root)), [] if mean_field else start.root[below]])
    found = scipy.optimize.minimize(value_and_grad(kl), v, jac=True, method="L-BFGS-B",
                                    options={"maxiter": 2000, "gtol": 1e-9, "ftol": 1e-15})
    if not (np.isfinite(found.fun) and np.abs(found.jac).max() < 1e-3):
        raise ValueError(f"KL(q ‖ p) has no minimum downhill from start = N({start.mean}, ...): {found.message}")
    mean, root = unpack(found.x)
    return Gaussian(mean, root @ root.T)


def fit_forward(log_p: np.ndarray, z: np.ndarray, weight: np.ndarray | float, mean_field: bool = False) -> Gaussian:
    """The Gaussian of least KL(p ‖ q): p is ln p(z) + any constant, (G,), at nodes z (G, d) with quadrature weights."""
    log_p = _log_density(log_p, z)
    mass = np.exp(log_p - logsumexp(log_p, b=weight)) * weight
    mean = mass @ z
    cov = (mass[:, None] * (z - mean)).T @ (z - mean)
    return Gaussian(mean, np.diag(np.diag(cov)) if mean_field else cov)                    # (7)


def _log_density(values, z):
    """Log densities at the nodes z, (G,): −inf is one, NaN is none, and not all of them may be −inf."""
    values = np.asarray(values)
    if np.ndim(z) != 2 or values.shape != (len(z),):
        raise ValueError(f"log densities must be (G,) at nodes z (G, d), not {values.shape} at {np.shape(z)}")
    if np.isnan(values).any() or values.max() in (math.inf, -math.inf):
        raise ValueError(f"log densities must be below inf, and one of them finite; their maximum is {values.max()}")
    return values


def check_gaussian(q, name, d):
    """Raise ValueError unless q is a Gaussian over z (d,)."""
    if not isinstance(q, Gaussian) or len(q.mean) != d:
        found = f"of dimension {len(q.mean)}" if isinstance(q, Gaussian) else repr(q)
        raise ValueError(f"{name} must be a Gaussian of dimension {d}, not {found}")


def cholesky(matrix: np.ndarray, name: str) -> np.ndarray:
    """L with L Lᵀ = matrix; ValueError unless that is symmetric and positive definite."""
    if np.abs(matrix - matrix.T).max() > 1e-6 * np.abs(matrix).max():
        raise ValueError(f"{name} must be symmetric")
    try:
        return np.linalg.cholesky(matrix)
    except np.linalg.LinAlgError:
        smallest = np.linalg.eigvalsh(matrix)[0]
        raise ValueError(f"{name} must be positive definite; its smallest eigenvalue is {smallest:.3g}") from None
