"""Convolution is three linear maps: to the output, to the input's gradient and to the kernel's, each the others' VJP.

    (1)  y[h, v] = b + Σᵢⱼ x[s h + i − p, s v + j − p] w[i, j]                                [conv.forward]
    (2)  ⟨g, conv(x, w)⟩ = ⟨conv_input_gradient(g, w), x⟩ = ⟨conv_kernel_gradient(x, g), w⟩   [conv.gradients]
    (3)  ∂L/∂x[s h + r − p] = Σₖ g[h − k] w[r + s k]ᵀ,  0 <= r < s                            [conv.phases]

for one image, and in (3) one axis: the pixels that share a remainder r are seen by the same rows of the kernel, so an
input gradient is s² convolutions with parts of the kernel, and never multiplies by the zeros between strides.

Images are channel-last: x (B, H, W, C_in), w (kh, kw, C_in, C_out), b (C_out,), y and g (B, H', W', C_out), with stride
s, p zeros of padding on each side, and H' = (H + 2 p − kh) // s + 1. Then a row of a window, kw C_in numbers, lies in
one piece of memory, and (1) is a sum of products of matrices whose rows overlap: nothing is copied but one image at a
time into its padding. A 3 x 3 kernel of stride 1 on enough channels goes by `winograd` instead.
"""
import numpy as np

from . import ops, winograd
from .jit import kernel
from .primitive import op
from .threads import crew, parts_of, share, shared, span
from .vectors import contract, whole_vectors
from .winograd import place


def conv2d(x, w, b=None, *, stride: int = 1, padding: int = 0):
    """The convolution of x (B, H, W, C_in) with w (kh, kw, C_in, C_out), plus b (C_out,): (B, H', W', C_out).

    H' = (H + 2 padding − kh) // stride + 1. Raises ValueError for shapes that do not fit.
    """
    if np.ndim(x) != 4 or np.ndim(w) != 4 or x.shape[3] != w.shape[2] or b is not None and b.shape != w.shape[3:]:
        raise ValueError("conv2d takes x (B, H, W, C_in), w (kh, kw, C_in, C_out) and b (C_out,) or None, not "
                         f"{np.shape(x)}, {np.shape(w)} and {np.shape(b)}")
    stride, padding = check_step(stride, padding)
    if min(x.shape[1] - w.shape[0], x.shape[2] - w.shape[1]) + 2 * padding < 0 or 0 in w.shape:
        raise ValueError(f"a kernel of shape {w.shape} does not fit images of {x.shape[1:3]} with padding {padding}")
    return _conv2d(x, w, b, stride=stride, padding=padding)


def check_step(stride, padding):
    """Both as ints, NumPy's too, or a ValueError."""
    if not all(isinstance(n, (int, np.integer)) and not isinstance(n, bool) and n >= least
               for n, least in ((stride, 1), (padding, 0))):
        raise ValueError(f"conv2d takes integers stride >= 1 and padding >= 0, not {stride!r} and {padding!r}")
    return int(stride), int(padding)


def _arrays(*arrays):
    """The arrays as the kernels want them: of one dtype, contiguous, and writeable, or Numba would compile anew."""
    dtype = np.result_type(*arrays, np.float32)
    if dtype not in (np.float32, np.float64):
        raise ValueError(f"convolution is for float32 and float64, not {dtype}")
    return [np.require(array, dtype, "CW") for array in arrays]


def _offsets(rows, columns, width, size):
    """Where the pixels at `rows` and `columns` of an image begin, it being `width` pixels of `size` numbers wide."""
    return ((rows[:, None] * width + columns) * size).reshape(-1)


@kernel(nogil=True)
def _correlate(crew, parts, *arguments):
    share(crew, parts, _correlate_part, arguments)


@shared
def _correlate_part(part, parts, x, top, left, size, starts, w, b, y, ends):
    """Each image of y, at `ends`, ← b + Σ x w over the windows that begin at `starts` of that of x, in its padding."""
    padded = np.zeros((size[0], size[1], x.shape[3]), x.dtype)
    for i in range(*span(part, parts, len(x))):
        place(x[i], padded, top, left)
        contract(padded.reshape(-1), starts, size[1] * x.shape[3], 1, w, y[i].reshape(-1), ends, b)


@kernel(nogil=True)
def _correlate_kernel(crew, parts, *arguments):
    share(crew, parts, _correlate_kernel_part, arguments)


@shared
def _correlate_kernel_part(part, parts, x, padding, size, starts, g, stride, w, ends):
    """w[part] ← w[part] + Σ x g, its numbers of one channel at `ends` multiplied by those of x from `starts` on."""
    padded = np.zeros((size[0], size[1], x.shape[3]), x.dtype)
    step = stride * x.shape[3]
    for i in range(*span(part, parts, len(x))):
        place(x[i], padded, padding, padding)
        contract(padded.reshape(-1), starts, size[1] * step, step, g[i], w[part], ends, None)


