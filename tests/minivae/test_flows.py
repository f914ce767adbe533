"""Flows against the Jacobians that they claim to know, their own inverses, quadrature and Gaussians."""
import numpy as np
import pytest
from scipy import stats

from autograd import Tensor, gradcheck, hessian, jacobian, value_and_grad
from minivae.distributions import Normal
from minivae.flows import IAF, MAF, Coupling, Flow, Layer, MaskedMLP, Planar, Radial, Triangular
from minivae.flows.coupling import LIMIT, bounded
from minivae.flows.energies import ENERGIES, energy_kl, fit_energy
from minivae.flows.planar import _composed, planar
from minivae.vae.gaps import grid

from .test_distributions import z_score

KINDS = [Planar, Radial, Coupling, IAF, MAF, Triangular]
ALL = pytest.mark.parametrize("cls", KINDS)
SIZES = pytest.mark.parametrize("dim, context", [(2, 0), (5, 0), (3, 2)])


def layer(cls, dim, context=0, seed=0, spread=0.5, **options):
    """A layer far from the identity, in float64."""
    rng = np.random.default_rng(seed)
    f = cls(dim, context=context, rng=rng, **options).astype(np.float64)
    for p in f.parameters():
        p.assign(p.data + spread * rng.standard_normal(p.shape))
    return f


def smooth_flow(*kinds):
    """A flow in the plane that quadrature can see: its networks are small."""
    return Flow([layer(cls, 2, seed=seed, spread=0.3, **{} if cls in (Planar, Radial, Triangular) else {"hidden": (8,)})
                 for seed, cls in enumerate(kinds)])


def points(rng, dim, context, n=6):
    return rng.standard_normal((n, dim)), rng.standard_normal((n, context)) if context else None


def log_det_errors(f, rng):
    """What f and its inverse say of their determinants, less those of the Jacobians that autograd finds."""
    z, h = points(rng, f.dim, f.context)
    x = f.forward(z, h)[0].data
    for g, at in ((f.forward, z), (f.inverse, x)):
        for i in range(len(z)):
            one = slice(i, i + 1)
            J = jacobian(lambda v: g(v.reshape(1, -1), None if h is None else h[one])[0].reshape(-1))(at[i])
            sign, logdet = np.linalg.slogdet(np.asarray(J))
            yield g(at[one], None if h is None else h[one])[1].data - logdet
            yield sign - 1


# Log-determinants

@pytest.mark.equation("flows.planar", "ln |det| = ln (1 + w'u (1 - tanh^2 a)) = slogdet of the Jacobian", bound=1e-10)
@pytest.mark.parametrize("dim, context", [(1, 0), (2, 0), (5, 0), (3, 2)])
def test_the_log_determinant_of_a_planar_layer_is_that_of_its_jacobian(measure, rng, dim, context):
    for error in log_det_errors(layer(Planar, dim, context), rng):
        measure(error)


@pytest.mark.equation("flows.radial", "ln |det| = (d - 1) ln (1 + beta h) + ln (1 + alpha beta h^2), h = 1/(alpha + r)",
                      bound=1e-10)
@pytest.mark.parametrize("dim, context", [(1, 0), (2, 0), (5, 0), (3, 2)])
def test_the_log_determinant_of_a_radial_layer_is_that_of_its_jacobian(measure, rng, dim, context):
    f = layer(Radial, dim, context)
    for error in log_det_errors(f, rng):
        measure(error)
    if not context:
        f.assign(np.arange(dim) / 3, 0.8, -0.7)
        z = rng.standard_normal((7, dim))
        h = 1 / (0.8 + np.linalg.norm(z - np.arange(dim) / 3, axis=1))
        x, logdet = f.forward(z)
        measure(x.data - z + 0.7 * h[:, None] * (z - np.arange(dim) / 3))
        measure(logdet.data - (dim - 1) * np.log(1 - 0.7 * h) - np.log(1 - 0.8 * 0.7 * h * h))


