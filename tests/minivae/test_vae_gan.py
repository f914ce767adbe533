"""VAE-GAN: likeness in features, and whom each term of the loss can move."""
import contextlib
import io

import numpy as np
import pytest
from scipy import stats

from autograd import Tensor, gradcheck, no_grad, ops, optim
from minivae.data import Batches
from minivae.train import fit
from minivae.vae import VAE, VAEGAN
from minivae.vae.factor_vae import frozen

from .test_aae import Quadratic

DATA = np.random.default_rng(1).integers(0, 256, (66, 12), np.uint8)
PLAYERS = "encoder", "decoder", "critic"


def model_of(seed=0, D=12, **options):
    return VAEGAN(D, **{"latent_dim": 3, "hidden": (16,), "critic": (9, 8), **options}, rng=np.random.default_rng(seed))


@pytest.mark.equation("vaegan.likeness", "-ln N(f(x)/s; f(x')/s, I), s^2 = mean f(x)^2, whatever the unit of f",
                      bound=1e-10)
def test_likeness_is_a_gaussian_in_features_and_knows_no_unit(measure, rng):
    model, x, again = model_of().astype(np.float64), rng.random((7, 12)), rng.random((7, 12))
    h = x
    for layer in model.critic.layers[:2]:
        h = np.maximum(h @ layer.w.data + layer.b.data, 0)
    features = model.judge(again)[0].data
    s = np.sqrt(np.mean(h ** 2))
    exact = -stats.norm.logpdf(h / s, features / s).sum(axis=1).mean()
    measure(model.unlikeness(h, features).item() / exact - 1)
    for p in model.critic.layers[1].parameters():
        p.assign(100 * p.data)
    measure(model.unlikeness(model.judge(x)[0], model.judge(again)[0]).item() / exact - 1)


def terms_of(model, x, rng):
    """All that the three losses are made of, as one graph in which nobody is held."""
    q = model.encode(x)
    z = q.rsample(rng)
    drawn, eps = rng.standard_normal(z.shape), model.noise * rng.standard_normal(x.shape)
    again, fresh = model.decode(z).mean, model.decode(drawn).mean
    logit = lambda images: model.judge(images)[1]
    seen = model.judge(x)[0].data
    s = np.sqrt(np.mean(seen ** 2))
    off = ops.square((model.judge(again)[0] - seen) / s)
    like = -0.5 * ops.mean(ops.sum(off + np.log(2 * np.pi), axis=1))
    fooling = 0.5 * ops.mean(ops.softplus(-logit(again))) + 0.5 * ops.mean(ops.softplus(-logit(fresh)))
    told = ops.mean(ops.softplus(-logit(x + eps))) + 0.5 * (ops.mean(ops.softplus(logit(again + eps)))
                                                            + ops.mean(ops.softplus(logit(fresh + eps))))
    return {"encoder": q.kl().mean() - like, "decoder": fooling - model.gamma * like, "critic": told}


@pytest.mark.equation("vaegan.players", "a player's gradient is that of its own terms, before any moved; others' is 0",
                      bound=1e-10)
def test_each_term_moves_only_the_player_it_is_for_and_all_gradients_are_of_the_same_moment(measure, rng):
    model, x = model_of(gamma=0.7).astype(np.float64), rng.random((10, 12))
    players, parts = model.optimizer(lr=0.1, critic_lr=0.1), {name: getattr(model, name) for name in PLAYERS}
    want = {}
    for name in PLAYERS:
        for p in model.parameters():
            p.grad = None
        loss = terms_of(model, x, np.random.default_rng(5))[name]
        loss.backward()
        want[name] = loss.item(), [p.grad.copy() for p in parts[name].parameters()]
    turns = []
    for name, loss, _ in model.objectives(x, np.random.default_rng(5)):
        for p in model.parameters():
            p.grad = None
        loss.backward()
        measure(loss.item() / want[name][0] - 1)
        for p, g in zip(parts[name].parameters(), want[name][1], strict=True):
            measure(np.max(np.abs(p.grad - g)) / np.max(np.abs(g)))
        assert all(p.grad is None for other in PLAYERS if other != name for p in parts[other].parameters())
        before = model.state()
        players[name].step()                 # so that the next gradient is of the same moment only if it is meant to be
        assert {key.split(".")[0] for key, a in model.state().items() if not np.array_equal(a, before[key])} == {name}
        turns.append(name)
    assert turns == [*PLAYERS]


@pytest.mark.equation("vaegan.density-ratio", "fakes on a line, and noise: the critic learns ln of the blurred ratio",
                      bound=0.05, kind="O")
