"""Densities against SciPy, KLs against quadrature and sampling, samples against their moments."""
import numpy as np
import pytest
from scipy import stats

from autograd import Tensor, grad, gradcheck
from minivae.distributions import Bernoulli, Categorical, Normal
from minivae.vae.gaps import grid

N = 40_000


def normals(rng, d=2):
    return [Normal(rng.standard_normal((1, d)), 0.7 * rng.standard_normal((1, d)) - 0.5) for _ in range(2)]


def z_score(samples, truth):
    """How many standard errors the mean of `samples` (N, ...) is from the truth."""
    return (np.mean(samples, axis=0) - truth) / (np.std(samples, axis=0) / len(samples) ** 0.5)


@pytest.mark.equation("distributions.normal", "ln N(x; mu, s^2) = -1/2 sum(ln 2pi + ln s^2 + (x - mu)^2/s^2)",
                      bound=1e-10)
def test_normal_log_prob_is_scipys(measure, rng):
    x, mu, logvar = rng.standard_normal((3, 5, 4))
    measure(Normal(mu, logvar).log_prob(x) - stats.norm(mu, np.exp(logvar / 2)).logpdf(x).sum(-1))


@pytest.mark.equation("distributions.entropy", "H[N(mu, s^2)] = 1/2 sum(ln 2 pi e + ln s^2)", bound=1e-10)
def test_normal_entropy_is_scipys(measure, rng):
    mu, logvar = rng.standard_normal((2, 5, 4))
    measure(Normal(mu, logvar).entropy() - stats.norm(mu, np.exp(logvar / 2)).entropy().sum(-1))


@pytest.mark.equation("distributions.kl-normal",
                      "KL(N(mu, s^2) || N(m, t^2)) = 1/2 sum(ln t^2/s^2 + (s^2 + (mu-m)^2)/t^2 - 1)",
                      bound=1e-8, kind="Q")
def test_normal_kl_is_its_integral(measure, rng):
    z, weight = grid(2, nodes=401, reach=12)
    q, p = normals(rng)
    for p in (p, None):
        log_p = (p or Normal(np.zeros(2), np.zeros(2))).log_prob(z)
        log_q = q.log_prob(z)
        measure(q.kl(p)[0] - np.sum(np.exp(log_q) * (log_q - log_p)) * weight)


@pytest.mark.equation("losses.gaussian-kl", "KL(N(mu, s^2) || N(0, 1)) = 1/2 sum(mu^2 + s^2 - 1 - ln s^2)", bound=5,
                      kind="S")
def test_normal_kl_is_the_mean_log_ratio_of_samples(measure, rng):
    q = Normal(np.array([0.5, -1.0]), np.array([-0.7, 0.4]))
    z = Normal(np.tile(q.mu, (N, 1)), q.logvar).sample(rng)
    measure(z_score(q.log_prob(z) - Normal(np.zeros(2), np.zeros(2)).log_prob(z), q.kl()))


@pytest.mark.equation("distributions.kl-normal", "KL(q || p) = E_q ln q/p, by sampling q", bound=5, kind="S")
@pytest.mark.parametrize("q, p", [
    (Normal(np.array([0.5, -1.0]), np.array([-0.7, 0.4])), Normal(np.array([0.0, 0.3]), np.array([0.2, -0.1]))),
    (Bernoulli(np.array([0.5, -1.0])), Bernoulli(np.array([-0.2, 1.0]))),
    (Categorical(np.array([0.5, -1.0, 0.1])), Categorical(np.array([-0.2, 1.0, 0.4])))], ids=lambda d: type(d).__name__)
def test_every_kl_is_the_mean_log_ratio_of_samples(measure, rng, q, p):
    many = type(q)(*[np.tile(v, (N, 1)) for k, v in vars(q).items() if k != "shape"])
    other = type(p)(*[np.tile(v, (N, 1)) for k, v in vars(p).items() if k != "shape"])
    x = many.sample(rng)
    measure(z_score(many.log_prob(x) - other.log_prob(x), np.asarray(q.kl(p))))


