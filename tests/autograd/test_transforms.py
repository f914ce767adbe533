"""grad, jacobian, hessian and hvp: they nest, they see what f closes over, and they are zero for constants."""
import numpy as np
import pytest

from autograd import Tensor, grad, hessian, hvp, jacobian, losses, nn, no_grad, ops, value_and_grad
from autograd.nn import Parameter

X = np.array([0.3, -0.7, 1.1])


def cubic(x):
    return ops.sum(x ** 3) + x[0] * x[1] * x[2]


CUBIC_HESSIAN = np.diag(6 * X) + np.array([[0, X[2], X[1]], [X[2], 0, X[0]], [X[1], X[0], 0]])


def test_grad_is_the_gradient():
    np.testing.assert_allclose(grad(cubic)(X), 3 * X ** 2 + np.prod(X) / X, rtol=1e-14)


def test_value_and_grad_gives_both_as_ndarrays():
    value, g = value_and_grad(cubic)(X)
    assert type(value) is type(g) is np.ndarray
    np.testing.assert_allclose(value, cubic(X), rtol=1e-15)
    np.testing.assert_array_equal(g, grad(cubic)(X))


def test_argnums_choose_the_arguments():
    f = lambda a, b, c: ops.sum(a * b ** 2 * c)
    a, b, c = X, X + 2, X - 3
    np.testing.assert_allclose(grad(f, 1)(a, b, c), 2 * a * b * c)
    gc, ga = grad(f, (2, 0))(a, b, c)
    np.testing.assert_allclose(gc, a * b ** 2)
    np.testing.assert_allclose(ga, b ** 2 * c)
    (gb,) = grad(f, (1,))(a, b, c)
    np.testing.assert_allclose(gb, 2 * a * b * c)


def test_numbers_are_arguments_too():
    for x in (3.0, 3, np.float64(3), np.array(3.0)):
        g = grad(lambda x: x * x)(x)
        assert type(g) is np.ndarray and g == 6


def test_float32_arguments_have_float32_derivatives():
    x = X.astype(np.float32)
    for d in (grad(cubic)(x), hessian(cubic)(x), jacobian(lambda x: x * x)(x), hvp(cubic)(x, x),
              *value_and_grad(cubic)(x)):
        assert d.dtype == np.float32


def test_derivatives_nest_to_any_order():
    derivatives, f = [], ops.sin
    for _ in range(6):
        derivatives.append(float(f(0.7)))
        f = grad(f)
    s, c = np.sin(0.7), np.cos(0.7)
    np.testing.assert_allclose(derivatives, [s, c, -s, -c, s, c], rtol=1e-14)


def test_the_third_derivative_of_an_array_function():
    third = jacobian(hessian(cubic))(X)
    want = np.zeros((3, 3, 3))
    for i in range(3):
        want[i, i, i] = 6
    for p in ((0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)):
        want[p] = 1
    np.testing.assert_allclose(third, want, atol=1e-14)


@pytest.mark.parametrize("f", [lambda x: 3.0, lambda x: np.float64(2), lambda x: Tensor(1.0), lambda x: ops.sum(x * 0),
                               lambda x: x.detach()[0], lambda x: Tensor(1.0, requires_grad=True)],
                         ids=["number", "np.float64", "Tensor", "times 0", "detached", "another leaf"])
def test_a_constant_has_gradient_zero(f):
    for d, shape in ((grad(f)(X), (3,)), (jacobian(f)(X), (3,)), (hessian(f)(X), (3, 3)), (hvp(f)(X, X), (3,))):
        np.testing.assert_array_equal(np.asarray(d), np.zeros(shape))


def test_a_constant_may_come_from_a_graph_that_is_gone():
    y = Tensor(1.0, requires_grad=True) * 2
    y.backward()
    np.testing.assert_array_equal(grad(lambda x: y)(X), np.zeros(3))


def test_an_argument_that_is_not_used_has_gradient_zero():
    for g in grad(lambda a, b: ops.sum(a * 2), (0, 1))(X, X)[1], grad(lambda a, b: ops.sum(a), 1)(X, X):
        np.testing.assert_array_equal(g, np.zeros(3))


def test_jacobian_has_the_shapes_of_output_and_input(rng):
    a, x = rng.standard_normal((2, 5)), rng.standard_normal((5, 4))
    j = jacobian(lambda x: a @ x)(x)
    assert j.shape == (2, 4, 5, 4)
    np.testing.assert_allclose(j, np.einsum("ik,jl->ijkl", a, np.eye(4)), atol=1e-15)
    assert jacobian(lambda x: ops.sum(x))(x).shape == (5, 4)
    assert jacobian(lambda x: x[:0])(x).shape == (0, 4, 5, 4)
    np.testing.assert_allclose(jacobian(lambda b, x: b @ x, 1)(a, x), j)


def test_hessian_is_the_analytic_one():
    np.testing.assert_allclose(hessian(cubic)(X), CUBIC_HESSIAN, rtol=1e-14)
    np.testing.assert_allclose(hessian(lambda a, x: a * cubic(x), 1)(2.0, X), 2 * CUBIC_HESSIAN, rtol=1e-14)


