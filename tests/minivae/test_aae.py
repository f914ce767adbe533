"""The adversarial autoencoder: its critic's logit is the log ratio of the prior to the aggregate posterior."""
import contextlib
import io

import numpy as np
import pytest
from scipy import stats

from autograd import Tensor, ops, optim
from autograd.module import Module, Parameter
from minivae.data import Batches
from minivae.train import fit
from minivae.vae import AAE

from .test_cvae import cubature

DATA = np.random.default_rng(1).integers(0, 256, (66, 12), np.uint8)


def model_of(seed=0, **options):
    return AAE(12, **{"latent_dim": 3, "hidden": (16,), "critic": (8,), **options}, rng=np.random.default_rng(seed))


class Quadratic(Module):
    """l(z) = weighed quadratic features of z (B, 2): ln N/N, of any two Gaussians, is one of these critics."""

    def __init__(self):
        self.w = Parameter(np.zeros((6, 1)), np.float64)

    def forward(self, z):
        one, two = z[:, :1], z[:, 1:]
        return ops.concatenate([0 * one + 1, one, two, one * one, one * two, two * two], axis=1) @ self.w


def gaussian_codes(rng):
    """A model whose q̄ is Gaussian, as its encoder is linear and its data are; and the mean and covariance of q̄."""
    model = model_of(latent_dim=2, hidden=(), likelihood="gaussian", gamma=1.0).astype(np.float64)
    layer, model.critic = model.encoder.layers[0], Quadratic()
    A, spread = rng.standard_normal((12, 2)) / 12 ** 0.5, np.log([0.3, 0.6])
    layer.w.assign(np.concatenate([A, np.zeros((12, 2))], axis=1))
    layer.b.assign(np.concatenate([[0.5, -0.3], spread]))
    return model, np.array([0.5, -0.3]), A.T @ A + np.diag(np.exp(spread))


def log_ratio(z, mean, cov):
    """ln p(z)/q̄(z)."""
    return stats.norm.logpdf(z).sum(axis=1) - stats.multivariate_normal(mean, cov).logpdf(z)


@pytest.mark.equation("aae.objective", "loss = -E ln p(x|z) - gamma mean of the critic's logit",
                      bound=1e-10)
def test_the_loss_is_the_distortion_less_the_mean_logit(measure, rng):
    x = rng.random((8, 12))
    for gamma in (0.0, 3.0):
        model = model_of(gamma=gamma).astype(np.float64)
        loss, terms = model.loss(x, np.random.default_rng(2))
        z = model.encode(x).sample(np.random.default_rng(2))
        recon = model.decode(z).log_prob(x).data.mean()
        measure((loss.item() + recon + gamma * np.mean(model.critic(z).data)) / loss.item())
        assert terms["recon"] == pytest.approx(recon)


@pytest.mark.equation("aae.density-ratio", "Gaussian codes: the critic of the game learns ln p/q, + where p is larger",
                      bound=0.05, kind="O")
def test_the_best_critic_of_the_game_is_the_log_ratio_of_prior_to_aggregate_posterior(measure):
    rng = np.random.default_rng(0)
    model, mean, cov = gaussian_codes(rng)
    players = optim.Players(vae=optim.SGD(model.decoder.parameters(), 0.0),
                            critic=optim.Adam(model.critic.parameters(), lambda t: 0.03 * 0.99 ** t))
    for _ in range(400):
        for player, loss, _ in model.objectives(rng.standard_normal((4000, 12)), rng):
            if player == "critic":
                players[player].zero_grad()
                loss.backward()
                players[player].step()
    z = rng.multivariate_normal(mean, cov, 20_000)
    exact, l = log_ratio(z, mean, cov), model.critic(z).data[:, 0]
    measure(np.sqrt(np.mean((l - exact) ** 2) / np.mean(exact ** 2)))
    assert l.mean() < 0, "codes do not look less like the prior than the prior does"


@pytest.mark.equation("aae.kl", "at l = ln p/q, Gaussians: -E l = KL(q || p), and its gradient, l held, is that of KL",
                      bound=1e-10)
