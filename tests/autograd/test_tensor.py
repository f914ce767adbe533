"""What a Tensor promises: who owns which array, what backward frees, and what NumPy may do with it."""
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from scipy import special

from autograd import Tensor, grad, hessian, no_grad, ops
from autograd.nn import Parameter
from autograd.tensor import Node


@pytest.mark.equation("engine.double-backward", "f = 1/2 x'A x: grad f = 1/2 (A + A') x, hessian f = 1/2 (A + A')",
                      bound=1e-12)
def test_a_quadratic_form_has_its_gradient_and_hessian(measure, rng):
    a, x = rng.standard_normal((4, 4)), rng.standard_normal(4)
    f = lambda x: 0.5 * (x @ a @ x)
    measure(grad(f)(x) - 0.5 * (a + a.T) @ x)
    measure(hessian(f)(x) - 0.5 * (a + a.T))


# Who owns what

def test_two_leaves_never_share_a_gradient_array():
    a, b = (Tensor(np.ones(3), requires_grad=True) for _ in range(2))
    (a + b).backward(np.ones(3))
    assert not np.shares_memory(a.grad, b.grad)


def test_a_leaf_owns_its_gradient():
    for f in (lambda x: x, np.positive, lambda x: x + 0.0, lambda x: x.reshape(3, 1).T[0],
              lambda x: ops.pad(x, 1)[1:-1], lambda x: ops.concatenate([x, x])[3:],
              lambda x: ops.broadcast_to(x, (3,))):
        x, g = Tensor(np.ones(3), requires_grad=True), np.arange(3.0)
        f(x).backward(g)
        assert not np.shares_memory(x.grad, g)
        assert x.grad.flags.writeable and x.grad.base is None
        np.testing.assert_array_equal(x.grad, g)


def test_the_data_are_copied():
    data = np.ones(3)
    x = Tensor(data)
    data[0] = 5
    assert x.data[0] == 1


def test_a_gradient_is_an_ndarray_even_without_axes():
    x = Tensor(2.0, requires_grad=True)
    (x * x).backward()
    assert type(x.grad) is np.ndarray and x.grad == 4
    (3 * x).backward()
    assert type(x.grad) is np.ndarray and x.grad == 7


def test_gradients_accumulate_without_touching_the_array_handed_out():
    x = Tensor(np.ones(3), requires_grad=True)
    (2 * x).backward(np.ones(3))
    first = x.grad
    (3 * x).backward(np.ones(3))
    np.testing.assert_array_equal(first, [2, 2, 2])
    np.testing.assert_array_equal(x.grad, [5, 5, 5])
    x.grad = None
    (3 * x).backward(np.ones(3))
    np.testing.assert_array_equal(x.grad, [3, 3, 3])


def test_fan_out_adds_up():
    x = Tensor(3.0, requires_grad=True)
    y = x * x
    (y + y * x + x).backward()
    assert x.grad == 2 * 3 + 3 * 9 + 1


def test_a_constant_gets_no_gradient():
    x, c = Tensor(np.ones(3), requires_grad=True), Tensor(np.ones(3))
    (x * c).backward(np.ones(3))
    assert c.grad is None and not c.requires_grad and x.requires_grad


def test_a_result_has_no_grad_of_its_own():
    y = Tensor(1.0, requires_grad=True) * 2
    y.backward()
    assert y.grad is None
    with pytest.raises(ValueError, match="leaf"):
        y.grad = np.array(1.0)


@pytest.mark.parametrize("g", [np.ones(2), np.ones(3, np.float32), 1.0])
def test_a_grad_of_another_shape_or_dtype_is_refused(g):
    x = Tensor(np.ones(3), requires_grad=True)
    with pytest.raises(ValueError, match=r"float64 of shape \(3,\)"):
        x.grad = g


# Backward

def test_a_second_backward_says_that_the_graph_is_gone():
    x = Tensor(np.ones(3), requires_grad=True)
    h = ops.exp(x)
    y = ops.sum(h * h)
    y.backward()
    before = x.grad.copy()
    for root in (y, ops.sum(h), h.sum() * 2):
        with pytest.raises(RuntimeError, match="freed.*forward pass again"):
            root.backward()
    np.testing.assert_array_equal(x.grad, before)