def _forward(x, w, b, stride=1, padding=0):
    x, w, b = _arrays(x, w, np.zeros(w.shape[3], w.dtype) if b is None else b)
    if winograd.suits(w.shape, x.itemsize, stride, padding):
        return winograd.forward(x, w, b, padding)
    (B, H, W, C), (kh, kw, _, N) = x.shape, w.shape
    size = H + 2 * padding, W + 2 * padding
    h, v = (size[0] - kh) // stride + 1, (size[1] - kw) // stride + 1
    w, b = whole_vectors(w.reshape(kh, kw * C, N)), whole_vectors(b)
    y = np.empty((B, h, v, b.size), x.dtype)
    starts, ends = _offsets(stride * np.arange(h), stride * np.arange(v), size[1], C), np.arange(h * v) * b.size
    _correlate(crew(), parts_of(y.size * w.shape[0] * w.shape[1], 4), x, padding, padding, size, starts, w, b, y,
               ends)                                                                       # (1)
    return np.ascontiguousarray(y[..., :N])


def _check_gradient(x, w, g, stride, padding):
    """Raise ValueError unless g is the shape of conv2d's output for an x and a w of these shapes."""
    wanted = x[0], *((n + 2 * padding - k) // stride + 1 for n, k in zip(x[1:3], w)), w[3]
    if stride < 1 or padding < 0 or x[3] != w[2] or g != wanted:
        raise ValueError(f"for x {x} and w {w}, stride {stride} and padding {padding}, g must be {wanted}, not {g}")


def _input_gradient(g, w, size, stride=1, padding=0):
    """The gradient in x (B, *size, C_in) of ⟨g, conv2d(x, w)⟩: g (B, H', W', C_out), w (kh, kw, C_in, C_out)."""
    g, w = _arrays(g, w)
    (B, h, v, C), (kh, kw, N, _), (H, W) = g.shape, w.shape, size
    _check_gradient((B, H, W, N), w.shape, g.shape, stride, padding)
    w = np.ascontiguousarray(w.swapaxes(2, 3)[::-1, ::-1])
    if winograd.suits(w.shape, g.itemsize, stride, padding):
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
        _correlate(crew(), parts_of(g.size * part.size // C, 4), g, top, left, inner, starts, part, zeros, gx,
                   ends)                                                                   # (3)
    return np.ascontiguousarray(gx[..., :N])


def _kernel_gradient(x, g, size, stride=1, padding=0):
    """The gradient in w (*size, C_in, C_out) of ⟨g, conv2d(x, w)⟩: x (B, H, W, C_in), g (B, H', W', C_out)."""
    x, g = _arrays(x, g)
    (_, H, W, C), (kh, kw), N = x.shape, size, g.shape[3]
    _check_gradient(x.shape, (kh, kw, C, N), g.shape, stride, padding)
    if winograd.suits((kh, kw, C, N), x.itemsize, stride, padding):
        return winograd.kernel_gradient(x, g, padding)
    g, inner = whole_vectors(g), (H + 2 * padding, W + 2 * padding)
    starts, ends = _offsets(C * np.arange(kh), np.arange(kw * C), inner[1], 1), np.arange(kh * kw * C) * g.shape[3]
    w = np.zeros((parts_of(g.size * ends.size), ends.size * g.shape[3]), x.dtype)
    _correlate_kernel(crew(), len(w), x, padding, inner, starts, g, stride, w, ends)
    return np.ascontiguousarray(w.sum(axis=0).reshape(kh, kw, C, -1)[..., :N])


_conv2d = op(_forward,
             lambda g, w, shapes, stride, padding: conv_input_gradient(g, w, shapes[0][1:3], stride, padding),
             lambda g, x, shapes, stride, padding: conv_kernel_gradient(x, g, shapes[1][:2], stride, padding),
             lambda g: ops.sum(ops.sum(g, axis=0), axis=(0, 1)), name="conv2d")
conv_input_gradient = op(_input_gradient,
                         lambda u, w, stride, padding: _conv2d(u, w, None, stride, padding),
                         lambda u, g, shapes, stride, padding: conv_kernel_gradient(
                             u, g, shapes[1][:2], stride, padding), name="conv_input_gradient")
conv_kernel_gradient = op(_kernel_gradient,
                          lambda v, g, shapes, stride, padding: conv_input_gradient(
                              g, v, shapes[0][1:3], stride, padding),
                          lambda v, x, stride, padding: _conv2d(x, v, None, stride, padding),
                          name="conv_kernel_gradient")
