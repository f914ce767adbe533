"""The engine's kernels: ndarrays in, ndarrays out, one pass over memory where NumPy would take several.

Each is a plain loop (see jit.py). Constants take the array's dtype, since a Python number next to a float32 would make
the arithmetic float64. Those that take `part` and `parts` do one part of their work: see threads.py, whose `run` checks
the arrays that they are given.
"""
import math

import numba
import numpy as np
from numba.extending import overload, register_jitable

from .jit import kernel
from .threads import span


def exp_minus(a):
    """exp(−a) for a >= 0."""
    return math.exp(-a)


def exp_and_log1p(a):
    """exp(−a) and ln(1 + exp(−a)) for a >= 0."""
    e = math.exp(-a)
    return e, math.log1p(e)


@overload(exp_minus, jit_options={"error_model": "numpy", "fastmath": {"contract"}})
def _exp_minus(a):
    """In float32 by a series, which vectorises, where a call of exp does not: right to 3e-7.

    exp(−a) = 2⁻ⁿ exp(r) with n the integer nearest a / ln 2, and |r| <= ½ ln 2; 2⁻ⁿ is written into the bits.
    """
    if a != numba.float32:
        return lambda a: math.exp(-a)
    f = np.float32
    most, log2_e, one, half = f(88), f(1 / math.log(2)), f(1), f(0.5)        # exp(−88) < 2⁻¹²⁶ counts as 0
    high, low = f(0.693359375), f(math.log(2) - 0.693359375)                 # ln 2, in two parts to keep r's digits
    e2, e3, e4, e5, e6, e7 = [f(1 / math.factorial(k)) for k in range(2, 8)]
    bias, mantissa = np.int32(127), np.int32(23)

    def series(a):
        a = most if a > most else a                                # a NaN stays one
        n = np.int32(a * log2_e + half)
        r = f(n) * high - a + f(n) * low
        e = one + r * (one + r * (e2 + r * (e3 + r * (e4 + r * (e5 + r * (e6 + r * e7))))))
        return e * np.int32((bias - n) << mantissa).view(f)
    return series


@overload(exp_and_log1p, jit_options={"error_model": "numpy", "fastmath": {"contract"}})
def _exp_and_log1p(a):
    """In float32 ln(1 + e) = 2 artanh(s) with s = e / (2 + e) <= ⅓, and artanh(s) = s + s³/3 + s⁵/5 + ..."""
    if a != numba.float32:
        return lambda a: (math.exp(-a), math.log1p(math.exp(-a)))
    two = np.float32(2)
    a1, a3, a5, a7, a9, a11, a13 = [np.float32(1 / k) for k in range(1, 14, 2)]

    def series(a):
        e = exp_minus(a)
        s = e / (two + e)
        t = s * s
        return e, two * s * (a1 + t * (a3 + t * (a5 + t * (a7 + t * (a9 + t * (a11 + t * a13))))))
    return series


@kernel
def bernoulli_nll(part, parts, logits, x, nll, residual):
    """nll (B,) ← Σ softplus(l) − x l, residual (B, D) ← σ(l) − x."""
    B, D = logits.shape
    zero, one, terms = logits.dtype.type(0), logits.dtype.type(1), np.empty(D, logits.dtype)
    for i in range(*span(part, parts, B)):
        for j in range(D):
            l = logits[i, j]
            e, log1p_e = exp_and_log1p(abs(l))
            terms[j] = max(l, zero) - x[i, j] * l + log1p_e
            residual[i, j] = (one if l >= zero else e) / (one + e) - x[i, j]
        rest = D
        while rest > 1:                                # halves are added to halves, which vectorises, and is more exact
            half = (rest + 1) // 2
            for j in range(rest - half):
                terms[j] += terms[half + j]
            rest = half
        nll[i] = terms[0] if D else zero


