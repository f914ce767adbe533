"""The identity ln p(x) = ELBO + KL, both directions of the KL, and the derivatives of Gaussian expectations."""
import numpy as np
import pytest
from scipy import stats

from autograd import ops
from minivae import plots
from minivae.distributions import Normal
from minivae.inference import Gaussian, LinearGaussian, bonnet_price, fit_forward, fit_reverse, terms_on_grid
from minivae.inference.elbo import gauss_hermite
from minivae.vae.gaps import grid

TWO_PEAKS = [(0.7, np.array([-1.5, -1.0]), np.array([[0.4, 0.1], [0.1, 0.3]])),
             (0.3, np.array([2.0, 1.5]), np.array([[0.3, -0.1], [-0.1, 0.5]]))]


def covariance(rng, d):
    root = rng.standard_normal((d, d))
    return root @ root.T + 0.3 * np.eye(d)


def problem(rng, D=5, d=3):
    model = LinearGaussian(rng.standard_normal((D, d)), rng.standard_normal(D), 0.7)
    return model, 2 * rng.standard_normal(D)


def quadratic(z, mean, precision):
    return -0.5 * ops.sum((z - mean) @ precision * (z - mean), axis=-1)


def two_peaks(z):
    """ln p at z (G, 2) of a mixture of two Gaussians, with our ops."""
    return ops.logsumexp(ops.stack([np.log(w) - 0.5 * np.linalg.slogdet(2 * np.pi * c)[1]
                                    + quadratic(z, m, np.linalg.inv(c)) for w, m, c in TWO_PEAKS]), axis=0)


@pytest.mark.equation("elbo.identity", "ln p(x) = ELBO(q) + KL(q || p(z|x)) for any Gaussian q", bound=1e-10)
@pytest.mark.parametrize("D, d", [(5, 3), (1, 1), (2, 4)])
def test_the_evidence_is_the_elbo_plus_the_kl_for_any_q(measure, rng, D, d):
    model, x = problem(rng, D, d)
    for scale in np.repeat([0.1, 1, 10], 10):
        evidence, elbo, gap = model.terms(x, Gaussian(scale * rng.standard_normal(d), scale * covariance(rng, d)))
        assert gap > 0
        measure((elbo + gap - evidence) / max(abs(elbo), abs(evidence)))


@pytest.mark.equation("elbo.identity", "the gap is 0 at q = p(z|x), and the ELBO the evidence", bound=1e-10)
def test_the_gap_closes_at_the_posterior(measure, rng):
    for _ in range(10):
        model, x = problem(rng)
        evidence, elbo, gap = model.terms(x, model.posterior(x))
        measure([gap, (elbo - evidence) / evidence])


@pytest.mark.equation("elbo.identity", "ELBO(q) = E_q[ln p(x, z) - ln q(z)], by Gauss-Hermite quadrature", bound=1e-10)
def test_the_elbo_is_the_expectation_that_it_abbreviates(measure, rng):
    model, x = problem(rng)
    q = Gaussian(rng.standard_normal(3), covariance(rng, 3))
    eps, weight = gauss_hermite(3, nodes=4)
    z = q.mean + eps @ q.root.T
    joint = stats.norm(z @ model.W.T + model.mu, model.s2 ** 0.5).logpdf(x).sum(1) + stats.norm.logpdf(z).sum(1)
    log_q = stats.multivariate_normal(q.mean, q.cov).logpdf(z)
    measure(q.log_prob(z) - log_q)
    measure(q.entropy() + weight @ log_q)
    measure((model.elbo(x, q) - weight @ (joint - log_q)) / model.elbo(x, q))


@pytest.mark.equation("elbo.identity", "its three terms on a grid are those in closed form", bound=1e-8, kind="Q")
@pytest.mark.parametrize("d", [1, 2])
def test_a_grid_gives_the_terms_of_a_linear_model(measure, rng, d):
    model, x = problem(rng, 4, d)
    z, weight = grid(d)
    joint = stats.norm(z @ model.W.T + model.mu, model.s2 ** 0.5).logpdf(x).sum(1) + stats.norm.logpdf(z).sum(1)
    q = Gaussian(0.3 * rng.standard_normal(d), 0.5 * np.eye(d))
    measure(np.subtract(terms_on_grid(joint, z, weight, q), model.terms(x, q)))
    diagonal = Normal(q.mean, np.log(np.diag(q.cov)))
    measure(np.subtract(terms_on_grid(joint, z, weight, diagonal), model.terms(x, q)))


