"""Score matching without a density, and Langevin steps, against densities whose score is known."""
import contextlib
import io

import numpy as np
import pytest

from autograd import Tensor, grad, gradcheck, ops, optim
from autograd.nn import MLP
from minivae.data import Batches
from minivae.data.toys import eight_gaussians
from minivae.diffusion import DDPM, MixtureDenoiser, MLPDenoiser, Schedule, UNet
from minivae.paradigms import ScoreModel, implicit_loss, noise_levels
from minivae.train import evaluate, fit
from minivae.vae.gaps import grid

from ..test_distributions import z_score

SIGMA = np.geomspace(0.05, 4, 12)
MEANS, VARIANCES = np.array([[-1.5, 0.5], [1.0, 1.0], [0.5, -2.0]]), np.array([[0.1, 0.3], [0.5, 0.2], [0.05, 1.0]])
WEIGHTS = np.array([0.2, 0.5, 0.3])


def exact(sigma=SIGMA, means=MEANS, variances=VARIANCES, weights=WEIGHTS):
    """The model that has learned a mixture of Gaussians."""
    schedule = noise_levels(sigma)
    return ScoreModel(MixtureDenoiser(schedule, means, variances, weights), schedule)


def log_density(x, sigma=0.0):
    """ln q_σ(x), (B,), of that mixture, written with ops."""
    v = VARIANCES + sigma ** 2
    terms = -0.5 * (ops.expand_dims(x, 1) - MEANS) ** 2 / v - 0.5 * np.log(2 * np.pi * v)
    return ops.logsumexp(ops.sum(terms, axis=2) + np.log(WEIGHTS), axis=1)


def draw(n, rng):
    k = rng.choice(3, n, p=WEIGHTS)
    return MEANS[k] + VARIANCES[k] ** 0.5 * rng.standard_normal((n, 2))


def learner(seed=0, **options):
    rng = np.random.default_rng(seed)
    return ScoreModel(MLPDenoiser(2, (16,), activation="tanh", rng=rng), noise_levels(SIGMA)).astype(np.float64)


@pytest.mark.equation("score.mixture", "grad ln q_sigma of a mixture by autograd = sqrt(abar) times x_t's, analytic",
                      bound=1e-10, kind="G")
def test_the_score_of_a_mixture_by_autograd_is_the_analytic_one_at_every_level(measure, rng):
    model, x = exact(), 2 * rng.standard_normal((7, 2))
    for t, sigma in enumerate(SIGMA, 1):
        want = grad(lambda x: ops.sum(log_density(x, sigma)))(x)
        measure((model.score(x, t) - want) / np.abs(want).max())
        gradcheck(lambda x: log_density(x, sigma), x)
    toy = exact(means=eight_gaussians.means, variances=eight_gaussians.std ** 2, weights=None)
    for t, abar in enumerate(1 / (1 + SIGMA ** 2), 1):
        want = abar ** 0.5 * eight_gaussians.score(abar ** 0.5 * x, abar)
        measure((toy.score(x, t) - want) / np.abs(want).max())


@pytest.mark.equation("score.implicit", "1/2 E|s - grad ln p|^2 - E[1/2 |s|^2 + div s] is the same for every s",
                      bound=1e-6, kind="Q")
def test_implicit_and_explicit_score_matching_differ_by_a_constant(measure, rng):
    x, weight = grid(2, 201, 10)
    p, target = np.exp(log_density(x)) * weight, grad(lambda x: ops.sum(log_density(x)))(x)
    constant = 0.5 * p @ np.sum(target ** 2, axis=1)
    nets = [MLP(2, 8, 2, activation="tanh", rng=np.random.default_rng(seed)).astype(np.float64) for seed in range(3)]
    for s in (*nets, lambda x: -x, lambda x: ops.sin(3 * x) + ops.flip(x, axis=1)):
        off = np.asarray(s(x)) - target
        measure(0.5 * p @ np.sum(off ** 2, axis=1) - p @ np.asarray(implicit_loss(s, x)) - constant)


