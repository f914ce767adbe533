"""The total correlation against quadrature, Gaussians and enumeration; its op against the plain composition."""
from itertools import permutations

import numpy as np
import pytest

from autograd import Tensor, grad, hessian
from minivae.distributions import Normal
from minivae.vae import VAE, BetaTCVAE
from minivae.vae.beta_tcvae import _composed, log_weights, total_correlation
from minivae.vae.gaps import surgery

from .test_distributions import z_score

KINDS = pytest.mark.parametrize("kind", ["stratified", "weighted"])
N = 10 ** 6
RHO = 0.6
GAUSSIAN = -0.5 * np.log(1 - RHO ** 2)       # the total correlation of two standard normals with that correlation


def codes(rng, M=7, d=3, spread=1.0, logvar=-1.0):
    """z, mu and logvar, (M, d), with z ~ N(mu, exp(logvar))."""
    q = Normal(spread * rng.standard_normal((M, d)), 0.5 * rng.standard_normal((M, d)) + logvar)
    return q.sample(rng), q.mu, q.logvar


def estimates(rng, kind, M, variance, repeats=200):
    """Of batches of M from a data set whose aggregate posterior is a Gaussian with correlation RHO."""
    root, found = np.linalg.cholesky([[1 - variance, RHO], [RHO, 1 - variance]]), []
    for _ in range(repeats):
        q = Normal(rng.standard_normal((M, 2)) @ root.T, np.full((M, 2), np.log(variance)))
        found.append(total_correlation(q.sample(rng), q.mu, q.logvar, log_weights(M, N, kind)))
    return np.array(found)


# The weights

@pytest.mark.equation("tc.weights", "W_ii = 1/N, rows of the stratified weights sum to 1", bound=1e-10)
@pytest.mark.parametrize("M, N", [(2, 2), (2, 9), (5, 5), (5, 6), (7, 60_000)])
def test_stratified_weights_have_one_over_n_on_the_diagonal_and_rows_that_sum_to_one(measure, M, N):
    W = np.exp(log_weights(M, N, "stratified"))
    measure(N * np.diag(W) - 1)
    measure(W.sum(axis=1) - 1)
    if M > 2:                                                      # each m is the odd one out of one row
        measure(W.sum(axis=0) - 1)


def test_one_over_n_stands_on_the_diagonal_and_not_in_a_column():
    W = np.exp(log_weights(6, 1000, "stratified"))
    np.testing.assert_array_equal(np.isclose(W, 1 / 1000), np.eye(6, dtype=bool))
    np.testing.assert_array_equal(np.isclose(W, 995 / 5000).sum(axis=1), 1)


@pytest.mark.equation("tc.weights", "over the draw of the others: E qhat(z_i) = q(z_i), stratified; ((M - 1) q(z_i) "
                      "+ (N - M) q(z_i|x_i)/N) / (M (N - 1)), weighted", bound=1e-10)
@KINDS
@pytest.mark.parametrize("M", [2, 3, 5])
def test_the_mean_of_the_estimated_density_over_all_batches_is_known(measure, rng, kind, M):
    N, q = 5, rng.random(5)                                        # q(z_0 | x_n)
    row = np.exp(log_weights(M, N, kind))[0]
    mean = np.mean([row @ q[[0, *others]] for others in permutations(range(1, N), M - 1)])
    weighted = ((M - 1) * q.mean() + (N - M) * q[0] / N) / (M * (N - 1))
    measure(mean - (q.mean() if kind == "stratified" else weighted))


# The estimator

@pytest.mark.equation("tc.estimator", "TC = E ln q(z) - sum_j ln q(z_j) of a mixture of all N, W = 1/N", bound=5,
                      kind="S")
def test_with_all_examples_in_the_batch_the_estimator_is_unbiased(measure, rng):
    q = Normal(rng.standard_normal((6, 2)), 0.3 * rng.standard_normal((6, 2)) - 1)
    truth = surgery(q).total_correlation
    draws = np.array([total_correlation(q.sample(rng), q.mu, q.logvar, -np.log(6)) for _ in range(5000)])
    measure(z_score(draws, truth))
    assert truth > 20 * draws.std() / len(draws) ** 0.5


