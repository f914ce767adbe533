"""3 x 3 convolution with a quarter of the multiplications: Winograd's minimal filtering, F(4 x 4, 3 x 3).

    (1)  y = Aᵀ [(G w Gᵀ) ⊙ (Bᵀ d B)] A                                                      [winograd.forward]
    (2)  ∂L/∂x = conv(g, w turned by 180° and transposed)                                  [winograd.input-gradient]
    (3)  ∂L/∂w = Gᵀ [Σ (Bᵀ d B) ⊙ (A g Aᵀ)] G, over all tiles                             [winograd.kernel-gradient]

y and g are tiles of 4 x 4 pixels, and d are the patches of 6 x 6 pixels that the tiles see. Each patch overlaps its
neighbours by 2 pixels. For a tile of one channel, 36 products take the place of 144. Over channels each of the 36 is a
product of matrices, (tiles, C_in) by (C_in, C_out) in (1). The rest is additions, and multiplications by constants.

The matrices: a polynomial of degree 3 times one of degree 2 has degree 5, so its values at 5 points and at ∞ determine
it. A (6, 4) takes the coefficients of the first to its values there, and G (6, 3) those of the second. The rows of Bᵀ
are the coefficients of the polynomials that vanish at all points but one; they interpolate, and G has their values at
that one point divided out. Lavin and Gray, arXiv:1509.09308, section 4.

Accuracy: (1) adds and subtracts all pixels of a patch. In exact arithmetic a pixel outside an output's window cancels.
In floating point its rounding error remains: an output is off by up to 40 ε Σ_c max|x_c| max|w_c|, as measured, with
the maxima over the image and the taps, and ε = 1.2e-7 in float32. Direct convolution is off by up to 10 ε times that
sum, with the maximum over the window alone. Three rules keep apart what the plain form keeps apart:

- A kernel with a weight that is exactly 0, as under a mask, does not come here, since a hidden pixel would leave its
  rounding error. Neither does a kernel that is not even (`mixes_nothing`).
- An image that is not even is convolved directly, by the same loops; so is the pair of an image and its g in (3) if one
  of the two is not even. Even means that no pixel is more than 2⁷ times as large as another, and that each is between
  2⁻⁵⁰ and 2⁵⁰. The size of a pixel is the largest |x| of its channels. So a NaN, an infinity, 1e30 beside 1, or a pixel
  of zeros reaches the windows that have it and no others, and no product overflows.
- Images are never mixed. Which way an image is convolved, and each bit of its outputs, does not depend on the others.

What remains: in an even image the last digits of an output can depend on pixels outside its window, within its patch.
No weight is 0 then, so these pixels are not hidden by a mask. (3) does not see w: where w is a product with a mask, and
g has no pixel of zeros, the last digits of a visible tap's gradient can depend on pixels that the tap does not meet.
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
RATIO, LEAST, MOST = 2.0 ** 7, 2.0 ** -50, 2.0 ** 50               # of the sizes of pixels in an even image

_values_of_patch, _values_of_tile, _tile = along(B.T), along(np.hstack([A, np.zeros((6, 2))])), along(A.T)
_values_of_kernel, _kernel = along(G), along(G.T)


def suits(shape, itemsize, stride, padding):
    """Whether this is for a kernel of that shape: 3 x 3, on channels in whole vectors."""
    return shape[:2] == (3, 3) and stride == 1 and padding <= 2 and not any(n * itemsize % BYTES for n in shape[2:])


def mixes_nothing(w):
    """Whether w (3, 3, C_in, C_out) hides nothing, so that (1) and (2) may be used: no weight is 0, and w is even."""
    return w.all() and bool(_is_even(_bits(w).reshape(3, 3, -1), _limits(w.dtype)))


def _bits(x):
    """The bits of x, read as integers of the same size."""
    return x.view(f"i{x.itemsize}")


def _limits(dtype):
    """LEAST and MOST in bits, and RATIO as a difference of bits: the exponent stands above the digits."""
    return _bits(np.array([LEAST, MOST, LEAST * RATIO], dtype)) - _bits(np.array([0, 0, LEAST], dtype))


@kernel
def _is_even(bits, limits):
    """Whether an image, given by its bits (H, W, C), is even, as the head of this file defines it.

    Without the sign, the bits of floating-point numbers are in the order of the numbers, with infinity and NaN above
    all others. Of integers the compiler vectorises the maximum, and no NaN is lost.
    """
    zero, without_sign = bits.dtype.type(0), bits.dtype.type(np.iinfo(bits.dtype).max)
    least, most = without_sign, zero
    for h in range(bits.shape[0]):
        for v in range(bits.shape[1]):
            size = zero
            for c in range(bits.shape[2]):
                size = max(size, bits[h, v, c] & without_sign)
            least, most = min(least, size), max(most, size)
    return limits[0] <= least and most <= limits[1] and most - least <= limits[2]


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
def _transform(padded, is_gradient, strip, out, t):
    """out[:, t:] ← Bᵀ d B of a padded image's patches d, or A g Aᵀ of a gradient's tiles; `strip` is for half of it."""
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
def _forward_part(part, parts, padding, x, bits, limits, w, u, b, y):
    """y ← b + (1): x (B, H, W, C), u = G w Gᵀ (36, C, N), y (B, H', W', N). An image that is not even goes directly."""
    (_, H, W, N), C, dtype = y.shape, x.shape[3], x.dtype
    h, v = (H + 3) // 4, (W + 3) // 4
    begin, end = span(part, parts, len(x))
    group = max(1, min(end - begin, TILES // (h * v)))             # images at a time
    T, row = group * h * v, (4 * v + 2) * C
    padded, strip = np.zeros((4 * h + 2, 4 * v + 2, C), dtype), np.empty(6 * row, dtype)
    patches, products = np.empty((36, T, C), dtype), np.empty((36, T, N), dtype)
    half, edge, zeros = np.empty(24 * N, dtype), np.empty(4 * N, dtype), np.zeros(N, dtype)
    images = np.empty(group, np.int64)
    starts, ends = (np.arange(H).reshape(-1, 1) * row + np.arange(W) * C).reshape(-1), np.arange(H * W) * N
    for first in range(begin, end, group):
        count = 0
        for i in range(first, min(first + group, end)):
            place(x[i], padded, padding, padding)
            if _is_even(bits[i], limits):
                _transform(padded, False, strip, patches, count * h * v)
                images[count] = i
                count += 1
            else:
                contract(padded.reshape(-1), starts, row, 1, w, y[i].reshape(-1), ends, b)
        tiles = np.arange(count * h * v)
        for k in range(36):
            contract(patches[k].reshape(-1), tiles * C, 0, 1, u[k:k + 1], products[k].reshape(-1), tiles * N,
                     b if k == AT_ONE else zeros)
        for i in range(count):
            _outputs(products, i * h * v, half, edge, y[images[i]])


@kernel
def _kernel_gradient_part(part, parts, padding, x, x_bits, g, g_bits, limits, direct, u):
    """u[part] (36, C, N) ← u[part] + the sum in (3): x (B, H, W, C), g (B, H', W', N).

    direct[part] (9 C N,) gets the gradient of those images that are not even, or whose g is not.
    """
    (_, H, W, N), C, dtype = g.shape, x.shape[3], x.dtype
    h, v = (H + 3) // 4, (W + 3) // 4
    begin, end = span(part, parts, len(x))
    group = max(1, min(end - begin, TILES // (h * v)))
    T, row = group * h * v, (4 * v + 2) * C
    padded, strip = np.zeros((4 * h + 2, 4 * v + 2, C), dtype), np.empty(6 * row, dtype)
    padded_g, strip_g = np.zeros((4 * h + 2, 4 * v + 2, N), dtype), np.empty(6 * (4 * v + 2) * N, dtype)
    patches, tiles, channels = np.empty((36, T, C), dtype), np.empty((36, T, N), dtype), np.arange(C)
    starts, ends = (np.arange(3).reshape(-1, 1) * row + np.arange(3 * C)).reshape(-1), np.arange(9 * C) * N
    for first in range(begin, end, group):
        count = 0
        for i in range(first, min(first + group, end)):
            place(x[i], padded, padding, padding)
            if _is_even(x_bits[i], limits) and _is_even(g_bits[i], limits):
                place(g[i], padded_g, 0, 0)
                _transform(padded, False, strip, patches, count * h * v)
                _transform(padded_g, True, strip_g, tiles, count * h * v)
                count += 1
            else:
                contract(padded.reshape(-1), starts, row, C, g[i], direct[part], ends, None)
        for k in range(36):
            contract(patches[k].reshape(-1), channels, 0, C, tiles[k:k + 1, :count * h * v], u[part, k].reshape(-1),
                     channels * N, None)


def forward(x, w, b, padding):
    """conv2d(x, w, b, padding=padding): x (B, H, W, C_in), w (3, 3, C_in, C_out), b (C_out,), contiguous."""
    (B, H, W, C), N = x.shape, w.shape[3]
    u = np.empty((36, C, N), x.dtype)
    _transform_kernel(w, np.empty(u.size // 2, x.dtype), u)
    y = np.empty((B, H + 2 * padding - 2, W + 2 * padding - 2, N), x.dtype)
    run(_forward_part, parts_of(2.25 * y.size * C), padding, x, _bits(x), _limits(x.dtype), w.reshape(3, 3 * C, N), u,
        b, y)                                                                              # (1)
    return y


def kernel_gradient(x, g, padding):
    """The gradient in w (3, 3, C_in, C_out) of ⟨g, conv2d(x, w, padding=padding)⟩."""
    C, N = x.shape[3], g.shape[3]
    u = np.zeros((parts_of(2.25 * g.size * C, SUMS), 36, C, N), x.dtype)
    direct = np.zeros((len(u), 9 * C * N), x.dtype)
    run(_kernel_gradient_part, len(u), padding, x, _bits(x), g, _bits(g), _limits(x.dtype), direct, u, writes=2)
    w = np.empty((3, 3, C, N), x.dtype)
    _kernel_of(u.sum(axis=0), np.empty(18 * C * N, x.dtype), w)                            # (3)
    return w + direct.sum(axis=0).reshape(w.shape)