def test_mixed_second_derivatives_commute(rng):
    f = lambda a, b: ops.sum(ops.tanh(a @ b) ** 2)
    a, b = rng.standard_normal((2, 3)), rng.standard_normal((3, 2))
    ab = jacobian(grad(f, 0), 1)(a, b)
    ba = jacobian(grad(f, 1), 0)(a, b)
    np.testing.assert_allclose(ab, np.transpose(ba, (2, 3, 0, 1)), rtol=1e-12)


@pytest.mark.equation("transforms.hvp", "hvp f (x, v) = hessian f(x) v", bound=1e-12)
def test_hvp_is_the_hessian_times_the_vector(measure, rng):
    v = rng.standard_normal(3)
    measure(hvp(cubic)(X, v) - CUBIC_HESSIAN @ v)
    a, w = rng.standard_normal((4, 3)), rng.standard_normal((3, 3))
    f = lambda w: ops.logsumexp(ops.tanh(a @ w))
    measure(hvp(f)(w, w) - np.einsum("ijkl,kl->ij", hessian(f)(w), w))


def test_inner_and_outer_variables_are_not_confused():
    assert grad(lambda x: x * grad(lambda y: x + y)(1.0))(1.0) == 1
    assert grad(lambda x: x * grad(lambda y: x * y)(2.0))(3.0) == 6
    assert grad(lambda x: grad(lambda y: x * x * y)(5.0) * x)(2.0) == 12


def test_a_gradient_penalty_reaches_the_parameters(rng):
    net = nn.MLP(3, 5, 1, activation="tanh", rng=rng).astype(np.float64)
    x = rng.standard_normal((4, 3))
    penalty = lambda: ops.sum(grad(lambda x: ops.sum(net(x)))(x) ** 2)
    penalty().backward()
    assert net.layers[1].b.grad is None, "a shift of the output leaves its gradient alone"
    for p in (net.layers[0].w, net.layers[0].b, net.layers[1].w):
        for index in np.ndindex(p.shape):
            values, before = [], p.data[index]
            for step in (1e-6, -1e-6):
                p.data[index] = before + step
                values.append(float(penalty().data))
            p.data[index] = before
            np.testing.assert_allclose(p.grad[index], (values[0] - values[1]) / 2e-6, rtol=1e-6, atol=1e-8)


def test_grad_returns_a_tensor_only_where_something_outside_traces_it():
    p = Parameter(np.ones(3), dtype=np.float64)
    assert type(grad(cubic)(X)) is np.ndarray and type(grad(cubic)(Tensor(X))) is np.ndarray
    assert grad(cubic)(Tensor(X, requires_grad=True)).requires_grad
    assert grad(lambda x: ops.sum(x * p))(X).requires_grad
    assert type(value_and_grad(lambda x: ops.sum(x * p))(X)[0]) is Tensor


def test_a_tensor_argument_gets_the_second_derivative_by_backward():
    x = Tensor(X, requires_grad=True)
    ops.sum(grad(cubic)(x)).backward()
    np.testing.assert_allclose(x.grad, CUBIC_HESSIAN.sum(0), rtol=1e-14)


def test_grad_leaves_the_grad_of_parameters_alone():
    p = Parameter(np.ones(3), dtype=np.float64)
    grad(lambda x: ops.sum(x * p))(X)
    grad(lambda x: ops.sum(x * p))(p)
    assert p.grad is None


def test_grad_works_within_no_grad():
    with no_grad():
        np.testing.assert_array_equal(grad(cubic)(X), 3 * X ** 2 + np.prod(X) / X)
        np.testing.assert_allclose(hessian(cubic)(X), CUBIC_HESSIAN, rtol=1e-14)


def test_grad_within_no_grad_records_nothing_outside():
    p = Parameter(np.ones(3), dtype=np.float64)
    with no_grad():
        g = grad(lambda x: ops.sum(x * p))(X)
        h = grad(cubic)(p)
    assert not getattr(g, "requires_grad", False) and not getattr(h, "requires_grad", False)


def test_no_grad_inside_f_makes_a_constant():
    def f(x):
        with no_grad():
            c = ops.sum(x * x)
        return c * x[0]
    np.testing.assert_allclose(grad(f)(X), [np.sum(X * X), 0, 0])


@pytest.mark.parametrize("transform", [grad, value_and_grad, hessian])
def test_a_function_that_is_not_scalar_is_refused_by_name(transform):
    def vector(x):
        return x * 2
    with pytest.raises(ValueError, match=r"vector.*must return one number.*\(3,\).*jacobian"):
        transform(vector)(X)


def test_transforms_are_named_after_their_function():
    assert grad(cubic).__name__ == "grad(cubic)" and hessian(cubic).__name__ == "hessian(cubic)"


def test_grad_copies_nothing_to_the_caller_that_f_may_change():
    x = X.copy()
    g = grad(lambda x: ops.sum(x))(x)
    g[0] = 7
    np.testing.assert_array_equal(x, X)
    np.testing.assert_array_equal(grad(lambda x: ops.sum(x))(x), np.ones(3))


def test_a_fused_loss_has_a_third_derivative(rng):
    logits, x = rng.standard_normal(3), rng.random(3)
    third = jacobian(hessian(lambda l: losses.bernoulli_nll(l, x)))(logits)
    s = 1 / (1 + np.exp(-logits))
    np.testing.assert_allclose(third[range(3), range(3), range(3)], s * (1 - s) * (1 - 2 * s), rtol=1e-12)
