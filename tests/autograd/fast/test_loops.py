"""The compiled loops equal the same in NumPy, in both precisions, and compile once."""
import os
import subprocess
import sys

import numpy as np
import pytest

loops = pytest.importorskip("autograd.fast.loops", reason="there is no fast floor")
from autograd.fast.threads import run

def adam(parts, p, g, m, v, numbers):
    run(loops.adam, parts, tuple(map(float, numbers)), g, p, m, v, writes=3)


BOTH = pytest.mark.parametrize("dtype, rtol", [(np.float32, 1e-5), (np.float64, 1e-10)], ids=["float32", "float64"])


@BOTH
@pytest.mark.parametrize("D", [0, 1, 7, 101])
@pytest.mark.parametrize("parts", [1, 3])
def test_bernoulli_nll_is_softplus_and_sigmoid(D, parts, dtype, rtol, rng):
    logits, x = (4 * rng.standard_normal((5, D))).astype(dtype), rng.random((5, D)).astype(dtype)
    nll, residual = np.full(5, np.nan, dtype), np.full_like(logits, np.nan)
    run(loops.bernoulli_nll, parts, logits, x, nll, residual, writes=2)
    l, x = logits.astype(float), x.astype(float)
    np.testing.assert_allclose(nll, np.sum(np.logaddexp(l, 0) - x * l, axis=1), rtol=rtol, atol=rtol)
    np.testing.assert_allclose(residual, 1 / (1 + np.exp(-l)) - x, rtol=rtol, atol=rtol)


@BOTH
@pytest.mark.parametrize("parts", [1, 3])
def test_adam_is_its_numpy_composition(parts, dtype, rtol, rng):
    p, g, m, v = (rng.standard_normal(101) for _ in range(4))
    v = v * v
    arrays = [a.astype(dtype) for a in (p, g, m, v)]
    adam(parts, *arrays, [0.1, 0.9, 0.1, 0.999, 0.001, 1e-8, 0.95, 1.7])
    m = 0.9 * m + 0.1 * g
    v = 0.999 * v + 0.001 * g * g
    p = 0.95 * p - 0.1 * m / (np.sqrt(v) * 1.7 + 1e-8)
    for got, want in zip(arrays, (p, g, m, v)):
        assert got.dtype == dtype
        np.testing.assert_allclose(got, want, rtol=rtol, atol=rtol)


@BOTH
def test_adam_at_gradient_zero_stands_still(dtype, rtol):
    p, g, m, v = np.ones(3, dtype), *np.zeros((3, 3), dtype)
    adam(1, p, g, m, v, [0.1, 0.9, 0.1, 0.999, 0.001, 1e-8, 1, 1])
    np.testing.assert_array_equal(p, 1)


def test_the_first_call_says_that_it_compiles_and_the_second_start_compiles_nothing(tmp_path):
    code = ("import numpy as np; from autograd.fast import loops; a = [np.ones(3, np.float32) for _ in range(4)];"
            "loops.adam(0, 2, (.1, .9, .1, .999, .001, 1e-8, 1., 1.), *a)")
    env = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path), "NUMBA_DISABLE_JIT": "0"}
    says = [subprocess.run([sys.executable, "-c", code], env=env, check=True, capture_output=True, text=True).stderr
            for _ in range(2)]
    assert says == ["compiling the kernel `adam` (once, then cached)\n", ""]


def test_the_series_of_float32_are_right_to_the_last_digits_up_to_where_exp_underflows():
    a = np.concatenate([np.linspace(0, 88.5, 20_001), [0, 1e-30, 1e30]]).astype(np.float32)
    log1p, sigmoid = np.empty_like(a), np.empty((len(a), 1), np.float32)
    run(loops.bernoulli_nll, 1, -a[:, None], np.zeros_like(sigmoid), log1p, sigmoid, writes=2)
    exact = np.exp(-a.astype(np.float64))
    np.testing.assert_allclose(log1p, np.log1p(exact), rtol=3e-7, atol=2e-38)
    np.testing.assert_allclose(sigmoid[:, 0], exact / (1 + exact), rtol=3e-7, atol=2e-38)


def test_a_nan_among_logits_or_gradients_stays_one(rng):
    for dtype in (np.float32, np.float64):
        nll, residual = np.ones(2, dtype), np.ones((2, 2), dtype)
        run(loops.bernoulli_nll, 1, np.array([[np.nan, 1], [1, 1]], dtype), np.zeros((2, 2), dtype), nll, residual,
            writes=2)
        assert np.isnan([nll[0], residual[0, 0]]).all() and np.isfinite([nll[1], residual[0, 1], residual[1, 0]]).all()
        p, g, m, v = np.ones((4, 2), dtype)
        g[0] = np.nan
        adam(1, p, g, m, v, [0.1, 0.9, 0.1, 0.999, 0.001, 1e-8, 1, 1])
        assert np.isnan([p[0], m[0]]).all() and np.isfinite([p[1], m[1]]).all()


def test_a_momentum_too_small_for_a_normal_number_becomes_zero():
    (p, g, v), m = np.float32([[1, 1, 1], [0, 0, 0], [1, 1, 1]]), np.float32([1.2e-38, 2e-38, -1.2e-38])
    adam(1, p, g, m, v, [0.1, 0.9, 0.1, 0.999, 0.001, 1e-8, 1, 1])
    np.testing.assert_array_equal(m, np.float32([0, 0.9 * np.float32(2e-38), 0]))
