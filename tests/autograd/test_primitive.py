"""What `op` makes of a function and its VJPs: one dtype, fresh arrays, and nothing kept that no VJP names."""
import numpy as np
import pytest

from autograd import OPS, Tensor, grad, losses, nn, ops
from autograd.linear import linear
from autograd.tensor import FLOATS

from .cases import CASES

pytestmark = pytest.mark.filterwarnings("ignore:divide by zero", "ignore:invalid value", "ignore:overflow")
every_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES)
every_dtype = pytest.mark.parametrize("dtype", FLOATS, ids=str)


def nodes(y):
    """The recorded applications that led to y."""
    seen, stack = {y.node}, [y.node]
    while stack:
        new = {p for p in stack.pop().parents if p is not None} - seen
        seen |= new
        stack += new
    return [n for n in seen if n.op]


def cotangents(node, g):
    """What the raw VJPs of a node return for its traced arguments."""
    joint = node.op.joint and node.op.joint(g, node.saved)
    return [joint[i] if joint else node.op.vjps[i](g, node.saved)
            for i, p in enumerate(node.parents) if p is not None]


@every_dtype
@every_case
def test_values_and_gradients_keep_the_dtype(case, dtype):
    xs = case.tensors(dtype)
    y = case.f(*xs)
    y.backward(case.cotangent())
    assert y.dtype == dtype and all(x.grad.dtype == dtype for x in xs)
    assert all(x.grad.shape == x.shape for x in xs)


@every_dtype
@every_case
def test_no_forward_leaves_the_dtype_to_the_engine(case, dtype):
    y = case.f(*[x.astype(dtype) for x in case.inputs])
    assert isinstance(y, (np.ndarray, np.generic)) and y.dtype == dtype


@every_dtype
@every_case
def test_no_vjp_leaves_the_dtype_to_the_engine(case, dtype):
    for node in nodes(case.f(*case.tensors(dtype))):
        for gx in cotangents(node, np.ones(node.shape, dtype)):
            assert gx.dtype == dtype, node.op.__name__


@every_case
def test_no_vjp_returns_an_array_that_it_was_given_to_read(case):
    for node in nodes(case.f(*case.tensors())):
        kept = [v for v in node.saved.values() if isinstance(v, np.ndarray)]
        for gx in cotangents(node, np.ones(node.shape)):
            assert not any(np.shares_memory(gx, v) for v in kept), node.op.__name__


@every_case
def test_no_op_writes_to_its_inputs_or_its_cotangent(case):
    xs, g = case.tensors(), case.cotangent()
    for array in (*[x.data for x in xs], g):
        array.flags.writeable = False
    for node in nodes(case.f(*xs)):
        g = np.ones(node.shape)
        for array in (g, *[v for v in node.saved.values() if isinstance(v, np.ndarray)]):
            array.flags.writeable = False
        assert cotangents(node, g)


@every_case
def test_gradients_share_no_memory_with_anything(case):
    xs, g = case.tensors(), case.cotangent()
    y = case.f(*xs)
    y.backward(g)
    arrays = [g, y.data, *[x.data for x in xs], *case.inputs]
    for i, x in enumerate(xs):
        others = arrays + [z.grad for z in xs[:i]]
        assert not any(np.shares_memory(x.grad, a) for a in others)


@every_case
def test_only_traced_arguments_get_a_gradient(case):
    for traced in range(len(case.inputs)):
        xs = [Tensor(x, requires_grad=i == traced) for i, x in enumerate(case.inputs)]
        case.f(*xs).backward(case.cotangent())
        assert [x.grad is not None for x in xs] == [i == traced for i in range(len(xs))]
        np.testing.assert_array_equal(xs[traced].grad, case.gradients()[traced])


@every_case
def test_constants_may_be_ndarrays(case):
    for traced in range(len(case.inputs)):
        xs = [Tensor(x, requires_grad=True) if i == traced else x for i, x in enumerate(case.inputs)]
        case.f(*xs).backward(case.cotangent())
        np.testing.assert_allclose(xs[traced].grad, case.gradients()[traced], rtol=1e-12, atol=1e-14)


