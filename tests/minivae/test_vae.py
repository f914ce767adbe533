"""The VAE against models small enough to know the truth: quadrature, linear-Gaussian closed forms, PPCA."""
import tracemalloc

import numpy as np
import pytest
from scipy import stats
from scipy.optimize import minimize

from autograd import Tensor, gradcheck, ops
from minivae.distributions import Normal
from minivae.vae import VAE
from minivae.vae.gaps import exact_elbo, exact_log_likelihood, grid, log_joint

from .test_distributions import z_score


@pytest.fixture
def small(rng):
    """A VAE with two latents on six bits, and all that it was given."""
    model = VAE(6, 2, (8,), activation="tanh", rng=rng).astype(np.float64)
    for p in model.decoder.parameters():
        p.assign(3 * p.data)                                       # a posterior far from Gaussian, so mistakes show
    return model, (rng.random((5, 6)) < 0.5).astype(float)


def linear_vae(rng, D=5, d=2, **options):
    return VAE(D, d, (), likelihood="gaussian", rng=rng, **options).astype(np.float64)


@pytest.mark.equation("vae.elbo", "ln p(x) - KL(q || p(z|x)) = E_q ln p(x|z) - KL(q || p(z))", bound=1e-8, kind="Q")
def test_the_elbo_is_the_evidence_less_the_kl_to_the_posterior(measure, small):
    model, x = small
    q = model.encode(x)
    z, weight = grid(2, nodes=401)
    joint = log_joint(model, x, z)
    evidence = exact_log_likelihood(model, x)
    for n in range(len(x)):
        log_q = np.asarray(Normal(q.mu.data[n], q.logvar.data[n]).log_prob(z))
        kl = np.sum(np.exp(log_q) * (log_q - (joint[n] - evidence[n]))) * weight
        measure(evidence[n] - kl - exact_elbo(model, x, q, nodes=161).data[n])


@pytest.mark.equation("vae.elbo", "ln p(x) - KL(q || p(z|x)) = E_q ln p(x|z) - KL(q || p(z))", bound=5, kind="S")
@pytest.mark.parametrize("kl", ["analytic", "monte-carlo"])
def test_one_sample_of_the_elbo_is_unbiased(measure, rng, kl):
    model = VAE(6, 2, (8,), activation="tanh", kl=kl, rng=rng).astype(np.float64)
    x = (rng.random((1, 6)) < 0.5).astype(float)
    elbo = model.elbo(np.repeat(x, 20_000, axis=0), rng)
    measure(z_score(elbo.value.data, exact_elbo(model, x, model.encode(x)).data[0]))
    assert (np.std(elbo.kl.data) < 1e-12) == (kl == "analytic")


@pytest.mark.equation("vae.reparameterisation", "grad E_q f(z) = E_eps grad f(mu + s eps)", bound=5, kind="S")
def test_the_pathwise_gradient_is_the_gradient_of_the_expectation(measure, rng):
    mu, logvar = 0.7, -0.4                                         # E z^3 = mu^3 + 3 mu s^2
    m, v = (Tensor(np.full((50_000, 1), c), requires_grad=True) for c in (mu, logvar))
    (Normal(m, v).rsample(rng) ** 3).sum().backward()
    measure(z_score(m.grad, 3 * mu ** 2 + 3 * np.exp(logvar)))
    measure(z_score(v.grad, 3 * mu * np.exp(logvar)))


@pytest.mark.equation("vae.log-likelihood", "E 1/k sum w_i = p(x), w = p(x|z) p(z) / q(z|x)", bound=5, kind="S")
@pytest.mark.parametrize("k", [1, 5, 700])
def test_importance_weights_average_to_the_exact_evidence_of_a_linear_model(measure, rng, k):
    model = linear_vae(rng)
    x = rng.standard_normal((1, 5))
    wide = model.encoder.layers[0].b
    wide.assign(np.where(np.arange(4) < 2, wide.data, 2.0))        # q wider than the posterior: the weights are bounded
    w, b = (p.data for p in model.decoder.layers[0].parameters())
    exact = stats.multivariate_normal(b, w.T @ w + np.eye(5)).logpdf(x)
    estimates = model.log_likelihood(np.repeat(x, 4000 if k < 700 else 40, axis=0), k, rng)
    measure(z_score(np.exp(estimates - exact), 1.0))


def test_more_importance_samples_tighten_the_bound(small, rng):
    model, x = small
    x = np.tile(x, (200, 1))
    one, ten, hundred = (model.log_likelihood(x, k, rng).mean() for k in (1, 10, 100))
    assert one < ten < hundred < exact_log_likelihood(model, x[:5]).mean() + 0.01


