"""Convolution of images, and its gradients: three maps, each linear in both of its arguments (the bias b apart).

    (1)  y[h, v] = b + Σᵢⱼ x[s h + i − p, s v + j − p] w[i, j]                               [conv.forward]
    (2)  ⟨g, conv(x, w)⟩ = ⟨conv_input_gradient(g, w), x⟩ = ⟨conv_kernel_gradient(x, g), w⟩  [conv.gradients]
    (3)  ∂L/∂x[s h + i − p, s v + j − p] collects g[h, v] w[i, j]ᵀ from all h, v, i, j
    (4)  ∂L/∂w[i, j] = Σₕᵥ x[s h + i − p, s v + j − p]ᵀ g[h, v], summed over the images, too

The output pixel y[h, v] sees a window of x, which has kh x kw pixels and begins at row s h − p and column s v − p. The
stride s is the step from one window to the next. The padding p is a frame of zeros around the image: a pixel of x
outside the image counts as 0.

Shapes: x (B, H, W, C_in), with the channels last; w (kh, kw, C_in, C_out), b (C_out,); y and g (B, H', W', C_out), with
H' = (H + 2 p − kh) // s + 1, and W' = (W + 2 p − kw) // s + 1. The equations are for one image. There a pixel x[h, v]
is a row vector of C_in numbers, y[h, v] and g[h, v] are row vectors of C_out, and a tap w[i, j] is a matrix (C_in,
C_out).

Derivation of (3) and (4): g = ∂L/∂y is given, so a small change of x and w changes L by dL = Σₕᵥ ⟨g[h, v], dy[h, v]⟩.
For one product y = x w of a row vector and a matrix, ⟨g, dx w⟩ = ⟨g wᵀ, dx⟩ and ⟨g, x dw⟩ = ⟨xᵀ g, dw⟩. (1) is a sum
of such products. Each product adds its g wᵀ to the gradient of its pixel, which is (3), and its xᵀ g to the gradient of
its tap, which is (4). A pixel is in many windows, so it collects many terms; a tap meets a pixel in every window.

Higher derivatives: by (2), all three maps belong to the one number ⟨g, conv(x, w)⟩, which is linear in each of x, w and
g. Its gradient in g is the convolution without b, in x it is (3), and in w it is (4). So the VJPs of each map are the
other two, and these three ops have derivatives of every order. For example, let u weigh the output of
conv_input_gradient(g, w): ⟨u, conv_input_gradient(g, w)⟩ = ⟨g, conv(u, w)⟩ = ⟨conv_kernel_gradient(u, g), w⟩. So its
VJP in g is conv(u, w), and its VJP in w is conv_kernel_gradient(u, g).
"""
import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from . import ops
from .floors import faster
from .primitive import op


def conv2d(x, w, b=None, *, stride: int = 1, padding: int = 0):
    """The convolution of x (B, H, W, C_in) with w (kh, kw, C_in, C_out), plus b (C_out,): (B, H', W', C_out).

    H' = (H + 2 padding − kh) // stride + 1. Raises ValueError for shapes that do not fit.
    """
    if np.ndim(x) != 4 or np.ndim(w) != 4 or x.shape[3] != w.shape[2] or b is not None and b.shape != w.shape[3:]:
        raise ValueError("conv2d takes x (B, H, W, C_in), w (kh, kw, C_in, C_out) and b (C_out,) or None, not "
                         f"{np.shape(x)}, {np.shape(w)} and {np.shape(b)}")
    if np.result_type(x.dtype, w.dtype).kind == "c":
        raise ValueError(f"convolution is for float32 and float64, not {np.result_type(x.dtype, w.dtype)}")
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


def _windows(x, size, stride, padding):
    """A view (B, H', W', C, kh, kw) of the windows of `size` (kh, kw) that the kernel meets in x (B, H, W, C)."""
    x = np.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    return sliding_window_view(x, size, axis=(1, 2))[:, ::stride, ::stride]


@faster
def convolve(x, w, b, stride=1, padding=0):
    """(1) for ndarrays; b may be None."""
    y = np.tensordot(_windows(x, w.shape[:2], stride, padding), w, axes=([3, 4, 5], [2, 0, 1]))
    return y if b is None else y + b                                                       # (1)


@faster
def input_gradient(g, w, size, stride=1, padding=0):
    """The gradient in x (B, *size, C_in) of ⟨g, conv2d(x, w)⟩: g (B, H', W', C_out), w (kh, kw, C_in, C_out)."""
    (B, rows, columns, _), (kh, kw, C_in, _), (H, W) = g.shape, w.shape, size
    gx = np.zeros((B, H + 2 * padding, W + 2 * padding, C_in), np.result_type(g, w))
    for i, j in np.ndindex(kh, kw):
        seen = gx[:, i:, j:][:, :stride * rows:stride, :stride * columns:stride]           # a view: what tap i, j meets
        seen += g @ w[i, j].T                                                              # (3)
    return gx[:, padding:padding + H, padding:padding + W]


@faster
def kernel_gradient(x, g, size, stride=1, padding=0):
    """The gradient in w (*size, C_in, C_out) of ⟨g, conv2d(x, w)⟩: x (B, H, W, C_in), g (B, H', W', C_out)."""
    windows = _windows(x, size, stride, padding)
    return np.tensordot(windows, g, axes=([0, 1, 2], [0, 1, 2])).transpose(1, 2, 0, 3)         # (4)


def _check_gradient(x, w, g, stride, padding):
    """Raise ValueError unless g is the shape of conv2d's output for an x and a w of these shapes."""
    wanted = x[0], *((n + 2 * padding - k) // stride + 1 for n, k in zip(x[1:3], w)), w[3]
    if stride < 1 or padding < 0 or x[3] != w[2] or g != wanted:
        raise ValueError(f"for x {x} and w {w}, stride {stride} and padding {padding}, g must be {wanted}, not {g}")


def _checked_input_gradient(g, w, size, stride=1, padding=0):
    _check_gradient((len(g), *size, w.shape[2]), w.shape, g.shape, stride, padding)
    return input_gradient(g, w, size, stride, padding)


def _checked_kernel_gradient(x, g, size, stride=1, padding=0):
    _check_gradient(x.shape, (*size, x.shape[3], g.shape[3]), g.shape, stride, padding)
    return kernel_gradient(x, g, size, stride, padding)


# u is the cotangent of a gradient. A fast form of `convolve` has the same parameters, which `op` reads.
_conv2d = op(convolve,
             lambda g, w, shapes, stride, padding: conv_input_gradient(g, w, shapes[0][1:3], stride, padding),
             lambda g, x, shapes, stride, padding: conv_kernel_gradient(x, g, shapes[1][:2], stride, padding),
             lambda g: ops.sum(ops.sum(g, axis=0), axis=(0, 1)), name="conv2d")                                # (2)
conv_input_gradient = op(_checked_input_gradient,
                         lambda u, w, stride, padding: _conv2d(u, w, None, stride, padding),
                         lambda u, g, shapes, stride, padding: conv_kernel_gradient(
                             u, g, shapes[1][:2], stride, padding), name="conv_input_gradient")
conv_kernel_gradient = op(_checked_kernel_gradient,
                          lambda u, g, shapes, stride, padding: conv_input_gradient(
                              g, u, shapes[0][1:3], stride, padding),
                          lambda u, x, stride, padding: _conv2d(x, u, None, stride, padding),
                          name="conv_kernel_gradient")
