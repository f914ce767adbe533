"""Probabilistic PCA: a Gaussian z, seen through a linear map with equal noise in every feature, and so all closed form.

    (1)  p(z) = N(0, I),  p(x | z) = N(W z + μ, s² I)  ⇒  p(x) = N(μ, C),  C = W Wᵀ + s² I
    (2)  C⁻¹ = (I − W M⁻¹ Wᵀ)/s²,  ln |C| = (D − q) ln s² + ln |M|,  M = Wᵀ W + s² I         [ppca.woodbury]
    (3)  p(z | x) = N(M⁻¹ Wᵀ(x − μ), s² M⁻¹)                                                 [ppca.posterior]
         s² → 0: its mean becomes the PCA projection, in units of √λ                         [ppca.limit]
    (4)  ∂ ln p = 0:  W = U_q (Λ_q − s² I)^½,  s² = the mean of the discarded λ              [ppca.stationary]
         the largest λ give the maximum, −N/2 [D ln 2πe + Σ ln λᵢ + (D − q) ln s²];          [ppca.maximum]
         any others a saddle                                                                 [ppca.saddle]
    (5)  W → W R, R a rotation, changes nothing:  `fit` ends with Wᵀ W diagonal              [ppca.rotation]
    (6)  EM, with V = W M^−½ and T = s² I + Vᵀ S V:  W ← S V T⁻¹ M^½,
         s² ← [tr S − tr(S V T⁻¹ Vᵀ S)]/D                                                    [ppca.em]
    (7)  and then W ← W Φ^½, Φ the mean of E[z zᵀ]: the fit of p(z) = N(0, Φ), taken into W  [ppca.expansion]
    (8)  BIC = −2 ln p + k ln N,  k = D + min(Dq − q(q − 1)/2 + 1, D(D + 1)/2)               [ppca.bic]

x (D,), z (q,), W (D, q). S = XᵀX/N, with X centred, has eigenvalues λ and eigenvectors U; EM needs of it S V, which is
Xᵀ(X V)/N, two thin products. Tipping and Bishop, JRSS B 61, 1999, section 3.2 for (4), 3.3 and appendix B for (6);
Liu, Rubin and Wu, Parameter expansion to accelerate EM, Biometrika 85, 1998, for (7).
"""
import math
from collections.abc import Iterable

import numpy as np

from autograd.losses import LOG_2PI
from autograd.nn import check_rng

from . import missing
from ..checks import check_choice, check_count, check_weight
from .estimator import EM, all_or_nothing, check_matrix
from .pca import check_components, check_width, deviations, draw, log_density, rounding, spectrum, upright


