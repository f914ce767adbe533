"""Functions of the plain floor as one op, or one loop, each. The plain form is the twin: it is what the tests compare
with, and what second and higher derivatives go through.

    linear         autograd/linear.py: bias and activation are added in place, and their gradients found in one pass
    bernoulli_nll  autograd/losses.py: the loss and its gradient in one compiled loop
    group_norm     autograd/norm.py:   two loops over each image while it is in the cache
    adam_step      autograd/optim.py:  one loop over a parameter instead of ten passes

Each function here takes the plain function and returns the fast one. Tests: tests/autograd/fast/test_fused.py.
"""
import math

import numpy as np

from .. import ops
from ..primitive import op
from . import convolution, loops
from .threads import parts_of, run

GROUP_NORM, BERNOULLI, ADAM = 60, 90, 40     # take as long as so many multiplications an element
QUIET, MOST = 2 ** 18, 2 ** 20               # multiplications: see _product

# Activations in place on the output, and their derivatives as a function of that output.
ACTIVATIONS = {None: (lambda y: y, lambda g, y: g),
               "relu": (lambda y: np.maximum(y, 0, out=y), lambda g, y: g * (y > 0)),
               "tanh": (lambda y: np.tanh(y, out=y), lambda g, y: g * (1 - y * y)),
               "sigmoid": (lambda y: ops.sigmoid.forward(y, out=y), lambda g, y: g * y * (1 - y))}


def linear(plain):
    return op(_linear, joint=_linear_vjp, twin=plain, name="linear")


def _linear(x, w, b, activation=None):
    if x.ndim == 4 and x.size and w.size:                          # a layer of images is a convolution of 1 x 1
        y = convolution.convolve_arrays(x, w[None, None], b).reshape(-1, w.shape[1])
    else:
        y = _product(_matrix(x), w)
        if b is not None:
            y += b
    return ACTIVATIONS[activation][0](y).reshape(*x.shape[:-1], w.shape[1])


def _linear_vjp(g, x, w, y, activation, needs):
    h = ACTIVATIONS[activation][1](g, y)
    gb = needs[2] and np.add.reduce(_matrix(h))
    if x.ndim == 4 and x.size and w.size:
        return (needs[0] and convolution.input_gradient_arrays(h, w[None, None], x.shape[1:3]),
                needs[1] and convolution.kernel_gradient_arrays(x, h, (1, 1))[0, 0], gb)
    h = _matrix(h)
    return needs[0] and _product(h, w.T).reshape(x.shape), needs[1] and _product(_matrix(x).T, h), gb


def _product(a, b):
    """a b, in pieces that OpenBLAS computes in the calling thread, if it is of medium size.

    After a larger product OpenBLAS's threads keep a core busy for 20 to 30 ms, waiting for the next one, and the
    threads of threads.py lack that core. A network that has large products anyway gains nothing by pieces.
    """
    (M, K), N = a.shape, b.shape[1]
    if not QUIET < M * K * N <= MOST:
        return a @ b
    y, pieces = np.empty((M, N), a.dtype), -(-M * K * N // QUIET)
    length = max(M, N)
    for piece in range(pieces):
        part = slice(piece * length // pieces, (piece + 1) * length // pieces)
        if M >= N:
            np.matmul(a[part], b, out=y[part])
        else:
            np.matmul(a, b[:, part], out=y[:, part])
    return y


def bernoulli_nll(plain):
    return op(_bernoulli_nll, lambda g, residual: g[..., None] * residual, lambda g, logits, residual:
              -g[..., None] * np.broadcast_to(logits, residual.shape), residual=True, twin=plain, name="bernoulli_nll")


def _bernoulli_nll(logits, x):
    """The loss and, as residual, its derivative in the logits."""
    if np.shape(logits) != np.shape(x):
        shape = np.broadcast_shapes(np.shape(logits), np.shape(x))
        logits, x = np.broadcast_to(logits, shape), np.broadcast_to(x, shape)
    logits, x = _arrays(logits, x)
    nll, residual = np.empty(logits.shape[:-1], logits.dtype), np.empty_like(logits)
    run(loops.bernoulli_nll, parts_of(BERNOULLI * logits.size), _matrix(logits), _matrix(x), nll.reshape(-1),
        _matrix(residual), writes=2)
    return nll, residual


def group_norm(plain):
    return op(_group_norm, joint=_group_norm_vjp, residual=True, twin=plain, name="group_norm")


def _group_norm(x, gain, shift, groups=1, eps=1e-5, silu=False):
    x, gain, shift = _arrays(x, gain, shift)
    y, mean, rstd = (np.empty(shape, x.dtype) for shape in (x.shape, *2 * [(len(x), len(gain))]))
    run(loops.group_norm, parts_of(GROUP_NORM * x.size), _rows(x), gain, shift, groups, eps, silu, _rows(y), mean, rstd,
        writes=3)
    return y, (mean, rstd)


def _group_norm_vjp(g, x, gain, shift, residual, groups, silu):
    g, x, gain, shift = _arrays(g, x, gain, shift)
    gx, to_gain, to_shift = (np.empty(shape, x.dtype) for shape in (x.shape, *2 * [(len(x), len(gain))]))
    run(loops.group_norm_vjp, parts_of(GROUP_NORM * x.size), _rows(g), _rows(x), gain, shift, groups, silu, *residual,
        _rows(gx), to_gain, to_shift, writes=3)
    return gx, to_gain.sum(axis=0), to_shift.sum(axis=0)


def adam_step(plain):
    """As the plain one for arrays that are contiguous, as parameters are; the plain one for others."""
    def step(p, g, m, v, t, lr, betas, eps, shrink=1.0):
        if not all(a.flags.carray and a.dtype == p.dtype for a in (p, m, v)):
            return plain(p, g, m, v, t, lr, betas, eps, shrink)
        numbers = (lr / (1 - betas[0] ** t), betas[0], 1 - betas[0], betas[1], 1 - betas[1], eps, shrink,
                   (1 - betas[1] ** t) ** -0.5)
        g, = _arrays(g.copy() if np.may_share_memory(g, p) else g, dtype=p.dtype)     # as if p.grad = p.data
        run(loops.adam, parts_of(ADAM * p.size), tuple(map(float, numbers)), g.reshape(-1), p.reshape(-1),
            m.reshape(-1), v.reshape(-1), writes=3)
    return step


def _arrays(*arrays, dtype=None):
    """The arrays as loops take them: contiguous, aligned, and of one dtype, float32 or float64."""
    dtype = dtype or np.result_type(*arrays, np.float32)
    return [a if a.__class__ is np.ndarray and a.dtype is dtype and a.flags.carray else np.require(a, dtype, "CAW")
            for a in arrays]


def _matrix(x):
    """A view, or a copy, (n, C) of x (..., C), either of which may be 0."""
    return x.reshape(math.prod(x.shape[:-1]), x.shape[-1])


def _rows(x):
    """A view (B, P, C) of a contiguous x (B, ..., C)."""
    return x.reshape(len(x), math.prod(x.shape[1:-1]), x.shape[-1])
