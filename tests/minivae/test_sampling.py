"""The way back against the published steps, and against Gaussian data, where each step is linear and all is known."""
import os
import re
import signal
import time

import numpy as np
import pytest

from autograd import Tensor, no_grad
from minivae.diffusion import DDPM, MixtureDenoiser, MLPDenoiser, Schedule, from_x0, sampling
from minivae.diffusion.sampling import timesteps

from .test_score import MEANS, VARIANCES, score


SHORT = [Schedule.cosine(1), Schedule([0.6, 0.2]), Schedule.cosine(10), Schedule.linear(100)]


class Impulses(np.random.Generator):
    """A generator whose k-th draw is 1 in row k and 0 elsewhere: what comes out in row k is the response to draw k."""

    def __init__(self):
        super().__init__(np.random.PCG64())
        self.k = 0

    def standard_normal(self, shape, dtype=np.float64):
        z = np.zeros(shape, dtype)
        z[self.k] = 1
        self.k += 1
        return z


def gaussian(s, v, **options):
    """A DDPM with the best denoiser of x_0 ~ N(0, v)."""
    return DDPM(MixtureDenoiser(s, np.zeros((1, 1)), v), s, **options)


def best_variance(s, v):
    """betatilde_t + c^2 Var(x_0 | x_t), (T,)."""
    of_x0 = v * (1 - s.alpha_bar) / (s.alpha_bar * v + 1 - s.alpha_bar)
    return s.beta_tilde + s.alpha_bar_prev * (s.beta / (1 - s.alpha_bar)) ** 2 * of_x0


def variance_of(model, v, start=None, **options):
    """The variance of what the sampler returns for x_0 ~ N(0, v), from x_T ~ q(x_T) or N(0, start)."""
    s = model.schedule
    response = model.sample(s.T + 2, Impulses(), **options)[:, 0] ** 2
    end = s.alpha_bar[-1] * v + 1 - s.alpha_bar[-1] if start is None else start
    return response[0] * end + response[1:].sum()


def film(model, n, rng, **options):
    """(t, x_t, x0_hat) of each step of a sampler, and the x_0 that it returned."""
    seen = []
    x0 = model.sample(n, rng, on_step=lambda *step: seen.append(step), **options)
    return seen, x0


@pytest.fixture
def mixture():
    def make(T=20, **options):
        s = Schedule.cosine(T)
        return DDPM(MixtureDenoiser(s, MEANS, VARIANCES), s, **options)
    return make


@pytest.mark.equation("diffusion.ancestral", "x_{t-1} = (x_t - b/sqrt(1 - abar) eps)/sqrt(alpha) + s z", bound=1e-10)
@pytest.mark.parametrize("variance", ["beta", "beta_tilde"])
def test_an_ancestral_step_is_the_published_one(measure, mixture, variance):
    model, twin = mixture(variance=variance), np.random.default_rng(3)
    steps, x0 = film(model, 4, np.random.default_rng(3))
    beta, alpha_bar = model.schedule.beta, np.cumprod(1 - model.schedule.beta)
    xt = twin.standard_normal((4, 2))
    for (t, x, x0_hat), after in zip(steps, [x for _, x, _ in steps[1:]] + [x0]):
        b, abar, before = beta[t - 1], alpha_bar[t - 1], alpha_bar[t - 2] if t > 1 else 1.0
        measure(x - xt)
        eps = model.denoiser(x, t)
        measure(abar ** 0.5 * x0_hat + (1 - abar) ** 0.5 * eps - x)
        xt = (x - b / (1 - abar) ** 0.5 * eps) / (1 - b) ** 0.5
        if t > 1:
            xt = xt + (b if variance == "beta" else b * (1 - before) / (1 - abar)) ** 0.5 * twin.standard_normal((4, 2))
        measure(after - xt)
    assert [t for t, *_ in steps] == list(range(20, 0, -1))


