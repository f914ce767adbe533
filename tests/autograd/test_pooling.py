"""Pooling and upsampling are what their sums say, adjoint, and refuse what does not divide."""
import numpy as np
import pytest

from autograd import Tensor, grad, hvp, ops
from autograd.pooling import avg_pool, max_pool, upsample

SIZES = pytest.mark.parametrize("n", [1, 2, 3])


def windows(x, n):
    """The n x n pixels of each window, one by one: (B, H / n, W / n, n², C)."""
    B, H, W, C = x.shape
    y = np.empty((B, H // n, W // n, n * n, C), x.dtype)
    for h in range(H):
        for v in range(W):
            y[:, h // n, v // n, h % n * n + v % n] = x[:, h, v]
    return y


@pytest.mark.equation("pooling.adjoint", "<g, upsample(x)> = n^2 <avg_pool(g), x>, and each is the other's VJP",
                      bound=1e-12)
@SIZES
def test_upsampling_and_average_pooling_are_adjoint(n, measure, rng):
    x, g = rng.standard_normal((2, 3, 4, 5)), rng.standard_normal((2, 3 * n, 4 * n, 5))
    measure(np.vdot(g, upsample(x, n)) - n * n * np.vdot(avg_pool(g, n), x))
    measure(grad(lambda x: ops.sum(upsample(x, n) * g))(x) - n * n * avg_pool(g, n))
    measure(grad(lambda g: ops.sum(avg_pool(g, n) * x))(g) - upsample(x, n) / (n * n))


@pytest.mark.equation("pooling.adjoint", "y[h, w] = x[h // n, w // n] and its average over windows", bound=1e-12)
@SIZES
def test_upsampling_repeats_and_average_pooling_averages_each_window(n, measure, rng):
    x, g = rng.standard_normal((2, 3, 4, 5)), rng.standard_normal((2, 3 * n, 4 * n, 5))
    measure(windows(upsample(x, n), n) - x[:, :, :, None])
    measure(avg_pool(g, n) - windows(g, n).mean(axis=3))


@pytest.mark.equation("pooling.inverse", "avg_pool(upsample(x)) = max_pool(upsample(x)) = x", bound=1e-12)
@SIZES
def test_pooling_undoes_upsampling(n, measure, rng):
    x = rng.standard_normal((2, 3, 4, 5))
    measure(avg_pool(upsample(x, n), n) - x)
    measure(max_pool(upsample(x, n), n) - x)


@pytest.mark.equation("pooling.max", "y = max over the window, dL/dx = g at the first maximum, 0 elsewhere", bound=0)
@pytest.mark.parametrize("ties", [False, True])
@SIZES
def test_the_first_maximum_of_a_window_gets_the_gradient(n, ties, measure, rng):
    x, g = rng.standard_normal((2, 3 * n, 4 * n, 5)), rng.standard_normal((2, 3, 4, 5))
    x = x.round() if ties else x
    parts = windows(x, n)
    measure(max_pool(x, n) - parts.max(axis=3))
    first = np.arange(n * n)[:, None] == parts.argmax(axis=3)[:, :, :, None]
    measure(windows(np.asarray(grad(lambda x: ops.sum(max_pool(x, n) * g))(x)), n) - first * g[:, :, :, None])


def test_the_second_derivative_of_max_pooling_goes_through_its_first_maximum(rng):
    x, v = rng.standard_normal((2, 3, 4, 4, 2))
    x = x.round()                                                  # ties
    got, first = hvp(lambda x: ops.sum(max_pool(x) ** 3))(x, v), grad(lambda x: ops.sum(max_pool(x)))(x)
    np.testing.assert_allclose(got, 6 * x * v * first, rtol=1e-12)


def test_a_window_of_more_places_than_a_byte_can_count(rng):
    x = Tensor(rng.standard_normal((1, 34, 17, 1)), requires_grad=True)
    max_pool(x, 17).backward(np.ones((1, 2, 1, 1)))
    np.testing.assert_array_equal(x.grad, x.data == upsample(max_pool(x.data, 17), 17))


def test_a_nan_stays_one(rng):
    x = np.zeros((1, 4, 4, 1))
    x[0, 1, 1] = np.nan
    for f in (avg_pool, max_pool):
        assert np.isnan(f(x)).tolist() == np.isnan(x[:, 1::2, 1::2]).tolist()


@pytest.mark.parametrize("f", [avg_pool, max_pool], ids=lambda f: f.__name__)
def test_windows_that_do_not_fill_the_image_are_refused(f):
    for shape in ((1, 5, 4, 1), (1, 4, 5, 1), (4, 4, 1), (1, 4, 4, 1, 1)):
        with pytest.raises(ValueError, match=rf"{f.__name__} takes images .* multiples of 2, not \({shape[0]}, "):
            f(np.zeros(shape), 2)


@pytest.mark.parametrize("n", [0, -1, 1.5, "2"])
@pytest.mark.parametrize("f", [upsample, avg_pool, max_pool], ids=lambda f: f.__name__)
def test_a_size_that_is_no_positive_integer_is_refused(f, n):
    with pytest.raises(ValueError, match=f"{f.__name__} takes a positive integer, not {n!r}"):
        f(np.zeros((1, 4, 4, 1)), n)


def test_upsampling_takes_images():
    with pytest.raises(ValueError, match=r"upsample takes images \(B, H, W, C\), not \(4, 4, 1\)"):
        upsample(np.zeros((4, 4, 1)))
