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


# What is kept apart: an output depends on its window, as far as no weight there is 0, and on nothing else

CHANNELS = (1, 2, 3, 4, 7, 8, 9, 15, 16, 17, 32, 33, 64)
every_channels = pytest.mark.parametrize("channels", CHANNELS)
every_dtype = pytest.mark.parametrize("dtype", [np.float32, np.float64])
CHANGES = (100, 1e30)


def masked_example(channels, dtype, rng):
    return example(((3, 3), channels, channels, 1, 1, (6, 7)), rng, dtype=dtype)


def raster(seen):
    """PixelCNN's mask of a 3 x 3 kernel: the first `seen` taps. 4 are mask A and 5 mask B."""
    return (np.arange(9) < seen).reshape(3, 3, 1, 1)


@every_dtype
@every_channels
@pytest.mark.parametrize("seen", [4, 5], ids=["A", "B"])
def test_no_bit_comes_from_a_later_pixel_under_the_mask_of_a_pixelcnn(seen, channels, dtype, rng):
    x, w, b, g = masked_example(channels, dtype, rng)
    w, itself = w * raster(seen), int(seen == 5)                   # whether an output sees its own pixel
    y, gx = conv2d(x, w, b, padding=1).reshape(2, 42, -1), conv_input_gradient(g, w, (6, 7), 1, 1).reshape(2, 42, -1)
    for first in (0, 1, 6, 20, 41):
        for change in CHANGES:
            later, earlier = x.copy(), g.copy()
            later.reshape(2, 42, -1)[:, first:] += dtype(change)
            earlier.reshape(2, 42, -1)[:, :first] += dtype(change)
            outputs = conv2d(later, w, b, padding=1).reshape(y.shape)
            np.testing.assert_array_equal(outputs[:, :first + 1 - itself], y[:, :first + 1 - itself])
            gradients = conv_input_gradient(earlier, w, (6, 7), 1, 1).reshape(gx.shape)
            since = max(first - 1 + itself, 0)
            np.testing.assert_array_equal(gradients[:, since:], gx[:, since:])


@every_dtype
@every_channels
def test_no_bit_comes_from_a_number_whose_weight_is_0(channels, dtype, rng):
    for zeros in (0.1, 0.5, 0.9):
        x, w, b, _ = masked_example(channels, dtype, rng)
        w *= rng.random(w.shape) > zeros
        y = conv2d(x, w, b, padding=1)
        for i, h, v in ((0, 0, 0), (1, 2, 3), (1, 5, 6)):
            n = rng.integers(channels)
            hidden = np.ones((2, 8, 9, channels), bool)            # the images in their padding
            hidden[i, h:h + 3, v:v + 3] = w[..., n] == 0
            for change in CHANGES:
                other = conv2d(np.where(hidden[:, 1:-1, 1:-1], x + dtype(change), x), w, b, padding=1)
                assert other[i, h, v, n] == y[i, h, v, n]


@every_dtype
@every_channels
def test_no_bit_comes_from_a_hidden_channel(channels, dtype, rng):
    x, w, b, g = masked_example(channels, dtype, rng)
    c = channels // 2
    w[:, :, c] = 0
    y, (gx, _) = conv2d(x, w, b, padding=1), both_gradients(x, w, g, padding=1)
    assert not gx[..., c].any()
    for change in CHANGES:
        x[..., c] += dtype(change)
        np.testing.assert_array_equal(conv2d(x, w, b, padding=1), y)


@every_dtype
@every_channels
def test_the_gradient_of_a_tap_has_no_bit_of_a_pixel_whose_output_has_no_gradient(channels, dtype, rng):
    x, w, _, g = masked_example(channels, dtype, rng)
    for rows, columns in ((slice(2, 3), slice(3, 4)), (slice(0, 3), slice(0, 7)), (slice(5, 6), slice(0, 7))):
        sparse, seen = np.zeros_like(g), np.zeros((2, 8, 9, 1), bool)
        sparse[1, rows, columns] = g[1, rows, columns]
        seen[1, rows.start:rows.stop + 2, columns.start:columns.stop + 2] = True
        gw = conv_kernel_gradient(x, sparse, (3, 3), 1, 1)
        for change in CHANGES:
            other = np.where(seen[:, 1:-1, 1:-1], x, x + dtype(change))
            np.testing.assert_array_equal(conv_kernel_gradient(other, sparse, (3, 3), 1, 1), gw)
        gx = conv_input_gradient(sparse, w, (6, 7), 1, 1)
        assert not np.where(seen[:, 1:-1, 1:-1], 0, gx).any()


