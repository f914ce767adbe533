"""Principal component analysis: the orthonormal directions in which the data vary most.

    (1)  S v = λ v,  S = Σₙ (xₙ − μ)(xₙ − μ)ᵀ / (N − 1);  X − μ = U diag(s) Vᵀ  ⇒  λ = s²/(N − 1)   [pca.routes]
    (2)  Σₙ |xₙ − x̂ₙ|² = (N − 1) Σ λ discarded,  x̂ = μ + V_q V_qᵀ(x − μ)                     [pca.reconstruction]
    (3)  whitened:  z = Λ_q^−½ V_qᵀ (x − μ)  has covariance I                                [pca.whitening]
    (4)  ln N(x; μ, V_q Λ_q V_qᵀ + s²(I − V_q V_qᵀ)) = −½ [D ln 2π + Σ ln λᵢ + (D − q) ln s² + Σ yᵢ²/λᵢ + |r|²/s²],
         y = V_qᵀ(x − μ),  r = x − x̂,  s² = the mean of the D − q discarded λ                [pca.density]

X (N, D); V_q (D, q) the q eigenvectors of largest λ, and `components_` its transpose. The sign of a component, which is
anybody's choice, makes its largest entry positive. λ and s² divide by N − 1, as in scikit-learn; PPCA's, which are the
maximum of the likelihood, by N. Bishop, Pattern Recognition and Machine Learning, 2006, sections 12.1 and 12.2.
"""
import math
from typing import NamedTuple

import numpy as np

from autograd.losses import LOG_2PI
from autograd.nn import check_rng

from ..checks import check_choice, check_count
from .estimator import Estimator, check_matrix


