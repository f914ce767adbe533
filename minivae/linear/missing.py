"""Probabilistic PCA of rows with holes: what is missing is integrated out, never filled in. NaN marks what is missing.

    (1)  p(x_o) = N(x_o; μ_o, W_o W_oᵀ + s² I): the rows of W and μ that are observed in x   [missing.likelihood]
    (2)  p(z | x_o) = N(M⁻¹ W_oᵀ(x_o − μ_o), s² M⁻¹),  M = Σ_d o_d w_d w_dᵀ + s² I          [missing.posterior]
    (3)  E[x_d | x_o] = μ_d + w_dᵀ E[z | x_o],  var = s² + s² w_dᵀ M⁻¹ w_d                   [missing.imputation]
    (4)  EM, with v = (z, 1):  (w_d, Δμ_d) ← A_d⁻¹ b_d,  A_d = Σₙ o_nd E[v vᵀ],  b_d = Σₙ o_nd (x_nd − μ_d) E[v]
    (5)      s² ← [Σ o_nd (x_nd − μ_d)² − Σ_d b_dᵀ A_d⁻¹ b_d] / Σ o_nd                       [missing.em]

x (D,), o 1 where x is observed and 0 where not, w_d (q,) the d-th row of W (D, q), all in the notation of PPCA. Each
row has its own M and each feature its own A; but as o is 0 or 1, all M are one product, of O (N, D) and the D outer
products w wᵀ, and all A are another, of Oᵀ and the N matrices E[v vᵀ]. A row with nothing observed has the prior as
its posterior, and adds 0 to ln p. Ilin and Raiko, JMLR 2010, section 4, where the E-step is by rows.
"""
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from autograd.losses import LOG_2PI

from .pca import deviations, rounding

ROWS = 250                                   # examples whose q x q posterior covariances are held at once


class Posterior(NamedTuple):
    """p(z | x_o) of some rows of X, and what led to it."""
    rows: slice
    residual: np.ndarray                     # (n, D) x - mean, and 0 where missing
    observed: np.ndarray                     # (n, D) 1.0 or 0.0
    mean: np.ndarray                         # (n, q)
    covariance: np.ndarray                   # (n, q, q)
    loglik: np.ndarray                       # (n,) ln p(x_o), nats


def posteriors(X: np.ndarray, W: np.ndarray, mean: np.ndarray, noise: float) -> Iterator[Posterior]:
    """p(z | x_o) for the rows of X (N, D), which may hold NaN, some at a time. Raises ValueError if noise is 0."""
    if not noise > 0:
        raise ValueError("the data that were fitted lie in a subspace, the noise variance is 0, and rows with missing "
                         "values have no density: take fewer components")
    q, W, mean = W.shape[1], W.astype(np.float64), mean.astype(np.float64)
    lower, whole = packing(q)
    outer = products(W)[:, lower]                                  # (D, q(q + 1)/2)
    for start in range(0, len(X), ROWS):
        rows = slice(start, start + ROWS)
        residual = X[rows] - mean
        missing = np.isnan(residual)
        residual, observed = np.where(missing, 0, residual), 1.0 - missing
        M = (observed @ outer)[:, whole] + noise * np.eye(q)                               # (2)
        inverse, b = np.linalg.inv(M), residual @ W
        z = (inverse @ b[:, :, None])[:, :, 0]                                             # (2)
        count = observed.sum(axis=1)
        logdet = (count - q) * np.log(noise) + np.linalg.slogdet(M)[1]
        squares = np.einsum("nd,nd->n", residual, residual) - np.einsum("nq,nq->n", b, z)
        loglik = -0.5 * (count * LOG_2PI + logdet + squares / noise)                       # (1)
        yield Posterior(rows, residual, observed, z, noise * inverse, loglik)


def impute(X: np.ndarray, W: np.ndarray, mean: np.ndarray, noise: float) -> tuple[np.ndarray, np.ndarray]:
    """X (N, D) with E[x_d | x_o] where it was NaN; and there the standard deviation of x_d | x_o, elsewhere 0."""
    filled, std = X.copy(), np.zeros_like(X)
    if not np.isnan(X).any():                                      # and then noise can be 0
        return filled, std
    for p in posteriors(X, W, mean, noise):
        missing = p.observed == 0
        variance = noise + p.covariance.reshape(len(missing), -1) @ products(W).T          # (3)
        filled[p.rows][missing] = (p.mean @ W.T + mean)[missing]                           # (3)
        std[p.rows][missing] = np.sqrt(variance)[missing]
    return filled, std


class Incomplete:
    """Data (N, D) with NaN, as PPCA's EM sees them: E-step and M-step of (4) and (5).

    Raises ValueError for a column that is missing in every row.
    """

    def __init__(self, X: np.ndarray):
        count = len(X) - np.isnan(X).sum(axis=0)
        if not count.all():
            raise ValueError(f"column {np.argmin(count)} of X is missing in every row: nothing can be learned of it")
        self.X, self.dtype, self.count, self.mean = X, X.dtype, count.sum(), np.nanmean(X, axis=0, dtype=np.float64)
        self.variance = sum(np.nansum(np.square(r)) for r in deviations(X, self.mean)) / self.count
        rounding(X, self.mean, self.variance * X.shape[1])

    def expect(self, W, mean, noise):
        """A and b of (4), the squares of (5), the sum of E[z zᵀ]; and the mean over the rows of ln p(x_o)."""
        q = W.shape[1]
        lower, _ = packing(q)
        A = b = squares = moment = loglik = 0
        for p in posteriors(self.X, W, mean, noise):
            n = len(p.mean)
            v = np.hstack([p.mean, np.ones((n, 1))])
            zz = products(p.mean) + p.covariance.reshape(n, -1)
            A += p.observed.T @ np.hstack([zz[:, lower], v])       # E[v vᵀ], whose last row is E[v]: (4)
            b += p.residual.T @ v                                                          # (4)
            squares += np.vdot(p.residual, p.residual)
            moment += zz.sum(axis=0).reshape(q, q)
            loglik += p.loglik.sum()
        return (A, b, squares, moment, mean), loglik / len(self.X)

    def maximise(self, statistics):
        """W, the mean and s² of (4) and (5), and the mean of E[z zᵀ]."""
        A, b, squares, moment, mean = statistics
        _, whole = packing(b.shape[1])
        v = np.linalg.solve(A[:, whole], b[:, :, None])[:, :, 0]                           # (4)
        noise = (squares - np.vdot(v, b)) / self.count                                     # (5)
        return v[:, :-1], mean + v[:, -1], noise, moment / len(self.X)


def products(W):
    """The outer products w wᵀ of the rows of W (D, q), each in a row of q² entries."""
    return (W[:, :, None] * W[:, None, :]).reshape(len(W), -1)


def packing(q: int) -> tuple[np.ndarray, np.ndarray]:
    """Where the lower triangle of a symmetric matrix lies in its q² entries, and the whole in those of the triangle."""
    i, j = np.tril_indices(q)
    whole = np.empty((q, q), int)
    whole[i, j] = whole[j, i] = np.arange(len(i))
    return i * q + j, whole
