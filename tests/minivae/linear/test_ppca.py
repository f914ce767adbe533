"""PPCA against the dense Gaussian that it is, autograd's derivatives of its likelihood, and scikit-learn."""
import tracemalloc

import numpy as np
import pytest
from scipy.linalg import block_diag, subspace_angles
from scipy.stats import multivariate_normal

from autograd import grad, hessian, jacobian, ops
from minivae.linear import PCA, PPCA, choose_n_components
from minivae.linear.ppca import Complete

from .test_pca import DATA, correlated, covariance_z_score


def dense(m):
    """The covariance C of p(x), as (1) says."""
    return m.W_ @ m.W_.T + m.noise_variance_ * np.eye(len(m.W_))


def log_likelihood(X):
    """The mean of ln p(x), a function of (W, s²) in one vector that autograd can differentiate."""
    D, S = X.shape[1], np.cov(X.T, bias=True)

    def f(v):
        W, noise = ops.reshape(v[:-1], (D, -1)), v[-1]
        C = W @ W.T + noise * np.eye(D)
        return -0.5 * (D * np.log(2 * np.pi) + ops.slogdet(C)[1] + ops.trace(ops.inv(C) @ S))
    return f


def clear(rng, n=60, d=6):
    """Gaussian rows (n, d) with three directions that stand out, for EM to converge fast."""
    return rng.standard_normal((n, d)) * np.r_[2, 1.5, 1.2, np.full(d - 3, 0.4)] @ rotation(rng, d) + 2


def flat(W, noise):
    return np.append(W.ravel(), noise)


def rotation(rng, q):
    return np.linalg.qr(rng.standard_normal((q, q)))[0]


@pytest.mark.equation("ppca.woodbury", "ln N(x; mu, WW' + s^2 I) from M = W'W + s^2 I = from D x D", bound=1e-10)
@pytest.mark.parametrize("q", [1, 3, 6])
@pytest.mark.parametrize("n", [60, 7])
def test_the_density_is_that_of_the_dense_gaussian(measure, rng, q, n):
    X = correlated(rng, n)
    m = PPCA(q).fit(X)
    reference = multivariate_normal(m.mean_, dense(m)).logpdf(X)
    measure(m.score_samples(X) / reference - 1)
    W, noise = rng.standard_normal((6, q)), 0.7
    measure(Complete(X).expect(W, X.mean(axis=0), noise)[1] / log_likelihood(X)(flat(W, noise)) - 1)


@pytest.mark.equation("ppca.posterior", "p(z|x) = N(M^-1 W'(x-mu), s^2 M^-1) = the joint Gaussian, conditioned",
                      bound=1e-10)
@pytest.mark.parametrize("q", [1, 3, 6])
def test_the_posterior_conditions_the_joint_gaussian(measure, rng, q):
    X = correlated(rng)
    m = PPCA(q).fit(X)
    mean, covariance = m.posterior(X)
    gain = m.W_.T @ np.linalg.inv(dense(m))                        # cov(z, x) cov(x)^-1
    measure(mean - (X - m.mean_) @ gain.T)
    measure(covariance - (np.eye(q) - gain @ m.W_))
    measure(m.transform(X) - mean)


@pytest.mark.equation("ppca.limit", "s^2 -> 0: the posterior mean is the PCA projection, over sqrt(lambda)", bound=1e-6)
def test_without_noise_the_posterior_is_the_pca_projection(measure, rng):
    plane = rng.standard_normal((60, 2)) * [3, 1] @ rotation(rng, 6)[:2] + 2
    X = plane + 1e-5 * rng.standard_normal(plane.shape)
    for data in (X, plane):                                        # s² is small, and 0
        mean, covariance = PPCA(2).fit(data).posterior(data)
        projection = PCA(2).fit_transform(data)
        measure(mean - projection / projection.std(axis=0))
        measure(covariance)
    assert PPCA(2).fit(X).noise_variance_ > 0 == PPCA(2).fit(plane).noise_variance_
    mean, covariance = PPCA(3).fit(plane).posterior(plane)         # a third latent of which the data say nothing
    measure(mean[:, 2])
    measure(covariance - np.diag([0, 0, 1]))