@every_dtype
@every_channels
def test_a_window_of_zeros_gives_the_bias_and_a_large_pixel_spoils_no_other_window(channels, dtype, rng):
    x, w, b, _ = masked_example(channels, dtype, rng)
    spot, there = np.zeros_like(x), np.zeros((2, 6, 7, 1), bool)
    there[1, 1:4, 2:5] = True                                      # the outputs that see the pixel
    spot[1, 2, 3] = x[1, 2, 3]
    np.testing.assert_array_equal(np.where(there, b, conv2d(spot, w, b, padding=1)), np.broadcast_to(b, x.shape))
    want = plain(x, w, b, padding=1)
    x[1, 2, 3] = 1e30
    y = conv2d(x, w, b, padding=1)
    atol = 200 * np.finfo(dtype).eps * np.abs(want).max()
    np.testing.assert_allclose(np.where(there, want, y), want, rtol=0, atol=atol)


@every_dtype
@every_channels
def test_a_nan_and_an_infinity_reach_what_they_reach_in_the_plain_sum(channels, dtype, rng):
    places = ((1, 2, 3, channels // 2), (0, 0, 0, 0), (1, 5, 6, channels - 1))
    for mask in (1, raster(5)):
        for values in ((np.nan,) * 3, (np.inf,) * 3, (np.inf, -np.inf, np.nan)):
            x, w, b, g = masked_example(channels, dtype, rng)
            w = w * dtype(mask)
            bad_x, bad_g = x.copy(), g.copy()
            for place, value in zip(places, values):
                bad_x[place] = bad_g[place] = value
            with np.errstate(invalid="ignore"):
                turned = w[::-1, ::-1].swapaxes(2, 3)
                sums = lambda x, g: plain(x.swapaxes(0, 3), g.transpose(1, 2, 0, 3), padding=1).transpose(1, 2, 0, 3)
                pairs = [(conv2d(bad_x, w, b, padding=1), plain(bad_x, w, b, padding=1)),
                         (conv_input_gradient(bad_g, w, (6, 7), 1, 1), plain(bad_g, turned, padding=1)),
                         (conv_kernel_gradient(bad_x, g, (3, 3), 1, 1), sums(bad_x, g)),
                         (conv_kernel_gradient(x, bad_g, (3, 3), 1, 1), sums(x, bad_g))]
            for got, want in pairs:
                np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@every_dtype
def test_a_weight_that_is_not_finite_multiplies_what_the_definition_says(dtype, value, stride, rng):
    """Forward and padding: 0 times infinity is NaN. In (3) there is a product for each g, and none with other zeros."""
    x, w, b, g = example(((3, 3), 16, 16, stride, 1, (7, 8)), rng, dtype=dtype)
    w[0, 2, 3, 5] = value
    with np.errstate(invalid="ignore"):
        np.testing.assert_allclose(conv2d(x, w, b, stride=stride, padding=1), plain(x, w, b, stride, 1), 1e-4, 1e-4)
        gx, want = conv_input_gradient(g, w, (7, 8), stride, 1), np.zeros((2, 9, 10, 16), dtype)
        for h, v, i, j in np.ndindex(*g.shape[1:3], 3, 3):
            want[:, stride * h + i, stride * v + j] += g[:, h, v] @ w[i, j].T
    np.testing.assert_allclose(gx, want[:, 1:-1, 1:-1], 1e-4, 1e-4)


@every_dtype
@every_channels
def test_no_bit_of_an_image_comes_from_another(channels, dtype, rng):
    x, w, b, g = masked_example(channels, dtype, rng)
    y, (gx, _) = conv2d(x, w, b, padding=1), both_gradients(x, w, g, padding=1)
    for value in (0, 1e30, np.nan, np.inf):
        x[1, 2], g[1, 2] = value, value
        with np.errstate(invalid="ignore"):
            np.testing.assert_array_equal(conv2d(x, w, b, padding=1)[0], y[0])
            np.testing.assert_array_equal(conv_input_gradient(g, w, (6, 7), 1, 1)[0], gx[0])


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
