"""How good are samples? Fréchet distance, maximum mean discrepancy, and whether digits are those that were asked for.

    (1)  d² = |μ_a − μ_b|² + tr S_a + tr S_b − 2 tr (S_a S_b)^½ = W₂²(N(μ_a, S_a), N(μ_b, S_b))   [samples.frechet]
    (2)  tr (S_a S_b)^½ = the sum of the singular values of L_a L_bᵀ, for any S = LᵀL        [samples.trace]
    (3)  MMD² = E k(x, x′) + E k(y, y′) − 2 E k(x, y),  k = mean over h of exp(−|x − y|² / 2h²)    [samples.mmd]
         unbiased, if no row is paired with itself; biased, but never negative, if all pairs count
    (4)  ratio² = biased MMD² / (1/n + 1/m)(1 − E k(y, y′)), 1 on average if x has y's distribution    [samples.ratio]
    (5)  accuracy = mean of 1[argmax_c p(c | image) = what was wanted]                       [samples.accuracy]

Features a (N, F), b (M, F), of means μ and covariances S; samples x (n, D), data y (m, D). L is the triangle of a QR
factorisation of the centred features, so no covariance is too singular and no root complex. (1) is biased: N and M rows
of one distribution are about c/N + c/M apart, so compare models by the same numbers of samples.
Heusel et al., arXiv:1706.08500, for (1); Gretton et al., JMLR 13, 2012, section 2, for (3).
"""
from typing import NamedTuple, Sequence

import numpy as np
from scipy.spatial.distance import cdist, pdist

from ..checks import finite
from ..data import mnist

PAIRS = 2 ** 20                              # of rows, whose distances are held at a time
SOME = 1000                                  # of the data, whose median distance is taken


class MMD(NamedTuple):
    """Both estimates of MMD², and (4): how large MMD is beside that of two sets of data."""
    unbiased: float
    biased: float
    ratio: float


def frechet_distance(a: np.ndarray, b: np.ndarray) -> float:
    """d² of features a (N, F) and b (M, F), in their unit squared.

    Raises ValueError for fewer than two rows, widths that differ, and what is not finite.
    """
    a, b = _pair(a, b, "a and b")
    L_a, L_b = (np.linalg.qr(f - f.mean(axis=0), mode="r") / (len(f) - 1) ** 0.5 for f in (a, b))
    trace = np.linalg.svd(L_a @ L_b.T, compute_uv=False).sum()                             # (2)
    d2 = np.sum((a.mean(axis=0) - b.mean(axis=0)) ** 2) + np.sum(L_a ** 2) + np.sum(L_b ** 2) - 2 * trace  # (1)
    return max(float(d2), 0.0)


def mmd(x: np.ndarray, y: np.ndarray, bandwidth: float | Sequence[float] | None = None) -> MMD:
    """The maximum mean discrepancy of samples x (n, D) and data y (m, D), for h = `bandwidth`, one or several.

    By default h is 1, 1/4 and 1/16 of the median distance between two of the data: the same for all models of them. A
    narrow kernel sees fine structure and gives a steady ratio, a wide one sees what is far away. Takes time (n + m)²,
    and little memory. Raises ValueError for fewer than two rows, widths that differ, what is not finite, and data that
    are all alike as far as the kernel can tell.
    """
    x, y = _pair(x, y, "x and y")
    if bandwidth is None:
        some = y[np.linspace(0, len(y) - 1, min(len(y), SOME)).astype(int)]
        bandwidth = np.median(pdist(some)) / [1, 4, 16]
    widths = finite(np.atleast_1d(bandwidth), "bandwidth", (None,))
    if not (widths * abs(widths) > 0).all():
        raise ValueError(f"bandwidth must be > 0, not {widths}: by default the median distance between two of the data")
    n, m = len(x), len(y)
    xx, yy, xy = (_mean_kernel(*pair, widths) for pair in ((x, x), (y, y), (x, y)))
    others_x, others_y = (n * xx - 1) / (n - 1), (m * yy - 1) / (m - 1)
    biased, by_chance = max(xx + yy - 2 * xy, 0.0), (1 / n + 1 / m) * (1 - others_y)       # (3)
    if not by_chance > 0:
        raise ValueError(f"to a kernel of bandwidth {widths} all rows of y are alike")
    return MMD(others_x + others_y - 2 * xy, biased, (biased / by_chance) ** 0.5)          # (3), (4)


def frechet_digits(images: np.ndarray, reference: np.ndarray | None = None) -> float:
    """d² in the 128 features of the shipped classifier, from MNIST's test digits or from other images.

    Images are (N, 784), (N, 28, 28) or (N, 1, 28, 28): floats in [0, 1] (see `to_unit`), bytes, or bits as bool. From
    the test digits it is 1.5 to the training digits, about 2 to 10,000 of them, and 7 to 1,000; without the 1s it is
    25, blurred by a pixel 120, and of a VAE's means after two epochs 210.
    """
    return frechet_distance(_features(images), _features(mnist("test").images if reference is None else reference))


def accuracy(images: np.ndarray, wanted: np.ndarray) -> float:
    """The share of images, as above, that the classifier reads as the digits `wanted`, (N,) integers."""
    read, wanted = _classifier().predict(_plane(images)), np.asarray(wanted)
    if wanted.dtype.kind not in "iu" or wanted.shape != read.shape or not 0 <= wanted.min() <= wanted.max() <= 9:
        raise ValueError(f"wanted must be integers from 0 to 9, ({len(read)},), not {wanted!r}")
    return float(np.mean(read == wanted))                                                  # (5)


def to_unit(x: np.ndarray) -> np.ndarray:
    """Pixels from -1 to 1, as diffusion has them, as pixels from 0 to 1; what overshoots is clipped.

    Raises ValueError for what cannot be such pixels: whole numbers, NaN, and values beyond 10, where no noise gets.
    """
    x = np.asarray(x)
    if x.dtype.kind != "f" or not (np.abs(x) <= 10).all():
        raise ValueError("to_unit takes floats from -1 to 1, not " + (f"values from {x.min():g} to {x.max():g}" if
                         x.dtype.kind == "f" else f"{x.dtype}: grey levels are from 0 to 1 after x / 255"))
    return (np.clip(x, -1, 1) + 1) / 2


def _pair(a, b, names):
    """Both in float64, with at least two rows, as wide as each other."""
    a, b = (finite(v, f"each of {names}", (None, None)).astype(np.float64, copy=False) for v in (a, b))
    if a.shape[1] != b.shape[1] or min(len(a), len(b)) < 2:
        raise ValueError(f"{names} must have two rows or more, and equally many columns, not {a.shape} and {b.shape}")
    return a, b


def _mean_kernel(a, b, widths):
    rows, total = max(1, PAIRS // len(b)), 0.0
    for i in range(0, len(a), rows):
        exponent = -0.5 * cdist(a[i:i + rows], b, "sqeuclidean")
        total += sum(float(np.exp(exponent / h ** 2).sum()) for h in widths)
    return total / (len(a) * len(b) * len(widths))


def _classifier():
    from .classifier import digit_classifier                       # which not all need, and which imports training
    return digit_classifier()


def _features(images):
    return _classifier().features(_plane(images))


def _plane(images):
    return images[:, 0] if np.ndim(images) == 4 and images.shape[1] == 1 else images
