"""The planar flow: a map that moves points along one direction, by how far they are along another.

    (1)  f(z) = z + û tanh a,  a = wᵀz + b,   det = 1 + wᵀû (1 − tanh² a)                    [flows.planar]
    (2)  û = u + (m(wᵀu) − wᵀu) w/|w|²,  m(c) = −1 + ln(1 + (e − 1) eᶜ):  wᵀû > −1           [flows.planar-invertible]
    (3)  wᵀf(z) + b = a + wᵀû tanh a rises with a: the inverse is found by bisection

z (B, d); u, w (d,) and b, or those of each example where there is a context. Without (2), f may fold space over, and is
no change of variables. The m of the paper has 1 for e − 1; this one has m(0) = 0, so that u = 0 is the identity.
Rezende and Mohamed, arXiv:1505.05770, section 4.1 and appendix A.
"""
import math

import numpy as np

from autograd import ops
from autograd.floors import compiled, fused
from autograd.linear import linear
from autograd.nn import Parameter, check_rng
from autograd.tensor import plain

from ..checks import finite
from .flow import Layer

SHIFT = math.log(math.e - 1)
TINY = 1e-30                                 # |w|² and r² are at least this: where they are 0, nothing depends on them


class Direct(Layer):
    """A layer of few numbers: the parameters theta (n,), to which a context adds a linear function of itself."""

    def start(self, theta):
        self.theta = Parameter(theta)
        self.w = Parameter(np.zeros((self.context, len(theta)))) if self.context else None

    def numbers(self, h):
        self.check_context(h)
        return linear(h, self.w, self.theta) if self.context else self.theta


class Planar(Direct):
    """(1). At the start u = 0, which is the identity, and w and b are random."""

    def __init__(self, dim: int, context: int = 0, *, rng: np.random.Generator):
        check_rng(rng)
        super().__init__(dim, context)
        self.start(np.append(np.zeros(dim), rng.standard_normal(dim + 1)))

    def forward(self, z, h=None):
        y = planar(z, self.numbers(h))
        return y[:, :-1], y[:, -1]

    def inverse(self, x, h=None):
        u, w, b, det = _invertible(self.numbers(h), self.dim)
        c, target = det(0.0) - 1, ops.sum(w * x, axis=-1) + b
        low, high = (plain(target) + sign * np.abs(plain(c)) for sign in (-1, 1))
        for _ in range(60):                                        # halvings, of an interval that holds a
            a = (low + high) / 2
            above = a + plain(c) * np.tanh(a) > plain(target)
            low, high = np.where(above, low, a), np.where(above, a, high)
        for _ in range(2):                                         # Newton's steps, of length 0: they carry derivatives
            error = a + c * ops.tanh(a) - target
            a = a - (error - plain(error)) / det(ops.tanh(a))
        t = ops.tanh(a)
        return x - u * ops.expand_dims(t, -1), -ops.log(det(t))                            # (3)

    def assign(self, u, w, b: float):
        """Take over û, w and b. Raises ValueError unless wᵀû > −1."""
        u, w = (finite(v, name, (self.dim,)) for v, name in ((u, "u"), (w, "w")))
        if not (c := u @ w) > -1:
            raise ValueError(f"a planar map is invertible if w'u > -1, and this is {c:.4g}")
        k = (softplus_inverse(1 + c) - SHIFT - c) / max(w @ w, TINY)
        self.theta.assign(np.concatenate([u + k * w, w, finite([b], "b", (1,))]))


def _invertible(theta, d):
    """û, w, b of theta (..., 2 d + 1), and the determinant as a function of tanh a."""
    u, w, b = theta[..., :d], theta[..., d:-1], theta[..., -1]
    wu, norm = ops.sum(w * u, axis=-1), ops.maximum(ops.sum(w * w, axis=-1), TINY)
    rise = ops.softplus(wu + SHIFT)                                # 1 + wᵀû: the determinant at a = 0
    u = u + ops.expand_dims((rise - 1 - wu) / norm, -1) * w                                # (2)
    return u, w, b, lambda t: t * t + rise * (1 - t * t)           # > 0, as 1 + (rise - 1) (1 - t²) may not be