NUMBERS = {"np.float64 on the left": lambda x: np.float64(2) * x,
           "np.float64 on the right": lambda x: x * np.float64(2), "np.int64": lambda x: x / np.prod(x.shape),
           "int labels": lambda x: x * np.arange(3),
           "int labels on the left": lambda x: np.arange(3) * x, "booleans": lambda x: x * (x > 0),
           "0-d int array": lambda x: x + np.array(2), "int": lambda x: 1 - x, "float": lambda x: x ** 0.5,
           "np.float64 power": lambda x: x ** np.float64(2), "base": lambda x: np.float64(2) ** x,
           "int base": lambda x: np.arange(1, 4) ** x, "where": lambda x: np.where(x > 1, x, np.float64(0)),
           "maximum": lambda x: np.maximum(np.float64(0.5), x), "list": lambda x: x + [1, 2, 3],
           "float32 scalar": lambda x: np.float32(2) * x}


@every_dtype
@pytest.mark.parametrize("name", NUMBERS)
def test_numbers_and_integers_take_the_dtype_of_the_tensor(name, dtype):
    x = Tensor([1.0, 2.0, 3.0], requires_grad=True, dtype=dtype)
    y = NUMBERS[name](x)
    assert y.dtype == dtype
    for node in nodes(y):
        kept = [v for v in map(node.saved.get, ("y", *node.op.names)) if isinstance(v, np.ndarray)]
        assert all(v.dtype == dtype for v in kept), "a constant was not converted"
        assert all(g.dtype == dtype for g in cotangents(node, np.ones(node.shape, dtype)))


MIXED = {"Tensor first": lambda x, a: x * a, "ndarray first": lambda x, a: a * x,
         "maximum": lambda x, a: np.maximum(a, x), "where": lambda x, a: ops.where([True, False, True], a, x),
         "concatenate": lambda x, a: ops.concatenate([a, x]), "matmul": lambda x, a: a @ x,
         "Tensors": lambda x, a: Tensor(a) + x, "0-d ndarray": lambda x, a: a[:1].reshape(()) * x,
         "linear": lambda x, a: linear(a[None], x[:, None], x[:1]),
         "gaussian_kl": lambda x, a: losses.gaussian_kl(a, x)}


@pytest.mark.parametrize("name", MIXED)
def test_two_float_dtypes_in_one_op_are_refused(name):
    x, a = Tensor(np.ones(3, np.float32), requires_grad=True), np.ones(3)
    with pytest.raises(ValueError, match="float64 and float32|float32 and float64"):
        MIXED[name](x, a)


def test_a_float64_batch_does_not_slip_through_a_float32_model(rng):
    with pytest.raises(ValueError, match="float64 and float32.*astype"):
        nn.MLP(3, 4, 2, rng=rng)(np.ones((5, 3)))


@pytest.mark.parametrize("other", [1j, np.ones(3, complex), np.ones(3, np.float16), np.array(["a"] * 3)],
                         ids=["1j", "complex", "float16", "text"])
def test_other_dtypes_next_to_a_tensor_are_refused(other):
    with pytest.raises(ValueError, match="one dtype"):
        Tensor(np.ones(3)) + other


KEPT = {"exp": (lambda x, c: ops.exp(x), "y"), "add": (lambda x, c: x + c, ""), "multiply": (lambda x, c: x * c, "c"),
        "log": (lambda x, c: ops.log(x), "x"), "sum": (lambda x, c: ops.sum(x), ""),
        "tanh": (lambda x, c: ops.tanh(x), "y"),
        "relu": (lambda x, c: ops.relu(x), "y"), "divide": (lambda x, c: x / c, "c"), "negative": (lambda x, c: -x, ""),
        "concatenate": (lambda x, c: ops.concatenate([x, c]), ""), "maximum": (lambda x, c: ops.maximum(x, c), "xc"),
        "softmax": (lambda x, c: ops.softmax(x), "y"), "getitem": (lambda x, c: x[1:], "")}


@pytest.mark.parametrize("name", KEPT)
def test_a_node_keeps_exactly_what_its_vjps_name(name):
    f, want = KEPT[name]
    x, c = Tensor(np.ones(3), requires_grad=True), np.ones(3)
    y = f(x, c)
    arrays = {"x": x.data, "c": c, "y": y.data}
    assert {id(v) for v in y.node.saved.values() if isinstance(v, np.ndarray)} == {id(arrays[k]) for k in want}


