"""PPCA of incomplete rows against the dense Gaussian, marginalised and conditioned row by row, and a loop over rows."""
import tracemalloc

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from autograd import grad, ops
from minivae.linear import PPCA
from minivae.linear.missing import Incomplete
from minivae.linear.ppca import Complete

from .test_pca import correlated, covariance_z_score
from .test_ppca import clear, dense


def holes(rng, X, share=0.3):
    """X with a share of NaN, one row of nothing else, and one without any."""
    X = np.where(rng.random(X.shape) < share, np.nan, X)
    X[0], X[1] = np.nan, np.nan_to_num(X[1], nan=1.0)
    return X


def em_by_rows(X, W, mean, noise):
    """One step of EM as the equations read, a row at a time: (W, mean, s²), and the mean of ln p(x_o) before it."""
    (N, D), q = X.shape, W.shape[1]
    A, b = np.zeros((D, q + 1, q + 1)), np.zeros((D, q + 1))
    squares = loglik = 0.0
    for x in X:
        o = ~np.isnan(x)
        V, r = W[o], x[o] - mean[o]
        M = V.T @ V + noise * np.eye(q)
        inverse = np.linalg.inv(M)
        z = inverse @ V.T @ r
        v = np.append(z, 1)
        vv = np.outer(v, v)
        vv[:q, :q] += noise * inverse
        A[o] += vv
        b[o] += np.outer(r, v)
        squares += r @ r
        logdet = (len(r) - q) * np.log(noise) + np.linalg.slogdet(M)[1]
        loglik -= 0.5 * (len(r) * np.log(2 * np.pi) + logdet + (r @ r - r @ V @ z) / noise)
    new = np.linalg.solve(A, b[:, :, None])[:, :, 0]
    return new[:, :q], mean + new[:, q], (squares - np.sum(b * new)) / np.sum(~np.isnan(X)), loglik / N


def start(rng, X, q=2):
    return rng.standard_normal((X.shape[1], q)), np.nanmean(X, axis=0), 0.7


def conditional(m, x):
    """Mean and covariance of (z, the missing x) given the observed x, from the dense joint Gaussian."""
    q, o = m.W_.shape[1], ~np.isnan(x)
    joint = np.block([[np.eye(q), m.W_.T], [m.W_, dense(m)]])
    known, unknown = np.r_[np.zeros(q, bool), o], np.r_[np.ones(q, bool), ~o]
    gain = joint[np.ix_(unknown, known)] @ np.linalg.inv(joint[np.ix_(known, known)])
    mean = np.r_[np.zeros(q), m.mean_[~o]] + gain @ (x[o] - m.mean_[o])
    return mean, joint[np.ix_(unknown, unknown)] - gain @ joint[np.ix_(known, unknown)]


@pytest.mark.equation("missing.likelihood", "ln N(x_o; mu_o, W_o W_o' + s^2 I) = the marginal of the dense Gaussian",
                      bound=1e-10)
@pytest.mark.parametrize("q", [1, 3])
def test_the_density_of_a_row_is_the_marginal_of_what_is_observed(measure, rng, q):
    X = correlated(rng)
    m, Y = PPCA(q).fit(X), holes(rng, X)
    found = m.score_samples(Y)
    for x, ours in zip(Y, found):
        o = ~np.isnan(x)
        if o.any():
            measure(ours / multivariate_normal(m.mean_[o], dense(m)[np.ix_(o, o)]).logpdf(x[o]) - 1)
    measure(found[0])                                              # nothing observed: a density over nothing is 1
    measure(m.score_samples(Y[1:2]) / found[1] - 1)                # nothing missing: as PPCA says


@pytest.mark.equation("missing.posterior", "p(z|x_o) = the dense joint Gaussian, conditioned on x_o", bound=1e-10)
@pytest.mark.parametrize("q", [1, 3])
def test_the_posterior_conditions_the_joint_gaussian_on_what_is_observed(measure, rng, q):
    X = correlated(rng)
    m, Y = PPCA(q).fit(X), holes(rng, X)
    means, covariances = m.posterior(Y)
    assert means.shape == (60, q) and covariances.shape == (60, q, q)
    for x, mean, covariance in zip(Y, means, covariances):
        truth = conditional(m, x)
        measure(mean - truth[0][:q])
        measure(covariance - truth[1][:q, :q])
    measure(means[0])
    measure(covariances[0] - np.eye(q))                            # nothing observed: the prior
    measure(m.transform(Y) - means)


