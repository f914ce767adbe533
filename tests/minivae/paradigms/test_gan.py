"""GAN: what its critic learns is a log density ratio, and what its generator follows is known where that is exact."""
import contextlib
import io

import numpy as np
import pytest
from scipy import stats

from autograd import Tensor, grad, gradcheck, ops, optim
from autograd.module import Module
from minivae.data import Batches
from minivae.paradigms import GAN
from minivae.train import evaluate, fit
from minivae.vae.factor_vae import critic_loss

from ..test_distributions import z_score

LINE = np.linspace(-12, 12, 4001)            # nodes of quadrature on a line
STEP = LINE[1] - LINE[0]
POINTS = np.random.default_rng(0).standard_normal((66, 2)).astype(np.float32)


def model_of(D=2, seed=0, **options):
    return GAN(D, **{"latent_dim": 3, "hidden": (16,), "critic": (8,), **options}, rng=np.random.default_rng(seed))


class Function(Module):
    """A critic that is some function of x."""

    def __init__(self, f):
        self.forward = f


def linear_generator(weight, bias, **options):
    """G(z) = weight z + bias, in float64."""
    model = model_of(len(bias), latent_dim=len(weight), hidden=(), **options).astype(np.float64)
    layer, = model.generator.layers
    layer.w.assign(weight)
    layer.b.assign(bias)
    return model


@pytest.mark.equation("gan.game", "critic: E_p softplus(-l) + E_q softplus(l); then generator: -E_q ln D, fresh fakes",
                      bound=1e-10)
@pytest.mark.parametrize("options", [{}, {"noise": 0.3}, {"pixels": True}], ids=str)
def test_the_game_is_played_with_these_losses_in_this_order(measure, options):
    model, x = model_of(**options).astype(np.float64), np.random.default_rng(3).random((9, 2))
    twin, turns = np.random.default_rng(5), []
    for player, loss, terms in model.objectives(x, np.random.default_rng(5)):
        turns.append(player)
        fakes = model.generator(twin.standard_normal((9, 3))).data
        fakes = 1 / (1 + np.exp(-fakes)) if "pixels" in options else fakes
        blur = lambda a: a + options["noise"] * twin.standard_normal(a.shape) if "noise" in options else a
        D = lambda a: 1 / (1 + np.exp(-model.critic(blur(a)).data))
        if player == "critic":
            V = np.log(D(x)).mean() + np.log(1 - D(fakes)).mean()
            measure(loss.item() + V)
            measure(terms["jsd"] - (np.log(2) + V / 2))
            model.critic.layers[0].w.assign(1.3 * model.critic.layers[0].w.data)   # the generator meets it as it is now
        else:
            measure(loss.item() + np.log(D(fakes)).mean())
            assert terms["fooling"] == loss.item()
    assert turns == ["critic", "generator"]


@pytest.mark.equation("gan.optimal-critic", "on K points: dV/dl = 0 at l = ln p/q, D = p/(p + q), where V is largest",
                      bound=1e-10)
def test_the_best_critic_is_the_density_ratio(measure, rng):
    p = rng.integers(1, 9, 6)                                      # how often each point is in the data
    q = np.roll(p, 1)                                              # and among as many fakes
    model, fakes = model_of(1).astype(np.float64), np.repeat(np.arange(6.0), q)[:, None]
    model.generate = lambda z: fakes
    x, best = np.repeat(np.arange(6.0), p)[:, None], np.log(p / q)

    def loss(l):
        model.critic = Function(lambda x: l[x.astype(int)])
        return model.loss(x, rng)[0]
    measure(grad(loss)(best))
    measure(1 / (1 + np.exp(-best)) - p / (p + q))
    assert all(loss(best) < loss(best + 0.1 * v) for v in rng.standard_normal((50, 6)))


def densities(kind):
    """p and q on LINE: Gaussians, or mixtures of two."""
    one = lambda m, s: stats.norm(m, s).pdf(LINE)
    return {"gaussians": (one(0.5, 1.0), one(-0.7, 1.4)), "equal": (one(1.0, 0.8), one(1.0, 0.8)),
            "mixtures": (0.3 * one(-2, 0.5) + 0.7 * one(1, 0.8), 0.5 * one(-1, 0.7) + 0.5 * one(2, 0.4))}[kind]


@pytest.mark.equation("gan.jensen-shannon", "V(D*) = -ln 4 + 2 JSD(p, q), and the loss's bound on JSD is tight there",
                      bound=1e-8, kind="Q")
