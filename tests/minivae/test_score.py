"""Four forms of one prediction, and the score of a density that is known."""
import numpy as np
import pytest
from scipy import stats

from autograd import grad, ops
from minivae.diffusion import MixtureDenoiser, Schedule, from_x0, to_x0
from minivae.diffusion.score import FORMS

S = Schedule.cosine(50)
MEANS, VARIANCES = np.array([[-1.5, 0.5], [1.0, 1.0], [0.5, -2.0]]), np.array([[0.1, 0.3], [0.5, 0.2], [0.02, 1.0]])
WEIGHTS = np.array([0.2, 0.5, 0.3])


def mixture(predict, s=S):
    return MixtureDenoiser(s, MEANS, VARIANCES, WEIGHTS, predict)


def log_density(x, t, weights=WEIGHTS, s=S):
    """ln q(x_t), (B,), of that mixture, written with ops."""
    abar = s.alpha_bar[t - 1]
    w = abar * VARIANCES + 1 - abar
    terms = -0.5 * (ops.expand_dims(x, 1) - abar ** 0.5 * MEANS) ** 2 / w - 0.5 * np.log(2 * np.pi * w)
    return ops.logsumexp(ops.sum(terms, axis=2) + np.log(weights), axis=1)


def score(x, t, **options):
    return grad(lambda x: ops.sum(log_density(x, t, **options)))(x)


@pytest.mark.equation("diffusion.conversions", "x_t = a x0 + s eps, v = a eps - s x0: each gives x0, and x0 each",
                      bound=1e-10)
@pytest.mark.parametrize("s", [S, Schedule.linear(1000), Schedule.sigmoid(1000)], ids=str)
def test_noise_origin_v_and_score_convert_into_each_other(measure, rng, s):
    t = np.arange(1, s.T + 1)
    x0, eps = rng.standard_normal((2, s.T, 3))
    a, n = np.sqrt(s.alpha_bar)[:, None], np.sqrt(1 - s.alpha_bar)[:, None]
    xt = a * x0 + n * eps
    forms = {"eps": eps, "x0": x0, "v": a * eps - n * x0, "score": -eps / n}
    assert set(forms) == set(FORMS)
    for form, value in forms.items():
        measure(to_x0(s, value, xt, t, form) - x0)
        measure((from_x0(s, x0, xt, t, form) - value) * (n if form == "score" else 1))
        for other in FORMS:
            back = from_x0(s, to_x0(s, from_x0(s, x0, xt, t, other), xt, t, other), xt, t, form)
            measure((back - value) * (n if form == "score" else 1))


@pytest.mark.equation("diffusion.score", "grad ln q(x_t | x0) = -eps / sqrt(1 - abar)", bound=1e-10)
def test_the_score_of_the_forward_kernel_is_its_noise(measure, rng):
    x0, eps = rng.standard_normal((2, 4, 2))
    for t in (1, 20, 50):
        abar, xt = S.alpha_bar[t - 1], S.q_sample(x0, t, eps)
        got = grad(lambda x: -0.5 * ops.sum((x - abar ** 0.5 * x0) ** 2) / (1 - abar))(xt)
        measure(got + eps / (1 - abar) ** 0.5)
        measure(from_x0(S, x0, xt, t, "score") - got)


@pytest.mark.equation("diffusion.marginal-score", "grad ln q(x_t) = -E[eps | x_t] / sqrt(1 - abar)", bound=1e-10)
def test_the_marginal_score_is_the_mean_noise(measure, rng):
    x = 2 * rng.standard_normal((6, 2))
    for t in (1, 20, 50):
        measure((mixture("eps")(x, t) / -(1 - S.alpha_bar[t - 1]) ** 0.5 - score(x, t)) / np.abs(score(x, t)).max())
        measure((mixture("score")(x, t) - score(x, t)) / np.abs(score(x, t)).max())


@pytest.mark.equation("diffusion.tweedie", "E[x0 | x_t] = (x_t + (1 - abar) grad ln q(x_t)) / sqrt(abar)", bound=1e-10)
def test_tweedies_formula_finds_the_mean_of_a_mixture(measure, rng):
    x = 2 * rng.standard_normal((6, 2))
    for t in (1, 20, 49):
        abar = S.alpha_bar[t - 1]
        measure(mixture("x0")(x, t) - (x + (1 - abar) * score(x, t)) / abar ** 0.5)
        measure(to_x0(S, score(x, t), x, t, "score") - mixture("x0")(x, t))