@pytest.mark.equation("elbo.evidence", "p(x) = N(x; mu, W W' + s^2 I)", bound=1e-10)
def test_the_evidence_is_the_marginal_of_the_joint(measure, rng):
    model, x = problem(rng)
    marginal = stats.multivariate_normal(model.mu, model.W @ model.W.T + model.s2 * np.eye(5))
    measure(model.log_evidence(x) - marginal.logpdf(x))


@pytest.mark.equation("elbo.posterior", "p(z|x) = N(M^-1 W'(x - mu), s^2 M^-1), by conditioning the joint Gaussian",
                      bound=1e-10)
def test_the_posterior_is_the_joint_conditioned(measure, rng):
    model, x = problem(rng)
    posterior, W = model.posterior(x), model.W
    gain = W.T @ np.linalg.inv(W @ W.T + model.s2 * np.eye(5))     # Cov(z, x) Cov(x)⁻¹
    measure(posterior.mean - gain @ (x - model.mu))
    measure(posterior.cov - (np.eye(3) - gain @ W))


@pytest.mark.equation("elbo.kl-gaussian", "KL(q || p) = int q ln q/p, full covariances", bound=1e-8, kind="Q")
def test_the_kl_of_two_gaussians_is_its_integral(measure, rng):
    z, weight = grid(2, nodes=601, reach=20)
    for _ in range(5):
        q, p = (Gaussian(rng.standard_normal(2), covariance(rng, 2)) for _ in range(2))
        measure(q.kl(p) - np.sum(np.exp(q.log_prob(z)) * (q.log_prob(z) - p.log_prob(z))) * weight)
    assert q.kl(p) > 0 and abs(q.kl(q)) < 1e-14


@pytest.mark.equation("elbo.kl-gaussian", "for diagonal covariances it is the KL of independent Gaussians", bound=1e-10)
def test_the_kl_of_diagonal_gaussians_is_that_of_normal(measure, rng):
    (m, n), (s, t) = rng.standard_normal((2, 2, 4))
    measure(Gaussian(m, np.diag(np.exp(s))).kl(Gaussian(n, np.diag(np.exp(t)))) - Normal(m, s).kl(Normal(n, t)))


SMOOTH = {"sin": lambda z: ops.sin(z[:, 0]), "tanh": lambda z: ops.tanh(z[:, 0]),
          "exp": lambda z: ops.exp(0.5 * z[:, 0]), "cubic": lambda z: z[:, 0] ** 3 - z[:, 0],
          "saddle": lambda z: z[:, 0] * z[:, 1] + ops.cos(z[:, 0] - z[:, 1]),
          "softplus": lambda z: ops.softplus(z[:, 0] + 0.5 * z[:, 1] * z[:, 1])}


@pytest.mark.equation("elbo.bonnet-price", "d/dm E f = E f' and d/dS E f = 1/2 E f''", bound=1e-8, kind="Q")
@pytest.mark.parametrize("name", SMOOTH)
def test_gaussian_expectations_have_the_derivatives_of_bonnet_and_price(measure, rng, name):
    """Against the derivatives of q under the integral: q s and q/2 (s s' - S^-1), s = S^-1 (z - m)."""
    d = 2 if name in ("saddle", "softplus") else 1
    f, q = SMOOTH[name], Gaussian(0.5 * rng.standard_normal(d), 0.4 * np.eye(d) + 0.1)
    z, weight = grid(d, nodes=401, reach=9)
    mass, score = np.exp(q.log_prob(z)) * weight * np.asarray(f(z)), (z - q.mean) @ np.linalg.inv(q.cov)
    gradient, curvature = bonnet_price(f, q, nodes=64)
    measure(gradient - mass @ score)
    measure(curvature - 0.5 * (np.einsum("g,gi,gj->ij", mass, score, score) - mass.sum() * np.linalg.inv(q.cov)))
    assert np.abs(curvature).max() > 1e-3


@pytest.mark.equation("elbo.reverse-kl", "at the fit E_q grad ln p = 0 and S^-1 = -E_q hess ln p", bound=1e-6, kind="O")
def test_the_reverse_fit_is_stationary_by_bonnet_and_price(measure):
    log_p = lambda z: -0.1 * z[:, 0] ** 4 - 0.5 * (z[:, 1] - ops.sin(z[:, 0])) ** 2 + 0.3 * z[:, 1]
    q = fit_reverse(log_p, Gaussian(np.zeros(2), np.eye(2)))
    gradient, curvature = bonnet_price(log_p, q)
    measure(gradient)
    measure(np.linalg.inv(q.cov) + 2 * curvature)
    assert abs(q.cov[0, 1]) > 0.1