@pytest.mark.equation("distributions.kl-normal", "KL(q || q) = 0, and KL(q || p) > 0 for any other p", bound=1e-14)
def test_kl_is_never_negative_and_zero_only_at_equality(measure, rng):
    for _ in range(50):
        q, p = normals(rng, d=3)
        assert q.kl() > 0
        for a, b in ((q, p), (Bernoulli(q.mu), Bernoulli(p.mu)), (Categorical(q.mu), Categorical(p.mu))):
            assert a.kl(b) > 0
            measure(a.kl(a))
    zero = np.zeros((1, 3))
    assert Normal(zero, zero).kl() == 0


def test_kl_terms_sum_to_the_kl(rng):
    q, p = normals(rng, d=4)
    np.testing.assert_allclose(np.sum(q.kl_terms(p), -1), q.kl(p), rtol=1e-12)
    np.testing.assert_allclose(np.sum(q.kl_terms(), -1), q.kl(), rtol=1e-12)


@pytest.mark.equation("distributions.rsample", "z = mu + s eps: mean mu, variance s^2 = exp(logvar)", bound=5, kind="S")
@pytest.mark.parametrize("distribution", [
    Normal(np.array([1.0, -2.0]), np.log([0.25, 9.0])), Bernoulli(np.array([-2.0, 0.3, 1.5])),
    Categorical(np.array([0.1, 1.3, -0.4]))], ids=lambda d: type(d).__name__)
def test_samples_have_the_mean_and_variance(measure, rng, distribution):
    if isinstance(distribution, Categorical):
        x = np.eye(3)[Categorical(np.tile(distribution.logits, (N, 1))).sample(rng)]
        variance = distribution.mean * (1 - distribution.mean)
    else:
        repeated = {k: np.tile(v, (N, 1)) for k, v in vars(distribution).items() if k != "shape"}
        x, variance = type(distribution)(**repeated).sample(rng), distribution.variance
    measure(z_score(x, distribution.mean))
    measure(z_score((x - distribution.mean) ** 2, variance))


@pytest.mark.equation("distributions.kl-discrete", "KL(p || q) = H(p, q) - H(p) = sum p ln p/q", bound=1e-10)
def test_discrete_kl_and_entropy_are_their_sums(measure, rng):
    l, m = rng.standard_normal((2, 3, 5))
    p, q = (np.exp(v) / np.exp(v).sum(-1, keepdims=True) for v in (l, m))
    measure(Categorical(l).kl(Categorical(m)) - np.sum(p * np.log(p / q), -1))
    measure(Categorical(l).entropy() + np.sum(p * np.log(p), -1))
    measure(Categorical(l).log_prob(np.array([0, 4, 2])) - np.log(p[[0, 1, 2], [0, 4, 2]]))
    p, q = stats.bernoulli(1 / (1 + np.exp(-l))), stats.bernoulli(1 / (1 + np.exp(-m)))
    measure(Bernoulli(l).entropy() - p.entropy().sum(-1))
    bits = [(p.pmf(k), q.pmf(k)) for k in (0, 1)]
    measure(Bernoulli(l).kl(Bernoulli(m)) - sum(a * np.log(a / b) for a, b in bits).sum(-1))


@pytest.mark.equation("losses.bernoulli-nll", "-ln prod s(l)^x (1-s(l))^(1-x) = sum(softplus(l) - x l)", bound=1e-10)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_binary_cross_entropy_is_finite_and_right_at_the_ends(measure, dtype):
    logits, x = np.array([[1000], [1000], [-1000], [-1000], [0]], dtype), np.array([[1], [0], [1], [0], [1]], dtype)
    t = Tensor(logits, requires_grad=True)
    nll = -Bernoulli(t).log_prob(x)
    nll.sum().backward()
    measure(nll.data - np.array([0, 1000, 1000, 0, np.log(2)], dtype))
    measure(t.grad.ravel() - np.array([0, 1, -1, 0, -0.5], dtype))


def test_densities_have_right_gradients(rng):
    x, mu, logvar, m, s = rng.standard_normal((5, 2, 3))
    gradcheck(lambda x, mu, logvar: Normal(mu, logvar).log_prob(x), x, mu, logvar)
    gradcheck(lambda mu, logvar, m, s: Normal(mu, logvar).kl(Normal(m, s)), mu, logvar, m, s)
    gradcheck(lambda mu, logvar: Normal(mu, logvar).entropy(), mu, logvar)
    gradcheck(lambda mu, logvar: Normal(mu, logvar).rsample(np.random.default_rng(1)), mu, logvar)
    gradcheck(lambda l, m: Bernoulli(l).kl(Bernoulli(m)), mu, m)
    gradcheck(lambda l: Bernoulli(l).entropy(), mu)
    gradcheck(lambda l, m: Categorical(l).kl(Categorical(m)), mu, m)
    gradcheck(lambda l: Categorical(l).log_prob(np.array([2, 0])), mu)


