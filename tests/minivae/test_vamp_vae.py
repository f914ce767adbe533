"""The VampPrior against quadrature and enumeration; its op against the plain composition."""
import contextlib
import io

import numpy as np
import pytest
from scipy import stats
from scipy.special import logsumexp

from autograd import Tensor, grad, hessian, optim
from minivae.data import Batches
from minivae.distributions import Normal
from minivae.train import fit
from minivae.vae import VAE, VampVAE
from minivae.vae.gaps import exact_log_likelihood, grid, surgery
from minivae.vae.vamp_vae import Mixture, _composed, mixture_log_prob

from .test_distributions import z_score
from .test_vae import check_gradients


@pytest.fixture
def small(rng):
    """Two latents on six bits, with four pseudo-inputs whose components differ."""
    model = VampVAE(6, latent_dim=2, hidden=(8,), pseudo_inputs=4, activation="tanh", rng=rng).astype(np.float64)
    for p in (model.pseudo, model.encoder.layers[-1].w):
        p.assign(2 * p.data)
    model.encoder.layers[-1].b.assign([0, 0, -1.5, -1.5])
    return model, (rng.random((5, 6)) < 0.5).astype(float)


def components(rng, K=5, B=7, d=3):
    return rng.standard_normal((B, d)), rng.standard_normal((K, d)), 0.7 * rng.standard_normal((K, d)) - 0.5


@pytest.mark.equation("vamp.density", "ln p(z) = ln sum_k exp ln N(z; mu_k, s_k^2) - ln K", bound=1e-10)
@pytest.mark.parametrize("K", [1, 5])
def test_the_log_density_is_that_of_scipy(measure, rng, K):
    z, mu, logvar = components(rng, K)
    each = [stats.norm(m, np.exp(v / 2)).logpdf(z).sum(axis=1) for m, v in zip(mu, logvar)]
    truth = logsumexp(each, axis=0) - np.log(K)
    for f in (mixture_log_prob, _composed):
        measure(f(z, mu, logvar) - truth)


@pytest.mark.equation("vamp.density", "its gradient and Hessian are the twin's", bound=1e-10)
def test_the_derivatives_of_the_op_are_those_of_the_plain_composition(measure, rng):
    args, weights = components(rng), rng.standard_normal(7)
    of = [lambda *a, f=f: np.sum(weights * f(*a)) for f in (mixture_log_prob, _composed)]
    for a, b in zip(*(grad(f, argnums=(0, 1, 2))(*args) for f in of)):
        measure(a - b)
    for i in range(3):
        a, b = (hessian(f, argnums=i)(*args) for f in of)
        measure(a - b)


def test_narrow_components_far_from_z_lose_no_digits_in_float32(rng):
    """Squares are of differences, not differences of squares."""
    mu = (3 + rng.standard_normal((5, 3))).astype(np.float32)
    z, logvar = mu[:4] + np.float32(0.01) * rng.standard_normal((4, 3), np.float32), np.full((5, 3), -9, np.float32)
    truth = mixture_log_prob(*(v.astype(np.float64) for v in (z, mu, logvar)))
    found = mixture_log_prob(*(Tensor(v) for v in (z, mu, logvar)))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found.data, truth, rtol=1e-5)


def test_a_density_that_is_zero_in_float32_is_no_nan(rng):
    z, mu, logvar = (Tensor(v, requires_grad=True, dtype=np.float32) for v in components(rng))
    far = mixture_log_prob(z * 1000.0, mu, logvar)
    far.sum().backward()
    assert np.isfinite(far.data).all() and all(np.isfinite(v.grad).all() for v in (z, mu, logvar))


@pytest.mark.equation("vamp.prior", "int 1/K sum_k q(z|u_k) dz = 1", bound=1e-8, kind="Q")
def test_the_prior_integrates_to_one(measure, small):
    model, _ = small
    z, weight = grid(2)
    measure(np.exp(model.prior().log_prob(z).data).sum() * weight - 1)


