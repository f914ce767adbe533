"""The mixture of PPCAs: against dense Gaussians, against the paper's step done the long way, and against one PPCA."""
import tracemalloc
import warnings

import numpy as np
import pytest
from scipy import stats
from scipy.special import logsumexp

from minivae.linear.mixture_ppca import MixturePPCA


def data(rng, n=300, d=5, K=3, q=2):
    """K noisy planes."""
    return np.concatenate([rng.standard_normal((n // K, q)) @ (2 * rng.standard_normal((q, d)))
                           + 0.3 * rng.standard_normal((n // K, d)) + 2 * rng.standard_normal(d) for _ in range(K)])


def fit(x, K, q, seed=0, **options):
    """Without the warning that the iterations were few."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return MixturePPCA(K, q, np.random.default_rng(seed), **options).fit(x)


def dense(model):
    return model.W_ @ model.W_.swapaxes(1, 2) + model.noise_variance_[:, None, None] * np.eye(model.W_.shape[1])


def log_joint(model, x):
    return np.stack([np.log(w) + stats.multivariate_normal(m, c).logpdf(x)
                     for w, m, c in zip(model.weights_, model.means_, dense(model))], axis=1)


@pytest.mark.equation("mppca.density", "ln p(x) = ln sum_k pi_k N(x; mu_k, W_k W_k' + s_k^2 I), dense; r by Bayes",
                      bound=1e-10)
@pytest.mark.parametrize("q", [1, 2, 5])
def test_scores_and_responsibilities_are_those_of_dense_normals(measure, rng, q):
    x = data(rng)
    model = fit(x, 3, q, max_iter=5)
    joint = log_joint(model, x)
    truth = logsumexp(joint, axis=1)
    measure(model.score_samples(x) / truth - 1)
    measure(model.loglik_trace_[-1] / truth.mean() - 1)
    measure(model.predict_proba(x) - np.exp(joint - truth[:, None]))
    np.testing.assert_array_equal(model.predict(x), joint.argmax(axis=1))


@pytest.mark.equation("mppca.density", "int p(x) dx = 1", bound=1e-8, kind="Q")
def test_the_density_integrates_to_one(measure, rng):
    axis = np.linspace(-30, 30, 1201)
    nodes = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    for d, nodes in [(1, axis[:, None]), (2, nodes)]:
        model = fit(data(rng, d=d, q=1), 3, 1, max_iter=5)
        measure(np.exp(model.score_samples(nodes)).sum() * 0.05 ** d - 1)


@pytest.mark.equation("mppca.density", "samples: mean sum pi mu, covariance sum pi (C_k + mu mu') - mean mean'",
                      bound=5, kind="S")
def test_samples_have_the_mean_and_the_covariance(measure, rng):
    model = fit(data(rng), 3, 2, max_iter=20)
    x, mean = model.sample(40_000, rng), model.mean_
    truth = np.einsum("k,kde->de", model.weights_, dense(model) + np.einsum("kd,ke->kde", model.means_, model.means_)
                      ) - np.outer(mean, mean)
    d = x - mean
    squares = np.einsum("nd,ne->nde", d, d)
    measure(d.mean(axis=0) / (d.std(axis=0) / 200))
    measure((squares.mean(axis=0) - truth) / (squares.std(axis=0) / 200))


@pytest.mark.equation("mppca.posterior", "p(z|x,k) by conditioning the joint Gaussian of z and x", bound=1e-10)
def test_the_posterior_is_the_joint_gaussian_conditioned(measure, rng):
    x = data(rng)
    model = fit(x, 3, 2, max_iter=5)
    r, z, cov = model.posterior(x)
    truth = 0
    for k, (mu, W, C) in enumerate(zip(model.means_, model.W_, dense(model))):
        gain = W.T @ np.linalg.inv(C)
        measure(z[:, k] - (x - mu) @ gain.T)
        measure(cov[k] - (np.eye(2) - gain @ W))
        truth = truth + r[:, k:k + 1] * (z[:, k] @ W.T + mu)
    np.testing.assert_allclose(model.reconstruct(x), truth, atol=1e-10)
    np.testing.assert_array_equal(r, model.predict_proba(x))


@pytest.mark.equation("mppca.loadings", "W <- S W (s^2 I + M^-1 W'SW)^-1, s^2 <- tr(S - S W M^-1 W')/D, with dense S",
                      bound=1e-10)
def test_the_m_step_is_the_papers_with_a_dense_covariance(measure, rng):
    x, r = data(rng), rng.dirichlet(np.ones(3), 300)
    model = fit(x, 3, 2, max_iter=2)
    before = [*zip(model.W_, model.noise_variance_)]
    model._maximise(x, r)
    measure(model.weights_ - r.mean(axis=0))
    for k, (W, noise) in enumerate(before):
        S, M = np.cov(x.T, ddof=0, aweights=r[:, k]), W.T @ W + noise * np.eye(2)
        new = S @ W @ np.linalg.inv(noise * np.eye(2) + np.linalg.inv(M) @ W.T @ S @ W)
        measure(model.means_[k] - np.average(x, axis=0, weights=r[:, k]))
        measure((model.W_ @ model.W_.swapaxes(1, 2))[k] - new @ new.T)
        measure(model.noise_variance_[k] - np.trace(S - S @ W @ np.linalg.inv(M) @ new.T) / 5)
        inner = model.W_[k].T @ model.W_[k]
        measure(inner - np.diag(np.diag(inner)))                   # principal axes, the longest first
        assert inner[0, 0] > inner[1, 1]


@pytest.mark.equation("mppca.one", "K = 1: the covariance and the likelihood of PPCA by eigendecomposition", bound=1e-8,
                      kind="O")
@pytest.mark.parametrize("q", [1, 2])
def test_one_component_is_ppca(measure, rng, q):
    x = data(rng)
    values, U = np.linalg.eigh(np.cov(x.T, ddof=0))
    noise = values[:-q].mean()
    model = fit(x, 1, q, tol=-np.inf, max_iter=300)
    best = -0.5 * (5 * np.log(2 * np.pi) + np.log(values[-q:]).sum() + (5 - q) * np.log(noise) + 5)
    measure(model.score(x) / best - 1)
    measure(model.noise_variance_ / noise - 1)
    measure(model.means_[0] - x.mean(axis=0))
    measure(dense(model)[0] - (U[:, -q:] * (values[-q:] - noise) @ U[:, -q:].T + noise * np.eye(5)))
    assert (model.predict_proba(x) == 1).all()


@pytest.mark.equation("em.monotone", "mixture of PPCAs: ln p(X) never falls, relative", bound=1e-10, kind="O")
def test_em_never_lowers_the_likelihood(measure, rng):
    x = data(rng)
    flat, line = x * [1, 1, 1, 1, 0], x[:, :2] @ np.ones((2, 5))
    for X, q, floor in [(x, 2, 1e-6), (x, 5, 1e-6), (flat, 2, 1e-3), (line, 2, 1e-3), (x[:9], 2, 1e-3),
                        (np.repeat(x[:6], 4, axis=0), 2, 1e-3)]:
        for K in (1, 3):
            trace = np.array(fit(X, K, q, floor=floor, max_iter=80, tol=-np.inf).loglik_trace_)
            assert np.isfinite(trace).all() and len(trace) == 81
            measure(np.maximum(-np.diff(trace), 0) / np.abs(trace[1:]))


def test_it_tells_two_planes_apart_that_cross(rng):
    z, labels = rng.standard_normal((600, 1)), np.repeat([0, 1], 300)
    x = np.where(labels[:, None] == 0, z * [[3, 0, 0]], z * [[0, 3, 0]]) + 0.1 * rng.standard_normal((600, 3))
    model = fit(x, 2, 1, n_init=5)
    wrong = np.mean(model.predict(x) != labels)
    assert min(wrong, 1 - wrong) < 0.06
    assert np.abs(model.W_[:, :, 0] / np.linalg.norm(model.W_[:, :, 0], axis=1, keepdims=True)).max(axis=1).min() > 0.99
    assert model.score(x) > fit(x, 1, 2).score(x) + 0.5
    assert np.mean((x - model.reconstruct(x)) ** 2) < 0.1 ** 2


def test_a_component_that_collapses_stops_at_the_floor(rng):
    x = data(rng)
    cases = {"a point many times": np.concatenate([x, np.full((50, 5), 20.0)]), "constant feature": x * [1, 1, 0, 1, 1],
             "rank 1": x[:, :1] @ np.ones((1, 5)), "three rows": x[:3], "equal rows": np.ones((5, 5)),
             "huge offset": x + 1e6}
    for name, X in cases.items():
        for q in (1, min(X.shape)):
            model = fit(X, min(3, len(np.unique(X, axis=0))), q, floor=1e-3, max_iter=50)
            for v in (*model.posterior(X), model.score_samples(X), model.sample(4, rng), model.reconstruct(X)):
                assert np.isfinite(v).all(), name
            assert (model.noise_variance_ >= 0.99e-3 * (X.var(axis=0).mean() if np.ptp(X, axis=0).any() else 1)).all()
    point = fit(cases["a point many times"], 3, 2, floor=1e-3, max_iter=50)
    k = point.predict(np.full((1, 5), 20.0))[0]
    np.testing.assert_allclose(dense(point)[k], 1e-3 * cases["a point many times"].var(axis=0).mean() * np.eye(5),
                               atol=1e-9)
    offset = fit(cases["huge offset"], 3, 2, max_iter=50)
    assert offset.score(x + 1e6) == pytest.approx(fit(x, 3, 2, max_iter=50).score(x), rel=1e-6)


@pytest.mark.parametrize("units", [1, 1e-4, 1e5])
def test_small_noise_is_found_in_any_units(rng, units):
    plane = rng.standard_normal((300, 2)) @ rng.standard_normal((2, 6))
    x = units * (plane + 0.01 * rng.standard_normal((300, 6)))
    assert fit(x, 1, 2, tol=1e-6).noise_variance_ == pytest.approx((0.01 * units) ** 2, rel=0.1)


def test_a_likelihood_that_falls_by_rounding_is_refused(rng):
    x = np.concatenate([rng.standard_normal((100, 2)) @ rng.standard_normal((2, 6)) + rng.standard_normal(6)
                        for _ in range(2)])
    with pytest.raises(ValueError, match="the likelihood fell by .* nats: .* rounds it away"):
        fit(x, 2, 2, floor=1e-18)
    trace = fit(x, 2, 2).loglik_trace_
    assert np.diff(trace).min() > -1e-6


def test_a_component_that_explains_nothing_does_no_harm(rng):
    x = data(rng)
    model = fit(x, 2, 2, max_iter=2)
    model._maximise(x, np.tile([1.0, 0.0], (300, 1)))
    r, loglik = model._expect(x)
    assert np.isfinite(loglik) and (r == [1, 0]).all()
    assert all(np.isfinite(v).all() for v in (model.W_, model.means_, model.reconstruct(x), model.sample(9, rng)))


def test_it_never_makes_a_matrix_of_features(rng):
    x = data(rng, n=60, d=2000)
    tracemalloc.start()
    model = fit(x, 3, 2, max_iter=2)
    model.score_samples(x), model.posterior(x), model.sample(5, rng), model.reconstruct(x)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 0.3 * 8 * 2000 ** 2


def test_the_best_of_several_climbs_is_kept_and_a_fit_repeats(rng):
    x = data(rng, K=6)
    rng = np.random.default_rng(3)
    singles = [MixturePPCA(4, 1, rng).fit(x).loglik_trace_[-1] for _ in range(4)]
    best = fit(x, 4, 1, seed=3, n_init=4)
    assert best.loglik_trace_[-1] == max(singles) > min(singles) + 1e-3
    assert best.score(x) == pytest.approx(max(singles), rel=1e-12)
    np.testing.assert_array_equal(best.W_, fit(x, 4, 1, seed=3, n_init=4).W_)


def test_arrays_keep_their_dtype_and_are_not_written_to(rng):
    x = data(rng).astype(np.float32)
    copy = x.copy()
    model = fit(x, 3, 2)
    for y in (model.mean_, model.sample(3, rng), model.score_samples(x), model.transform(x), model.reconstruct(x),
              *model.posterior(x)):
        assert y.dtype == np.float32
    np.testing.assert_array_equal(x, copy)


def test_bad_input_is_refused(rng):
    x = data(rng)
    with pytest.raises(ValueError, match="n_components must be at most 5"):
        MixturePPCA(2, 6, rng).fit(x)
    with pytest.raises(ValueError, match="n_components must be at most 3"):
        MixturePPCA(2, 4, rng).fit(x[:3])
    with pytest.raises(ValueError, match="one row"):
        MixturePPCA(1, 1, rng).fit(x[:1])
    with pytest.raises(ValueError, match="n_mixture must be at most 4, the number of examples, not 5"):
        MixturePPCA(5, 1, rng).fit(x[:4])
    with pytest.raises(ValueError, match="only 2 different rows: too few for 3"):
        MixturePPCA(3, 1, rng).fit(np.repeat(x[:2], 5, axis=0))
    with pytest.raises(ValueError, match="rng must be a numpy.random.Generator"):
        MixturePPCA(2, 1).fit(x)
    with pytest.raises(ValueError, match="rng must be a numpy.random.Generator"):
        fit(x, 2, 1).sample(3, 0)
    for name, bad in [("tol", "x"), ("tol", np.nan), ("max_iter", -1), ("n_init", 0), ("floor", 0), ("floor", "x")]:
        with pytest.raises(ValueError, match=f"{name} must be a"):
            MixturePPCA(2, 1, rng, **{name: bad})
    for bad in (np.nan, np.inf):
        with pytest.raises(ValueError, match=f"X holds {bad}"):
            MixturePPCA(2, 1, rng).fit(np.where(x == x[3, 1], bad, x))
    for call in ("predict", "transform", "score_samples", "score", "posterior", "reconstruct"):
        with pytest.raises(ValueError, match="call fit first"):
            getattr(MixturePPCA(2, 1), call)(x)
        with pytest.raises(ValueError, match="X has 2 features"):
            getattr(fit(x, 2, 1), call)(x[:, :2])