@pytest.mark.equation("missing.imputation", "imputed values, error bars = mean, deviation of N(x_m | x_o), dense",
                      bound=1e-10)
@pytest.mark.parametrize("q", [1, 3])
def test_an_imputation_is_the_conditional_mean_with_its_deviation(measure, rng, q):
    X = correlated(rng)
    m, Y = PPCA(q).fit(X), holes(rng, X)
    filled, std = m.impute(Y, return_std=True)
    for x, row, deviation in zip(Y, filled, std):
        missing = np.isnan(x)
        mean, covariance = conditional(m, x)
        measure(np.r_[0, row[missing] - mean[q:]])
        measure(np.r_[0, deviation[missing] - np.sqrt(np.diag(covariance)[q:])])
        assert (row[~missing] == x[~missing]).all() and not deviation[~missing].any()
    measure(filled[0] - m.mean_)
    assert (m.impute(Y) == filled).all() and (m.impute(X) == X).all() and np.isnan(Y).any()


@pytest.mark.equation("missing.imputation", "(truth - imputed)/std has mean 0, variance 1 on what the model draws",
                      bound=5, kind="S")
def test_error_bars_are_calibrated(measure, rng):
    m = PPCA(2).fit(correlated(rng))
    x = m.sample(40_000, rng)
    filled, std = m.impute(np.where(np.arange(6) % 3 == 0, np.nan, x), return_std=True)
    measure(covariance_z_score(((x - filled) / np.where(std > 0, std, 1))[:, :1], np.zeros(1), np.eye(1)))
    measure(covariance_z_score(((x - filled) / np.where(std > 0, std, 1))[:, 3:4], np.zeros(1), np.eye(1)))


@pytest.mark.equation("missing.em", "one step = the loop over rows", bound=1e-10)
def test_a_step_is_that_of_the_loop_over_rows(measure, rng):
    X = holes(rng, correlated(rng, 1100))                          # three chunks
    data, (W, mean, noise) = Incomplete(X), start(rng, X)
    for _ in range(3):
        statistics, loglik = data.expect(W, mean, noise)
        *loop, loop_loglik = em_by_rows(X, W, mean, noise)
        W, mean, noise, _ = data.maximise(statistics)
        for a, b in zip((W, mean, noise, loglik), (*loop, loop_loglik)):
            measure((a - b) / np.abs(b).max())


@pytest.mark.equation("missing.em", "s^2 = the mean over what is observed of E[(x_d - w_d'z - mu_d)^2]", bound=1e-10)
def test_the_noise_variance_is_the_expected_squared_residual(measure, rng):
    X = holes(rng, correlated(rng))
    data, (W, mean, noise) = Incomplete(X), start(rng, X)
    old = PPCA(2)
    old.W_, old.mean_, old.noise_variance_ = W, mean, noise
    z, covariance = old.posterior(X)
    W, mean, noise, moment = data.maximise(data.expect(W, mean, noise)[0])
    expected = np.square(X - z @ W.T - mean) + np.einsum("di,nij,dj->nd", W, covariance, W)
    measure(noise / np.nanmean(expected + 0 * X) - 1)
    measure(moment - (z.T @ z + covariance.sum(axis=0)) / len(X))


@pytest.mark.equation("missing.em", "an empty mask reproduces complete EM", bound=1e-10)
def test_without_holes_every_iterate_is_that_of_complete_em(measure, rng):
    X = correlated(rng)
    both = Complete(X), Incomplete(X)
    ours = theirs = start(rng, X)
    for _ in range(20):
        (s, a), (t, b) = both[0].expect(*ours), both[1].expect(*theirs)
        measure(a / b - 1)
        for u, v in zip(s := both[0].maximise(s), t := both[1].maximise(t)):
            measure((u - v) / np.abs(u).max())
        ours, theirs = s[:3], t[:3]