def test_log_likelihood_memory_does_not_grow_with_the_samples(rng):
    model, x = VAE(200, 5, (50,), rng=rng), np.zeros((3, 200), np.float32)
    peaks = []
    for k in (1000, 1000, 20_000):
        tracemalloc.start()
        assert model.log_likelihood(x, k, rng).shape == (3,)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[2] < 1.2 * peaks[1]


def cubature_loss(model, x):
    """The exact −ELBO of a linear VAE: ln p(x | z) is quadratic in z, so 2 d points mu ± √d σ e_j give its mean."""
    q, d = model.encode(x), model.latent_dim
    recon = 0.0
    for e in np.concatenate([np.eye(d), -np.eye(d)]) * d ** 0.5:
        recon = recon + model.decode(q.mu + ops.exp(0.5 * q.logvar) * e).log_prob(x).mean() / (2 * d)
    return q.kl().mean() - recon


def fit_exactly(model, loss):
    """Minimise a deterministic loss over all parameters by L-BFGS; returns the minimum."""
    params = model.parameters()

    def objective(v):
        for p, part in zip(params, np.split(v, np.cumsum([p.size for p in params])[:-1])):
            p.assign(part.reshape(p.shape))
            p.grad = None
        value = loss()
        value.backward()
        return value.item(), np.concatenate([p.grad.ravel() for p in params])

    start = np.concatenate([p.data.ravel() for p in params])
    options = {"maxiter": 20_000, "maxfun": 40_000, "gtol": 1e-10, "ftol": 1e-16, "maxcor": 50}
    return minimize(objective, start, jac=True, method="L-BFGS-B", options=options).fun


@pytest.mark.equation("vae.linear-optimum", "max ELBO of the linear VAE = max ln p(X) of PPCA, and the gap is 0",
                      bound=1e-6, kind="O")
def test_the_linear_vae_is_probabilistic_pca(measure, rng):
    D, d = 5, 2
    x = rng.standard_normal((300, D)) @ np.diag([3, 2, 1, 0.8, 0.6]) @ stats.ortho_group.rvs(D, random_state=0)
    model = linear_vae(rng, D, d, variance="learned")
    best = -fit_exactly(model, lambda: cubature_loss(model, x))
    eigenvalues = np.linalg.eigvalsh(np.cov(x.T, ddof=0))[::-1]
    noise = eigenvalues[d:].mean()                                 # Tipping and Bishop 1999
    ppca = -0.5 * (D * np.log(2 * np.pi) + np.log(eigenvalues[:d]).sum() + (D - d) * np.log(noise) + D)
    w, b = (p.data for p in model.decoder.layers[0].parameters())
    s2 = np.exp(model.logvar.data[0])
    evidence = stats.multivariate_normal(b, w.T @ w + s2 * np.eye(D)).logpdf(x).mean()
    measure((best - ppca) / abs(ppca))
    measure((evidence - best) / abs(ppca))
    measure((s2 - noise) / noise)


@pytest.mark.equation("vae.collapse", "at fixed s^2 the linear VAE keeps |w_i|^2 = (lambda_i - s^2)+", bound=1e-6,
                      kind="O")
def test_a_latent_is_active_exactly_if_its_eigenvalue_exceeds_the_noise(measure, rng):
    D, d, s2 = 5, 4, 1.5
    x = rng.standard_normal((300, D)) @ np.diag([3, 2, 1, 0.8, 0.6]) @ stats.ortho_group.rvs(D, random_state=1)
    model = linear_vae(rng, D, d, variance=s2)
    fit_exactly(model, lambda: cubature_loss(model, x))
    eigenvalues = np.linalg.eigvalsh(np.cov(x.T, ddof=0))[::-1]
    w = model.decoder.layers[0].w.data
    power = np.sort(np.linalg.svd(w, compute_uv=False) ** 2)[::-1]
    measure((power - np.maximum(eigenvalues[:d] - s2, 0)) / eigenvalues[0])
    kl = np.asarray(model.encode(x).kl_terms()).mean(0)
    assert (kl > 0.01).sum() == (eigenvalues[:d] > s2).sum() == 2  # the other two posteriors have collapsed
    assert np.sort(kl)[1] < 1e-6


@pytest.mark.equation("vae.decoder-variance", "the best s^2 is the mean squared error per element", bound=1e-10)
def test_the_best_decoder_variance_is_the_mean_squared_error(measure, rng):
    model = linear_vae(rng, variance="learned")
    x = rng.standard_normal((20, 5))
    z = rng.standard_normal((20, 2))
    error = np.mean((x - model.decode(z).mean.data) ** 2)
    model.logvar.assign([np.log(error)])
    model.decode(z).log_prob(x).mean().backward()
    measure(model.logvar.grad)


