"""Rate and distortion against quadrature, and against the linear beta-VAE, whose optimum is reverse water-filling."""
import tracemalloc

import numpy as np
import pytest
from scipy import stats

from minivae.metrics import linear_rate_distortion, rate, rate_distortion
from minivae.vae import VAE, BetaVAE
from minivae.vae.gaps import exact_elbo, surgery

from ..test_cvae import Nodes, cubature
from ..test_distributions import z_score
from ..test_vae import fit_exactly

BETA, NOISE = 2.5, np.exp(-0.5)              # their product, θ = 1.52, is between the second and the third eigenvalue
EIGENVALUES = np.array([4.0, 2.5, 1.2, 0.5])
DATA = 1 + cubature(np.diag(EIGENVALUES)) @ stats.ortho_group.rvs(4, random_state=0)       # with this very covariance


@pytest.fixture
def small(rng):
    """A VAE with two latents on six bits whose codes tell a lot, and data."""
    model = VAE(6, 2, (8,), activation="tanh", rng=rng).astype(np.float64)
    w, b = model.encoder.layers[-1].parameters()
    w.data[:, :2] *= 4
    b.data[2:] = -1.5
    return model, np.unique(rng.random((8, 6)) < 0.5, axis=0).astype(float)


def noiseless(model, term):
    """The mean over z ~ q of what is quadratic in z, `term(nodes)`."""
    return np.mean([term(Nodes(node)) for node in cubature(np.eye(model.latent_dim))])


def train(model):
    """Minimise the model's own loss on DATA, without the noise of sampling; returns R and D at the optimum."""
    nodes = [Nodes(node) for node in cubature(np.eye(model.latent_dim))]
    fit_exactly(model, lambda: sum(model.loss(DATA, node)[0] for node in nodes) / len(nodes))
    return model.encode(DATA).kl().data.mean(), -noiseless(model, lambda node: model.elbo(DATA, node).recon.data.mean())


@pytest.fixture(scope="module")
def optimum():
    """A linear beta-VAE at its optimum, with R and D."""
    model = BetaVAE(4, beta=BETA, latent_dim=3, hidden=(), likelihood="gaussian", variance=NOISE,
                    rng=np.random.default_rng(0)).astype(np.float64)
    return model, *train(model)


@pytest.mark.equation("rate.point", "R + D = -ELBO, of the same draws", bound=1e-10)
@pytest.mark.parametrize("N", [1, 8, 1100])
def test_rate_and_distortion_sum_to_the_loss(measure, small, N):
    model, x = small
    x = np.resize(x, (N, 6))
    point = rate_distortion(model, x, np.random.default_rng(5))
    elbo = model.elbo(x, np.random.default_rng(5))
    measure(point.rate / elbo.kl.data.mean() - 1)
    measure(point.distortion / -elbo.recon.data.mean() - 1)


@pytest.mark.equation("rate.parts", "R = I + TC + sum_j KL(qbar_j || p_j)", bound=1e-10)
def test_the_parts_of_the_rate_sum_to_it(measure, small, rng):
    point = rate_distortion(*small, rng)
    measure((point.mutual_information + point.total_correlation + point.dimension_kl.sum()) / point.rate - 1)
    assert point.dimension_kl.shape == (2,) and all(isinstance(v, float) for v in point[:4])


@pytest.mark.equation("rate.estimator", "of the N examples, the estimates of I, TC and KL(qbar_j || p_j) are unbiased",
                      bound=5, kind="S")
def test_the_parts_are_on_average_those_of_quadrature(measure, small, rng):
    model, x = small
    exact = surgery(model.encode(x))
    points = [rate_distortion(model, x, rng) for _ in range(500)]
    assert exact.total_correlation > 0.01
    measure(z_score([p.mutual_information for p in points], exact.mutual_information))
    measure(z_score([p.total_correlation for p in points], exact.total_correlation))
    measure(z_score([p.dimension_kl for p in points], exact.dimension_kl))
    assert points[0].rate == pytest.approx(exact.mean_kl, rel=1e-12)


def test_few_examples_show_too_little_information_and_too_much_of_the_rest(rng):
    model = VAE(2, 2, (), likelihood="gaussian", rng=rng).astype(np.float64)
    w, b = model.encoder.layers[0].parameters()
    w.assign(np.concatenate([np.eye(2), np.zeros((2, 2))], axis=1))
    b.assign([0, 0, -2, -2])                                       # z = x + e^-1 noise: both latents N(0, 1 + e^-2)
    information, spread = np.log1p(np.exp(2)), 1 + np.exp(-2)
    off = []
    for N in (4, 16, 64):
        points = [rate_distortion(model, rng.standard_normal((N, 2)), rng) for _ in range(200)]
        assert max(p.mutual_information for p in points) <= np.log(N) + 1e-12
        off.append(np.mean([p.mutual_information for p in points]) - information)
        assert z_score([p.mutual_information for p in points], information) < -5
        assert z_score([p.total_correlation for p in points], 0) > 5
        assert (z_score([p.dimension_kl for p in points], 0.5 * (spread - 1 - np.log(spread))) > 3).all()
    assert off[0] < 2 * off[1] < 4 * off[2] < 0