@pytest.mark.equation("em.monotone", "PPCA of incomplete rows: relative fall of the observed likelihood", bound=1e-10)
@pytest.mark.parametrize("q", [1, 3])
@pytest.mark.parametrize("share", [0.1, 0.6])
@pytest.mark.parametrize("expand", [True, False])
def test_em_never_decreases_the_likelihood_of_what_is_observed(measure, rng, q, share, expand):
    X = holes(rng, correlated(rng), share)
    m = PPCA(q, method="em", rng=rng, tol=1e-6, max_iter=5000, expand=expand).fit(X)
    trace = np.array(m.loglik_trace_)
    measure(max(0, -(np.diff(trace) / np.abs(trace[1:])).min()))
    assert len(trace) > 10 and trace[-1] > trace[0] + 0.1
    np.testing.assert_allclose(trace[-1], m.score(X), rtol=1e-8)


@pytest.mark.equation("missing.em", "at the fixed point the gradient of the observed likelihood is 0", bound=1e-5,
                      kind="O")
def test_em_ends_where_the_gradient_is_zero(measure, rng):
    X = holes(rng, clear(rng, 40, 5))
    m = PPCA(2, method="em", rng=rng, tol=1e-14, max_iter=20_000).fit(X)
    seen = [~np.isnan(x) for x in X]

    def f(W, mean, noise):
        C, total = W @ W.T + noise * np.eye(5), 0.0
        for x, o in zip(X[1:], seen[1:]):
            i = np.flatnonzero(o)
            S, r = C[i[:, None], i], x[i] - mean[i]
            total = total - 0.5 * (ops.slogdet(S)[1] + ops.sum(r * ops.solve(S, r)))
        return total / len(X)
    for g in grad(f, (0, 1, 2))(m.W_, m.mean_, np.array(m.noise_variance_)):
        measure(g)


def test_what_a_low_rank_says_of_a_hole_beats_the_column_mean(rng):
    X = rng.standard_normal((300, 2)) @ rng.standard_normal((2, 10)) + 0.1 * rng.standard_normal((300, 10))
    Y = holes(rng, X)
    missing = np.isnan(Y[2:])
    rmse = lambda filled: np.sqrt(np.mean(np.square(filled[2:] - X[2:])[missing]))
    m = PPCA(2, method="em", rng=rng).fit(Y)
    assert rmse(m.impute(Y)) < 0.2 * rmse(np.broadcast_to(np.nanmean(Y, axis=0), Y.shape))


def test_memory_is_linear_in_the_data(rng):
    X = np.where(rng.random((20_000, 40)) < 0.2, np.nan, rng.standard_normal((20_000, 40)))
    m = PPCA(20, method="em", rng=rng, tol=10)                     # X: 6.4 MB; N x q x q: 64 MB; N x D x q: 128 MB
    tracemalloc.start()
    m.fit(X).score_samples(X), m.impute(X), m.transform(X)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 40e6


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_incomplete_data_keep_their_dtype_and_are_left_alone(rng, dtype):
    X = holes(rng, correlated(rng)).astype(dtype)
    before = X.copy()
    m = PPCA(2, method="em", rng=rng).fit(X)
    for y in (m.W_, m.mean_, m.components_, m.score_samples(X), *m.posterior(X), *m.impute(X, return_std=True)):
        assert y.dtype == dtype and np.isfinite(y).all()
    np.testing.assert_array_equal(X, before)
    np.testing.assert_allclose(m.components_ @ m.components_.T, np.eye(2), atol=1e-5)


def test_bad_input_is_refused(rng):
    X = holes(rng, correlated(rng))
    with pytest.raises(ValueError, match="nan, first in row 0, column 0; values may be missing for PPCA with method="):
        PPCA(2).fit(X)
    X[:, 3] = np.nan
    with pytest.raises(ValueError, match="column 3 of X is missing in every row"):
        PPCA(2, method="em", rng=rng).fit(X)
    X[1, 3] = np.inf
    with pytest.raises(ValueError, match="inf, first in row 1, column 3"):
        PPCA(2, method="em", rng=rng).fit(X)
    with pytest.raises(ValueError, match="rows of X are all equal"):
        PPCA(2, method="em", rng=rng).fit(holes(rng, np.full((9, 4), 1.0)))
    plane = holes(rng, rng.standard_normal((60, 1)) @ rng.standard_normal((1, 5)), 0.1)[2:]
    with pytest.raises(ValueError, match="X lies in 2 dimensions.*grows without bound"):
        PPCA(2, method="em", rng=rng).fit(plane)