def test_implicit_matching_finds_its_gradient_through_a_gradient(rng):
    x = rng.standard_normal((4, 2))
    gradcheck(lambda w, v: implicit_loss(lambda x: ops.tanh(x @ w) @ v, x), rng.standard_normal((2, 3)),
              rng.standard_normal((3, 2)))


@pytest.mark.equation("score.denoising", "denoising and explicit score matching at q_sigma: gradients of equal mean",
                      bound=5, kind="S")
@pytest.mark.parametrize("t", [3, 8, 12])
def test_denoising_and_explicit_score_matching_have_the_same_gradient(measure, rng, t):
    """Of the last layer's weights, in 200 batches: the mean difference is nothing, the gradients are not."""
    truth, last = exact(), (model := learner()).denoiser.net.layers[-1].w
    model.schedule = truth.schedule = Schedule(np.array([truth.sigma[t - 1] ** 2 / (1 + truth.sigma[t - 1] ** 2)]))
    truth.denoiser.schedule, sigma = model.schedule, float(model.sigma[0])
    differences, sizes = [], []
    for seed in range(200):
        x, found = draw(500, rng), []
        twin = np.random.default_rng(seed)
        twin.integers(1, 1, 500, endpoint=True)
        noisy = x + sigma * twin.standard_normal(x.shape)
        off = model.score(noisy, 1) - truth.score(noisy, 1)
        for loss in (model.loss(x, np.random.default_rng(seed))[0], 0.5 * sigma ** 2 * ops.sum(off * off) / 500):
            last.grad = None
            loss.backward()
            found.append(last.grad.copy())
        differences.append(found[0] - found[1])
        sizes.append(found[1])
    measure(z_score(np.array(differences), 0))
    assert np.abs(z_score(np.array(sizes), 0)).max() > 50


@pytest.mark.equation("score.loss", "loss = mean over x of 1/2 sigma_t^2 |s(x + sigma_t eps, t) + eps / sigma_t|^2",
                      bound=1e-10)
def test_the_loss_weighs_every_level_by_its_variance(measure, rng):
    model, x, twin = learner(), rng.standard_normal((50, 2)), np.random.default_rng(5)
    loss, terms = model.loss(x, np.random.default_rng(5))
    t, eps = twin.integers(1, 12, 50, endpoint=True), twin.standard_normal((50, 2))
    assert set(t) == set(range(1, 13))
    sigma = SIGMA[t - 1][:, None]
    off = model.score(x + sigma * eps, t).data + eps / sigma
    measure(loss.item() - 0.5 * np.mean(np.sum(sigma ** 2 * off ** 2, axis=1)))
    assert terms["loss"] == loss.item()


@pytest.mark.equation("score.ddpm", "abar = 1/(1 + sigma^2): loss = 1/2 DDPM's, s(x) = sqrt(abar) DDPM's score at x_t",
                      bound=1e-10)
def test_a_score_model_is_a_ddpm(measure, rng):
    model, x = learner(), rng.standard_normal((50, 2))
    ddpm = DDPM(model.denoiser, model.schedule, clip=np.inf)
    measure(model.schedule.noise / model.schedule.signal / SIGMA - 1)
    measure(model.schedule.alpha_bar * (1 + SIGMA ** 2) - 1)
    for seed in range(3):
        mine, its = (m.loss(x, np.random.default_rng(seed))[0].item() for m in (model, ddpm))
        measure(mine - its / 2)
    for t in (1, 5, 12):
        a = model.schedule.signal[t - 1]
        measure((model.score(x, t).data - a * ddpm.score(a * x, t)) * SIGMA[t - 1])


@pytest.mark.equation("score.langevin", "Gaussian data: the variance after all levels is that of the linear recursion",
                      bound=5, kind="S")