@pytest.mark.equation("elbo.reverse-kl", "p Gaussian: the full fit is p; the mean-field fit has variances 1/Lambda_ii",
                      bound=1e-6, kind="O")
def test_the_reverse_fit_of_a_gaussian_is_itself_or_too_narrow(measure, rng):
    p = Gaussian(rng.standard_normal(2), np.array([[1.0, 0.8], [0.8, 1.5]]))
    precision, start = np.linalg.inv(p.cov), Gaussian(np.zeros(2), np.eye(2))
    log_p = lambda z: quadratic(z, p.mean, precision)
    full, diagonal = fit_reverse(log_p, start), fit_reverse(log_p, start, mean_field=True)
    measure(full.cov - p.cov)
    measure(np.concatenate([full.mean - p.mean, diagonal.mean - p.mean]))
    measure(diagonal.cov - np.diag(1 / np.diag(precision)))


@pytest.mark.equation("elbo.forward-kl", "least at the mean and covariance of p; of diagonal q, at Sigma_ii",
                      bound=1e-6, kind="Q")
def test_the_forward_fit_has_the_moments_of_the_target(measure):
    z, weight = grid(2)
    log_p = np.asarray(two_peaks(z))
    q, diagonal = (fit_forward(log_p + 3, z, weight, mean_field) for mean_field in (False, True))
    mean = sum(w * m for w, m, _ in TWO_PEAKS)
    cov = sum(w * (c + np.outer(m - mean, m - mean)) for w, m, c in TWO_PEAKS)
    measure(q.mean - mean)
    measure(q.cov - cov)
    measure(diagonal.cov - np.diag(np.diag(cov)))


def test_no_other_gaussian_is_nearer_by_the_forward_kl(rng):
    z, weight = grid(2)
    mass = np.exp(two_peaks(z)) * weight
    for mean_field in (False, True):
        best = fit_forward(np.asarray(two_peaks(z)), z, weight, mean_field)
        for _ in range(20):
            step = 0.01 * rng.standard_normal((2, 2))
            cov = best.cov + (np.diag(np.diag(step)) if mean_field else step + step.T)
            other = Gaussian(best.mean + 0.01 * rng.standard_normal(2), cov)
            assert mass @ other.log_prob(z) < mass @ best.log_prob(z)


def test_reverse_kl_finds_one_peak_and_forward_kl_covers_both():
    z, weight = grid(2)
    fits = [fit_reverse(two_peaks, Gaussian(m, np.eye(2))) for _, m, _ in TWO_PEAKS]
    for q, (w, m, c) in zip(fits, TWO_PEAKS):
        np.testing.assert_allclose(q.mean, m, atol=0.1)
        np.testing.assert_allclose(q.cov, c, atol=0.1)
        gap = terms_on_grid(np.asarray(two_peaks(z)), z, weight, q).gap
        assert abs(gap + np.log(w)) < 0.05                         # of a peak far from all others: −ln its weight
    assert np.linalg.det(fit_forward(np.asarray(two_peaks(z)), z, weight).cov) > 5 * np.linalg.det(fits[0].cov)


def test_the_picture_of_elbo_and_gap_stacks_them_up_to_the_evidence():
    at, z = np.linspace(-1, 1, 5), np.linspace(-3, 3, 50)
    figure = plots.elbo_and_gap(at, -1 - at ** 2, -0.5, z, stats.norm.pdf(z), {0.0: stats.norm(0).pdf(z)})
    elbo, gap = (c.get_paths()[0].vertices for c in figure.axes[1].collections)
    assert elbo[:, 1].max() == -1 and elbo[:, 1].min() == -2
    assert gap[:, 1].max() == -0.5 and set(gap[:, 1]) == {-0.5, *(-1 - at ** 2)}
    assert figure.axes[1].lines[0].get_ydata()[0] == -0.5


def test_the_picture_of_gaussians_draws_them_at_two_sigma():
    q = Gaussian(np.array([0.5, -0.3]), np.array([[1.0, 0.6], [0.6, 0.8]]))
    z, _ = grid(2, nodes=21, reach=3)
    figure = plots.forward_and_reverse({"p": (np.exp(q.log_prob(z)).reshape(21, 21), {"q": (q.mean, q.cov)})}, 3)
    ring = np.stack(figure.axes[0].lines[0].get_data(), axis=1)
    np.testing.assert_allclose(q.log_prob(q.mean) - q.log_prob(ring), 2)                   # ½ 2²


