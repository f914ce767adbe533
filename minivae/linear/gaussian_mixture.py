"""A mixture: the latent variable is one of K, and x has a density for each. EM at its plainest: whose is each example,
and what are they like?

    (1)  p(x) = Σₖ πₖ pₖ(x);  here pₖ(x) = N(x; μₖ, Σₖ)                                      [gmm.density]
    (2)  E: rₙₖ = p(k | xₙ) = πₖ pₖ(xₙ)/p(xₙ), Bayes' rule                                   [gmm.responsibilities]
    (3)  M: πₖ ← Nₖ/N,  μₖ ← Σₙ rₙₖ xₙ/Nₖ,  Nₖ = Σₙ rₙₖ                                      [gmm.means]
    (4)     Σₖ ← Σₙ rₙₖ (xₙ − μₖ)(xₙ − μₖ)ᵀ/Nₖ, or its diagonal, or the mean of that, or one for all, Σₖ πₖ Σₖ
         in units of the square roots of the floor, its eigenvalues raised to 1 where they are below  [gmm.covariances]

x (D,), r (N, K), π (K,), μ (K, D). Alone on one point a component would have a density without limit, so each Σₖ
is at least diag(floor) in every direction: (4) is the maximum under that constraint, and EM climbs as ever. Dempster,
Laird and Rubin 1977, section 4.3; Bishop, Pattern Recognition and Machine Learning 2006, section 9.2.
"""
import math

import numpy as np
from scipy.linalg import LinAlgError, cholesky, eigh, solve_triangular
from scipy.spatial.distance import cdist
from scipy.special import logsumexp

from autograd.losses import LOG_2PI
from autograd.nn import check_rng

from ..checks import check_choice, check_count, check_number, positive
from .estimator import EM, all_or_nothing, check_matrix


