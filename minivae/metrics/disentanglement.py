"""Does each code tell of one factor, and each factor live in one code? Five answers, by those who asked.

    (1)  MIG = mean over k of (I₁ − I₂) / H(v_k): of all I(zⱼ; v_k), the two largest         [disentanglement.mig]
    (2)  SAP = mean over k of S₁ − S₂, likewise: S = how well one code alone predicts v_k    [disentanglement.sap]
    (3)  D = Σⱼ ρⱼ (1 − H(row j) / ln K),  C = mean over k of 1 − H(column k) / ln d         [disentanglement.dci]
         the rows and the columns of R divided by their sums; ρⱼ the share of row j in all of R
    (4)  R = the nats that each code brings to a tree that predicts v_k, a share of H(v_k)    [disentanglement.tree]
         a cut of n examples brings n H − n₁ H₁ − n₂ H₂, and must be worth the numbers that it adds
    (5)  beta-VAE score: pairs z, z′ share v_k; mean |z − z′| tells a linear classifier k    [disentanglement.beta-vae]
    (6)  FactorVAE score: v_k is fixed; argminⱼ Var[zⱼ | v_k] / Var[zⱼ] votes for k         [disentanglement.factor-vae]

Codes z (N, d), factors v (N, K) integers, importance R (d, K). Scores go from 0, of noise, to 1; (5) and (6) from 1/K.
A factor of one value is none, and is left out; a code of one value tells nothing. (1): Chen et al., arXiv:1802.04942,
section 4; (2): Kumar et al., arXiv:1711.00848, section 3; (3): Eastwood and Williams, ICLR 2018, for any R, such as
that of a forest; (5): Higgins et al., ICLR 2017, section 3; (6): Kim and Mnih, arXiv:1802.05983, section 4.
"""
import math
import warnings
from typing import Callable, Iterable, NamedTuple, Sequence

import numpy as np
from scipy.optimize import minimize
from scipy.special import entr, xlogy

from autograd import losses, no_grad, ops, value_and_grad
from autograd.floors import compiled
from autograd.nn import check_rng
from autograd.tensor import plain

from ..checks import check_count, finite
from ..data.batches import as_floats

FOLDS = 5                                    # of the examples: each is predicted by trees that have not seen it
TOGETHER = 64                                # examples, or pairs of them, that share a factor
BATCH = 1000                                 # images drawn and encoded at a time


class DCI(NamedTuple):
    """Informativeness is accuracy on held-out examples, from 0, for guessing the commonest value, to 1."""
    disentanglement: float
    completeness: float
    informativeness: float


