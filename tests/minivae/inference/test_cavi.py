"""Coordinate ascent: each step is the best one, the ELBO is the ELBO, and the answers are those known exactly."""
from itertools import product

import numpy as np
import pytest
from scipy import stats
from scipy.special import betaln, gammaln, log_expit, logsumexp, multigammaln, softmax

from autograd import grad
from minivae.inference import (Gaussian, NormalGamma, cavi_gaussian, cavi_gaussian_mixture, cavi_normal_gamma,
                               fit_forward, fit_reverse)
from minivae.inference.cavi import NormalWishart, dirichlet_kl, gaussian_elbo, log_rho, mixture_elbo, normal_gamma_elbo
from minivae.linear.gaussian_mixture import nearest_seed
from minivae.vae.gaps import grid

from .test_elbo import covariance, quadratic

PRIOR = NormalGamma(0.5, 0.8, 2.0, 1.5)
x = np.random.default_rng(3).normal(2, 0.7, 12)


def blobs(rng, n=60, D=2):
    """n points about each of three centres that are far apart, (3n, D), and their labels."""
    centres = 6 * np.eye(3)[:, :D] - 3
    return (centres[:, None] + rng.standard_normal((3, n, D))).reshape(-1, D), np.repeat(np.arange(3), n)


def prior_of(K, D, rng=None):
    inv_W = np.eye(D) if rng is None else covariance(rng, D)
    return NormalWishart(np.zeros((K, D)), np.full(K, 0.5), np.tile(inv_W, (K, 1, 1)), np.full(K, D + 1.5))


def random_q(rng, K, D):
    return NormalWishart(rng.standard_normal((K, D)), rng.uniform(1, 5, K),
                         np.stack([covariance(rng, D) for _ in range(K)]), rng.uniform(D + 1, 9, K))


def slope(f, v, h=1e-5):
    """Central differences of f in every element of v."""
    g = np.zeros(v.size)
    for i in range(v.size):
        e = np.zeros(v.size)
        e[i] = h
        g[i] = (f(v + e.reshape(v.shape)) - f(v - e.reshape(v.shape))) / (2 * h)
    return g


# A correlated Gaussian -----------------------------------------------------------------------------------------
@pytest.mark.equation("cavi.gaussian", "mean field on N(mu, Lambda^-1): mean mu, variances 1/Lambda_ii", bound=1e-10)
def test_mean_field_has_the_mean_and_the_conditional_variances(measure, rng):
    for d in (1, 2, 6):
        mu, precision = rng.standard_normal(d), covariance(rng, d)
        q = cavi_gaussian(mu, precision, start=5 * rng.standard_normal(d), max_iter=100_000, tol=0)
        measure(q.variance * np.diag(precision) - 1)
        np.testing.assert_allclose(q.mean, mu, atol=1e-6)


@pytest.mark.equation("cavi.gaussian", "1/Lambda_ii by least KL(q || p), Sigma_ii by least KL(p || q)", bound=1e-6,
                      kind="O")
def test_mean_field_is_the_reverse_fit_and_the_forward_fit_has_the_marginal_variances(measure):
    cov = np.array([[1.0, 0.9], [0.9, 1.2]])
    mu, precision, (z, weight) = np.array([0.5, -0.3]), np.linalg.inv(cov), grid(2)
    log_p = lambda z: quadratic(z, mu, precision)
    q = cavi_gaussian(mu, precision)
    reverse = fit_reverse(log_p, Gaussian(np.zeros(2), np.eye(2)), mean_field=True)
    forward = fit_forward(log_p(z), z, weight, mean_field=True)
    measure(q.variance - np.diag(reverse.cov))
    measure(np.diag(cov) - np.diag(forward.cov))
    assert (q.variance < 0.5 * np.diag(cov)).all()


