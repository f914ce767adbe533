"""Factor analysis: a few shared causes, and for each feature a noise of its own. With equal noises it is PPCA; without,
the features' units do not matter: rescale one, and its loadings and its noise rescale with it.

    (1)  z ~ N(0, I),  x = W z + μ + ε,  ε ~ N(0, Ψ)  ⇒  x ~ N(μ, W Wᵀ + Ψ)                  [fa.density]
    (2)  p(z | x) = N(G WᵀΨ⁻¹(x − μ), G),  G = (I + WᵀΨ⁻¹W)⁻¹                                [fa.posterior]
    (3)  E: ⟨(x − μ − W z)(x − μ − W z)ᵀ⟩ = S − W Wᵀ, since ⟨(x − μ) zᵀ⟩ = W, ⟨z zᵀ⟩ = I at the W of (5)  [fa.residual]
    (4)  M: Ψ ← diag(S − W Wᵀ), the maximum of ⟨ln p(x, z)⟩                                  [fa.noise]
    (5)     W ← Ψ^½ U (Λ − I)₊^½, the maximum of ln p(X | Ψ)                                 [fa.loadings]
         Λ and U: the q largest eigenvalues of Ψ^−½ S Ψ^−½ and their eigenvectors
    (6)  x → B x, B diagonal, takes W → B W, Ψ → B Ψ B, ln p(x) → ln p(x) − ln |B|           [fa.units]
    (7)  Ψ = s² I, (4) averaged over the features: PPCA, s² the mean of the discarded eigenvalues of S  [fa.ppca]

x (D,), z (q,), W (D, q), Ψ (D, D) diagonal, S = ⟨(x − μ)(x − μ)ᵀ⟩ (D, D); ⟨⟩ averages over the data and over p(z | x).
EM finds W from the expected ln p(x, z), too (Rubin and Thayer 1982). To find it from the likelihood itself is ECME (Liu
and Rubin 1994): it climbs as surely, and in fewer steps. (5) is Lawley's, 1940; the start, Ψ = (1 − q/2D) diag(S⁻¹)⁻¹,
Jöreskog's, 1967.
"""
import math

import numpy as np
from scipy.linalg import cholesky, eigh, inv, solve_triangular

from autograd.losses import LOG_2PI
from autograd.nn import check_rng

from ..checks import check_count, check_number
from .estimator import EM, all_or_nothing, check_matrix
from .pca import check_components, check_width, upright

FLOOR = 1e-6                                 # the least Ψᵢ, as a share of the variance of feature i
CONSTANT = 1e-12                             # Ψᵢ of a feature that has no variance