@pytest.mark.equation("diffusion.ddim", "Song et al. (12) and (16)", bound=1e-10)
@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("steps", [1, 7, 20])
def test_a_ddim_step_is_the_published_one(measure, mixture, steps, eta):
    model, twin = mixture(), np.random.default_rng(3)
    seen, x0 = film(model, 4, np.random.default_rng(3), steps=steps, eta=eta)
    alpha_bar = np.concatenate([[1.0], np.cumprod(1 - model.schedule.beta)])
    xt, times = twin.standard_normal((4, 2)), [t for t, *_ in seen]
    for (t, x, _), s, after in zip(seen, times[1:] + [0], [x for _, x, _ in seen[1:]] + [x0]):
        at, a_s, eps = alpha_bar[t], alpha_bar[s], model.denoiser(x, t)
        measure(x - xt)
        sigma = eta * ((1 - a_s) / (1 - at)) ** 0.5 * (1 - at / a_s) ** 0.5
        xt = a_s ** 0.5 * (x - (1 - at) ** 0.5 * eps) / at ** 0.5 + max(0.0, 1 - a_s - sigma ** 2) ** 0.5 * eps
        xt = xt + sigma * (twin.standard_normal((4, 2)) if sigma > 0 else 0)
        measure(after - xt)
    assert len(times) == steps and times[0] == 20


@pytest.mark.equation("diffusion.ddim", "eta = 1 and all T steps: DDPM with betatilde, mean and variance", bound=1e-10)
def test_ddim_with_eta_1_is_ddpm_with_beta_tilde(measure, mixture):
    model = mixture(variance="beta_tilde")
    ancestral, ddim = (film(model, 5, np.random.default_rng(1), steps=steps) for steps in (None, 20))
    for (_, x, _), (_, same, _) in zip(ancestral[0], ddim[0]):
        measure(x - same)
    measure(ancestral[1] - ddim[1])
    s = Schedule.cosine(20)
    for v in (0.3, 2.0):
        model = gaussian(s, v, variance="beta_tilde")
        measure(variance_of(model, v) - variance_of(model, v, steps=20))


@pytest.mark.equation("diffusion.variance", "Var = v if s^2 = betatilde + c^2 Var(x0 | x_t), and x0 ~ p(x0 | x1)",
                      bound=1e-10)
@pytest.mark.parametrize("v", [0.01, 0.3, 1.0, 4.0])
@pytest.mark.parametrize("s", SHORT, ids=str)
def test_the_right_variance_gives_that_of_gaussian_data_in_any_number_of_steps(measure, s, v):
    measure(variance_of(gaussian(s, v, variance=best_variance(s, v)), v, noise=True) / v - 1)


@pytest.mark.equation("diffusion.variance", "s^2 = beta_t if v = 1, betatilde_t if v = 0", bound=1e-10)
def test_the_two_fixed_variances_are_right_for_unit_variance_and_for_none(measure):
    for s in (Schedule.cosine(10), Schedule.linear(100)):
        measure(best_variance(s, 1.0) - s.beta)
        measure(best_variance(s, 0.0) - s.beta_tilde)
        measure(variance_of(gaussian(s, 1.0, variance="beta"), 1.0, noise=True) - 1)
        measure(variance_of(gaussian(s, 0.0, variance="beta_tilde"), 0.0))
        assert abs(variance_of(gaussian(s, 0.3, variance="beta"), 0.3, noise=True) - 0.3) > 1e-3


@pytest.mark.equation("diffusion.ddim-order", "|Var - v| ~ T^-1 for DDIM with eta = 0: the slope is -1", bound=0.1,
                      kind="O")
def test_the_error_of_deterministic_ddim_falls_as_one_over_the_number_of_steps(measure):
    for v in (0.3, 4.0):
        steps = np.array([100, 200, 400, 800])
        errors = [abs(variance_of(gaussian(Schedule.linear(T), v), v, eta=0.0) - v) for T in steps]
        measure(np.polyfit(np.log(steps), np.log(errors), 1)[0] + 1)
        assert errors[-1] < 0.02 * v


@pytest.mark.equation("diffusion.last-step", "displayed: Var = v - Var(x0 | x1), and the last draw has no effect",
                      bound=1e-10)
