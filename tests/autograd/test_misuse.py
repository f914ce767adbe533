"""What would quietly give a wrong number is refused, in one clear error."""
import math

import numpy as np
import pytest

from autograd import Tensor, grad, hessian, jacobian, losses, nn, op, ops, optim
from autograd.linear import linear
from autograd.nn import Parameter


@pytest.mark.parametrize("f", [lambda a: None, lambda a: [a, a], lambda a: (a, a)])
def test_a_function_must_return_a_tensor(f):
    for transform in (grad, jacobian):
        with pytest.raises(ValueError, match="must return a Tensor, not (NoneType|list|tuple)"):
            transform(f)(1.0)


@pytest.mark.parametrize("f", [lambda a: math.sin(a), lambda a: a * float(a), lambda a: np.asarray(a) ** 2,
                               lambda a: ops.sum(Tensor([a * 1, a * 2])), lambda a: np.float64(a) * 2])
def test_a_traced_tensor_that_would_lose_its_derivative_is_refused(f):
    with pytest.raises(ValueError, match="would be lost: use autograd.ops"):
        grad(f)(1.0)
    assert np.isfinite(np.asarray(f(Tensor(1.0)))).all()           # where nothing is traced it is no mistake


def test_after_an_error_arrays_can_be_had_again():
    with pytest.raises(ZeroDivisionError):
        grad(lambda a: 1 / 0)(1.0)
    assert np.asarray(Parameter([1.0])) == 1


def test_negative_argnums_count_from_the_end():
    f, x, y = (lambda x, y: ops.sum(x ** 2 * y)), np.array([1.0, 2.0]), np.array([3.0, 4.0])
    np.testing.assert_allclose(grad(f, -1)(x, y), x ** 2)
    for got, want in zip(grad(f, (0, -1))(x, y), (2 * x * y, x ** 2)):
        np.testing.assert_allclose(got, want)
    np.testing.assert_allclose(hessian(f, -2)(x, y), np.diag(2 * y))


@pytest.mark.parametrize("argnums", [2, -3, (0, 0), (1, -1)])
def test_arguments_that_are_not_there_or_named_twice_are_refused(argnums):
    with pytest.raises(ValueError, match="does not name different arguments of the 2"):
        grad(lambda x, y: x * y, argnums)(1.0, 2.0)


def test_jacobian_and_hessian_take_one_argument():
    for transform in (jacobian, hessian):
        with pytest.raises(ValueError, match="one argument at a time"):
            transform(lambda x, y: x * y, (0, 1))(1.0, 2.0)


def test_an_op_with_a_vjp_too_few_or_a_name_that_is_not_there_is_refused():
    with pytest.raises(ValueError, match="hypot takes 2 arrays and needs as many VJPs, not 1"):
        op(np.hypot, lambda g, a: g)
    with pytest.raises(ValueError, match="names z, and of its arguments knows g, y, x"):
        op(np.cbrt, lambda g, z: g)


def test_integer_logits_are_not_truncated():
    want = losses.bernoulli_nll(np.array([[0.0, 1.0, 2.0]]), np.array([[1.0, 0.0, 1.0]]))
    np.testing.assert_allclose(losses.bernoulli_nll(np.array([[0, 1, 2]]), np.array([[1, 0, 1]])), want)


def test_an_empty_mask_is_a_mask():
    assert Tensor(np.zeros((0, 3)))[np.zeros((0, 3), bool)].shape == (0,)
    assert Tensor(np.zeros((0, 3)))[[]].shape == (0, 3)


def test_an_index_that_is_changed_after_the_forward_pass_does_not_move_the_gradient():
    x, i = Tensor(np.zeros(3), requires_grad=True), np.array([0, 0])
    y = x[i].sum()
    i[:] = 2
    y.backward()
    assert x.grad.tolist() == [2, 0, 0]


@pytest.mark.parametrize("value", [[Parameter([1.0])], {"a": nn.Dropout()}, {"a": Parameter([1.0])},
                                   Tensor([1.0], requires_grad=True)])
