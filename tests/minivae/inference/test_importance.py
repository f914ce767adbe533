"""Importance-weighted bounds on models whose evidence and posterior are known."""
import warnings

import numpy as np
import pytest
from scipy import special, stats

from autograd import Tensor, grad, ops
from minivae import plots
from minivae.distributions import Normal
from minivae.inference.importance import ESTIMATORS, importance_bound, iw_elbo, log_weights, model_log_joint, snr
from minivae.vae import VAE

from ..test_distributions import z_score

D, MU, X = 3, np.array([0.5, -1.0, 0.2]), np.array([1.0, 0.3, -0.7])   # p(z) = N(MU, I), p(x | z) = N(z, I)
EVIDENCE = stats.norm(MU, 2 ** 0.5).logpdf(X).sum()
POSTERIOR = (X + MU) / 2, np.full(D, np.log(0.5))


def leaf(value, n):
    return Tensor(np.tile(value, (n, 1)), requires_grad=True)


def log_joint(z, mu=MU):
    return Normal(mu, np.zeros(1)).log_prob(z) + Normal(z, np.zeros(1)).log_prob(X)


def log_w(k, n, rng, offset=0.3, logvar=np.log(2 / 3)):
    """Log weights (k, n) of a q that is off the posterior by `offset`, and wider."""
    return log_weights(log_joint, Normal(np.tile(POSTERIOR[0] + offset, (n, 1)), np.full(D, logvar)), k, rng)


def gradients(estimator, k, n, seed=0, offset=0.3, logvar=np.log(2 / 3)):
    """n estimates of the gradient in the mean and logvar of q and in mu: (n, D) each."""
    mean, v, mu = leaf(POSTERIOR[0] + offset, n), leaf(np.full(D, logvar), n), leaf(MU, n)
    w = log_weights(lambda z: log_joint(z, mu), Normal(mean, v), k, np.random.default_rng(seed), estimator)
    importance_bound(w).sum().backward()
    return mean.grad, v.grad, mu.grad


@pytest.fixture
def model(rng):
    model = VAE(6, 2, (8,), activation="tanh", rng=rng).astype(np.float64)
    for p in model.decoder.parameters():
        p.assign(3 * p.data)                                       # a posterior far from q, so that weights differ
    return model, (rng.random((5, 6)) < 0.5).astype(float)


@pytest.mark.equation("importance.bound", "one sample of L_k = ln 1/k sum_i w_i", bound=1e-10)
@pytest.mark.parametrize("shift", [0.0, 2000.0, -2000.0])
def test_the_bound_is_the_logarithm_of_the_mean_weight(measure, rng, shift):
    log_w = rng.standard_normal((7, 4))
    truth = np.log(np.mean(np.exp(log_w), axis=0)) + shift
    for w in (log_w + shift, Tensor(log_w + shift)):
        bound = importance_bound(w)
        measure((np.asarray(bound) - truth) / max(1, abs(shift)))
        assert type(bound) is type(w)
    np.testing.assert_array_equal(importance_bound(log_w[:1]), log_w[0])


@pytest.mark.equation("importance.bound", "w_i = p(x, z_i) / q(z_i | x)", bound=1e-10)
def test_the_bound_of_a_model_is_that_of_weights_computed_by_hand(measure, model):
    model, x = model
    q, k = model.encode(x), 9
    found = iw_elbo(model, x, k, np.random.default_rng(3))
    mu, sigma = q.mu.data, np.exp(q.logvar.data / 2)
    z = mu + sigma * np.random.default_rng(3).standard_normal((k, 5, 2))
    for n in range(5):
        bit = special.expit(model.decode(z[:, n]).logits.data)
        log_p = stats.bernoulli(bit).logpmf(x[n]).sum(-1) + stats.norm.logpdf(z[:, n]).sum(-1)
        log_w = log_p - stats.norm(mu[n], sigma[n]).logpdf(z[:, n]).sum(-1)
        measure(found.data[n] - special.logsumexp(log_w) + np.log(k))


@pytest.mark.equation("importance.bound", "mean_j ln 1/k sum_{i != j} w_i <= ln 1/(k+1) sum_i w_i, so L_k <= L_{k+1}",
                      bound=1e-12)
