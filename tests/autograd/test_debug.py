"""detect_nan names the operation, the shapes and the line that made the first NaN or inf."""
import inspect
import warnings

import numpy as np
import pytest

from autograd import Tensor, detect_nan, floors, grad, losses, nn, ops
from autograd.modes import debug

pytestmark = pytest.mark.filterwarnings("ignore:divide by zero", "ignore:invalid value", "ignore:overflow")


def here(back=0):
    """`file:line` of the caller's line, or of one that many lines further up."""
    frame = inspect.currentframe().f_back
    return f"{__file__}:{frame.f_lineno - back}"


def test_a_nan_in_the_forward_pass_is_located():
    x = Tensor([[1.0, -1.0]], requires_grad=True)
    with detect_nan(), pytest.raises(FloatingPointError) as error:
        ops.log(x + 0)
    assert f"called at {here(1)}: ops.log(x + 0)" in str(error.value)
    assert "log of shapes (1, 2) gave nan in shape (1, 2); all its arguments were finite" in str(error.value)


def test_an_inf_is_found_as_well():
    with detect_nan(), pytest.raises(FloatingPointError, match=r"exp of shapes \(\) gave inf"):
        ops.exp(Tensor(1e4))


def test_what_was_not_finite_already_is_said():
    with detect_nan(), pytest.raises(FloatingPointError, match="multiply.*argument 1 was not finite already"):
        Tensor(np.ones(2)) * np.array([1.0, np.nan])


def test_a_nan_in_the_backward_pass_names_the_forward_line():
    with detect_nan():
        x = Tensor(np.zeros(3), requires_grad=True)
        y = ops.sum(ops.sqrt(x) * 2)
        line = here(1)
        with pytest.raises(FloatingPointError) as error:
            y.backward()
    assert "the derivative of sqrt gave inf in shape (3,)" in str(error.value)
    assert f"called at {line}: y = ops.sum(ops.sqrt(x) * 2)" in str(error.value)


def test_a_graph_from_outside_says_so():
    y = ops.sqrt(Tensor(0.0, requires_grad=True))
    with detect_nan(), pytest.raises(FloatingPointError, match="recorded outside detect_nan"):
        y.backward()


def test_the_line_named_is_the_users_not_the_packages():
    layer = nn.Linear(2, 2, rng=np.random.default_rng(0))
    layer.w.data[0, 0] = np.nan
    with detect_nan(), pytest.raises(FloatingPointError) as error:
        layer(np.ones((3, 2), np.float32))
    assert f"called at {here(1)}" in str(error.value)
    name = "linear of shapes (3, 2), (2, 2), (2,)" if floors.FAST else "matmul of shapes (3, 2), (2, 2)"
    assert name in str(error.value)


def test_numpy_calls_and_operators_are_located_too():
    x = Tensor(np.zeros((2, 2)), requires_grad=True)
    for call in (lambda: np.log(x), lambda: 1 / x, lambda: np.divide(x, x), lambda: losses.gaussian_kl(x, x + 1e4)):
        with detect_nan(), pytest.raises(FloatingPointError) as error:
            call()
        assert f"called at {__file__}:" in str(error.value)


@pytest.mark.parametrize("f", [ops.sum, ops.mean, lambda x: ops.sum(x, axis=0), lambda x: x[1:],
                               lambda x: x.reshape(2, 1), lambda x: ops.softmax(x, axis=0)],
                         ids=["sum", "mean", "axis", "getitem", "reshape", "softmax"])
def test_ops_with_static_arguments_are_watched_too(f):
    with detect_nan(), pytest.raises(FloatingPointError) as error:
        f(Tensor([1.0, np.inf], requires_grad=True))
    assert f"called at {__file__}:" in str(error.value)


@pytest.mark.parametrize("f", [lambda x: 1 / x, lambda x: x ** -1.0], ids=["divide", "power"])
def test_a_derivative_of_a_derivative_is_located_at_the_users_line(f):
    with detect_nan(), pytest.raises(FloatingPointError) as error:
        grad(lambda x: ops.sum(grad(lambda x: ops.sum(f(x)))(x)))(np.array([1e-120]))
    assert f"called at {__file__}:" in str(error.value)


def test_nothing_is_said_of_finite_numbers():
    x = Tensor(np.ones(3), requires_grad=True)
    with detect_nan():
        ops.sum(losses.gaussian_nll(x, x * 2, x) + ops.exp(x)).backward()
    assert np.isfinite(x.grad).all()


def test_normal_mode_returns_after_an_error_and_after_nesting():
    x = Tensor(-1.0, requires_grad=True)
    with detect_nan():
        with detect_nan():
            pass
        assert debug.watch is not None
        with pytest.raises(FloatingPointError):
            ops.log(x)
    assert debug.watch is None
    with pytest.raises(FloatingPointError):
        detect_nan()(lambda: ops.log(x))()
    assert debug.watch is None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert np.isnan(ops.log(x).data)
