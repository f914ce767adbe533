"""The gradient estimators: one mean, which is known, and variances, which are known too."""
import numpy as np
import pytest

from autograd import ops
from minivae.distributions import Normal
from minivae.inference import bbvi, elbo_gradients, expectation_gradients
from minivae.inference.bbvi import ESTIMATORS

from ..test_distributions import z_score

S = 40_000
M, PRECISION = np.array([0.5, -1.0, 0.2]), np.array([[1.5, 0.5, 0.0], [0.5, 1.0, 0.0], [0.0, 0.0, 2.0]])
MU, LOGVAR = np.array([0.1, -0.4, 0.6]), np.array([-0.5, 0.2, -1.0])


def log_joint(z):
    """ln N(z; M, PRECISION^-1) and a constant."""
    return -0.5 * ops.sum((z - M) @ PRECISION * (z - M), axis=1)


def factors(z):
    """The same, in two parts: z_0 and z_1 do not meet z_2."""
    return ops.stack([-0.5 * ops.sum((z[:, :2] - M[:2]) @ PRECISION[:2, :2] * (z[:, :2] - M[:2]), axis=1),
                      -ops.square(z[:, 2] - M[2])], axis=1)


BLANKET = np.array([[True, True, False], [False, False, True]])
EXACT = np.array([PRECISION @ (M - MU), 0.5 - 0.5 * np.diag(PRECISION) * np.exp(LOGVAR)])      # of the ELBO


def of_a_square(estimator, mu, s, rng, a=0.0):
    """Draws of the gradient in mu of E (z^2 - a), z ~ N(mu, s^2)."""
    f = lambda z: ops.square(z[:, 0]) - a
    return expectation_gradients(f, [mu], [2 * np.log(s)], samples=S, rng=rng, estimator=estimator)[1][:, 0, 0]


@pytest.mark.equation("bbvi.score", "f = z^2: d/dmu E f = 2 mu, variance mu^4/s^2 + 14 mu^2 + 15 s^2", bound=5,
                      kind="S")
@pytest.mark.parametrize("mu, s", [(1.5, 0.7), (0.0, 1.0), (-0.6, 2.0)])
def test_the_score_function_gradient_of_a_square_has_its_mean_and_variance(measure, rng, mu, s):
    g = of_a_square("score", mu, s, rng)
    measure(z_score(g, 2 * mu))
    measure(z_score((g - 2 * mu) ** 2, mu ** 4 / s ** 2 + 14 * mu ** 2 + 15 * s ** 2))


@pytest.mark.equation("bbvi.control-variate", "f = z^2: the best a = mu^2 + 3 s^2 leaves variance 8 mu^2 + 6 s^2",
                      bound=5, kind="S")
@pytest.mark.parametrize("mu, s", [(1.5, 0.7), (0.0, 1.0), (-0.6, 2.0)])
def test_the_best_control_variate_is_known_and_is_found_from_the_other_draws(measure, rng, mu, s):
    known = of_a_square("score", mu, s, rng, a=mu ** 2 + 3 * s ** 2)
    for g in known, of_a_square("control-variate", mu, s, rng):
        measure(z_score(g, 2 * mu))
        measure(z_score((g - 2 * mu) ** 2, 8 * mu ** 2 + 6 * s ** 2))


@pytest.mark.equation("bbvi.pathwise", "f = z^2: d/dmu E f = 2 mu, variance 4 s^2", bound=5, kind="S")
@pytest.mark.parametrize("mu, s", [(1.5, 0.7), (0.0, 1.0), (-0.6, 2.0)])
def test_the_pathwise_gradient_of_a_square_has_its_mean_and_variance(measure, rng, mu, s):
    g = of_a_square("pathwise", mu, s, rng)
    measure(z_score(g, 2 * mu))
    measure(z_score((g - 2 * mu) ** 2, 4 * s ** 2))


