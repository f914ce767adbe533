"""Pareto smoothed importance sampling: are the weights p/q of draws from q fit to be averaged, or does one rule them?

    (1)  above a high threshold u, P(w − u > y) → (1 + k y / σ)^(−1/k): moments up to order 1/k exist
    (2)  at θ = −k/σ, maximum likelihood has  k = mean ln(1 − θ y)  and  l(θ) = n (ln(−θ/k) − k − 1)
         θ̂ = Σ θⱼ softmax(l)ⱼ over a grid of θ < 1 / max y                                   [psis.fit]
    (3)  of S weights, the tail is the largest min(S / 5, 3 √S);  k̂ is its k                 [psis.k-hat]
    (4)  smoothed: the largest weights become the quantiles (i − ½) / M of the fitted tail   [psis.smooth]

y (n,) are the excesses over u. Weights (S,) come as logarithms, in nats, up to a constant. For k̂ < 0.5 their variance
is finite, up to 0.7 averages are still usable, beyond that q misses where p is. Zhang and Stephens, Technometrics 51,
2009, for (2); Vehtari et al., arXiv:1507.02646, for (3), (4), and a prior on k that is worth ten observations of 0.5.
"""
import math

import numpy as np
from scipy.special import softmax


def fit_tail(excess: np.ndarray) -> tuple[float, float]:
    """(k, sigma) of the generalised Pareto distribution of n positive numbers, by (2)."""
    y = np.sort(excess)
    n, m = len(y), 30 + math.isqrt(len(y))
    j = np.arange(1, m + 1)
    theta = 1 / y[-1] + (1 - np.sqrt(m / (j - 0.5))) / (3 * y[(n + 2) // 4 - 1])
    k = np.log1p(-theta[:, None] * y).mean(axis=1)
    best = theta @ softmax(n * (np.log(-theta / k) - k - 1))                               # (2)
    k = np.log1p(-best * y).mean()                                                         # (2)
    return float(k), float(-k / best)


def pareto_k(log_weights: np.ndarray) -> float:
    """k̂ of the weights, (S,), S >= 25; -inf if the largest are all the same, as when q is p."""
    return psis(log_weights)[1]


def psis(log_weights: np.ndarray) -> tuple[np.ndarray, float]:
    """The log weights (S,) with a smoothed tail, on the same scale and in the same order, and k̂.

    Raises ValueError for fewer than 25 weights, a NaN, +inf, or no weight above 0.
    """
    log_w = np.array(log_weights, np.float64)
    if log_w.ndim != 1 or len(log_w) < 25:
        raise ValueError(f"log_weights must be a vector of at least 25, not of shape {log_w.shape}")
    top = log_w.max()
    if not np.isfinite(top):
        raise ValueError(f"log_weights must be finite or -inf, and not all -inf; the largest is {top}")
    m = math.ceil(min(len(log_w) / 5, 3 * math.sqrt(len(log_w))))                          # (3)
    order = np.argsort(log_w)
    tail, threshold = order[-m:], np.exp(log_w[order[-m - 1]] - top)
    excess = np.maximum(np.exp(log_w[tail] - top) - threshold, np.finfo(float).tiny)               # > 0 in a tie
    if excess[-1] < 1e-10:
        return log_w, -math.inf                                    # all alike but for rounding: bounded, so no tail
    k, sigma = fit_tail(excess)
    k = (m * k + 10 * 0.5) / (m + 10)                                                      # (3)
    p = (np.arange(1, m + 1) - 0.5) / m
    with np.errstate(over="ignore"):                               # of a k in the hundreds: (4) stops at the largest
        quantile = sigma * (np.expm1(-k * np.log1p(-p)) / k if k else -np.log1p(-p))
    log_w[tail] = top + np.minimum(np.log(threshold + quantile), 0)                        # (4)
    return log_w, k