@pytest.mark.equation("flows.coupling", "ln |det| = sum s", bound=1e-10)
@SIZES
@pytest.mark.parametrize("flip", [False, True])
def test_the_log_determinant_of_a_coupling_layer_is_that_of_its_jacobian(measure, rng, dim, context, flip):
    f = layer(Coupling, dim, context, flip=flip)
    for error in log_det_errors(f, rng):
        measure(error)
    z, h = points(rng, dim, context)
    kept = slice(f.cut, None) if flip else slice(0, f.cut)
    np.testing.assert_array_equal(f.forward(z, h)[0].data[:, kept], z[:, kept])


@pytest.mark.equation("flows.iaf", "ln |det dz'/dz| = sum ln sigma_i", bound=1e-10)
@SIZES
@pytest.mark.parametrize("flip", [False, True])
def test_the_log_determinant_of_an_iaf_layer_is_that_of_its_jacobian(measure, rng, dim, context, flip):
    for error in log_det_errors(layer(IAF, dim, context, flip=flip), rng):
        measure(error)


@pytest.mark.equation("flows.maf", "ln |det dz/dx| = -sum ln sigma_i", bound=1e-10)
@SIZES
@pytest.mark.parametrize("flip", [False, True])
def test_the_log_determinant_of_a_maf_layer_is_that_of_its_jacobian(measure, rng, dim, context, flip):
    for error in log_det_errors(layer(MAF, dim, context, flip=flip), rng):
        measure(error)


@pytest.mark.equation("flows.maf", "linear m, constant sigma: x ~ N(mu, L L'), L = (I - A)^-1 diag sigma", bound=1e-10)
def test_a_maf_of_one_affine_layer_is_a_gaussian(measure, rng):
    f = layer(MAF, 3, hidden=())
    last, (w, b) = f.net.layers[-1], (p.data for p in f.net.layers[-1].parameters())
    w[:, 3:] = 0                                                   # ln sigma is a constant
    A = (w * last.mask)[:, :3].T                                   # m(x) = A x + b, A strictly triangular
    L = np.linalg.inv(np.eye(3) - A) @ np.diag(np.exp(bounded(b[3:])))
    mean = np.linalg.solve(np.eye(3) - A, b[:3])
    x = rng.standard_normal((5, 3))
    measure(Flow([f]).log_prob(x).data - stats.multivariate_normal(mean, L @ L.T).logpdf(x))
    measure(np.triu(A))


@pytest.mark.equation("flows.triangular", "ln |det| = 0, and the Jacobian is I + L, with 0 on and above L's diagonal",
                      bound=1e-10)
@SIZES
def test_the_log_determinant_of_a_triangular_layer_is_zero(measure, rng, dim, context):
    f = layer(Triangular, dim, context)
    for error in log_det_errors(f, rng):
        measure(error)
    z, h = points(rng, dim, context, 1)
    J = np.asarray(jacobian(lambda v: f.forward(v.reshape(1, -1), h)[0].reshape(-1))(z[0]))
    L = np.tril(f.numbers(h).data.reshape(dim, dim), -1)
    measure(J - np.eye(dim) - L)
    measure(f.forward(z, h)[1].data)


@pytest.mark.equation("flows.triangular-gaussian", "L of the Cholesky factor C = (I + L) diag sigma: f(z) ~ N(m, C C')",
                      bound=1e-10)
def test_a_triangular_layer_makes_any_gaussian_of_a_diagonal_one(measure, rng):
    A, m = rng.standard_normal((4, 6)), rng.standard_normal(4)
    C = np.linalg.cholesky(A @ A.T)
    sigma = np.diag(C)
    f = Triangular(4).astype(np.float64)
    f.theta.assign((C / sigma - np.eye(4)).reshape(-1))
    mu, x = np.linalg.solve(C / sigma, m), rng.standard_normal((5, 4))
    z, logdet = f.inverse(x)
    log_q = Normal(mu, 2 * np.log(sigma)).log_prob(z).data + logdet.data
    measure(log_q - stats.multivariate_normal(m, A @ A.T).logpdf(x))


@pytest.mark.parametrize("cls", [IAF, MAF])
@pytest.mark.parametrize("flip", [False, True])
def test_flip_turns_the_order_of_an_autoregressive_layer_round(rng, cls, flip):
    f = layer(cls, 3, flip=flip)
    J = np.asarray(jacobian(lambda v: f.forward(v.reshape(1, -1))[0].reshape(-1))(rng.standard_normal(3)))
    later = np.triu(np.ones((3, 3), bool), 1)
    np.testing.assert_allclose(J[later.T if flip else later], 0, atol=1e-14)
    assert (np.abs(J[later if flip else later.T]) > 1e-6).all()


