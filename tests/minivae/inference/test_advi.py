"""Transforms against autograd's Jacobians, fits against closed forms and against Hamiltonian Monte Carlo."""
import pickle
import warnings

import numpy as np
import pytest
from scipy import stats

from autograd import Tensor, grad, jacobian, ops
from minivae.inference import advi, cavi_gaussian, hmc
from minivae.inference.advi import Approximation, _change, elbo
from minivae.inference.transforms import TRANSFORMS, Space

from ..test_distributions import z_score

M, PRECISION = np.array([1.0, -2.0, 0.5]), np.array([[2.0, 0.5, -0.2], [0.5, 1.0, 0.2], [-0.2, 0.2, 0.5]])
FAMILIES = ["mean-field", "full-rank"]


def gaussian(z):
    """ln N(z; M, PRECISION^-1) and a constant."""
    e = z - M
    return -0.5 * ops.sum(e @ PRECISION * e, axis=1)


def omega(rng, family):
    return 0.3 * rng.standard_normal(3 if family == "mean-field" else (3, 3)) - 0.5


# Constraints ------------------------------------------------------------------------------------------------------
@pytest.mark.equation("constraints.jacobian", "ln |det dT/dz| = slogdet of autograd's Jacobian", bound=1e-10)
@pytest.mark.parametrize("kind", ["real", "positive", "softplus", "unit"])
def test_log_jacobians_are_autograds(measure, rng, kind):
    space, z = Space({"x": (4, kind)}), 3 * rng.standard_normal((1, 4))
    j = jacobian(lambda z: space.constrain(z)[0]["x"])(z)[0, :, 0]
    measure(space.constrain(z)[1] - np.linalg.slogdet(j)[1])


@pytest.mark.equation("constraints.simplex", "ln |det d theta_(1..K-1) / dz|; sum theta = 1; z = 0 is the middle",
                      bound=1e-10)
@pytest.mark.parametrize("k", [2, 5])
def test_the_simplex_is_covered_with_the_right_jacobian(measure, rng, k):
    space, z = Space({"x": (k, "simplex")}), 2 * rng.standard_normal((1, k - 1))
    x, log_det = space.constrain(z)
    measure(x["x"].sum() - 1)
    assert (x["x"] > 0).all()
    j = jacobian(lambda z: space.constrain(z)[0]["x"])(z)[0, :-1, 0]
    measure(log_det - np.linalg.slogdet(j)[1])
    measure(space.constrain(0 * z)[0]["x"] - 1 / k)


@pytest.mark.equation("constraints.density", "T^-1(T(z)) = z", bound=1e-10)
@pytest.mark.parametrize("kind", TRANSFORMS)
def test_every_transform_is_undone_by_its_inverse(measure, rng, kind):
    space = Space({"a": ((2, 3), kind), "b": 2})
    z = 2 * rng.standard_normal((5, space.dim))
    measure(space.unconstrain(space.constrain(z)[0]) - z)
    z = z[0]
    measure(space.unconstrain(space.constrain(z)[0]) - z)


@pytest.mark.equation("constraints.density", "int p(T(z)) |det dT/dz| dz = 1", bound=1e-8, kind="Q")
@pytest.mark.parametrize("kind, p", [("real", stats.norm(0.3, 2)), ("positive", stats.gamma(2.5)),
                                     ("softplus", stats.gamma(2.5)), ("unit", stats.beta(2, 3))])
def test_a_density_remains_one_without_its_constraint(measure, kind, p):
    z, step = np.linspace(-40, 60, 20_001, retstep=True)
    log_p = Space({"x": kind}).density(lambda x: p.logpdf(np.clip(x, 1e-300, 1 - 1e-16) if kind == "unit" else x))
    measure(np.exp(log_p(z[:, None])).sum() * step - 1)


