"""Losses against the distributions that they come from, far out, and with numbers in the place of arrays."""
import numpy as np
import pytest
from scipy import special, stats

from autograd import Tensor, grad, losses, ops
from autograd.linear import linear


# Against the distributions themselves

@pytest.mark.equation("losses.bernoulli-nll", "-ln prod sigma(l)^x (1 - sigma(l))^(1 - x) = sum softplus(l) - x l",
                      bound=1e-10)
def test_bernoulli_nll_is_the_negative_log_pmf(measure, rng):
    logits, x = rng.standard_normal((4, 3)), rng.integers(0, 2, (4, 3)).astype(float)
    want = -stats.bernoulli.logpmf(x, special.expit(logits)).sum(-1)
    measure(losses.bernoulli_nll(logits, x) - want)


@pytest.mark.equation("losses.gaussian-nll", "-ln N(x; mu, s^2) = 1/2 sum ln 2 pi + ln s^2 + (x - mu)^2 / s^2",
                      bound=1e-10)
def test_gaussian_nll_reads_logvar_as_the_logarithm_of_the_variance(measure, rng):
    x, mu, logvar = rng.standard_normal((3, 4, 5))
    measure(losses.gaussian_nll(x, mu, logvar) + stats.norm.logpdf(x, mu, np.exp(logvar) ** 0.5).sum(-1))


@pytest.mark.equation("losses.gaussian-kl", "KL(N(mu, s^2) || N(0, 1)) = 1/2 sum mu^2 + s^2 - 1 - ln s^2 "
                      "by quadrature", bound=1e-8, kind="Q")
def test_gaussian_kl_is_the_integral_of_q_times_the_log_ratio(measure, rng):
    nodes, weights = np.polynomial.hermite_e.hermegauss(40)
    mu, logvar = rng.standard_normal((2, 20, 1))
    z = mu + np.exp(0.5 * logvar) * nodes
    ratio = stats.norm.logpdf(z, mu, np.exp(0.5 * logvar)) - stats.norm.logpdf(z)
    measure(losses.gaussian_kl(mu, logvar) - ratio @ weights / weights.sum())


def test_gaussian_kl_is_zero_only_at_the_standard_normal(rng):
    assert losses.gaussian_kl(np.zeros((1, 4)), np.zeros((1, 4))) == 0
    mu, logvar = rng.standard_normal((2, 50, 1))
    assert (losses.gaussian_kl(mu, logvar) > 0).all()


@pytest.mark.equation("losses.softmax-cross-entropy", "-ln softmax(l)_c = ln sum exp(l) - l_c", bound=1e-10)
def test_softmax_cross_entropy_is_the_negative_log_probability(measure, rng):
    logits = rng.standard_normal((4, 3))
    measure(losses.softmax_cross_entropy(logits, [0, 1, 2, 0]) + np.log(special.softmax(logits, -1))[range(4),
                                                                                                [0, 1, 2, 0]])


# Far out

@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_bernoulli_nll_is_finite_and_right_at_large_logits(dtype):
    logits = Tensor(np.array([[1000], [-1000], [1000], [-1000]]), requires_grad=True, dtype=dtype)
    y = losses.bernoulli_nll(logits, np.array([[1], [0], [0], [1]], dtype))
    y.backward(np.ones(4))
    np.testing.assert_array_equal(y.data, [0, 0, 1000, 1000])
    np.testing.assert_array_equal(logits.grad[:, 0], [0, 0, 1, -1])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_bernoulli_nll_keeps_the_digits_of_a_small_loss(dtype):
    logits = np.linspace(1, 80, 200).astype(dtype)
    got = losses.bernoulli_nll(logits[:, None], np.ones((200, 1), dtype))
    want = np.log1p(np.exp(-logits.astype(np.longdouble))).astype(float)
    np.testing.assert_allclose(got, want, rtol=4 * np.finfo(dtype).eps)


