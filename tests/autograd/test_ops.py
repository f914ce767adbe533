"""The calculus table against PyTorch, against differences and against its own algebra."""
import numpy as np
import pytest
from scipy import stats

from autograd import OPS, Tensor, grad, gradcheck, losses, ops
from autograd.modes import debug

from .cases import ANALYTIC, CASES, SMOOTH, directional, well_conditioned

every_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES)
every_smooth_case = pytest.mark.parametrize("case", SMOOTH, ids=[c.name for c in SMOOTH])
every_analytic_case = pytest.mark.parametrize("case", ANALYTIC, ids=[c.name for c in ANALYTIC])
LINEAR = ("negative", "positive", "sum", "broadcast_to", "cumsum", "reshape", "transpose", "swapaxes", "flip", "tril",
          "getitem", "scatter_add", "concatenate", "pad", "stack", "split", "expand_dims", "diag", "trace", "mean",
          "where")
DERIVATIVES = {
    "negative": lambda x: -np.ones_like(x), "positive": np.ones_like, "exp": np.exp, "expm1": np.exp,
    "log": lambda x: x ** -1, "log1p": lambda x: (1 + x) ** -1, "sqrt": lambda x: 0.5 * x ** -0.5,
    "square": lambda x: x + x, "sin": np.cos, "cos": lambda x: -np.sin(x), "tanh": lambda x: np.cosh(x) ** -2,
    "sign": np.zeros_like, "abs": lambda x: x / np.abs(x), "erf": lambda x: 2 * stats.norm.pdf(x, scale=0.5 ** 0.5),
    "sigmoid": lambda x: 0.5 / (1 + np.cosh(x)), "softplus": stats.logistic.cdf, "relu": lambda x: np.heaviside(x, 0),
    "leaky_relu": lambda x: np.where(x < 0, 0.01, 1),
    "silu": lambda x: stats.logistic.cdf(x) + x * stats.logistic.pdf(x),
    "gelu": lambda x: stats.norm.cdf(x) + x * stats.norm.pdf(x)}
BROADCASTING = {"add": (ops.add, 2), "subtract": (ops.subtract, 2), "multiply": (ops.multiply, 2),
                "divide": (ops.divide, 2), "power": (ops.power, 2), "maximum": (ops.maximum, 2),
                "minimum": (ops.minimum, 2), "where": (lambda a, b: ops.where(np.tri(3, 4) > 0, a, b), 2),
                "bernoulli_nll": (losses.bernoulli_nll, 2), "gaussian_kl": (losses.gaussian_kl, 2),
                "gaussian_nll": (losses.gaussian_nll, 3)}
SHAPES = [((), (3, 4)), ((3, 1), (1, 4)), ((4,), (3, 4)), ((1,), (3, 4)), ((3, 1), (3, 4)), ((1, 1), (3, 4))]


def test_every_op_has_a_gradient_case():
    assert not set(OPS) - {name.partition(":")[0] for name in CASES}, "enter them in cases.py"


# What is no op but composed of some: on the plain floor also what the fast one has as one op.
COMPOSED = {*vars(ops), *vars(losses), "linear", "group_norm", "planar", "total_correlation", "mixture_log_prob"}


@every_case
def test_a_case_runs_the_op_that_it_is_named_after(case, monkeypatch):
    ran = set()
    monkeypatch.setattr(debug, "watch", lambda array, op, inputs, node: ran.add(op.__name__))
    with np.errstate(divide="ignore"):
        case.f(*case.tensors())
    name = case.name.partition(":")[0]
    assert name in ran if name in OPS else name in COMPOSED and ran


@pytest.mark.oracle
@pytest.mark.filterwarnings("ignore:divide by zero")
@every_case
def test_values_and_gradients_are_those_of_torch(case, torch):
    xs, ts = case.tensors(), [torch.tensor(x, requires_grad=True) for x in case.inputs]
    y, t = case.f(*xs), case.peer(torch, *ts)
    np.testing.assert_allclose(y.data, t.detach().numpy(), rtol=1e-10, atol=1e-12)
    y.backward(case.cotangent())
    t.backward(torch.tensor(case.cotangent()))
    for x, t in zip(xs, ts):
        np.testing.assert_allclose(x.grad, t.grad.numpy(), rtol=1e-10, atol=1e-12)