@pytest.mark.equation("cavi.gaussian", "the ELBO of mean field on N(mu, Lambda^-1) is -KL(q || p)", bound=1e-10)
def test_the_elbo_of_mean_field_is_minus_the_kl(measure, rng):
    mu, precision = rng.standard_normal(4), covariance(rng, 4)
    m, v = rng.standard_normal(4), rng.uniform(0.1, 3, 4)
    measure(gaussian_elbo(m, v, mu, precision) + Gaussian(m, np.diag(v)).kl(Gaussian(mu, np.linalg.inv(precision))))
    precision = np.diag(rng.uniform(0.5, 2, 4))
    measure(cavi_gaussian(mu, precision).elbo_trace[-1])           # independent: q is p, and the KL is 0


@pytest.mark.equation("cavi.argmax", "Gaussian: after a factor's update the ELBO's gradient in it is 0, by autograd",
                      bound=1e-10)
def test_each_gaussian_update_is_the_best(measure, rng):
    mu, precision = rng.standard_normal(4), covariance(rng, 4)
    with pytest.warns(RuntimeWarning, match="max_iter=1 sweeps"):
        q = cavi_gaussian(mu, precision, start=rng.standard_normal(4), max_iter=1)
    gradient = grad(lambda m, v: gaussian_elbo(m, v, mu, precision), argnums=(0, 1))(q.mean, q.variance)
    measure(gradient[0][-1])                                       # of the factor that was set last
    measure(gradient[1])
    assert np.abs(gradient[0][:-1]).max() > 1e-3


# Normal-gamma --------------------------------------------------------------------------------------------------
@pytest.mark.equation("cavi.normal-gamma", "E mu and E tau of the fixed point are those of the exact posterior",
                      bound=1e-10)
def test_mean_field_has_the_exact_means_of_mu_and_tau(measure):
    with pytest.warns(RuntimeWarning, match="not converged in max_iter=40"):
        q, exact = cavi_normal_gamma(x, PRIOR, max_iter=40, tol=-1), PRIOR.posterior(x)
    measure([q.m - exact.m, q.a / q.b - exact.a / exact.b])
    assert 1 / q.lam < exact.b / (exact.a - 1) / exact.lam         # and too little variance


@pytest.mark.equation("cavi.normal-gamma", "p(x) and p(mu, tau | x) of the conjugate prior, by quadrature", bound=1e-8,
                      kind="Q")
def test_the_exact_posterior_and_evidence_are_those_of_quadrature(measure):
    mu, log_tau, weight, joint = tau_grid()
    evidence, exact = logsumexp(joint, b=weight), PRIOR.posterior(x)
    measure(PRIOR.log_evidence(x) - evidence)
    measure(log_normal_gamma(exact, mu, log_tau)[1000:-1000:97] - (joint - evidence)[1000:-1000:97])


@pytest.mark.equation("cavi.normal-gamma", "ELBO = E_q ln p(x, mu, tau)/q(mu)q(tau), by quadrature", bound=1e-8,
                      kind="Q")
def test_the_elbo_of_normal_gamma_is_its_integral(measure):
    mu, log_tau, weight, joint = tau_grid()
    for m, lam, a, b in ((1.9, 15.0, 8.5, 5.0), (1.7, 30.0, 12.0, 9.0)):
        log_q = stats.norm(m, lam ** -0.5).logpdf(mu) + stats.gamma(a, scale=1 / b).logpdf(np.exp(log_tau)) + log_tau
        direct = np.sum(np.exp(log_q) * (joint - log_q)) * weight
        measure(normal_gamma_elbo(x, PRIOR, m, lam, a, b) - direct)
        assert direct < PRIOR.log_evidence(x)


def tau_grid():
    """Nodes of μ and ln τ, their weight, and ln p(x, μ, ln τ) at them."""
    mu, log_tau = (v.ravel() for v in np.meshgrid(np.linspace(-2, 6, 801), np.linspace(-6, 4, 401)))
    weight = 0.01 * 0.025
    likelihood = stats.norm(mu[:, None], np.exp(-0.5 * log_tau)[:, None]).logpdf(x).sum(axis=1)
    return mu, log_tau, weight, likelihood + log_normal_gamma(PRIOR, mu, log_tau)