@pytest.mark.equation("vamp.prior", "p(z) is the mean of the encoder's densities at u", bound=1e-10)
def test_the_components_are_the_posteriors_of_the_pseudo_inputs(measure, small, rng):
    model, _ = small
    u, z = 1 / (1 + np.exp(-model.pseudo.data)), rng.standard_normal((9, 2))
    q = model.encode(u)
    each = [stats.norm(m, np.exp(v / 2)).pdf(z).prod(axis=1) for m, v in zip(q.mu.data, q.logvar.data)]
    measure(model.prior().log_prob(z).data - np.log(np.mean(each, axis=0)))


@pytest.mark.equation("vamp.prior", "draws have the mean and covariance of the mixture", bound=5, kind="S")
def test_draws_come_from_the_mixture(measure, rng):
    _, mu, logvar = components(rng, K=3)
    z, mean = Mixture(mu, logvar).sample(40_000, rng), mu.mean(axis=0)
    cov = (mu - mean).T @ (mu - mean) / 3 + np.diag(np.exp(logvar).mean(axis=0))
    measure(z_score(z, mean))
    measure(z_score((z - mean)[:, :, None] * (z - mean)[:, None], cov))


def test_samples_are_decoded_draws_from_the_prior(small):
    model, _ = small
    z = model.prior().sample(7, np.random.default_rng(5))
    np.testing.assert_array_equal(model.sample(7, np.random.default_rng(5)), model.decode(z).mean.data)


@pytest.mark.equation("vamp.best", "mean KL(q_n || p) = I + KL(qbar || p), so that with u = x it is I, the least",
                      bound=1e-8, kind="Q")
def test_no_prior_costs_less_than_the_mean_of_the_posteriors(measure, small, rng):
    model, x = small
    q = model.encode(x)
    information = surgery(Normal(q.mu.data, q.logvar.data)).mutual_information
    z, weight = grid(2)
    log_q = np.stack([Normal(m, v).log_prob(z) for m, v in zip(q.mu.data, q.logvar.data)])
    aggregate = logsumexp(log_q, axis=0) - np.log(len(x))

    def mean_kl(p):
        return np.mean(np.sum(np.exp(log_q) * (log_q - p.log_prob(z)), axis=1)) * weight
    own, prior = Mixture(q.mu.data, q.logvar.data), model.prior()
    prior = Mixture(prior.mu.data, prior.logvar.data)
    measure(mean_kl(own) - information)
    gap = np.sum(np.exp(aggregate) * (aggregate - prior.log_prob(z))) * weight
    measure(mean_kl(prior) - information - gap)
    assert gap > 0.01 and mean_kl(Normal(np.zeros(2), np.zeros(2))) > information + 0.01


@pytest.mark.equation("vamp.kl", "E [ln q(z|x) - ln p(z)] = KL(q || p)", bound=5, kind="S")
def test_one_sample_of_the_kl_is_unbiased(measure, small, rng):
    model, x = small
    z, weight = grid(2)
    q = model.encode(x[:1])
    log_q = Normal(q.mu.data[0], q.logvar.data[0]).log_prob(z)
    truth = np.sum(np.exp(log_q) * (log_q - model.prior().log_prob(z).data)) * weight
    measure(z_score(model.elbo(np.repeat(x[:1], 40_000, axis=0), rng).kl.data, truth))


@pytest.mark.equation("vamp.density", "E 1/k sum_i w_i = p(x) with the prior in w", bound=5, kind="S")
def test_importance_weights_average_to_the_evidence_under_the_mixture(measure, small, rng):
    model, x = small
    exact = exact_log_likelihood(model, x[:1])
    assert abs(exact - exact_log_likelihood_with_standard_prior(model, x[:1])) > 0.01
    measure(z_score(np.exp(model.log_likelihood(np.repeat(x[:1], 4000, axis=0), 10, rng) - exact), 1.0))


def exact_log_likelihood_with_standard_prior(model, x):
    vae = VAE(6, 2, (8,), activation="tanh", rng=np.random.default_rng(0)).astype(np.float64)
    vae.load_state({name: v for name, v in model.state().items() if name != "pseudo"})
    return exact_log_likelihood(vae, x)


