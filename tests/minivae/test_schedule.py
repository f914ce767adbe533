"""The forward process against its definition, one step at a time, and against Bayes' rule."""
import math

import numpy as np
import pytest

from minivae.diffusion import Schedule

SCHEDULES = {"linear": Schedule.linear(100), "cosine": Schedule.cosine(100), "sigmoid": Schedule.sigmoid(100),
             "steep": Schedule([0.3, 0.01, 0.9, 0.5]), "one step": Schedule([0.7])}
each = pytest.mark.parametrize("s", SCHEDULES.values(), ids=SCHEDULES)


def relative(got, want):
    return (np.asarray(got) - want) / np.maximum(np.abs(want), 1e-300)


@pytest.mark.equation("diffusion.forward", "x_t = sqrt(1 - b) x_{t-1} + sqrt(b) z, t times: N(sqrt(abar) x0, 1-abar)",
                      bound=1e-10)
@each
def test_t_steps_of_noising_are_one_draw_from_the_forward_kernel(measure, s):
    mean, variance = 1.0, 0.0
    for t, beta in enumerate(s.beta, 1):
        mean, variance = math.sqrt(1 - beta) * mean, (1 - beta) * variance + beta
        measure(relative(s.q_sample(np.ones(1), t, np.zeros(1)), mean))
        measure(relative(s.q_sample(np.zeros(1), t, np.ones(1)) ** 2, variance))
        measure(relative(s.alpha_bar[t - 1], mean ** 2))


@pytest.mark.equation("diffusion.posterior", "q(x_{t-1} | x_t, x0) ~ q(x_t | x_{t-1}) q(x_{t-1} | x0)", bound=1e-10)
@each
def test_the_posterior_is_bayes_rule(measure, rng, s):
    x0, xt = rng.standard_normal((2, 3, 2))
    kept = 1.0                                                     # abar_{t-1}
    for t, beta in enumerate(s.beta, 1):
        mean, variance = s.posterior(x0, xt, np.full(3, t))
        assert mean.shape == (3, 2) and variance.shape == (3, 1)
        if t == 1:
            np.testing.assert_array_equal(mean, x0)
            np.testing.assert_array_equal(variance, 0)
        else:
            precision = 1 / (1 - kept) + (1 - beta) / beta
            measure(relative(variance, 1 / precision))
            measure(mean - (math.sqrt(kept) * x0 / (1 - kept) + math.sqrt(1 - beta) * xt / beta) / precision)
        kept *= 1 - beta


@pytest.mark.equation("diffusion.posterior", "Ho et al. (7), and SNR = abar / (1 - abar)", bound=1e-10)
@each
def test_the_coefficients_are_the_published_ones(measure, s):
    alpha_bar = np.cumprod(1 - s.beta)
    before = np.concatenate([[1.0], alpha_bar[:-1]])
    measure(s.alpha - (1 - s.beta))
    measure(s.alpha_bar_prev - before)
    measure(relative(s.signal, np.sqrt(alpha_bar)))
    measure(relative(s.noise, np.sqrt(1 - alpha_bar)))
    measure(relative(s.snr, alpha_bar / (1 - alpha_bar)))
    measure(s.beta_tilde - (1 - before) / (1 - alpha_bar) * s.beta)
    measure(s.mean_x0 - np.sqrt(before) * s.beta / (1 - alpha_bar))
    measure(s.mean_xt - np.sqrt(1 - s.beta) * (1 - before) / (1 - alpha_bar))
    measure(np.exp(s.log_beta_tilde) * (s.beta_tilde > 0) - s.beta_tilde)


@pytest.mark.equation("diffusion.linear", "beta_t = 1000/T (1e-4 + (0.02 - 1e-4) (t - 1)/(T - 1))", bound=1e-10)
@pytest.mark.parametrize("T", [21, 200, 1000])
def test_the_linear_schedule_is_the_published_one(measure, T):
    want = [1000 / T * (1e-4 + 0.0199 * (t - 1) / (T - 1)) for t in range(1, T + 1)]
    measure(relative(Schedule.linear(T).beta, want))


@pytest.mark.equation("diffusion.cosine", "abar_t = f(t)/f(0), f(t) = cos^2 pi/2 (t/T + s)/(1 + s), beta <= 0.999",
                      bound=1e-10)
@pytest.mark.parametrize("T", [1, 50, 1000])
def test_the_cosine_schedule_is_the_published_one(measure, T):
    s, f = Schedule.cosine(T), lambda t: math.cos((t / T + 0.008) / 1.008 * math.pi / 2) ** 2
    measure(relative(s.alpha_bar[:-1], [f(t) / f(0) for t in range(1, T)]) if T > 1 else 0)
    measure(s.beta[-1] - 0.999)                                    # the last would be 1


@pytest.mark.equation("diffusion.sigmoid", "abar_t = (sg(3) - sg(6 t/T - 3)) / (sg(3) - sg(-3)), at least 1e-9",
                      bound=1e-10)