def test_parameters_have_names_shapes_and_places():
    space = Space({"w": 3, "r": ((2, 2), "unit"), "sigma": "positive", "pi": (4, "simplex"), "m": ()})
    x, log_det = space.constrain(np.zeros((7, space.dim)))
    assert space.dim == 3 + 4 + 1 + 3 + 1 and log_det.shape == (7,)
    assert {n: v.shape for n, v in x.items()} == {"w": (7, 3), "r": (7, 2, 2), "sigma": (7,), "pi": (7, 4), "m": (7,)}
    for d in 3, np.int64(3):
        assert Space(d).constrain(np.ones((7, 3)))[0].shape == (7, 3)
    assert Space({"w": np.int64(3), "r": (np.int64(2), 2)}).dim == 7


# The Gaussian q ---------------------------------------------------------------------------------------------------
@pytest.mark.equation("advi.elbo", "H[q] = 1/2 d ln 2 pi e + sum omega; ln q(z), q = N(mu, L L')", bound=1e-10)
@pytest.mark.parametrize("family", FAMILIES)
def test_q_is_a_gaussian(measure, rng, family):
    q = Approximation(M, omega(rng, family))
    p = stats.multivariate_normal(M, q.factor @ q.factor.T)
    z = rng.standard_normal((6, 3))
    measure(q.log_prob(z) - p.logpdf(z))
    measure(q.entropy() - p.entropy())
    measure(q.at(z) - M - z @ q.factor.T)
    assert family == "full-rank" or np.count_nonzero(q.factor) == 3
    assert np.count_nonzero(np.triu(q.factor, 1)) == 0


def exact_elbo(mu, omega):
    """E_q ln p + H[q] for the Gaussian p, up to a constant."""
    q, e = Approximation(mu, omega), mu - M
    return -0.5 * (e @ PRECISION @ e + ops.sum(q.factor * (PRECISION @ q.factor))) + q.entropy()


@pytest.mark.equation("advi.gradient", "E grad [ln p(z) - ln q_held(z)] = grad (E_q ln p + H[q])", bound=5, kind="S")
@pytest.mark.parametrize("family", FAMILIES)
def test_the_gradient_with_q_held_fixed_is_that_of_the_elbo(measure, rng, family):
    mu, w = M + 0.3, omega(rng, family)
    eps = rng.standard_normal((1500, 1, 3))
    for i in 0, 1:
        samples = [grad(lambda mu, w: elbo(gaussian, mu, w, e), i)(mu, w) for e in eps]
        error, spread = np.mean(samples, axis=0) - grad(exact_elbo, i)(mu, w), np.std(samples, axis=0)
        measure(error[spread > 0] / (spread[spread > 0] / 1500 ** 0.5))
        assert (error[spread == 0] == 0).all()                     # above the diagonal


@pytest.mark.equation("advi.elbo", "the mean of ln p - ln q over draws is E_q ln p + H[q]", bound=5, kind="S")
@pytest.mark.parametrize("family", FAMILIES)
def test_the_estimate_averages_the_elbo(measure, rng, family):
    mu, w = M + 0.3, omega(rng, family)
    values = [elbo(gaussian, mu, w, eps) for eps in rng.standard_normal((4000, 2, 3))]
    measure(z_score(values, exact_elbo(mu, w)))


@pytest.mark.equation("advi.gradient", "at q = p the gradient is 0 draw for draw", bound=1e-10)
def test_the_gradient_has_no_variance_at_the_posterior(measure, rng):
    factor = np.linalg.cholesky(np.linalg.inv(PRECISION))
    w = np.tril(factor, -1) + np.diag(np.log(np.diag(factor)))
    for i in 0, 1:
        measure(grad(lambda mu, w: elbo(gaussian, mu, w, rng.standard_normal((3, 3))), i)(M, w))


# Fits -------------------------------------------------------------------------------------------------------------
@pytest.mark.equation("advi.full-rank", "q of N(m, C) is N(m, C), and the ELBO its constant", bound=1e-3, kind="O")
def test_full_rank_finds_a_gaussian(measure, rng):
    fit = advi(gaussian, 3, rng=rng, family="full-rank")
    cov = np.linalg.inv(PRECISION)
    measure(fit.mean - M)
    measure(fit.covariance - cov)
    measure(fit.elbo_trace_[-100:].mean() - 0.5 * np.linalg.slogdet(2 * np.pi * cov)[1])
    assert fit.pareto_k < 0.5 and fit.elbo_change < 1e-3