def test_pseudo_inputs_are_trained_and_stay_images(rng):
    model = VampVAE(6, latent_dim=2, hidden=(8,), pseudo_inputs=4, rng=rng)
    x, start = (rng.random((9, 6)) < 0.5).astype(np.float32), model.pseudo_inputs.data.copy()
    optimizer = optim.Adam(model.parameters(), 0.5)
    for _ in range(50):
        optimizer.zero_grad()
        model.loss(x, rng)[0].backward()
        optimizer.step()
    u = model.pseudo_inputs.data
    assert np.abs(u - start).max() > 0.2 and 0 <= u.min() <= u.max() <= 1


@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian"])
def test_pseudo_inputs_start_from_examples(rng, likelihood):
    x = (rng.random((3, 6)) < 0.5).astype(np.float32)
    model = VampVAE(6, latent_dim=2, likelihood=likelihood, pseudo_inputs=x, rng=rng)
    np.testing.assert_allclose(model.pseudo_inputs.data, x, atol=0.021 if likelihood == "bernoulli" else 0)
    assert likelihood == "gaussian" or np.ptp(model.pseudo_inputs.data) < 0.961            # where σ still has a slope
    assert model.pseudo.shape == (3, 6) and "pseudo" in model.state()


def test_warm_up_weighs_the_kl_to_the_mixture(rng):
    model, x = VampVAE(6, latent_dim=2, pseudo_inputs=3, kl_warmup=4, rng=rng), np.ones((3, 6), np.float32)
    for t, weight in ((1, 0.25), (4, 1), (9, 1)):
        model.on_step(t)
        loss, terms = model.loss(x, rng)
        np.testing.assert_allclose(loss.item() + terms["recon"], weight * terms["kl"], rtol=1e-4, atol=1e-5)


def test_gradients_of_the_loss_pass_finite_differences(small):
    check_gradients(*small, rel=1e-5)


def test_the_contract(rng):
    model = VampVAE(784, latent_dim=20, hidden=(400,), pseudo_inputs=30, rng=rng)
    x = rng.random((16, 784), np.float32)
    before = x.copy()
    loss, terms = model.loss(x, rng)
    loss.backward()
    assert isinstance(loss, Tensor) and loss.shape == () and set(terms) == {"elbo", "recon", "kl"}
    assert all(p.grad.dtype == np.float32 and p.grad.shape == p.shape for p in model.parameters())
    assert model.elbo(x, rng).value.shape == model.log_likelihood(x, 10, rng).shape == (16,)
    assert model.sample(4, rng).shape == (4, 784) and model.sample(4, rng).dtype == np.float32
    assert model.reconstruct(x).shape == x.shape and (x == before).all()
    assert repr(model).startswith("VampVAE(784 -> 20, bernoulli, 30 pseudo-inputs)")


def test_twenty_seeds_train_without_a_nan():
    for seed in range(20):
        rng = np.random.default_rng(seed)
        model = VampVAE(12, rng=rng)
        with contextlib.redirect_stdout(io.StringIO()):
            rows = fit(model, Batches(rng.integers(0, 256, (64, 12), np.uint8), 32, binarise=True), epochs=3, rng=rng,
                       optimizer=optim.Adam(model.parameters(), 1e-3))
        assert np.isfinite([row["elbo"] for row in rows]).all()


@pytest.mark.parametrize("options, message", [
    ({"pseudo_inputs": 0}, "pseudo_inputs must be a positive integer, not 0"),
    ({"pseudo_inputs": 2.5}, "pseudo_inputs must be a positive integer, not 2.5"),
    ({"pseudo_inputs": np.zeros((3, 5), np.float32)}, r"must have shape \(batch, 6\)"),
    ({"pseudo_inputs": np.full((3, 6), 2, np.float32)}, r"\[0, 1\]"), ({"kl": "analytic"}, "takes no kl or free_bits"),
    ({"free_bits": 0.5}, "takes no kl or free_bits")])
def test_bad_options_are_refused(rng, options, message):
    with pytest.raises(ValueError, match=message):
        VampVAE(6, rng=rng, **options)


@pytest.mark.parametrize("shapes", [((7, 3), (5, 2), (5, 2)), ((7, 3), (5, 3), (4, 3)), ((3,), (5, 3), (5, 3))])
def test_shapes_that_do_not_match_are_refused(shapes):
    with pytest.raises(ValueError, match=r"z \(B, d\), mu and logvar \(K, d\), not"):
        mixture_log_prob(*map(np.zeros, shapes))