@pytest.mark.equation("engine.vjp", "y = f(x): dL/dx = (dy/dx)' dL/dy, every op against the complex step",
                      bound=1e-12, kind="G")
@every_analytic_case
def test_every_analytic_vjp_is_the_complex_step(case, measure):
    measure(gradcheck(case.f, *case.inputs, method="complex").error)


@pytest.mark.equation("gradcheck.central", "dphi/dx = (phi(x + h) - phi(x - h)) / 2h for every op that is smooth",
                      bound=1e-6, kind="G")
@every_smooth_case
def test_every_vjp_is_the_central_difference(case, measure):
    measure(gradcheck(case.f, *case.inputs).error)


@pytest.mark.equation("engine.adjoint", "<u, J v> = <J'u, v> for random u and v, J v by differences of sixth order",
                      bound=1e-10)
@every_smooth_case
def test_every_vjp_is_the_adjoint_of_the_forward_derivative(case, measure):
    rng, u = case.random(), case.cotangent()
    v = [rng.standard_normal(x.shape) for x in case.inputs]
    backward = sum(np.vdot(g, b) for g, b in zip(case.gradients(), v))
    forward = np.vdot(u, directional(case.f, case.inputs, v))
    measure((forward - backward) / max(1.0, abs(backward)))


@pytest.mark.equation("engine.broadcast", "dL/da = dL/d(broadcast a) summed over the axes along which a was repeated",
                      bound=1e-12)
@pytest.mark.parametrize("shapes", SHAPES, ids=str)
@pytest.mark.parametrize("name", BROADCASTING)
def test_the_gradient_of_a_broadcast_argument_is_summed(name, shapes, measure, rng):
    f, arity = BROADCASTING[name]
    for narrow in range(arity):
        small = [rng.uniform(0.5, 2, shapes[i != narrow]) for i in range(arity)]
        full = [np.broadcast_to(x, (3, 4)) for x in small]
        u = rng.standard_normal(np.shape(f(*full)))
        phi = grad(lambda *xs: ops.sum(f(*xs) * u), tuple(range(arity)))
        for x, got, g in zip(small, phi(*small), phi(*full)):
            origin = np.broadcast_to(np.arange(x.size).reshape(x.shape), (3, 4))
            measure(got - np.bincount(origin.ravel(), g.ravel(), x.size).reshape(x.shape))


@pytest.mark.equation("engine.vjp", "an argument given twice: the sum of the gradients of its places", bound=1e-12)
@pytest.mark.parametrize("case", [c for c in SMOOTH if len({x.shape for x in c.inputs}) < len(c.inputs)],
                         ids=lambda c: c.name)
def test_an_argument_given_twice_gets_the_sum_of_both_gradients(case, measure):
    x = case.inputs[-1]
    twice = [i for i, v in enumerate(case.inputs) if v.shape == x.shape]
    fill = lambda x: [x if i in twice else v for i, v in enumerate(case.inputs)]
    parts = [Tensor(v, requires_grad=True) for v in fill(x)]
    case.f(*parts).backward(case.cotangent())
    one = Tensor(x, requires_grad=True)
    case.f(*fill(one)).backward(case.cotangent())
    both = sum(parts[i].grad for i in twice)
    measure(np.abs(one.grad - both) / np.maximum(1, np.abs(both)))


@every_case
@pytest.mark.filterwarnings("ignore:divide by zero", "ignore:invalid value")
def test_the_layout_of_the_input_does_not_matter(case):
    xs = [Tensor(np.flip(x.T), requires_grad=True) for x in case.inputs]
    case.f(*[ops.transpose(ops.flip(x)) for x in xs]).backward(case.cotangent())
    for x, g in zip(xs, case.gradients()):
        np.testing.assert_allclose(np.flip(x.grad).T, g, rtol=1e-12, atol=1e-14)