# Inverses and densities

@pytest.mark.equation("flows.inverse", "f^-1(f(z)) = z, and the log-determinants cancel", bound=1e-10)
@ALL
@SIZES
def test_the_inverse_undoes_a_layer_and_its_log_determinant(measure, rng, cls, dim, context):
    flow = Flow([layer(cls, dim, context, seed) for seed in range(3)])
    z, h = points(rng, dim, context, 50)
    x, there = flow.forward(z, h)
    again, back = flow.inverse(x, h)
    measure((again.data - z) / 10)
    measure((there + back).data / 10)
    assert np.abs(x.data - z).max() > 0.1


@pytest.mark.equation("flows.density", "ln q(f(z)) = ln q_0(z) - sum ln |det|", bound=1e-10)
def test_the_density_of_a_mixed_flow_is_the_bases_over_the_determinants(measure, rng):
    flow = Flow([layer(cls, 3, context, seed) for seed, (cls, context) in enumerate(zip(KINDS, [0, 2, 0, 2, 0, 2]))])
    z, h = points(rng, 3, 2, 20)
    x, total = flow.forward(z, h)
    measure(flow.log_prob(x.data, h).data - stats.multivariate_normal(np.zeros(3)).logpdf(z) + total.data)
    one_by_one, v = 0.0, z
    for f in flow.layers:
        v, logdet = f.forward(v, h)
        one_by_one = one_by_one + logdet.data
    measure(total.data - one_by_one)
    measure(x.data - v.data)


@pytest.mark.equation("flows.normalised", "int q(x) dx = 1", bound=1e-6, kind="Q")
@ALL
def test_the_density_of_a_flow_integrates_to_one(measure, cls):
    flow = smooth_flow(cls, cls, cls)
    x, weight = grid(2, 601, 14)
    measure(np.exp(flow.log_prob(x).data).sum() * weight - 1)


@pytest.mark.equation("flows.density", "E over the samples = E under exp(log_prob), by quadrature", bound=5, kind="S")
@ALL
def test_samples_have_the_density(measure, rng, cls):
    flow = smooth_flow(cls, cls, cls)
    x, weight = grid(2, 401, 14)
    q, draws = np.exp(flow.log_prob(x).data) * weight, flow.sample(20_000, rng)
    for f in (lambda v: np.tanh(v[:, 0]), lambda v: np.tanh(v[:, 1]), lambda v: np.cos(v[:, 0] - 2 * v[:, 1])):
        measure(z_score(f(draws), q @ f(x)))


@ALL
def test_a_density_can_be_trained_through_its_inverse(rng, cls):
    flow = smooth_flow(cls, cls)
    gradcheck(flow.log_prob, rng.standard_normal((3, 2)))
    x, h = rng.standard_normal((4, 2)), 1e-6
    flow.log_prob(x).sum().backward()
    p = flow.layers[0].parameters()[0]
    i = np.unravel_index(np.argmax(np.abs(p.grad)), p.shape)
    value, analytic, found = p.data.copy(), p.grad[i], []
    for step in (h, -h):
        moved = value.copy()
        moved[i] += step
        p.assign(moved)
        found.append(flow.log_prob(x).data.sum())
    assert analytic == pytest.approx((found[0] - found[1]) / (2 * h), rel=1e-5)


def test_even_the_second_derivatives_of_the_planar_inverse_are_right(rng):
    flow, h = Flow([layer(Planar, 2)]), 1e-5
    x, e = rng.standard_normal(2), np.eye(2) * h
    f = lambda v: flow.log_prob(v.reshape(1, -1)).sum()
    numeric = np.stack([(jacobian(f)(x + d) - jacobian(f)(x - d)) / (2 * h) for d in e])
    np.testing.assert_allclose(hessian(f)(x), numeric, atol=1e-8)


