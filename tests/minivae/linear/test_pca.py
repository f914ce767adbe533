"""PCA by both routes, against its definition and scikit-learn; its Gaussian against SciPy's."""
import copy

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from minivae.linear import PCA

DATA = ["iris", "wine", "digits", "breast_cancer"]


def correlated(rng, n=60, d=6, mean=2.0):
    """Gaussian rows (n, d) whose covariance has no two equal eigenvalues."""
    return rng.standard_normal((n, d)) * np.arange(1, d + 1) @ rng.standard_normal((d, d)) + mean


def covariance_z_score(x, mean, covariance):
    """How many standard errors the moments of x (n, D) are from those of N(mean, covariance)."""
    n, variance = len(x), np.diag(covariance)
    error = (np.cov(x.T, bias=True) - covariance) / np.sqrt((np.outer(variance, variance) + covariance ** 2) / n)
    return max(np.abs((x.mean(axis=0) - mean) / np.sqrt(variance / n)).max(), np.abs(error).max())


@pytest.mark.equation("pca.routes", "eigenvectors of S = right singular vectors of X - mu, lambda = s^2/(N - 1)",
                      bound=1e-10)
@pytest.mark.parametrize("shape, mean", [((60, 6), 0.1), ((60, 6), 1e5), ((5, 9), 0.0), ((3000, 4), 20.0)])
def test_both_routes_find_the_eigenvectors_of_the_covariance(measure, rng, shape, mean):
    X = correlated(rng, *shape, mean)
    q = min(4, shape[0] - 1, shape[1])
    S = np.cov(X.T)
    found = [PCA(q, method=method).fit(X) for method in ("svd", "covariance")]
    for m in found:
        measure((S @ m.components_.T - m.components_.T * m.explained_variance_) / np.trace(S))
        measure(m.components_ @ m.components_.T - np.eye(q))
        measure(m.explained_variance_ / np.linalg.eigvalsh(S)[::-1][:q] - 1)
        measure(m.explained_variance_ratio_ - m.explained_variance_ / np.trace(S))
        measure(m.singular_values_ / np.linalg.svd(X - X.mean(axis=0))[1][:q] - 1)
    measure(found[0].components_ - found[1].components_)
    measure(found[0].noise_variance_ - found[1].noise_variance_)


@pytest.mark.equation("pca.reconstruction", "sum |x - xhat|^2 = (N - 1) sum of the discarded lambda", bound=1e-10)
@pytest.mark.parametrize("q", [1, 3, 6])
@pytest.mark.parametrize("whiten", [False, True])
def test_what_a_reconstruction_loses_is_the_discarded_variance(measure, rng, q, whiten):
    X = correlated(rng)
    m = PCA(q, whiten=whiten).fit(X)
    lost = np.square(X - m.inverse_transform(m.transform(X))).sum()
    measure((lost - 59 * np.linalg.eigvalsh(np.cov(X.T))[::-1][q:].sum()) / np.square(X).sum())


@pytest.mark.equation("pca.whitening", "cov(z) = I", bound=1e-10)
def test_whitened_coordinates_have_unit_covariance(measure, rng):
    X = correlated(rng)
    measure(np.cov(PCA(4, whiten=True).fit_transform(X).T) - np.eye(4))
    assert np.abs(np.cov(PCA(4).fit_transform(X).T) - np.eye(4)).max() > 1


@pytest.mark.equation("pca.density", "ln N(x; mu, C), C = V L V' + s^2 (I - V V'), without C", bound=1e-10)
@pytest.mark.parametrize("q", [1, 4, 6])
def test_the_density_is_that_of_the_dense_gaussian(measure, rng, q):
    X = correlated(rng)
    m = PCA(q).fit(X)
    V = m.components_.T
    C = V * m.explained_variance_ @ V.T + m.noise_variance_ * (np.eye(6) - V @ V.T)
    dense = multivariate_normal(X.mean(axis=0), C).logpdf(X)
    measure(m.score_samples(X) / dense - 1)
    measure(m.score(X) / dense.mean() - 1)


