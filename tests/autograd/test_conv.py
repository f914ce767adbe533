"""Convolution against the plain sum over windows, in every geometry and by both ways; and its derivatives."""
import numpy as np
import pytest
from numpy.lib.stride_tricks import sliding_window_view

from autograd import OPS, Tensor, conv, grad, ops, threads, vectors, winograd
from autograd.conv import conv2d, conv_input_gradient, conv_kernel_gradient
from autograd.kernels import kernel

# (kh, kw), C_in, C_out, stride, padding, (H, W)
GEOMETRIES = [((3, 3), 2, 3, 1, 1, (5, 6)), ((1, 1), 3, 2, 1, 0, (4, 4)), ((3, 3), 2, 3, 2, 1, (6, 7)),
              ((2, 3), 1, 1, 3, 2, (7, 5)), ((3, 3), 17, 1, 1, 1, (4, 5)), ((1, 1), 2, 2, 2, 0, (5, 6)),
              ((5, 2), 1, 40, 2, 3, (4, 3)), ((1, 1), 2, 2, 1, 2, (3, 3)), ((4, 4), 2, 2, 2, 1, (8, 6))]
WIDE = [((3, 3), 16, 32, 1, padding, (H, W)) for padding in (0, 1, 2) for H, W in ((3, 4), (7, 7), (9, 4), (8, 5))]
every_geometry = pytest.mark.parametrize("geometry", GEOMETRIES + WIDE, ids=str)
every_wide = pytest.mark.parametrize("geometry", WIDE, ids=str)


def plain(x, w, b=None, stride=1, padding=0):
    """The convolution, by copies of all windows."""
    x = np.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    windows = sliding_window_view(x, w.shape[:2], axis=(1, 2))[:, ::stride, ::stride]
    return np.tensordot(windows, w, axes=((4, 5, 3), (0, 1, 2))) + (0 if b is None else b)


def example(geometry, rng, images=2, dtype=np.float64):
    """x, w, b, and g as the output."""
    size, c_in, c_out, stride, padding, shape = geometry
    x, w, b = (rng.standard_normal(s).astype(dtype) for s in
               ((images, *shape, c_in), (*size, c_in, c_out), (c_out,)))
    return x, w, b, rng.standard_normal(plain(x, w, b, stride, padding).shape).astype(dtype)


def both_gradients(x, w, g, stride=1, padding=0):
    return (conv_input_gradient(g, w, x.shape[1:3], stride, padding),
            conv_kernel_gradient(x, g, w.shape[:2], stride, padding))


def error(a, b):
    return np.max(np.abs(a - b)) / np.max(np.abs(b))


@pytest.mark.equation("conv.forward", "y[h, v] = b + sum x[s h + i - p, s v + j - p] w[i, j]", bound=1e-10)
@every_geometry
def test_conv2d_is_the_sum_over_windows(geometry, measure, rng):
    (x, w, b, _), (stride, padding) = example(geometry, rng), geometry[3:5]
    measure(error(conv2d(x, w, b, stride=stride, padding=padding), plain(x, w, b, stride, padding)))
    measure(error(conv2d(x, w, stride=stride, padding=padding), plain(x, w, None, stride, padding)))


@pytest.mark.equation("conv.gradients", "<g, conv(x, w)> = <conv_input_gradient(g, w), x> = "
                      "<conv_kernel_gradient(x, g), w>", bound=1e-10)
@every_geometry
def test_both_gradients_are_adjoints_of_the_convolution(geometry, measure, rng):
    (x, w, _, g), (stride, padding) = example(geometry, rng), geometry[3:5]
    y = plain(x, w, None, stride, padding)
    gx, gw = both_gradients(x, w, g, stride, padding)
    assert gx.shape == x.shape and gw.shape == w.shape
    measure((np.vdot(gx, x) - np.vdot(g, y)) / np.linalg.norm(g) / np.linalg.norm(y))
    measure((np.vdot(gw, w) - np.vdot(g, y)) / np.linalg.norm(g) / np.linalg.norm(y))


