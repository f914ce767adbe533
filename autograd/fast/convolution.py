"""Convolution without copies of its windows: the fast form of autograd/conv.py.

    (1)  ∂L/∂x[s h + r − p] = Σₖ g[h − k] w[r + s k]ᵀ,  0 <= r < s                           [conv.phases]

in one axis: the pixels that share a remainder r are seen by the same rows of the kernel. So an input gradient is s²
convolutions with parts of the kernel, and never multiplies by the zeros between strides.

Images are channel-last, so a row of a window, kw C_in numbers, lies in one piece of memory, and a convolution is a sum
of products of matrices whose rows overlap. Only one image at a time is copied, into its padding.

A 3 x 3 kernel of stride 1 on whole vectors of channels is passed on to winograd.py, but only if no weight is exactly 0.
Winograd's form adds and subtracts the pixels that a zero weight hides, and they would leave rounding errors. The direct
form multiplies each pixel by its own weight, as NumPy does: 0 times a finite number adds nothing, and 0 times infinity
is NaN. For the same reason the input gradient of a kernel that is not finite is left to the plain form: the loops here
multiply the zeros around g by w, and the plain form does not.

Tests: tests/autograd/fast/test_convolution.py.
"""
import numpy as np

from . import winograd
from .jit import kernel
from .threads import SUMS, parts_of, run, span
from .vectors import contract, whole_vectors
from .winograd import place


def convolve(plain):
    return convolve_arrays


def input_gradient(plain):
    def fast(g, w, size, stride=1, padding=0):
        return (input_gradient_arrays if np.isfinite(w).all() else plain)(g, w, size, stride, padding)
    return fast


def kernel_gradient(plain):
    return kernel_gradient_arrays


def _arrays(*arrays):
    """The arrays as the kernels want them: of one dtype, contiguous, and writeable, or Numba would compile anew."""
    dtype = np.result_type(*arrays, np.float32)
    if dtype not in (np.float32, np.float64):
        raise ValueError(f"convolution is for float32 and float64, not {dtype}")
    return [np.require(array, dtype, "CAW") for array in arrays]


def _offsets(rows, columns, width, size):
    """Where the pixels at `rows` and `columns` of an image begin, it being `width` pixels of `size` numbers wide."""
    return ((rows[:, None] * width + columns) * size).reshape(-1)


@kernel
def _correlate(part, parts, x, top, left, size, starts, w, b, ends, y):
    """Each image of y, at `ends`, ← b + Σ x w over the windows that begin at `starts` of that of x, in its padding."""
    padded = np.zeros((size[0], size[1], x.shape[3]), x.dtype)
    for i in range(*span(part, parts, len(x))):
        place(x[i], padded, top, left)
        contract(padded.reshape(-1), starts, size[1] * x.shape[3], 1, w, y[i].reshape(-1), ends, b)


@kernel
def _correlate_kernel(part, parts, x, padding, size, starts, g, stride, ends, w):
    """w[part] ← w[part] + Σ x g, its numbers of one channel at `ends` multiplied by those of x from `starts` on."""
    padded = np.zeros((size[0], size[1], x.shape[3]), x.dtype)
    step = stride * x.shape[3]
    for i in range(*span(part, parts, len(x))):
        place(x[i], padded, padding, padding)
        contract(padded.reshape(-1), starts, size[1] * step, step, g[i], w[part], ends, None)


def convolve_arrays(x, w, b, stride=1, padding=0):
    x, w, b = _arrays(x, w, np.zeros(w.shape[3], w.dtype) if b is None else b)
    if winograd.suits(w.shape, x.itemsize, stride, padding) and winograd.mixes_nothing(w):
        return winograd.forward(x, w, b, padding)
    (B, H, W, C), (kh, kw, _, N) = x.shape, w.shape
    size = H + 2 * padding, W + 2 * padding
    h, v = (size[0] - kh) // stride + 1, (size[1] - kw) // stride + 1
    w, b = whole_vectors(w.reshape(kh, kw * C, N)), whole_vectors(b)
    y = np.empty((B, h, v, b.size), x.dtype)
    starts, ends = _offsets(stride * np.arange(h), stride * np.arange(v), size[1], C), np.arange(h * v) * b.size
    run(_correlate, parts_of(y.size * w.shape[0] * w.shape[1]), x, padding, padding, size, starts, w, b, ends, y)
    return np.ascontiguousarray(y[..., :N])


def input_gradient_arrays(g, w, size, stride=1, padding=0):
    """The gradient in x (B, *size, C_in) of ⟨g, conv2d(x, w)⟩: g (B, H', W', C_out), w (kh, kw, C_in, C_out)."""
    g, w = _arrays(g, w)
    (B, h, v, C), (kh, kw, N, _), (H, W) = g.shape, w.shape, size
    w = np.ascontiguousarray(w.swapaxes(2, 3)[::-1, ::-1])
    if winograd.suits(w.shape, g.itemsize, stride, padding) and winograd.mixes_nothing(w):
        return winograd.forward(g, w, np.zeros(N, g.dtype), 2 - padding)
    w = whole_vectors(w)[::-1, ::-1]
    gx, zeros = np.zeros((B, H, W, w.shape[3]), g.dtype), np.zeros(w.shape[3], g.dtype)
    top, left = (kh - 1) // stride, (kw - 1) // stride
    inner = top + max(h, (H - 1 + padding) // stride + 1), left + max(v, (W - 1 + padding) // stride + 1)
    phases = []
    for r in range(min(stride, kh)):
        for q in range(min(stride, kw)):
            part, rows, columns = w[r::stride, q::stride][::-1, ::-1], np.arange(H), np.arange(W)
            rows, columns = rows[(rows + padding) % stride == r], columns[(columns + padding) % stride == q]
            starts = _offsets((rows + padding) // stride + top + 1 - part.shape[0],
                              (columns + padding) // stride + left + 1 - part.shape[1], inner[1], C)
            part = np.ascontiguousarray(part).reshape(len(part), -1, zeros.size)
            phases.append((starts, part, _offsets(rows, columns, W, zeros.size)))
    for starts, part, ends in phases:
        run(_correlate, parts_of(g.size * part.size // C), g, top, left, inner, starts, part, zeros, ends, gx)     # (1)
    return np.ascontiguousarray(gx[..., :N])


def kernel_gradient_arrays(x, g, size, stride=1, padding=0):
    """The gradient in w (*size, C_in, C_out) of ⟨g, conv2d(x, w)⟩: x (B, H, W, C_in), g (B, H', W', C_out)."""
    x, g = _arrays(x, g)
    (_, H, W, C), (kh, kw), N = x.shape, size, g.shape[3]
    if winograd.suits((kh, kw, C, N), x.itemsize, stride, padding):
        return winograd.kernel_gradient(x, g, padding)
    g, inner = whole_vectors(g), (H + 2 * padding, W + 2 * padding)
    starts, ends = _offsets(C * np.arange(kh), np.arange(kw * C), inner[1], 1), np.arange(kh * kw * C) * g.shape[3]
    w = np.zeros((parts_of(g.size * ends.size, SUMS), ends.size * g.shape[3]), x.dtype)
    run(_correlate_kernel, len(w), x, padding, inner, starts, g, stride, ends, w)
    return np.ascontiguousarray(w.sum(axis=0).reshape(kh, kw, C, -1)[..., :N])