@pytest.mark.equation("vae.free-bits", "sum_j max(lambda, mean_B KL_j)", bound=1e-10)
def test_free_bits_charge_only_what_exceeds_them(measure, rng):
    model = VAE(6, 3, (), free_bits=0.1, rng=rng).astype(np.float64)
    x = (rng.random((9, 6)) < 0.5).astype(float)
    q = model.encode(x)
    kl = q.kl_terms().data.mean(axis=0)
    assert kl.min() < 0.1 < kl.max()
    measure(model.penalty(q, None, q.kl().mean()).data - np.maximum(kl, 0.1).sum())
    model.penalty(q, None, q.kl().mean()).backward()
    w = model.encoder.layers[0].w.grad[:, :3]
    assert (np.abs(w).max(axis=0) > 0).tolist() == (kl > 0.1).tolist()
    loss, terms = model.loss(x, rng)
    assert terms["elbo"] == pytest.approx(terms["recon"] - kl.sum())


def test_the_kl_weight_rises_to_one_over_the_warm_up(rng):
    model, x = VAE(6, 2, (), kl_warmup=4, rng=rng), np.ones((3, 6), np.float32)
    weights = []
    for t in range(1, 7):
        model.on_step(t)
        loss, terms = model.loss(x, np.random.default_rng(0))
        weights.append((loss.item() + terms["recon"]) / terms["kl"])
    np.testing.assert_allclose(weights, [0.25, 0.5, 0.75, 1, 1, 1], rtol=1e-4)


def test_recon_sums_over_pixels_and_the_loss_averages_over_the_batch(rng):
    model, x = VAE(6, 2, (4,), rng=rng), np.ones((3, 6), np.float32)
    for p in model.decoder.layers[-1].parameters():
        p.assign(np.zeros(p.shape))
    loss, terms = model.loss(x, rng)
    assert terms["recon"] == pytest.approx(-6 * np.log(2), rel=1e-6)
    assert loss.item() == pytest.approx(terms["kl"] - terms["recon"], rel=1e-5)


def test_samples_with_noise_have_the_mean_of_samples_without(rng):
    model = VAE(6, 2, (8,), rng=rng)
    means, draws = model.sample(20_000, rng), model.sample(20_000, rng, noise=True)
    assert set(np.unique(draws)) == {0, 1} and means.dtype == draws.dtype == np.float32
    assert np.abs(z_score(draws - means.mean(0), 0)).max() < 5


def test_the_contract(rng):
    model = VAE(784, latent_dim=20, hidden=(400,), rng=rng)
    x = rng.random((16, 784), np.float32)
    before = x.copy()
    loss, terms = model.loss(x, rng)
    loss.backward()
    assert isinstance(loss, Tensor) and loss.shape == () and set(terms) == {"elbo", "recon", "kl"}
    assert all(p.grad.dtype == np.float32 and p.grad.shape == p.shape for p in model.parameters())
    assert model.encode(x).mean.shape == (16, 20) and model.decode(np.zeros((3, 20), np.float32)).mean.shape == (3, 784)
    assert model.sample(64, rng).shape == (64, 784) and model.reconstruct(x).shape == x.shape
    assert model.log_likelihood(x, 100, rng).shape == (16,)
    assert (x == before).all()


def check_gradients(model, batch, rel=1e-6):
    """The largest entry of the gradient of the loss, in each parameter, is the central difference."""
    loss = lambda: model.loss(batch, np.random.default_rng(3))[0]
    loss().backward()
    for p in model.parameters():
        i = np.unravel_index(np.argmax(np.abs(p.grad)), p.shape)
        at, values = p.data.copy(), []
        for h in (1e-6, -1e-6):
            p.data[i] = at[i] + h
            values.append(loss().item())
        p.data[i] = at[i]
        assert p.grad[i] == pytest.approx((values[0] - values[1]) / 2e-6, rel=rel)


@pytest.mark.parametrize("options", [{}, {"kl": "monte-carlo"}, {"free_bits": 0.2},
                                     {"likelihood": "gaussian", "variance": "learned"}])
def test_gradients_of_the_loss_pass_finite_differences(rng, options):
    model = VAE(6, 2, (8,), activation="tanh", rng=rng, **options).astype(np.float64)
    check_gradients(model, (rng.random((5, 6)) < 0.5).astype(float))