@pytest.mark.equation("advi.mean-field", "q of N(m, Lambda^-1) is where coordinate ascent ends: mean m, variances "
                      "1 / Lambda_ii", bound=1e-3, kind="O")
def test_mean_field_finds_the_fixed_point_of_coordinate_ascent(measure, rng):
    fit, fixed = advi(gaussian, 3, rng=rng, samples=4000, steps=1500), cavi_gaussian(M, PRECISION)
    for mean, variance in ((M, 1 / np.diag(PRECISION)), fixed[:2]):
        measure(fit.mean - mean)
        measure(np.diag(fit.covariance) / variance - 1)
    assert np.count_nonzero(fit.covariance) == 3


@pytest.mark.parametrize("family", FAMILIES)
def test_a_posterior_far_narrower_than_the_start_is_reached(rng, family):
    """The first gradients are 10,000 times those near the optimum: an optimizer must not remember them for long."""
    fit = advi(lambda z: -0.5 * ops.sum(ops.square((z - 0.3) / 0.01), axis=1), 2, rng=rng, family=family)
    np.testing.assert_allclose(fit.mean, 0.3, atol=1e-4)
    np.testing.assert_allclose(fit.covariance, 1e-4 * np.eye(2), atol=1e-6)
    assert fit.elbo_change < 0.05


@pytest.mark.parametrize("kind, middle", [("positive", 1.0), ("unit", 0.5)])
def test_a_gaussian_behind_a_transform_is_found_exactly(rng, kind, middle):
    """ln p(theta) = ln N(T^-1(theta); 0.7, 0.5^2) - ln |dT/dz|: the evidence is 1."""
    def log_joint(x):
        z, log_det = (ops.log(x), ops.log(x)) if kind == "positive" else (ops.log(x / (1 - x)), ops.log(x * (1 - x)))
        return -2 * ops.square(z - 0.7) - 0.5 * np.log(2 * np.pi * 0.25) - log_det
    fit = advi(log_joint, {"x": kind}, rng=rng, start={"x": middle})
    np.testing.assert_allclose([*fit.mean, *fit.covariance.ravel()], [0.7, 0.25], rtol=1e-3)
    assert abs(fit.elbo_trace_[-100:].mean()) < 1e-3
    x = fit.sample(2000, rng)["x"]
    assert x.shape == (2000,) and (x > 0).all() and (kind == "positive" or (x < 1).all())
    z = np.log(x) if kind == "positive" else np.log(x / (1 - x))
    assert abs(z_score(z, 0.7)) < 5 and abs(z_score((z - 0.7) ** 2, 0.25)) < 5


def test_a_posterior_on_the_simplex_is_near_the_dirichlet(rng):
    counts = np.array([30.0, 12.0, 5.0])
    fit = advi(lambda pi: ops.sum(counts * ops.log(pi), axis=1), {"pi": (3, "simplex")}, rng=rng, family="full-rank")
    pi, exact = fit.sample(20_000, rng)["pi"], stats.dirichlet(counts + 1)
    np.testing.assert_allclose(pi.mean(axis=0), exact.mean(), atol=0.005)
    np.testing.assert_allclose(pi.std(axis=0), exact.var() ** 0.5, rtol=0.05)
    assert fit.pareto_k < 0.7