@pytest.mark.equation("ppca.stationary", "the gradient of ln p at W = U(L - s^2 I)^1/2 R is 0", bound=1e-8)
@pytest.mark.parametrize("q", [1, 2, 5])
def test_the_gradient_at_the_closed_form_is_zero(measure, rng, q):
    X = correlated(rng)
    m, f = PPCA(q).fit(X), log_likelihood(X)
    measure(grad(f)(flat(m.W_, m.noise_variance_)))
    measure(grad(f)(flat(m.W_ @ rotation(rng, q), m.noise_variance_)))
    assert np.abs(grad(f)(flat(1.01 * m.W_, m.noise_variance_))).max() > 1e-4


@pytest.mark.equation("ppca.maximum", "s^2 = mean of the discarded lambda; ln p = -N/2 (D ln 2 pi e + sum ln lambda_i"
                      " + (D - q) ln s^2)", bound=1e-10)
@pytest.mark.parametrize("shape", [(60, 6), (8, 20)])
@pytest.mark.parametrize("q", [1, 4])
def test_the_maximum_has_its_closed_form(measure, rng, shape, q):
    X = correlated(rng, *shape)
    D = shape[1]
    m = PPCA(q).fit(X)
    eigenvalues = np.linalg.eigvalsh(np.cov(X.T, bias=True))[::-1]
    noise = eigenvalues[q:].mean()
    measure(m.noise_variance_ / noise - 1)
    best = -0.5 * (D * np.log(2 * np.pi * np.e) + np.log(eigenvalues[:q]).sum() + (D - q) * np.log(noise))
    measure(m.score(X) / best - 1)


@pytest.mark.equation("ppca.saddle", "at the axes of other eigenvalues the gradient is 0, the Hessian indefinite",
                      bound=1e-8)
@pytest.mark.parametrize("kept", [(0, 1), (0, 2), (1, 2)])
def test_minor_eigenvectors_are_saddles_and_the_principal_ones_are_not(measure, rng, kept):
    X = rng.standard_normal((200, 5)) * np.sqrt([6, 5, 4, 0.3, 0.2]) @ rotation(rng, 5)
    eigenvalues, U = (v[..., ::-1] for v in np.linalg.eigh(np.cov(X.T, bias=True)))
    noise = np.delete(eigenvalues, kept).mean()
    assert (eigenvalues[list(kept)] > noise).all()
    at = flat(U[:, kept] * np.sqrt(eigenvalues[list(kept)] - noise), noise)
    measure(grad(log_likelihood(X))(at))
    curvature = np.linalg.eigvalsh(hessian(log_likelihood(X))(at))
    assert curvature.min() < -1e-3
    if kept == (0, 1):
        assert (np.sort(np.abs(curvature))[:1] < 1e-10).all() and curvature.max() < 1e-10     # flat along rotations
    else:
        assert curvature.max() > 1e-3


@pytest.mark.equation("ppca.rotation", "W -> WR leaves ln p unchanged", bound=1e-10)
def test_a_rotation_of_the_latents_changes_nothing(measure, rng):
    X = correlated(rng)
    W, f = rng.standard_normal((6, 3)), log_likelihood(X)
    measure(f(flat(W, 0.5)) - f(flat(W @ rotation(rng, 3), 0.5)))


@pytest.mark.equation("ppca.rotation", "after EM: W'W diagonal, W = the closed form's", bound=1e-6, kind="O")
@pytest.mark.parametrize("shape", [(60, 6), (15, 20)])
def test_em_ends_on_principal_axes(measure, rng, shape):
    X = clear(rng, *shape)
    a, b = PPCA(3).fit(X), PPCA(3, method="em", rng=rng, tol=1e-15, max_iter=20_000).fit(X)
    measure((b.W_.T @ b.W_ - np.diag(np.square(a.W_).sum(axis=0))) / np.square(a.W_).sum())
    measure(b.components_ @ b.components_.T - np.eye(3))
    measure(a.components_ - b.components_)
    measure((a.W_ - b.W_) / np.abs(a.W_).max())
    measure(np.sin(subspace_angles(a.W_, b.W_)))


