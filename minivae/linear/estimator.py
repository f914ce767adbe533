"""What the linear models share: scikit-learn's method names, and the climb of expectation-maximisation, written once.

    (1)  ln p(X | θ) = E_q[ln p(X, Z | θ)] + H[q] + KL(q(Z) ‖ p(Z | X, θ)) for every q
         E: q ← p(Z | X, θ), which makes the KL 0 and costs no likelihood
         M: θ ← argmax E_q[ln p(X, Z | θ)], which raises the first term and leaves a KL >= 0 behind
    (2)  so ln p(X | θₜ₊₁) >= ln p(X | θₜ)                                                   [em.monotone]

X (N, D), Z the latent variables, θ the parameters. A model says what its `_expect` and its `_maximise` are. Dempster,
Laird and Rubin 1977; in this form Neal and Hinton 1998.
"""
import functools
import math
import warnings

import numpy as np


class Estimator:
    """`fit` sets attributes that end in _; everything else needs them. Constructor arguments are kept by name."""

    def fit_transform(self, X: np.ndarray, y=None) -> np.ndarray:
        return self.fit(X).transform(X)

    def score(self, X: np.ndarray, y=None) -> float:
        """The mean over the rows of X of ln p(x), in nats."""
        return float(np.mean(self.score_samples(X)))

    def __repr__(self):
        values = ", ".join(f"{k}={v!r}" for k, v in vars(self).items() if not k.endswith("_") and k != "rng")
        return f"{type(self).__name__}({values})"

    def _check(self, X, missing=False):
        """X as floats (N, D), checked: against the width of the fit, if there has been one, and for NaN and inf."""
        X = check_matrix(X, missing)
        if X.shape[1] != self.mean_.shape[-1]:
            raise ValueError(f"X has {X.shape[1]} features, and {type(self).__name__} was fitted to "
                             f"{self.mean_.shape[-1]}")
        return X

    def __getattr__(self, name):
        if name.endswith("_") and not name.endswith("__"):
            raise NotFitted(f"this {type(self).__name__} has no {name}: call fit first")
        raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")


class NotFitted(ValueError, AttributeError):
    """A fitted attribute was asked for before `fit`."""


def all_or_nothing(fit):
    """A `fit` that, if it is refused or interrupted, leaves the model as it was."""
    @functools.wraps(fit)
    def whole(self, *args, **kwargs):
        before = dict(vars(self))
        try:
            return fit(self, *args, **kwargs)
        except BaseException:
            vars(self).clear()
            vars(self).update(before)
            raise
    return whole


class EM(Estimator):
    """Estimators that climb: `_expect(X) -> (statistics, mean ln p(x))`, then `_maximise(X, statistics)`."""

    def _climb(self, X):
        """Alternate E and M until the likelihood gains less than `tol` nats an example, or `max_iter` times.

        It falls by rounding alone; by more than `_rounding`, it is refused.
        """
        trace = self.loglik_trace_ = []
        for self.n_iter_ in range(self.max_iter + 1):
            statistics, loglik = self._expect(X)
            trace.append(loglik)
            if len(trace) > 1:
                gain = trace[-1] - trace[-2]
                if not gain >= -self._rounding(X, loglik):
                    raise ValueError(f"the likelihood fell by {-gain:.2g} nats: some direction of X has so little "
                                     f"variance that {X.dtype} rounds it away; take fewer components, a higher floor, "
                                     f"or leave out features that follow from others")
                if gain < self.tol:
                    break
            if self.n_iter_ < self.max_iter:
                self._maximise(X, statistics)                                              # (2)
        else:
            warnings.warn(f"{type(self).__name__} has not converged in max_iter={self.max_iter} iterations: the last "
                          f"gained {gain:.2g} nats, tol={self.tol:g}",
                          RuntimeWarning, stacklevel=4)
        return self

    def _rounding(self, X, loglik):
        """A fall of the likelihood, in nats, that may pass for rounding: half of its digits."""
        return math.sqrt(np.finfo(X.dtype).eps) * (1 + abs(loglik))


def check_matrix(X, missing: bool = False, name: str = "X") -> np.ndarray:
    """X as a float32 or float64 array (N, D). ValueError for other shapes and types, inf, numbers whose
    squares overflow, and NaN unless `missing`. What is masked is NaN."""
    mask, X = np.ma.getmask(X), np.asarray(X)
    if X.ndim != 2 or 0 in X.shape:
        raise ValueError(f"{name} must be (N, D) with at least one row and column, not of shape {X.shape}")
    if X.dtype.kind not in "biuf":
        raise ValueError(f"{name} must hold numbers, not {X.dtype}")
    X = X if X.dtype in (np.float32, np.float64) else X.astype(np.float64)
    if np.any(mask):
        X = np.where(mask, np.nan, X)
    with np.errstate(all="ignore"):
        if np.isfinite(np.einsum("nd,nd->d", X, X)).all():         # one quick pass; only what fails it is searched
            return X
    bad = np.isinf(X) if missing else ~np.isfinite(X)
    if bad.any():
        row, column = np.argwhere(bad)[0]
        hint = "; values may be missing for PPCA with method='em'" if name == "X" and np.isnan(X[row, column]) else ""
        raise ValueError(f"{name} holds {X[row, column]}, first in row {row}, column {column}{hint}")
    if (np.abs(X) > math.sqrt(np.finfo(X.dtype).max / X.size)).any():
        raise ValueError(f"{name} holds numbers as large as {np.nanmax(np.abs(X)):.2g}, whose squares overflow "
                         f"{X.dtype}: take larger units")
    return X