def test_logistic_regression_by_advi_is_that_by_hamiltonian_monte_carlo(rng):
    x = rng.standard_normal((200, 4)) @ np.array([[1, 0.8, 0, 0], [0, 0.6, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]])
    sign = np.where(rng.random(200) < 1 / (1 + np.exp(-x @ [1.0, -1.0, 0.5, 0.0])), 1.0, -1.0)

    def log_joint(w):
        return -ops.sum(ops.softplus(-(w @ x.T) * sign), axis=1) - 0.5 * ops.sum(w * w, axis=1)
    exact = hmc(log_joint, {"w": 4}, rng=rng, draws=800, warmup=300).samples["w"].reshape(-1, 4)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")                            # mean field may well say that it fails here
        narrow, full = (advi(log_joint, {"w": 4}, rng=rng, family=family) for family in FAMILIES)
    spread = exact.std(axis=0)
    assert full.pareto_k < 0.7 and full.pareto_k < narrow.pareto_k
    for fit in narrow, full:
        assert (np.abs(fit.mean - exact.mean(axis=0)) < 0.1 * spread).all()
    np.testing.assert_allclose(full.covariance, np.cov(exact.T), atol=0.1 * spread.max() ** 2)
    assert (np.diag(narrow.covariance)[:2] ** 0.5 < 0.75 * spread[:2]).all()               # correlation: too sure


# Manners ----------------------------------------------------------------------------------------------------------
def test_a_fit_that_is_not_to_be_trusted_says_so(rng):
    with pytest.warns(RuntimeWarning, match="Pareto k = "):       # a Gaussian for a Cauchy
        fit = advi(lambda z: -ops.sum(ops.log(1 + z * z), axis=1), 2, rng=rng, steps=1000)
    assert fit.pareto_k > 0.7 and fit.elbo_change < max(0.05, 4 * fit.elbo_error)


def test_a_fit_that_has_not_converged_says_so_whatever_the_constant(rng):
    changes = []
    for constant in 0, 1e6:
        with pytest.warns(RuntimeWarning, match="the ELBO still changes by .* nats"):
            fit = advi(lambda z: constant - 5000 * ops.square(z[:, 0]), 1, rng=np.random.default_rng(1), steps=100,
                       samples=10_000, lr=0.02)
        changes.append([fit.elbo_change, fit.elbo_error])
        assert fit.elbo_change > 0.05 and fit.pareto_k < 0         # q is too wide, of which k says nothing
    np.testing.assert_allclose(*changes, rtol=1e-6)
    with pytest.warns(RuntimeWarning, match="changes by inf nats"):
        advi(gaussian, 3, rng=rng, steps=7)                        # too short to tell