@pytest.mark.equation("em.monotone", "PPCA: ln p(X | theta_t+1) >= ln p(X | theta_t), relative fall", bound=1e-10)
@pytest.mark.parametrize("q", [1, 3, 6])
@pytest.mark.parametrize("expand", [True, False])
def test_em_never_decreases_the_likelihood(measure, rng, q, expand):
    m = PPCA(q, method="em", rng=rng, tol=1e-12, max_iter=20_000, expand=expand).fit(X := correlated(rng))
    trace = np.array(m.loglik_trace_)
    measure(max(0, -(np.diff(trace) / np.abs(trace[1:])).min()))
    assert len(trace) == m.n_iter_ + 1 > 10 and trace[-1] > trace[0] + 1
    np.testing.assert_allclose(trace[-1], m.score(X), rtol=1e-10)


@pytest.mark.equation("ppca.em", "the fixed point: WW' + s^2 I = the closed form's", bound=1e-6, kind="O")
@pytest.mark.parametrize("shape", [(60, 6), (15, 20)])
@pytest.mark.parametrize("q", [1, 3])
@pytest.mark.parametrize("expand", [True, False])
def test_em_climbs_to_the_closed_form(measure, rng, shape, q, expand):
    X = clear(rng, *shape)
    a, b = PPCA(q).fit(X), PPCA(q, method="em", rng=rng, tol=1e-15, max_iter=20_000, expand=expand).fit(X)
    measure((dense(a) - dense(b)) / np.abs(dense(a)).max())
    measure(a.score(X) - b.score(X))


@pytest.mark.equation("ppca.em", "one step = E[z], E[zz'] of every example, then two regressions", bound=1e-10)
def test_an_em_step_is_the_textbooks(measure, rng):
    X = correlated(rng)
    W, noise, r = rng.standard_normal((6, 3)), 0.7, X - X.mean(axis=0)
    inverse = np.linalg.inv(W.T @ W + noise * np.eye(3))
    z = r @ W @ inverse
    zz = noise * inverse + z[:, :, None] * z[:, None, :]
    new = sum(np.outer(a, b) for a, b in zip(r, z)) @ np.linalg.inv(zz.sum(axis=0))
    left = [a @ a - 2 * b @ new.T @ a + np.trace(c @ new.T @ new) for a, b, c in zip(r, z, zz)]
    data = Complete(X)
    ours, mean, ours_noise, moment = data.maximise(data.expect(W, X.mean(axis=0), noise)[0])
    measure(ours - new)
    measure(ours_noise - np.mean(left) / 6)
    measure(mean - X.mean(axis=0))
    measure(moment - zz.mean(axis=0))


@pytest.mark.equation("ppca.expansion", "W Phi^1/2 has the covariance of W z, z ~ N(0, Phi): W W' = S V T^-1 V' S",
                      bound=1e-10)
def test_expansion_takes_the_scale_of_the_latents_into_w(measure, rng):
    X = correlated(rng)
    m = PPCA(3, method="em", rng=rng)
    W, noise, S = rng.standard_normal((6, 3)), 0.7, np.cov(X.T, bias=True)
    M = W.T @ W + noise * np.eye(3)
    V = W @ np.linalg.inv(np.linalg.cholesky(M)).T                 # any root of M will do: W W' does not change
    data = Complete(X)
    statistics, before = data.expect(W, X.mean(axis=0), noise)
    plain, _, _, moment = data.maximise(statistics)
    m._maximise(data, statistics)
    measure(m.W_ @ m.W_.T - plain @ moment @ plain.T)
    measure(m.W_ @ m.W_.T - S @ V @ np.linalg.inv(noise * np.eye(3) + V.T @ S @ V) @ V.T @ S)
    after = [data.expect(w, X.mean(axis=0), m.noise_variance_)[1] for w in (plain, m.W_)]
    assert before < after[0] < after[1]


@pytest.mark.equation("ppca.expansion", "with little noise, EM that is expanded comes to the maximum", bound=1e-6,
                      kind="O")