@pytest.mark.parametrize("T", [1, 50, 1000])
def test_the_sigmoid_schedule_is_the_published_one(measure, T):
    sigmoid = lambda x: 1 / (1 + math.exp(-x))
    f = [(sigmoid(3) - sigmoid(6 * t / T - 3)) / (sigmoid(3) - sigmoid(-3)) for t in range(1, T + 1)]
    got = Schedule.sigmoid(T).alpha_bar
    measure((got - np.maximum(f, 1e-9)) / np.maximum(f, 1e-3))
    np.testing.assert_allclose(got[-1], 1e-9, rtol=1e-6)


def test_ln_beta_tilde_is_finite_at_the_first_step():
    s = SCHEDULES["linear"]
    assert s.beta_tilde[0] == 0 and s.log_beta_tilde[0] == s.log_beta_tilde[1] == np.log(s.beta_tilde[1])
    one = SCHEDULES["one step"]
    np.testing.assert_array_equal(one.log_beta_tilde, np.log(one.beta))


def test_a_schedule_says_the_same_whatever_T_is():
    for make in (Schedule.linear, Schedule.cosine, Schedule.sigmoid):
        few, many = make(100).alpha_bar, make(1000).alpha_bar
        np.testing.assert_allclose(few[:-1], many[9:-1:10], atol=0.02)


def test_the_first_t_is_1_and_each_row_may_have_its_own(rng):
    s = SCHEDULES["linear"]
    x0, eps = rng.standard_normal((2, 3, 1, 2, 2))
    rows = s.q_sample(x0, np.array([1, 50, 100]), eps)
    for i, t in enumerate((1, 50, 100)):
        np.testing.assert_array_equal(rows[i], s.q_sample(x0, t, eps)[i])
        abar = s.alpha_bar[t - 1]
        np.testing.assert_allclose(rows[i], abar ** 0.5 * x0[i] + (1 - abar) ** 0.5 * eps[i])


def test_float32_stays_float32(rng):
    s = SCHEDULES["cosine"]
    x0, eps = rng.standard_normal((2, 4, 3), np.float32)
    assert s.q_sample(x0, 7, eps).dtype == np.float32
    assert [v.dtype for v in s.posterior(x0, eps, np.full(4, 7))] == [np.float32] * 2
    assert s.alpha_bar.dtype == np.float64 and s.alpha_bar.shape == (100,)


def test_a_schedule_copies_its_betas_and_cannot_be_changed():
    beta = np.array([0.1, 0.2])
    s = Schedule(beta)
    beta[0] = 0.9
    assert s.beta[0] == 0.1
    with pytest.raises(ValueError, match="read-only"):
        s.alpha_bar[0] = 1


# Bad input

@pytest.mark.parametrize("beta", [[], [0.1, 0.0], [0.1, 1.0], [-0.1], [np.nan], [[0.1]], 0.1], ids=str)
def test_betas_outside_0_to_1_are_refused(beta):
    with pytest.raises(ValueError, match=r"beta must be an array \(T,\).*in \(0, 1\)"):
        Schedule(beta)


@pytest.mark.parametrize("beta", ["abc", None, [0.1j]], ids=str)
def test_betas_that_are_no_real_numbers_are_refused(beta):
    with pytest.raises(ValueError, match=r"beta must be an array \(T,\) of real numbers"):
        Schedule(beta)


def test_betas_that_leave_nothing_are_refused():
    with pytest.raises(ValueError, match="alpha_bar = 1e-300"):
        Schedule(np.full(300, 0.9))


@pytest.mark.parametrize("T", [0, -1, 2.5, True])
@pytest.mark.parametrize("make", [Schedule.linear, Schedule.cosine, Schedule.sigmoid], ids=lambda f: f.__name__)
def test_fewer_steps_than_one_are_refused(make, T):
    with pytest.raises(ValueError, match="T must be a positive integer"):
        make(T)


def test_a_linear_schedule_too_short_for_its_betas_is_refused():
    with pytest.raises(ValueError, match="needs T > 20"):
        Schedule.linear(20)


@pytest.mark.parametrize("t", [0, 101, -1, 1.0, [1, 2, 101], [], [True, True, True]], ids=str)
def test_times_outside_1_to_T_are_refused(t):
    x = np.zeros((3, 2))
    for f in (Schedule.q_sample, Schedule.posterior):
        with pytest.raises(ValueError, match="t must be whole numbers from 1 to T = 100"):
            f(SCHEDULES["linear"], *((x, t, x) if f is Schedule.q_sample else (x, x, t)))


def test_shapes_that_do_not_agree_and_integers_are_refused():
    s, x = SCHEDULES["linear"], np.zeros((3, 2))
    with pytest.raises(ValueError, match=r"eps must have the shape of x0, \(3, 2\), not \(3,\)"):
        s.q_sample(x, 1, np.zeros(3))
    with pytest.raises(ValueError, match=r"x0 must have the shape of xt, \(3, 2\), not \(2,\)"):
        s.posterior(np.zeros(2), x, 1)
    with pytest.raises(ValueError, match=r"x is float64 of shape \(3, 2\), t of shape \(2,\)"):
        s.q_sample(x, np.array([1, 2]), x)
    with pytest.raises(ValueError, match="x must be float32 or float64.*int64"):
        s.q_sample(x.astype(int), 1, x.astype(int))
