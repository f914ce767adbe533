"""Factor analysis: density and posterior against dense Gaussians, each step of EM against the long way round."""
import tracemalloc
import warnings

import numpy as np
import pytest
from scipy import stats

from minivae.linear.factor_analysis import FactorAnalysis, loadings


def data(rng, n=200, d=6, q=2):
    """x with q factors, in unequal units."""
    noise = rng.uniform(0.2, 1, d) * rng.standard_normal((n, d))
    return (rng.standard_normal((n, q)) @ rng.standard_normal((q, d)) + noise) * rng.uniform(0.1, 10, d) + 3


def awkward(rng):
    """Data on which variances vanish."""
    x = data(rng)
    return {"constant feature": np.hstack([x, np.full((200, 1), 0.1)]), "copied feature": np.hstack([x, x[:, :2]]),
            "rank 2": data(rng)[:, :2] @ rng.standard_normal((2, 6)), "N < D": data(rng, n=8, d=20),
            "N = D": data(rng, n=7, d=7), "two rows": data(rng, n=2, d=5, q=1), "equal rows": np.ones((10, 4)),
            "a tiny feature": x * [1e-9, 1, 1, 1, 1, 1e9]}


def covariance(model):
    return model.W_ @ model.W_.T + np.diag(model.noise_variance_)