def test_gaussian_kl_keeps_the_digits_near_zero():
    logvar = np.array([[1e-5]])
    np.testing.assert_allclose(losses.gaussian_kl(0 * logvar, logvar), 0.25e-10 * (1 + 1e-5 / 3), rtol=1e-9)


def test_softmax_cross_entropy_is_finite_at_large_logits():
    logits = np.array([[1000.0, -1000.0], [1000.0, -1000.0]])
    np.testing.assert_array_equal(losses.softmax_cross_entropy(logits, [0, 1]), [0, 2000])
    g = grad(lambda l: ops.sum(losses.softmax_cross_entropy(l, [0, 1])))(logits)
    np.testing.assert_array_equal(g, [[0, 0], [1, -1]])


def test_a_nan_stays_a_nan():
    bad = np.full((1, 2), np.nan)
    for y in (losses.bernoulli_nll(bad, bad), losses.gaussian_kl(bad, bad), losses.gaussian_nll(bad, bad, bad),
              losses.softmax_cross_entropy(bad, [0]), linear(bad, np.ones((2, 1)), None, activation="relu")):
        assert np.isnan(y).all()


# Numbers in place of arrays

@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("f", [lambda x, c: losses.gaussian_kl(x, c), lambda x, c: losses.gaussian_kl(c, x),
                               lambda x, c: losses.bernoulli_nll(x, c), lambda x, c: losses.bernoulli_nll(c, x),
                               lambda x, c: losses.gaussian_nll(x, c, c), lambda x, c: losses.gaussian_nll(c, c, x)])
def test_a_number_is_an_array_of_it(rng, f, dtype):
    x = rng.random((3, 2)).astype(dtype)
    value = lambda c: ops.sum(f(Tensor(x, requires_grad=True), c))
    assert value(0.25).dtype == dtype
    for number in (0, 0.25, np.float32(0.25)):
        array = np.full_like(x, number)
        np.testing.assert_allclose(value(number).data, value(array).data, rtol=8 * np.finfo(dtype).eps)
        got, want = (grad(lambda x: ops.sum(f(x, c)))(x) for c in (number, array))
        assert got.dtype == dtype
        np.testing.assert_allclose(got, want, rtol=8 * np.finfo(dtype).eps)


# Bad input

@pytest.mark.parametrize("labels, message", [([0, 3], r"\[0, 3\), got 0 to 3"), ([-1, 0], r"\[0, 3\), got -1 to 0"),
                                             ([0.0, 1.0], "integers.*float64"), ([0], r"shape \(2,\).*\(1,\)"),
                                             ([[0], [1]], r"shape \(2,\)"), ([True, False], "integers.*bool")])
def test_labels_that_are_none_are_refused(labels, message):
    with pytest.raises(ValueError, match=message):
        losses.softmax_cross_entropy(Tensor(np.zeros((2, 3)), requires_grad=True), labels)


def test_an_activation_that_linear_does_not_fuse_is_refused_with_the_choices():
    with pytest.raises(ValueError, match="relu.*tanh.*sigmoid.*swish|swish.*relu.*tanh.*sigmoid"):
        linear(np.ones((2, 3)), np.ones((3, 2)), None, activation="swish")


@pytest.mark.parametrize("x, w, b", [((2, 3), (4, 2), (2,)), ((2, 3), (3, 2), (3,)), ((2, 3), (2, 3, 2), (2,)),
                                     ((2, 3), (3, 2), (2, 2))], ids=str)
def test_linear_refuses_shapes_that_it_cannot_differentiate(x, w, b):
    with pytest.raises(ValueError):
        linear(*[Tensor(np.ones(shape), requires_grad=True) for shape in (x, w, b)])


@pytest.mark.parametrize("f", [losses.bernoulli_nll, losses.gaussian_kl], ids=lambda f: f.__name__)
def test_shapes_that_do_not_broadcast_are_refused(f):
    with pytest.raises(ValueError, match="broadcast"):
        f(Tensor(np.ones((5, 3))), Tensor(np.ones((5, 2))))