def test_a_grid_that_cannot_see_q_is_refused():
    z, weight = grid(1)
    for q in (Gaussian([9.0], [[1.0]]), Gaussian([0.0], [[1e-4]]), Gaussian([z.max() - 4], [[1.0]])):   # 3e-5 off it
        with pytest.raises(ValueError, match="too small or too coarse"):
            terms_on_grid(-z[:, 0] ** 2, z, weight, q)


def test_a_target_that_is_zero_where_q_is_not_leaves_an_infinite_gap():
    z, weight = grid(1)
    terms = terms_on_grid(np.where(z[:, 0] > 0, -z[:, 0], -np.inf), z, weight, Gaussian([1.0], [[1.0]]))
    assert np.isfinite(terms.log_evidence) and terms.elbo == -np.inf and terms.gap == np.inf


def test_a_density_takes_lists():
    q = Gaussian([0.5, -0.3], [[1.0, 0.6], [0.6, 0.8]])
    np.testing.assert_array_equal(q.log_prob([[0.0, 1.0]]), q.log_prob(np.array([[0.0, 1.0]])))


def test_what_has_no_minimum_is_refused():
    with pytest.raises(ValueError, match="no minimum downhill"):
        fit_reverse(lambda z: z[:, 0] + z[:, 1], Gaussian(np.zeros(2), np.eye(2)))


@pytest.mark.parametrize("make, message", [
    (lambda: Gaussian(np.zeros(2), np.ones((2, 2))), "cov must be positive definite; its smallest eigenvalue is"),
    (lambda: Gaussian(np.zeros(2), np.array([[1.0, 0.5], [0.0, 1.0]])), "cov must be symmetric"),
    (lambda: Gaussian(np.zeros(2), np.eye(3)), r"cov must have shape \(2, 2\), not \(3, 3\)"),
    (lambda: Gaussian(np.array([0, np.nan]), np.eye(2)), "mean must be finite, and holds nan"),
    (lambda: LinearGaussian(np.eye(2), np.zeros(3), 1), r"mu must have shape \(2,\), not \(3,\)"),
    (lambda: Gaussian("ab", np.eye(2)), "mean must be made of real numbers, not 'ab'"),
    (lambda: Gaussian(np.zeros(2), np.eye(2)).log_prob(np.zeros((5, 1))), r"z must have shape \(any, 2\), not \(5, 1"),
    (lambda: Gaussian(np.zeros(2), np.eye(2)).log_prob([np.nan, 0]), "z must be finite, and holds nan"),
    (lambda: Gaussian(np.zeros(2), np.eye(2)).log_prob(0.0), r"z must have shape \(2,\), not \(\)"),
    (lambda: Gaussian([0], [[1]]).kl(Gaussian(np.zeros(2), np.eye(2))), "of dimension 1, not of dimension 2"),
    (lambda: Gaussian([0], [[1]]).kl(0), "p must be a Gaussian of dimension 1, not 0"),
    (lambda: LinearGaussian(np.eye(2), np.zeros(2), 1).elbo(np.zeros(2), None), "of dimension 2, not None"),
    (lambda: LinearGaussian(np.eye(2), np.zeros(2), 1).terms(np.zeros(2), Gaussian([0], [[1]])),
     "q must be a Gaussian of dimension 2, not of dimension 1"),
    (lambda: LinearGaussian(np.eye(2), np.zeros(2), 0), "s2 must be a number > 0, not 0"),
    (lambda: LinearGaussian(np.eye(2), np.zeros(2), "x"), "s2 must be a number > 0, not 'x'"),
    (lambda: LinearGaussian(np.eye(2), np.zeros(2), 1).elbo(np.zeros(3), None), r"x must have shape \(2,\)"),
    (lambda: LinearGaussian(np.eye(2), np.zeros(2), 1).log_evidence([np.inf, 0]), "x must be finite, and holds inf"),
    (lambda: fit_forward(np.full(5, -np.inf), np.zeros((5, 1)), 1.0), "one of them finite"),
    (lambda: fit_forward(np.array([0, np.nan]), np.zeros((2, 1)), 1.0), "their maximum is nan"),
    (lambda: fit_forward(np.zeros(4), np.zeros((5, 1)), 1.0), r"not \(4,\) at \(5, 1\)")])
def test_bad_input_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