def test_noise_in_the_elbo_is_no_alarm():
    """ELBOs near 0, whose tenths differ by 1.6 % of a nat with two dimensions, and by 0.08 nats with 30."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        few, many = (advi(lambda z: -ops.sum(z ** 4, axis=1), d, rng=np.random.default_rng(seed))
                     for d, seed in ((2, 0), (30, 1)))
    assert few.elbo_change > 0.01 and many.elbo_change > 0.05


def test_the_error_of_the_change_is_the_spread_of_the_changes(rng):
    changes, errors = np.transpose([_change(trace) for trace in rng.standard_normal((4000, 200))])
    assert abs(z_score(changes ** 2, 2 / 20)) < 5 and abs(z_score(errors ** 2, 2 / 20)) < 5


def test_a_fit_can_be_stored(rng):
    log_joint = lambda w, s: -ops.sum(w * w, axis=1) - ops.square(ops.log(s)) - ops.log(s)
    fit = advi(log_joint, {"w": 2, "s": "positive"}, rng=rng, steps=500)
    kept = pickle.loads(pickle.dumps(fit))
    for name, draws in fit.sample(5, np.random.default_rng(3)).items():
        np.testing.assert_array_equal(kept.sample(5, np.random.default_rng(3))[name], draws)


def test_a_good_fit_is_silent_and_tells_who_asks(rng, capsys):
    seen = []
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit = advi(gaussian, 3, rng=rng, family="full-rank", steps=500, on_step=lambda t, elbo: seen.append((t, elbo)))
    assert capsys.readouterr() == ("", "")
    assert [t for t, _ in seen] == list(range(1, 501)) and [e for _, e in seen] == fit.elbo_trace_.tolist()


def test_a_fit_is_a_matter_of_the_generator_and_begins_where_it_is_told(rng):
    def run(**options):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return advi(gaussian, 3, rng=np.random.default_rng(2), steps=30, **options).mean
    np.testing.assert_array_equal(run(), run())
    assert np.abs(run(start=M) - M).max() < np.abs(run() - M).max()


@pytest.mark.parametrize("log_joint, options, message", [
    (lambda z: ops.sum(z), {}, r"shape \(1,\) for 1 draws, not \(\)"),
    (lambda z: ops.sum(z, axis=0), {}, r"not \(3,\)"),
    (lambda z: None, {}, "must return a Tensor, not NoneType"),
    (lambda z: Tensor(np.zeros(len(z))), {}, "constant"),
    (lambda z: ops.sum(z * np.nan, axis=1), {}, "log_joint is nan at the start"),
    (lambda z: ops.sum(ops.log(ops.relu(z)), axis=1), {}, "log_joint is -inf at the start"),
    (lambda z: ops.sum(ops.log(ops.relu(z)), axis=1), dict(start=np.ones(3)), "log_joint is -inf at a draw of q"),
    (gaussian, dict(family="lowrank"), "family must be one of 'mean-field', 'full-rank', not 'lowrank'"),
    (gaussian, dict(samples=0), "samples must be a positive integer, not 0"),
    (gaussian, dict(steps=0), "steps must be"),
    (gaussian, dict(lr=-1), "lr must be a number > 0, not -1"),
    (gaussian, dict(lr="x"), "lr must be a number > 0, not 'x'"),
    (gaussian, dict(rng=1), "rng must be"),
    (gaussian, dict(start=np.zeros((2, 3))), r"start must be one draw, not \(2,\) of them"),
    (gaussian, dict(start=np.zeros(4)), r"z has shape \(4,\), which does not end in \(3,\)")])
def test_bad_input_is_refused(rng, log_joint, options, message):
    with np.errstate(all="ignore"), pytest.raises(ValueError, match=message):
        advi(log_joint, 3, **dict(rng=rng) | options)


@pytest.mark.parametrize("parameters, message", [
    (0, "parameters, unless a dict of some, must be a positive integer, not 0"), ({}, "not {}"), (2.5, "not 2.5"),
    (True, "not True"), ({"w": (2, 0)}, "each length in the shape of w must be a positive integer, not 0"),
    ({"w": -1}, "not -1"), ({"w": (True, 2)}, "not True"),
    ({"w": (3, "cube")}, "of w must be one of 'real', 'positive', 'softplus', 'unit', 'simplex', not 'cube'"),
    ({"w": "simplex"}, "w: a simplex needs a last axis of at least 2"), ({"w": (1, "simplex")}, "at least 2")])
def test_parameters_that_are_none_are_refused(parameters, message):
    with pytest.raises(ValueError, match=message):
        Space(parameters)


@pytest.mark.parametrize("kind, bad", [("positive", 0.0), ("softplus", -1.0), ("unit", 1.0), ("real", np.nan),
                                       ("simplex", 0.5), ("positive", np.inf)])
def test_a_start_where_the_density_is_zero_is_refused(kind, bad):
    with pytest.raises(ValueError, match="x must be .* the density there is 0"):
        Space({"x": (3, kind)}).unconstrain({"x": np.full(3, bad)})
    with pytest.raises(ValueError, match="needs a dict of x"):
        Space({"x": (3, kind)}).unconstrain({"y": np.full(3, bad)})


def test_draws_are_counted_and_come_from_a_generator(rng):
    fit = advi(gaussian, 3, rng=rng, family="full-rank", steps=500)
    for n in (0, 2.5, True):
        with pytest.raises(ValueError, match=f"n must be a positive integer, not {n}"):
            fit.sample(n, rng)
    with pytest.raises(ValueError, match="rng must be a numpy.random.Generator, .* not 0"):
        fit.sample(5, 0)