def planar(z, theta):
    """f(z) and ln det in one array (B, d + 1), of z (B, d) and u, w, b, (2 d + 1,) or (B, 2 d + 1)."""
    if z.ndim != 2 or theta.shape not in ((2 * z.shape[1] + 1,), (len(z), 2 * z.shape[1] + 1)):
        raise ValueError(f"planar takes z (B, d) and theta (2 d + 1,) or (B, 2 d + 1), not {z.shape} and {theta.shape}")
    return _planar(z, theta)


def _composed(z, theta):
    u, w, b, det = _invertible(theta, z.shape[1])
    t = ops.tanh(ops.sum(w * z, axis=-1) + b)
    return ops.concatenate([z + u * ops.expand_dims(t, -1), ops.expand_dims(ops.log(det(t)), -1)], axis=1)    # (1)


def _in_one_loop(z, theta):
    """As `_composed`, of whose operations a flow has some twenty for each layer."""
    dtype = np.result_type(z, theta, np.float32)
    y, residual = np.empty((len(z), z.shape[1] + 1), dtype), np.empty((len(z), 2), dtype)
    _bend(z, np.broadcast_to(theta, (len(z), theta.shape[-1])), y, residual)
    return y, residual


def _vjp(g, z, theta, residual):
    theta = np.broadcast_to(theta, (len(z), theta.shape[-1]))
    to_z, to_theta = np.empty(z.shape, g.dtype), np.empty(theta.shape, g.dtype)
    _bend_vjp(g, z, theta, residual, to_z, to_theta)
    return to_z, to_theta


_planar = fused(_composed, _in_one_loop, joint=_vjp, residual=True, name="planar")


@compiled
def _bend(z, theta, y, residual):
    """A row at a time; the residual is tanh a and 1 + wᵀû."""
    (B, d), one, zero, tiny = z.shape, y.dtype.type(1), y.dtype.type(0), y.dtype.type(TINY)
    for i in range(B):
        wu, norm, a = zero, zero, theta[i, 2 * d]
        for j in range(d):
            u, w = theta[i, j], theta[i, d + j]
            wu, norm, a = wu + w * u, norm + w * w, a + w * z[i, j]
        c = wu + y.dtype.type(SHIFT)
        rise, t = max(c, zero) + math.log1p(math.exp(-abs(c))), math.tanh(a)
        k = (rise - one - wu) / max(norm, tiny)                                            # (2)
        for j in range(d):
            y[i, j] = z[i, j] + (theta[i, j] + k * theta[i, d + j]) * t                    # (1)
        y[i, d] = math.log(t * t + rise * (one - t * t))                                   # (1)
        residual[i, 0], residual[i, 1] = t, rise


@compiled
def _bend_vjp(g, z, theta, residual, to_z, to_theta):
    (B, d), one, two, zero = z.shape, g.dtype.type(1), g.dtype.type(2), g.dtype.type(0)
    for i in range(B):
        wu = norm = gu = gw = zero
        for j in range(d):
            u, w = theta[i, j], theta[i, d + j]
            wu, norm, gu, gw = wu + w * u, norm + w * w, gu + g[i, j] * u, gw + g[i, j] * w
        t, rise, norm = residual[i, 0], residual[i, 1], max(norm, g.dtype.type(TINY))
        s, k = one - t * t, (rise - one - wu) / norm
        to_det = g[i, d] / (t * t + rise * s)
        to_a = s * (gu + k * gw + two * t * (one - rise) * to_det)
        to_k = t * gw / norm
        to_wu = (to_det * s + to_k) * (one - math.exp(-rise)) - to_k
        for j in range(d):
            u, w = theta[i, j], theta[i, d + j]
            to_z[i, j] = g[i, j] + to_a * w
            to_theta[i, j] = t * g[i, j] + to_wu * w
            to_theta[i, d + j] = k * t * g[i, j] + to_a * z[i, j] + to_wu * u - two * k * to_k * w
        to_theta[i, 2 * d] = to_a


def softplus_inverse(y):
    """x with ln(1 + eˣ) = y > 0."""
    return y + np.log(-np.expm1(-y))