def log_normal_gamma(p, mu, log_tau):
    """ln p(μ, ln τ)."""
    return stats.norm(p.m, (p.lam * np.exp(log_tau)) ** -0.5).logpdf(mu) \
        + stats.gamma(p.a, scale=1 / p.b).logpdf(np.exp(log_tau)) + log_tau


@pytest.mark.equation("cavi.argmax", "normal-gamma: the ELBO's gradient in all four parameters is 0 where CAVI stops",
                      bound=1e-6, kind="G")
def test_the_fixed_point_of_normal_gamma_is_stationary(measure):
    q = cavi_normal_gamma(x, PRIOR, tol=0)
    measure(slope(lambda v: normal_gamma_elbo(x, PRIOR, *v), np.array(q[:4])))


@pytest.mark.equation("cavi.normal-gamma", "ELBO <= ln p(x), closer with more data (excess 0 if below)", bound=0)
def test_the_elbo_of_normal_gamma_is_below_the_evidence_and_nears_it_with_more_data(measure, rng):
    gaps = []
    for n in (1, 10, 100, 1000):
        data = rng.normal(1, 2, n)
        gaps.append(PRIOR.log_evidence(data) - cavi_normal_gamma(data, PRIOR).elbo_trace[-1])
    measure(min(0, *gaps))
    assert gaps == sorted(gaps, reverse=True) and gaps[-1] < 1e-3


def test_one_point_or_many_equal_ones_leave_a_proper_posterior():
    for data in ([2.0], np.full(50, 2.0)):
        q = cavi_normal_gamma(data, PRIOR)
        assert np.isfinite([*q[:4], *q.elbo_trace]).all() and q.b > 0


# The mixture ---------------------------------------------------------------------------------------------------
def log_evidence_of_one(X, prior):
    """ln p(X) of a Gaussian with a normal-Wishart prior (Bishop, exercise 2.45 and (B.79)), K = 1."""
    (N, D), post = X.shape, prior.update(X, np.ones((len(X), 1)))
    log_norm = lambda p: 0.5 * p.nu[0] * (np.linalg.slogdet(p.inv_W[0])[1] - D * np.log(2)) \
        - multigammaln(p.nu[0] / 2, D) + 0.5 * D * np.log(p.beta[0])
    return log_norm(prior) - log_norm(post) - 0.5 * N * D * np.log(2 * np.pi)


@pytest.mark.equation("cavi.mixture-elbo", "one component: q is the posterior, and the ELBO the evidence", bound=1e-10)
@pytest.mark.parametrize("D", [1, 3])
def test_the_elbo_of_one_component_is_its_evidence(measure, rng, D):
    X, W0 = 3 + rng.standard_normal((9, D)), covariance(rng, D)
    fit = cavi_gaussian_mixture(X, 1, beta0=0.5, m0=np.zeros(D), W0=W0, nu0=D + 1.5, rng=rng)
    prior = NormalWishart(np.zeros((1, D)), np.array([0.5]), np.linalg.inv(W0)[None], np.array([D + 1.5]))
    evidence = log_evidence_of_one(X, prior)
    measure((fit.elbo_trace[-1] - evidence) / evidence)


def test_the_evidence_of_one_component_is_a_chain_of_predictions(rng):
    """ln p(X) = sum of ln p(x_n | x_1..n-1): the truth of the test above, by (6) alone."""
    X, prior = rng.standard_normal((5, 2)), prior_of(1, 2)
    chain = 0.0
    for n in range(5):
        m, beta, inv_W, nu = (a[0] for a in prior.update(X[:n], np.ones((n, 1))))
        chain += stats.multivariate_t(m, (1 + beta) / ((nu - 1) * beta) * inv_W, nu - 1).logpdf(X[n])
    assert chain == pytest.approx(log_evidence_of_one(X, prior_of(1, 2)), rel=1e-10)


