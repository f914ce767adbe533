"""The covariance of the codes against samples and moments, and what its penalty is zero for."""
import numpy as np
import pytest

from autograd import gradcheck
from minivae.distributions import Normal
from minivae.vae import DIPVAE, VAE
from minivae.vae.dip_vae import code_covariance

from .test_distributions import z_score

KINDS = pytest.mark.parametrize("kind", ["i", "ii"])


def posterior(rng, B=7, d=3):
    return Normal(rng.standard_normal((B, d)) @ rng.standard_normal((d, d)), rng.standard_normal((B, d)) - 1)


def whitened(rng, variance, B=7, d=3):
    """Codes (B, d) whose covariance is `variance` I."""
    mu = rng.standard_normal((B, d))
    return (variance * B) ** 0.5 * np.linalg.qr(mu - mu.mean(axis=0))[0] + 2


def penalty(model, q, kl=0.0):
    return np.asarray(model.penalty(q, q.mu, kl))


@pytest.mark.equation("dip.covariance", "Cov z = Cov mu(x) + E Sigma(x) = E zz' - Ez Ez'", bound=1e-10)
def test_the_covariance_is_the_second_moment_of_the_mixture_less_the_square_of_the_first(measure, rng):
    q = posterior(rng)
    second = np.mean([np.outer(m, m) + np.diag(np.exp(v)) for m, v in zip(q.mu, q.logvar)], axis=0)
    measure(code_covariance(q, "ii") - (second - np.outer(q.mu.mean(axis=0), q.mu.mean(axis=0))))


@pytest.mark.equation("dip.covariance", "Cov z = Cov mu(x) + E Sigma(x), by samples of z", bound=5, kind="S")
def test_the_covariance_is_that_of_samples(measure, rng):
    q = posterior(rng)
    z = Normal(np.repeat(q.mu, 4000, axis=0), np.repeat(q.logvar, 4000, axis=0)).sample(rng) - q.mu.mean(axis=0)
    measure(z_score(z[:, :, None] * z[:, None, :], np.asarray(code_covariance(q, "ii"))))


@pytest.mark.equation("dip.kinds", "C = Cov mu(x), or Cov z = Cov mu(x) + E Sigma(x)", bound=1e-10)
def test_the_second_kind_adds_the_mean_variance_to_the_first(measure, rng):
    q = posterior(rng)
    first = np.cov(q.mu.T, bias=True)
    measure(code_covariance(q, "i") - first)
    measure(code_covariance(q, "ii") - first - np.diag(np.exp(q.logvar).mean(axis=0)))


def test_only_the_first_kind_charges_for_collapsed_posteriors(rng):
    prior = Normal(np.zeros((7, 3)), np.zeros((7, 3)))
    for kind, price in (("i", 3 * 2.0), ("ii", 0.0)):
        assert penalty(DIPVAE(5, kind=kind, lambda_d=2.0, latent_dim=3, rng=rng), prior) == price


@pytest.mark.equation("dip.objective", "penalty = KL + l_od sum_{i != j} C_ij^2 + l_d sum_i (C_ii - 1)^2", bound=1e-10)
@KINDS
def test_the_penalty_is_its_sum(measure, rng, kind):
    q, model = posterior(rng), DIPVAE(5, kind=kind, lambda_od=3.0, lambda_d=7.0, latent_dim=3, rng=rng)
    C, want = np.asarray(code_covariance(q, kind)), 1.5
    for i in range(3):
        for j in range(3):
            want += 3 * C[i, j] ** 2 if i != j else 7 * (C[i, i] - 1) ** 2
    measure(penalty(model, q, 1.5) / want - 1)


@pytest.mark.equation("dip.objective", "penalty = 0 at C = I", bound=1e-10)
@pytest.mark.parametrize("kind, variance, logvar", [("i", 1.0, -3.0), ("ii", 0.25, np.log(0.75))])
def test_uncorrelated_codes_of_unit_variance_are_free(measure, rng, kind, variance, logvar):
    q = Normal(whitened(rng, variance), np.full((7, 3), logvar))
    model = DIPVAE(5, kind=kind, latent_dim=3, rng=rng)
    measure(penalty(model, q))
    assert penalty(model, Normal(q.mu * [1, 1, 2], q.logvar)) > 1


@pytest.mark.equation("dip.objective", "the gradient of the penalty, by differences", bound=1e-6, kind="G")
@KINDS
def test_the_gradient_of_the_penalty_is_the_central_difference(measure, rng, kind):
    q, model = posterior(rng), DIPVAE(5, kind=kind, latent_dim=3, rng=rng)
    measure(gradcheck(lambda mu, logvar: model.penalty(Normal(mu, logvar), mu, Normal(mu, logvar).kl().mean()),
                      q.mu, q.logvar).error)


def losses(**options):
    """Of a VAE and of a DIPVAE with the same weights, on the same batch."""
    rng, sizes = np.random.default_rng, {"latent_dim": 3, "hidden": (8,)}
    x = (rng(2).random((9, 6)) < 0.5).astype(np.float32)
    return [model.loss(x, rng(3)) for model in (VAE(6, **sizes, rng=rng(1)), DIPVAE(6, **sizes, **options, rng=rng(1)))]


@KINDS
def test_without_weights_the_loss_is_the_vaes(kind):
    (vae, reported), (dip, also) = losses(kind=kind, lambda_od=0.0, lambda_d=0.0)
    assert vae.item() == dip.item() and dip.dtype == np.float32
    (vae, reported), (dip, also) = losses(kind=kind)
    assert dip.item() > vae.item() and reported == also            # what is reported is not weighed


def test_the_first_kind_holds_the_variances_ten_times_as_hard(rng):
    models = [DIPVAE(5, **options, rng=rng) for options in ({"kind": "i", "lambda_od": 2.0}, {"lambda_od": 2.0},
                                                            {"kind": "i", "lambda_d": 0.0})]
    assert [(m.lambda_od, m.lambda_d) for m in models] == [(2, 20), (2, 2), (10, 0)]


@pytest.mark.parametrize("options, message", [
    ({"kind": "iii"}, "kind must be one of 'i', 'ii', not 'iii'"), ({"kind": 2}, "'i', 'ii', not 2"),
    ({"lambda_od": -1}, "lambda_od must be a number >= 0, not -1"),
    ({"lambda_d": np.inf}, "lambda_d must be a number >= 0, not inf"), ({"lambda_od": "10"}, "lambda_od must be")])
def test_bad_options_are_refused(rng, options, message):
    with pytest.raises(ValueError, match=message):
        DIPVAE(5, **options, rng=rng)