@pytest.mark.parametrize("kind", ["gaussians", "equal", "mixtures"])
def test_at_the_best_critic_the_game_is_worth_the_jensen_shannon_divergence(measure, kind):
    p, q = densities(kind)
    mix = (p + q) / 2
    kl = lambda a, b: np.sum(np.where(a > 0, a * np.log(np.maximum(a, 1e-300) / np.maximum(b, 1e-300)), 0)) * STEP
    jsd = (kl(p, mix) + kl(q, mix)) / 2
    l = np.log(np.maximum(p, 1e-300)) - np.log(np.maximum(q, 1e-300))
    real, fake = (np.array([critic_loss(*pair).item() - np.log(2) for pair in pairs]) for pairs in (
        [(Tensor([v]), Tensor([0.0])) for v in l], [(Tensor([0.0]), Tensor([v])) for v in l]))
    V = -np.sum(p * real + q * fake) * STEP
    measure(V - (-np.log(4) + 2 * jsd))
    assert (jsd == pytest.approx(0, abs=1e-12)) == (kind == "equal")


@pytest.mark.equation("gan.linear-logit", "N(m, S) against N(m', S): the trained logit has weights S^-1 (m - m')",
                      bound=0.02, kind="O")
@pytest.mark.parametrize("seed", [0, 1])
def test_between_gaussians_of_one_covariance_the_trained_logit_is_linear_and_right(measure, seed):
    rng = np.random.default_rng(seed)
    S, m, other = np.array([[1.0, 0.6], [0.6, 0.8]]), np.array([0.4, -0.5]), np.array([-0.3, 0.2])
    L = np.linalg.cholesky(S)
    model = linear_generator(L.T, other, critic=())
    optimizer = optim.Adam(model.critic.parameters(), lambda t: 0.1 * 0.99 ** t)
    for _ in range(500):
        (_, loss, _), *_ = model.objectives(m + rng.standard_normal((8000, 2)) @ L.T, rng)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    w = np.linalg.solve(S, m - other)
    layer, = model.critic.layers
    measure(np.linalg.norm(layer.w.data[:, 0] - w) / np.linalg.norm(w))
    measure((layer.b.data + w @ (m + other) / 2) / np.linalg.norm(w))
    x = rng.standard_normal((5, 2))
    ratio = stats.multivariate_normal(m, S).logpdf(x) - stats.multivariate_normal(other, S).logpdf(x)
    np.testing.assert_allclose(model.log_ratio(x), ratio, atol=0.1)


@pytest.mark.equation("gan.non-saturating", "l = ln p/q, held: the generator's gradient is of KL(q|p) - 2 JSD(p, q)",
                      bound=1e-6, kind="Q")
def test_at_the_best_critic_the_generators_gradient_is_that_of_the_reverse_kl_less_two_jsd(measure):
    """G(z) = s z + m, the z of a million equal slices of N(0, 1); the divergences by quadrature on a line."""
    m, s, p = -0.4, 0.8, lambda x: 0.4 * stats.norm(-1, 0.8).pdf(x) + 0.6 * stats.norm(1, 1.0).pdf(x)
    centres, widths, weights = np.array([-1, 1.0]), np.array([0.8, 1.0]), np.array([0.4, 0.6])

    def log_p(x):
        away = (x - centres) / widths
        return ops.logsumexp(-0.5 * away * away - np.log(widths / weights * (2 * np.pi) ** 0.5), axis=1)
    model = linear_generator([[s]], [m])
    log_q = lambda x: stats.norm(m, s).logpdf(plain_of(x))
    plain_of = lambda x: np.asarray(getattr(x, "data", x))
    held = lambda x: log_p(x) + 0.5 * ops.sum(((x - m) / s) ** 2, axis=1) + np.log(s * (2 * np.pi) ** 0.5)
    model.critic = Function(lambda x: ops.expand_dims(held(x), 1))
    z = stats.norm.ppf((np.arange(10 ** 6) + 0.5) / 10 ** 6)[:, None]
    model.draw, model.check = lambda n, rng: z, lambda x: x
    (_, loss, _), = [turn for turn in model.objectives(z[:1], None) if turn[0] == "generator"]
    loss.backward()
    layer, = model.generator.layers
    np.testing.assert_allclose(held(np.array([[0.3]])), np.log(p(0.3)) - log_q(0.3), rtol=1e-10)

    def divergence(m, s):
        log_q = -0.5 * ((LINE - m) / s) ** 2 - np.log(2 * np.pi) / 2 - ops.log(s)
        of_p = log_p(LINE[:, None])
        mix = ops.logsumexp(ops.stack([of_p + 0 * m, log_q]), axis=0) - np.log(2)
        kl = lambda a, b: ops.sum(ops.exp(a) * (a - b)) * STEP
        return kl(log_q, of_p) - kl(of_p, mix) - kl(log_q, mix)
    want = grad(divergence, (0, 1))(np.array(m), np.array(s))
    measure(layer.b.grad[0] - want[0])
    measure(layer.w.grad[0, 0] - want[1])