@pytest.mark.equation("flows.planar", "the kernels and their derivatives = the composed op's", bound=1e-10)
@pytest.mark.parametrize("rows", [(), (5,)])
def test_the_planar_op_is_its_composed_twin(measure, rng, rows):
    z, theta, g = rng.standard_normal((5, 3)), rng.standard_normal((*rows, 7)), rng.standard_normal((5, 4))
    one, other = (value_and_grad(lambda *v, f=f: (f(*v) * g).sum(), (0, 1))(z, theta) for f in (planar, _composed))
    measure(planar(z, theta) - _composed(z, theta))
    measure(one[0] - other[0])
    for mine, its in zip(one[1], other[1]):
        measure(mine - its)


# Invertible whatever the parameters

@pytest.mark.equation("flows.planar-invertible", "w'u = -1 + ln (1 + (e - 1) exp w'u_raw) > -1", bound=1e-10)
def test_a_planar_layer_keeps_above_minus_one(measure, rng):
    f = Planar(3, rng=rng).astype(np.float64)
    for scale in (0.01, 1, 3):
        u, w, b = scale * rng.standard_normal(3), rng.standard_normal(3), 0.3
        f.theta.assign(np.concatenate([u, w, [b]]))
        z = np.stack([-w * b / (w @ w), 50 * w])                   # where a = 0, and where tanh a = 1
        x, logdet = f.forward(z)
        moved = x.data[1] - z[1]                                   # û
        measure(moved @ w - (np.log1p((np.e - 1) * np.exp(w @ u)) - 1))
        measure(np.exp(logdet.data[0]) - 1 - moved @ w)
        measure(np.cross(moved - u, w))                            # only along w does it differ from u
        assert moved @ w > -1


@pytest.mark.parametrize("cls", [Planar, Radial])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_no_parameters_however_wild_make_a_layer_fold(rng, cls, dtype):
    for scale in (0, 1, 30, 1000):
        for _ in range(20):
            f = cls(2, rng=rng).astype(dtype)
            f.theta.assign(scale * rng.standard_normal(f.theta.shape))
            z = rng.standard_normal((50, 2)).astype(dtype)
            x, logdet = f.forward(z)
            (x.sum() + logdet.sum()).backward()
            assert np.isfinite(x.data).all() and not np.isnan(logdet.data).any()
            assert np.isfinite(f.theta.grad).all() or scale > 30
    f.theta.assign(np.zeros(f.theta.shape))                        # w = 0, or z at the centre: still no 0/0
    z = np.zeros((2, 2), dtype)
    for g in (f.forward, f.inverse):
        assert np.isfinite(jacobian(lambda v: g(v)[0])(z)).all() and np.isfinite(g(z)[1].data).all()


def test_a_planar_layer_and_a_radial_one_take_over_what_they_are_given(rng):
    f, z = Planar(2, rng=rng).astype(np.float64), rng.standard_normal((5, 2))
    for u in ([2.0, 1.0], [-0.6, -0.3], [0.0, 0.0]):
        u, w, b = np.array(u), np.array([1.0, 0.5]), 0.2
        f.assign(u, w, b)
        np.testing.assert_allclose(f.forward(z)[0].data, z + np.tanh(z @ w + b)[:, None] * u, atol=1e-12)
    f.assign([1, 2], [0, 0], 0.5)                                  # a shift
    x, logdet = f.forward(z)
    np.testing.assert_allclose(x.data - z, np.tile(np.tanh(0.5) * np.array([1, 2]), (5, 1)))
    np.testing.assert_allclose(logdet.data, 0, atol=1e-12)


@pytest.mark.equation("flows.bounded", "|s| <= 3, s = raw near 0", bound=1e-10)
def test_log_scales_are_bounded_so_that_a_scale_is_neither_zero_nor_infinite(measure):
    raw = np.linspace(-1e3, 1e3, 11)
    measure(np.maximum(np.abs(bounded(raw)) - LIMIT, 0))
    measure((bounded(np.array([1e-5])) - 1e-5) / 1e-5)
    for cls in (Coupling, IAF, MAF):
        f = cls(4, rng=np.random.default_rng(0))
        for p in f.parameters():
            p.assign(1e4 * np.random.default_rng(1).standard_normal(p.shape))
        z = np.ones((3, 4), np.float32)
        assert all(np.isfinite(v.data).all() for g in (f.forward, f.inverse) for v in g(z))