def test_the_elbo_of_a_mixture_is_below_its_evidence_by_summing_over_all_assignments(rng):
    X, alpha0 = np.concatenate([rng.standard_normal((4, 1)) - 2, rng.standard_normal((3, 1)) + 2]), 0.7
    parts = []
    for z in product(range(2), repeat=7):
        r = np.eye(2)[list(z)]
        log_z = gammaln(2 * alpha0) - gammaln(2 * alpha0 + 7) + np.sum(gammaln(alpha0 + r.sum(0)) - gammaln(alpha0))
        parts.append(log_z + sum(log_evidence_of_one(X[r[:, k] > 0], prior_of(1, 1)) for k in range(2)))
    fit = cavi_gaussian_mixture(X, 2, alpha0, 0.5, np.zeros(1), np.eye(1), 2.5, rng=rng)
    gap = logsumexp(parts) - fit.elbo_trace[-1]
    assert 0 < gap < np.log(2) + 1.0                               # one of the two labellings, and the mean field's gap


@pytest.mark.equation("cavi.mixture-elbo", "ELBO = E_q ln p(X, Z, pi, mu, Lambda)/q, by sampling q", bound=5, kind="S")
def test_the_elbo_of_a_mixture_is_its_expectation(measure, rng):
    (N, K, D), alpha0, prior = (8, 3, 2), 0.7, prior_of(3, 2, rng)
    X, r, alpha, q = rng.standard_normal((N, D)), softmax(rng.standard_normal((N, K)), 1), rng.uniform(1, 4, K), \
        random_q(rng, K, D)
    draws = [log_ratio(rng, X, r, alpha, q, alpha0, prior) for _ in range(800)]
    measure((np.mean(draws) - mixture_elbo(X, r, alpha, q, alpha0, prior)) / (np.std(draws) / len(draws) ** 0.5))


def log_ratio(rng, X, r, alpha, q, alpha0, prior):
    """ln p(X, Z, π, μ, Λ) − ln q(Z, π, μ, Λ) at one draw from q, with SciPy's densities."""
    K = len(alpha)
    pi = rng.dirichlet(alpha)
    total = stats.dirichlet(np.full(K, alpha0)).logpdf(pi) - stats.dirichlet(alpha).logpdf(pi)
    z = [rng.choice(K, p=row) for row in r]
    for k in range(K):
        precision = np.atleast_2d(stats.wishart(q.nu[k], np.linalg.inv(q.inv_W[k])).rvs(random_state=rng))
        mu = rng.multivariate_normal(q.m[k], np.linalg.inv(q.beta[k] * precision))
        for sign, p in ((1, prior), (-1, q)):
            total += sign * stats.wishart(p.nu[k], np.linalg.inv(p.inv_W[k])).logpdf(precision)
            total += sign * stats.multivariate_normal(p.m[k], np.linalg.inv(p.beta[k] * precision)).logpdf(mu)
        mine = [n for n in range(len(X)) if z[n] == k]
        if mine:
            total += np.sum(stats.multivariate_normal(mu, np.linalg.inv(precision)).logpdf(X[mine]))
    return total + sum(np.log(pi[k]) - np.log(row[k]) for k, row in zip(z, r))


@pytest.mark.equation("cavi.mixture-elbo", "KL(Dir || Dir) as an integral, K = 2", bound=1e-8, kind="Q")
def test_the_kl_of_dirichlets_is_its_integral(measure):
    u = np.linspace(-40, 40, 4001)                                 # logit of π₁, which carries π₁ (1 − π₁) with it
    a, b = np.array([2.5, 1.2]), np.array([0.4, 0.9])
    log_q, log_p = (log_expit(u) * v[0] + log_expit(-u) * v[1] - betaln(*v) for v in (a, b))
    measure(dirichlet_kl(a, b) - np.sum(np.exp(log_q) * (log_q - log_p)) * 0.02)
    assert dirichlet_kl(a, a) == 0