class Mixture(EM):
    """What is the same for any pₖ. A model says what `_size(X)`, K, is; how it `_begin`s from responsibilities (N, K)
    and `_maximise`s; what its `_log_densities`, (N, K), are; and how component k `_draw`s."""

    def _options(self, tol, max_iter, n_init, floor):
        self.tol, self.max_iter = check_number(tol, "tol"), check_count(max_iter, "max_iter")
        self.n_init, self.floor = check_count(n_init, "n_init"), positive(floor, "floor")

    @all_or_nothing
    def fit(self, X: np.ndarray, y=None, start: np.ndarray | None = None):
        """Climb `n_init` times, each from the nearest of K random rows, and keep the best; or once from `start`,
        responsibilities (N, K). Raises ValueError if X has fewer than K different rows."""
        dtype = (X := check_matrix(X)).dtype
        X = X.astype(np.float64, copy=False)
        K, runs = self._size(X), []
        if start is None:
            check_rng(self.rng)
        for _ in range(self.n_init if start is None else 1):
            r = nearest_seed(X, K, self.rng) if start is None else check_responsibilities(start, len(X), K)
            if not r.any(axis=0).all():
                raise ValueError(f"X has only {r.any(axis=0).sum()} different rows: too few for {K} components")
            self._begin(X, r)
            self._climb(X)
            runs.append(dict(vars(self)))
        vars(self).update(max(runs, key=lambda run: run["loglik_trace_"][-1]))
        self.means_ = self.means_.astype(dtype)
        return self

    def _expect(self, X):
        joint = self._log_joint(X)
        loglik = logsumexp(joint, axis=1, keepdims=True)                                   # (1)
        return np.exp(joint - loglik), float(np.mean(loglik))                              # (2)

    def _log_joint(self, X):
        """ln p(x, k), (N, K)."""
        with np.errstate(divide="ignore"):                         # of a weight that is 0
            return np.log(self.weights_) + self._log_densities(X)

    @property
    def mean_(self) -> np.ndarray:
        """E[x], (D,)."""
        return (self.weights_ @ self.means_).astype(self.means_.dtype)

    def score_samples(self, X: np.ndarray) -> np.ndarray:
        """ln p(x), (N,), in nats."""
        X = self._check(X)
        return logsumexp(self._log_joint(X), axis=1).astype(X.dtype)                       # (1)

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        """The responsibilities p(k | x), (N, K)."""
        X = self._check(X)
        return self._expect(X)[0].astype(X.dtype)

    def transform(self, X: np.ndarray) -> np.ndarray:
        """As `predict_proba`: the posterior of the latent variable, (N, K)."""
        return self.predict_proba(X)

    def predict(self, X: np.ndarray) -> np.ndarray:
        """The most probable k, (N,)."""
        return np.argmax(self._log_joint(self._check(X)), axis=1)

    def sample(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """n draws of x, (n, D)."""
        check_rng(rng)
        k = rng.choice(len(self.weights_), check_count(n, "n"), p=self.weights_)
        x = self.means_[k]
        for j in np.unique(k):
            x[k == j] += self._draw(j, np.count_nonzero(k == j), rng)
        return x


class GaussianMixture(Mixture):
    """K = `n_components` Gaussians by maximum likelihood.

    covariance   "full", "diagonal", "spherical", or "tied": full, and the same for all
    tol          stop when an iteration gains less, in nats an example
    n_init       climb this often, and keep the best
    floor        the least variance of a component, as a share of that of X, in each feature; see floor_

    After `fit`: weights_ (K,); means_ (K, D); covariances_ (K, D, D), (K, D), (K,) or (D, D); floor_ (D,), `floor` in
    units of X squared, a constant feature's by the mean variance of all; loglik_trace_, the mean ln p(x) in nats at
    the start and after each iteration; n_iter_.
    """

    def __init__(self, n_components: int, covariance: str = "full", rng: np.random.Generator | None = None,
                 tol: float = 1e-4, max_iter: int = 1000, n_init: int = 1, floor: float = 1e-6):
        self.covariance = check_choice(covariance, "covariance", COVARIANCES)
        self.n_components, self.rng = n_components, rng
        self._options(tol, max_iter, n_init, floor)

    def _size(self, X):
        return check_count(self.n_components, "n_components", len(X), ", the number of examples")

    def _begin(self, X, r):
        K, D = r.shape[1], X.shape[1]
        shape = {"full": (K, D, D), "diagonal": (K, D), "spherical": (K,), "tied": (D, D)}[self.covariance]
        self.means_, self.covariances_ = np.zeros((K, D)), np.zeros(shape)
        variance = np.var(X, axis=0) * (np.ptp(X, axis=0) > 0)
        self.floor_ = self.floor * np.where(variance > 0, variance, variance.mean() or 1)
        self._maximise(X, r)

    def _maximise(self, X, r):
        counts, total, floor = r.sum(axis=0), 0, self.floor_
        self.weights_ = counts / len(X)                                                    # (3)
        for k in np.flatnonzero(counts):                           # one that explains nothing stays as it is
            self.means_[k] = r[:, k] @ X / counts[k]                                       # (3)
            d = X - self.means_[k]
            scatter = (r[:, k] * d.T) @ d if self.covariance in ("full", "tied") else r[:, k] @ d ** 2
            if self.covariance == "spherical":
                scatter, floor = np.mean(scatter), np.mean(floor)
            if self.covariance != "tied":
                self.covariances_[k] = raised(scatter / counts[k], floor)                  # (4)
            total = total + scatter
        if self.covariance == "tied":
            self.covariances_ = raised(total / len(X), floor)                              # (4)

    def _log_densities(self, X):
        log_p, D = np.empty((len(X), len(self.means_))), X.shape[1]
        for k, mu in enumerate(self.means_):
            d, root = X - mu, self._root(k)
            if root.ndim == 2:
                e, logdet = solve_triangular(root, d.T, lower=True).T, 2 * np.sum(np.log(np.diag(root)))
            else:
                e, logdet = d / root, 2 * np.sum(np.log(np.broadcast_to(root, D)))
            log_p[:, k] = -0.5 * (D * LOG_2PI + logdet + np.einsum("nd,nd->n", e, e))      # (1)
        return log_p

    def _draw(self, k, n, rng):
        e, root = rng.standard_normal((n, self.means_.shape[1])), self._root(k)
        return e @ root.T if root.ndim == 2 else e * root

    def _root(self, k):
        """Σₖ's Cholesky factor, (D, D), or if it is diagonal the standard deviations, (D,) or ()."""
        covariance = self.covariances_ if self.covariance == "tied" else self.covariances_[k]
        if covariance.ndim < 2:
            return np.sqrt(covariance)
        try:
            root = cholesky(covariance, lower=True)
            if np.all(np.diag(root) ** 2 > 1e-13 * np.diag(covariance)):           # else a pivot is but rounding
                return root
        except LinAlgError:
            pass
        raise ValueError(f"the covariance of component {k} is singular to rounding: leave out features of X that "
                         f"follow from others, or raise floor={self.floor:g}")


def raised(S: np.ndarray, floor: np.ndarray) -> np.ndarray:
    """Of the covariances Σ >= diag(floor), the likeliest given the scatter S: (D, D), or variances."""
    if np.ndim(S) < 2:
        return np.maximum(S, floor)
    try:
        cholesky(S - np.diag(floor))                               # as a rule all is well, and this says so soonest
        return S
    except LinAlgError:
        unit = np.sqrt(floor)
        eigenvalues, U = eigh(S / np.outer(unit, unit))
        U = unit[:, None] * U
        return U * np.maximum(eigenvalues, 1) @ U.T


def nearest_seed(X: np.ndarray, K: int, rng: np.random.Generator) -> np.ndarray:
    """Responsibilities (N, K), 0 or 1: the nearest of K rows, or of all that differ. Each is the best of a few that are
    drawn with probability proportional to the squared distance from those before: k-means++, Arthur and Vassilvitskii
    2007."""
    nearest, labels = np.ones(len(X)), np.zeros(len(X), int)
    for k in range(K):
        if not nearest.any():
            break
        seeds = rng.choice(len(X), size=2 + int(math.log(K)), p=nearest / nearest.sum())
        distances = cdist(X, X[seeds], "sqeuclidean")
        after = np.minimum(distances, nearest[:, None] if k else np.inf)
        best = np.argmin(after.sum(axis=0))
        labels[distances[:, best] <= after[:, best]] = k
        nearest = after[:, best]
    return np.eye(K)[labels]


def check_responsibilities(r, N, K):
    r = np.asarray(r, np.float64)
    if r.shape != (N, K) or not (r >= 0).all() or not np.allclose(r.sum(axis=1), 1) or not r.any(axis=0).all():
        raise ValueError(f"start must be {(N, K)} probabilities, rows that sum to 1 and no column of zeros, "
                         f"not an array of shape {r.shape}" + " that is otherwise" * (r.shape == (N, K)))
    return r


COVARIANCES = ("full", "diagonal", "spherical", "tied")