def test_samples_are_constants_to_a_gradient(rng):
    """As the score-function estimator needs: the gradient of ln q(z) at a z that does not move with the parameters."""
    q = lambda v: Normal(v, np.zeros(3))
    z = q(np.ones(3)).sample(np.random.default_rng(7))
    g = grad(lambda v: q(v).log_prob(q(v).sample(np.random.default_rng(7))))(np.ones(3))
    np.testing.assert_allclose(g, z - 1)
    for d in (Bernoulli, Categorical):
        grad(lambda v: d(v).log_prob(d(v).sample(rng)))(np.ones(3))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_distributions_keep_the_dtype(rng, dtype):
    mu, logvar = (Tensor(v, requires_grad=True, dtype=dtype) for v in rng.standard_normal((2, 4, 3)))
    q = Normal(mu, logvar)
    for y in (q.rsample(rng), q.log_prob(mu.data), q.entropy(), q.kl(), q.kl(Normal(logvar, mu)), Bernoulli(mu).mean,
              Bernoulli(mu).log_prob(np.ones((4, 3), bool)), Bernoulli(mu).sample(rng), Categorical(mu).entropy()):
        assert y.dtype == dtype


def test_shapes_that_do_not_broadcast_are_refused():
    with pytest.raises(ValueError, match="mu of shape .* and logvar of shape .* do not broadcast"):
        Normal(np.zeros((2, 3)), np.zeros((2, 4)))


@pytest.mark.parametrize("mu, logvar, message", [
    (0.0, np.zeros(2), "not float and float64"), (np.zeros(2), [0.0, 0.0], "not float64 and list"),
    (np.zeros(2, int), np.zeros(2), "not int64 and float64")])
def test_what_are_no_floats_is_refused(mu, logvar, message):
    with pytest.raises(ValueError, match=f"mu and logvar must be arrays or Tensors of float32 or float64, {message}"):
        Normal(mu, logvar)


@pytest.mark.parametrize("q", [Normal(np.zeros(3), np.zeros(3)), Bernoulli(np.zeros(3)), Categorical(np.zeros(3))])
def test_no_draw_comes_from_a_seed(q):
    with pytest.raises(ValueError, match="rng must be a numpy.random.Generator, .* not 0"):
        q.sample(0)


def test_a_class_that_cannot_be_costs_nothing():
    """0 ln 0 = 0, in values and gradients, but what only the other one rules out costs infinitely much."""
    l, m = np.array([[0.7, -np.inf, -0.1], [-np.inf, 3, -np.inf]]), np.array([[0.2, 0.5, 0.3], [0, 0, 0]])
    q, p = Categorical(l), Categorical(m)
    np.testing.assert_allclose(q.entropy(), [stats.entropy(v) for v in q.mean], atol=1e-15)
    np.testing.assert_allclose(q.kl(p), [stats.entropy(v, w) for v, w in zip(q.mean, p.mean)], rtol=1e-12)
    assert (p.kl(q) == np.inf).all() and (q.kl(q) == 0).all()
    value = lambda l, m: Categorical(l).kl(Categorical(m)).sum() + Categorical(l).entropy().sum()
    to_l, to_m = grad(value, (0, 1))(l, m)
    np.testing.assert_allclose(to_m, p.mean - q.mean, atol=1e-15)
    some = np.ix_([0], [0, 2])
    np.testing.assert_allclose(to_l[some], grad(lambda v: -np.sum(Categorical(v).mean * (m - 0)[some]))(l[some]))
    assert (to_l[np.isinf(l)] == 0).all()


def test_no_class_is_drawn_from_what_is_not_a_number():
    with pytest.raises(ValueError, match="logits that are NaN"):
        Categorical(np.array([np.nan, 0])).sample(np.random.default_rng(0))