def mig(codes: np.ndarray, factors: np.ndarray) -> float:
    """The mutual information gap (1) of codes (N, d), samples of q(z | x) as in the paper, and factors (N, K).

    A code is read in at least 20 bins, and two to each value of a factor, so that bins cap no factor's information.
    Means can be given too, but a code without noise tells of all that it was computed from, however little that moves
    it, as far as bins can show, which narrows the gap. Raises ValueError for other shapes or types, NaN, no factor that
    varies, and N < 20; warns if a factor of n values has one with fewer than max(10, 4n) examples.
    """
    codes, factors, _ = _check(codes, factors, each=4)
    labels = [np.unique(v, return_inverse=True)[1] for v in factors.T]
    each = max(1, min(len(codes) // 20, min(np.bincount(v).min() for v in labels) // 2))
    binned = [_bins(z, each) for z in codes.T]
    entropy = np.array([_entropy(v) for v in labels])
    joint = np.array([[_entropy(b * len(codes) + v) for v in labels] for b in binned])
    information = np.array([[_entropy(b)] for b in binned]) + entropy - joint
    return float(np.mean(_gap(information) / entropy))                                     # (1)


def sap(codes: np.ndarray, factors: np.ndarray, categorical: Sequence[int] = ()) -> float:
    """The separated attribute predictability (2) of codes (N, d) and factors (N, K).

    S is R², that of the straight line: a code that is a curved function of its factor loses by it. For the columns
    `categorical` of factors, whose values are in no order, it is the mean over the values of 2 × balanced accuracy − 1
    when two thresholds on the code decide whether the factor has that value: chance is 0, not the paper's 1/2. Raises
    and warns as `mig` does, but 10 examples of each value are enough.
    """
    codes, factors, kept = _check(codes, factors)
    if not isinstance(categorical, Iterable) or not set(categorical) <= set(range(len(kept))):
        raise ValueError(f"categorical must name columns of factors, 0 to {len(kept) - 1}, not {categorical!r}")
    scores = (_standardise(codes).T @ _standardise(factors) / len(codes)) ** 2
    for k, column in enumerate(np.flatnonzero(kept)):
        if column in categorical:
            scores[:, k] = [_thresholds(z, factors[:, k]) for z in codes.T]
    return float(np.mean(_gap(scores)))                                                    # (2)


def dci(codes: np.ndarray, factors: np.ndarray, rng: np.random.Generator | None = None) -> DCI:
    """Disentanglement, completeness (3) and informativeness of codes (N, d) and factors (N, K), by trees.

    Trees see any monotone function of a code as the code itself; codes that would cut equally well share the credit.
    Each of five trees leaves out a fifth of the examples, dealt by `rng` (without one, always alike), to be judged by.
    Completeness is 0 for a factor of which no code tells. Raises as `sap` does.
    """
    codes, factors, _ = _check(codes, factors)
    rng = np.random.default_rng(0) if rng is None else rng
    check_rng(rng)
    fold = rng.permutation(len(codes)) % FOLDS
    order = np.argsort(codes, axis=0, kind="stable").T
    importance, informed = [], []
    for v in factors.T:
        labels = np.unique(v, return_inverse=True)[1]
        shares, right, guessed = zip(*(_tree(codes, labels, order, fold == f) for f in range(FOLDS)))
        importance.append(np.mean(shares, axis=0))
        informed.append((sum(right) - sum(guessed)) / (len(v) - sum(guessed)))
    return DCI(*concentration(np.stack(importance, axis=1)), float(np.mean(informed)))


def concentration(importance: np.ndarray) -> tuple[float, float]:
    """Disentanglement and completeness (3) of the importance (d, K), >= 0, of each code for each factor."""
    def purity(rows):
        share = rows / np.maximum(rows.sum(axis=1, keepdims=True), np.finfo(float).tiny)
        return np.where(share.any(axis=1), 1 - entr(share).sum(axis=1) / math.log(max(2, rows.shape[1])), 0)

    importance = finite(importance, "importance", (None, None))
    if importance.min() < 0:
        raise ValueError(f"importance must be >= 0, and goes down to {importance.min()}")
    weight = importance.sum(axis=1) / max(importance.sum(), np.finfo(float).tiny)
    return float(weight @ purity(importance)), float(np.mean(purity(importance.T)))        # (3)


def beta_vae_score(encode: Callable, data, rng: np.random.Generator, points: int = 1000) -> float:
    """The accuracy (5), on half of the points, of a linear classifier fitted to the other half; each is of 64 pairs.

    `encode` takes images (n, D), floats, and gives codes (n, d); it sees each image once. `data` has `factor_sizes`,
    `index(factors)` and `[rows]`, as `minivae.data.sprites`. Known to be 1 when all factors but one are disentangled
    (Kim and Mnih). Raises ValueError for fewer than two factors, and for codes of another shape or not finite.
    """
    factors, fixed, point = _draw(data, rng, points, 2)
    factors[point, 1, :, fixed] = factors[point, 0, :, fixed]
    z = _encode(encode, data, factors)
    x = _standardise(np.abs(z[:, 0] - z[:, 1]).mean(axis=1))
    x = np.concatenate([x, np.ones((points, 1))], axis=1)
    half, shape = points // 2, (x.shape[1], len(data.factor_sizes))
    loss = value_and_grad(lambda w: ops.mean(losses.softmax_cross_entropy(x[:half] @ w, fixed[:half]))
                          + 1e-4 * ops.sum(ops.square(w)))         # separable points have their optimum at infinity

    def objective(w):
        value, g = loss(w.reshape(shape))
        return float(value), g.ravel()

    w = minimize(objective, np.zeros(math.prod(shape)), jac=True, method="L-BFGS-B").x.reshape(shape)
    return float(np.mean(np.argmax(x[half:] @ w, axis=1) == fixed[half:]))                 # (5)


def factor_vae_score(encode: Callable, data, rng: np.random.Generator, points: int = 1000) -> float:
    """The accuracy (6), on half of the points, of the majority of the votes of the other half; each is of 64 images.

    Arguments and errors as for `beta_vae_score`. A code that never moves has no vote.
    """
    factors, fixed, point = _draw(data, rng, points, 1)
    factors[point, 0, :, fixed] = factors[point, 0, :1, fixed]
    z = _encode(encode, data, factors)[:, 0]
    variance = np.where(z.any(axis=(0, 1)), z.var(axis=1), np.inf)
    half, chosen = points // 2, np.argmin(variance, axis=1)
    votes = np.zeros((z.shape[-1], len(data.factor_sizes)))
    np.add.at(votes, (chosen[:half], fixed[:half]), 1)
    return float(np.mean(np.argmax(votes, axis=1)[chosen[half:]] == fixed[half:]))         # (6)


def _check(codes, factors, each=0):
    """Codes as float64, the factors that vary, and which those are, (K,)."""
    codes, factors = np.asarray(codes), np.asarray(factors)
    if codes.ndim != 2 or factors.ndim != 2 or len(codes) != len(factors) or 0 in codes.shape:
        raise ValueError(f"codes must be (N, d) and factors (N, K), not of shapes {codes.shape} and {factors.shape}")
    if codes.dtype.kind not in "biuf" or not np.isfinite(codes).all():
        raise ValueError(f"codes must be finite numbers; these are {codes.dtype}"
                         + (", with NaN or inf" if codes.dtype.kind == "f" else ""))
    if factors.dtype.kind not in "iu":
        raise ValueError(f"factors must be integers, which value each factor has, not {factors.dtype}")
    if len(codes) < 20:
        raise ValueError(f"a score takes at least 20 examples, not {len(codes)}")
    kept = np.array([(v != v[0]).any() for v in factors.T], bool)
    if not kept.any():
        raise ValueError(f"no factor varies among these {len(factors)} examples")
    for k in np.flatnonzero(kept):
        counts = np.unique(factors[:, k], return_counts=True)[1]
        if counts.min() < (enough := max(10, each * len(counts))):
            warnings.warn(f"factor {k} has {len(counts)} values, one of them in {counts.min()} of the {len(codes)} "
                          f"examples: with fewer than {enough} of each the score is rough",
                          RuntimeWarning, stacklevel=3)
    return codes.astype(np.float64), factors[:, kept], kept


def _standardise(x):
    """Columns of mean 0 and variance 1. A constant one is first made of ones, and so becomes 0 exactly."""
    x = x.astype(np.float64)
    largest = np.abs(x).max(axis=0)
    x /= np.where(largest, largest, 1)
    x -= x.mean(axis=0)
    scale = x.std(axis=0)
    return x / np.where(scale, scale, 1)


def _gap(scores):
    """The largest of each column of (d, K) minus the second, not counting what is negative by chance."""
    ranked = np.sort(np.vstack([np.zeros((2, scores.shape[1])), scores]), axis=0)
    return ranked[-1] - ranked[-2]


def _bins(z, each):
    """The bins (N,) of a code: of every `each` places in its sorted values, it is cut where they are farthest apart."""
    ordered = np.sort(z)
    steps = np.diff(ordered)
    steps = steps[:len(steps) // each * each].reshape(-1, each)
    return np.searchsorted(ordered[np.argmax(steps, axis=1) + each * np.arange(len(steps))], z)


def _entropy(labels):
    """In nats, plus (values − 1) / 2N, the mean by which a sample's is too small (Miller 1955)."""
    counts = np.unique(labels, return_counts=True)[1]
    return float(entr(counts / len(labels)).sum() + (len(counts) - 1) / (2 * len(labels)))


def _thresholds(z, v):
    """The mean over the values of v of max |TPR − FPR| of an interval of z, or its outside: Kuiper's statistic."""
    order = np.argsort(z)
    last = np.append(np.diff(z[order]) > 0, True)                  # of equal codes: no threshold parts them
    inside = v[order, None] == np.unique(v)
    above = np.cumsum(inside / inside.sum(axis=0) - ~inside / (~inside).sum(axis=0), axis=0)[last]
    return np.mean(np.maximum(above.max(axis=0), 0) - np.minimum(above.min(axis=0), 0))


def _tree(codes, labels, order, held):
    """Grow a tree without the examples `held`, (N,) bool; how many of those it gets right, and its root alone would.

    order (d, N) sorts each code. First returns the share of the labels' entropy that each code's cuts bring, (d,).
    """
    xlogx = xlogy(np.arange(len(labels) + 1.0), np.arange(len(labels) + 1.0))
    order = order[~held[order]].reshape(len(order), -1)
    counts = np.bincount(labels[~held])
    total, guessed = xlogx[counts.sum()] - xlogx[counts].sum(), np.sum(labels[held] == np.argmax(counts))
    brought, right, waiting = np.zeros(len(order)), 0, [(order, np.flatnonzero(held))]
    while waiting:
        order, held = waiting.pop()
        counts, n = np.bincount(labels[order[0]], minlength=labels.max() + 1), order.shape[1]
        nats, cut = _best_cuts(codes, labels, order, counts, xlogx)                        # (4)
        j = np.argmax(nats)
        added = np.count_nonzero(counts) - 1                       # probabilities; and one of n d cuts is named
        if nats[j] > 0.5 * added * math.log(n) + math.log(n * len(nats)):                  # as in Schwarz's BIC
            equal = nats >= (1 - 1e-9) * nats[j]
            brought[equal] += nats[j] / np.sum(equal)
            left = codes[:, j] <= cut[j]
            for side in (left, ~left):
                waiting.append((order[side[order]].reshape(len(order), -1), held[side[held]]))
        else:
            right += np.sum(labels[held] == np.argmax(counts))
    return brought / total, right, guessed


@compiled
def _best_cuts(codes, labels, order, counts, xlogx):
    """For each code, the nats that its best cut of the examples `order` (d, n) brings, and where that cut is."""
    d, n = order.shape
    nats, cut = np.zeros(d), np.zeros(d)
    whole = xlogx[n] - xlogx[counts].sum()
    for j in range(d):
        left, right = np.zeros_like(counts), counts.copy()
        within = xlogx[counts].sum()                               # Σ n ln n over values and sides
        for i in range(n - 1):
            a, b, v = codes[order[j, i], j], codes[order[j, i + 1], j], labels[order[j, i]]
            within += xlogx[left[v] + 1] - xlogx[left[v]] + xlogx[right[v] - 1] - xlogx[right[v]]
            left[v] += 1
            right[v] -= 1
            if a < b:
                gain = whole - (xlogx[i + 1] + xlogx[n - i - 1] - within)                  # (4)
                if gain > nats[j]:
                    middle = a + (b - a) / 2
                    nats[j], cut[j] = gain, middle if middle < b else a
    return nats, cut


def _draw(data, rng, points, each):
    """Factors at random, (points, each, TOGETHER, K); for each point which of them is to be fixed; and its number."""
    check_rng(rng)
    sizes = np.array(data.factor_sizes)
    if len(sizes) < 2 or sizes.min() < 2:
        raise ValueError(f"the score needs two or more factors that vary, not factors of {data.factor_sizes} values")
    points = check_count(points, "points", least=100)
    factors = rng.integers(sizes, size=(points, each, TOGETHER, len(sizes)))
    return factors, rng.integers(len(sizes), size=points), np.arange(points)


@no_grad()
def _encode(encode, data, factors):
    """The codes of the images with these factors (..., K), standardised: (..., d)."""
    rows, where = np.unique(data.index(factors.reshape(-1, factors.shape[-1])), return_inverse=True)
    codes = []
    for i in range(0, len(rows), BATCH):
        images = as_floats(data[rows[i:i + BATCH]])
        codes.append(np.asarray(plain(encode(images.reshape(len(images), -1)))))
        if codes[-1].ndim != 2 or len(codes[-1]) != len(images) or not np.isfinite(codes[-1]).all():
            raise ValueError(f"encode must give codes (n, d), such as the mean of q(z | x), without NaN or inf, for "
                             f"images (n, D); for n = {len(images)} it gave an array of shape {codes[-1].shape}")
    return _standardise(np.concatenate(codes))[where].reshape(*factors.shape[:-1], -1)