@kernel
def adam(part, parts, numbers, g, p, m, v):
    """One Adam step on flat arrays, in place.

    The numbers: η / (1 − β₁ᵗ), β₁, 1 − β₁, β₂, 1 − β₂, ε, shrink, 1 / √(1 − β₂ᵗ). They come as a tuple of float64, with
    1 − β among them: 1 − 0.999 in float32 is wrong in the fifth digit. Where the gradient stays 0, as at the rim of
    MNIST's images, m decays until it is too small to be a normal number, and CPUs are slow with those: it becomes 0.
    """
    number = p.dtype.type
    lr, beta1, rest1, beta2 = number(numbers[0]), number(numbers[1]), number(numbers[2]), number(numbers[3])
    rest2, eps, shrink, root = number(numbers[4]), number(numbers[5]), number(numbers[6]), number(numbers[7])
    least, zero = np.finfo(p.dtype).tiny, number(0)
    begin, end = span(part, parts, p.size)
    p, g, m, v = p[begin:end], g[begin:end], m[begin:end], v[begin:end]      # from 0 on, or it does not vectorise
    for i in range(p.size):
        m_i = beta1 * m[i] + rest1 * g[i]
        m[i] = zero if abs(m_i) < least else m_i                   # a NaN stays one
        v[i] = beta2 * v[i] + rest2 * g[i] * g[i]
        p[i] = shrink * p[i] - lr * m[i] / (math.sqrt(v[i]) * root + eps)


@register_jitable
def _share(sums, groups, count):
    """sums (C,) ← for each channel the total of its group, divided by `count`."""
    size = sums.size // groups
    for start in range(0, sums.size, size):
        total = 0.0
        for c in range(start, start + size):
            total += sums[c]
        for c in range(start, start + size):
            sums[c] = total / count


@kernel
def group_norm(part, parts, x, gain, shift, groups, eps, silu, y, mean, rstd):
    """y ← φ(gain (x − mean) rstd + shift), and mean and rstd (B, C), equal within a group: x and y (B, P, C).

    The sums are float64, which costs no time here.
    """
    B, P, C = x.shape
    zero, one, count = x.dtype.type(0), x.dtype.type(1), max(1, P * C // groups)
    scale, sums = np.empty(C, x.dtype), np.empty(C)
    for b in range(*span(part, parts, B)):
        m, r = mean[b], rstd[b]
        sums[:] = 0
        for p in range(P):
            for c in range(C):
                sums[c] += x[b, p, c]
        _share(sums, groups, count)
        m[:] = sums
        sums[:] = 0
        for p in range(P):
            for c in range(C):
                sums[c] += (x[b, p, c] - m[c]) ** 2
        _share(sums, groups, count)
        for c in range(C):
            r[c] = 1 / math.sqrt(sums[c] + eps)
            scale[c] = gain[c] * r[c]
        for p in range(P):
            for c in range(C):
                z = (x[b, p, c] - m[c]) * scale[c] + shift[c]
                if silu:
                    e = exp_minus(abs(z))
                    z *= (one if z >= zero else e) / (one + e)
                y[b, p, c] = z


@kernel
def group_norm_vjp(part, parts, g, x, gain, shift, groups, silu, mean, rstd, gx, ggain, gshift):
    """The gradients gx (B, P, C) and, for each image, ggain and gshift (B, C).

    With x̂ = (x − mean) rstd, z = gain x̂ + shift, u = g φ'(z):  gshift = Σ u,  ggain = Σ u x̂, over the positions, and
    gx = rstd (gain u − E[gain u] − x̂ E[gain u x̂]), with E over the group.
    """
    B, P, C = x.shape
    zero, one, count = x.dtype.type(0), x.dtype.type(1), max(1, P * C // groups)
    (scale, first, second), (sums, moments) = np.empty((3, C), x.dtype), np.empty((2, C))
    for b in range(*span(part, parts, B)):
        m, r = mean[b], rstd[b]
        sums[:] = 0
        moments[:] = 0
        for c in range(C):
            scale[c] = gain[c] * r[c]
        for p in range(P):
            for c in range(C):
                u = g[b, p, c]
                if silu:
                    z = (x[b, p, c] - m[c]) * scale[c] + shift[c]
                    e = exp_minus(abs(z))
                    s = (one if z >= zero else e) / (one + e)
                    u *= s * (one + z * (one - s))
                gx[b, p, c] = u
            for c in range(C):                         # by itself: float64 would halve the vectors of the loop above
                sums[c] += gx[b, p, c]
                moments[c] += gx[b, p, c] * (x[b, p, c] - m[c])
        for c in range(C):
            gshift[b, c], ggain[b, c] = sums[c], moments[c] * r[c]
            sums[c] *= scale[c]
            moments[c] *= scale[c] * r[c] * r[c]
        _share(sums, groups, count)
        _share(moments, groups, count)
        first[:], second[:] = sums, moments
        for p in range(P):
            for c in range(C):
                gx[b, p, c] = scale[c] * gx[b, p, c] - first[c] - second[c] * (x[b, p, c] - m[c])