@pytest.mark.parametrize("change", [lambda p: p.assign(np.zeros(3)), lambda p: p.assign()])
def test_a_parameter_changed_before_backward_is_noticed(change):
    p = Parameter(np.ones(3))
    loss = ops.sum(p * p)
    change(p)
    with pytest.raises(RuntimeError, match=r"shape \(3,\) was changed between forward and backward"):
        loss.backward()
    assert p.grad is None
    ops.sum(p * p).backward()
    np.testing.assert_array_equal(p.grad, 2 * p.data)


def test_assigning_keeps_the_accumulated_gradient():
    p = Parameter(np.ones(2))
    ops.sum(p).backward()
    p.assign(np.zeros(2))
    np.testing.assert_array_equal(p.grad, [1, 1])
    with pytest.raises(ValueError, match=r"\(3,\).*\(2,\)"):
        p.assign(np.ones(3))
    np.testing.assert_array_equal(p.data, [0, 0])


def test_a_backward_that_fails_leaves_nothing_to_the_next(scratch_op):
    def fail(g):
        raise ArithmeticError
    failing = scratch_op(lambda x: x * 1.0, fail, name="failing")
    x = Tensor(1.0, requires_grad=True)
    h = x * 5
    for y in (failing(h) + h * 2, h * 2 + failing(h), failing(x) + x * 2):
        with pytest.raises(ArithmeticError):
            y.backward()
        assert x.grad is None
    (h * 3).backward()
    assert x.grad == 15


def test_backward_of_many_elements_needs_a_gradient_of_their_shape():
    y = Tensor(np.ones(3), requires_grad=True) * 2
    with pytest.raises(ValueError, match=r"shape \(3,\)"):
        y.backward()
    with pytest.raises(ValueError, match=r"shape \(2,\), the Tensor \(3,\)"):
        y.backward(np.ones(2))
    y.backward([1, 2, 3])


def test_one_element_of_any_rank_needs_none():
    x = Tensor(np.full((1, 1), 3.0), requires_grad=True)
    (x * x).backward()
    assert x.grad.shape == (1, 1) and x.grad == 6


def test_backward_of_a_constant_is_an_error():
    with pytest.raises(ValueError, match="constant"):
        Tensor(1.0).backward()


def test_each_thread_records_by_itself():
    w = Tensor(2.0, requires_grad=True)
    with no_grad(), ThreadPoolExecutor(1) as pool:
        assert pool.submit(lambda: w * 3).result().requires_grad and not (w * 3).requires_grad


def test_no_grad_records_nothing_as_a_context_and_as_a_decorator():
    x = Tensor(np.ones(3), requires_grad=True)
    with no_grad():
        assert not (x * 2).requires_grad
        with no_grad():
            pass
        assert not (x * 2).requires_grad
    assert no_grad()(lambda: x * 2)().requires_grad is False
    assert (x * 2).requires_grad
    with pytest.raises(KeyError):
        with no_grad():
            raise KeyError
    assert (x * 2).requires_grad


def test_detach_cuts_the_graph_and_shares_the_data():
    x = Tensor(np.ones(3), requires_grad=True)
    d = (x * 2).detach()
    assert not d.requires_grad
    ops.sum(d * x).backward()
    np.testing.assert_array_equal(x.grad, [2, 2, 2])
    assert np.shares_memory(x.detach().data, x.data)


# The user cannot write

def test_a_tensor_cannot_be_written_to():
    x = Tensor(np.ones(3))
    with pytest.raises(ValueError, match="read-only"):
        np.asarray(x)[0] = 2
    with pytest.raises(TypeError):
        x[0] = 2
    y = x
    y += 1
    np.testing.assert_array_equal(x.data, [1, 1, 1])


def test_np_array_copies():
    x = Tensor(np.ones(3))
    np.array(x)[0] = 2
    assert np.asarray(x, np.float32).dtype == np.float32
    np.testing.assert_array_equal(x.data, [1, 1, 1])


def test_an_ndarray_cannot_absorb_a_tensor_in_place():
    a, t = np.ones(3), Tensor(np.ones(3), requires_grad=True)
    with pytest.raises(TypeError):
        a += t
    with pytest.raises(TypeError, match="out"):
        np.add(a, t, out=a)
    np.testing.assert_array_equal(a, [1, 1, 1])


# NumPy's functions