@pytest.mark.equation("tc.objective", "E loss - VAE's loss = (beta - 1) TC, by weighted at M = N plus (d - 1) ln N",
                      bound=5, kind="S")
def test_the_penalty_of_all_the_data_is_the_total_correlation_of_the_mixture(measure, rng):
    model = BetaTCVAE(5, data_size=6, latent_dim=2, beta=3, weights="weighted", rng=rng)
    q = Normal(rng.standard_normal((6, 2)), 0.3 * rng.standard_normal((6, 2)) - 1)
    draws = np.array([model.penalty(q, q.sample(rng), 0.0) for _ in range(5000)])
    measure(z_score(draws, 2 * (surgery(q).total_correlation + np.log(6))))


@pytest.mark.equation("tc.estimator", "TC = -1/2 ln(1 - rho^2) of a Gaussian aggregate posterior", bound=5, kind="S")
def test_wide_posteriors_give_the_total_correlation_of_a_gaussian(measure, rng):
    measure(z_score(estimates(rng, "stratified", 256, 0.3), GAUSSIAN))
    measure(z_score(estimates(rng, "weighted", 256, 0.3) - np.log(N), GAUSSIAN))


@pytest.mark.equation("tc.estimator", "narrow posteriors: (5) is biased down, (4) up, and at four times the batch less",
                      bound=0.5, kind="S")
def test_narrow_posteriors_bias_stratified_down_and_weighted_up_and_larger_batches_less(measure, rng):
    for kind, sign, extra in (("stratified", -1, 0), ("weighted", 1, np.log(N))):
        small, large = (estimates(rng, kind, M, 0.05) - extra for M in (32, 128))
        assert sign * z_score(small, GAUSSIAN) > 5 and sign * z_score(large, GAUSSIAN) > 5
        measure((large.mean() - GAUSSIAN) / (small.mean() - GAUSSIAN))


def test_one_latent_has_no_total_correlation(rng):
    np.testing.assert_allclose(total_correlation(*codes(rng, d=1), log_weights(7, 20, "stratified")), 0, atol=1e-12)


# The op

@pytest.mark.equation("tc.estimator", "the op is ln sum_m W_im q(z_i|x_m) composed: value, gradient, Hessian",
                      bound=1e-10)
@KINDS
@pytest.mark.parametrize("spread, logvar", [(1, -1), (30, -6)])
def test_the_op_is_its_twin(measure, rng, kind, spread, logvar):
    args, log_W = codes(rng, spread=spread, logvar=logvar), log_weights(7, 20, kind)
    of = [lambda z, mu, logvar, f=f: f(z, mu, logvar, log_W) for f in (total_correlation, _composed)]
    results = [[f(*args), *grad(f, (0, 1, 2))(*args), *[hessian(f, k)(*args) for k in range(3)]] for f in of]
    for a, b in zip(*results):
        measure((a - b) / max(1.0, np.max(np.abs(b))))


@pytest.mark.parametrize("spread, logvar", [(1, -1), (30, -6)])
@pytest.mark.parametrize("M, d", [(37, 10), (64, 3)])
def test_the_op_in_float32_is_its_twin_in_float64(rng, M, d, spread, logvar):
    args = [x.astype(np.float32) for x in codes(rng, M, d, spread, logvar)]
    log_W, results = log_weights(M, 50_000, "stratified"), []
    for f, dtype in ((total_correlation, np.float32), (_composed, np.float64)):
        xs = [Tensor(x, requires_grad=True, dtype=dtype) for x in args]
        y = f(*xs, log_W)
        y.backward()
        results.append([y.data, *[x.grad for x in xs]])
    for k, (a, b) in enumerate(zip(*results)):
        assert a.dtype == np.float32
        scale = np.max(np.abs(b)) if k else 1.0                    # of nats, whose difference may be near 0
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5 * scale)