@pytest.mark.equation("gan.penalty", "the critic's loss less -V: half gamma times the mean of |dl/dx|^2, differences",
                      bound=1e-6)
@pytest.mark.parametrize("noise", [0, 0.2])
def test_the_critic_pays_for_its_slope_at_the_data(measure, rng, noise):
    model, x = model_of(penalty=0.7, noise=noise, critic=(5, 4)).astype(np.float64), rng.standard_normal((6, 2))
    loss, terms = model.loss(x, np.random.default_rng(1))
    twin, h = np.random.default_rng(1), 1e-6
    twin.standard_normal((6, 3))                                   # the latents of the fakes
    at = x + noise * twin.standard_normal(x.shape) if noise else x
    slope = np.stack([(model.log_ratio(at + h * e) - model.log_ratio(at - h * e)) / (2 * h) for e in np.eye(2)])
    measure(loss.item() - terms["critic"] - 0.35 * (slope ** 2).sum(axis=0).mean())
    assert evaluate(model, x, np.random.default_rng(1)) == pytest.approx(terms)


@pytest.mark.equation("gan.dirac", "points at 0 and theta, l = psi x: the game's Jacobian has l^2 + gamma l + 1/4 = 0",
                      bound=1e-8)
@pytest.mark.parametrize("gamma", [0, 0.3, 1.5])
def test_without_the_penalty_two_points_go_round_each_other_and_with_it_they_meet(measure, rng, gamma):
    model, x = linear_generator([[0.0]], [0.0], critic=(), penalty=gamma), np.zeros((1, 1))
    critic, generator = model.critic.layers[0], model.generator.layers[0]
    critic.b.assign([0.0])

    def velocity(state):
        """Where small steps of both players lead, from (psi, theta)."""
        critic.w.assign([state[:1]])
        generator.b.assign(state[1:])
        for _, loss, _ in model.objectives(x, rng):
            for p in model.parameters():
                p.grad = None
            loss.backward()
            yield -(critic.w.grad if critic.w.grad is not None else generator.b.grad).item()
    h = 1e-4
    J = np.stack([(np.array([*velocity(h * e)]) - [*velocity(-h * e)]) / (2 * h) for e in np.eye(2)], axis=1)
    values = np.linalg.eigvals(J)
    measure(np.abs(values ** 2 + gamma * values + 0.25).max())
    assert (values.real < -1e-3).all() if gamma else np.abs(values.real).max() < 1e-6


def test_each_player_moves_only_its_own_parameters(rng):
    model = model_of(noise=0.1)
    players = model.optimizer()
    for player, loss, _ in model.objectives(POINTS, rng):
        before = model.state()
        for p in model.parameters():
            p.grad = None
        loss.backward()
        assert {k.split(".")[0] for k, p in model.named_parameters().items() if p.grad is not None} == {player}
        players[player].step()
        assert {k.split(".")[0] for k, a in model.state().items() if not np.array_equal(a, before[k])} == {player}


def test_the_losses_have_the_right_gradient(rng):
    model = model_of(critic=(5,), penalty=0.4).astype(np.float64)
    first, last = model.critic.layers[-1], model.generator.layers[-1]
    start, x = (first.w.data, last.w.data), rng.standard_normal((5, 2))

    def losses(w, v):
        first.w = w
        critic = next(model.objectives(x, np.random.default_rng(1)))[1]
        first.w, last.w = start[0], v
        _, (_, generator, _) = model.objectives(x, np.random.default_rng(1))
        last.w = start[1]
        return ops.stack([critic, generator])
    gradcheck(losses, *start)


def trained(x, epochs, seed=0, lr=1e-3, **options):
    model = model_of(x.shape[1], seed, **options)
    with contextlib.redirect_stdout(io.StringIO()):
        rows = fit(model, Batches(x, 100 if len(x) > 100 else 33), epochs=epochs, optimizer=model.optimizer(lr, lr),
                   rng=np.random.default_rng(seed))
    return model, rows


