"""The fast convolution is the plain one, in every geometry, on any number of threads, directly and by Winograd."""
import numpy as np
import pytest

from autograd import floors
from autograd.conv import conv2d, conv_input_gradient, conv_kernel_gradient

from ..test_conv import GEOMETRIES, WIDE, both_gradients, error, every_geometry, every_wide, example, plain

winograd = pytest.importorskip("autograd.fast.winograd", reason="there is no fast floor")
from autograd.fast import threads

pytestmark = pytest.mark.skipif(not floors.FAST, reason="the fast floor is off")


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


@pytest.mark.parametrize("kind", ["normal", "positive", "signs"])
@pytest.mark.parametrize("channels", [16, 64])
def test_winograds_error_is_within_the_bound_that_its_file_states(channels, kind, rng):
    x, w = rng.standard_normal((4, 12, 12, channels), np.float32), rng.standard_normal((3, 3, channels, 16), np.float32)
    if kind == "positive":
        x, w = np.abs(x), np.abs(w)
    if kind == "signs":
        x = np.sign(x) * rng.random(x.shape, np.float32)
    y, want = winograd.forward(x, w, np.zeros(16, np.float32), 1), plain(x.astype(float), w.astype(float), padding=1)
    scale = (np.abs(x).max(axis=(1, 2)) @ np.abs(w).max(axis=(0, 1)))[:, None, None]
    assert np.max(np.abs(y - want) / scale) < 40 * np.finfo(np.float32).eps


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("pixel, even", [
    (1, True), (-1, True), (2.0 ** 7, True), (-2.0 ** -7, True), (129, False), (2.0 ** -7.1, False), (0, False),
    (1e30, False), (1e-30, False), (np.nan, False), (-np.nan, False), (np.inf, False), (-np.inf, False)])
def test_an_image_is_even_if_its_pixels_are_of_like_size(pixel, even, dtype):
    image = np.zeros((3, 4, 5), dtype)
    image[..., 1] = 1
    is_even = lambda x: bool(winograd._is_even(winograd._bits(x), winograd._limits(x.dtype)))
    assert is_even(image)
    image[2, 1] = [0, pixel, 0, pixel, 0]
    assert is_even(image) == even
    for size, inside in ((2.0 ** 50, True), (2.0 ** -50, True), (2.0 ** 51, False), (2.0 ** -51, False)):
        assert is_even(np.full((2, 2, 3), size, dtype)) == inside
    assert not is_even(np.zeros((2, 2, 3), dtype))


def test_a_kernel_that_hides_something_mixes_something(rng):
    w = rng.standard_normal((3, 3, 16, 16), np.float32)
    assert winograd.mixes_nothing(w)
    for place, value in (((1, 2, 3, 4), 0), ((1, 2, 3, 4), np.nan), ((0, 0, 0, 0), np.inf), ((0, 1), 1e-9),
                         ((2, 2), 1e9)):
        other = w.copy()
        other[place] = value
        assert not winograd.mixes_nothing(other)


def test_even_and_uneven_images_are_convolved_side_by_side(rng, monkeypatch):
    x, w, b, g = example(((3, 3), 16, 32, 1, 1, (9, 6)), rng, images=9)
    x[[1, 4], 3, 2], g[[2, 4, 8], 5] = 0, 0
    for worth in (threads.WORTH, 1):
        monkeypatch.setattr(threads, "WORTH", worth)
        assert error(winograd.forward(x, w, b, 1), plain(x, w, b, padding=1)) < 1e-12
        assert error(winograd.kernel_gradient(x, g, 1), plain(
            x.swapaxes(0, 3), g.transpose(1, 2, 0, 3), padding=1).transpose(1, 2, 0, 3)) < 1e-12


def test_the_matrices_are_those_of_lavin_and_gray():
    np.testing.assert_array_equal(winograd.B.T, [[4, 0, -5, 0, 1, 0], [0, -4, -4, 1, 1, 0], [0, 4, -4, -1, 1, 0],
                                                 [0, -2, -1, 2, 1, 0], [0, 2, -1, -2, 1, 0], [0, 4, 0, -5, 0, 1]])
    np.testing.assert_array_equal(winograd.A.T, [[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0],
                                                 [0, 1, -1, 8, -8, 1]])
    np.testing.assert_allclose(24 * winograd.G, [[6, 0, 0], [-4, -4, -4], [-4, 4, -4], [1, 2, 4], [1, -2, 4],
                                                 [0, 0, 24]])


@pytest.mark.parametrize("geometry", [GEOMETRIES[0], GEOMETRIES[2], WIDE[1]], ids=str)
@pytest.mark.parametrize("images", [0, 1, 5, 7])
def test_threads_change_no_bit(geometry, images, rng, monkeypatch):
    def results():
        return [conv2d(x, w, b, stride=stride, padding=padding), *both_gradients(x, w, g, stride, padding)]
    (x, w, b, g), (stride, padding) = example(geometry, rng, images), geometry[3:5]
    want = results()
    monkeypatch.setattr(threads, "WORTH", 1)
    first, second = results(), results()
    for a, b, c in zip(want, first, second):
        np.testing.assert_array_equal(b, c)
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)