def test_parameters_where_nothing_would_find_them_are_refused(value):
    module = nn.Module()
    module.hidden = value
    with pytest.raises(ValueError, match="Module.hidden holds parameters where nothing would find them"):
        module.parameters()


def test_a_module_that_draws_gets_the_generator(rng):
    class Noise(nn.Module):
        draws = True

        def forward(self, x, rng):
            return x + rng.standard_normal(x.shape)

    assert (np.asarray(nn.Sequential(nn.Sequential(Noise()))(Tensor(np.zeros(3)), rng)) != 0).all()
    with pytest.raises(ValueError, match="give it a numpy.random.Generator"):
        nn.Sequential(nn.Dropout())(Tensor(np.ones(3)))


@pytest.mark.parametrize("make, message", [
    (lambda p: optim.Adam([p, p]), "twice"), (lambda p: optim.Adam([p], eps=-1), "eps"),
    (lambda p: optim.Adam([p], weight_decay=math.nan), "weight_decay"),
    (lambda p: optim.SGD([p], 0.1, momentum=5), "momentum"),
    (lambda p: optim.Adam([p], betas=(0.9,)), "two numbers")])
def test_absurd_settings_of_an_optimizer_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make(Parameter([1.0]))


def test_an_optimizer_notices_that_its_model_has_changed_its_dtype(rng):
    model = nn.Linear(2, 1, rng=rng)
    optimizer = optim.Adam(model.parameters())
    model.astype(np.float64)
    model(np.ones((1, 2))).sum().backward()
    with pytest.raises(ValueError, match="became float64 after this optimizer was made"):
        optimizer.step()
    for dtype in (int, complex, np.float16):
        with pytest.raises(ValueError, match="float32 or float64"):
            model.astype(dtype)


def test_clipping_survives_gradients_whose_squares_overflow():
    p = Parameter(np.zeros(2))
    p.grad = np.array([3e25, 4e25], np.float32)
    assert optim.clip_grad_norm([p], 1.0) == pytest.approx(5e25)
    np.testing.assert_allclose(p.grad, [0.6, 0.8], rtol=1e-6)


# What PyTorch's conventions decide, for those who run the tests without it.
def test_conventions_at_special_points():
    zero = np.array([0.0])
    assert grad(lambda a: ops.sum(ops.power(a, zero)))(zero) == 0
    assert grad(lambda b: ops.sum(ops.power(zero, b)))(np.array([2.0])) == 0
    assert grad(lambda x: ops.sum(ops.clip(x, 0, 1)))(np.array([0.0, 1.0, 1.5])).tolist() == [1, 1, 0]


def test_the_extreme_of_what_has_a_nan_is_that_nan():
    for f in (ops.max, ops.min):
        assert grad(f)(np.array([1.0, np.nan, 2.0, np.nan])).tolist() == [0, 0.5, 0, 0.5]


@pytest.mark.parametrize("f", [lambda x: ops.sum(x @ np.ones((0, 5))), lambda x: ops.sum(ops.var(x, axis=1))],
                         ids=["matmul", "var"])
def test_no_elements_have_no_gradient(f):
    for shape in ((2, 3, 0), (0, 3, 0)):
        assert grad(f)(np.zeros(shape)).shape == shape


def test_adam_corrects_the_bias_of_each_parameter_by_its_own_steps():
    p, late = Parameter([1.0]), Parameter([1.0])
    optimizer = optim.Adam([p, late], lr=0.1)
    for t in range(4):
        p.grad, late.grad = np.array([0.5], np.float32), np.array([0.5], np.float32) if t == 3 else None
        optimizer.step()
    np.testing.assert_allclose(1 - late.data, 0.1, rtol=1e-5)      # the first step of Adam has length lr


def test_a_resumed_schedule_goes_on_where_it_was():
    a, b = Parameter([1.0]), Parameter([1.0])
    first, second = (optim.SGD([p], lambda t: 1.0 / t) for p in (a, b))
    for _ in range(3):
        a.grad = np.ones(1, np.float32)
        first.step()
    second.load_state(first.state())
    b.grad = np.ones(1, np.float32)
    second.step()
    assert 1 - b.data == pytest.approx(1 / 4)


