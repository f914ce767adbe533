"""A mixture of PPCAs: where PPCA lays one plane through the data, this lays a patch on each part of them, with a mean,
directions and noise of its own; and one likelihood decides whose each example is.

    (1)  p(x) = Σₖ πₖ N(x; μₖ, WₖWₖᵀ + sₖ² I):  x = Wₖ z + μₖ + sₖ ε,  z ~ N(0, I)           [mppca.density]
    (2)  p(z | x, k) = N(Mₖ⁻¹Wₖᵀ(x − μₖ), sₖ² Mₖ⁻¹),  Mₖ = WₖᵀWₖ + sₖ² I                     [mppca.posterior]
    (3)  E: rₙₖ = p(k | xₙ);  M: πₖ and μₖ as in any mixture, and then, about the new means,
    (4)     Wₖ ← SₖWₖ (sₖ² I + Mₖ⁻¹WₖᵀSₖWₖ)⁻¹,  sₖ² ← tr(Sₖ − SₖWₖMₖ⁻¹Wₖᵀ)/D, the last Wₖ the new one  [mppca.loadings]
         Sₖ = Σₙ rₙₖ (xₙ − μₖ)(xₙ − μₖ)ᵀ/Nₖ
    (5)  K = 1 is PPCA                                                                       [mppca.one]

x (D,), z (q,), r (N, K), μ (K, D), W (K, D, q), M (K, q, q). SₖWₖ = Σₙ rₙₖ (xₙ − μₖ)((xₙ − μₖ)ᵀWₖ)/Nₖ takes two thin
products, for all k at once: nothing is (D, D). Tipping and Bishop, Neural Computation 1999, Mixtures of probabilistic
principal component analysers, appendix C: EM in two stages, the second of which is (4).
"""
import math

import numpy as np
from scipy.spatial.distance import cdist

from autograd.losses import LOG_2PI

from ..checks import check_count
from .gaussian_mixture import Mixture
from .pca import check_components


class MixturePPCA(Mixture):
    """K = `n_mixture` PPCAs, each of q = `n_components` dimensions, by maximum likelihood.

    tol      stop when an iteration gains less, in nats an example
    n_init   climb this often, and keep the best
    floor    the least noise variance, as a share of the mean variance of the features of X: a component whose points
             fill q dimensions or fewer has it

    After `fit`: weights_ (K,); means_ (K, D); W_ (K, D, q), with orthogonal columns, the longest first;
    noise_variance_ (K,); floor_, `floor` in units of X squared; loglik_trace_, the mean ln p(x) in nats at the start
    and after each iteration; n_iter_.
    Its `fit` raises ValueError for q > min(N, D), too.
    """

    def __init__(self, n_mixture: int, n_components: int, rng: np.random.Generator | None = None, tol: float = 1e-3,
                 max_iter: int = 1000, n_init: int = 1, floor: float = 1e-6):
        self.n_mixture, self.n_components, self.rng = n_mixture, n_components, rng
        self._options(tol, max_iter, n_init, floor)

    def _size(self, X):
        check_components(self.n_components, X)
        return check_count(self.n_mixture, "n_mixture", len(X), ", the number of examples")

    def _begin(self, X, r):
        K, D, q = r.shape[1], X.shape[1], self.n_components
        variance = np.mean(np.var(X, axis=0)) if np.ptp(X, axis=0).any() else 1.0
        self.floor_ = self.floor * variance
        self.means_, self.noise_variance_ = np.zeros((K, D)), np.full(K, variance)
        self.W_ = math.sqrt(variance) * self.rng.standard_normal((K, D, q))
        self._maximise(X, r)

    def _maximise(self, X, r):
        (K, D, q), W, noise = self.W_.shape, self.W_, self.noise_variance_[:, None, None]
        self.weights_ = r.mean(axis=0)                                                     # (3)
        r = r / np.maximum(r.sum(axis=0), np.finfo(float).tiny)    # rₙₖ/Nₖ, or 0 of one that explains nothing
        self.means_ = r.T @ X                                                              # (3)
        Y = r[:, :, None] * self._projected(X)
        SW = (X.T @ Y.reshape(len(X), K * q)).reshape(D, K, q).swapaxes(0, 1)
        SW = SW - self.means_[:, :, None] * Y.sum(axis=0)[:, None]                 # a sum of 0, but for rounding
        trace = np.sum(r * cdist(X, self.means_, "sqeuclidean"), axis=0)           # of Sₖ
        Minv, I = np.linalg.inv(self._gram()), np.eye(q)
        self.W_ = SW @ np.linalg.inv(noise * I + Minv @ W.swapaxes(1, 2) @ SW)             # (4)
        trace = trace - np.sum(SW @ Minv * self.W_, axis=(1, 2))                   # of Sₖ − SₖWₖMₖ⁻¹Wₖᵀ
        self.noise_variance_ = np.maximum(trace / D, self.floor_)                          # (4)
        U, length, _ = np.linalg.svd(self.W_, full_matrices=False)
        self.W_ = U * length[:, None]                              # turned to principal axes: WₖWₖᵀ is the same

    def _log_densities(self, X):
        (_, D, q), noise = self.W_.shape, self.noise_variance_
        L = np.linalg.cholesky(self._gram())
        explained = np.linalg.solve(L, self._projected(X).transpose(1, 2, 0))              # (K, q, N)
        logdet = (D - q) * np.log(noise) + 2 * np.sum(np.log(np.diagonal(L, axis1=1, axis2=2)), axis=1)
        distance = (cdist(X, self.means_, "sqeuclidean") - np.sum(explained ** 2, axis=1).T) / noise
        return -0.5 * (D * LOG_2PI + logdet + distance)                                    # (1)

    def _projected(self, X):
        """(x − μₖ)ᵀWₖ, (N, K, q), in one product for all k."""
        K, D, q = self.W_.shape
        return (X @ self.W_.swapaxes(0, 1).reshape(D, K * q)).reshape(len(X), K, q) - np.einsum(
            "kd,kdq->kq", self.means_, self.W_)

    def _gram(self):
        """Mₖ, (K, q, q)."""
        return self.W_.swapaxes(1, 2) @ self.W_ + self.noise_variance_[:, None, None] * np.eye(self.W_.shape[2])

    def _draw(self, k, n, rng):
        z, eps = (rng.standard_normal((n, m)) for m in self.W_.shape[:0:-1])
        return z @ self.W_[k].T + math.sqrt(self.noise_variance_[k]) * eps                 # (1)

    def posterior(self, X: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """p(k | x), (N, K), and of p(z | x, k) the mean (N, K, q) and the covariance (K, q, q)."""
        X = self._check(X)
        inverse = np.linalg.inv(self._gram())
        mean = np.einsum("nkp,kpq->nkq", self._projected(X), inverse)                      # (2)
        covariance = self.noise_variance_[:, None, None] * inverse                         # (2)
        return self.predict_proba(X), mean.astype(X.dtype), covariance.astype(X.dtype)

    def reconstruct(self, X: np.ndarray) -> np.ndarray:
        """E[Wₖ z + μₖ | x], (N, D): x without its noise, averaged over what k and z can have been."""
        r, z, _ = self.posterior(X)
        K, D, q = self.W_.shape
        planes = (r[:, :, None] * z).reshape(len(z), K * q) @ self.W_.swapaxes(1, 2).reshape(K * q, D)
        return (planes + r @ self.means_).astype(z.dtype)
