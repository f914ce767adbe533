"""Other resolutions of an image: windows of n x n pixels become one, or one pixel becomes such a window.

    (1)  upsample:  y[b, h, w, c] = x[b, ⌊h / n⌋, ⌊w / n⌋, c]
    (2)  avg_pool:  y[b, h, w, c] = Σ_{i, j < n} x[b, n h + i, n w + j, c] / n²
    (3)  max_pool:  y[b, h, w, c] = max_{i, j < n} x[b, n h + i, n w + j, c]                 [pooling.max]
    (4)  ⟨g, upsample(x)⟩ = n² ⟨avg_pool(g), x⟩, so each is the other's VJP, up to n²        [pooling.adjoint]
    (5)  avg_pool(upsample(x)) = max_pool(upsample(x)) = x                                   [pooling.inverse]

x (B, H, W, C), as everywhere in the engine: images are channel-last, and windows do not overlap. Averages are made
from n² strided views of x rather than from a reduction over the axes of a reshaped one, in half the time. At ties the
first maximum of a window, row by row, gets the gradient, as in PyTorch.
"""
from functools import reduce

import numpy as np

from . import ops
from .primitive import op
from .tensor import plain


def _upsample(x, factor=2):
    """Each pixel repeated: x (B, H, W, C) to (B, factor H, factor W, C). Raises ValueError unless factor >= 1."""
    _check("upsample", x, factor, 1)
    return x.repeat(factor, axis=2).repeat(factor, axis=1)                                 # (1)


def _avg_pool(x, size=2):
    """The mean of each window: x (B, H, W, C) to (B, H / size, W / size, C). Raises ValueError unless size divides."""
    return reduce(np.add, _places(_check("avg_pool", x, size, size), size)) / size ** 2    # (2)


def _max_pool(x, size=2):
    """The maximum of each window: as `avg_pool`."""
    y, *others = _places(_check("max_pool", x, size, size), size)
    index = np.zeros(y.shape, np.min_scalar_type(size ** 2))       # the place of the first maximum in each window
    for k, v in enumerate(others, 1):
        np.maximum(index, (v > y) * index.dtype.type(k), out=index)
        y = np.maximum(y, v)                                                               # (3)
    return y, index


def _max_pool_vjp(g, residual, shapes, size):
    gx = np.empty(shapes[0], g.dtype)
    for k, v in enumerate(_places(gx, size)):
        np.multiply(g, residual == k, out=v)
    return gx


def _max_pool_twin(x, size=2):
    B, H, W, C = x.shape
    windows = ops.transpose(ops.reshape(x, (B, H // size, size, W // size, size, C)), (0, 1, 3, 5, 2, 4))
    windows = ops.reshape(windows, (*windows.shape[:4], size ** 2))
    first = np.argmax(plain(windows), axis=-1)
    return windows[(*np.indices(first.shape), first)]


def _places(x, size):
    """A view of x for each place in a window, row by row: what all windows have there, (B, H / size, W / size, C)."""
    return [x[:, i::size, j::size] for i in range(size) for j in range(size)]


def _check(name, x, n, divisor):
    if not isinstance(n, int) or n < 1:
        raise ValueError(f"{name} takes a positive integer, not {n!r}")
    if np.ndim(x) != 4 or x.shape[1] % divisor or x.shape[2] % divisor:
        wanted = f", with H and W multiples of {divisor}" * (divisor > 1)
        raise ValueError(f"{name} takes images (B, H, W, C){wanted}, not {np.shape(x)}")
    return x


upsample = op(_upsample, lambda g, factor: avg_pool(g, factor) * factor ** 2)              # (4)
avg_pool = op(_avg_pool, lambda g, size: upsample(g / size ** 2, size))                    # (4)
max_pool = op(_max_pool, _max_pool_vjp, residual=True, twin=_max_pool_twin)