@pytest.mark.equation("cavi.argmax", "mixture: after its update the ELBO's gradient in alpha, m, beta, W, nu is 0",
                      bound=1e-6, kind="G")
def test_each_update_of_a_mixtures_parameters_is_the_best(measure, rng):
    (K, D), alpha0, prior = (2, 2), 0.3, prior_of(2, 2, rng)
    X, r = rng.standard_normal((10, D)), softmax(rng.standard_normal((10, K)), 1)
    alpha, q = alpha0 + r.sum(0), prior.update(X, r)
    elbo = lambda alpha, **changed: mixture_elbo(X, r, alpha, q._replace(**changed), alpha0, prior)
    measure(slope(lambda a: elbo(a), alpha))
    for name in ("m", "beta", "nu"):
        measure(slope(lambda v: elbo(alpha, **{name: v}), getattr(q, name)))
    directions = np.array([[[[1, 0], [0, 0]]], [[[0, 0], [0, 1]]], [[[0, 1], [1, 0]]]])        # W stays symmetric
    measure(slope(lambda t: elbo(alpha, inv_W=q.inv_W + np.tensordot(t, directions, 1)), np.zeros(3)))


@pytest.mark.equation("cavi.responsibilities", "the ELBO's gradient in r is the same for all k, by differences",
                      bound=1e-6, kind="G")
def test_each_update_of_a_mixtures_responsibilities_is_the_best(measure, rng):
    prior, q, alpha, X = prior_of(3, 2), random_q(rng, 3, 2), rng.uniform(0.5, 3, 3), rng.standard_normal((4, 2))
    r = softmax(log_rho(X, alpha, q), axis=1)
    along = np.eye(3)[[0, 1]] - np.eye(3)[[1, 2]]                  # two directions on which the rows still sum to 1
    h = np.zeros((4, 2))
    measure(slope(lambda t: mixture_elbo(X, r * np.exp(np.zeros(3)) + t @ along * r.min(1)[:, None], alpha, q, 1.0,
                                         prior), h, h=1e-4))


@pytest.mark.equation("cavi.responsibilities", "E ln pi_k + E ln N(x; mu_k, Lambda_k^-1), by sampling", bound=5,
                      kind="S")
def test_the_expected_log_densities_are_means_over_samples(measure, rng):
    q, alpha, X = random_q(rng, 1, 2), np.array([1.5, 0.7]), rng.standard_normal((3, 2))
    pi = rng.dirichlet(alpha, 4000)[:, 0]
    draws = stats.wishart(q.nu[0], np.linalg.inv(q.inv_W[0])).rvs(4000, random_state=rng)
    mu = q.m[0] + np.stack([np.linalg.solve(np.linalg.cholesky(q.beta[0] * p).T, e)
                            for p, e in zip(draws, rng.standard_normal((4000, 2)))])
    e = X - mu[:, None]
    squares = np.einsum("sni,sij,snj->sn", e, draws, e)
    values = 0.5 * (np.linalg.slogdet(draws)[1][:, None] - squares) - np.log(2 * np.pi)
    measure((values.mean(0) - q.expected_log_prob(X)[:, 0]) / (values.std(0) / 4000 ** 0.5))
    both = NormalWishart(*[np.concatenate([a, a]) for a in q])
    weight = (log_rho(X, alpha, both) - both.expected_log_prob(X))[0, 0]
    measure((np.log(pi).mean() - weight) / (np.log(pi).std() / 4000 ** 0.5))