@pytest.mark.oracle
@pytest.mark.equation("pca.density", "ln p(x) = scikit-learn's, on its data sets", bound=1e-8)
@pytest.mark.parametrize("name", DATA)
def test_density_is_scikit_learns(measure, oracle, name):
    X = getattr(oracle("sklearn.datasets"), f"load_{name}")().data
    for q in (2, 3):
        theirs = oracle("sklearn.decomposition").PCA(q, svd_solver="full").fit(X)
        ours = PCA(q).fit(X)
        measure(ours.score_samples(X) / theirs.score_samples(X) - 1)
        measure(ours.noise_variance_ / theirs.noise_variance_ - 1)


@pytest.mark.oracle
@pytest.mark.equation("pca.routes", "components, with their signs, and variances = scikit-learn's", bound=1e-8)
@pytest.mark.parametrize("name", DATA)
@pytest.mark.parametrize("method", ["svd", "covariance"])
def test_components_are_scikit_learns(measure, oracle, name, method):
    X = getattr(oracle("sklearn.datasets"), f"load_{name}")().data
    solver = {"svd": "full", "covariance": "covariance_eigh"}[method]
    for whiten in (False, True):
        theirs = oracle("sklearn.decomposition").PCA(3, svd_solver=solver, whiten=whiten).fit(X)
        ours = PCA(3, method=method, whiten=whiten).fit(X)
        measure(ours.components_ - theirs.components_)
        for attribute in ("explained_variance_", "explained_variance_ratio_", "singular_values_"):
            measure(getattr(ours, attribute) / getattr(theirs, attribute) - 1)
        measure((ours.transform(X) - theirs.transform(X)) / np.abs(theirs.transform(X)).max())


@pytest.mark.equation("pca.density", "samples have mean mu and covariance C", bound=5, kind="S")
@pytest.mark.parametrize("q", [2, 6])
def test_samples_have_the_mean_and_covariance(measure, rng, q):
    m = PCA(q).fit(correlated(rng))
    V = m.components_.T
    C = V * m.explained_variance_ @ V.T + m.noise_variance_ * (np.eye(6) - V @ V.T)
    measure(covariance_z_score(m.sample(40_000, rng), m.mean_, C))


def test_all_components_are_kept_without_a_number_and_lose_nothing(rng):
    X = correlated(rng)
    m = PCA().fit(X)
    assert m.components_.shape == (6, 6) and m.noise_variance_ == 0
    np.testing.assert_allclose(m.explained_variance_ratio_.sum(), 1)
    np.testing.assert_allclose(m.inverse_transform(m.transform(X)), X)
    assert PCA().fit(X[:4]).components_.shape == (4, 6)


def test_the_sign_of_a_component_does_not_depend_on_that_of_the_data(rng):
    X = correlated(rng)
    a, b = PCA(3).fit(X), PCA(3).fit(-X[::-1])
    np.testing.assert_allclose(a.components_, b.components_)
    assert (np.abs(a.components_).max(axis=1) == a.components_.max(axis=1)).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("method", ["svd", "covariance"])