@ALL
def test_a_new_layer_is_the_identity(rng, cls):
    z = rng.standard_normal((5, 3), np.float32)
    for context in (0, 2):
        x, logdet = cls(3, context=context, rng=rng).forward(z, np.ones((5, context), np.float32))
        np.testing.assert_allclose(x.data, z, atol=1e-6)
        np.testing.assert_allclose(logdet.data, 0, atol=1e-6)


@pytest.mark.parametrize("context", [0, 2])
def test_a_flow_is_trained_by_its_likelihood(rng, context):
    x, h = points(rng, 3, context)
    flow = Flow([layer(Coupling, 3, context)])
    loss, terms = flow.loss((x, h) if context else x, rng)
    assert loss.item() == terms["nll"] == pytest.approx(-flow.log_prob(x, h).data.mean(), rel=1e-12)


# The masked network

@pytest.mark.equation("flows.made", "d out_i / d x_j = 0 unless j is before i in the order", bound=1e-10)
@pytest.mark.parametrize("hidden", [(), (7,), (9, 4)])
@pytest.mark.parametrize("context", [0, 2])
def test_a_masked_network_sees_what_is_before_and_nothing_else(measure, rng, hidden, context):
    for order in (None, [2, 0, 3, 1]):
        net = MaskedMLP(4, hidden, 3, context, order=order, rng=rng).astype(np.float64)
        x, h = points(rng, 4, context, 1)
        J = np.asarray(jacobian(lambda v: net(v, h))(x))[0, :, :, 0]                       # (outputs, i, j)
        place = np.arange(4) if order is None else np.array(order)
        before = place[:, None] > place
        measure(J * ~before)
        assert (np.abs(J[:, before]) > 1e-6).all()                 # and all that is before
        if context:
            J = np.asarray(jacobian(lambda v: net(x, v))(h))[0, :, :, 0]
            assert (np.abs(J) > 1e-6).all()                        # the context reaches every output, the first too


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("dim, hidden, context", [(2, (5,), 0), (4, (), 2), (9, (7, 16), 3), (17, (64,), 0),
                                                  (33, (65, 33), 5)], ids=str)