def test_information_is_all_of_ln_n_for_sharp_codes_and_nothing_for_collapsed_ones(rng):
    model = VAE(2, 2, (), likelihood="gaussian", rng=rng)
    w, b = model.encoder.layers[0].parameters()
    x = rng.standard_normal((50, 2)).astype(np.float32)
    w.assign(np.zeros((2, 4)))
    b.assign(np.zeros(4))
    np.testing.assert_allclose(rate_distortion(model, x, rng)[2:4], 0, atol=1e-12)
    w.data[[0, 1], [0, 1]] = 1
    b.data[2:] = -30
    point = rate_distortion(model, x, rng)
    np.testing.assert_allclose(point.mutual_information, np.log(50), rtol=1e-6)
    np.testing.assert_allclose(point.total_correlation, np.log(50), rtol=1e-4)       # each latent alone says which x
    assert rate_distortion(model, x[:1], rng).mutual_information == 0


def test_how_the_pairs_are_cut_up_changes_nothing_but_the_memory(small, monkeypatch):
    model, x = small
    x = np.resize(x, (1500, 6))
    whole = rate_distortion(model, x, np.random.default_rng(0))
    monkeypatch.setattr(rate, "PAIRS", 2 ** 16)
    tracemalloc.start()
    cut = rate_distortion(model, x, np.random.default_rng(0))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    np.testing.assert_allclose(np.hstack(cut), np.hstack(whole), rtol=1e-12, atol=1e-12)
    assert peak < 8 * 1500 ** 2                                    # less than one matrix of all pairs


@pytest.mark.equation("beta.water-filling", "theta = beta s^2: |w_i|^2 = (lambda_i - theta)+, R = 1/2 sum (ln "
                      "lambda_i/theta)+, S = sum min(lambda_i, theta)", bound=1e-6, kind="O")
def test_the_linear_beta_vae_is_reverse_water_filling(measure, optimum):
    model, R, D = optimum
    curve = linear_rate_distortion(EIGENVALUES, BETA, NOISE)
    power = np.sort(np.linalg.svd(model.decoder.layers[0].w.data, compute_uv=False) ** 2)[::-1]
    measure(power - np.maximum(EIGENVALUES[:3] - BETA * NOISE, 0))
    squared_error = noiseless(model, lambda node: np.mean(np.sum(
        (DATA - model.decode(model.encode(DATA).rsample(node)).mean.data) ** 2, axis=1)))
    measure([R - curve.rate, D - curve.distortion, squared_error - curve.squared_error])
    assert curve.active == 2 == np.sum(power > 1e-3)


@pytest.mark.equation("rate.linear", "D = S / 2s^2 + n/2 ln 2 pi s^2, and min R + D/beta is where the curve says",
                      bound=1e-10)
def test_the_linear_curve_is_the_minimum_over_decoders_and_encoders(measure):
    theta = BETA * NOISE
    w2 = np.maximum(EIGENVALUES - theta, 0)
    a, v = np.sqrt(w2) / (w2 + theta), theta / (w2 + theta)        # q(z | x) = N(a x, v), the best for each w
    S = np.sum(EIGENVALUES * (1 - a * np.sqrt(w2)) ** 2 + w2 * v)
    curve = linear_rate_distortion(EIGENVALUES, BETA, NOISE)
    measure(curve.squared_error / S - 1)
    measure(curve.rate / (0.5 * np.sum(a * a * EIGENVALUES + v - 1 - np.log(v))) - 1)
    measure(curve.distortion / (S / (2 * NOISE) + 2 * np.log(2 * np.pi * NOISE)) - 1)


@pytest.mark.equation("beta.slope", "dD/dR = -beta along the analytic curve", bound=1e-6, kind="G")
@pytest.mark.parametrize("beta", [0.3, 1.0, 2.5, 6.0])
def test_the_slope_of_the_linear_curve_is_minus_beta(measure, beta):
    R, D, S, active = linear_rate_distortion(EIGENVALUES, beta * np.array([1 - 1e-4, 1 + 1e-4]), NOISE)
    measure(np.diff(D) / np.diff(R) / -beta - 1)
    assert R.shape == D.shape == S.shape == active.shape == (2,)