@pytest.mark.equation("conv.phases", "dL/dx[s h + r - p] = sum_k g[h - k] w[r + s k]'", bound=1e-10)
@pytest.mark.parametrize("stride", [1, 2, 3, 4])
@pytest.mark.parametrize("padding", [0, 1, 3])
@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_the_input_gradient_is_the_sum_over_the_phases(size, padding, stride, measure, rng):
    x, w, _, g = example(((size, 1), 2, 3, stride, padding, (7, 1)), rng)
    want = np.zeros_like(x)
    for u in range(7):
        r, h = (u + padding) % stride, (u + padding) // stride
        for k in range(size):
            if r + stride * k < size and 0 <= h - k < g.shape[1]:
                want[:, u, 0] += g[:, h - k, padding // stride] @ w[r + stride * k, 0].T * (padding % stride == 0)
    measure((conv_input_gradient(g, w, (7, 1), stride, padding) - want) / np.max(np.abs(g)))


@pytest.mark.equation("winograd.forward", "y = A' [(G w G') * (B' d B)] A", bound=1e-10)
@every_wide
def test_minimal_filtering_is_the_convolution(geometry, measure, rng):
    x, w, b, _ = example(geometry, rng, images=3)
    measure(error(winograd.forward(x, w, b, geometry[4]), plain(x, w, b, padding=geometry[4])))


@pytest.mark.equation("winograd.input-gradient", "dL/dx = conv(g, w turned by 180 degrees and transposed)", bound=1e-10)
@every_wide
def test_the_input_gradient_is_a_convolution_with_the_turned_kernel(geometry, measure, rng):
    x, w, _, g = example(geometry, rng)
    want = plain(g, w[::-1, ::-1].swapaxes(2, 3), padding=2 - geometry[4])
    measure(error(conv_input_gradient(g, w, x.shape[1:3], 1, geometry[4]), want))


@pytest.mark.equation("winograd.kernel-gradient", "dL/dw = G' [sum (B' d B) * (A g A')] G", bound=1e-10)
@every_wide
def test_the_kernel_gradient_by_minimal_filtering_is_the_sum_over_pixels(geometry, measure, rng):
    x, _, _, g = example(geometry, rng, images=3)
    measure(error(winograd.kernel_gradient(x, g, geometry[4]), plain(
        x.swapaxes(0, 3), g.transpose(1, 2, 0, 3), padding=geometry[4]).transpose(1, 2, 0, 3)))


def test_the_matrices_are_those_of_lavin_and_gray():
    np.testing.assert_array_equal(winograd.B.T, [[4, 0, -5, 0, 1, 0], [0, -4, -4, 1, 1, 0], [0, 4, -4, -1, 1, 0],
                                                 [0, -2, -1, 2, 1, 0], [0, 2, -1, -2, 1, 0], [0, 4, 0, -5, 0, 1]])
    np.testing.assert_array_equal(winograd.A.T, [[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0],
                                                 [0, 1, -1, 8, -8, 1]])
    np.testing.assert_allclose(24 * winograd.G, [[6, 0, 0], [-4, -4, -4], [-4, 4, -4], [1, 2, 4], [1, -2, 4],
                                                 [0, 0, 24]])


@kernel
def _contract(*args):
    vectors.contract(*args)


@pytest.mark.equation("vectors.contract", "c[m, n] = sum_{p, q} a[m, p, q] b[p, q, n]", bound=1e-12)
@pytest.mark.parametrize("rows", [1, 4, 5, 8, 11, 21])
@pytest.mark.parametrize("width", [1, 2, 3])
def test_contract_is_the_product_of_matrices(rows, width, measure, rng):
    a, b = rng.standard_normal((rows, 2, 3)), vectors.whole_vectors(rng.standard_normal((2, 3, 8 * width - 1)))
    starts, ends = np.arange(rows) * 6, rng.permutation(rows) * b.shape[2]
    c, bias = np.zeros(rows * b.shape[2]), rng.standard_normal(b.shape[2])
    want = np.einsum("mpq,pqn->mn", a, b)
    _contract(a.reshape(-1), starts, 3, 1, b, c, ends, bias)
    measure(c.reshape(rows, -1)[ends // b.shape[2]] - want - bias)
    _contract(a.reshape(-1), starts, 3, 1, b, c, ends, None)
    measure(c.reshape(rows, -1)[ends // b.shape[2]] - 2 * want - bias)
    _contract(a.reshape(-1), starts, 3, 1, b, c, ends, bias, 0.5)
    measure(c.reshape(rows, -1)[ends // b.shape[2]] - np.maximum(want + bias, 0.5))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("least", [0, -np.inf])
def test_contract_clamps_in_the_dtype_of_its_arrays_and_lets_nan_through(least, dtype):
    b = vectors.whole_vectors(np.ones((1, 1, 3), dtype))
    a, N = np.array([-1, 0, 2, np.nan, np.inf, -np.inf], dtype), b.shape[2]
    c = np.empty(6 * N, dtype)
    _contract(a, np.arange(6), 0, 1, b, c, np.arange(6) * N, np.zeros(N, dtype), dtype(least))
    np.testing.assert_array_equal(c.reshape(6, N)[:, 0], np.maximum(a, least))


@kernel
def _turn(*args):
    vectors.turn(*args)


@pytest.mark.equation("vectors.turn", "y[k, l] = x[l, k]", bound=0)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_turn_transposes_a_square(dtype, measure, rng):
    n = vectors.BYTES // np.dtype(dtype).itemsize
    x, y = rng.standard_normal((n + 1, 2 * n)).astype(dtype), np.zeros((2 * n, n + 3), dtype)
    _turn(x.reshape(-1), 2 * n + 5, 2 * n, y.reshape(-1), n + 3, n + 3)
    measure(y[1:n + 1, :n] - x[1:, 5:n + 5].T)
    assert not y[0].any() and not y[n + 1:].any() and not y[:, n:].any()


@kernel
def _least(x, i, n):
    return vectors.least(x, i, n)


@pytest.mark.equation("vectors.least", "argmin_j x[j], the first of equals", bound=0)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("count", [1, 2, 7])
def test_least_finds_the_first_of_the_least(dtype, count, measure, rng):
    n = count * vectors.BYTES // np.dtype(dtype).itemsize
    for values in (1e9, 3, 1):                                     # without ties, with many, and all alike
        for _ in range(50):
            x = rng.integers(0, values, n + 5).astype(dtype)
            x[:3] = x[n + 3:] = -1                                 # around what is searched
            measure(_least(x, 3, n) - np.argmin(x[3:n + 3]))
    assert _least(np.full(n, np.inf, dtype), 0, n) == 0


MATRIX = np.array([[1.0, 0.0, -2.0], [0.0, -1.0, 0.5]])
_multiply = vectors.along(MATRIX)


@kernel
def _along(*args):
    _multiply(*args)


@pytest.mark.equation("vectors.along", "y[k, e] = sum_l M[k, l] x[l, e]", bound=1e-12)
def test_along_multiplies_by_its_matrix(measure, rng):
    x, y = rng.standard_normal((5, 16)), np.zeros((3, 32))
    _along(x.reshape(-1), 16, 16, y.reshape(-1), 32, 32, 16)
    measure(y[1:, :16] - MATRIX @ x[1:4])
    assert not y[0].any() and not y[:, 16:].any()


@every_geometry
def test_float32_is_right_to_its_digits(geometry, rng):
    (x, w, b, g), (stride, padding) = example(geometry, rng), geometry[3:5]
    single = [v.astype(np.float32) for v in (x, w, b, g)]
    got = [conv2d(*single[:3], stride=stride, padding=padding),
           *both_gradients(single[0], single[1], single[3], stride, padding)]
    for a, b in zip(got, [plain(x, w, b, stride, padding), *both_gradients(x, w, g, stride, padding)]):
        assert a.dtype == np.float32 and error(a, b) < (2e-5 if geometry in WIDE else 1e-6)


@pytest.mark.parametrize("geometry", [GEOMETRIES[2], WIDE[1]], ids=str)
def test_arguments_are_neither_changed_nor_needed_contiguous(geometry, rng):
    (x, w, b, g), (stride, padding) = example(geometry, rng), geometry[3:5]
    want = [conv2d(x, w, b, stride=stride, padding=padding), *both_gradients(x, w, g, stride, padding)]
    x, w, g = (np.asfortranarray(v) for v in (x, w, g))
    for v in (x, w, b, g):
        v.flags.writeable = False
    got = [conv2d(x, w, b, stride=stride, padding=padding), *both_gradients(x, w, g, stride, padding)]
    for a, b in zip(got, want):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("geometry", [GEOMETRIES[0], GEOMETRIES[2], WIDE[1]], ids=str)
@pytest.mark.parametrize("images", [0, 1, 5, 7])
def test_threads_change_no_bit(geometry, images, rng, monkeypatch):
    def results():
        return [conv2d(x, w, b, stride=stride, padding=padding), *both_gradients(x, w, g, stride, padding)]
    (x, w, b, g), (stride, padding) = example(geometry, rng, images), geometry[3:5]
    want = results()
    monkeypatch.setattr(threads, "WORTH", 1)
    monkeypatch.setattr(threads, "CREW", 3)
    first, second = results(), results()
    for a, b, c in zip(want, first, second):
        np.testing.assert_array_equal(b, c)
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)


def test_third_derivatives_go_round_the_triple(rng):
    x, w, _, g = example(GEOMETRIES[0], rng)
    f = lambda x, w: ops.sum(ops.power(conv2d(x, w, padding=1), 3) * g)
    gw = grad(lambda w: ops.sum(grad(f)(x, w)))(w)
    h, v = 1e-5, rng.standard_normal(w.shape)
    slope = (np.sum(grad(f)(x, w + h * v)) - np.sum(grad(f)(x, w - h * v))) / (2 * h)
    assert abs(np.vdot(gw, v) / slope - 1) < 1e-7
    second = grad(lambda x: ops.sum(grad(lambda w: ops.sum(grad(f)(x, w)))(w)))(x)
    u = rng.standard_normal(x.shape)
    inner = lambda x: np.sum(grad(lambda w: ops.sum(grad(f)(x, w)))(w))
    assert abs(np.vdot(second, u) / ((inner(x + h * u) - inner(x - h * u)) / (2 * h)) - 1) < 1e-7


def test_only_asked_gradients_are_computed(rng, monkeypatch):
    x, w, b, g = example(GEOMETRIES[0], rng)
    monkeypatch.setattr(conv, "conv_input_gradient", None)
    w = Tensor(w, requires_grad=True)
    conv2d(x, w, b, padding=1).backward(g)
    np.testing.assert_allclose(w.grad, conv_kernel_gradient(x, g, (3, 3), 1, 1))


def test_a_nan_stays_where_it_is_seen(rng):
    for geometry in (GEOMETRIES[0], WIDE[5]):
        x, w, b, _ = example(geometry, rng)
        x[1, 2, 2, 0] = np.nan
        y = conv2d(x, w, b, padding=geometry[4])
        assert np.isnan(y[1]).any() and np.isfinite(y[0]).all()


@pytest.mark.parametrize("x, w, b, options, message", [
    ((5, 5, 2), (3, 3, 2, 4), None, {}, r"\(B, H, W, C_in\).*\(5, 5, 2\)"),
    ((1, 5, 5, 2), (3, 3, 3, 4), None, {}, r"\(3, 3, 3, 4\)"), ((1, 5, 5, 2), (3, 2, 4), None, {}, r"\(3, 2, 4\)"),
    ((1, 5, 5, 2), (3, 3, 2, 4), (3,), {}, r"and \(3,\)"), ((1, 5, 5, 2), (3, 3, 2, 4), (1, 4), {}, r"\(1, 4\)"),
    ((1, 2, 5, 2), (3, 3, 2, 4), None, {}, "does not fit"), ((1, 5, 5, 2), (3, 0, 2, 4), None, {}, "does not fit"),
    ((1, 5, 5, 2), (3, 3, 2, 4), None, {"stride": 0}, "stride >= 1.*not 0"),
    ((1, 5, 5, 2), (3, 3, 2, 4), None, {"padding": -1}, "padding >= 0.*not 1 and -1"),
    ((1, 5, 5, 2), (3, 3, 2, 4), None, {"padding": (1, 1)}, r"integers.*\(1, 1\)")])
def test_what_does_not_fit_is_refused(x, w, b, options, message):
    with pytest.raises(ValueError, match=message):
        conv2d(Tensor(np.ones(x)), np.ones(w), None if b is None else np.ones(b), **options)


def test_complex_numbers_are_refused():
    with pytest.raises(ValueError, match="float32 and float64, not complex128"):
        conv2d(np.ones((1, 3, 3, 1)) * 1j, np.ones((3, 3, 1, 1)))


def test_the_three_maps_are_ops():
    assert {"conv2d", "conv_input_gradient", "conv_kernel_gradient"} <= set(OPS)


@pytest.mark.parametrize("call", [
    lambda: OPS["conv_kernel_gradient"](np.zeros((2, 6, 6, 3)), np.ones((2, 9, 9, 4)), (3, 3)),
    lambda: OPS["conv_kernel_gradient"](np.zeros((3, 6, 6, 3)), np.ones((2, 4, 4, 4)), (3, 3)),
    lambda: OPS["conv_input_gradient"](np.ones((2, 4, 4, 5)), np.ones((3, 3, 3, 4)), (6, 6)),
    lambda: OPS["conv_input_gradient"](np.ones((2, 4, 4, 4)), np.ones((3, 3, 3, 4)), (40, 40))])
def test_a_gradient_of_another_shape_than_the_output_is_refused(call):
    with pytest.raises(ValueError, match="g must be"):
        call()