@pytest.mark.parametrize("k", [1, 2, 5, 30])
def test_one_more_sample_never_lowers_the_bound(measure, rng, k):
    w = log_w(k + 1, 1000, rng)
    without_one = np.mean([importance_bound(np.delete(w, j, axis=0)) for j in range(k + 1)], axis=0)
    rise = importance_bound(w) - without_one
    measure(np.maximum(-rise, 0))
    assert rise.mean() > 1e-5                                      # Jensen's inequality is strict if weights differ


@pytest.mark.equation("importance.bound", "L_1 = ln p(x) - KL(q || p(z|x)), and E exp(bound) = p(x) for every k",
                      bound=5, kind="S")
def test_the_bound_goes_from_the_elbo_to_the_evidence(measure, rng):
    bounds = {k: importance_bound(log_w(k, 40_000, rng)) for k in (1, 4, 16, 64)}
    q = Normal(POSTERIOR[0] + 0.3, np.full(D, np.log(2 / 3)))
    measure(z_score(bounds[1], EVIDENCE - q.kl(Normal(*POSTERIOR))))
    for bound in bounds.values():
        measure(z_score(np.exp(bound - EVIDENCE), 1.0))
    means = [bound.mean() for bound in bounds.values()]
    assert means == sorted(means) and means[-1] < EVIDENCE < means[-1] + 0.01


@pytest.mark.equation("importance.rate", "ln p - L_k = 1/2 s^2/k + (3/4 s^4 - 1/3 m3)/k^2 + O(1/k^3), moments of w/p",
                      bound=5, kind="S")
def test_the_gap_of_the_bound_falls_with_the_variance_of_the_weights(measure, rng):
    z, k = np.linspace(-12, 12, 4001), 64
    offset = np.array([0.3, 0.5, 0.1])                             # moments of w/p(x), a product over dimensions
    q = stats.norm(0, (2 / 3) ** 0.5).pdf(z)
    p = stats.norm(offset[:, None], 0.5 ** 0.5).pdf(z)
    m1, m2, m3 = (np.prod(np.sum(q * (p / q) ** n, axis=1) * (z[1] - z[0])) for n in (1, 2, 3))
    variance, skew = m2 - m1 ** 2, m3 - 3 * m2 * m1 + 2 * m1 ** 3
    second = 0.75 * variance ** 2 - skew / 3
    bound = np.concatenate([importance_bound(log_w(k, 10_000, rng, -offset)) for _ in range(4)])
    error = np.expm1(bound - EVIDENCE)                             # of the mean of k weights: of mean 0
    measure(z_score(k * error ** 2, variance))
    measure(z_score(k ** 2 * error ** 3, skew))
    gap = EVIDENCE - bound + error - (error ** 2 - variance / k) / 2 + (error ** 3 - skew / k ** 2) / 3   # same mean
    measure(z_score(k * gap, 0.5 * variance + second / k))
    assert abs(z_score(k * gap, 0.5 * variance)) > 20              # precise enough to see the second order


@pytest.mark.equation("importance.iwae", "grad L_k = sum_i what_i grad ln w_i, what = w / sum w", bound=1e-10)
def test_the_gradient_of_the_bound_is_the_weighted_sum_of_gradients(measure, model, rng):
    log_w = 3 * rng.standard_normal((6, 4))
    measure(grad(lambda v: ops.sum(importance_bound(v)))(log_w) - special.softmax(log_w, axis=0))
    model, x = model
    found = []
    for weighted in (False, True):
        for p in model.parameters():
            p.grad = None
        w = log_weights(model_log_joint(model, x), model.encode(x), 7, np.random.default_rng(1))
        bound = ops.sum(special.softmax(w.data, axis=0) * w) if weighted else ops.sum(importance_bound(w))
        bound.backward()
        found.append([p.grad for p in model.parameters()])
    for a, b in zip(*found):
        measure((a - b) / np.abs(b).max())


@pytest.mark.equation("importance.stl", "sum_i what_i (d ln w_i/dz_i)(dz_i/dphi)", bound=1e-10)
def test_sticking_the_landing_leaves_out_the_density_of_q(measure):
    measure(_error_of_path_derivative("stl", power=1))


@pytest.mark.equation("importance.dreg", "sum_i what_i^2 (d ln w_i/dz_i)(dz_i/dphi)", bound=1e-10)
def test_dreg_weighs_the_path_derivatives_by_squared_weights(measure):
    measure(_error_of_path_derivative("dreg", power=2))


