"""Gaussian mixtures: densities that integrate to 1, Bayes' rule, and each M step against weighted moments."""
import warnings

import numpy as np
import pytest
from scipy import stats
from scipy.special import logsumexp

from minivae.linear.gaussian_mixture import COVARIANCES, GaussianMixture, nearest_seed, raised

kinds = pytest.mark.parametrize("covariance", COVARIANCES)


def data(rng, n=300, d=3, K=3):
    """K groups, not far apart."""
    shapes = rng.standard_normal((K, d, d))
    return np.concatenate([rng.standard_normal((n // K, d)) @ a + 2 * rng.standard_normal(d) for a in shapes])


def fit(x, K, covariance="full", seed=0, start=None, **options):
    """Without the warning that the iterations were few."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return GaussianMixture(K, covariance, np.random.default_rng(seed), **options).fit(x, start=start)


def begun(x, r, covariance="full", **options):
    """As the M step from responsibilities r leaves it."""
    model = GaussianMixture(r.shape[1], covariance, **options)
    model._begin(x, r)
    return model


def thirds(x):
    """Responsibilities that are mostly those of the lower, the middle and the upper third of the first feature."""
    return 0.9 * np.eye(3)[np.argsort(np.argsort(x[:, 0])) * 3 // len(x)] + 0.1 / 3


def dense(model):
    """The covariances, (K, D, D), whatever they are kept as."""
    K, D = model.means_.shape
    expand = {"full": lambda c: c, "tied": lambda c: np.tile(c, (K, 1, 1)),
              "diagonal": lambda c: c[:, None] * np.eye(D), "spherical": lambda c: c[:, None, None] * np.eye(D)}
    return expand[model.covariance](model.covariances_)


def log_joint(model, x):
    return np.stack([np.log(w) + stats.multivariate_normal(m, c).logpdf(x)
                     for w, m, c in zip(model.weights_, model.means_, dense(model))], axis=1)


@pytest.mark.equation("gmm.density", "ln p(x) = ln sum_k pi_k N(x; mu_k, Sigma_k), dense", bound=1e-10)
@kinds
def test_score_is_the_log_of_the_sum_of_normals(measure, rng, covariance):
    x = data(rng)
    model = fit(x, 3, covariance, max_iter=5)
    truth = logsumexp(log_joint(model, x), axis=1)
    measure(model.score_samples(x) / truth - 1)
    measure(model.loglik_trace_[-1] / truth.mean() - 1)
    assert model.score(x) == model.score_samples(x).mean()


@pytest.mark.equation("gmm.density", "int p(x) dx = 1", bound=1e-8, kind="Q")
@kinds
@pytest.mark.parametrize("d", [1, 2])
def test_the_density_integrates_to_one(measure, rng, covariance, d):
    model = fit(data(rng, d=d), 3, covariance, max_iter=5)
    axis = np.linspace(-25, 25, 1001)
    nodes = np.stack(np.meshgrid(*[axis] * d), axis=-1).reshape(-1, d)
    measure(np.exp(model.score_samples(nodes)).sum() * (axis[1] - axis[0]) ** d - 1)


@pytest.mark.equation("gmm.density", "samples: mean sum pi mu, covariance sum pi (Sigma + mu mu') - mean mean'",
                      bound=5, kind="S")
@kinds
def test_samples_have_the_mean_the_covariance_and_the_weights(measure, rng, covariance):
    model = fit(data(rng), 3, covariance, max_iter=5)
    x, mean = model.sample(40_000, rng), model.weights_ @ model.means_
    truth = np.einsum("k,kde->de", model.weights_, dense(model) + np.einsum("kd,ke->kde", model.means_, model.means_)
                      ) - np.outer(mean, mean)
    d = x - mean
    squares = np.einsum("nd,ne->nde", d, d)
    measure(d.mean(axis=0) / (d.std(axis=0) / 200))
    measure((squares.mean(axis=0) - truth) / (squares.std(axis=0) / 200))
    proba = model.predict_proba(x)                                 # E p(k|x) = pi_k
    measure((proba.mean(axis=0) - model.weights_) / (proba.std(axis=0) / 200))
    np.testing.assert_allclose(model.mean_, mean)


@pytest.mark.equation("gmm.responsibilities", "r_nk = pi_k N(x_n; mu_k, Sigma_k) / sum_j pi_j N(x_n; mu_j, Sigma_j)",
                      bound=1e-10)
@kinds
def test_responsibilities_are_bayes_rule(measure, rng, covariance):
    x = data(rng)
    model = fit(x, 3, covariance, max_iter=5)
    joint = np.exp(log_joint(model, x))
    r = model.predict_proba(x)
    measure(r - joint / joint.sum(axis=1, keepdims=True))
    measure(r.sum(axis=1) - 1)
    np.testing.assert_array_equal(model.transform(x), r)
    np.testing.assert_array_equal(model.predict(x), r.argmax(axis=1))
    far = model.predict_proba(1e6 * x)                             # where every density underflows
    measure(far.sum(axis=1) - 1)


@pytest.mark.equation("gmm.means", "pi_k, mu_k: the mean of r, and the r-weighted mean of x", bound=1e-10)
def test_the_m_steps_weights_and_means_are_weighted_moments(measure, rng):
    x, r = data(rng), rng.dirichlet(np.ones(3), 300)
    model = begun(x, r)
    measure(model.weights_ - r.mean(axis=0))
    measure(model.means_ - np.stack([np.average(x, axis=0, weights=r[:, k]) for k in range(3)]))


@pytest.mark.equation("gmm.covariances", "Sigma_k: the r-weighted covariance of x", bound=1e-10)
@kinds
def test_the_m_steps_covariances_are_weighted_moments(measure, rng, covariance):
    x, r = data(rng), rng.dirichlet(np.ones(3), 300)
    model = begun(x, r, covariance)
    S = np.stack([np.cov(x.T, ddof=0, aweights=r[:, k]) for k in range(3)])
    truth = {"full": S, "tied": np.einsum("k,kde->de", r.mean(axis=0), S), "diagonal": np.diagonal(S, axis1=1, axis2=2),
             "spherical": np.trace(S, axis1=1, axis2=2) / 3}[covariance]
    measure(model.covariances_ - truth)


@pytest.mark.equation("gmm.covariances", "max of -ln|C| - tr(C^-1 S), C >= diag(floor): no other is better",
                      bound=1e-10, kind="O")
def test_raised_eigenvalues_are_the_constrained_maximum(measure, rng):
    floor, U = np.full(4, 0.1), np.linalg.qr(rng.standard_normal((4, 4)))[0]
    S = U * [1e-9, 0.03, 0.5, 2] @ U.T

    def objective(C):
        return -np.linalg.slogdet(C)[1] - np.trace(np.linalg.solve(C, S))
    best = raised(S, floor)
    np.testing.assert_allclose(np.linalg.eigvalsh(best), [0.1, 0.1, 0.5, 2])
    for size in (1e-3, 1e-2, 0.1, 1):
        for _ in range(100):
            values, V = np.linalg.eigh(best + size * (lambda a: a + a.T)(rng.standard_normal((4, 4))))
            measure(max(objective(V * np.maximum(values, 0.1) @ V.T) - objective(best), 0))
    assert raised(S, floor / 1e9) is S
    np.testing.assert_array_equal(raised(np.array([0.01, 1]), floor[:2]), [0.1, 1])
    b = np.array([1e-3, 1, 10, 1e3])                               # other units, and the same maximum in them
    measure(raised(S * np.outer(b, b), floor * b ** 2) / np.outer(b, b) - best)


@pytest.mark.equation("em.monotone", "Gaussian mixture: ln p(X) never falls, relative", bound=1e-10, kind="O")
@kinds
def test_em_never_lowers_the_likelihood(measure, rng, covariance):
    x = data(rng)
    flat = x * [1, 1, 0]                                           # the floor holds throughout
    line = x[:, :1] @ rng.standard_normal((1, 3))
    for X, floor in [(x, 1e-6), (x, 0.5), (flat, 1e-3), (line, 1e-3), (np.repeat(x[:5], 4, axis=0), 1e-3)]:
        trace = np.array(fit(X, 3, covariance, floor=floor, max_iter=60, tol=-np.inf).loglik_trace_)
        assert np.isfinite(trace).all() and len(trace) == 61
        measure(np.maximum(-np.diff(trace), 0) / np.abs(trace[1:]))


@pytest.mark.oracle
@pytest.mark.equation("gmm.density", "ln p(X) after the same iterations from the same start = scikit-learn's, relative",
                      bound=1e-8, kind="O")
@kinds
@pytest.mark.parametrize("name", ["iris", "wine", "breast_cancer"])
def test_iterations_are_scikit_learns(measure, oracle, covariance, name):
    x = getattr(oracle("sklearn.datasets"), f"load_{name}")().data
    r = thirds(x)
    first = begun(x, r, covariance, floor=1e-12)
    inverse = 1 / first.covariances_ if covariance in ("diagonal", "spherical") else np.linalg.inv(first.covariances_)
    peer = oracle("sklearn.mixture").GaussianMixture(
        3, covariance_type={"diagonal": "diag"}.get(covariance, covariance), reg_covar=0, tol=0, max_iter=20,
        weights_init=first.weights_, means_init=first.means_, precisions_init=inverse)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        peer.fit(x)
    model = fit(x, 3, covariance, start=r, floor=1e-12, max_iter=20, tol=-np.inf)
    measure(model.score(x) / peer.score(x) - 1)
    measure(model.predict_proba(x) - peer.predict_proba(x))


@pytest.mark.oracle
@pytest.mark.equation("gmm.density", "ln p(X) at convergence = scikit-learn's with little reg_covar, relative",
                      bound=1e-4, kind="O")
@pytest.mark.parametrize("name", ["iris", "wine", "breast_cancer"])
def test_the_likelihood_is_scikit_learns(measure, oracle, name):
    x = getattr(oracle("sklearn.datasets"), f"load_{name}")().data
    r = thirds(x)
    first = begun(x, r, floor=1e-12)
    peer = oracle("sklearn.mixture").GaussianMixture(
        3, tol=1e-7, reg_covar=1e-9, max_iter=2000, weights_init=first.weights_, means_init=first.means_,
        precisions_init=np.linalg.inv(first.covariances_)).fit(x)
    measure(fit(x, 3, start=r, tol=1e-7, max_iter=2000, floor=1e-12).score(x) / peer.score(x) - 1)


@kinds
def test_one_component_is_the_sample_mean_and_covariance(rng, covariance):
    x = data(rng)
    model = GaussianMixture(1, covariance, rng).fit(x)
    S = np.cov(x.T, ddof=0)
    truth = {"diagonal": np.diag(np.diag(S)), "spherical": np.trace(S) / 3 * np.eye(3)}.get(covariance, S)
    np.testing.assert_allclose(dense(model)[0], truth, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(model.means_[0], x.mean(axis=0))
    assert model.n_iter_ == 1 and model.weights_ == [1]


def test_it_finds_the_groups_that_made_the_data(rng):
    centres = np.array([[0, 0], [6, 0], [0, 6]])
    labels = rng.choice(3, 600, p=[0.2, 0.3, 0.5])
    x = centres[labels] + rng.standard_normal((600, 2))
    model = fit(x, 3)
    order = [int(np.argmin(np.sum((model.means_ - c) ** 2, axis=1))) for c in centres]
    np.testing.assert_allclose(model.means_[order], centres, atol=0.25)
    np.testing.assert_allclose(model.weights_[order], [0.2, 0.3, 0.5], atol=0.05)
    assert np.mean(np.argsort(order)[model.predict(x)] == labels) > 0.98


@kinds
def test_a_component_that_collapses_stops_at_the_floor(rng, covariance):
    x = data(rng)
    cases = {"a point many times": np.concatenate([x, np.full((50, 3), 20.0)]), "constant feature": x * [1, 1, 0] + 0.1,
             "a component for each row": x[:3], "one row": x[:1], "equal rows": np.ones((5, 3)),
             "huge offset": x + 1e6, "rank 1": x[:, :1] @ np.ones((1, 3)), "fewer rows than features": x[:2]}
    for name, X in cases.items():
        model = fit(X, min(3, len(np.unique(X, axis=0))), covariance, floor=1e-3, max_iter=50)
        r, score = model.predict_proba(X), model.score_samples(X)
        assert np.isfinite(r).all() and np.isfinite(score).all() and np.isfinite(model.sample(4, rng)).all(), name
        floor = np.mean(model.floor_) if covariance == "spherical" else model.floor_
        root = np.sqrt(np.broadcast_to(floor, X.shape[1]))
        assert np.linalg.eigvalsh(dense(model) / np.outer(root, root)).min() > 0.99, name
    point = fit(cases["a point many times"], 3, covariance, floor=1e-3, max_iter=50)
    if covariance != "tied":
        k = point.predict(np.full((1, 3), 20.0))[0]
        floor = np.diag(1e-3 * cases["a point many times"].var(axis=0))
        floor = np.trace(floor) / 3 * np.eye(3) if covariance == "spherical" else floor
        np.testing.assert_allclose(dense(point)[k], floor, atol=1e-9)
        np.testing.assert_allclose(point.means_[k], 20)


@kinds
def test_the_units_of_the_data_do_not_matter(rng, covariance):
    x = rng.standard_normal((200, 2)) + np.repeat([[0, 0], [8, 0]], 100, axis=0)
    units = {"full": [1e-9, 1e4], "diagonal": [1e-9, 1e4]}.get(covariance, 1e-4)
    start = np.repeat(np.eye(2), 100, axis=0)
    one, other = (fit(v, 2, covariance, start=start) for v in (x, x * units))
    np.testing.assert_allclose(other.predict_proba(x * units), one.predict_proba(x), atol=1e-8)
    np.testing.assert_allclose(other.score(x * units) + np.log(np.broadcast_to(units, 2)).sum(), one.score(x))
    np.testing.assert_allclose(dense(other) / np.outer(np.broadcast_to(units, 2), units), dense(one), rtol=1e-6)


def test_a_component_that_explains_nothing_stays_as_it_is(rng):
    x = data(rng)
    model = fit(x, 2, max_iter=2)
    mean = model.means_[1].copy()
    model._maximise(x, np.tile([1.0, 0.0], (300, 1)))
    np.testing.assert_array_equal(model.means_[1], mean)
    r, loglik = model._expect(x)
    assert np.isfinite(loglik) and (r == [1, 0]).all() and np.isfinite(model.sample(9, rng)).all()


def test_seeds_are_far_apart(rng):
    x = np.concatenate([rng.standard_normal((50, 2)), rng.standard_normal((50, 2)) + 1000])
    for _ in range(20):
        r = nearest_seed(x, 2, rng)
        assert (r[:50] == r[0]).all() and (r[50:] == 1 - r[0]).all()
    labels, corners = rng.integers(6, size=600), 6 * np.exp(2j * np.pi * np.arange(6) / 6)
    x = np.stack([corners.real, corners.imag], axis=1)[labels] + 0.5 * rng.standard_normal((600, 2))
    owners = [np.argmax(nearest_seed(x, 6, rng).T @ np.eye(6)[labels], axis=1) for _ in range(100)]
    assert np.mean([len(set(o)) == 6 for o in owners]) > 0.95      # without candidates: 0.8


def test_the_best_of_several_climbs_is_kept_and_a_fit_repeats(rng):
    x = data(rng, K=6)
    rng = np.random.default_rng(3)
    singles = [GaussianMixture(5, rng=rng).fit(x).loglik_trace_[-1] for _ in range(4)]
    best = fit(x, 5, seed=3, n_init=4)
    assert best.loglik_trace_[-1] == max(singles) > min(singles) + 1e-3
    assert best.score(x) == pytest.approx(max(singles), rel=1e-12)
    np.testing.assert_array_equal(best.means_, fit(x, 5, seed=3, n_init=4).means_)


def test_arrays_keep_their_dtype_and_are_not_written_to(rng):
    x = data(rng).astype(np.float32)
    copy = x.copy()
    model = fit(x, 3)
    for y in (model.score_samples(x), model.predict_proba(x), model.mean_, model.sample(3, rng)):
        assert y.dtype == np.float32
    np.testing.assert_array_equal(x, copy)
    r = rng.dirichlet(np.ones(3), 300)
    start = r.copy()
    model = fit(x, 3, start=start, max_iter=3)
    np.testing.assert_array_equal(start, r)
    with pytest.warns(RuntimeWarning, match="not converged"):
        np.testing.assert_array_equal(GaussianMixture(3, max_iter=3).fit(x, start=r).means_, model.means_)


def test_bad_input_is_refused(rng):
    x = data(rng)
    with pytest.raises(ValueError, match="must be one of 'full', 'diagonal', 'spherical', 'tied', not 'diag'"):
        GaussianMixture(2, "diag", rng)
    with pytest.raises(ValueError, match="n_components must be at most 4, the number of examples, not 5"):
        GaussianMixture(5, rng=rng).fit(x[:4])
    with pytest.raises(ValueError, match="only 2 different rows: too few for 3"):
        GaussianMixture(3, rng=rng).fit(np.repeat(x[:2], 5, axis=0))
    with pytest.raises(ValueError, match="floor must be a number > 0, not 0"):
        GaussianMixture(2, rng=rng, floor=0).fit(x)
    with pytest.raises(ValueError, match="rng must be a numpy.random.Generator"):
        GaussianMixture(2).fit(x)
    with pytest.raises(ValueError, match="rng must be a numpy.random.Generator"):
        fit(x, 2).sample(3, 0)
    for name, bad in [("tol", "x"), ("tol", np.nan), ("max_iter", -1), ("max_iter", 2.5), ("max_iter", "3"),
                      ("n_init", 0), ("floor", -1), ("floor", "x"), ("floor", np.nan)]:
        with pytest.raises(ValueError, match=f"{name} must be a"):
            GaussianMixture(2, rng=rng, **{name: bad})
    with pytest.raises(ValueError, match="numbers as large as .*whose squares overflow float64"):
        GaussianMixture(2, rng=rng).fit(x * 1e160)
    for start in (np.full((300, 3), 0.5), np.full((300, 2), 0.4), np.tile([1, 0], (300, 1)),
                  np.tile([2, -1], (300, 1))):
        with pytest.raises(ValueError, match=r"start must be \(300, 2\) probabilities"):
            GaussianMixture(2, rng=rng).fit(x, start=start)
    with pytest.raises(ValueError, match="singular to rounding: leave out features"):
        GaussianMixture(1, rng=rng, floor=1e-18).fit(np.concatenate([x[:, :1] * 1e9, x[:, :1] * 3e9, x], axis=1))
    for bad in (np.nan, np.inf):
        with pytest.raises(ValueError, match=f"X holds {bad}"):
            GaussianMixture(2, rng=rng).fit(np.where(x == x[3, 1], bad, x))
    for call in ("predict", "predict_proba", "transform", "score_samples", "score"):
        with pytest.raises(ValueError, match="call fit first"):
            getattr(GaussianMixture(2), call)(x)
        with pytest.raises(ValueError, match="X has 2 features"):
            getattr(fit(x, 2), call)(x[:, :2])
    with pytest.raises(ValueError, match="call fit first"):
        GaussianMixture(2).sample(1, rng)
    with pytest.raises(ValueError, match="n must be a positive integer"):
        fit(x, 2).sample(0, rng)