@pytest.mark.parametrize("x, message", [
    (np.zeros((2, 5), np.float32), "shape"), (np.zeros((0, 6), np.float32), "at least one row"),
    (np.zeros(6, np.float32), "shape"), (np.full((2, 6), np.nan, np.float32), "finite"),
    (np.full((2, 6), 255, np.float32), r"\[0, 1\]"), (np.full((2, 6), -0.1, np.float32), r"\[0, 1\]"),
    (np.zeros((2, 6)), "x is float64 and the model float32"), ([[0.5] * 6], "not list"),
    (np.zeros((2, 6), complex), "complex128"), (np.full((2, 6), 255, np.uint8), r"\[0, 1\]")])
def test_bad_data_is_refused(rng, x, message):
    model = VAE(6, 2, (4,), rng=rng)
    for call in (lambda: model.loss(x, rng), lambda: model.encode(x), lambda: model.log_likelihood(x, 2, rng)):
        with pytest.raises(ValueError, match=message):
            call()


def test_infinite_data_is_refused_by_a_gaussian_likelihood(rng):
    x = np.zeros((2, 5))
    x[1, 2] = np.inf
    with pytest.raises(ValueError, match="finite"):
        linear_vae(rng).loss(x, rng)


@pytest.mark.parametrize("options, message", [
    ({"likelihood": "poisson"}, "one of 'bernoulli', 'gaussian'"), ({"kl": "exact"}, "'analytic', 'monte-carlo'"),
    ({"variance": 0}, "variance, unless 'learned', must be a number > 0, not 0"), ({"variance": "fixed"}, "'fixed'"),
    ({"variance": np.ones(6), "likelihood": "gaussian"}, r"must be a number > 0, not array\(\[1"),
    ({"activation": "relux"}, "must be one of"), ({"kl_warmup": -1}, "kl_warmup must be a number >= 0, not -1"),
    ({"free_bits": np.nan}, "free_bits must be a number >= 0, not nan"),
    ({"latent_dim": 0}, "latent_dim must be a positive integer, not 0"),
    ({"hidden": 400}, "hidden must be a tuple .* not 400"), ({"hidden": (8, 0)}, "a width in hidden must be"),
    ({"latent_dim": 2.5}, "latent_dim .* not 2.5"),
    ({"variance": "learned"}, "a Bernoulli likelihood has no variance")])
def test_bad_options_are_refused(rng, options, message):
    with pytest.raises(ValueError, match=message):
        VAE(6, **options, rng=rng)


@pytest.mark.parametrize("seed", [0, None])
def test_a_seed_is_no_generator(seed):
    with pytest.raises(ValueError, match=f"numpy.random.Generator, .* not {seed}"):
        VAE(6, rng=seed)


def test_the_elbo_is_differentiable_in_the_data(small):
    model, x = small
    x = 0.1 + 0.8 * x
    gradcheck(lambda x: model.encode(x).mean, x)
    gradcheck(lambda x: model.elbo(x, np.random.default_rng(0)).value, x)


def test_exactly_k_samples_are_averaged(rng):
    model = VAE(6, 2, (), rng=rng).astype(np.float64)
    for p in model.parameters():
        p.assign(np.zeros(p.shape))                                # q is the prior, x independent of z: each w = p(x)
    for k in (1, 100, 513):
        np.testing.assert_allclose(model.log_likelihood(np.ones((10, 6)), k, rng), -6 * np.log(2), rtol=1e-12)


def test_samples_are_means_unless_noise_is_asked_for(rng):
    model = VAE(6, 2, (8,), rng=rng)
    z = np.random.default_rng(5).standard_normal((7, 2), np.float32)
    np.testing.assert_array_equal(model.sample(7, np.random.default_rng(5)), model.decode(z).mean.data)


def test_free_bits_and_warm_up_weigh_the_same_kl(rng):
    model = VAE(6, 3, (), free_bits=0.1, kl_warmup=4, rng=rng).astype(np.float64)
    q = model.encode((rng.random((9, 6)) < 0.5).astype(float))
    model.on_step(1)
    charged = np.maximum(q.kl_terms().data.mean(axis=0), 0.1).sum()
    np.testing.assert_allclose(model.penalty(q, None, q.kl().mean()).data, 0.25 * charged, rtol=1e-12)


def test_the_decoder_mirrors_the_encoder(rng):
    model = VAE(6, 2, (8, 4), rng=rng)
    assert [layer.w.shape for layer in model.encoder.layers] == [(6, 8), (8, 4), (4, 4)]
    assert [layer.w.shape for layer in model.decoder.layers] == [(2, 4), (4, 8), (8, 6)]