def test_a_fused_relu_lets_nan_through():
    y = linear(np.array([[np.nan, 1.0]]), np.eye(2), np.zeros(2), activation="relu")
    assert np.isnan(y).all()
    assert np.isnan(losses.bernoulli_nll(np.array([[np.nan]]), np.ones((1, 1))))


def test_a_list_of_tensors_is_not_taken_for_numbers():
    a = Tensor([1.0, 2.0], requires_grad=True)
    for call in (lambda: ops.sum([a, a]), lambda: ops.tanh([a.sum(), 1.0]), lambda: a + [a.sum(), 1.0],
                 lambda: ops.sum([[a[0]]]), lambda: ops.matmul([[a[0], a[1]]], a), lambda: ops.var([a, a])):
        with pytest.raises(ValueError, match="ops.stack makes one of them"):
            call()
    assert (ops.exp([0.0, 0.0]) == 1).all() and ((a + [1, 2]).data == [2, 4]).all()
    assert (a @ [[1.0, 2.0], [3.0, 4.0]]).data.tolist() == [7, 10] and ops.stack([a[0], 1.0]).data.tolist() == [1, 1]
    assert ops.var([True, False]) == 0.25 and [y.shape for y in ops.split(np.zeros((0, 3)), 2)] == [(0, 3)] * 2
    assert ops.var([1, 3]) == 1 and ops.prod([2, 3]) == 6 and ops.split([1, 2], 2)[1] == 2


@pytest.mark.parametrize("call", [lambda x, t: ops.leaky_relu(x, slope=t), lambda x, t: ops.leaky_relu(x, t),
                                  lambda x, t: np.clip(x, t, 1), lambda x, t: ops.clip(x, a_max=t),
                                  lambda x, t: ops.pad(x, 1, constant_values=t), lambda x, t: ops.sum(x, axis=t)],
                         ids=["slope", "slope by place", "np.clip", "a_max", "pad", "axis"])
@pytest.mark.parametrize("make", [np.asarray, Tensor], ids=["ndarray", "Tensor"])
def test_a_tensor_where_no_derivative_is_taken_is_refused(call, make):
    with pytest.raises(TypeError, match="is not differentiable in"):
        call(make([-1.0, 2.0]), Parameter(0.5))


@pytest.mark.parametrize("make", [np.asarray, Tensor], ids=["ndarray", "Tensor"])
def test_an_argument_too_many_is_refused(make):
    with pytest.raises(TypeError, match="sum takes 1 to 3 arguments, not 4"):
        ops.sum(make([1.0]), 0, False, None)


def test_diag_and_trace_take_matrices():
    for f in (ops.diag, ops.trace):
        with pytest.raises(ValueError, match="matrix, not shape"):
            f(Tensor(np.zeros((2, 3, 3))))


def test_a_linear_layer_without_bias_is_a_matrix_product(rng):
    layer = nn.Linear(3, 2, "relu", bias=False, rng=rng)
    x = rng.standard_normal((4, 3)).astype(np.float32)
    np.testing.assert_allclose(layer(x).data, np.maximum(x @ layer.w.data, 0), rtol=1e-6)
    assert list(layer.named_parameters()) == ["w"]
    layer(x).sum().backward()
    np.testing.assert_allclose(layer.w.grad, x.T @ (x @ layer.w.data > 0), rtol=1e-6)


def test_a_state_of_another_dtype_is_refused(rng):
    with pytest.raises(ValueError, match="w is float64, not float32"):
        nn.Linear(3, 2, rng=rng).load_state(nn.Linear(3, 2, rng=rng).astype(np.float64).state())


def test_linear_refuses_an_inner_size_that_does_not_fit_however_large():
    with pytest.raises(ValueError, match="700"):
        linear(np.ones((128, 784), np.float32), np.ones((700, 400), np.float32), None)