def test_noise_makes_the_log_ratio_finite_and_the_critic_of_the_game_learns_it(measure):
    """Fakes z w + b, for z ~ N(0, 1) both from q and from p: without ε their density would be 0 off a line."""
    rng, noise = np.random.default_rng(0), 0.8
    model = model_of(D=2, latent_dim=1, hidden=(), critic=(4,), likelihood="gaussian", noise=noise).astype(np.float64)
    for p in model.encoder.parameters():
        p.assign(np.zeros(p.shape))
    w, b = (p.data for p in model.decoder.parameters())
    w[:], b[:] = [[1.0, 0.5]], [0.4, -0.2]
    quadratic, model.judge = Quadratic(), lambda x: (x, ops.reshape(quadratic(ops.reshape(x, (-1, 2))), (-1, 1)))
    optimizer, blur = optim.Adam(quadratic.parameters(), lambda t: 0.03 * 0.99 ** t), noise ** 2 * np.eye(2)
    for _ in range(400):
        for player, loss, _ in model.objectives(rng.standard_normal((3000, 2)), rng):
            if player == "critic":
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
    x = rng.standard_normal((20_000, 2)) * (1 + noise ** 2) ** 0.5
    exact = stats.multivariate_normal([0, 0], np.eye(2) + blur).logpdf(x) - stats.multivariate_normal(
        b, w.T @ w + blur).logpdf(x)
    measure(np.sqrt(np.mean((quadratic(x).data[:, 0] - exact) ** 2) / np.mean(exact ** 2)))


def test_the_loss_has_the_right_gradient_and_its_terms_are_those_of_pixels(rng):
    model, x = model_of().astype(np.float64), rng.random((4, 12))
    loss, terms = model.loss(x, np.random.default_rng(0))
    elbo = model.elbo(x, np.random.default_rng(0))
    assert (terms["recon"], terms["kl"]) == pytest.approx((elbo.recon.data.mean(), elbo.kl.data.mean()))
    assert terms["elbo"] == pytest.approx(elbo.value.data.mean())
    assert loss.item() == pytest.approx(terms["kl"] + terms["unlikeness"])
    f = rng.random((4, 8))
    gradcheck(lambda again: model.unlikeness(f, again), rng.random((4, 8)))


def test_as_a_model_of_pixels_it_is_a_vae(rng):
    model, vae = model_of(), VAE(12, 3, (16,), rng=np.random.default_rng(1))
    vae.load_state({name: a for name, a in model.state().items() if not name.startswith("critic")})
    x = rng.random((5, 12), np.float32)
    for f in (lambda m, r: m.sample(3, r), lambda m, r: m.log_likelihood(x, 7, r), lambda m, r: m.reconstruct(x)):
        np.testing.assert_array_equal(f(model, np.random.default_rng(2)), f(vae, np.random.default_rng(2)))


def test_those_who_chase_each_other_have_little_momentum_and_the_critic_its_own_rate():
    players = model_of().optimizer(lr=0.1, critic_lr=0.2)
    assert [players[name].lr for name in PLAYERS] == [0.1, 0.1, 0.2]
    assert [players[name].betas for name in PLAYERS] == [(0.9, 0.999), (0.5, 0.999), (0.5, 0.999)]


def test_frozen_parameters_are_constants_until_the_end_whatever_happens(rng):
    model, x = model_of(), Tensor(rng.random((3, 12), np.float32), requires_grad=True)
    with pytest.raises(KeyError), frozen(model.critic):
        loss = ops.sum(model.judge(x)[1])
        raise KeyError
    loss.backward()
    assert x.grad is not None and all(p.grad is None and p.requires_grad for p in model.critic.parameters())


def test_twenty_seeds_of_a_short_game_are_finite():
    x = (DATA / 255).astype(np.float32)
    for seed in range(20):
        model = model_of(seed)
        with contextlib.redirect_stdout(io.StringIO()):
            rows = fit(model, Batches(DATA, 33), epochs=3, optimizer=model.optimizer(), rng=np.random.default_rng(seed))
        drawn = [model.sample(4, r := np.random.default_rng(0)), model.reconstruct(x),
                 model.log_likelihood(x, 5, r), *[term.data for term in model.elbo(x, r)]]
        assert all(np.isfinite(a).all() for a in [*drawn, *model.state().values(), list(rows[-1].values())])
        assert {"elbo", "recon", "kl", "unlikeness", "fooling", "critic"} <= set(rows[-1])


def test_a_critic_without_a_feature_gives_no_nan(rng):
    model = model_of()
    for p in model.critic.layers[1].parameters():
        p.assign(-np.ones(p.shape))
    assert all(np.isfinite(loss.item()) for _, loss, _ in model.objectives(rng.random((4, 12), np.float32), rng))


def test_training_makes_reconstructions_more_alike():
    data = np.repeat(np.random.default_rng(0).integers(0, 2, (330, 4), np.uint8) * 255, 3, axis=1)
    model = model_of(gamma=1.0, hidden=(32,), critic=(64,))
    x = (data / 255).astype(np.float32)

    @no_grad()
    def error():
        return np.mean((model.reconstruct(x) - x) ** 2)
    before = error()
    with contextlib.redirect_stdout(io.StringIO()):
        fit(model, Batches(data, 33), epochs=60, optimizer=model.optimizer(5e-3, 2e-3), rng=np.random.default_rng(0))
    assert error() < 0.5 * before


@pytest.mark.parametrize("options, message", [
    ({"gamma": -1}, "gamma must be a number >= 0, not -1"), ({"noise": np.nan}, "noise must be a number >= 0, not nan"),
    ({"critic": 8}, "critic must be a tuple of widths"), ({"critic": (0,)}, "a width in critic"),
    ({"kl": "analytic"}, "a VAEGAN takes no kl"),
    ({"likelihood": "gaussian", "variance": "learned"}, "no learned variance: no loss depends on it"),
    ({"likelihood": "gaussian", "variance": np.ones(12)}, r"must be a number > 0, not array\(\[1")])
def test_what_a_vae_gan_cannot_do_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        model_of(**options)
