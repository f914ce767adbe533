"""The gaps between the ELBO and the evidence, on models whose evidence is known."""
import numpy as np
import pytest
from scipy import stats
from scipy.special import logsumexp

from autograd import optim
from minivae.distributions import Normal
from minivae.vae import VAE
from minivae.vae.gaps import exact_elbo, exact_log_likelihood, grid, inference_gaps, log_joint, surgery


@pytest.mark.equation("gaps.quadrature", "ln p(x) = ln int p(x|z) p(z) dz", bound=1e-8, kind="Q")
def test_the_evidence_of_a_linear_model_by_quadrature_is_its_closed_form(measure, rng):
    model = VAE(5, 2, (), likelihood="gaussian", rng=rng).astype(np.float64)
    x = rng.standard_normal((4, 5))
    w, b = (p.data for p in model.decoder.layers[0].parameters())
    measure(exact_log_likelihood(model, x) - stats.multivariate_normal(b, w.T @ w + np.eye(5)).logpdf(x))


@pytest.mark.equation("gaps.decomposition", "approximation gap of N(m, S): 1/2 (sum ln (S^-1)_ii - ln |S^-1|)",
                      bound=1e-6, kind="O")
def test_the_approximation_gap_of_a_linear_model_is_its_closed_form(measure, rng):
    model = VAE(5, 2, (), likelihood="gaussian", rng=rng).astype(np.float64)
    x = rng.standard_normal((4, 5))
    w = model.decoder.layers[0].w
    w.assign(2 * w.data)
    precision = np.eye(2) + w.data @ w.data.T                      # of the posterior: correlated, unlike q
    gaps = inference_gaps(model, x)
    measure(gaps.approximation - 0.5 * (np.log(np.diag(precision)).sum() - np.linalg.slogdet(precision)[1]))
    measure(gaps.q.mu - (x - model.decoder.layers[0].b.data) @ w.data.T @ np.linalg.inv(precision))
    measure(gaps.q.logvar + np.log(np.diag(precision)))
    assert (gaps.amortisation > 0.01).all()


@pytest.mark.equation("gaps.decomposition", "both gaps are >= 0, and q* is a stationary point of the ELBO", bound=1e-6,
                      kind="O")
def test_both_gaps_of_a_nonlinear_model_are_positive_and_training_the_encoder_closes_only_one(measure, rng):
    model = VAE(6, 2, (8,), activation="tanh", rng=rng).astype(np.float64)
    for p in model.decoder.parameters():
        p.assign(3 * p.data)
    x = (rng.random((8, 6)) < 0.5).astype(float)
    before = inference_gaps(model, x)
    optimizer = optim.Adam(model.encoder.parameters(), 0.02)
    for _ in range(500):
        optimizer.zero_grad()
        (-exact_elbo(model, x, model.encode(x), nodes=21).mean()).backward()
        optimizer.step()
    after = inference_gaps(model, x)
    for gaps in (before, after):
        assert (gaps.approximation > 1e-3).all() and (gaps.amortisation > 0).all()
    measure(after.best - before.best)                              # q* does not depend on the encoder
    assert after.amortisation.mean() < 0.2 * before.amortisation.mean()


def test_a_decoder_that_ignores_its_latents_has_collapsed_posteriors(rng):
    model = VAE(6, 2, (8,), activation="tanh", rng=rng).astype(np.float64)
    w = model.decoder.layers[-1].w
    w.assign(np.zeros(w.shape))
    x = (rng.random((5, 6)) < 0.5).astype(float)
    gaps = inference_gaps(model, x)
    np.testing.assert_allclose(gaps.q.kl(), 0, atol=1e-10)         # the best q is the prior: any other wastes nats
    np.testing.assert_allclose(gaps.approximation, 0, atol=1e-10)
    np.testing.assert_allclose(gaps.amortisation, model.encode(x).kl().data, atol=1e-8)
    posterior = log_joint(model, x, z := grid(2)[0])
    posterior -= logsumexp(posterior, axis=1, keepdims=True)
    prior = Normal(np.zeros(2), np.zeros(2)).log_prob(z)
    np.testing.assert_allclose(posterior, np.tile(prior - logsumexp(prior), (5, 1)), atol=1e-8)


@pytest.mark.equation("gaps.surgery", "mean KL(q_n || p) = I(n; z) + KL(qbar || p), 0 <= I <= ln N", bound=1e-8,
                      kind="Q")
@pytest.mark.parametrize("scale", [0.0, 0.5, 2.0])
def test_elbo_surgery_accounts_for_the_mean_kl(measure, rng, scale):
    q = Normal(scale * rng.standard_normal((6, 2)), 0.3 * rng.standard_normal((6, 2)) * (scale > 0) - 1)
    parts = surgery(q)
    z, weight = grid(2)
    log_q = logsumexp([np.asarray(Normal(m, v).log_prob(z)) for m, v in zip(q.mu, q.logvar)], axis=0) - np.log(6)
    to_prior = np.sum(np.exp(log_q) * (log_q - Normal(np.zeros(2), np.zeros(2)).log_prob(z))) * weight
    measure(parts.mean_kl - parts.mutual_information - to_prior)
    assert -1e-12 <= parts.mutual_information <= np.log(6) + 1e-12
    assert (parts.mutual_information > 1e-6) == (scale > 0)


@pytest.mark.equation("gaps.total-correlation", "KL(qbar || p) = TC + sum_j KL(qbar_j || p_j)", bound=1e-8, kind="Q")
def test_the_kl_of_the_aggregate_is_total_correlation_plus_marginals(measure, rng):
    q = Normal(rng.standard_normal((6, 2)), 0.3 * rng.standard_normal((6, 2)) - 1)
    parts = surgery(q)
    measure(parts.mean_kl - parts.mutual_information - parts.total_correlation - parts.dimension_kl.sum())
    assert parts.total_correlation > 0.01
    one = surgery(Normal(q.mu[:, :1], q.logvar[:, :1]))
    measure(one.total_correlation)
    measure(one.mean_kl - one.mutual_information - one.dimension_kl.sum())


def test_posteriors_that_the_grid_cannot_see_are_refused(rng):
    narrow = Normal(np.zeros((2, 1)), np.full((2, 1), -9.0))
    far = Normal(np.full((2, 1), 9.0), np.zeros((2, 1)))
    for q in (narrow, far):
        with pytest.raises(ValueError, match="too narrow, or too far"):
            surgery(q)
    model = VAE(30, 1, (), likelihood="gaussian", variance=1e-4, rng=rng).astype(np.float64)
    with pytest.raises(ValueError, match="too narrow"):
        exact_log_likelihood(model, model.sample(5, rng).astype(float))


def test_quadrature_refuses_three_latents(rng):
    with pytest.raises(ValueError, match="one or two latents, not 3"):
        exact_log_likelihood(VAE(6, 3, (), rng=rng), np.zeros((1, 6)))