class PPCA(EM):
    """Probabilistic PCA with `n_components` latents, fitted by maximum likelihood.

    method          "eigen", the closed form (4), or "em", which starts from a W that `rng` draws, and for which NaN in
                    X is a missing value
    tol, max_iter   EM stops when ln p gains less than `tol` nats an example, or after `max_iter` steps, with a warning
    expand          without it EM leaves (7) out, is as published in 1999, and slow: where s² is small its steps change
                    the length of W by s²/λ, and `tol` stops it before it is there

    After `fit`: components_ (q, D) orthonormal, W_ (D, q) their multiples, mean_ (D,), noise_variance_ = s², which
    divides by N, not N - 1: it maximises the likelihood. EM adds n_iter_ and loglik_trace_, the mean of ln p(x) per
    example before each of its steps and after the last. If X lies in q dimensions, s² is 0: the projection is there, a
    density is not, and EM, whose likelihood has no maximum, refuses.
    """

    def __init__(self, n_components: int, *, method: str = "eigen", rng: np.random.Generator | None = None,
                 tol: float = 1e-6, max_iter: int = 1000, expand: bool = True):
        self.n_components, self.method, self.rng = n_components, check_choice(method, "method", ("eigen", "em")), rng
        self.tol, self.max_iter, self.expand = check_weight(tol, "tol"), check_count(max_iter, "max_iter"), expand
        if method == "em":
            check_rng(rng)

    @all_or_nothing
    def fit(self, X: np.ndarray, y=None) -> "PPCA":
        """Raises ValueError for N = 1, equal rows, q > min(N, D); NaN, if not for EM, or a column of nothing else."""
        X = check_matrix(X, missing=self.method == "em")
        q = check_components(self.n_components, X)
        if self.method == "eigen":
            found = spectrum(X, q, "covariance" if len(X) >= X.shape[1] else "svd")
            self.mean_, self.components_, self.noise_variance_ = found.mean, found.components, found.noise
            self.W_ = found.components.T * np.sqrt(np.maximum(found.variances - found.noise, 0))           # (4)
            return self
        data = missing.Incomplete(X) if np.isnan(X).any() else Complete(X)
        self._start(data, q)
        self._climb(data)
        axes, scale, _ = np.linalg.svd(self.W_, full_matrices=False)                       # (5)
        self.components_, self.mean_ = upright(axes.T).astype(X.dtype), self.mean_.astype(X.dtype)
        self.W_, self.noise_variance_ = self.components_.T * scale.astype(X.dtype), float(self.noise_variance_)
        return self

    def _start(self, data, q):
        """Half of the variance is noise, and half lies in q random directions."""
        self.mean_, self.noise_variance_ = data.mean, data.variance / 2
        self.W_ = math.sqrt(data.variance / (2 * q)) * self.rng.standard_normal((len(data.mean), q))

    def _expect(self, data):
        error = np.finfo(data.dtype).eps * len(self.mean_) * data.variance / self.noise_variance_   # of ln p: rounding
        if 0 < error < 0.1:
            statistics, loglik = data.expect(self.W_, self.mean_, self.noise_variance_)
            if not self.loglik_trace_ or loglik > self.loglik_trace_[-1] - 100 * error:
                return statistics, loglik
        raise ValueError(f"X lies in {self.W_.shape[1]} dimensions, but for what {data.dtype} rounds away: as the "
                         f"noise variance falls to 0, the likelihood grows without bound; take fewer components, or "
                         f"method='eigen'" + ", or X in float64" * (data.dtype == np.float32))

    def _maximise(self, data, statistics):
        self.W_, self.mean_, self.noise_variance_, moment = data.maximise(statistics)
        if self.expand:
            self.W_ = self.W_ @ np.linalg.cholesky(moment)                                 # (7)

    def _rounding(self, data, loglik):
        return math.inf                                            # `_expect` knows its error, and refuses by itself

    def transform(self, X: np.ndarray) -> np.ndarray:
        """The posterior mean of z, (N, q)."""
        X = self._check(X, missing=True)
        return self._conditional(X, "mean")[0] if np.isnan(X).any() else self.posterior(X)[0]

    def inverse_transform(self, Z: np.ndarray) -> np.ndarray:
        """The mean of p(x | z), (N, D), for Z (N, q)."""
        return check_width(Z, self.W_.shape[1], self) @ self.W_.T + self.mean_             # (1)

    def posterior(self, X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean (N, q) and covariance of p(z | x): (q, q), the same for all x; (N, q, q) if X holds NaN."""
        X = self._check(X, missing=True)
        if np.isnan(X).any():
            return self._conditional(X, "mean", "covariance")
        M = np.square(self.W_).sum(axis=0) + self.noise_variance_                          # diagonal, after (5)
        gain = np.divide(self.W_, M, out=np.zeros_like(self.W_), where=M > 0)
        variance = np.divide(self.noise_variance_, M, out=np.ones_like(M), where=M > 0)
        return (X - self.mean_) @ gain, np.diag(variance)                                  # (3)

    def score_samples(self, X: np.ndarray) -> np.ndarray:
        """ln p(x), (N,), in nats: of what is observed, where X holds NaN. Raises ValueError if s² is 0."""
        X = self._check(X, missing=True)
        if np.isnan(X).any():
            return self._conditional(X, "loglik")[0]
        variances = np.square(self.W_).sum(axis=0) + self.noise_variance_
        return log_density(X - self.mean_, self.components_, variances, self.noise_variance_)              # (2)

    def impute(self, X: np.ndarray, return_std: bool = False) -> np.ndarray | tuple[np.ndarray, np.ndarray]:
        """X (N, D), its NaN replaced by their means given the rest of the row; and the standard deviations about them.

        Those, (N, D), are 0 where X was observed. A row of NaN becomes the mean.
        """
        X = self._check(X, missing=True)
        filled, std = missing.impute(X, self.W_, self.mean_, self.noise_variance_)
        return (filled, std) if return_std else filled

    def sample(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """n draws of x, (n, D)."""
        return draw(n, self.W_.T, self.mean_, self.noise_variance_, rng)                   # (1)

    def bic(self, X: np.ndarray) -> float:
        """The Bayesian information criterion in nats: the lower, the better the model pays for its parameters."""
        D, q = self.W_.shape
        k = D + min(D * q - q * (q - 1) // 2 + 1, D * (D + 1) // 2)
        return float(k * math.log(len(X)) - 2 * self.score_samples(X).sum())               # (8)

    def _conditional(self, X, *what):
        """These fields of the posteriors of rows with NaN, for all rows together."""
        parts = [[getattr(p, name) for name in what]
                 for p in missing.posteriors(X, self.W_, self.mean_, self.noise_variance_)]
        return tuple(np.concatenate(part).astype(X.dtype) for part in zip(*parts))


class Complete:
    """Data (N, D) with nothing missing, as EM sees them: all that it needs of S is S W and the trace."""

    def __init__(self, X: np.ndarray):
        self.X, self.dtype, self.mean = X, X.dtype, X.mean(axis=0, dtype=np.float64)
        self.trace = sum(float(np.vdot(r, r)) for r in deviations(X, self.mean)) / len(X)
        rounding(X, self.mean, self.trace)
        self.variance = self.trace / X.shape[1]

    def expect(self, W, mean, noise):
        """S V, T and the roots of M in (6); and the mean of ln p(x)."""
        D, q = W.shape
        squares, R = np.linalg.eigh(W.T @ W)
        m = squares + noise                                        # the eigenvalues of M
        root, inverse = R * np.sqrt(m) @ R.T, R / np.sqrt(m) @ R.T
        V = (W @ inverse).astype(self.dtype, copy=False)
        SV = sum(r.T @ (r @ V) for r in deviations(self.X, mean)) / len(self.X)            # (6)
        A = V.T @ SV
        logdet = (D - q) * math.log(noise) + np.log(m).sum()                               # (2)
        quadratic = (self.trace - np.trace(A)) / noise                                     # (2)
        loglik = -0.5 * (D * LOG_2PI + logdet + quadratic)
        return (SV, noise * np.eye(q) + A, root, inverse), loglik

    def maximise(self, statistics):
        """W and s² of (6), the mean between them, which stays where it is best; and the mean of E[z zᵀ]."""
        SV, T, root, inverse = statistics
        B = np.linalg.solve(T, SV.T).T
        return B @ root, self.mean, (self.trace - np.vdot(B, SV)) / len(SV), inverse @ T @ inverse         # (6), (7)


def choose_n_components(X: np.ndarray, candidates: Iterable[int], criterion: str = "bic", *,
                        rng: np.random.Generator | None = None, **options) -> tuple[int, dict[int, float]]:
    """The best number of components, and the score of each candidate: BIC, or minus ln p of held-out rows.

    criterion   "bic", or "heldout": the mean of -ln p(x) over a fifth of rows, picked by `rng`, in a fit to the rest
    options     of PPCA, such as method="em"

    Both are in nats, and lower is better. Raises ValueError, as `score_samples` does, for a candidate with no density.
    """
    check_choice(criterion, "criterion", ("bic", "heldout"))
    X, candidates = check_matrix(X, missing=True), list(candidates)
    if not candidates:
        raise ValueError("candidates must hold at least one number of components")
    fitted = scored = X
    if criterion == "heldout":
        check_rng(rng)
        if len(X) < 5:
            raise ValueError(f"criterion='heldout' takes X with at least 5 rows, not {len(X)}: a fifth is held out")
        order = rng.permutation(len(X))
        scored, fitted = X[order[:len(X) // 5]], X[order[len(X) // 5:]]
    scores = {}
    for q in candidates:
        model = PPCA(q, rng=rng, **options).fit(fitted)
        scores[q] = model.bic(scored) if criterion == "bic" else -model.score(scored)
    return min(scores, key=scores.get), scores
