"""FactorVAE: the critic's logit is a log density ratio, and the game keeps its rules."""
import numpy as np
import pytest
from scipy import stats

from autograd import gradcheck, ops, optim
from minivae.data import Batches
from minivae.train import fit
from minivae.vae import VAE, FactorVAE
from minivae.vae.factor_vae import critic_loss, permute

DATA = np.random.default_rng(1).integers(0, 256, (66, 12), np.uint8)


def model_of(seed=0, **options):
    return FactorVAE(12, latent_dim=3, hidden=(16,), critic=(8,), rng=np.random.default_rng(seed), **options)


@pytest.mark.equation("factor.objective", "loss = -ELBO + gamma mean of the critic's logit", bound=1e-6)
def test_the_loss_is_that_of_the_vae_and_gamma_times_the_mean_logit(measure, rng):
    x = rng.random((8, 12), np.float32)
    for gamma in (0.0, 3.0):
        model = model_of(gamma=gamma)
        loss, terms = model.loss(x, np.random.default_rng(2))
        z = model.encode(x).sample(np.random.default_rng(2))
        measure((loss.item() + terms["elbo"] - gamma * np.mean(model.critic(z).data)) / loss.item())


@pytest.mark.equation("factor.density-ratio", "correlated Gaussian codes: the best logit is ln q/(q1 q2), its mean TC",
                      bound=0.05, kind="O")
def test_the_best_critic_is_the_log_ratio_and_its_mean_the_total_correlation(measure):
    """Against q(z) = N(0, [[1, r], [r, 1]]): ln q/q̄ is quadratic, so a critic of those features can reach it."""
    rng, r = np.random.default_rng(0), 0.7
    z = rng.multivariate_normal([0, 0], [[1, r], [r, 1]], 40_000)
    features = lambda z: np.column_stack([np.ones(len(z)), z ** 2, z[:, 0] * z[:, 1]])
    w = optim.Adam([p := ops.Tensor(np.zeros((4, 1)), requires_grad=True)], 0.02)
    for _ in range(600):
        w.zero_grad()
        critic_loss(features(z) @ p, features(permute(z, rng)) @ p).backward()
        w.step()
    exact = stats.multivariate_normal([0, 0], [[1, r], [r, 1]]).logpdf(z) - stats.norm.logpdf(z).sum(axis=1)
    logit = (features(z) @ p.data)[:, 0]
    measure(np.sqrt(np.mean((logit - exact) ** 2) / np.mean(exact ** 2)))
    measure(logit.mean() / (-0.5 * np.log(1 - r ** 2)) - 1)


@pytest.mark.equation("factor.permutation", "every latent keeps its values, and loses its companions: correlation 0",
                      bound=5, kind="S")
def test_permuted_codes_have_the_same_marginals_and_no_correlation(measure, rng):
    z = rng.multivariate_normal([0, 0], [[1, 0.9], [0.9, 1]], 5000).astype(np.float32)
    before, again = z.copy(), permute(z, rng)
    np.testing.assert_array_equal(z, before)
    np.testing.assert_array_equal(np.sort(again, axis=0), np.sort(z, axis=0))
    measure(np.corrcoef(again.T)[0, 1] * np.sqrt(len(z)))
    assert again.dtype == np.float32


def test_an_undecided_critic_costs_two_ln_2_and_its_gradient_is_right(rng):
    zeros = np.zeros((6, 1))
    assert critic_loss(zeros, zeros) == pytest.approx(2 * np.log(2))
    gradcheck(critic_loss, rng.standard_normal((6, 1)), rng.standard_normal((6, 1)))


def test_each_player_moves_only_its_own_parameters(rng):
    model = model_of()
    players, x = model.optimizer(), rng.random((16, 12), np.float32)
    critic = {name for name in model.state() if name.startswith("critic")}
    for player, loss, _ in model.objectives(x, rng):
        before = model.state()
        players[player].zero_grad()
        loss.backward()
        players[player].step()
        moved = {name for name, a in model.state().items() if not np.array_equal(a, before[name])}
        assert moved and (moved <= critic if player == "critic" else not moved & critic)