@pytest.mark.equation("bbvi.control-variate", "E_q grad ln q = 0", bound=5, kind="S")
def test_the_score_has_no_mean(measure, rng):
    one = lambda z: np.ones(len(z))
    values, score = expectation_gradients(one, MU, LOGVAR, samples=S, rng=rng, estimator="score")
    assert (values == 1).all() and score.shape == (S, 2, 3)
    measure(z_score(score, 0))
    measure(z_score(score ** 2, np.array([np.exp(-LOGVAR), np.full(3, 0.5)])))             # the Fisher information


@pytest.mark.equation("bbvi.elbo", "every estimator averages grad ELBO, for a Gaussian in closed form", bound=5,
                      kind="S")
@pytest.mark.parametrize("blanket", [None, BLANKET], ids=["whole", "factors"])
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_every_estimator_averages_the_exact_gradient(measure, rng, estimator, blanket):
    f = log_joint if blanket is None else factors
    values, g = elbo_gradients(f, MU, LOGVAR, samples=S, rng=rng, estimator=estimator, blanket=blanket)
    measure(z_score(g, EXACT))
    expected = -0.5 * ((MU - M) @ PRECISION @ (MU - M) + np.diag(PRECISION) @ np.exp(LOGVAR))
    measure(z_score(values, expected + Normal(MU, LOGVAR).entropy()))


@pytest.mark.equation("bbvi.control-variate", "made of the other draws, a costs no bias however few they are", bound=5,
                      kind="S")
@pytest.mark.parametrize("estimator", ["baseline", "control-variate"])
def test_two_draws_are_enough_for_an_unbiased_control_variate(measure, rng, estimator):
    pairs = [elbo_gradients(log_joint, MU, LOGVAR, samples=3, rng=rng, estimator=estimator)[1].mean(axis=0)
             for _ in range(3000)]
    measure(z_score(pairs, EXACT))


@pytest.mark.equation("bbvi.control-variate", "a of a draw = sum f h^2 / sum h^2 over the others, h = grad ln q",
                      bound=1e-10)
def test_the_control_variate_of_a_draw_is_made_of_the_others(measure):
    draws = {e: elbo_gradients(log_joint, MU, LOGVAR, samples=4, rng=np.random.default_rng(1), estimator=e)
             for e in ESTIMATORS[:3]}
    f, plain = draws["score"]
    h = plain / f[:, None, None]
    for s in range(4):
        t = [i for i in range(4) if i != s]
        a = np.sum(h[t] ** 2 * f[t, None, None], axis=0) / np.sum(h[t] ** 2, axis=0)
        measure(draws["control-variate"][1][s] - h[s] * (f[s] - a))
        measure(draws["baseline"][1][s] - h[s] * (f[s] - f[t].mean()))


@pytest.mark.equation("bbvi.rao-blackwell", "leaving factors without z_j out is subtracting what has mean 0", bound=5,
                      kind="S")
def test_rao_blackwell_keeps_the_mean_and_takes_variance(measure):
    same = dict(samples=S, estimator="score")
    _, whole = elbo_gradients(log_joint, MU, LOGVAR, rng=np.random.default_rng(3), **same)
    _, parts = elbo_gradients(factors, MU, LOGVAR, rng=np.random.default_rng(3), blanket=BLANKET, **same)
    measure(z_score(whole - parts, 0))                             # of the same draws
    assert (parts.var(axis=0) < 0.8 * whole.var(axis=0)).all()


def test_each_remedy_lowers_the_variance_of_the_score_function():
    f = lambda z: log_joint(z) + 10
    variance = {e: elbo_gradients(f, MU, LOGVAR, samples=S, rng=np.random.default_rng(1), estimator=e)[1].var(axis=0)
                for e in ESTIMATORS}
    assert (variance["baseline"] < 0.2 * variance["score"]).all()
    assert (variance["control-variate"] < variance["baseline"]).all()
    assert (variance["pathwise"] < 0.2 * variance["control-variate"]).all()