@pytest.mark.parametrize("a, steps", [(0.2, 5), (0.5, 1), (1.5, 3)])
def test_langevin_steps_give_the_variance_that_they_must(measure, rng, a, steps):
    data, last = np.array([0.3, 2.0]), {}
    model = exact(means=np.array([[0.5, -1.0]]), variances=data, weights=None)
    x = model.sample(40_000, rng, steps=steps, a=a, on_level=lambda t, x: last.update({t: x}))
    m, v = -np.array([0.5, -1.0]), np.full(2, 1 + SIGMA[-1] ** 2)   # of x − the mean of the data
    for t in range(12, 0, -1):
        for _ in range(steps):
            shrink, alpha = 1 - 0.5 * a * SIGMA[t - 1] ** 2 / (data + SIGMA[t - 1] ** 2), a * SIGMA[t - 1] ** 2
            m, v = shrink * m, shrink ** 2 * v + alpha
        away = last[t] - [0.5, -1.0]
        measure(z_score(away, m))
        measure(z_score((away - m) ** 2, v))
    assert list(last) == list(range(12, 0, -1))
    shrink = 1 - SIGMA[0] ** 2 / (data + SIGMA[0] ** 2)
    measure(z_score((x - [0.5, -1.0] - shrink * m) ** 2, shrink ** 2 * v))


@pytest.mark.equation("score.last-step", "x + sigma_1^2 s(x, 1) = E[x0 | x0 + sigma_1 eps = x]", bound=1e-10)
def test_the_last_step_is_to_the_mean_of_what_may_be_under_the_noise(measure, rng):
    model, last = exact(), {}
    x = model.sample(50, rng, on_level=lambda t, x: last.update({t: x}))
    mean = MixtureDenoiser(model.schedule, MEANS, VARIANCES, WEIGHTS, "x0")
    measure(x - mean(model.schedule.signal[0] * last[1], 1))


def test_annealing_finds_how_much_lies_on_each_island_and_steps_at_one_level_do_not(rng):
    """Two islands far apart, of 1/5 and 4/5; without the wide levels the start decides, here half and half."""
    means, weights = np.array([[-3.0, 0], [3.0, 0]]), np.array([0.2, 0.8])
    shares = {}
    for name, sigma in {"annealed": np.geomspace(0.1, 10, 25), "one level": np.array([0.1])}.items():
        model = exact(sigma, means, 0.04, weights)
        shares[name] = (model.sample(1500, rng, steps=10 if name == "annealed" else 300)[:, 0] > 0).mean()
    assert abs(shares["annealed"] - 0.8) < 0.05 and shares["one level"] < 0.6


@pytest.mark.parametrize("seed", [0, 1])
def test_training_brings_it_near_the_best_loss_and_the_true_score(seed):
    rng = np.random.default_rng(seed)
    schedule = noise_levels(np.geomspace(0.1, 4, 20))
    model = ScoreModel(MLPDenoiser(2, (64, 64), rng=rng), schedule)
    batches = Batches(eight_gaussians(10_000, rng), 256)
    with contextlib.redirect_stdout(io.StringIO()):
        fit(model, batches, epochs=30, optimizer=optim.Adam(model.parameters(), optim.warmup_cosine(3e-3, 50, 1200)),
            rng=rng)
    truth = ScoreModel(MixtureDenoiser(schedule, eight_gaussians.means, eight_gaussians.std ** 2), schedule)
    x = eight_gaussians(20_000, rng)
    mine, best = (evaluate(m, x.astype(m.dtype), np.random.default_rng(3))["loss"] for m in (model, truth))
    assert best < mine < best + 0.08
    noisy = x + np.float32(schedule.noise[9] / schedule.signal[9]) * rng.standard_normal(x.shape, np.float32)
    true = truth.score(noisy.astype(np.float64), 10)
    assert np.sum((model.score(noisy, 10).data - true) ** 2) / np.sum(true ** 2) < 0.1