def test_the_game_is_played_on_these_halves_in_this_order():
    model, x = model_of(), np.random.default_rng(0).random((17, 12), np.float32)
    twin = np.random.default_rng(5)
    real = model.encode(x[:9]).sample(twin)
    permuted = permute(model.encode(x[9:]).sample(twin), twin)
    want = [model.loss(x[:9], twin)[0].item(), critic_loss(model.critic(real), model.critic(permuted)).item()]
    assert [loss.item() for _, loss, _ in model.objectives(x, np.random.default_rng(5))] == want


def test_the_critic_has_the_momentum_of_the_paper():
    players = model_of().optimizer(lr=0.1, critic_lr=0.2)
    assert players["critic"].betas == (0.5, 0.9) and (players["vae"].lr, players["critic"].lr) == (0.1, 0.2)


def test_with_gamma_0_its_loss_is_the_vaes():
    """From the same weights and the same noise."""
    model, vae = model_of(gamma=0.0), VAE(12, 3, (16,), rng=np.random.default_rng(0))
    vae.load_state({name: a for name, a in model.state().items() if not name.startswith("critic")})
    x = np.random.default_rng(3).random((16, 12), np.float32)
    mine, its = (m.loss(x, np.random.default_rng(4))[0].item() for m in (model, vae))
    assert mine == pytest.approx(its, rel=1e-6)


def test_a_game_that_was_stopped_ends_like_one_that_never_was(tmp_path):
    def run(epochs, seed=0, **options):
        model = model_of(seed)
        fit(model, Batches(DATA, 16, binarise=True), epochs=epochs, optimizer=model.optimizer(),
            rng=np.random.default_rng(seed), **options)
        return model.state()
    whole = run(4)
    run(2, checkpoint=tmp_path / "run.npz")
    again = run(4, seed=9, checkpoint=tmp_path / "run.npz", resume=True)
    assert all(np.array_equal(whole[name], again[name]) for name in whole)


def test_a_last_batch_of_one_example_is_no_trouble(rng):
    losses = [loss.item() for _, loss, _ in model_of().objectives(rng.random((1, 12), np.float32), rng)]
    assert np.isfinite(losses).all()


def test_a_training_run_uncorrelates_the_codes(rng):
    def correlation(gamma):
        model = model_of(gamma=gamma)
        data = np.repeat(DATA[:, :3] // 128 * 255, 4, axis=1)      # three bits, each in four pixels
        fit(model, Batches(data, 16), epochs=60, optimizer=model.optimizer(0.005), rng=np.random.default_rng(0))
        q = model.encode((data / 255).astype(np.float32))
        return np.abs(np.corrcoef(q.sample(np.random.default_rng(0)).T) - np.eye(3)).max()
    assert correlation(20.0) < correlation(0.0)


@pytest.mark.parametrize("make, message", [
    (lambda: model_of(gamma=-1), "gamma must be a number >= 0, not -1"),
    (lambda: fit(m := model_of(), Batches(DATA, 16), epochs=1, optimizer=optim.Adam(m.parameters()),
                 rng=np.random.default_rng(0)), "this is a game: give Players, with an optimizer named 'vae'"),
    (lambda: fit(m := VAE(12, 2, rng=np.random.default_rng(0)), Batches(DATA, 16), epochs=1, optimizer=optim.Players(
        vae=optim.Adam(m.parameters())), rng=np.random.default_rng(0)), "VAE is no game: give it one optimizer"),
    (lambda: fit(m := model_of(), Batches(DATA, 16), epochs=1, optimizer=optim.Players(critic=optim.Adam(
        m.critic.parameters())), rng=np.random.default_rng(0)), "no optimizer for the player 'vae', only for critic"),
])
def test_what_breaks_the_rules_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