@pytest.mark.equation("transforms.hessian", "hessian f = d(grad f)/dx, every op's against differences of its gradient",
                      bound=1e-6, kind="G")
@every_smooth_case
def test_every_second_derivative_is_the_difference_of_the_gradient(case, measure):
    u = case.cotangent()
    gradients = grad(lambda *xs: ops.sum(ops.multiply(case.f(*xs), u)), tuple(range(len(case.inputs))))
    flat = lambda *xs: ops.concatenate([ops.reshape(g, (-1,)) for g in gradients(*xs)])
    measure(gradcheck(flat, *case.inputs).error)


@pytest.mark.equation("ops.elementwise", "y = f(x): dL/dx = g f'(x), with f' written down", bound=1e-12)
@pytest.mark.parametrize("name", DERIVATIVES)
def test_an_elementwise_gradient_is_its_formula(name, measure):
    case = CASES[name]
    want = case.cotangent() * DERIVATIVES[name](*case.inputs)
    measure(case.gradients()[0] - want)


@pytest.mark.equation("ops.linear", "y = A x: <u, A x> = <A'u, x>, with A'u the gradient", bound=1e-12)
@pytest.mark.parametrize("case", [c for c in SMOOTH if c.name.partition(":")[0] in LINEAR], ids=lambda c: c.name)
def test_the_gradient_of_a_linear_op_is_its_adjoint(case, measure):
    affine = np.asarray(case.f(*[np.zeros_like(x) for x in case.inputs]))
    forward = np.vdot(case.cotangent(), np.asarray(case.f(*case.inputs)) - affine)
    measure(forward - sum(np.vdot(g, x) for g, x in zip(case.gradients(), case.inputs)))


@pytest.mark.equation("ops.matmul", "Y = A B: dL/dA = G B', dL/dB = A'G", bound=1e-12)
def test_the_gradients_of_matmul_are_sums_over_entries(measure, rng):
    (a, b), g = CASES["matmul: (3, 4) @ (4, 2)"].inputs, rng.standard_normal((3, 2))
    ga, gb = grad(lambda a, b: ops.sum((a @ b) * g), (0, 1))(a, b)
    measure(ga - [[sum(g[i, k] * b[j, k] for k in range(2)) for j in range(4)] for i in range(3)])
    measure(gb - [[sum(a[i, j] * g[i, k] for i in range(3)) for k in range(2)] for j in range(4)])


@pytest.mark.equation("ops.inverse", "<G, d(A^-1)> = -<G, A^-1 dA A^-1> and d ln|det A| = tr(A^-1 dA)", bound=1e-12)
@pytest.mark.parametrize("shape", [(3, 3), (2, 3, 3)])
def test_inverse_and_determinant_follow_from_their_definitions(shape, measure, rng):
    a, d, g = well_conditioned(*shape), rng.standard_normal(shape), rng.standard_normal(shape)
    y = np.linalg.inv(a)
    along = lambda f: np.vdot(grad(f)(a), d)
    measure(along(lambda a: ops.sum(ops.inv(a) * g)) + np.vdot(g, y @ d @ y))
    measure(along(lambda a: ops.sum(ops.slogdet(a)[1])) - np.trace(y @ d, axis1=-2, axis2=-1).sum())
    b, db = rng.standard_normal(shape), rng.standard_normal(shape)
    dy = grad(lambda b: ops.sum(ops.solve(a, b) * g))(b)
    measure(np.vdot(dy, db) - np.vdot(g, y @ db))


@pytest.mark.equation("ops.cholesky", "A = L L', dA = dL L' + L dL': <G, dL> = <dL/dA, dA>", bound=1e-12)
@pytest.mark.parametrize("shape", [(3, 3), (2, 3, 3)])
def test_the_gradient_of_cholesky_pairs_with_every_change_of_the_factor(shape, measure, rng):
    l = np.tril(well_conditioned(*shape))
    d, g = np.tril(rng.standard_normal(shape)), rng.standard_normal(shape)
    t = lambda x: np.swapaxes(x, -1, -2)
    ga = grad(lambda a: ops.sum(ops.cholesky(a) * g))(l @ t(l))
    measure(np.vdot(g, d) - np.vdot(ga, d @ t(l) + l @ t(d)))


