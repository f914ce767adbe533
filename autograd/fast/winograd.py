"""3 x 3 convolution with a quarter of the multiplications: minimal filtering, F(4 x 4, 3 x 3).

    (1)  y = Aᵀ [(G w Gᵀ) ⊙ (Bᵀ d B)] A                                                      [winograd.forward]
    (2)  ∂L/∂x = conv(g, w turned by 180° and transposed)                                  [winograd.input-gradient]
    (3)  ∂L/∂w = Gᵀ [Σ (Bᵀ d B) ⊙ (A g Aᵀ)] G, over all tiles                             [winograd.kernel-gradient]

y and g are tiles of 4 x 4 pixels, d the patches of 6 x 6 that they see, each overlapping its neighbours by 2. Of an
image, 36 products take the place of 144. Over channels each of the 36 is a product of matrices, (tiles, C_in) by
(C_in, C_out) in (1), and all the rest is additions and multiplications by small constants.

The matrices: polynomials of degree 3 and 2 have a product of degree 5, known by its values at 5 points and ∞. A (6, 4)
takes the one's coefficients to its values there, G (6, 3) the other's, and Bᵀ's rows are the coefficients of the
polynomials that vanish at all points but one, which interpolate; G has their values at that one divided out. Lavin
and Gray, arXiv:1509.09308, §4. Polynomials interpolate badly, so in float32 1e-5 of the largest value is lost.
"""
import numpy as np

from .jit import kernel
from .threads import SUMS, parts_of, run, span
from .vectors import BYTES, along, contract

POINTS = np.array([0.0, 1.0, -1.0, 2.0, -2.0])
OTHERS = [np.delete(POINTS, k) for k in range(5)]
A = np.vstack([np.vander(POINTS, 4, increasing=True), [0, 0, 0, 1]])
G = np.vstack([[p ** np.arange(3) / np.prod(p - others) for p, others in zip(POINTS, OTHERS)], [0, 0, 1]])
B = np.column_stack([[*np.poly(others)[::-1], 0] for others in OTHERS] + [np.poly(POINTS)[::-1]])
AT_ONE = 7                                   # of 36, the place (1, 1): row 1 of A, the powers of 1, is all ones
TILES = 96                                   # at a time: few enough for the cache, and many for a product of matrices

_values_of_patch, _values_of_tile, _tile = along(B.T), along(np.hstack([A, np.zeros((6, 2))])), along(A.T)
_values_of_kernel, _kernel = along(G), along(G.T)


def suits(shape, itemsize, stride, padding):
    """Whether this is for a kernel of that shape: 3 x 3, on channels in whole vectors."""
    return shape[:2] == (3, 3) and stride == 1 and padding <= 2 and not any(n * itemsize % BYTES for n in shape[2:])


@kernel
def place(x, padded, top, left):
    """Copy an image x (H, W, C) into `padded`. Numba takes three times as long to assign it to a slice."""
    for h in range(x.shape[0]):
        for v in range(x.shape[1]):
            for c in range(x.shape[2]):
                padded[top + h, left + v, c] = x[h, v, c]


@kernel
def _transform_kernel(w, half, u):
    """u (36, C, N) ← G w Gᵀ: w (3, 3, C, N), half (18 C N,)."""
    n = w.shape[2] * w.shape[3]
    _values_of_kernel(w.reshape(-1), 0, 3 * n, half, 0, 3 * n, 3 * n)
    for k in range(6):
        _values_of_kernel(half, 3 * k * n, n, u.reshape(-1), 6 * k * n, n, n)


@kernel
def _kernel_of(u, half, w):
    """w (3, 3, C, N) ← Gᵀ u G: u (36, C, N), half (18 C N,)."""
    n = w.shape[2] * w.shape[3]
    _kernel(u.reshape(-1), 0, 6 * n, half, 0, 6 * n, 6 * n)
    for k in range(3):
        _kernel(half, 6 * k * n, n, w.reshape(-1), 3 * k * n, n, n)


@kernel
def _transform(image, padding, is_gradient, padded, strip, out, t):
    """out[:, t:] ← Bᵀ d B of an image's patches d, or A g Aᵀ of a gradient's tiles; `strip` is for half of it."""
    place(image, padded, padding, padding)
    (H, W, C), T = padded.shape, out.shape[1]
    padded, out = padded.reshape(-1), out.reshape(-1)
    for h in range(0, H - 2, 4):
        if is_gradient:
            _values_of_tile(padded, h * W * C, W * C, strip, 0, W * C, W * C)
        else:
            _values_of_patch(padded, h * W * C, W * C, strip, 0, W * C, W * C)
        for v in range(0, W - 2, 4):
            for k in range(6):
                if is_gradient:
                    _values_of_tile(strip, (k * W + v) * C, C, out, (6 * k * T + t) * C, T * C, C)
                else:
                    _values_of_patch(strip, (k * W + v) * C, C, out, (6 * k * T + t) * C, T * C, C)
            t += 1