def test_pca_keeps_the_dtype_and_leaves_its_input_alone(rng, dtype, method):
    X = correlated(rng).astype(dtype)
    before = X.copy()
    m = PCA(2, method=method, whiten=True).fit(X)
    Z = m.transform(X)
    for y in (m.components_, m.mean_, Z, m.inverse_transform(Z), m.score_samples(X), m.sample(3, rng)):
        assert y.dtype == dtype
    assert (X == before).all()
    np.testing.assert_allclose(m.score(X), PCA(2).fit(X.astype(float)).score(X), rtol=1e-5)
    np.testing.assert_allclose(PCA(2).fit(np.round(X).astype(int)).components_, PCA(2).fit(np.round(X)).components_,
                               rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("method", ["svd", "covariance"])
def test_data_in_a_subspace_have_components_but_no_density(rng, method):
    X = rng.standard_normal((30, 2)) @ rng.standard_normal((2, 5)) + 7
    for q in (2, 3):
        m = PCA(q, method=method).fit(X)
        assert m.noise_variance_ == 0 and np.count_nonzero(m.explained_variance_) == 2
        np.testing.assert_allclose(m.inverse_transform(m.transform(X)), X)
        assert np.isfinite(m.sample(4, rng)).all()
        with pytest.raises(ValueError, match="lie in a subspace.*take fewer components"):
            m.score_samples(X)
    assert np.isfinite(PCA(1, method=method).fit(X).score_samples(X)).all()
    with pytest.raises(ValueError, match="only 2 of 3 components have a variance"):
        PCA(3, method=method, whiten=True).fit(X)


def test_variances_that_are_small_beside_others_are_kept(rng):
    X = rng.standard_normal((50, 2)) * [1, 1e-8]
    np.testing.assert_allclose(PCA(2).fit(X).explained_variance_, np.linalg.svd(X - X.mean(axis=0))[1] ** 2 / 49)
    X = rng.standard_normal((2000, 200)) * np.geomspace(1, 3e-3, 200)
    X = X @ np.linalg.qr(rng.standard_normal((200, 200)))[0]
    m = PCA(180).fit(X.astype(np.float32))
    assert m.score(X.astype(np.float32)) == pytest.approx(PCA(180).fit(X).score(X), abs=0.05)


@pytest.mark.parametrize("method", ["svd", "covariance"])
def test_many_equal_rows_are_equal_for_all_that_their_mean_is_rounded(method):
    with pytest.raises(ValueError, match="rows of X are all equal"):
        PCA(2, method=method).fit(np.full((100_000, 3), 0.1))


def test_constant_features_are_no_obstacle(rng):
    X = np.insert(correlated(rng), 2, 0.1, axis=1)
    m = PCA(3).fit(X)
    np.testing.assert_allclose(m.components_[:, 2], 0, atol=1e-12)
    assert np.isfinite(m.score_samples(X)).all()


@pytest.mark.parametrize("method", ["svd", "covariance"])
def test_bad_input_is_refused(rng, method):
    X = correlated(rng, 5, 8)
    model = PCA(2, method=method)
    hole, infinite = X.copy(), X.copy()
    hole[1, 2], infinite[3, 4] = np.nan, -np.inf
    for bad, message in [(hole, "nan.*row 1, column 2"), (infinite, "-inf, first in row 3, column 4"),
                         (X[0], r"must be \(N, D\).*shape \(8,\)"), (X[:0], "at least one row"),
                         (X[:1], "one row: a variance takes two"), (np.full((4, 3), 0.1), "rows of X are all equal"),
                         (np.ma.array(X, mask=X == X[2, 3]), "holds nan, first in row 2, column 3"),
                         (X * 1e160, "squares overflow float64"), (X.astype(np.float32) * 1e19, "overflow float32"),
                         (X.astype(str), "must hold numbers"), (X + 1j, "must hold numbers, not complex128")]:
        with pytest.raises(ValueError, match=message):
            model.fit(bad)
    for q in (6, 0, 1.5, True):
        with pytest.raises(ValueError, match="n_components must be"):
            PCA(q, method=method).fit(X)
    with pytest.raises(ValueError, match=r"at most 5 = min\(N, D\) for X of shape \(5, 8\), not 6"):
        PCA(6, method=method).fit(X)
    for call in (model.transform, model.score_samples):
        with pytest.raises(ValueError, match="call fit first"):
            call(X)
    model.fit(X)
    for call in (model.transform, model.score_samples):
        with pytest.raises(ValueError, match="X has 7 features, and PCA was fitted to 8"):
            call(X[:, :7])
    with pytest.raises(ValueError, match="Z has 3 columns, and PCA 2 components"):
        model.inverse_transform(X[:, :3])
    with pytest.raises(ValueError, match="n must be a positive integer"):
        model.sample(-1, rng)
    with pytest.raises(ValueError, match="rng must be a numpy.random.Generator"):
        model.sample(3, 0)


def test_an_unknown_method_lists_the_choices():
    with pytest.raises(ValueError, match="method must be one of 'svd', 'covariance', not 'qr'"):
        PCA(2, method="qr")


def test_an_estimator_prints_and_copies(rng):
    assert repr(PCA(2)) == "PCA(n_components=2, method='svd', whiten=False)"
    m = PCA(2).fit(correlated(rng))
    assert (copy.deepcopy(m).components_ == m.components_).all()
    assert not hasattr(PCA(2), "components_")
