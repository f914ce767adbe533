"""The product of two matrices: NumPy's, for all shapes and layouts, with the same bits on any number of cores."""
import importlib

import numpy as np
import pytest

from autograd import threads
from autograd.jit import COMPILES
from autograd.product import product

module = importlib.import_module("autograd.product")

SHAPES = [(1, 1, 16), (5, 3, 16), (3, 400, 3), (33, 7, 17), (21, 15, 31), (8, 16, 32), (21, 16, 33), (50, 19, 47),
          (20, 200, 70), (90, 70, 20)]


@pytest.fixture(autouse=True)
def compiled(monkeypatch):
    """Small products, too, by the compiled loop; returns a list of what it was given."""
    seen, kernel = [], module._product
    monkeypatch.setattr(module, "SMALLEST", 1)
    monkeypatch.setattr(module, "_product", lambda *args: seen.append(args) or kernel(*args))
    return seen


def turned(a, how):
    """The same numbers otherwise in memory."""
    return {"rows": np.ascontiguousarray, "columns": np.asfortranarray, "neither": lambda a: np.repeat(a, 2, 0)[::2],
            "read-only": lambda a: np.broadcast_to(a, a.shape)}[how](a)


@pytest.mark.equation("product.product", "y[m, n] = phi(c[n] + sum_k a[m, k] b[k, n])", bound=1e-12)
@pytest.mark.parametrize("left", ["rows", "columns", "neither", "read-only"])
@pytest.mark.parametrize("right", ["rows", "columns", "neither", "read-only"])
@pytest.mark.parametrize("parts", [1, 2, 5])
def test_product_is_numpys(left, right, parts, compiled, measure, rng, monkeypatch):
    monkeypatch.setattr(threads, "WORTH", 0)
    monkeypatch.setattr(threads, "CREW", parts)
    for M, K, N in SHAPES:
        a, b, c = turned(rng.standard_normal((M, K)), left), turned(rng.standard_normal((K, N)), right), rng.random(N)
        before = a.copy(), b.copy(), c.copy()
        measure((product(a, b) - a @ b) / K)
        measure((product(a, b, c) - (a @ b + c)) / K)
        measure((product(a, b, c, relu=True) - np.maximum(a @ b + c, 0)) / K)
        for now, then in zip((a, b, c), before):
            np.testing.assert_array_equal(now, then)
    assert len(compiled) == 3 * (len(SHAPES) - 1) * COMPILES           # all but (3, 400, 3), too narrow for a vector


@pytest.mark.parametrize("M, K, N", SHAPES)
def test_float32_is_right_to_its_digits(M, K, N, rng):
    a, b, c = (rng.standard_normal(shape).astype(np.float32) for shape in ((M, K), (K, N), N))
    for x, y in ((a, b), (np.asfortranarray(a), np.asfortranarray(b))):
        got, exact = product(x, y, c), a.astype(float) @ b + c
        assert got.dtype == np.float32 and np.abs(got - exact).max() < 1e-6 * K ** 0.5 * np.abs(exact).max() + 1e-6


@pytest.mark.parametrize("layout", ["rows", "columns"])
def test_the_number_of_cores_changes_no_bit(layout, rng, monkeypatch):
    monkeypatch.setattr(threads, "WORTH", 0)
    for M, K, N in SHAPES:
        a, b = (turned(rng.standard_normal(s).astype(np.float32), layout) for s in ((M, K), (K, N)))
        results = []
        for cores in (1, 2, 3, 4):
            monkeypatch.setattr(threads, "CREW", cores)
            results.append(product(a, b))
        for y in results[1:]:
            np.testing.assert_array_equal(y, results[0])


@pytest.mark.parametrize("dtypes", [(np.float32, np.float64), (complex, float), (int, float), (np.float32, np.float32)])
@pytest.mark.parametrize("shape", [(0, 3, 20), (3, 0, 20), (3, 4, 0), (3, 4, 20)])
def test_what_is_empty_or_of_another_dtype_is_numpys(dtypes, shape, rng):
    M, K, N = shape
    a, b = (np.asarray(10 * rng.standard_normal(s)).astype(d) for s, d in zip(((M, K), (K, N)), dtypes))
    assert product(a, b).dtype == (a @ b).dtype
    np.testing.assert_allclose(product(a, b), a @ b, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("c, relu", [(None, False), (1.0, True)])
def test_what_is_too_long_or_too_high_for_the_cache_is_done_in_parts(c, relu, compiled, rng, monkeypatch):
    monkeypatch.setattr(module, "LONGEST", 100)
    monkeypatch.setattr(module, "BLOCK", 500)
    for M, K, N in ((90, 70, 40), (30, 301, 40)):
        a, b, bias = rng.standard_normal((M, K)), rng.standard_normal((K, N)), None if c is None else rng.random(N)
        want = a @ b if c is None else np.maximum(a @ b + bias, 0)
        for left, right in ((a, b), (np.asfortranarray(a), np.asfortranarray(b))):
            np.testing.assert_allclose(product(left, right, bias, relu), want, rtol=0, atol=1e-12)
    lengths = [len(args[2].T if not args[6] else args[2]) for args in compiled]        # K, wherever it lies
    assert lengths == COMPILES * (2 * [70] + 2 * [75, 75, 75, 76])


def test_nan_and_infinity_spread_as_in_numpy(rng):
    a, b = rng.standard_normal((9, 20)), rng.standard_normal((20, 40))
    a[1, 2], a[4, 0], b[3, 5] = np.nan, np.inf, np.nan
    for relu in (False, True):
        want = np.maximum(a @ b, 0) if relu else a @ b
        got = product(a, b, relu=relu)
        np.testing.assert_array_equal(np.isnan(got), np.isnan(want))
        np.testing.assert_array_equal(got[4, 6:] == np.inf, want[4, 6:] == np.inf)


@pytest.mark.parametrize("shapes", [((128, 784), (700, 400)), ((64, 4000), (2, 4000)), ((128, 784), (784, 400), 3)])
def test_shapes_that_do_not_fit_are_numpys_error(shapes):
    with pytest.raises(ValueError):
        product(*(np.ones(s, np.float32) for s in shapes))