@pytest.mark.filterwarnings("ignore:PPCA has not converged")
@pytest.mark.parametrize("noise", [1e-1, 1e-3, 1e-5])
def test_expanded_em_is_not_slow_where_noise_is_small(measure, rng, noise):
    X = rng.standard_normal((300, 3)) @ rng.standard_normal((3, 20)) + noise * rng.standard_normal((300, 20))
    best = PPCA(3).fit(X).score(X)
    m = PPCA(3, method="em", rng=np.random.default_rng(1)).fit(X)
    measure(m.score(X) / best - 1)
    assert m.n_iter_ < 30
    plain = PPCA(3, method="em", rng=np.random.default_rng(1), expand=False).fit(X)
    assert plain.score(X) < best - 1e-4


@pytest.mark.oracle
@pytest.mark.equation("ppca.maximum", "ln p(x) = scikit-learn's PCA's, whose covariance divides by N - 1", bound=1e-8)
@pytest.mark.parametrize("name", DATA)
def test_density_is_scikit_learns_after_its_convention(measure, oracle, name):
    X = getattr(oracle("sklearn.datasets"), f"load_{name}")().data
    theirs = oracle("sklearn.decomposition").PCA(3, svd_solver="full").fit(X)
    ours, c = PPCA(3).fit(X), len(X) / (len(X) - 1)
    wider = ours.score_samples(ours.mean_ + (X - ours.mean_) / np.sqrt(c)) - 0.5 * X.shape[1] * np.log(c)
    measure(wider / theirs.score_samples(X) - 1)
    measure(ours.noise_variance_ * c / theirs.noise_variance_ - 1)


@pytest.mark.equation("ppca.bic", "k = D + the rank of the Jacobian of (W, s^2) -> WW' + s^2 I", bound=1e-10)
@pytest.mark.parametrize("q", [1, 2, 3, 4])
def test_bic_counts_the_parameters_that_matter(measure, rng, q):
    X = correlated(rng, 50, 4)
    covariance = lambda v: ops.reshape(v[:-1], (4, q)) @ ops.reshape(v[:-1], (4, q)).T + v[-1] * np.eye(4)
    J = jacobian(covariance)(flat(rng.standard_normal((4, q)), 0.5))
    k = 4 + np.linalg.matrix_rank(J.reshape(16, -1))
    m = PPCA(q).fit(X)
    measure(m.bic(X) / (k * np.log(50) - 2 * 50 * m.score(X)) - 1)


@pytest.mark.parametrize("criterion", ["bic", "heldout"])
@pytest.mark.parametrize("method", ["eigen", "em"])
def test_the_number_of_components_is_found(rng, criterion, method):
    X = 3 * rng.standard_normal((400, 3)) @ rotation(rng, 8)[:3] + rng.standard_normal((400, 8))
    best, scores = choose_n_components(X, range(1, 7), criterion, rng=rng, method=method)
    assert best == 3 and list(scores) == [1, 2, 3, 4, 5, 6] and min(scores.values()) == scores[3]


@pytest.mark.equation("ppca.woodbury", "samples have mean mu and covariance WW' + s^2 I", bound=5, kind="S")
def test_samples_have_the_mean_and_covariance(measure, rng):
    m = PPCA(2).fit(correlated(rng))
    measure(covariance_z_score(m.sample(40_000, rng), m.mean_, dense(m)))


@pytest.mark.equation("ppca.posterior", "the posterior is calibrated: (z - E[z|x]) has covariance s^2 M^-1", bound=5,
                      kind="S")
def test_the_latents_that_made_the_data_scatter_as_the_posterior_says(measure, rng):
    m = PPCA(2).fit(correlated(rng))
    z = rng.standard_normal((40_000, 2))
    x = m.inverse_transform(z) + np.sqrt(m.noise_variance_) * rng.standard_normal((40_000, 6))
    mean, covariance = m.posterior(x)
    measure(covariance_z_score(z - mean, np.zeros(2), covariance))