@pytest.mark.parametrize("v", [0.3, 4.0])
def test_last_ddpm_step_adds_no_noise(measure, v):
    short = []
    for T in (30, 100, 300):
        s = Schedule.linear(T)
        model, rng = gaussian(s, v, variance=best_variance(s, v)), Impulses()
        response = model.sample(T + 2, rng)
        assert rng.k == T and not response[T:].any()               # x_T and a draw for each step but the last
        of_x0 = v * s.beta[0] / ((1 - s.beta[0]) * v + s.beta[0])
        measure((v - variance_of(model, v) - of_x0) / v)
        short.append(of_x0)
    assert short[0] > 2 * short[1] > 4 * short[2]                  # it shrinks with beta_1
    for variance in ("beta", "beta_tilde"):
        rng = Impulses()
        gaussian(s, v, variance=variance).sample(1000, rng)
        assert rng.k == T


# Guidance

@pytest.mark.equation("diffusion.guidance", "score = (1 - w) grad ln q(x_t) + w grad ln q(x_t | y)", bound=1e-10)
@pytest.mark.parametrize("w", [0.0, 0.5, 1.0, 3.0, -1.0])
def test_guidance_tilts_the_score_towards_the_class(measure, rng, mixture, w):
    model, x, y = mixture(clip=np.inf), 2 * rng.standard_normal((6, 2)), np.array([0, 1, 2, 2, 1, 0])
    for t in (1, 10, 19):
        alone = [score(x[i:i + 1], t, weights=np.eye(3)[k] + 1e-300, s=model.schedule) for i, k in enumerate(y)]
        want = (1 - w) * score(x, t, weights=np.full(3, 1 / 3), s=model.schedule) + w * np.concatenate(alone)
        measure((model.score(x, t, y, w) - want) / np.abs(want).max())


@pytest.mark.equation("diffusion.guidance", "w = 1: conditional; w = 0: unconditional; f may be eps, x0 or v",
                      bound=1e-10)
def test_guidance_by_1_is_conditional_and_by_0_unconditional(measure, mixture):
    draw = lambda model, y=None, w=1.0: model.sample(4, np.random.default_rng(5), y=y, guidance=w)
    model, y = mixture(), np.array([0, 1, 2, 1])
    measure(draw(model, y, 0.0) - draw(model))
    s = model.schedule
    for i, k in enumerate(y):                # of each class by itself: a model of that Gaussian alone
        single = DDPM(MixtureDenoiser(s, MEANS[k:k + 1], VARIANCES[k:k + 1]), s)
        measure((draw(model, y) - draw(single))[i])
    for form in ("x0", "v"):
        other = DDPM(MixtureDenoiser(s, MEANS, VARIANCES, predict=form), s, predict=form)
        measure(draw(other, y, 2.5) - draw(model, y, 2.5))


def test_more_guidance_moves_samples_away_from_other_classes():
    s = Schedule.cosine(50)
    model = DDPM(MixtureDenoiser(s, np.array([[-1.0], [1.0]]), 1.0), s)
    ones, rng = np.ones(2000, int), np.random.default_rng(0)
    mean = [model.sample(2000, rng, y=ones, guidance=w).mean() for w in (0.0, 1.0, 3.0)]
    assert abs(mean[0]) < 0.1 and abs(mean[1] - 1) < 0.1 and mean[2] > 1.3


def test_guidance_calls_the_denoiser_once_a_step(rng):
    calls = []

    class Spy(MLPDenoiser):
        def forward(self, x, t, y=None):
            calls.append((len(x), sorted(set(y))))
            return super().forward(x, t, y)

    model = DDPM(Spy(2, (4,), num_classes=3, rng=rng), Schedule.cosine(5))
    model.sample(2, rng, y=np.array([0, 1]), guidance=2.0)
    assert calls == 5 * [(4, [0, 1, 3])]
    calls.clear()
    model.sample(2, rng)
    model.sample(2, rng, y=np.array([0, 1]))
    assert calls == 5 * [(2, [3])] + 5 * [(2, [0, 1])]


def test_guidance_leaves_the_learned_variance_of_the_class_alone(rng):
    denoiser = MLPDenoiser(2, (8,), num_classes=3, learned_variance=True, rng=rng)
    model = DDPM(denoiser, Schedule.cosine(5), variance="learned", loss="vlb")
    x, y = np.ones((3, 2), np.float32), [0, 1, 2]
    of_class, of_none = model.denoise(x, 3, y)[1], model.denoise(x, 3)[1]
    np.testing.assert_allclose(model.denoise(x, 3, y, 2.0)[1], of_class, rtol=1e-5)
    assert np.abs(of_class - of_none).min() > 1e-3