def test_a_nan_among_the_codes_stays_one(rng):
    for dtype in (np.float32, np.float64):
        args = [x.astype(dtype) for x in codes(rng)]
        args[0][3, 1] = np.nan
        assert np.isnan(total_correlation(*args, log_weights(7, 20, "stratified")))


@pytest.mark.parametrize("shapes", [[(4, 3), (4, 3), (4, 2)], [(4, 3), (5, 3), (5, 3)], [(4,), (4,), (4,)]], ids=str)
def test_codes_of_different_shapes_are_refused(shapes):
    with pytest.raises(ValueError, match=r"one shape \(M, d\)"):
        total_correlation(*[np.zeros(shape) for shape in shapes], 0.0)


# The model

def pair(**options):
    """A VAE and a BetaTCVAE with the same weights, and a batch."""
    rng = np.random.default_rng
    sizes = {"latent_dim": 3, "hidden": (8,)}
    return (VAE(6, **sizes, rng=rng(1)), BetaTCVAE(6, data_size=50, **sizes, **options, rng=rng(1)),
            (rng(2).random((9, 6)) < 0.5).astype(np.float32))


@pytest.mark.equation("tc.objective", "loss - VAE's loss = (beta - 1) (ln qhat(z_i) - sum_j ln qhat(z_ij)), averaged",
                      bound=1e-10)
@KINDS
def test_the_loss_is_the_vaes_with_the_total_correlation_weighed_once_more(measure, kind):
    vae, model, x = pair(beta=5, weights=kind)
    vae, model, x = vae.astype(np.float64), model.astype(np.float64), x.astype(np.float64)
    q = vae.encode(x)
    z = q.sample(np.random.default_rng(3))
    density = np.stack([np.exp(Normal(q.mu.data[:, j:j + 1], q.logvar.data[:, j:j + 1]).log_prob(z[:, None, j:j + 1]))
                        for j in range(3)], axis=-1)               # q(z_ij | x_m), (M, M, d)
    W = np.exp(log_weights(9, 50, kind))
    tc = np.mean(np.log((W * density.prod(-1)).sum(1)) - np.log((W[..., None] * density).sum(1)).sum(-1))
    ours, theirs = (m.loss(x, np.random.default_rng(3)) for m in (model, vae))
    measure(ours[0].item() - theirs[0].item() - 4 * tc)
    assert ours[1] == theirs[1]                                    # what is reported is not weighed


def test_beta_1_leaves_the_loss_of_the_vae_and_its_gradient():
    vae, model, x = pair(beta=1)
    for m in (vae, model):
        loss, _ = m.loss(x, np.random.default_rng(3))
        loss.backward()
        m.result = loss.item(), [p.grad for p in m.parameters()]
    assert vae.result[0] == model.result[0]
    for a, b in zip(vae.result[1], model.result[1]):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("options, message", [
    ({"beta": -1}, "beta must be a number >= 0, not -1"), ({"beta": np.nan}, "beta must be a number >= 0"),
    ({"weights": "minibatch"}, "'stratified', 'weighted', not 'minibatch'"),
    ({"data_size": 1}, "data_size, how many training examples there are, must be an integer >= 2, not 1"),
    ({"data_size": 1e5}, "not 100000.0"), ({"data_size": True}, "not True")])
def test_bad_options_are_refused(rng, options, message):
    with pytest.raises(ValueError, match=message):
        BetaTCVAE(6, **{"data_size": 50, **options}, rng=rng)


def test_a_batch_larger_than_the_data_is_refused(rng):
    model = BetaTCVAE(6, data_size=8, latent_dim=2, hidden=(4,), rng=rng)
    with pytest.raises(ValueError, match="2 to data_size = 8 examples to estimate, not 9"):
        model.loss(np.zeros((9, 6), np.float32), rng)


def test_a_last_batch_of_one_example_is_no_trouble_and_pays_no_total_correlation():
    rng = np.random.default_rng(0)
    model = BetaTCVAE(6, data_size=9, beta=7.0, latent_dim=2, hidden=(5,), rng=rng)
    loss, terms = model.loss(rng.random((1, 6), np.float32), rng)
    assert loss.item() == pytest.approx(-terms["elbo"], rel=1e-5)