def _error_of_path_derivative(estimator, power, k=6, n=50):
    """All three gradients against derivatives by hand: d ln w/dz = MU + X - 2z + (z - m)/s^2."""
    eps = np.random.default_rng(0).standard_normal((k, n, D))
    mean, s2 = POSTERIOR[0] + 0.3, 2 / 3
    z = mean + s2 ** 0.5 * eps
    log_w = log_joint(z) - stats.norm(mean, s2 ** 0.5).logpdf(z).sum(-1)
    w = special.softmax(log_w, axis=0)[..., None]
    path = w ** power * (MU + X - 2 * z + (z - mean) / s2)
    truth = path.sum(0), (path * 0.5 * s2 ** 0.5 * eps).sum(0), (w * (z - MU)).sum(0)
    return np.concatenate([a - b for a, b in zip(gradients(estimator, k, n), truth)])


@pytest.mark.equation("importance.stl", "the gradient is 0, sample by sample, where q is the posterior", bound=1e-10)
@pytest.mark.parametrize("estimator", ["stl", "dreg"])
@pytest.mark.parametrize("k", [1, 5])
def test_without_the_density_of_q_the_gradient_at_the_posterior_has_no_variance(measure, estimator, k):
    at_posterior = dict(offset=0, logvar=np.log(0.5))
    for g in gradients(estimator, k, 100, **at_posterior)[:2]:
        measure(g)
    noisy = gradients("iwae", k, 100, **at_posterior)
    assert all(np.std(g) > 0.1 for g in noisy)