class PCA(Estimator):
    """The first `n_components` principal components; without a number, all min(N, D) of them.

    method   "svd" of the centred data, or "covariance", the eigenvectors of S: faster if N >> D, half the digits
    whiten   scale what `transform` returns to unit variance, (3)

    After `fit`: components_ (q, D), explained_variance_ and explained_variance_ratio_ and singular_values_ (q,),
    mean_ (D,), noise_variance_ = s² of (4): 0 if the data lie in q dimensions.
    """

    def __init__(self, n_components: int | None = None, *, method: str = "svd", whiten: bool = False):
        self.n_components, self.method, self.whiten = n_components, check_choice(method, "method", METHODS), whiten

    def fit(self, X: np.ndarray, y=None) -> "PCA":
        """Raises ValueError for fewer than two rows, rows that are all equal, and q > min(N, D)."""
        X = check_matrix(X)
        q = check_components(min(X.shape) if self.n_components is None else self.n_components, X)
        found = spectrum(X, q, self.method)
        if self.whiten and not found.variances.all():
            raise ValueError(f"only {np.count_nonzero(found.variances)} of {q} components have a variance to whiten: "
                             f"take no more than those")
        unbiased = len(X) / (len(X) - 1)
        self.mean_, self.components_ = found.mean, found.components
        self.explained_variance_ = found.variances * unbiased
        self.explained_variance_ratio_ = found.variances / found.total
        self.singular_values_ = np.sqrt(found.variances * len(X))
        self.noise_variance_ = found.noise * unbiased
        return self

    def transform(self, X: np.ndarray) -> np.ndarray:
        """The coordinates (N, q) of X in the principal directions."""
        Y = (self._check(X) - self.mean_) @ self.components_.T
        return Y / np.sqrt(self.explained_variance_) if self.whiten else Y                 # (3)

    def inverse_transform(self, Z: np.ndarray) -> np.ndarray:
        """The points (N, D) at the coordinates Z (N, q)."""
        Z = check_width(Z, len(self.components_), self)
        return (Z * np.sqrt(self.explained_variance_) if self.whiten else Z) @ self.components_ + self.mean_  # (2)

    def score_samples(self, X: np.ndarray) -> np.ndarray:
        """ln p(x), (N,), in nats, under the Gaussian of (4). Raises ValueError if the data lie in a subspace."""
        return log_density(self._check(X) - self.mean_, self.components_, self.explained_variance_,
                           self.noise_variance_)

    def sample(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """n draws (n, D) from that Gaussian."""
        loadings = self.components_ * np.sqrt(np.maximum(self.explained_variance_ - self.noise_variance_, 0))[:, None]
        return draw(n, loadings, self.mean_, self.noise_variance_, rng)


class Spectrum(NamedTuple):
    """The q largest eigenvalues of the covariance (that divides by N), what belongs to them, and what is left."""
    mean: np.ndarray
    variances: np.ndarray                    # (q,), descending
    components: np.ndarray                   # (q, D)
    noise: float                             # the mean of the other D - q eigenvalues
    total: float                             # the sum of all D


def spectrum(X: np.ndarray, q: int, method: str) -> Spectrum:
    """The principal axes of X (N, D); what is 0 but for rounding is 0. Raises ValueError if all rows are equal."""
    N, D = X.shape
    mean = X.mean(axis=0, dtype=np.float64)
    if method == "svd":
        _, s, V = np.linalg.svd(X - mean.astype(X.dtype), full_matrices=False)
        variances = np.square(s, dtype=np.float64) / N                                     # (1)
    else:
        variances, V = np.linalg.eigh(covariance(X, mean))                                 # (1)
        variances, V = variances[::-1], V.T[::-1]
    total, rest = variances.sum(), variances[q:].sum()
    error = np.finfo(X.dtype).eps                                  # of s and of λ, as shares of the largest
    tiny = variances[0] * ((max(N, D) * error) ** 2 if method == "svd" else D * error) + rounding(X, mean, total)
    noise = rest / (D - q) if q < D and min(variances[q - 1], rest) > tiny else 0.0
    variances = np.where(variances > tiny, variances, 0)[:q]
    return Spectrum(*(a.astype(X.dtype) for a in (mean, variances, upright(V[:q]))), float(noise), float(total))


def rounding(X: np.ndarray, mean: np.ndarray, total: float) -> float:
    """The variance that a rounded mean leaves in equal rows. Raises ValueError if `total`, X's variance, is no more."""
    left = (np.finfo(X.dtype).eps + len(X) * np.finfo(np.float64).eps) ** 2 * (mean @ mean)
    if not total > left:
        raise ValueError("the rows of X are all equal: there is no variance to explain")
    return left


def covariance(X: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """(X - mean)ᵀ(X - mean)/N, (D, D), in float64."""
    some = X[:500] - mean
    if len(some) * (mean @ mean) < np.vdot(some, some):            # a short mean, subtracted last, costs no digits
        return (X.T @ X).astype(np.float64, copy=False) / len(X) - np.outer(mean, mean)
    return sum(r.T @ r for r in deviations(X, mean, rows=2000)).astype(np.float64, copy=False) / len(X)


def deviations(X, mean, rows=500):
    """X - mean, some rows at a time: they stay in the cache, and X is not copied."""
    mean = mean.astype(X.dtype)
    for start in range(0, len(X), rows):
        yield X[start:start + rows] - mean


def upright(components: np.ndarray) -> np.ndarray:
    """The rows, each with the sign that makes its entry of largest magnitude positive."""
    largest = np.take_along_axis(components, np.abs(components).argmax(axis=1)[:, None], axis=1)
    return np.where(largest < 0, -components, components)


def log_density(X: np.ndarray, components: np.ndarray, variances: np.ndarray, noise: float) -> np.ndarray:
    """ln N(x; 0, C), (N,), for the C of (4) with q eigenvectors `components` (q, D), without making a D x D matrix."""
    q, D = components.shape
    if q < D and not noise > 0 or not variances.min() > 0:
        raise ValueError("the data that were fitted lie in a subspace, the noise variance is 0, and there is no "
                         "density: take fewer components, or drop the features that depend on others")
    Y = X @ components.T
    quadratic = np.square(Y) @ (1 / variances)
    logdet = np.log(variances).sum()
    if q < D:
        R = X - Y @ components                                     # |r|², not |x|² − |y|², which would cancel
        quadratic += np.einsum("nd,nd->n", R, R) / noise
        logdet += (D - q) * math.log(noise)
    return -0.5 * (D * LOG_2PI + logdet + quadratic)                                       # (4)


def draw(n, loadings, mean, noise, rng):
    """n draws of z @ loadings + mean + noise, z and the noise Gaussian."""
    check_rng(rng)
    z, eps = (rng.standard_normal((check_count(n, "n"), k), dtype=mean.dtype) for k in loadings.shape)
    return z @ loadings + mean + math.sqrt(noise) * eps


def check_components(q, X):
    """q, a number of components that X (N, D) can have."""
    if len(X) < 2:
        raise ValueError("X has one row: a variance takes two")
    return check_count(q, "n_components", min(X.shape), f" = min(N, D) for X of shape {X.shape}")


def check_width(Z, q, model):
    Z = check_matrix(Z, name="Z")
    if Z.shape[1] != q:
        raise ValueError(f"Z has {Z.shape[1]} columns, and {type(model).__name__} {q} components")
    return Z


METHODS = ("svd", "covariance")