def test_at_the_best_critic_the_penalty_and_its_gradient_are_those_of_the_kl(measure, rng):
    model, mean, cov = gaussian_codes(rng)
    P = np.linalg.inv(cov)
    exact = 0.5 * (mean @ mean + np.trace(cov) - 2 - np.linalg.slogdet(cov)[1])
    shift = P - np.eye(2)                    # ln p/q = ½ zᵀ(P − I) z − zᵀP m + ½ mᵀP m + ½ ln |cov|
    model.critic.w.assign(np.array([0.5 * mean @ P @ mean + 0.5 * np.linalg.slogdet(cov)[1], *(-P @ mean),
                                    0.5 * shift[0, 0], shift[0, 1], 0.5 * shift[1, 1]])[:, None])
    some = rng.standard_normal((5, 2))
    measure(model.critic(some).data[:, 0] - log_ratio(some, mean, cov))
    m, L = Tensor(mean, requires_grad=True), Tensor(np.linalg.cholesky(cov), requires_grad=True)
    penalty = model.penalty(None, m + cubature(np.eye(2)) @ L.T, None)
    measure(penalty.item() / exact - 1)
    penalty.backward()
    measure(m.grad - mean)                   # of KL(N(m, LLᵀ) ‖ N(0, I)) = ½ (|m|² + |L|² − d) − ln |det L|
    measure(L.grad - (L.data - np.linalg.inv(L.data).T))


def test_the_game_is_played_with_this_z_in_this_order(rng):
    model, x = model_of(), rng.random((9, 12), np.float32)
    turns, (twin, game) = [], (np.random.default_rng(5), np.random.default_rng(5))
    z = model.encode(x).sample(twin)
    drawn = twin.standard_normal((9, 3), np.float32)
    l_p, l_q = model.critic(drawn).data, model.critic(z).data
    for player, loss, terms in model.objectives(x, game):
        turns.append(player)
        if player == "vae":
            assert terms["penalty"] == pytest.approx(-10 * l_q.mean(), abs=1e-4)
            model.encoder.layers[0].w.assign(0 * model.encoder.layers[0].w.data)   # z is as it was before the VAE moved
    assert turns == ["vae", "critic"]
    assert loss.item() == pytest.approx(np.logaddexp(0, -l_p).mean() + np.logaddexp(0, l_q).mean(), rel=1e-5)


def test_each_player_moves_only_its_own_parameters(rng):
    model = model_of()
    players, critic = model.optimizer(), {name for name in model.state() if name.startswith("critic")}
    for player, loss, _ in model.objectives(rng.random((16, 12), np.float32), rng):
        before = model.state()
        players[player].zero_grad()
        loss.backward()
        players[player].step()
        moved = {name for name, a in model.state().items() if not np.array_equal(a, before[name])}
        assert moved and (moved <= critic if player == "critic" else not moved & critic)


def trained(data, epochs, seed=0, lr=1e-3, **options):
    model = model_of(seed, **options)
    with contextlib.redirect_stdout(io.StringIO()):
        rows = fit(model, Batches(data, 33), epochs=epochs, optimizer=model.optimizer(lr, lr),
                   rng=np.random.default_rng(seed))
    return model, rows


def test_twenty_seeds_of_a_short_game_are_finite():
    for seed in range(20):
        model, rows = trained(DATA, 3, seed)
        x = (DATA / 255).astype(np.float32)
        drawn = [model.sample(4, r := np.random.default_rng(0)), model.reconstruct(x),
                 model.log_likelihood(x, 5, r), *[term.data for term in model.elbo(x, r)]]
        assert all(np.isfinite(a).all() for a in [*drawn, *model.state().values(), list(rows[-1].values())])


def test_training_brings_the_codes_to_the_mean_and_variance_of_the_prior():
    """Bits, each in three pixels: without a price the codes go where they like; with it, to mean 0 and variance 1."""
    data = np.repeat(np.random.default_rng(0).integers(0, 2, (330, 4), np.uint8) * 255, 3, axis=1)
    x, off = (data / 255).astype(np.float32), {}
    for gamma in (0.0, 10.0):
        model, _ = trained(data, 80, lr=optim.warmup_cosine(5e-3, 10, 800), gamma=gamma, latent_dim=2, critic=(32, 32))
        z = model.encode(x).sample(np.random.default_rng(0))
        off[gamma] = np.abs(z.mean(axis=0)).max() + np.abs(np.cov(z.T) - np.eye(2)).max()
    assert off[10.0] < 0.6 < off[0.0]


@pytest.mark.parametrize("options, message", [
    ({"gamma": -1}, "gamma must be a number >= 0, not -1"),
    ({"critic": 8}, r"critic must be a tuple of widths, such as \(64,\), not 8"),
    ({"critic": (8, 0)}, "a width in critic must be a positive integer, not 0"),
    ({"kl_warmup": 10}, "an AAE takes no kl_warmup or free_bits"), ({"free_bits": 0.1}, "no KL that they could weigh")])
def test_what_an_aae_cannot_do_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        model_of(**options)