@pytest.mark.equation("beta.slope", "dD/dR = -beta from optimum to optimum of the linear model", bound=1e-6, kind="O")
def test_the_slope_between_optima_is_minus_beta(measure, optimum):
    model, ends = optimum[0], []
    try:
        for model.beta in (BETA * (1 - 3e-4), BETA * (1 + 3e-4)):
            ends.append(train(model))
    finally:
        model.beta = BETA
    (R, D), (S, E) = ends
    assert S < R and E > D
    measure((E - D) / (S - R) / -BETA - 1)


@pytest.mark.equation("beta.bounds", "R >= I_q(x; z), R + D >= H(x), by quadrature", bound=1e-8, kind="Q")
@pytest.mark.parametrize("scale", [0.0, 0.5, 1.0])
def test_the_rate_bounds_the_information_and_with_the_distortion_the_entropy(measure, small, scale):
    model, x = small
    for p in model.parameters():
        p.assign(scale * p.data)
    q = model.encode(x)
    parts, loss = surgery(q), -exact_elbo(model, x, q, nodes=161).data.mean()
    measure(max(0, parts.mutual_information - parts.mean_kl))
    measure(max(0, np.log(len(x)) - loss))                         # H of so many different and equally likely x
    assert loss > np.log(len(x)) + 0.1 and (parts.mean_kl > parts.mutual_information + 0.01) == (scale > 0)


@pytest.mark.equation("beta.bounds", "where qbar = p, R = I; at beta = 1, R + D = H if p(x) is the data's", bound=1e-6,
                      kind="O")
def test_both_bounds_are_met_by_the_linear_model(measure, optimum):
    model = optimum[0]
    q = model.encode(DATA)
    measure(np.cov(q.mu.data.T, ddof=0) + np.diag(np.exp(q.logvar.data).mean(axis=0)) - np.eye(3))
    measure(q.mu.data.mean(axis=0))
    full = np.array([4.0, 2.5, NOISE, NOISE])
    point = linear_rate_distortion(full, 1.0, NOISE)
    measure(point.rate + point.distortion - 0.5 * np.sum(np.log(2 * np.pi * np.e * full)))


def test_float32_models_are_measured_in_float64(rng):
    x = rng.random((20, 6), np.float32)
    point = rate_distortion(VAE(6, 2, (4,), rng=rng), x, rng)
    assert point.dimension_kl.dtype == np.float64
    np.testing.assert_allclose(sum(point[2:4]) + point.dimension_kl.sum(), point.rate, rtol=1e-12)


@pytest.mark.parametrize("x, message", [
    (np.zeros((0, 6), np.float32), "at least one row"), (np.zeros(6, np.float32), r"not of shape \(6,\)"),
    (None, r"shape \(\)"), (np.zeros((2, 5), np.float32), "shape"), (np.full((2, 6), np.nan, np.float32), "finite")])
def test_bad_data_is_refused(rng, x, message):
    with pytest.raises(ValueError, match=message):
        rate_distortion(VAE(6, 2, (4,), rng=rng), x, rng)


def test_a_broken_model_is_refused_and_so_is_a_seed(rng):
    model, x = VAE(6, 2, (4,), rng=rng), np.zeros((3, 6), np.float32)
    with pytest.raises(ValueError, match="rng must be a numpy.random.Generator"):
        rate_distortion(model, x, 0)
    model.encoder.layers[-1].b.data[2:] = 1000
    with np.errstate(all="ignore"), pytest.raises(ValueError, match="not finite"):
        rate_distortion(model, x, rng)


@pytest.mark.parametrize("change, message", [
    ({"beta": 0}, "beta must be positive, not 0"), ({"beta": -1.0}, "beta must be positive"),
    ({"beta": np.nan}, "beta must be positive"), ({"beta": [1, 0]}, "beta must be positive"),
    ({"s2": 0}, "s2, the variance of the noise, must be a number > 0, not 0"), ({"s2": "learned"}, "s2"),
    ({"eigenvalues": [1, -1]}, "eigenvalues must be"), ({"eigenvalues": [[1.0]]}, "eigenvalues must be"),
    ({"eigenvalues": [np.inf]}, "eigenvalues must be"), ({"eigenvalues": []}, "eigenvalues must be"),
    ({"eigenvalues": 1.0}, "eigenvalues must be")])
def test_bad_arguments_of_the_linear_curve_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        linear_rate_distortion(**{"eigenvalues": EIGENVALUES, "beta": 1.0, "s2": 1.0} | change)