def test_neither_method_makes_a_matrix_of_features_by_features(rng):
    X = rng.standard_normal((20, 20_000))                          # 3 MB; D x D would take 3.2 GB
    tracemalloc.start()
    for m in (PPCA(2), PPCA(2, method="em", rng=rng, tol=10)):
        m.fit(X)
        m.score_samples(X), m.posterior(X), m.sample(3, rng), m.impute(X)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 50e6


def test_a_fit_is_deterministic_given_the_generator(rng):
    X = correlated(rng)
    a, b, c = (PPCA(2, method="em", rng=np.random.default_rng(seed)).fit(X) for seed in (1, 1, 2))
    assert (a.W_ == b.W_).all() and a.loglik_trace_ == b.loglik_trace_ != c.loglik_trace_


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("method", ["eigen", "em"])
def test_ppca_keeps_the_dtype_and_leaves_its_input_alone(rng, dtype, method):
    X = correlated(rng).astype(dtype)
    before = X.copy()
    m = PPCA(2, method=method, rng=rng).fit(X)
    Z, covariance = m.posterior(X)
    for y in (m.components_, m.W_, m.mean_, Z, covariance, m.inverse_transform(Z), m.score_samples(X), m.impute(X),
              m.sample(3, rng)):
        assert y.dtype == dtype
    assert (X == before).all()
    reference = PPCA(2).fit(before.astype(float))
    np.testing.assert_allclose(m.score(X), reference.score(before), rtol=1e-5)
    assert isinstance(m.noise_variance_, float)
    byte = (10 * before).astype(np.uint8)
    np.testing.assert_allclose(PPCA(2).fit(byte).W_, PPCA(2).fit(byte.astype(float)).W_)


def test_em_that_has_not_converged_says_so(rng):
    with pytest.warns(RuntimeWarning, match="PPCA has not converged in max_iter=2 iterations"):
        m = PPCA(2, method="em", rng=rng, max_iter=2).fit(correlated(rng))
    assert m.n_iter_ == 2 and len(m.loglik_trace_) == 3


def test_in_float32_a_likelihood_is_right_or_refused(rng):
    X = rng.standard_normal((2000, 200)) * np.geomspace(1, 1e-4, 200)
    X = X @ rotation(rng, 200)
    single, right = X.astype(np.float32), []
    for q in range(10, 200, 30):
        for method in ("eigen", "em"):
            try:
                ours = PPCA(q, method=method, rng=rng).fit(single).score(single)
            except ValueError as refusal:
                assert "float32 rounds away" in str(refusal) or "lie in a subspace" in str(refusal)
            else:
                right.append(q)
                assert ours == pytest.approx(PPCA(q).fit(X).score(X), abs=0.1)
    assert max(right) >= 70


@pytest.mark.parametrize("options", [{"method": "em"}, {"method": "eigen"}])
def test_a_fit_that_is_refused_leaves_the_model_as_it_was(rng, options):
    X, bad = correlated(rng), rng.standard_normal((30, 2)) @ rng.standard_normal((2, 6))
    m = PPCA(2, rng=rng, **options)
    bad = bad if m.method == "em" else bad * np.inf
    for _ in range(2):
        before = dict(vars(m))
        with pytest.raises(ValueError):
            m.fit(bad)
        assert vars(m) == before and all(vars(m)[k] is v for k, v in before.items())
        m.fit(X)
    with pytest.raises(ValueError, match="call fit first"):
        PPCA(2).transform(X)


def test_data_in_a_subspace_have_a_projection_but_no_density(rng):
    X = rng.standard_normal((30, 2)) @ rng.standard_normal((2, 5)) + 7
    for q in (2, 3):
        m = PPCA(q).fit(X)
        assert m.noise_variance_ == 0 and np.isfinite(m.transform(X)).all()
        np.testing.assert_allclose(m.inverse_transform(m.transform(X)), X)
        for call in (m.score_samples, m.bic):
            with pytest.raises(ValueError, match="lie in a subspace.*take fewer components"):
                call(X)
        filled, std = m.impute(X, return_std=True)                 # with nothing missing there is nothing to ask
        assert (filled == X).all() and not std.any()
        with pytest.raises(ValueError, match="missing values have no density"):
            m.impute(np.where(X > 8, np.nan, X))
        with pytest.raises(ValueError, match=f"X lies in {q} dimensions.*grows without bound"):
            PPCA(q, method="em", rng=rng).fit(X)
    assert np.isfinite(PPCA(1).fit(X).score_samples(X)).all()