@pytest.mark.equation("diffusion.mixture", "E[x0 | x_t] = int x0 q(x_t | x0) p(x0) dx0 / q(x_t)", bound=1e-8, kind="Q")
def test_the_mixtures_denoiser_is_the_posterior_mean(measure):
    means, sd, weights = np.array([-1.0, 0.5]), np.array([0.3, 0.6]), np.array([0.7, 0.3])
    denoiser = MixtureDenoiser(S, means[:, None], sd[:, None] ** 2, weights, "x0")
    nodes, xt = np.linspace(-6, 6, 4001), np.array([-2.0, 0.1, 1.0])
    for t in (5, 30):
        abar = S.alpha_bar[t - 1]
        joint = stats.norm.pdf(xt[:, None], abar ** 0.5 * nodes, (1 - abar) ** 0.5)
        every = stats.norm.pdf(nodes[:, None], means, sd)
        for y, prior in ((None, every @ weights), (0, every[:, 0]), (1, every[:, 1]), (2, every @ weights)):
            want = (joint * prior) @ nodes / (joint @ prior)
            measure(denoiser(xt[:, None], t, y if y is None else np.full(3, y))[:, 0] - want)


def test_a_mixture_without_variance_remembers_its_data():
    data = np.array([[0.0, 1.0], [2.0, -1.0]])
    near = MixtureDenoiser(S, data, 0.0, predict="x0")(data + 0.01, 1)
    np.testing.assert_allclose(near, data, atol=1e-10)


def test_float32_stays_float32_in_a_conversion(rng):
    x = rng.standard_normal((5, 2), np.float32)
    for form in FORMS:
        assert to_x0(S, x, x, 3, form).dtype == from_x0(S, x, x, np.full(5, 3), form).dtype == np.float32


@pytest.mark.parametrize("form", FORMS)
def test_shapes_that_do_not_belong_together_are_not_broadcast(form):
    x = np.zeros((3, 2))
    for f in (to_x0, from_x0):
        for value in (np.zeros(2), np.zeros((3, 1)), np.zeros((1, 2)), np.zeros((3, 1, 2)), 0.0):
            with pytest.raises(ValueError, match=r"must have the shape of xt, \(3, 2\), not"):
                f(S, value, x, 1, form)


@pytest.mark.parametrize("shape, t, y, message", [
    ((4, 3), 1, None, r"takes x \(B, 2\), not \(4, 3\)"), ((4, 1), 1, None, r"not \(4, 1\)"),
    ((2,), 1, None, "takes x"),
    ((4, 2), 51, None, "t must be whole numbers from 1 to T = 50"), ((4, 2), [1, 2], None, r"t of shape \(2,\)"),
    ((4, 2), 1, [0, 1], r"y must be 4 whole numbers.*shape \(2,\)"), ((4, 2), 1, 0, r"shape \(\)"),
    ((4, 2), 1, [0.0, 1, 2, 3], "not float64"), ((4, 2), 1, [0, 1, 2, 4], "or 3 for none, got 0 to 4"),
    ((4, 2), 1, [0, 1, 2, -1], "got -1 to 2")], ids=str)
def test_a_mixture_refuses_what_does_not_fit(shape, t, y, message):
    with pytest.raises(ValueError, match=message):
        mixture("eps")(np.zeros(shape), t, y)


def test_a_form_that_is_none_is_refused():
    x = np.zeros((1, 2))
    for f in (to_x0, from_x0):
        with pytest.raises(ValueError, match="form must be one of 'eps', 'x0', 'v', 'score', not 'epsilon'"):
            f(S, x, x, 1, "epsilon")
    with pytest.raises(ValueError, match="predict must be one of"):
        mixture("mean")


@pytest.mark.parametrize("means, variances, weights, message", [
    (np.zeros(3), 1, None, r"means must have shape"), (np.full((2, 1), np.nan), 1, None, "means must be finite"),
    (np.zeros((2, 1)), -1, None, "variances must be >= 0"), (np.zeros((2, 1)), np.nan, None, "variances must be >= 0"),
    (np.zeros((2, 1)), np.inf, None, "variances must be >= 0 and finite"),
    (np.zeros((2, 1)), 1, np.array([1.0, 0.0]), "weights > 0"),
    (np.zeros((2, 2)), np.ones(3), None, r"variances must be numbers that broadcast to \(2, 2\), not array"),
    (np.zeros((2, 2)), "a", None, "variances must be numbers"),
    (np.zeros((2, 1)), 1, np.ones(3), "weights must have shape")])
def test_a_mixture_that_is_none_is_refused(means, variances, weights, message):
    with pytest.raises(ValueError, match=message):
        MixtureDenoiser(S, means, variances, weights)


def test_a_mixture_under_no_schedule_is_refused():
    with pytest.raises(ValueError, match="needs a Schedule, not 10"):
        MixtureDenoiser(10, np.zeros((1, 2)), 1.0)