@pytest.mark.equation("importance.dreg", "E of the gradient in phi is that of iwae", bound=5, kind="S")
def test_dreg_has_the_mean_of_the_iwae_gradient_and_sticking_the_landing_has_not(measure):
    for k in (1, 2, 8):
        iwae, stl, dreg = (np.array(gradients(e, k, 40_000 // k)) for e in ESTIMATORS)
        measure(z_score((dreg - iwae)[:2].swapaxes(0, 1), 0))
        bias = np.abs(z_score((stl - iwae)[:2].swapaxes(0, 1), 0)).max()
        assert bias < 5 if k == 1 else bias > 20


@pytest.mark.equation("importance.iwae", "the gradient in theta is (3) with every estimator", bound=1e-10)
def test_estimators_differ_in_nothing_but_the_gradient_of_the_encoder(measure, model):
    model, x = model
    values, decoders, encoders = [], [], []
    for estimator in ESTIMATORS:
        for p in model.parameters():
            p.grad = None
        bound = iw_elbo(model, x, 5, np.random.default_rng(2), estimator)
        bound.mean().backward()
        values.append(bound.data)
        encoders.append(np.concatenate([p.grad.ravel() for p in model.encoder.parameters()]))
        decoders.append(np.concatenate([p.grad.ravel() for p in model.decoder.parameters()]))
    for other in (1, 2):
        measure(values[other] - values[0])
        measure(decoders[other] - decoders[0])
        assert np.abs(encoders[other] - encoders[0]).max() > 1e-3


@pytest.mark.equation("importance.snr", "slope of ln SNR in ln k: -1/2 for iwae's phi, +1/2 for theta and dreg's phi",
                      bound=0.15, kind="O")
@pytest.mark.parametrize("estimator, slope", [("iwae", -0.5), ("dreg", 0.5)])
def test_more_samples_drown_the_encoders_gradient_unless_it_is_reparameterised_twice(measure, estimator, slope):
    r = snr((8, 16, 32, 64), np.random.default_rng(0), estimator=estimator, dim=4, perturbation=0.1)
    fit = lambda values: np.polyfit(np.log(r.k), np.log(values), 1)[0]
    measure(fit(r.encoder) - slope)
    measure(fit(r.decoder) - 0.5)
    assert r.encoder.min() > 3 * r.floor


@pytest.mark.equation("importance.snr", "k = 1: the gradients are mu + x - 2z and z - mu, with z ~ N(A x + b, 2/3)",
                      bound=5, kind="S")
def test_at_k_1_the_ratios_of_the_study_have_a_closed_form(measure):
    draws, same = 40_000, np.random.default_rng(5)
    r = snr((1,), np.random.default_rng(5), draws=draws, dim=3, perturbation=0.5)
    mu = same.standard_normal(3)
    x = mu + 2 ** 0.5 * same.standard_normal(3)
    mu, A, b = (v + 0.5 * same.standard_normal(v.shape) for v in (mu, np.eye(3) / 2, mu / 2))
    mean, s = A @ x + b, (2 / 3) ** 0.5
    for found, ratio in ((r.encoder, (mean - (mu + x) / 2) / s), (r.decoder, (mean - mu) / s)):
        measure((found - np.abs(ratio).mean()) / (np.sqrt(np.mean(1 + ratio ** 2 / 2)) / draws ** 0.5))


def test_the_floor_of_the_study_is_the_ratio_that_noise_shows(rng):
    noise, floor = rng.standard_normal((400, 2000)), snr((1,), rng, draws=400, dim=1).floor
    assert np.mean(np.abs(noise.mean(axis=0)) / noise.std(axis=0)) == pytest.approx(floor, rel=0.1)


def test_the_figure_of_the_study_shows_its_numbers(rng):
    results = {e: snr((1, 2, 4), rng, estimator=e, draws=50, dim=2) for e in ("iwae", "dreg")}
    lines = {line.get_label(): line for line in plots.signal_to_noise(results).axes[0].lines}
    for name, r in results.items():
        np.testing.assert_array_equal(lines[f"encoder, {name}"].get_xdata(), r.k)
        np.testing.assert_array_equal(lines[f"encoder, {name}"].get_ydata(), r.encoder)
    np.testing.assert_array_equal(lines["decoder"].get_ydata(), r.decoder)


def test_a_float32_model_has_float32_bounds_and_gradients(rng):
    model, x = VAE(6, 2, (8,), rng=rng), (rng.random((5, 6)) < 0.5).astype(np.float32)
    for estimator in ESTIMATORS:
        bound = iw_elbo(model, x, 3, rng, estimator)
        bound.mean().backward()
        assert bound.dtype == np.float32 and all(p.grad.dtype == np.float32 for p in model.parameters())


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_where_all_weights_are_zero_the_bound_is_minus_infinity_without_a_nan(rng, estimator):
    log_w = Tensor([[-np.inf, 0.0], [-np.inf, -np.inf]], requires_grad=True)
    impossible = lambda z: np.full(z.shape[:-1], -np.inf)
    mean = leaf(MU, 4)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        bound = importance_bound(log_w)
        bound.sum().backward()
        nothing = importance_bound(log_weights(impossible, Normal(mean, np.zeros(D)), 3, rng, estimator))
        nothing.sum().backward()
    assert bound.data.tolist() == [-np.inf, -np.log(2)]
    assert log_w.grad.tolist() == [[0, 1], [0, 0]]
    assert (nothing.data == -np.inf).all() and (mean.grad == 0).all()


def test_bad_input_is_refused_in_words(rng, model):
    model, x = model
    for bad in (np.zeros((0, 3)), np.array(1.0)):
        with pytest.raises(ValueError, match="k >= 1 weights, not of shape"):
            importance_bound(bad)
    for bad in (np.nan, np.inf):
        with pytest.raises(ValueError, match="NaN or .inf"):
            importance_bound(Tensor([[0.0], [bad]]))
    for k in (0, -1, 2.5):
        with pytest.raises(ValueError, match=f"k must be a positive integer, not {k}"):
            iw_elbo(model, x, k, rng)
        with pytest.raises(ValueError, match=f"k must be a positive integer, not {k}"):
            snr((1, k), rng)
    with pytest.raises(ValueError, match="one number of samples or more, and is empty"):
        snr([], rng)
    for draws in (1, "x"):
        with pytest.raises(ValueError, match=f"draws must be an integer >= 2, not {draws!r}"):
            snr((1,), rng, draws=draws)
    with pytest.raises(ValueError, match="perturbation must be a number >= 0, not 'x'"):
        snr((1,), rng, perturbation="x")
    with pytest.raises(ValueError, match="Generator"):
        snr((1,), 0)
    with pytest.raises(ValueError, match="one of 'iwae', 'stl', 'dreg', not 'vimco'"):
        iw_elbo(model, x, 2, rng, "vimco")
    with pytest.raises(ValueError, match=r"must give \(4, 2\), a number for each z, not shape \(4, 2, 3\)"):
        log_weights(lambda z: z, Normal(np.zeros((2, 3)), np.zeros(3)), 4, rng)
    with pytest.raises(ValueError, match="Generator"):
        iw_elbo(model, x, 2, 0)