@pytest.mark.equation("bbvi.elbo", "where q is the posterior, the pathwise gradient is 0 draw for draw", bound=1e-10)
def test_the_pathwise_gradient_has_no_variance_at_the_posterior(measure, rng):
    for blanket, f in (None, Normal(MU, LOGVAR).log_prob), (np.ones((1, 3)), lambda z: ops.expand_dims(
            Normal(MU, LOGVAR).log_prob(z), 1)):
        values, g = elbo_gradients(f, MU, LOGVAR, samples=50, rng=rng, estimator="pathwise", blanket=blanket)
        measure(values)
        measure(g)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_bbvi_climbs_to_the_mean_field_optimum(rng, estimator):
    q = bbvi(factors, 3, rng=rng, estimator=estimator, blanket=BLANKET, steps=1000)
    np.testing.assert_allclose(q.mu, M, atol=0.05)
    np.testing.assert_allclose(q.logvar, -np.log(np.diag(PRECISION)), atol=0.05)
    assert len(q.elbo_trace_) == 1000 and q.elbo_trace_[-100:].mean() > q.elbo_trace_[:100].mean()


def test_a_score_function_needs_no_derivative(rng):
    """f = [z > 0]: d/dmu E f is the density of 0, and the pathwise gradient would be 0."""
    step = lambda z: (z.data[:, 0] > 0).astype(float)
    g = expectation_gradients(step, [0.3], [0.0], samples=S, rng=rng)[1][:, 0, 0]
    assert abs(z_score(g, np.exp(-0.045) / np.sqrt(2 * np.pi))) < 5
    with pytest.raises(ValueError, match="constant"):
        expectation_gradients(step, [0.3], [0.0], samples=S, rng=rng, estimator="pathwise")


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_the_dtype_is_kept_and_the_draws_are_the_generators(estimator):
    mu, logvar = MU.astype(np.float32), LOGVAR.astype(np.float32)
    f = lambda z: -ops.sum(ops.square(z), axis=1)
    one, two = (elbo_gradients(f, mu, logvar, samples=7, rng=np.random.default_rng(5), estimator=estimator)
                for _ in range(2))
    for a, b in zip(one, two):
        assert a.dtype == np.float32
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("f, message", [
    (lambda z: ops.sum(z), r"shape \(6,\) for 6 draws, not \(\)"),
    (lambda z: ops.sum(z, axis=1, keepdims=True), r"not \(6, 1\)"),
    (lambda z: [1.0] * 6, "must return a Tensor, not list"),
    (lambda z: ops.sum(z, axis=1) * np.nan, "log_joint is nan"),
    (lambda z: ops.sum(ops.log(ops.relu(z)), axis=1), "log_joint is -inf at a draw of q")])
def test_a_log_joint_that_is_none_is_refused(rng, estimator, f, message):
    with np.errstate(all="ignore"), pytest.raises(ValueError, match=message):
        elbo_gradients(f, MU, LOGVAR, samples=6, rng=rng, estimator=estimator)


@pytest.mark.parametrize("options, message", [
    (dict(estimator="reinforce"), "one of 'score', 'baseline', 'control-variate', 'pathwise', not 'reinforce'"),
    (dict(samples=0), "samples must be an integer >= 2, not 0"),
    (dict(samples=1), "samples must be an integer >= 2"),
    (dict(samples=0, estimator="score"), "samples must be a positive integer, not 0"),
    (dict(logvar=LOGVAR[:2]), "one length"),
    (dict(mu=MU * np.nan), "finite"),
    (dict(rng=0), "rng must be a numpy.random.Generator"),
    (dict(blanket=np.ones((2, 2))), r"blanket must be \(factors, 3\)"),
    (dict(blanket=np.ones((2, 3))), r"shape \(6, 2\) for 6 draws, not \(6,\)")])
def test_other_arguments_are_checked(rng, options, message):
    options = dict(mu=MU, logvar=LOGVAR, samples=6, rng=rng) | options
    with pytest.raises(ValueError, match=message):
        elbo_gradients(log_joint, **options)