@pytest.mark.parametrize("seed", [0, 1])
def test_its_samples_come_to_have_the_mean_and_covariance_of_the_data(seed):
    """From N(0, ·) far away; the generator is linear, the critic quadratic enough to see both."""
    rng = np.random.default_rng(7)
    data = (rng.standard_normal((5000, 2)) @ [[0.9, 0.4], [0.0, 0.5]] + [1.0, -0.5]).astype(np.float32)
    model, rows = trained(data, 40, seed, optim.warmup_cosine(4e-3, 20, 2000), latent_dim=2, hidden=(), critic=(32, 32),
                          noise=0.2)
    drawn = model.sample(20_000, rng)
    assert np.abs(drawn.mean(axis=0) - data.mean(axis=0)).max() < 0.1
    assert np.abs(np.cov(drawn.T) - np.cov(data.T)).max() < 0.12
    assert 0 < rows[0]["jsd"] and abs(rows[-1]["jsd"]) < 0.02      # in the end the critic is at a loss
    assert abs(evaluate(model, data, rng)["critic"] - 2 * np.log(2)) < 0.04


def test_draws_are_pushed_normals_and_the_blur_has_its_variance(rng):
    model = linear_generator([[2.0, 0.0], [1.0, 0.5]], [0.3, -0.1], noise=0.7)
    x = model.sample(40_000, rng) - [0.3, -0.1]
    assert np.abs(z_score(x, 0)).max() < 5 and np.abs(z_score(x ** 2, [5, 0.25])).max() < 5
    eps = model.blurred(x, rng) - x
    assert np.abs(z_score(eps, 0)).max() < 5 and np.abs(z_score(eps ** 2, 0.49)).max() < 5
    assert abs(z_score(eps[:, 0] * x[:, 0], 0)) < 5


def test_twenty_seeds_of_a_short_game_are_finite():
    for seed in range(20):
        model, rows = trained(POINTS, 3, seed)
        drawn = model.sample(4, np.random.default_rng(0)), model.log_ratio(POINTS)
        assert all(np.isfinite(a).all() for a in [*drawn, *model.state().values(), list(rows[-1].values())])


def test_it_keeps_float32_and_its_input_and_draws_the_same_again(rng):
    model, before = model_of(noise=0.1, penalty=0.1, pixels=True), (x := rng.random((6, 2), np.float32)).copy()
    assert model.loss(x, rng)[0].dtype == model.sample(3, rng).dtype == model.log_ratio(x).dtype == np.float32
    assert all(loss.dtype == np.float32 for _, loss, _ in model.objectives(x, rng))
    np.testing.assert_array_equal(x, before)
    one, two = (model.sample(5, np.random.default_rng(3)) for _ in range(2))
    assert (one == two).all() and 0 <= one.min() <= one.max() <= 1


@pytest.mark.parametrize("options, message", [
    ({"data_dim": 0}, "data_dim must be a positive integer"), ({"latent_dim": 0}, "latent_dim must be a positive int"),
    ({"hidden": 8}, "hidden must be a tuple of widths, .*not 8"), ({"critic": (8, 0)}, "a width in critic must be"),
    ({"noise": -1}, "noise must be a number >= 0, not -1"), ({"penalty": -1}, "penalty must be a number >= 0, not -1"),
    ({"rng": None}, "rng must be a numpy.random.Generator")])
def test_what_cannot_be_a_gan_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        GAN(**{"data_dim": 5, "rng": np.random.default_rng(0)} | options)


@pytest.mark.parametrize("x, message", [
    (np.full((2, 2), np.nan, np.float32), "x must be finite"), (np.zeros((2, 3), np.float32), r"shape \(any, 2\)"),
    (np.zeros((0, 2), np.float32), r"shape \(any, 2\)"), (np.zeros((2, 2)), "array of float32, .*not float64"),
    (Tensor(np.zeros((2, 2)), dtype=np.float32), "array of float32, .*not Tensor"),
    (np.full((2, 2), 1.5, np.float32), r"x must be in \[0, 1\], as pixels are; it goes from 1.5 to 1.5")])
def test_what_is_no_batch_is_refused(rng, x, message):
    with pytest.raises(ValueError, match=message):
        model_of(pixels=True).loss(x, rng)


def test_one_optimizer_for_two_players_is_refused(rng):
    model = model_of()
    with pytest.raises(ValueError, match="this is a game"):
        fit(model, Batches(POINTS, 33), epochs=1, optimizer=optim.Adam(model.parameters()), rng=rng)
