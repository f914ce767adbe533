"""The loops written vector by vector equal their NumPy forms."""
import numpy as np
import pytest

vectors = pytest.importorskip("autograd.fast.vectors", reason="there is no fast floor")
from autograd.fast.jit import kernel


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