class FactorAnalysis(EM):
    """q = `n_components` factors by maximum likelihood.

    rng    begin at random noise variances: the likelihood can have several maxima
    tol    stop when an iteration gains less, in nats an example

    After `fit`: W_ (D, q), its columns by falling Λ; components_ (q, D), its transpose; noise_variance_ (D,), the
    diagonal of Ψ; mean_ (D,); loglik_trace_, the mean ln p(x) in nats at the start and after each iteration; n_iter_.

    A noise variance that falls towards 0 (a Heywood case: the factors say all of that feature) stops at a millionth of
    the feature's variance. A constant feature has loadings 0 and the noise variance 1e-12.
    """

    def __init__(self, n_components: int, rng: np.random.Generator | None = None, tol: float = 1e-6,
                 max_iter: int = 1000):
        self.n_components, self.rng = n_components, rng
        self.tol, self.max_iter = check_number(tol, "tol"), check_count(max_iter, "max_iter")
        if rng is not None:
            check_rng(rng)

    @all_or_nothing
    def fit(self, X: np.ndarray, y=None) -> "FactorAnalysis":
        """Raises ValueError for a single row, and for q > min(N, D)."""
        dtype = (X := check_matrix(X)).dtype
        X = X.astype(np.float64, copy=False)
        (n, d), q = X.shape, check_components(self.n_components, X)
        constant = np.ptp(X, axis=0) == 0
        self.mean_ = np.where(constant, X[0], X.mean(axis=0))      # equal numbers can have another mean, by rounding
        S = (X - self.mean_) / math.sqrt(n)                        # (N, D): the covariance is SᵀS
        if n >= d:
            S = S.T @ S
        variance = np.where(constant, 1, _variance(S))
        if FLOOR * variance.min() < np.finfo(variance.dtype).tiny:
            raise ValueError(f"feature {np.argmin(variance)} of X varies so little that its variance underflows: take "
                             f"smaller units")
        if self.rng is not None:
            start = _variance(S) * self.rng.random(d)
        elif n >= d:
            unit = np.sqrt(variance)
            R = S / unit / unit[:, None]                           # in units that do not matter: the correlations
            ridge = np.where(constant, 1, 0.01)                    # which can be singular
            start = (1 - q / (2 * d)) * variance / np.diag(inv(R + np.diag(ridge)))
        else:
            start = _variance(S) / 2
        self._maximise(S, start)
        self._climb(S)
        self.mean_ = self.mean_.astype(dtype)
        return self

    def _expect(self, S):
        residual = _variance(S) - np.sum(self.W_ ** 2, axis=1)                             # (3)
        signal = np.sum(self.W_ ** 2 / self.noise_variance_[:, None], axis=0)      # diagonal of (Λ − I)₊
        logdet = np.sum(np.log(self.noise_variance_)) + np.sum(np.log1p(signal))
        trace = np.sum(_variance(S) / self.noise_variance_) - np.sum(signal)       # of (W Wᵀ + Ψ)⁻¹ S
        return residual, -0.5 * (len(residual) * LOG_2PI + logdet + trace)                 # (1)

    def _maximise(self, S, residual):
        floor = np.where(_variance(S) > 0, FLOOR * _variance(S), CONSTANT)
        self.noise_variance_ = np.maximum(residual, floor)                                 # (4)
        self.components_ = upright(loadings(S, self.noise_variance_, self.n_components).T)
        self.W_ = self.components_.T

    def posterior(self, X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Of z given each row of X, the mean (N, q), and the covariance (q, q), which is the same for all."""
        X = self._check(X)
        P = self.W_ / self.noise_variance_[:, None]
        G = inv(np.eye(P.shape[1]) + self.W_.T @ P)
        return ((X - self.mean_) @ P @ G).astype(X.dtype), G.astype(X.dtype)               # (2)

    def transform(self, X: np.ndarray) -> np.ndarray:
        """The posterior mean of z, (N, q)."""
        return self.posterior(X)[0]

    def inverse_transform(self, Z: np.ndarray) -> np.ndarray:
        """E[x | z] = W z + μ, (N, D), at each row of Z (N, q)."""
        Z = check_width(Z, len(self.components_), self)
        return (Z @ self.components_ + self.mean_).astype(Z.dtype)

    def score_samples(self, X: np.ndarray) -> np.ndarray:
        """ln p(x), (N,), in nats."""
        X = self._check(X)
        d, P = X - self.mean_, self.W_ / self.noise_variance_[:, None]
        L = cholesky(np.eye(P.shape[1]) + self.W_.T @ P, lower=True)                       # L Lᵀ = G⁻¹
        logdet = np.sum(np.log(self.noise_variance_)) + 2 * np.sum(np.log(np.diag(L)))
        distance = d ** 2 @ (1 / self.noise_variance_) - np.sum(solve_triangular(L, (d @ P).T, lower=True) ** 2, axis=0)
        return (-0.5 * (d.shape[1] * LOG_2PI + logdet + distance)).astype(X.dtype)         # (1)

    def sample(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """n draws of x, (n, D)."""
        check_rng(rng)
        z, eps = (rng.standard_normal((check_count(n, "n"), k)) for k in self.components_.shape)
        x = z @ self.components_ + self.mean_ + np.sqrt(self.noise_variance_) * eps        # (1)
        return x.astype(self.mean_.dtype)


def loadings(S: np.ndarray, noise_variance: np.ndarray, q: int) -> np.ndarray:
    """The W (D, q) of greatest likelihood for the noise variances (D,) and the covariance S (D, D), or a root of it:
    S (N, D), N < D, and the covariance is SᵀS, which is then never formed."""
    scale = np.sqrt(noise_variance)
    A, m = S / scale, len(S)
    if m == len(scale):
        eigenvalues, U = eigh(A / scale[:, None], subset_by_index=(m - q, m - 1), overwrite_a=True)
    else:
        eigenvalues, V = eigh(A @ A.T, subset_by_index=(m - q, m - 1), overwrite_a=True)
        U = A.T @ (V / np.sqrt(np.maximum(eigenvalues, 1)))        # below 1 it is no factor: (5) makes it 0
    return (scale[:, None] * U * np.sqrt(np.maximum(eigenvalues - 1, 0)))[:, ::-1]         # (5)


def _variance(S):
    """The diagonal of the covariance, from either form of S."""
    return np.diag(S) if S.shape[0] == S.shape[1] else np.sum(S ** 2, axis=0)
