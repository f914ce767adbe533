"""Convolution against the plain sum over windows, in every geometry and by both ways; and its derivatives."""
import numpy as np
import pytest
from numpy.lib.stride_tricks import sliding_window_view

from autograd import OPS, Tensor, conv, grad, ops
from autograd.conv import conv2d, conv_input_gradient, conv_kernel_gradient

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