STATICS = {"sum": (ops.sum, dict(axis=1, keepdims=True)), "mean": (ops.mean, dict(axis=(0, 1), keepdims=True)),
           "max": (ops.max, dict(axis=0, keepdims=False)), "logsumexp": (ops.logsumexp, dict(axis=-1, keepdims=True)),
           "cumsum": (ops.cumsum, dict(axis=1)), "softmax": (ops.softmax, dict(axis=0)), "tril": (ops.tril, dict(k=-1)),
           "clip": (ops.clip, dict(a_min=-0.5, a_max=0.5)), "leaky_relu": (ops.leaky_relu, dict(slope=0.3)),
           "pad": (ops.pad, dict(pad_width=((1, 0), (0, 2)), constant_values=3.0)), "flip": (ops.flip, dict(axis=0)),
           "reshape": (ops.reshape, dict(shape=(3, 2))), "transpose": (ops.transpose, dict(axes=(1, 0))),
           "swapaxes": (ops.swapaxes, dict(axis1=0, axis2=1)),
           "broadcast_to": (ops.broadcast_to, dict(shape=(4, 2, 3)))}


@pytest.mark.parametrize("name", STATICS)
def test_static_arguments_by_place_and_by_name_are_the_same(name, rng):
    f, static = STATICS[name]
    x = rng.standard_normal((2, 3))
    first, *rest = static
    calls = [lambda x: f(x, **static), lambda x: f(x, *static.values()),
             lambda x: f(x, static[first], **{n: static[n] for n in rest})]
    for d in (lambda f: f, lambda f: grad(lambda x: ops.sum(ops.sin(f(x)))),
              lambda f: grad(lambda x: ops.sum(grad(lambda x: ops.sum(ops.sin(f(x))))(x) ** 2))):
        named, *others = [np.asarray(d(call)(x)) for call in calls]
        assert named.any()
        for other in others:
            np.testing.assert_array_equal(other, named)
    for call in calls:
        np.testing.assert_array_equal(call(Tensor(x)).data, call(x))


def test_only_vjps_that_are_needed_run(scratch_op):
    def never(g):
        raise AssertionError("this argument needs no gradient")
    half = scratch_op(lambda a, b: a + b, lambda g: g, never, name="half")
    x = Tensor(1.0, requires_grad=True)
    half(x, Tensor(1.0)).backward()
    assert x.grad == 1


def test_a_sloppy_op_keeps_the_dtype_all_the_same(scratch_op):
    sloppy = scratch_op(lambda x: x * np.float64(2), lambda g: g * np.float64(2), name="sloppy")
    x = Tensor(np.ones(3), requires_grad=True, dtype=np.float32)
    y = sloppy(x)
    y.backward(np.ones(3))
    assert y.dtype == x.grad.dtype == np.float32


def test_a_residual_without_a_twin_is_refused(scratch_op):
    with pytest.raises(ValueError, match="twin"):
        scratch_op(lambda x: (x, x), lambda g, residual: g, name="wrong", residual=True)


def test_two_ops_cannot_have_one_name(scratch_op):
    with pytest.raises(ValueError, match="exp already"):
        scratch_op(lambda x: x, lambda g: g, name="exp")


def test_an_op_of_ones_own_is_differentiable_to_any_order(scratch_op):
    cube = scratch_op(lambda x: x ** 3, lambda g, x: g * 3 * x ** 2, name="cube")
    assert "cube" in OPS
    assert [float(f(2.0)) for f in (cube, grad(cube), grad(grad(cube)), grad(grad(grad(cube))))] == [8, 12, 12, 6]


def test_ops_are_listed_by_their_names():
    assert all(f.__name__ == name for name, f in OPS.items())


def test_a_twin_that_is_constant_has_a_second_derivative_of_zero(scratch_op):
    flat = scratch_op(lambda x: (np.sign(x), None), lambda g, residual: 0 * g, residual=True, name="flat",
                      twin=lambda x: np.zeros(np.shape(x)))
    assert grad(grad(flat))(2.0) == 0


@pytest.mark.parametrize("forward", [lambda y: y, lambda x, shapes=3: x, lambda x, needs=(): x])
def test_an_argument_may_not_have_a_name_that_stands_for_another_thing(scratch_op, forward):
    with pytest.raises(ValueError, match="may not be called"):
        scratch_op(forward, lambda g: g, name="taken")


def test_the_result_of_an_op_cannot_be_assigned():
    x = Tensor(1.0, requires_grad=True)
    with pytest.raises(ValueError, match="not the result of exp"):
        ops.exp(x).assign(2.0)