def test_the_loss_has_the_right_gradient(rng):
    model, x, h = learner(), rng.standard_normal((6, 2)), 1e-5
    loss = lambda: model.loss(x, np.random.default_rng(0))[0]
    loss().backward()
    for p in model.parameters():
        start, v, analytic = p.data.copy(), rng.standard_normal(p.shape), p.grad
        up, down = (p.assign(start + sign * h * v) or loss().item() for sign in (1, -1))
        p.assign(start)
        assert (up - down) / (2 * h) == pytest.approx(np.sum(analytic * v), rel=1e-6)


def test_it_takes_images_and_keeps_float32_and_its_input_and_draws_the_same_again(rng):
    unet = UNet((1, 8, 8), channels=8, multipliers=(1, 2), rng=rng)
    model = ScoreModel(unet, noise_levels(np.geomspace(0.1, 4, 3)))
    x = rng.uniform(-1, 1, (5, 64)).astype(np.float32)
    before = x.copy()
    flat, shaped = (model.loss(v, np.random.default_rng(1))[0] for v in (x, x.reshape(5, 1, 8, 8)))
    assert flat.dtype == np.float32 and flat.item() == shaped.item()
    np.testing.assert_array_equal(x, before)
    one, two = (model.sample(2, np.random.default_rng(3), steps=2) for _ in range(2))
    assert one.dtype == np.float32 and one.shape == (2, 1, 8, 8) and (one == two).all()


def test_large_draws_are_worked_on_in_parts_that_change_nothing(rng, monkeypatch):
    whole = exact().sample(50, np.random.default_rng(0))
    monkeypatch.setattr("minivae.paradigms.score_model.ROWS", 7)
    np.testing.assert_allclose(exact().sample(50, np.random.default_rng(0)), whole, rtol=1e-12)


@pytest.mark.parametrize("sigma", [[0.1, 0.1], [0.2, 0.1], [0.0, 1.0], [-1.0, 1.0], [0.1, np.nan], [], 0.1])
def test_levels_that_do_not_rise_are_refused(sigma):
    with pytest.raises(ValueError, match="sigma must"):
        noise_levels(np.array(sigma))


@pytest.mark.parametrize("make, message", [
    (lambda m: ScoreModel(lambda x, t: x, m.schedule), "needs a denoiser, a Module with a shape, .*not function"),
    (lambda m: ScoreModel(m.denoiser, SIGMA), r"such as noise_levels\(sigma\), not MLPDenoiser and ndarray"),
    (lambda m: m.loss(np.zeros((3, 3)), np.random.default_rng(0)), r"x must have shape \(any, 2\)"),
    (lambda m: m.loss(np.zeros((0, 2)), np.random.default_rng(0)), r"x must have shape \(any, 2\)"),
    (lambda m: m.loss(np.full((3, 2), np.inf), np.random.default_rng(0)), "x must be finite"),
    (lambda m: m.loss(np.zeros((3, 2), np.float32), np.random.default_rng(0)), "array of float64, .*not float32"),
    (lambda m: m.loss([[0.0, 1.0]], np.random.default_rng(0)), "array of float64, .*not list"),
    (lambda m: m.loss(Tensor(np.zeros((3, 2))), np.random.default_rng(0)), "array of float64, .*not Tensor"),
    (lambda m: m.loss(np.zeros((3, 2)), 0), "rng must be a numpy.random.Generator, .* not 0"),
    (lambda m: m.score(np.zeros((3, 2)), 13), "whole numbers from 1 to T = 12"),
    (lambda m: m.sample(0, np.random.default_rng(0)), "n must be a positive integer, not 0"),
    (lambda m: m.sample(2, 0), "rng must be a numpy.random.Generator"),
    (lambda m: m.sample(2, np.random.default_rng(0), steps=0), "steps must be a positive integer, not 0"),
    (lambda m: m.sample(2, np.random.default_rng(0), a=4), r"a must be a number in \(0, 4\), not 4")])
def test_what_cannot_be_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make(learner())