def test_the_gradient_of_cholesky_is_symmetric(rng):
    l, g = well_conditioned(3, 3), rng.standard_normal((3, 3))
    ga = grad(lambda a: ops.sum(ops.cholesky(a) * g))(l @ l.T)
    np.testing.assert_allclose(ga, ga.T, rtol=1e-12)


@pytest.mark.filterwarnings("ignore:divide by zero")
def test_logsumexp_of_nothing_but_minus_infinity_has_gradient_0():
    x = np.full((2, 3), -np.inf)
    assert (ops.logsumexp(x, 1) == -np.inf).all()
    assert (grad(lambda x: ops.sum(ops.logsumexp(x, 1)))(x) == 0).all()


@pytest.mark.parametrize("x", [1000.0, -1000.0])
def test_saturated_activations_are_finite(x):
    for name in ("sigmoid", "softplus", "silu", "gelu", "tanh", "erf", "softmax", "log_softmax", "logsumexp"):
        assert np.isfinite(getattr(ops, name)(np.array([x, 0.0]))).all(), name
        assert np.isfinite(grad(lambda x: ops.sum(getattr(ops, name)(x)))(np.array([x, 0.0]))).all(), name


@pytest.mark.parametrize("name, axis", [("sum", 2), ("mean", -3), ("max", 2), ("prod", 2), ("prod", -3), ("cumsum", 2),
                                        ("logsumexp", 2), ("softmax", 2), ("expand_dims", 3), ("expand_dims", -4)])
def test_an_axis_that_is_not_there_is_refused(name, axis):
    with pytest.raises((ValueError, IndexError)):
        getattr(ops, name)(Tensor(np.ones((2, 3)), requires_grad=True), axis=axis)


@pytest.mark.parametrize("f", [lambda a: ops.stack([a, a], axis=4), lambda a: ops.concatenate([a, a], axis=2),
                               lambda a: ops.split(a, 1, axis=2)], ids=["stack", "concatenate", "split"])
def test_joining_along_an_axis_that_is_not_there_is_refused(f):
    with pytest.raises((ValueError, IndexError)):
        f(Tensor(np.ones((2, 3)), requires_grad=True))


@pytest.mark.parametrize("subscripts", ["ii,i->i", "ij,jk->iik", "...i,i->...", "ij->i", "ij,jk->l", "i1,jk->i"])
def test_einsum_refuses_what_it_cannot_differentiate(subscripts):
    with pytest.raises(ValueError, match="ij,jk->ik"):
        ops.einsum(subscripts, np.ones((2, 2)), np.ones((2, 2)))


def test_split_wants_equal_parts():
    with pytest.raises(ValueError, match="length 5 does not divide into 2"):
        ops.split(np.ones((5, 2)), 2)


def test_matmul_refuses_scalars():
    with pytest.raises(ValueError, match="multiply"):
        Tensor(np.ones((2, 2))) @ 2.0


@pytest.mark.parametrize("call", [lambda x, extra: ops.add(x, x, extra), ops.exp,
                                  lambda x, extra: ops.clip(x, 0, 1, extra),
                                  lambda x, extra: ops.add(x, x, out=extra), lambda x, extra: ops.exp(x, out=extra)],
                         ids=["add", "exp", "clip", "add to", "exp to"])
@pytest.mark.parametrize("kind", [Tensor, np.asarray], ids=["Tensor", "ndarray"])
def test_an_argument_too_many_is_refused_and_not_written_to(call, kind):
    extra = kind(np.zeros(3))
    with pytest.raises((TypeError, ValueError)):
        call(Tensor(np.ones(3), requires_grad=True), extra)
    assert not np.any(np.asarray(extra))


@pytest.mark.parametrize("call", [lambda t: ops.clip(t, t - 1), lambda t: ops.leaky_relu(t, slope=t)],
                         ids=["clip", "leaky_relu"])
def test_a_static_argument_cannot_be_a_tensor(call):
    with pytest.raises((TypeError, ValueError)):
        call(Tensor(np.ones(3), requires_grad=True))