T = Tensor(np.random.default_rng(0).uniform(1, 2, (3, 3)) + 3 * np.eye(3), requires_grad=True)
B = np.arange(9.0).reshape(3, 3)
PROTOCOL = {
    "where": lambda t: np.where(t > 2, t, 0), "concatenate": lambda t: np.concatenate([B, t]), "sum": np.sum,
    "sum over an axis": lambda t: np.sum(t, axis=0, keepdims=True), "mean": lambda t: np.mean(t, 1), "var": np.var,
    "prod": np.prod, "max": np.max, "min": lambda t: np.min(t, axis=1), "cumsum": lambda t: np.cumsum(t, axis=0),
    "inv": np.linalg.inv, "solve": lambda t: np.linalg.solve(t, B), "slogdet": lambda t: np.linalg.slogdet(t)[1],
    "cholesky": lambda t: np.linalg.cholesky(t @ t.T), "matmul": lambda t: np.matmul(B, t),
    "power": lambda t: np.power(t, 2.0),
    "exp": np.exp, "abs": np.abs, "negative": np.negative, "expit": special.expit, "erf": special.erf,
    "stack": lambda t: np.stack([t, B]), "split": lambda t: np.split(t, 3)[1], "reshape": lambda t: np.reshape(t, -1),
    "transpose": np.transpose, "swapaxes": lambda t: np.swapaxes(t, 0, 1), "flip": np.flip, "tril": np.tril,
    "diag": np.diag, "trace": np.trace, "clip": lambda t: np.clip(t, 1.2, 4), "maximum": lambda t: np.maximum(B, t),
    "broadcast_to": lambda t: np.broadcast_to(t, (2, 3, 3)), "expand_dims": lambda t: np.expand_dims(t, 0),
    "einsum": lambda t: np.einsum("ij,jk->ik", B, t), "ndarray @ Tensor": lambda t: B @ t,
    "Tensor @ ndarray": lambda t: t @ B,
    "ndarray * Tensor": lambda t: B * t, "ndarray - Tensor": lambda t: B - t, "ndarray / Tensor": lambda t: B / t,
    "ndarray ** Tensor": lambda t: (B + 1) ** t, "number ** Tensor": lambda t: 2 ** t,
    "np.float64 * Tensor": lambda t: np.float64(2) * t, "np.float64 - Tensor": lambda t: np.float64(2) - t,
    "np.float64 / Tensor": lambda t: np.float64(2) / t, "int array * Tensor": lambda t: np.arange(3) * t,
    "bool array * Tensor": lambda t: np.array([True, False, True]) * t}