# Samples

def test_the_sampler_draws_from_the_mixture(mixture):
    x = mixture(T=200, variance="beta_tilde").sample(4000, np.random.default_rng(0))
    y = np.argmin(((x[:, None] - MEANS) ** 2 / VARIANCES).sum(axis=2), axis=1)
    np.testing.assert_allclose(np.bincount(y) / 4000, 1 / 3, atol=0.04)
    for k in range(3):
        np.testing.assert_allclose(x[y == k].mean(axis=0), MEANS[k], atol=0.1)
        np.testing.assert_allclose(x[y == k].var(axis=0), VARIANCES[k], rtol=0.2, atol=0.01)


def test_samples_are_float32_repeatable_and_leave_no_graph(rng):
    model = DDPM(MLPDenoiser(2, (8,), rng=rng), Schedule.cosine(6))
    for options in ({}, {"steps": 3}, {"eta": 0.5}, {"noise": True}):
        a, b = (model.sample(5, np.random.default_rng(2), **options) for _ in range(2))
        np.testing.assert_array_equal(a, b)
        assert isinstance(a, np.ndarray) and a.shape == (5, 2) and a.dtype == np.float32
    assert all(p.grad is None for p in model.parameters())


def test_a_film_of_sampling_shows_each_x_before_its_step(mixture):
    seen, x0 = film(mixture(), 2, np.random.default_rng(0), steps=4)
    assert [t for t, *_ in seen] == [20, 15, 10, 5]
    assert all(x.shape == x0_hat.shape == (2, 2) for _, x, x0_hat in seen)
    np.testing.assert_array_equal(x0, seen[-1][2])                 # DDIM's last step is its guess


def test_many_rows_are_denoised_in_parts_to_the_same(rng, mixture, monkeypatch):
    model, x = mixture(), rng.standard_normal((1100, 2))
    y, t = rng.integers(0, 3, 1100), rng.integers(1, 21, 1100)
    outputs, sizes = model.outputs, []
    model.outputs = lambda xt, t, y: sizes.append(xt.size) or outputs(xt, t, y)
    whole = model.denoise(x, t, y, 2.0)[0]
    assert sizes == 4 * [1024] + [304]                             # with the class, and without
    monkeypatch.setattr(sampling, "NUMBERS", 800)
    np.testing.assert_allclose(model.denoise(x, t, y, 2.0)[0], whole, rtol=1e-12)
    np.testing.assert_allclose(model.denoise(x, t, y)[0][300:], model.denoise(x[300:], t[300:], y[300:])[0], rtol=1e-12)
    assert sizes[5:11] == 5 * [800] + [400] and sizes[11:] == [800, 800, 600, 800, 800]


def test_the_guess_is_clipped_to_the_range_of_the_data():
    s = Schedule.cosine(10)
    far = DDPM(MixtureDenoiser(s, np.array([[5.0]]), 0.0), s, clip=1)
    seen, x0 = film(far, 3, np.random.default_rng(0))
    assert all((x0_hat == 1).all() for *_, x0_hat in seen) and (x0 == 1).all()


def test_the_times_are_evenly_spaced_and_begin_at_T():
    assert timesteps(10) == list(range(10, 0, -1)) and timesteps(1000, 4) == [1000, 750, 500, 250]
    assert timesteps(7, 1) == [7]
    for steps in range(1, 38):
        times = timesteps(37, steps)
        assert times[0] == 37 and len(set(times)) == steps and times == sorted(times, reverse=True) and times[-1] >= 1


def test_the_score_of_a_model_is_that_of_its_denoiser(rng, mixture):
    model, x = mixture(clip=np.inf), rng.standard_normal((3, 2))
    with no_grad():
        np.testing.assert_allclose(model.score(x, 7), from_x0(model.schedule, model.denoise(x, 7)[0], x, 7, "score"))
    np.testing.assert_allclose(model.score(x, 7), score(x, 7, weights=np.full(3, 1 / 3), s=model.schedule))