def fit(x, q, max_iter=5, **options):
    """Without the warning that the iterations were few."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return FactorAnalysis(q, max_iter=max_iter, **options).fit(x)


def S_of(x):
    return np.cov(x.T, ddof=0)


@pytest.mark.equation("fa.density", "ln p(x) = ln N(x; mu, W W' + Psi), dense", bound=1e-10)
@pytest.mark.parametrize("n", [200, 5])
def test_score_is_the_dense_multivariate_normals(measure, rng, n):
    x = data(rng, n=n)
    model = fit(x, 2)
    truth = stats.multivariate_normal(model.mean_, covariance(model)).logpdf(x)
    measure(model.score_samples(x) / truth - 1)
    measure(model.loglik_trace_[-1] / truth.mean() - 1)
    assert model.score(x) == model.score_samples(x).mean()


@pytest.mark.equation("fa.density", "samples of x: mean mu, covariance W W' + Psi", bound=5, kind="S")
def test_samples_have_the_mean_and_the_covariance(measure, rng):
    model = FactorAnalysis(2).fit(data(rng))
    x, truth = model.sample(40_000, rng), covariance(model)
    variance = np.diag(truth)
    measure((x.mean(axis=0) - model.mean_) / np.sqrt(variance / len(x)))
    measure((S_of(x) - truth) / np.sqrt((np.outer(variance, variance) + truth ** 2) / len(x)))


@pytest.mark.equation("fa.posterior", "p(z|x) by conditioning the joint Gaussian of z and x", bound=1e-10)
def test_the_posterior_is_the_joint_gaussian_conditioned(measure, rng):
    x = data(rng)
    model = FactorAnalysis(2).fit(x)
    mean, cov = model.posterior(x)
    gain = model.W_.T @ np.linalg.inv(covariance(model))           # Cov(z, x) Cov(x)^-1
    measure(mean - (x - model.mean_) @ gain.T)
    measure(cov - (np.eye(2) - gain @ model.W_))
    np.testing.assert_array_equal(model.transform(x), mean)
    np.testing.assert_allclose(model.inverse_transform(mean), mean @ model.W_.T + model.mean_, rtol=1e-12)


@pytest.mark.equation("fa.residual", "<(x - mu - Wz)(x - mu - Wz)'> = S - WW', <(x - mu)z'> = W, <zz'> = I",
                      bound=1e-10)
def test_the_expected_residual_after_any_iteration_needs_no_posterior(measure, rng):
    x = data(rng)
    model = fit(x, 2, max_iter=3)
    d, (z, G), W, S = x - model.mean_, model.posterior(x), model.W_, S_of(x)
    measure((d.T @ z / len(x) - W) / np.abs(W).max())
    measure(z.T @ z / len(x) + G - np.eye(2))
    residual = (d - z @ W.T).T @ (d - z @ W.T) / len(x) + W @ G @ W.T
    measure((residual - (S - W @ W.T)) / np.abs(S).max())
    measure(model._expect(S)[0] / np.diag(residual) - 1)


@pytest.mark.equation("fa.noise", "Rubin and Thayer's step: W stays, Psi <- diag(S - W b S) = diag(S - W W')",
                      bound=1e-10)
def test_plain_em_takes_the_noise_where_this_takes_it_and_leaves_the_loadings(measure, rng):
    x = data(rng)
    before, after = (fit(x, 2, max_iter=i) for i in (4, 5))
    W, S = before.W_, S_of(x)
    b = W.T @ np.linalg.inv(covariance(before))
    new_W = S @ b.T @ np.linalg.inv(np.eye(2) - b @ W + b @ S @ b.T)
    measure((new_W - W) / np.abs(W).max())
    measure(np.diag(S - new_W @ b @ S) / after.noise_variance_ - 1)


@pytest.mark.equation("fa.loadings", "d ln p / dW = (C^-1 S C^-1 - C^-1) W = 0, C = W W' + Psi", bound=1e-10)
def test_loadings_are_a_stationary_point_and_the_highest_of_them(measure, rng):
    S = S_of(data(rng))
    psi = rng.uniform(0.05, 0.2, 6) * np.diag(S)
    W = loadings(S, psi, 2)
    inverse = np.linalg.inv(W @ W.T + np.diag(psi))
    measure((inverse @ S @ inverse - inverse) @ W / np.abs(inverse @ W).max())

    def loglik(W):
        C = W @ W.T + np.diag(psi)
        return -0.5 * (np.linalg.slogdet(C)[1] + np.trace(np.linalg.solve(C, S)))
    others = loadings(S, psi, 6)
    for i, j in [(0, 2), (1, 2), (2, 3)]:
        assert loglik(others[:, [i, j]]) < loglik(W) == pytest.approx(loglik(others[:, :2]))
    assert all(loglik(W * (1 + 0.1 * rng.standard_normal(W.shape))) < loglik(W) for _ in range(50))


@pytest.mark.equation("fa.loadings", "W from the root A (N, D) = W from the covariance A'A (D, D)", bound=1e-10)
def test_loadings_of_few_examples_come_from_their_inner_products(measure, rng):
    A, psi = rng.standard_normal((7, 12)), rng.uniform(0.2, 4, 12)
    for q in (2, 7):                                               # 7: some are below the noise, and vanish
        thin, full = loadings(A, psi, q), loadings(A.T @ A, psi, q)
        measure(thin @ thin.T - full @ full.T)
    assert np.count_nonzero(np.abs(thin).max(axis=0) > 1e-12) < 7


@pytest.mark.equation("fa.units", "x -> Bx: W -> BW, Psi -> B Psi B, ln p -> ln p - sum ln b", bound=1e-10)
@pytest.mark.parametrize("n", [200, 5])
def test_the_units_of_the_features_do_not_matter(measure, rng, n):
    x, b = data(rng, n=n), 10 ** rng.uniform(-3, 3, 6)
    one, other = (fit(v, 2, max_iter=30, tol=-np.inf) for v in (x, x * b))
    measure((other.score_samples(x * b) + np.log(b).sum()) / one.score_samples(x) - 1)
    measure(other.noise_variance_ / (b ** 2 * one.noise_variance_) - 1)
    measure((other.W_ @ other.W_.T / np.outer(b, b) - one.W_ @ one.W_.T) / np.abs(one.W_ @ one.W_.T).max())


@pytest.mark.equation("fa.ppca", "Psi = s^2 I: the fixed point and the density of PPCA by eigendecomposition",
                      bound=1e-10)
def test_with_equal_noise_it_is_ppca(measure, rng):
    x, q = rng.standard_normal((300, 6)) @ rng.standard_normal((6, 6)), 2
    values, U = np.linalg.eigh(S := S_of(x))
    noise = values[:-q].mean()                                     # PPCA's, in closed form
    W = U[:, -q:] * np.sqrt(values[-q:] - noise)
    model = FactorAnalysis(q).fit(x)
    model.W_, model.noise_variance_ = loadings(S, np.full(6, 1.0), q), np.full(6, 1.0)
    for _ in range(100):
        model.noise_variance_ = np.full(6, model._expect(S)[0].mean())
        model.W_ = loadings(S, model.noise_variance_, q)
    measure(model.noise_variance_ / noise - 1)
    measure((model.W_ @ model.W_.T - W @ W.T) / values[-1])
    best = -0.5 * (6 * np.log(2 * np.pi) + np.log(values[-q:]).sum() + (6 - q) * np.log(noise) + 6)
    measure(model.score(x) / best - 1)
    measure(model._expect(S)[1] / best - 1)


@pytest.mark.equation("em.monotone", "factor analysis: ln p(X) never falls, relative", bound=1e-10, kind="O")
def test_em_never_lowers_the_likelihood(measure, rng):
    cases = {"plain": data(rng), **awkward(rng)}
    del cases["copied feature"]                                    # below: W W' is 10^6 times Psi, which costs digits
    for x in cases.values():
        for q in {1, min(2, *x.shape), min(x.shape)}:
            for start in (None, rng):
                trace = np.array(fit(x, q, max_iter=100, rng=start, tol=-np.inf).loglik_trace_)
                assert np.isfinite(trace).all()
                measure(np.maximum(-np.diff(trace), 0) / np.abs(trace[1:]))


@pytest.mark.oracle
@pytest.mark.equation("fa.loadings", "mean ln p(x) at the maximum = scikit-learn's from the same start, relative",
                      bound=1e-4, kind="O")
@pytest.mark.parametrize("name, q", [("iris", 1), ("iris", 2), ("wine", 3), ("breast_cancer", 3), ("digits", 10)])
def test_the_likelihood_is_scikit_learns(measure, oracle, name, q):
    x = getattr(oracle("sklearn.datasets"), f"load_{name}")().data
    variance = x.var(axis=0)                                       # of a constant digit pixel: exactly 0
    ridge = np.where(variance > 0, 0.01 * variance, 1)
    start = np.maximum((1 - q / (2 * x.shape[1])) / np.diag(np.linalg.inv(S_of(x) + np.diag(ridge))), 1e-12)
    peer = oracle("sklearn.decomposition").FactorAnalysis(q, svd_method="lapack", noise_variance_init=start,
                                                          max_iter=2000, tol=1e-6 * len(x)).fit(x)
    model = FactorAnalysis(q).fit(x)
    measure(model.score(x) / peer.score(x) - 1)
    measure(np.mean(peer.score_samples(x)) / model.score(x) - 1)


def test_it_finds_the_factors_and_the_noise_that_made_the_data(rng):
    W, noise = rng.standard_normal((8, 2)), rng.uniform(0.1, 2, 8)
    x = rng.standard_normal((20_000, 2)) @ W.T + np.sqrt(noise) * rng.standard_normal((20_000, 8))
    model = FactorAnalysis(2).fit(x)
    np.testing.assert_allclose(model.noise_variance_, noise, rtol=0.1)
    np.testing.assert_allclose(model.W_ @ model.W_.T, W @ W.T, atol=0.15)
    np.testing.assert_array_equal(model.components_, model.W_.T)


def test_vanishing_variances_stop_at_their_floors(rng):
    for name, x in awkward(rng).items():
        for q in {1, min(x.shape)}:
            model = fit(x, q, max_iter=300)
            assert all(np.isfinite(v).all() for v in (model.W_, model.noise_variance_, *model.posterior(x),
                                                      model.score_samples(x), model.sample(3, rng))), name
            assert (model.noise_variance_ >= 0.999e-6 * x.var(axis=0)).all()
    x = awkward(rng)
    constant = fit(x["constant feature"], 2, max_iter=300)
    assert constant.noise_variance_[-1] == 1e-12 and not constant.W_[-1].any() and constant.mean_[-1] == 0.1
    alone = fit(x["constant feature"][:, :-1], 2, max_iter=300)
    np.testing.assert_allclose(constant.noise_variance_[:-1], alone.noise_variance_, rtol=1e-3)
    copied = fit(x["copied feature"], 2, max_iter=300, tol=-np.inf)
    np.testing.assert_allclose((copied.noise_variance_ / x["copied feature"].var(axis=0))[[0, 1, 6, 7]], 1e-6)
    assert np.diff(copied.loglik_trace_).min() > -1e-8


def test_the_start_is_joereskogs_in_any_units(rng):
    starts = []

    class Spy(FactorAnalysis):
        def _maximise(self, S, noise):
            starts.append(noise)
            super()._maximise(S, noise)
    x = data(rng)
    Spy(2).fit(x)
    S = S_of(x)
    np.testing.assert_allclose(starts[0], (1 - 2 / 12) / np.diag(np.linalg.inv(S + 0.01 * np.diag(np.diag(S)))))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        FactorAnalysis(2).fit(x * 10.0 ** np.array([-8, 8, -5, 5, 0, 0]))
        FactorAnalysis(2).fit(x * 1e-120)


def test_another_start_is_the_generators_and_a_fit_repeats(rng):
    x = data(rng)
    np.testing.assert_array_equal(FactorAnalysis(2).fit(x).W_, FactorAnalysis(2).fit(x).W_)
    one, same, other = (FactorAnalysis(2, rng=np.random.default_rng(s)).fit(x) for s in (0, 0, 1))
    np.testing.assert_array_equal(one.W_, same.W_)
    assert one.loglik_trace_[0] != other.loglik_trace_[0]
    assert abs(one.loglik_trace_[-1] - other.loglik_trace_[-1]) < 1e-3


def test_fewer_examples_than_features_never_make_a_matrix_of_features(rng):
    x = data(rng, n=20, d=3000)
    tracemalloc.start()
    model = fit(x, 2)
    model.score_samples(x), model.posterior(x), model.sample(5, rng)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 0.1 * 8 * 3000 ** 2


def test_it_says_when_it_has_not_converged(rng):
    with pytest.warns(RuntimeWarning, match="has not converged in max_iter=1"):
        model = FactorAnalysis(2, max_iter=1).fit(data(rng))
    assert model.n_iter_ == 1 and len(model.loglik_trace_) == 2


def test_arrays_keep_their_dtype_and_are_not_written_to(rng):
    x = data(rng).astype(np.float32)
    copy = x.copy()
    model = FactorAnalysis(2).fit(x)
    for y in (model.mean_, model.sample(3, rng), model.transform(x), model.score_samples(x),
              model.inverse_transform(model.transform(x))):
        assert y.dtype == np.float32
    np.testing.assert_array_equal(x, copy)
    np.testing.assert_allclose(model.score_samples(x), model.score_samples(x.astype(float)), rtol=1e-5)


def test_bad_input_is_refused(rng):
    x = data(rng)
    for q in (7, 0, 1.5, True):
        with pytest.raises(ValueError, match="n_components must be"):
            FactorAnalysis(q).fit(x)
    with pytest.raises(ValueError, match="n_components must be at most 3"):
        FactorAnalysis(4).fit(x[:3])
    with pytest.raises(ValueError, match="one row"):
        FactorAnalysis(1).fit(x[:1])
    for name, bad in [("tol", "x"), ("tol", np.nan), ("max_iter", -1), ("max_iter", 2.5), ("rng", 0)]:
        with pytest.raises(ValueError, match=f"{name} must be a"):
            FactorAnalysis(2, **{name: bad})
    with pytest.raises(ValueError, match="rng must be a numpy.random.Generator"):
        FactorAnalysis(1).fit(x).sample(3, 0)
    for bad in (np.nan, np.inf):
        broken = x.copy()
        broken[3, 1] = bad
        with pytest.raises(ValueError, match="row 3, column 1"):
            FactorAnalysis(1).fit(broken)
    for start in (None, rng):
        with pytest.raises(ValueError, match="feature 2 of X varies so little that its variance underflows"):
            FactorAnalysis(1, start).fit(x * np.where(np.arange(6) == 2, 1e-200, 1))
    with pytest.raises(ValueError, match="Z holds nan, first in row 0, column 0$"):
        FactorAnalysis(1).fit(x).inverse_transform([[np.nan]])
    for call in ("transform", "score_samples", "score", "posterior"):
        with pytest.raises(ValueError, match="call fit first"):
            getattr(FactorAnalysis(1), call)(x)
        with pytest.raises(ValueError, match="X has 5 features"):
            getattr(FactorAnalysis(1).fit(x), call)(x[:, :5])
    with pytest.raises(ValueError, match="call fit first"):
        FactorAnalysis(1).sample(1, rng)
    with pytest.raises(ValueError, match="Z has 3 columns"):
        FactorAnalysis(1).fit(x).inverse_transform(np.zeros((1, 3)))