@pytest.mark.parametrize("name", PROTOCOL)
def test_numpy_functions_of_a_tensor_are_differentiable(name):
    f = PROTOCOL[name]
    y, want = f(T), np.asarray(f(T.data))
    assert isinstance(y, Tensor) and y.requires_grad
    np.testing.assert_allclose(y.data, want, rtol=1e-14)
    u = np.random.default_rng(0).standard_normal(want.shape)
    h = 1e-6 * np.random.default_rng(1).standard_normal((3, 3))
    slope = np.vdot(u, np.asarray(f(T.data + h)) - np.asarray(f(T.data - h))) / 2
    np.testing.assert_allclose(np.vdot(grad(lambda t: ops.sum(f(t) * u))(T.data), h), slope, rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("f", [np.sort, np.linalg.norm, np.linalg.det, np.median, np.floor, np.mod, np.dot,
                               np.add.reduce, np.outer, np.std, lambda t: np.add.at(t, 0, 1),
                               lambda t: np.sum(t, dtype=np.float32),
                               lambda t: np.mean(t, out=np.zeros(())), lambda t: np.exp(t, where=B > 0),
                               lambda t: np.pad(t, 1), lambda t: t % 2, lambda t: t // 2],
                         ids=lambda f: getattr(f, "__name__", None))
def test_numpy_functions_without_a_derivative_raise(f):
    with pytest.raises(TypeError):
        f(T)


def test_comparisons_give_boolean_arrays():
    t = Tensor([1.0, 2.0, 3.0], requires_grad=True)
    for got, want in ((t > 2, [0, 0, 1]), (t >= 2, [0, 1, 1]), (t < 2, [1, 0, 0]), (t <= 2, [1, 1, 0]),
                      (t == 2, [0, 1, 0]), (t != 2, [1, 0, 1]), (2 < t, [0, 0, 1]), (np.full(3, 2.0) > t, [1, 0, 0]),
                      (t == t, [1, 1, 1]), (np.isnan(t), [0, 0, 0]), (np.less(t, t + 1), [1, 1, 1])):
        assert type(got) is np.ndarray and got.dtype == bool and got.tolist() == list(map(bool, want))


def test_questions_about_values_give_plain_answers():
    t = Tensor([3.0, 1.0], requires_grad=True)
    assert np.argmax(t) == 0 and np.argmin(t) == 1 and np.shape(t) == (2,) and np.ndim(t) == 1 and np.size(t) == 2
    assert np.allclose(t, [3, 1]) and np.array_equal(t, t) and np.argsort(t).tolist() == [1, 0]
    assert type(np.zeros_like(t)) is np.ndarray
    assert len(t) == 2 and float(t[0]) == t[0].item() == 3 and bool(t[0]) and [float(v) for v in t] == [3, 1]


def test_functions_of_ndarrays_return_ndarrays():
    for f in (ops.exp, ops.sum, ops.mean, ops.prod, ops.trace, ops.softmax, ops.logsumexp):
        assert type(f(np.ones((2, 2)))) is np.ndarray


def test_methods_are_the_functions():
    t = Tensor(np.arange(1.0, 7).reshape(2, 3))
    for name in ("sum", "mean", "var", "max", "min", "prod", "cumsum"):
        np.testing.assert_array_equal(getattr(t, name)(axis=1).data, getattr(ops, name)(t, axis=1).data)
    assert t.reshape(3, 2).shape == t.reshape((3, 2)).shape == t.T.shape == t.transpose(1, 0).shape == (3, 2)
    assert t.transpose((1, 0)).shape == t.swapaxes(0, 1).shape == t.transpose().shape == (3, 2)
    np.testing.assert_array_equal((-t).data, -t.data)
    np.testing.assert_array_equal(abs(-t).data, t.data)
    np.testing.assert_array_equal(t.clip(2, 3).data, t.data.clip(2, 3))


# Bad input

@pytest.mark.parametrize("dtype", [np.float16, np.complex64, np.complex128, np.longdouble])
def test_a_tensor_is_float32_or_float64(dtype):
    with pytest.raises(ValueError, match=f"float32 or float64, not {np.dtype(dtype)}"):
        Tensor(np.ones(2, dtype))


def test_a_tensor_of_text_is_refused():
    with pytest.raises(ValueError, match="float32 or float64"):
        Tensor(["a"])


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int64, bool])
def test_integers_and_booleans_become_float64(dtype):
    assert Tensor(np.ones(2, dtype)).dtype == np.float64


@pytest.mark.parametrize("dtype", [np.int8, int, bool])
def test_a_tensor_never_rounds_to_integers(dtype):
    with pytest.raises(ValueError, match="float32 or float64"):
        Tensor([0.5], dtype=dtype)


@pytest.mark.parametrize("f", [lambda t: t + np.ones(2), lambda t: t @ np.ones(2), lambda t: t.reshape(2, 2),
                               lambda t: np.concatenate([t[None], np.ones((1, 2))]),
                               lambda t: ops.broadcast_to(t, (2,)), lambda t: np.broadcast_to(t, (3, 2))],
                         ids=["add", "matmul", "reshape", "concatenate", "broadcast_to", "np.broadcast_to"])
def test_shapes_that_do_not_fit_are_a_value_error(f):
    with pytest.raises(ValueError, match="shape|dimension"):
        f(Tensor(np.ones(3), requires_grad=True))


def test_repr_says_where_a_tensor_comes_from():
    x = Tensor([1.0, 2.0], requires_grad=True)
    assert repr(x) == "Tensor([1., 2.], dtype=float64, requires_grad=True)"
    assert repr(Tensor([1.0], dtype=np.float32)) == "Tensor([1.], dtype=float32)"
    assert repr(ops.exp(x * 0)).endswith("op=exp)")


def test_no_node_knows_a_tensor():
    x = Tensor(np.ones(3), requires_grad=True)
    node = ops.sum(ops.exp(x) * x).node
    stack = [node]
    while stack:
        node = stack.pop()
        assert isinstance(node, Node) and not any(isinstance(v, Tensor) for v in node.saved)
        stack += [p for p in node.parents if p is not None]