@pytest.mark.parametrize("options", [{}, {"steps": 20, "eta": 0.0}], ids=str)
def test_sampling_shows_its_progress_and_stops_cleanly_at_ctrl_c(mixture, monkeypatch, capsys, options):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    before = signal.getsignal(signal.SIGINT)

    def interrupt(t, x, x0_hat):
        time.sleep(0.03)
        if t == 8:
            os.kill(os.getpid(), signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        mixture().sample(2, np.random.default_rng(0), on_step=interrupt, **options)
    shown = capsys.readouterr().err
    assert re.search(r"step (\d|1[012])/20 +\d+%  0:\d\d left", shown) and "step 13/20" not in shown
    assert shown.endswith("\r\033[K")                              # the line is cleared
    assert signal.getsignal(signal.SIGINT) is before
    x = Tensor(np.ones(2), requires_grad=True)
    assert (x * 2).requires_grad                                   # and no_grad is over


# Bad input

@pytest.mark.parametrize("options, message", [
    ({"n": 0}, "n must be a positive integer"), ({"steps": 0}, "steps must be a positive integer"),
    ({"steps": 21}, "steps must be at most 20, the steps of the schedule, not 21"),
    ({"eta": -0.1}, "eta must be a number >= 0"), ({"eta": np.nan}, "eta must be a number >= 0"),
    ({"eta": 30.0, "steps": 5}, "eta = 30.0 is too much"), ({"guidance": np.nan}, "guidance must be a number"),
    ({"guidance": np.inf, "y": [0, 1]}, "guidance must be a finite number"),
    ({"guidance": 2.0}, "towards a class: give y"), ({"noise": True, "steps": 5}, "noise is for the ancestral sampler"),
    ({"y": [0, 3]}, r"classes must be in \[0, 3\), got 0 to 3"), ({"y": [-1, 0]}, "got -1 to 0"),
    ({"y": [0]}, r"y must be 2 whole numbers.*shape \(1,\)"), ({"y": [0.0, 1.0]}, "y must be 2 whole numbers"),
    ({"rng": 3}, "rng must be a numpy.random.Generator")], ids=str)
def test_sampling_refuses_what_makes_no_sense(mixture, options, message):
    with pytest.raises(ValueError, match=message):
        mixture().sample(**{"n": 2, "rng": np.random.default_rng(0), **options})


def test_classes_that_the_denoiser_does_not_know_are_refused(rng):
    with pytest.raises(ValueError, match="this denoiser has no classes"):
        DDPM(MLPDenoiser(2, rng=rng), Schedule.cosine(5)).sample(2, rng, y=np.array([0, 1]))


def test_a_denoiser_that_has_diverged_is_named(rng):
    model = DDPM(MLPDenoiser(2, (4,), rng=rng), Schedule.cosine(5))
    model.denoiser.net.layers[-1].b.assign(np.array([np.nan, 0]))
    with pytest.raises(FloatingPointError, match="at t = 5 is not finite"):
        model.sample(2, rng)


@pytest.mark.parametrize("x, t, message", [
    ([[0.0, 0.0]], 1, "x_t must be an array of float64.*not list"), (Tensor(np.zeros((3, 2))), 1, "not Tensor"),
    (np.zeros((3, 2), np.float32), 1, "not float32"), (np.zeros((3, 2), int), 1, "not int64"),
    (np.zeros((3, 1)), 1, r"shape \(B, 2\), .*not \(3, 1\)"), (np.zeros(2), 1, r"not \(2,\)"),
    (np.zeros((3, 2)), [1, 2], r"one for all or for each of 3 rows, not of shape \(2,\)"),
    (np.zeros((3, 2)), [1], r"not of shape \(1,\)"), (np.zeros((3, 2)), 21, "from 1 to T = 20")], ids=str)
def test_what_cannot_be_denoised_is_refused(mixture, x, t, message):
    for f in (mixture().denoise, mixture().score):
        with pytest.raises(ValueError, match=message):
            f(x, t)


def test_nothing_to_denoise_is_refused(mixture):
    with pytest.raises(ValueError, match=r"at least one row, not \(0, 2\)"):
        mixture().denoise(np.zeros((0, 2)), 1)