@pytest.mark.parametrize("method", ["eigen", "em"])
def test_constant_features_are_no_obstacle_and_all_components_leave_the_sample_covariance(rng, method):
    X = np.insert(correlated(rng), 2, 0.1, axis=1)
    m = PPCA(2, method=method, rng=rng, tol=1e-12, max_iter=5000).fit(X)
    np.testing.assert_allclose(m.W_[2], 0, atol=1e-8)
    assert np.isfinite(m.score_samples(X)).all()
    X = correlated(rng)
    m = PPCA(6, method=method, rng=rng, tol=1e-14, max_iter=50_000).fit(X)
    S = np.cov(X.T, bias=True)
    np.testing.assert_allclose(dense(m), S, atol=1e-5 * np.abs(S).max())
    np.testing.assert_allclose(m.score_samples(X), multivariate_normal(m.mean_, S).logpdf(X), rtol=1e-5)


@pytest.mark.parametrize("method", ["eigen", "em"])
def test_bad_input_is_refused(rng, method):
    X = correlated(rng, 5, 8)
    model = PPCA(2, method=method, rng=rng)
    infinite = X.copy()
    infinite[3, 4] = np.inf
    for bad, message in [(infinite, "inf, first in row 3, column 4"), (X[0], r"must be \(N, D\)"),
                         (X[:1], "one row: a variance takes two"), (np.full((4, 3), 0.1), "rows of X are all equal"),
                         (X.astype(str), "must hold numbers")]:
        with pytest.raises(ValueError, match=message):
            model.fit(bad)
    with pytest.raises(ValueError, match=r"n_components must be at most 5 = min\(N, D\)"):
        PPCA(6, method=method, rng=rng).fit(X)
    for call in (model.transform, model.score_samples, model.impute, model.posterior, model.bic):
        with pytest.raises(ValueError, match="call fit first"):
            call(X)
    model.fit(X)
    for call in (model.transform, model.score_samples, model.impute):
        with pytest.raises(ValueError, match="X has 7 features, and PPCA was fitted to 8"):
            call(X[:, :7])
    with pytest.raises(ValueError, match="Z has 3 columns, and PPCA 2 components"):
        model.inverse_transform(X[:, :3])


def test_bad_arguments_are_refused(rng):
    X = correlated(rng)
    with pytest.raises(ValueError, match="method must be one of 'eigen', 'em', not 'svd'"):
        PPCA(2, method="svd")
    with pytest.raises(ValueError, match="rng must be a numpy.random.Generator"):
        PPCA(2, method="em")
    with pytest.raises(ValueError, match="max_iter must be a positive integer"):
        PPCA(2, max_iter=0)
    with pytest.raises(ValueError, match="tol must be a number >= 0, not -1"):
        PPCA(2, tol=-1)
    with pytest.raises(ValueError, match="criterion must be one of 'bic', 'heldout'"):
        choose_n_components(X, [1, 2], "aic")
    with pytest.raises(ValueError, match="at least 5 rows, not 4"):
        choose_n_components(X[:4], [1, 2], "heldout", rng=rng)
    with pytest.raises(ValueError, match="at least one number of components"):
        choose_n_components(X, [])
    with pytest.raises(ValueError, match="rng must be"):
        choose_n_components(X, [1, 2], "heldout")


def test_the_joint_gaussian_has_the_covariance_that_the_posterior_conditions(rng):
    """cov(z, x) = W', by sampling: what the tests of the posterior take for granted."""
    W, noise, z = rng.standard_normal((4, 2)), 0.5, rng.standard_normal((40_000, 2))
    x = z @ W.T + np.sqrt(noise) * rng.standard_normal((40_000, 4))
    C = block_diag(np.eye(2), W @ W.T + noise * np.eye(4))
    C[:2, 2:], C[2:, :2] = W.T, W
    assert covariance_z_score(np.hstack([z, x]), np.zeros(6), C) < 5