@pytest.mark.equation("cavi.predictive", "the predictive density is positive and integrates to 1", bound=1e-6, kind="Q")
def test_the_predictive_density_integrates_to_one(measure, rng):
    X = np.concatenate([rng.standard_normal((20, 1)) - 2, 0.5 * rng.standard_normal((30, 1)) + 3])
    fit = cavi_gaussian_mixture(X, 3, rng=rng)
    u = np.linspace(-12, 12, 4001)
    z = np.sinh(u)                                                 # heavy tails
    measure(np.sum(np.exp(fit.predictive_log_prob(z[:, None])) * np.cosh(u)) * 0.006 - 1)


@pytest.mark.equation("cavi.predictive", "one component: p(x | X) = p(x, X)/p(X)", bound=1e-10)
def test_the_prediction_of_one_component_is_a_ratio_of_evidences(measure, rng):
    X, new, prior = rng.standard_normal((6, 2)), rng.standard_normal((3, 2)), prior_of(1, 2)
    fit = cavi_gaussian_mixture(X, 1, 1.0, 0.5, np.zeros(2), np.eye(2), 3.5, rng=rng)
    longer = [log_evidence_of_one(np.vstack([X, row]), prior) for row in new]
    measure(fit.predictive_log_prob(new) - (longer - log_evidence_of_one(X, prior)))


@pytest.mark.equation("cavi.monotone", "no sweep of any of the three lowers the ELBO (fall / |ELBO|)", bound=1e-10)
def test_coordinate_ascent_never_lowers_the_elbo(measure, rng):
    traces = [cavi_normal_gamma(x, NormalGamma(9.0, 0.1, 0.1, 0.1), tol=0).elbo_trace]
    for seed in range(5):
        rng = np.random.default_rng(seed)
        precision = covariance(rng, 5)
        traces.append(cavi_gaussian(rng.standard_normal(5), precision, 9 * rng.standard_normal(5)).elbo_trace)
        X = np.concatenate([blobs(rng)[0], rng.uniform(-8, 8, (20, 2))])
        traces.append(cavi_gaussian_mixture(X, 8, alpha0=10.0 ** (seed - 3), max_iter=3000, rng=rng).elbo_trace)
    for trace in traces:
        assert len(trace) > 2
        measure(min(0, np.min(np.diff(trace) / np.abs(trace[1:]))))


@pytest.mark.equation("cavi.monotone", "half a sweep, of r or of the parameters, does not either", bound=1e-10)
def test_neither_half_of_a_mixtures_sweep_lowers_the_elbo(measure, rng):
    X, prior = blobs(rng)[0], prior_of(4, 2)
    r, before = softmax(rng.standard_normal((len(X), 4)), 1), -np.inf
    alpha, q = np.full(4, 1.0), prior
    for _ in range(20):
        for half in "parameters", "responsibilities":
            if half == "parameters":
                alpha, q = 0.1 + r.sum(0), prior.update(X, r)
            else:
                r = softmax(log_rho(X, alpha, q), axis=1)
            after = mixture_elbo(X, r, alpha, q, 0.1, prior)
            measure(min(0, (after - before) / abs(after)))
            before = after


def test_surplus_components_go_empty_and_the_others_are_right(rng):
    X, labels = blobs(rng)
    fit = cavi_gaussian_mixture(X, 10, alpha0=1e-3, rng=rng)
    used = fit.weights > 0.01
    assert used.sum() == 3 and fit.weights[~used].max() < 1e-4
    np.testing.assert_allclose(fit.weights[used], 1 / 3, atol=0.01)
    for k in np.flatnonzero(used):
        mine = labels == np.bincount(labels[fit.responsibilities[:, k] > 0.5]).argmax()
        np.testing.assert_allclose(fit.means[k], X[mine].mean(0), atol=0.1)
    empty = np.flatnonzero(~used)
    np.testing.assert_allclose(fit.means[empty], np.tile(X.mean(0), (len(empty), 1)), atol=1e-6)       # the prior's
    np.testing.assert_allclose(fit.components.nu[empty], 2, atol=1e-6)


def test_a_large_alpha0_keeps_every_component(rng):
    assert (cavi_gaussian_mixture(blobs(rng)[0], 6, alpha0=100.0, rng=rng).weights > 0.1).all()


