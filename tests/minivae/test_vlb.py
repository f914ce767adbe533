"""The variational bound against its definition, by Monte Carlo and, for Gaussian data, in closed form."""
import numpy as np
import pytest
from scipy import stats

from autograd import grad, gradcheck, ops
from minivae.diffusion import DDPM, MixtureDenoiser, MLPDenoiser, Schedule
from minivae.diffusion.vlb import VLB, discretised_log_prob, erfcx, log_ndtr

from .test_sampling import SHORT, best_variance
from .test_score import MEANS, VARIANCES

GREY = np.arange(256) / 127.5 - 1


class Fixed(np.random.Generator):
    """A generator whose normal draws are all `z`, and whose whole numbers are low, low + 1, ..."""

    def __init__(self, z):
        super().__init__(np.random.PCG64())
        self.z = z

    def standard_normal(self, shape, dtype=np.float64):
        return np.broadcast_to(self.z, shape).astype(dtype)

    def integers(self, low, high, size, endpoint=False):
        return np.resize(np.arange(low, high + endpoint), size)


def mean_bound(model, m, v):
    """E of the bound for x_0 ~ N(m, v): it is quadratic in x_0 and in each eps, so points of two signs are exact."""
    signs = np.array([[1.0], [1.0], [-1.0], [-1.0]])
    return model.vlb(m + v ** 0.5 * signs, Fixed(signs * [[1.0], [-1.0], [1.0], [-1.0]])).nats.mean()


@pytest.mark.equation("diffusion.vlb", "sum of L_t = E_q ln q(x_1..x_T | x0) / p(x_0..x_T)", bound=5, kind="S")
@pytest.mark.parametrize("variance", ["beta", "beta_tilde", "learned"])
def test_the_sum_of_kl_terms_is_the_mean_log_ratio(measure, rng, variance):
    s, n = Schedule([0.1, 0.3, 0.2, 0.6]), 20_000
    denoiser = MLPDenoiser(2, (8,), learned_variance=variance == "learned", rng=rng).astype(np.float64)
    model = DDPM(denoiser, s, variance=variance, loss="vlb" if variance == "learned" else "simple", clip=np.inf)
    x = x0 = np.tile([[0.5, -1.0]], (n, 1))
    log_ratio = np.zeros(n)
    for t, beta in enumerate(s.beta, 1):
        mean = (1 - beta) ** 0.5 * x
        xt = mean + beta ** 0.5 * rng.standard_normal((n, 2))
        log_ratio += stats.norm.logpdf(xt, mean, beta ** 0.5).sum(axis=1)
        out = denoiser(xt, np.full(n, t)).data
        abar, u = s.alpha_bar[t - 1], out[:, 2:]
        before = s.alpha_bar[t - 2] if t > 1 else 1.0
        tilde = beta * (1 - before) / (1 - abar) if t > 1 else s.beta[1] * s.beta[0] / (1 - s.alpha_bar[1])
        sigma2 = {"beta": beta, "beta_tilde": tilde, "learned": beta ** u * tilde ** (1 - u)}[variance]
        back = (xt - beta / (1 - abar) ** 0.5 * out[:, :2]) / (1 - beta) ** 0.5
        log_ratio -= stats.norm.logpdf(x, back, sigma2 ** 0.5).sum(axis=1)
        x = xt
    log_ratio -= stats.norm.logpdf(x).sum(axis=1)
    bound = model.vlb(x0, rng).nats
    measure((log_ratio.mean() - bound.mean()) / ((log_ratio.var() + bound.var()) / n) ** 0.5)


@pytest.mark.equation("diffusion.vlb", "L_{t-1} = KL(N(mu~, b~) || N(mu, s^2)), L_0 = -ln N(x0; mu, s^2)", bound=1e-10)
def test_each_term_is_the_kl_of_two_gaussians(measure, rng):
    s, x0 = Schedule.cosine(8), rng.standard_normal((5, 2))
    model = DDPM(MixtureDenoiser(s, MEANS, VARIANCES), s, variance=np.linspace(0.1, 0.9, 8))
    bound, twin = model.vlb(x0, np.random.default_rng(4)), np.random.default_rng(4)
    assert bound.terms.shape == (5, 9) and bound.dim == 2
    kl = lambda m1, v1, m2, v2: 0.5 * (np.log(v2 / v1) + (v1 + (m1 - m2) ** 2) / v2 - 1).sum(axis=1)
    for t, sigma2 in enumerate(np.linspace(0.1, 0.9, 8), 1):
        xt = s.q_sample(x0, t, twin.standard_normal((5, 2)))
        (true, tilde), mean = s.posterior(x0, xt, t), s.posterior(model.denoise(xt, t)[0], xt, t)[0]
        want = kl(true, tilde, mean, sigma2) if t > 1 else -stats.norm.logpdf(x0, mean, sigma2 ** 0.5).sum(axis=1)
        measure(bound.terms[:, t - 1] - want)
    measure(bound.terms[:, 8] - kl(s.alpha_bar[7] ** 0.5 * x0, 1 - s.alpha_bar[7], 0, 1))
    measure(bound.nats - sum(bound.terms.T))