@kernel
def _outputs(products, t, strip, edge, y):
    """The image y ← Aᵀ m A of the tiles m in products[:, t:]; `edge` is for tiles that reach over the image's."""
    (H, W, C), T = y.shape, products.shape[1]
    products, y = products.reshape(-1), y.reshape(-1)
    for h in range(0, H, 4):
        for v in range(0, W, 4):
            for l in range(6):
                _tile(products, (l * T + t) * C, 6 * T * C, strip, l * C, 6 * C, C)
            for k in range(min(4, H - h)):
                at = ((h + k) * W + v) * C
                if v + 4 <= W:
                    _tile(strip, 6 * k * C, C, y, at, C, C)
                else:
                    _tile(strip, 6 * k * C, C, edge, 0, C, C)
                    for e in range((W - v) * C):
                        y[at + e] = edge[e]
            t += 1


@kernel
def _forward_part(part, parts, padding, x, u, b, y):
    """y ← b + (1): x (B, H, W, C), u = G w Gᵀ (36, C, N), y (B, H', W', N)."""
    (_, H, W, N), C, dtype = y.shape, x.shape[3], x.dtype
    h, v = (H + 3) // 4, (W + 3) // 4
    begin, end = span(part, parts, len(x))
    group = max(1, min(end - begin, TILES // (h * v)))             # images at a time
    T = group * h * v
    padded, strip = np.zeros((4 * h + 2, 4 * v + 2, C), dtype), np.empty(6 * (4 * v + 2) * C, dtype)
    patches, products = np.empty((36, T, C), dtype), np.empty((36, T, N), dtype)
    half, edge, zeros = np.empty(24 * N, dtype), np.empty(4 * N, dtype), np.zeros(N, dtype)
    for first in range(begin, end, group):
        count = min(group, end - first)
        tiles = np.arange(count * h * v)
        for i in range(count):
            _transform(x[first + i], padding, False, padded, strip, patches, i * h * v)
        for k in range(36):
            contract(patches[k].reshape(-1), tiles * C, 0, 1, u[k:k + 1], products[k].reshape(-1), tiles * N,
                     b if k == AT_ONE else zeros)
        for i in range(count):
            _outputs(products, i * h * v, half, edge, y[first + i])


@kernel
def _kernel_gradient_part(part, parts, padding, x, g, u):
    """u[part] (36, C, N) ← u[part] + the sum in (3): x (B, H, W, C), g (B, H', W', N)."""
    (_, H, W, N), C, dtype = g.shape, x.shape[3], x.dtype
    h, v = (H + 3) // 4, (W + 3) // 4
    begin, end = span(part, parts, len(x))
    group = max(1, min(end - begin, TILES // (h * v)))
    T = group * h * v
    padded, strip = np.zeros((4 * h + 2, 4 * v + 2, C), dtype), np.empty(6 * (4 * v + 2) * C, dtype)
    padded_g, strip_g = np.zeros((4 * h + 2, 4 * v + 2, N), dtype), np.empty(6 * (4 * v + 2) * N, dtype)
    patches, tiles, channels = np.empty((36, T, C), dtype), np.empty((36, T, N), dtype), np.arange(C)
    for first in range(begin, end, group):
        count = min(group, end - first)
        for i in range(count):
            _transform(x[first + i], padding, False, padded, strip, patches, i * h * v)
            _transform(g[first + i], 0, True, padded_g, strip_g, tiles, i * h * v)
        for k in range(36):
            contract(patches[k].reshape(-1), channels, 0, C, tiles[k:k + 1, :count * h * v], u[part, k].reshape(-1),
                     channels * N, None)


def forward(x, w, b, padding):
    """conv2d(x, w, b, padding=padding): x (B, H, W, C_in), w (3, 3, C_in, C_out), b (C_out,), contiguous."""
    B, H, W, C = x.shape
    u = np.empty((36, *w.shape[2:]), x.dtype)
    _transform_kernel(w, np.empty(u.size // 2, x.dtype), u)
    y = np.empty((B, H + 2 * padding - 2, W + 2 * padding - 2, w.shape[3]), x.dtype)
    run(_forward_part, parts_of(2.25 * y.size * C), padding, x, u, b, y)                  # (1)
    return y


def kernel_gradient(x, g, padding):
    """The gradient in w (3, 3, C_in, C_out) of ⟨g, conv2d(x, w, padding=padding)⟩."""
    C, N = x.shape[3], g.shape[3]
    u = np.zeros((parts_of(2.25 * g.size * C, SUMS), 36, C, N), x.dtype)
    run(_kernel_gradient_part, len(u), padding, x, g, u)
    w = np.empty((3, 3, C, N), x.dtype)
    _kernel_of(u.sum(axis=0), np.empty(18 * C * N, x.dtype), w)                            # (3)
    return w