def test_a_fit_does_not_depend_on_the_units(rng):
    X, A = blobs(rng)[0], np.array([[30.0, 1.0], [0.0, 0.01]])
    one, two = (cavi_gaussian_mixture(data, 4, rng=np.random.default_rng(1)) for data in (X, X @ A.T + 7))
    np.testing.assert_allclose(one.responsibilities, two.responsibilities, atol=1e-6)
    np.testing.assert_allclose(one.means @ A.T + 7, two.means, atol=1e-6)
    density = np.linalg.slogdet(A)[1]
    np.testing.assert_allclose(one.predictive_log_prob(X) - density, two.predictive_log_prob(X @ A.T + 7), atol=1e-5)


@pytest.mark.oracle
def test_the_fixed_point_is_scikit_learns(oracle, rng):
    X, _ = blobs(rng)
    X += 1.0 * rng.standard_normal(X.shape)
    peer = oracle("sklearn.mixture").BayesianGaussianMixture(
        n_components=3, weight_concentration_prior_type="dirichlet_distribution", weight_concentration_prior=0.01,
        reg_covar=0, tol=1e-12, max_iter=5000, random_state=0).fit(X)
    fit = cavi_gaussian_mixture(X, 3, 0.01, tol=0, max_iter=5000, rng=rng)
    mine, theirs = np.argsort(fit.means[:, 0] + 2 * fit.means[:, 1]), np.argsort(peer.means_ @ [1, 2])
    np.testing.assert_allclose(fit.alpha[mine], peer.weight_concentration_[theirs], rtol=1e-6)
    np.testing.assert_allclose(fit.means[mine], peer.means_[theirs], rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(fit.covariances[mine], peer.covariances_[theirs], rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(fit.responsibilities[:, mine], peer.predict_proba(X)[:, theirs], atol=1e-6)


def test_a_fit_stops_at_the_first_gain_of_no_more_than_tol_an_example(rng):
    X = rng.standard_normal((200, 2)) + np.repeat([[0.0], [2.0]], 100, axis=0)
    gains = np.diff(cavi_gaussian_mixture(X, 2, tol=1e-4, rng=rng).elbo_trace)
    assert (gains[:-1] > 200 * 1e-4).all() and gains[-1] <= 200 * 1e-4


def test_the_first_responsibilities_are_of_rows_that_differ(rng):
    """A row is drawn in proportion to its distance from those before it: never, for a row that is one of them."""
    X = np.repeat([[0.0, 0.0], [1.0, 0.0], [0.0, 3.0]], [98, 1, 1], axis=0)
    for _ in range(20):
        r = nearest_seed(X, 3, rng)
        assert sorted(r.sum(axis=0)) == [1, 1, 98] and (r[:98] == r[0]).all()


# Manners -------------------------------------------------------------------------------------------------------
def test_fits_are_deterministic_keep_the_dtype_and_leave_their_input_alone(rng):
    X = blobs(rng)[0].astype(np.float32)
    before = X.copy()
    one, two = (cavi_gaussian_mixture(X, 4, rng=np.random.default_rng(5)) for _ in range(2))
    assert (one.responsibilities == two.responsibilities).all() and (X == before).all()
    for a in (one.responsibilities, one.alpha, *one.components, one.weights, one.covariances,
              one.predictive_log_prob(X)):
        assert a.dtype == np.float32
    start = np.ones(2, np.float32)
    q = cavi_gaussian(np.zeros(2, np.float32), np.eye(2, dtype=np.float32), start)
    assert q.mean.dtype == q.variance.dtype == np.float32 and (start == 1).all()


def test_a_single_or_repeated_point_is_fitted_once_a_prior_width_is_given(rng):
    for X, K in ((np.full((1, 2), 3.0), 1), (np.full((9, 2), 3.0), 4)):
        fit = cavi_gaussian_mixture(X, K, W0=np.eye(2), rng=rng)
        for a in (fit.weights, *fit.components, fit.elbo_trace, fit.predictive_log_prob(X)):
            assert np.isfinite(a).all()
        np.testing.assert_allclose(fit.weights @ fit.means, [3, 3])


@pytest.mark.parametrize("make, message", [
    (lambda f: f(np.ones((5, 2)), 2), "covariance of X, .* is singular .* give W0"),
    (lambda f: f(np.ones((1, 2)), 1), "covariance of X, .* is singular .* give W0"),
    (lambda f: f(np.eye(3), 4), "n_components must be at most 3, the rows of X, not 4"),
    (lambda f: f(np.eye(3), 0), "n_components must be a positive integer, not 0"),
    (lambda f: f(np.eye(3), True), "n_components must be a positive integer, not True"),
    (lambda f: f(np.eye(3), 1, W0=np.eye(3), tol="x"), "tol must be made of real numbers, not 'x'"),
    (lambda f: f(np.eye(3), 1, W0=np.eye(3), tol=np.nan), "tol must be finite"),
    (lambda f: f(np.array([[0, np.nan]]), 1), "X must be finite, and holds nan"),
    (lambda f: f(np.zeros(3), 1), r"X must have shape \(any, any\), not \(3,\)"),
    (lambda f: f(np.eye(3), 2, alpha0=0.0), "alpha0 must be a number > 0, not 0.0"),
    (lambda f: f(np.eye(3), 2, beta0=-1), "beta0 must be a number > 0"),
    (lambda f: f(np.eye(3), 2, nu0=2), "nu0 must be more than D - 1 = 2, not 2"),
    (lambda f: f(np.eye(3), 2, m0=np.zeros(2)), r"m0 must have shape \(3,\), not \(2,\)"),
    (lambda f: f(np.eye(3), 2, W0=np.ones((3, 3))), "W0 must be positive definite"),
    (lambda f: f(np.eye(2), 1, W0=np.eye(2)).predictive_log_prob(np.eye(3)), r"shape \(any, 2\), not \(3, 3\)")])
def test_bad_input_to_a_mixture_is_refused(make, message, rng):
    with pytest.raises(ValueError, match=message):
        make(lambda *args, **kwargs: cavi_gaussian_mixture(*args, **kwargs, rng=rng))


@pytest.mark.parametrize("make, message", [
    (lambda: cavi_gaussian(np.zeros(2), np.ones((2, 2))), "precision must be positive definite"),
    (lambda: cavi_gaussian(np.zeros(2), np.eye(3)), r"precision must have shape \(2, 2\)"),
    (lambda: cavi_gaussian(np.zeros(2), np.eye(2), np.zeros(3)), r"start must have shape \(2,\)"),
    (lambda: cavi_gaussian([np.nan, 0], np.eye(2)), "mu must be finite"),
    (lambda: cavi_normal_gamma([]), r"x must have shape \(any,\), not \(0,\)"),
    (lambda: cavi_normal_gamma([1, np.inf]), "x must be finite"),
    (lambda: NormalGamma().posterior([1, np.nan]), "x must be finite, and holds nan"),
    (lambda: cavi_normal_gamma([1.0], NormalGamma(lam=0)), "lam must be a number > 0"),
    (lambda: cavi_normal_gamma([1.0], (0, 1, 1, 1)), r"prior must be a NormalGamma, not \(0, 1, 1, 1\)"),
    (lambda: NormalGamma(lam=-1).posterior([1.0]), "lam must be a number > 0, not -1"),
    (lambda: NormalGamma(b=0).log_evidence([1.0]), "b must be a number > 0, not 0"),
    (lambda: NormalGamma(m=np.nan).posterior([1.0]), "m must be finite"),
    (lambda: cavi_normal_gamma([1.0], max_iter=0), "max_iter must be a positive integer, not 0")])
def test_bad_input_to_the_others_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