@pytest.mark.equation("diffusion.best-vlb", "E[bound] = 1/2 ln 2 pi e v + KL(q(x_T) || N(0, 1))", bound=1e-10)
@pytest.mark.parametrize("s", SHORT, ids=str)
@pytest.mark.parametrize("m, v", [(0.0, 1.0), (1.5, 0.3), (-0.5, 2.0)])
def test_the_bound_of_the_best_model_of_gaussian_data_is_their_entropy(measure, s, m, v):
    model = lambda variance: DDPM(MixtureDenoiser(s, np.array([[m]]), v), s, variance=variance)
    a, best = s.alpha_bar[-1], best_variance(s, v)
    end = 0.5 * (a * m ** 2 + a * v + 1 - a - 1 - np.log(a * v + 1 - a))
    least = mean_bound(model(best), m, v)
    measure(least - 0.5 * np.log(2 * np.pi * np.e * v) - end)
    for t in {0, s.T // 2, s.T - 1}:                               # any other variance, at any step, costs nats
        for factor in (0.9, 1.1):
            other = best.copy()
            other[t] *= factor
            assert mean_bound(model(other), m, v) > least + 1e-4
    wrong = DDPM(MixtureDenoiser(s, np.array([[m]]), 1.3 * v), s, variance=best)
    assert mean_bound(wrong, m, v) > least + 1e-6


@pytest.mark.equation("diffusion.bits", "bits/dim = nats / (d ln 2)", bound=1e-10)
def test_bits_are_nats_by_ln_2_a_dimension(measure):
    measure(VLB(np.array([[1.0, 2.0, 5 * np.log(2) - 3]]), 5).bits_per_dim - 1)
    x = np.zeros((2, 1, 2, 2))
    denoiser = MixtureDenoiser(Schedule.cosine(3), np.zeros((1, 4)), 1.0)
    denoiser.shape, denoiser.forward = (1, 2, 2), lambda x, t, y: np.zeros_like(x)
    bound = DDPM(denoiser, Schedule.cosine(3)).vlb(x, np.random.default_rng(0))
    measure(bound.bits_per_dim - bound.terms.sum(axis=1) / (4 * np.log(2)))


# Grey levels

@pytest.mark.equation("diffusion.discretised", "sum over 256 levels of p(x0 | x1) = 1", bound=1e-10)
def test_the_discretised_likelihood_sums_to_1(measure):
    for mu in (-30.0, -1.0, -0.3, 0.1, 0.999, 5.0):
        for sd in (1e-4, 0.01, 0.3, 1.0):
            log_p = discretised_log_prob(GREY[:, None], np.full((256, 1), mu), np.full((1, 1), 2 * np.log(sd)))
            measure(np.exp(log_p).sum() - 1)


@pytest.mark.equation("diffusion.discretised", "p(x0 | x1) = Phi((x0 + h - mu)/s) - Phi((x0 - h - mu)/s)", bound=1e-10)
def test_the_discretised_likelihood_is_the_mass_of_a_bin(measure):
    mu, sd = 0.2, 0.5
    edges = np.concatenate([[-np.inf], (GREY[1:] + GREY[:-1]) / 2, [np.inf]])
    want = np.diff(stats.norm.cdf(edges, mu, sd))
    got = np.exp(discretised_log_prob(GREY[:, None], np.full((256, 1), mu), np.full((256, 1), 2 * np.log(sd))))
    measure(got / want - 1)
    pair = discretised_log_prob(GREY[None, [3, 200]], np.full((1, 2), mu), np.full((1, 1), 2 * np.log(sd)))
    measure(pair - np.log(want[[3, 200]]).sum())                   # features are independent


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_discretised_likelihood_keeps_its_digits_far_out(dtype):
    x, logvar = np.full((2, 1), 0.0, dtype), np.full((1, 1), 2 * np.log(0.01), dtype)
    mu = np.array([[1.0], [-1.0]], dtype)
    got = discretised_log_prob(x, mu, logvar)                      # 100 standard deviations away, on either side
    z = (1 - 1 / 255) / 0.01
    want = -z ** 2 / 2 - 0.5 * np.log(2 * np.pi) - np.log(z) + np.log1p(-1 / z ** 2 + 3 / z ** 4)
    np.testing.assert_allclose(got, want, rtol=1e-6)
    assert got.dtype == dtype
    for at in (-1.0, 0.0, 1.0):
        slope = grad(lambda mu: ops.sum(discretised_log_prob(x + dtype(at), mu, logvar)))(mu)
        assert np.isfinite(slope).all() and slope.dtype == dtype


def test_the_derivatives_of_the_discretised_likelihood_are_right(rng):
    x, mu, logvar = GREY[rng.integers(0, 256, (4, 3))], 0.3 * rng.standard_normal((4, 3)), rng.uniform(-4, 0, (4, 3))
    x[0] = [-1, 1, GREY[254]]
    gradcheck(lambda mu, logvar: discretised_log_prob(x, mu, logvar), mu, logvar)


def test_the_derivatives_of_log_ndtr_are_right_and_finite_far_out():
    x = np.linspace(-6, 3, 12)
    gradcheck(log_ndtr, x)
    gradcheck(erfcx, np.linspace(-1, 3, 9))
    gradcheck(grad(lambda x: ops.sum(log_ndtr(x))), x)
    far = grad(lambda x: ops.sum(log_ndtr(x)))(np.array([-1e6, -1e3, 50.0, 1e6], np.float32))
    np.testing.assert_allclose(far, [1e6, 1e3, 0, 0], rtol=1e-5)


def test_images_are_bounded_by_the_mass_of_bins_and_points_by_a_density():
    s, x = Schedule.cosine(4), GREY[np.array([[0, 100, 255, 17]])]
    denoiser = MixtureDenoiser(s, np.zeros((1, 4)), 0.5)
    density, mass = (DDPM(denoiser, s, images=images, clip=1).vlb(x, Fixed(0.3)).terms[0] for images in (False, True))
    np.testing.assert_array_equal(density[1:], mass[1:])
    mean, sd = denoiser(s.q_sample(x, 1, np.full((1, 4), 0.3)), 1), s.beta[0] ** 0.5
    mean = np.clip((s.q_sample(x, 1, np.full((1, 4), 0.3)) - s.noise[0] * mean) / s.signal[0], -1, 1)
    low, high = np.where(x < -0.999, -np.inf, x - 1 / 255), np.where(x > 0.999, np.inf, x + 1 / 255)
    p = np.abs(stats.norm.sf(low, mean, sd) - stats.norm.sf(high, mean, sd))
    np.testing.assert_allclose(mass[0], -np.log(p).sum(), rtol=1e-9)
    np.testing.assert_allclose(density[0], -stats.norm.logpdf(x, mean, sd).sum(), rtol=1e-9)


def test_the_bound_given_a_class_is_of_that_class():
    s, x = Schedule.cosine(30), np.array([[1.0], [-1.0]])
    model = DDPM(MixtureDenoiser(s, np.array([[-1.0], [1.0]]), 0.05), s)
    right, wrong, none = (model.vlb(x, np.random.default_rng(0), y=y).nats for y in ([1, 0], [0, 1], None))
    assert (right < none).all() and (none < wrong).all()


def test_float32_models_are_bounded_in_float64(rng):
    model = DDPM(MLPDenoiser(2, (8,), rng=rng), Schedule.cosine(20))
    x = rng.standard_normal((6, 2), np.float32)
    single = model.vlb(x, np.random.default_rng(1))
    double = model.astype(np.float64).vlb(x.astype(np.float64), np.random.default_rng(1))
    assert single.terms.dtype == np.float64
    np.testing.assert_allclose(single.terms, double.terms, rtol=1e-3, atol=1e-4)


def test_the_bound_refuses_bad_data(rng):
    model = DDPM(MLPDenoiser(2, (8,), rng=rng), Schedule.cosine(5))
    for x, message in ((np.zeros((2, 3), np.float32), "shape"), (np.full((2, 2), np.nan, np.float32), "finite")):
        with pytest.raises(ValueError, match=message):
            model.vlb(x, rng)
    with pytest.raises(ValueError, match="rng must be"):
        model.vlb(np.zeros((2, 2), np.float32), 0)
