"""The tail index of importance weights, where it is known."""
import warnings

import numpy as np
import pytest
from scipy import stats
from scipy.special import logsumexp

from minivae.inference import pareto_k, psis
from minivae.inference.psis import fit_tail

from ..test_distributions import z_score


@pytest.mark.equation("psis.fit", "a generalised Pareto sample gives back its k and sigma", bound=5, kind="S")
@pytest.mark.parametrize("k", [-0.3, 0.2, 0.7, 1.2])
def test_the_fit_finds_the_generalised_pareto_distribution_of_a_sample(measure, rng, k):
    fits = np.array([fit_tail(stats.genpareto(k, scale=3).rvs(2000, random_state=rng)) for _ in range(60)])
    measure(z_score(fits, [k, 3]))


@pytest.mark.equation("psis.fit", "sigma scales with the sample and k does not", bound=1e-10)
def test_the_fit_is_equivariant(measure, rng):
    y = rng.pareto(2.0, 300)
    (k, sigma), (scaled_k, scaled_sigma) = fit_tail(y), fit_tail(1e-6 * y)
    measure(scaled_k - k)
    measure(scaled_sigma / (1e-6 * sigma) - 1)


@pytest.mark.equation("psis.k-hat", "weights from Pareto(alpha): k = 1 / alpha, before the prior", bound=5, kind="S")
@pytest.mark.parametrize("alpha", [1.0, 2.0, 4.0])
def test_k_hat_is_the_inverse_of_a_paretos_index(measure, rng, alpha):
    k = np.array([pareto_k(np.log1p(rng.pareto(alpha, 10_000)) + 1234) for _ in range(60)])
    measure(z_score((k * 310 - 5) / 300, 1 / alpha))


@pytest.mark.equation("psis.k-hat", "p = Exponential(a) by draws of Exponential(b), b > a: k = 1 - a/b", bound=5,
                      kind="S")
@pytest.mark.parametrize("ratio", [0.3, 0.6])
def test_k_hat_of_a_proposal_that_is_too_narrow_is_its_closed_form(measure, rng, ratio):
    """w = (a / b) exp((b - a) x), so P(w > t) falls as t^(-b / (b - a)): a power law at all heights."""
    k = np.array([pareto_k((1 - ratio) * rng.standard_exponential(10_000)) for _ in range(60)])
    measure(z_score((k * 310 - 5) / 300, 1 - ratio))


@pytest.mark.equation("psis.k-hat", "p = N(0, 1) by draws of N(0, s^2), s < 1: k = 1 - s^2", bound=5, kind="S")
@pytest.mark.parametrize("s", [0.4, 0.8])
def test_k_hat_of_a_narrow_gaussian_is_one_less_its_variance(measure, rng, s):
    """The power law holds far out only, so the draws are those beyond 100 standard deviations."""
    beyond = stats.truncnorm(100, np.inf)
    k = np.array([pareto_k(0.5 * beyond.rvs(10_000, random_state=rng) ** 2 * (1 - s * s)) for _ in range(60)])
    measure(z_score((k * 310 - 5) / 300, 1 - s * s))


def test_k_hat_tells_a_proposal_that_will_do_from_one_that_will_not(rng):
    def k(s):
        eps = rng.standard_normal((4000, 5))
        return pareto_k(np.sum(stats.norm.logpdf(s * eps) - stats.norm.logpdf(eps), axis=1))
    assert k(0.4) > 0.7 > k(0.9) > k(1.2)
    assert pareto_k(np.full(100, -7.0)) == -np.inf


@pytest.mark.equation("psis.smooth", "the M largest weights become quantiles (i - 1/2)/M above the M+1st, at most the "
                      "largest; the others stay", bound=1e-10)
def test_smoothing_puts_quantiles_in_the_place_of_the_largest_weights(measure, rng):
    capped = []
    for _ in range(10):
        log_w = np.log(rng.pareto(1.5, 1000)) - 50
        smoothed, k = psis(log_w)
        order, m = np.argsort(log_w), 95                           # 3 sqrt(1000), rounded up
        measure(smoothed[order[:-m]] - log_w[order[:-m]])
        u = np.exp(log_w[order[-m - 1]])
        raw_k, sigma = fit_tail(np.exp(log_w[order[-m:]]) - u)
        measure(k - (95 * raw_k + 10 * 0.5) / 105)
        quantiles = np.log(u + stats.genpareto(k, scale=sigma).ppf((np.arange(m) + 0.5) / m))
        measure(smoothed[order[-m:]] - np.minimum(quantiles, log_w.max()))
        capped.append(quantiles[-1] > log_w.max())
    assert 0 < sum(capped) < 10


def test_smoothed_weights_average_better_than_raw_ones(rng):
    """Z = E_q w = 1 by 1000 draws, where k = 0.6 and the variance of w is infinite."""
    errors = []
    for _ in range(300):
        log_w = np.log(0.4) + 0.6 * rng.standard_exponential(1000)
        errors.append([logsumexp(v) - np.log(1000) for v in (log_w, psis(log_w)[0])])
    raw, smoothed = np.sqrt(np.mean(np.square(np.expm1(errors)), axis=0))
    assert smoothed < 0.9 * raw


def test_weights_of_zero_are_welcome_and_inputs_stay_as_they_are(rng):
    log_w = rng.standard_normal(200)
    log_w[:190] = -np.inf
    before = log_w.copy()
    smoothed, k = psis(log_w)
    assert np.isfinite(k) and not np.isnan(smoothed).any()
    np.testing.assert_array_equal(log_w, before)


def test_a_tail_that_is_mostly_of_weight_zero_is_hopeless_without_a_warning(rng):
    log_w = np.where(np.arange(100) < 90, -np.inf, 3 * rng.standard_normal(100))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        smoothed, k = psis(log_w)
    assert k > 100 and smoothed.max() == log_w.max()


@pytest.mark.parametrize("bad, message", [
    (np.zeros(24), "at least 25"), (np.zeros((5, 20)), "at least 25"), (np.full(30, -np.inf), "not all -inf"),
    (np.where(np.arange(30) == 3, np.nan, 0.0), "the largest is nan"), (np.full(30, np.inf), "the largest is inf")])
def test_weights_that_have_no_tail_are_refused(bad, message):
    with pytest.raises(ValueError, match=message):
        pareto_k(bad)