def test_no_bit_of_an_autoregressive_flow_comes_from_what_its_masks_hide(dim, hidden, context, dtype, rng):
    for cls, way in ((IAF, "forward"), (MAF, "inverse")):
        for flip in (False, True):
            flow = cls(dim, hidden, context, flip=flip, rng=rng).astype(dtype)
            for p in flow.parameters():
                p.assign(0.3 * rng.standard_normal(p.shape))
            place = np.arange(dim)[::-1] if flip else np.arange(dim)
            for rows in (1, 2, 7, 64):
                x, h = (rng.standard_normal((rows, n)).astype(dtype) if n else None for n in (dim, context))
                y = getattr(flow, way)(x, h)[0].data
                for i in {0, 1, dim // 2, dim - 1}:
                    for change in (100, 1e30):
                        other = np.where(place >= i, x + dtype(change), x)
                        same = getattr(flow, way)(other, h)[0].data[:, place < i]
                        np.testing.assert_array_equal(same, y[:, place < i])
                        m, s = flow.mean_and_scale(other, h)       # of variable i, too
                        for before, after in zip(flow.mean_and_scale(x, h), (m, s)):
                            np.testing.assert_array_equal(after.data[:, place <= i], before.data[:, place <= i])


def test_a_masked_network_of_one_variable_is_a_constant(rng):
    net = MaskedMLP(1, (5,), rng=rng)
    assert np.ptp(net(rng.standard_normal((6, 1), np.float32)).data) == 0


# Energies

@pytest.mark.equation("flows.energy-kl", "KL in z_0 = KL in z, through the inverse", bound=1e-6, kind="Q")
@pytest.mark.parametrize("name", ["U2", "U3", "U4"])               # U1 has a kink at 0
def test_the_kl_to_an_energy_is_the_same_in_either_space(measure, name):
    U, flow = ENERGIES[name], smooth_flow(Planar, IAF)
    z, weight = grid(2, 601, 14)
    log_p, log_q = -U(z) - np.log(np.exp(-U(z)).sum() * weight), flow.log_prob(z).data
    kl = np.sum(np.exp(log_q) * (log_q - log_p)) * weight
    measure((energy_kl(flow, U) - kl) / kl)


def test_the_energies_are_those_of_the_paper():
    z = np.array([[1.0, 0.5], [-2.0, 3.0]])
    r, w1 = np.linalg.norm(z, axis=1), np.sin(2 * np.pi * z[:, 0] / 4)
    w2, w3 = 3 * np.exp(-0.5 * ((z[:, 0] - 1) / 0.6) ** 2), 3 / (1 + np.exp(-(z[:, 0] - 1) / 0.3))
    bump = lambda v, s: np.exp(-0.5 * (v / s) ** 2)
    paper = {"U1": 0.5 * ((r - 2) / 0.4) ** 2 - np.log(bump(z[:, 0] - 2, 0.6) + bump(z[:, 0] + 2, 0.6)),
             "U2": 0.5 * ((z[:, 1] - w1) / 0.4) ** 2,
             "U3": -np.log(bump(z[:, 1] - w1, 0.35) + bump(z[:, 1] - w1 + w2, 0.35)),
             "U4": -np.log(bump(z[:, 1] - w1, 0.4) + bump(z[:, 1] - w1 + w3, 0.35))}
    for name, energy in ENERGIES.items():
        np.testing.assert_allclose(energy(z), paper[name], rtol=1e-9, err_msg=name)
    assert (ENERGIES["U2"](np.array([[5.0, 1.0]])) - paper["U2"][0] > 1).all()             # the wall


def test_a_few_planar_layers_bend_a_gaussian_towards_an_energy(rng):
    flow = Flow([Planar(2, rng=rng) for _ in range(4)])
    before = energy_kl(flow, ENERGIES["U1"], 101)
    after = energy_kl(fit_energy(flow, ENERGIES["U1"], rng, steps=300, batch=64), ENERGIES["U1"], 101)
    assert 0 < after < 0.3 * before


def test_an_energy_is_turned_up_over_the_first_third_of_the_steps(rng):
    probe, so_far = Tensor(np.zeros(1, np.float32), requires_grad=True), []

    def energy(z):                                                 # whose gradient in the probe is β, and adds up
        so_far.append(0.0 if probe.grad is None else probe.grad.item())
        return probe + 0 * z[:, 0]
    flow = fit_energy(Flow([Planar(2, rng=rng)]), energy, rng, steps=30, batch=4)
    beta = np.diff([*so_far, probe.grad.item()])
    np.testing.assert_allclose(beta, np.minimum(1, 0.01 + np.arange(1, 31) / 10), rtol=1e-4)
    assert flow(rng.standard_normal((500, 2), np.float32))[1].data.mean() > 0.01           # a flat energy: it spreads


# What is refused, and what is kept

class OneWay(Layer):
    def forward(self, z, h=None):
        return z + 1, 0.0


@pytest.mark.parametrize("make, message", [
    (lambda rng: Flow([]), "at least one layer"),
    (lambda rng: Flow([Planar]), "at least one layer"),
    (lambda rng: Flow(Planar(2, rng=rng)), r"at least one layer, in a list, such as .*, not of Planar\(2\)"),
    (lambda rng: Flow([Planar(2, rng=rng), Radial(3, rng=rng)]), r"layers do not match.*Planar\(2\).*Radial\(3\)"),
    (lambda rng: Flow([Planar(2, 3, rng=rng), Radial(2, 4, rng=rng)]), "layers do not match: the context"),
    (lambda rng: Coupling(1, rng=rng), "the dim of a Coupling must be an integer >= 2, not 1"),
    (lambda rng: Planar(0, rng=rng), "dim must be a positive integer, not 0"),
    (lambda rng: Planar(-3, rng=rng), "dim must be a positive integer, not -3"),
    (lambda rng: Radial(2.5, rng=rng), "dim must be a positive integer, not 2.5"),
    (lambda rng: Triangular("3"), "dim must be a positive integer, not '3'"),
    (lambda rng: Radial(2, -1, rng=rng), "context must be an integer >= 0, not -1"),
    (lambda rng: IAF(2, (0,), rng=rng), "a width in hidden must be a positive integer, not 0"),
    (lambda rng: IAF(2, 64, rng=rng), r"hidden must be a tuple of widths, such as \(64,\), not 64"),
    (lambda rng: Coupling(2, 64, rng=rng), "hidden must be a tuple of widths"),
    (lambda rng: MaskedMLP(0, rng=rng), "dim must be a positive integer, not 0"),
    (lambda rng: Planar(2, rng=rng).forward(np.zeros((4, 3), np.float32)),
     r"z \(B, d\) and theta .* not \(4, 3\) and \(5,\)"),
    (lambda rng: Radial(2, 3, rng=rng).forward(np.zeros((4, 2), np.float32)), r"takes a context h \(batch, 3\)"),
    (lambda rng: Coupling(3, context=2, rng=rng).forward(np.zeros((4, 3))), r"Coupling.* takes a context h"),
    (lambda rng: MAF(3, context=2, rng=rng).inverse(np.zeros((4, 3))), r"MAF.* takes a context h \(batch, 2\)"),
    (lambda rng: IAF(3, context=2, rng=rng).forward(np.zeros((4, 3))), r"IAF.* takes a context h \(batch, 2\)"),
    (lambda rng: Flow([Planar(2, rng=rng)]).sample(3, 0), "rng must be a numpy.random.Generator, .* not 0"),
    (lambda rng: MaskedMLP(3, order=[0, 1, 1], rng=rng), "order must be a permutation of 0..2"),
    (lambda rng: Planar(2, rng=0), "rng must be a numpy.random.Generator"),
    (lambda rng: Planar(2, rng=rng).assign([-1, -1], [1, 0.5], 0), "invertible if w'u > -1, and this is -1.5"),
    (lambda rng: Planar(2, rng=rng).assign([np.nan, 1], [1, 1], 0), "u must be finite"),
    (lambda rng: Radial(2, rng=rng).assign([0, 0], 0, 1), "alpha must be a number > 0, not 0"),
    (lambda rng: Radial(2, rng=rng).assign([0, 0], 1, -1.5), "invertible if beta > -alpha = -1, and this is -1.5"),
    (lambda rng: Flow([OneWay(2)]).inverse(np.zeros((3, 2))), "OneWay has no inverse"),
    (lambda rng: Flow([OneWay(2)]).log_prob(np.zeros((3, 2))), "OneWay has no inverse"),
    (lambda rng: Flow([Planar(2, rng=rng)]).forward(np.zeros((3, 4), np.float32)), r"z must have shape \(any, 2\)"),
    (lambda rng: Flow([Planar(2, rng=rng)]).log_prob(np.full((3, 2), np.nan, np.float32)), "z must be finite"),
    (lambda rng: Flow([Planar(2, rng=rng)]).log_prob(np.zeros((3, 2))), "float64 and float32"),
    (lambda rng: Flow([IAF(2, context=3, rng=rng)]).forward(np.zeros((3, 2), np.float32)),
     r"takes a context h \(batch, 3\)"),
    (lambda rng: Flow([IAF(2, rng=rng)]).forward(*np.zeros((2, 3, 2), np.float32)), "takes no context"),
    (lambda rng: Flow([IAF(2, context=2, rng=rng)]).forward(np.zeros((3, 2), np.float32), np.zeros((1, 2), np.float32)),
     "one h for each z: 1 for 3"),
])
def test_what_cannot_be_a_flow_is_refused(rng, make, message):
    with pytest.raises(ValueError, match=message):
        make(rng)


@ALL
def test_a_flow_keeps_float32_and_its_input_and_draws_the_same_again(rng, cls):
    flow = Flow([cls(3, rng=rng), cls(3, rng=rng)])
    z = rng.standard_normal((4, 3), np.float32)
    before = z.copy()
    assert {v.dtype for v in (*flow.forward(z), *flow.inverse(z), flow.log_prob(z))} == {np.dtype(np.float32)}
    np.testing.assert_array_equal(z, before)
    one, other = (flow.sample(5, np.random.default_rng(3)) for _ in range(2))
    assert one.dtype == np.float32 and one.shape == (5, 3) and np.array_equal(one, other)
    fresh = Flow([cls(3, rng=rng), cls(3, rng=rng)])
    fresh.load_state(flow.state())
    np.testing.assert_array_equal(fresh.forward(z)[0].data, flow.forward(z)[0].data)
