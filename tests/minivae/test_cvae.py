"""The conditional VAE against linear-Gaussian models, where every term has a closed form, and against the VAE."""
import contextlib
import io

import numpy as np
import pytest
from scipy import stats

from autograd import Tensor, gradcheck, optim
from minivae.data import Batches
from minivae.distributions import Normal
from minivae.train import fit
from minivae.vae import CVAE, VAE, FeedForward

from .test_distributions import z_score
from .test_vae import check_gradients

D, C, d, s2 = 5, 3, 2, np.exp(-0.5)          # widths of x, y and z, and the noise of x


class Nodes(np.random.Generator):
    """A generator whose normal draws are all `node`: the mean over `cubature` nodes of a quadratic is exact."""

    def __init__(self, node):
        super().__init__(np.random.PCG64())
        self.node = node

    def standard_normal(self, shape, dtype):
        return np.broadcast_to(self.node, shape).astype(dtype)


def cubature(covariance):
    """Points (2 n, n) whose plain average, of any quadratic, is its mean under N(0, covariance)."""
    n = len(covariance)
    points = n ** 0.5 * np.linalg.cholesky(covariance).T
    return np.concatenate([points, -points])


def mean_elbo(model, x, y):
    """The ELBO (B,) of a model with a linear decoder, without the noise of sampling z."""
    return np.mean([model.elbo(x, y, Nodes(node)).value.data for node in cubature(np.eye(d))], axis=0)


def linear(rng, correlated=True, **options):
    """A linear CVAE and its parts: x = z W + y V + b + noise, z | y ~ N(y A + a, diag v)."""
    model = CVAE(D, C, d, (), likelihood="gaussian", variance=s2, rng=rng, **options).astype(np.float64)
    decoder = model.decoder.layers[0]
    if not correlated:                       # orthogonal rows of W give a posterior of which q is capable
        decoder.w.assign(np.concatenate([np.linalg.qr(rng.standard_normal((D, d)))[0].T * [[1.5], [0.8]],
                                         decoder.w.data[d:]]))
    W, V = decoder.w.data[:d], decoder.w.data[d:]
    if model.prior_net is None:
        return model, W, V, decoder.b.data, np.zeros((C, d)), np.zeros(d), np.ones(d)
    w, b = model.prior_net.layers[0].parameters()
    w.assign(np.concatenate([rng.standard_normal((C, d)), np.zeros((C, d))], axis=1))
    b.assign(0.5 * rng.standard_normal(2 * d))
    return model, W, V, decoder.b.data, w.data[:, :d], b.data[:d], np.exp(b.data[d:])


def exact_posterior(model, W, V, b, A, a, v):
    """Make q(z | x, y) the posterior of a model with orthogonal rows of W; returns its map of x and y, and variance."""
    P = 1 / (1 / v + np.sum(W * W, axis=1) / s2)
    of_x, of_y = W.T / s2 * P, (A / v - V @ W.T / s2) * P
    w, bias = model.encoder.layers[0].parameters()
    w.assign(np.concatenate([np.concatenate([of_x, of_y]), np.zeros((D + C, d))], axis=1))
    bias.assign(np.concatenate([(a / v - b @ W.T / s2) * P, np.log(P)]))
    return of_x, of_y, P


def joint(W, V, b, A, a, v, Sy):
    """Mean and covariance of (x, y) for y ~ N(0, Sy)."""
    of_y = A @ W + V
    Sx = W.T @ np.diag(v) @ W + s2 * np.eye(D)
    return np.concatenate([a @ W + b, np.zeros(C)]), np.block([[of_y.T @ Sy @ of_y + Sx, of_y.T @ Sy],
                                                              [Sy @ of_y, Sy]]), Sx


@pytest.mark.equation("cvae.elbo", "ln p(x|y) - KL(q(z|x,y) || p(z|x,y)) = E_q ln p(x|z,y) - KL(q(z|x,y) || p(z|y))",
                      bound=1e-10)
@pytest.mark.parametrize("kl", ["analytic", "monte-carlo"])
@pytest.mark.parametrize("prior", ["learned", "standard"])
def test_the_elbo_is_the_conditional_evidence_less_the_kl_to_the_posterior(measure, rng, kl, prior):
    model, W, V, b, A, a, v = linear(rng, kl=kl, prior=prior)
    x, y = 2 * rng.standard_normal((6, D)), rng.standard_normal((6, C))
    precision = np.diag(1 / v) + W @ W.T / s2
    mean = ((y @ A + a) / v + (x - y @ V - b) @ W.T / s2) @ np.linalg.inv(precision)
    q = model.encode(x, y)
    variance, off = np.exp(q.logvar.data), q.mu.data - mean
    kl = 0.5 * (variance @ np.diag(precision) + np.einsum("ni,ij,nj->n", off, precision, off) - d
                - np.linalg.slogdet(precision)[1] - q.logvar.data.sum(axis=1))
    noise = stats.multivariate_normal(cov=W.T @ np.diag(v) @ W + s2 * np.eye(D))
    evidence = noise.logpdf(x - y @ V - b - (y @ A + a) @ W)
    assert kl.min() > 0.1
    measure(mean_elbo(model, x, y) / (evidence - kl) - 1)


@pytest.mark.equation("cvae.information", "E ln p(x|y) - ln p(x) = 1/2 ln |Sx| / |Sx|y|", bound=1e-10)
def test_the_condition_is_worth_its_mutual_information(measure, rng):
    model, *parts = linear(rng, correlated=False)
    exact_posterior(model, *parts)           # so that the ELBO is ln p(x | y)
    Sy = np.cov(rng.standard_normal((C, 9)))
    mean, S, Sx_given_y = joint(*parts, Sy)
    points = mean + cubature(S)
    x, y = points[:, :D], points[:, D:]
    worth = mean_elbo(model, x, y) - stats.multivariate_normal(mean[:D], S[:D, :D]).logpdf(x)
    information = 0.5 * (np.linalg.slogdet(S[:D, :D])[1] - np.linalg.slogdet(Sx_given_y)[1])
    assert information > 0.5
    measure(worth.mean() / information - 1)


@pytest.mark.equation("cvae.cost", "q without y costs 1/2 sum_j (B' Var(y|x) B)_jj / P_jj, E[z|x,y] = x A + y B + c",
                      bound=1e-10)
def test_an_encoder_that_cannot_see_y_costs_what_y_says_of_z_beyond_x(measure, rng):
    model, *parts = linear(rng, correlated=False)
    of_x, of_y, P = exact_posterior(model, *parts)
    mean, S, _ = joint(*parts, np.cov(rng.standard_normal((C, 9))))
    points = mean + cubature(S)
    x, y = points[:, :D], points[:, D:]
    best = mean_elbo(model, x, y).mean()
    guess = np.linalg.solve(S[:D, :D], S[:D, D:])                  # E[y | x] = (x − its mean) guess
    left = S[D:, D:] - S[D:, :D] @ guess
    cost = 0.5 * np.sum(np.diag(of_y.T @ left @ of_y) / P)
    w, bias = model.encoder.layers[0].parameters()
    w.data[D:] = 0
    w.data[:D, :d] = of_x + guess @ of_y
    bias.data[:d] -= mean[:D] @ guess @ of_y
    assert cost > 0.1
    measure((best - mean_elbo(model, x, y).mean()) / cost - 1)
    for node in cubature(np.eye(d)):                               # and no encoder of x alone costs less
        model.elbo(x, y, Nodes(node)).value.mean().backward()
    measure(w.grad[:D])
    measure(bias.grad)


@pytest.mark.equation("cvae.cost", "a prior without y costs E KL(p(z|y) || p(z)) = 1/2 sum_j ln (1 + Var m_j(y) / v_j)",
                      bound=1e-10)
def test_a_prior_that_cannot_see_y_costs_what_y_says_of_z(measure, rng):
    model, *parts = linear(rng, correlated=False)
    exact_posterior(model, *parts)
    *_, A, a, v = parts
    Sy = np.cov(rng.standard_normal((C, 9)))
    mean, S, _ = joint(*parts, Sy)
    points = mean + cubature(S)
    x, y = points[:, :D], points[:, D:]
    best = mean_elbo(model, x, y).mean()
    spread = np.diag(A.T @ Sy @ A)
    cost = 0.5 * np.sum(np.log1p(spread / v))
    w, bias = model.prior_net.layers[0].parameters()
    w.assign(np.zeros(w.shape))
    bias.assign(np.concatenate([a, np.log(v + spread)]))
    measure((best - mean_elbo(model, x, y).mean()) / cost - 1)
    for node in cubature(np.eye(d)):                               # and no prior without y costs less
        model.elbo(x, y, Nodes(node)).value.mean().backward()
    measure(bias.grad)


@pytest.mark.equation("cvae.vae", "weights of 0 on y: each term of the VAE, and its gradients", bound=1e-10)
@pytest.mark.parametrize("options", [{}, {"kl": "monte-carlo"}, {"free_bits": 0.1},
                                     {"likelihood": "gaussian", "variance": "learned"}])
@pytest.mark.parametrize("prior", ["learned", "standard"])
def test_without_weights_on_y_it_is_the_vae_term_by_term(measure, rng, prior, options):
    vae = VAE(6, 2, (8,), rng=rng, **options).astype(np.float64)
    cvae = CVAE(6, 3, 2, (8,), prior=prior, rng=rng, **options).astype(np.float64)
    for mine, its in zip((cvae.encoder, cvae.decoder), (vae.encoder, vae.decoder)):
        for p, q in zip(mine.parameters(), its.parameters()):
            p.assign(np.zeros(p.shape))
            p.data[:len(q)] = q.data
    x, y = (rng.random((5, 6)) < 0.5).astype(float), rng.integers(0, 3, 5)
    one, two = cvae.elbo(x, y, np.random.default_rng(1)), vae.elbo(x, np.random.default_rng(1))
    measure(one.recon.data / two.recon.data - 1)
    measure(one.kl.data / two.kl.data - 1)
    (a, terms), (b, others) = (m.loss(v, np.random.default_rng(1)) for m, v in ((cvae, (x, y)), (vae, x)))
    measure(a.item() / b.item() - 1)
    assert terms == pytest.approx(others, rel=1e-12)
    a.backward()
    b.backward()
    for p, q in zip(cvae.encoder.parameters() + cvae.decoder.parameters(), vae.parameters()):
        measure(p.grad[:len(q)] - q.grad)
    measure(cvae.log_likelihood(x, y, 7, np.random.default_rng(2))
            / vae.log_likelihood(x, 7, np.random.default_rng(2)) - 1)
    measure(cvae.reconstruct(x, y) - vae.reconstruct(x))
    measure(cvae.sample(y, np.random.default_rng(3)) - vae.sample(5, np.random.default_rng(3)))


@pytest.mark.equation("cvae.log-likelihood", "E 1/k sum w_i = p(x|y), w = p(x|z,y) p(z|y) / q(z|x,y)", bound=5,
                      kind="S")
@pytest.mark.parametrize("k", [1, 5, 700])
def test_importance_weights_average_to_the_exact_conditional_evidence(measure, rng, k):
    model, W, V, b, A, a, v = linear(rng)
    x, y = rng.standard_normal((1, D)), rng.standard_normal((1, C))
    model.encoder.layers[0].w.data[:, d:] = 0
    model.encoder.layers[0].b.data[d:] = 2.0                       # q wider than the posterior: bounded weights
    noise = stats.multivariate_normal(cov=W.T @ np.diag(v) @ W + s2 * np.eye(D))
    exact = noise.logpdf(x - y @ V - b - (y @ A + a) @ W)
    n = 4000 if k < 700 else 40
    estimates = model.log_likelihood(np.repeat(x, n, axis=0), np.repeat(y, n, axis=0), k, rng)
    measure(z_score(np.exp(estimates - exact), 1.0))


@pytest.mark.equation("cvae.elbo", "x|y ~ N(m(y) W + y V + b, W' diag(v) W + s^2 I), by sampling", bound=5, kind="S")
def test_samples_have_the_conditional_mean_and_covariance(measure, rng):
    model, W, V, b, A, a, v = linear(rng)
    y = rng.standard_normal(C)
    x = model.sample(np.tile(y, (50_000, 1)), rng, noise=True) - (y @ V + b + (y @ A + a) @ W)
    measure(z_score(x, 0.0))
    measure(z_score(x[:, :, None] * x[:, None], W.T @ np.diag(v) @ W + s2 * np.eye(D)))


def test_samples_are_means_unless_noise_is_asked_for_one_for_each_label(rng):
    model = CVAE(6, 3, 2, (8,), rng=rng)
    means, draws = (model.sample(np.array([2, 0, 2, 1]), np.random.default_rng(0), noise=n) for n in (False, True))
    assert means.shape == draws.shape == (4, 6) and means.dtype == draws.dtype == np.float32
    assert set(np.unique(draws)) == {0, 1} and ((means > 0) & (means < 1)).all()


@pytest.mark.parametrize("options", [{}, {"prior": "standard"}, {"kl": "monte-carlo"}, {"free_bits": 0.2},
                                     {"prior_hidden": (4,), "likelihood": "gaussian", "variance": "learned"}])
@pytest.mark.parametrize("labels", [True, False])
def test_gradients_of_the_loss_pass_finite_differences(rng, options, labels):
    model = CVAE(6, 3, 2, (8,), activation="tanh", rng=rng, **options).astype(np.float64)
    for p in model.parameters():
        p.assign(p.data + 0.3 * rng.standard_normal(p.shape))
    x = (rng.random((5, 6)) < 0.5).astype(float)
    y = rng.integers(0, 3, 5) if labels else rng.standard_normal((5, 3))
    check_gradients(model, (x, y))


def test_the_elbo_is_differentiable_in_data_and_condition(rng):
    model = CVAE(6, 3, 2, (8,), activation="tanh", rng=rng).astype(np.float64)
    x, y = 0.1 + 0.8 * rng.random((4, 6)), rng.standard_normal((4, 3))
    gradcheck(lambda x, y: model.elbo(x, y, np.random.default_rng(0)).value, x, y)


def test_free_bits_are_of_the_kl_to_the_prior_given_y(rng):
    model = CVAE(6, 3, 2, (8,), free_bits=4.0, rng=rng).astype(np.float64)
    w = model.prior_net.layers[0].w
    w.assign(rng.standard_normal(w.shape))
    x, y = (rng.random((9, 6)) < 0.5).astype(float), rng.integers(0, 3, 9)
    loss, terms = model.loss((x, y), np.random.default_rng(0))
    kl = model.encode(x, y).kl_terms(model.prior(y)).data.mean(axis=0)
    np.testing.assert_allclose(terms["kl"], kl.sum(), rtol=1e-12)
    np.testing.assert_allclose(loss.item() + terms["recon"], np.maximum(kl, 4.0).sum(), rtol=1e-12)
    assert kl.min() < 4.0 < kl.max()


PATTERNS = np.eye(3, dtype=np.uint8).repeat(4, axis=1)             # a block of four pixels for each label


def data(n=96):
    """Images of 12 pixels: the pattern of their label, or its negative."""
    rng = np.random.default_rng(1)
    y = rng.integers(0, 3, n)
    return 255 * (PATTERNS[y] ^ rng.integers(0, 2, (n, 1), np.uint8)), y


def setup(cls=CVAE, seed=0, **options):
    rng = np.random.default_rng(seed)
    x, y = data()
    model = cls(12, 3, 2, (16,), rng=rng, **options)
    return dict(model=model, batches=Batches(x, 32, labels=y), optimizer=optim.Adam(model.parameters(), 0.02), rng=rng)


@pytest.mark.parametrize("prior", ["learned", "standard"])
def test_training_leaves_to_the_latents_only_what_the_label_does_not_say(prior):
    run = setup(prior=prior)
    rows = fit(**run, epochs=150)
    model, rng = run["model"], run["rng"]
    assert rows[0]["elbo"] < -7 and np.mean([row["elbo"] for row in rows[-9:]]) > -1.6     # −ln 6 at best without y
    y = np.repeat(np.arange(3), 100)
    x = model.sample(y, rng).round().astype(int)
    same, negative = (x == PATTERNS[y]).all(axis=1), (x == 1 - PATTERNS[y]).all(axis=1)
    assert (same | negative).mean() > 0.9 and 0.3 < same.mean() < 0.7
    images, labels = data()
    x = (images / np.float32(255)).astype(np.float32)
    right, wrong = (model.log_likelihood(x, c, 50, rng).mean() for c in (labels, (labels + 1) % 3))
    assert wrong < right - 3


class Stop(CVAE):
    """A CVAE that is interrupted at its fifth step."""

    def on_step(self, t):
        super().on_step(t)
        if t == 5:
            raise InterruptedError


def test_a_resumed_run_ends_like_one_that_never_stopped(tmp_path):
    whole, stopped, resumed = setup(), setup(Stop), setup(seed=9)
    fit(**whole, epochs=3)
    with pytest.raises(InterruptedError):
        fit(**stopped, epochs=3, checkpoint=tmp_path / "run.npz", every=0)
    fit(**resumed, epochs=3, checkpoint=tmp_path / "run.npz", resume=True)
    a, b = whole["model"].state(), resumed["model"].state()
    assert set(a) == set(b) and all(np.array_equal(a[k], b[k]) for k in a)


def test_the_contract(rng):
    model = CVAE(784, condition_dim=10, latent_dim=20, hidden=(400,), rng=rng)
    x, y = rng.random((16, 784), np.float32), rng.integers(0, 10, 16)
    before = x.copy(), y.copy()
    loss, terms = model.loss((x, y), rng)
    loss.backward()
    assert isinstance(loss, Tensor) and loss.shape == () and set(terms) == {"elbo", "recon", "kl"}
    assert all(p.grad.dtype == np.float32 and p.grad.shape == p.shape for p in model.parameters())
    assert model.sample(y, rng).shape == model.reconstruct(x, y).shape == (16, 784)
    assert model.log_likelihood(x, y, 10, rng).shape == (16,)
    assert (x == before[0]).all() and (y == before[1]).all()
    assert repr(model).startswith("CVAE(784 given 10 -> 20, bernoulli)")


def test_labels_are_one_hot_vectors_and_the_prior_starts_at_the_standard_normal(rng):
    model, y = CVAE(6, 3, 2, (8,), rng=rng), np.array([2, 0, 1])
    for one_hot in (np.eye(3)[y], np.eye(3, dtype=np.float32)[y], np.eye(3, dtype=int)[y], np.eye(3, dtype=bool)[y]):
        np.testing.assert_array_equal(model.condition(y), model.condition(one_hot))
        assert model.condition(one_hot).dtype == np.float32
    p = model.prior(y)
    assert isinstance(p, Normal) and p.shape == (3, 2) and not p.mu.data.any() and not p.logvar.data.any()


@pytest.mark.parametrize("y, message", [
    (np.array([0, 3]), r"labels must be in \[0, 3\), got 0 to 3"), (np.array([-1, 2]), "got -1 to 2"),
    (np.array([0.0, 1.0]), r"integer labels .* or numbers \(batch, 3\), not float64 of shape \(2,\)"),
    (np.array([True, False]), "not bool"), (np.array([[0], [1]]), r"not int64 of shape \(2, 1\)"),
    (np.eye(10)[:2], r"numbers \(batch, 3\), not float64 of shape \(2, 10\)"), (np.array(["a", "b"]), "not <U1"),
    (np.eye(3)[:2] * 1j, "not complex128"), (np.array([0, 1, 2]), "one y for each x or z: 3 for 2"),
    (np.array([0]), "1 for 2"), (np.array([[0, 1, np.nan], [0, 0, 1]]), "y must be finite"),
    (np.array([[0, 1, 0], [np.inf, 0, 1]]), "y must be finite"),
    (np.full((2, 3), 1e300), "finite, in float32"), (None, "not object"), (1, r"shape \(\)")])
@pytest.mark.filterwarnings("ignore:overflow encountered in cast")
def test_bad_conditions_are_refused(rng, y, message):
    model, x = CVAE(6, 3, 2, (4,), rng=rng), np.zeros((2, 6), np.float32)
    for call in (lambda: model.loss((x, y), rng), lambda: model.encode(x, y), lambda: model.reconstruct(x, y),
                 lambda: model.log_likelihood(x, y, 2, rng), lambda: model.decode(np.zeros((2, 2), np.float32), y)):
        with pytest.raises(ValueError, match=message):
            call()
    if "for 2" not in message:                                     # of any length where there is no x
        for call in (lambda: model.sample(y, rng), lambda: model.prior(y)):
            with pytest.raises(ValueError, match=message):
                call()


def test_a_y_too_many_is_refused_however_the_likelihood_is_cut_up(rng):
    model = CVAE(6, 3, 2, (4,), rng=rng)
    with pytest.raises(ValueError, match="1030 for 1024"):
        model.log_likelihood(np.zeros((1024, 6), np.float32), np.zeros(1030, int), 2, rng)


def test_a_batch_without_labels_is_refused(rng):
    model, x = CVAE(6, 3, 2, (4,), rng=rng), np.zeros((2, 6), np.float32)
    for batch in (x, (x,), (x, x, x), {"x": x}):
        with pytest.raises(ValueError, match=r"a batch of CVAE is a pair \(x, y\)"):
            model.loss(batch, rng)


@pytest.mark.parametrize("options, message", [
    ({"condition_dim": 0}, "condition_dim must be a positive integer, not 0"),
    ({"condition_dim": 2.0}, "condition_dim .* not 2.0"),
    ({"prior": "flat"}, "prior must be one of 'learned', 'standard', not 'flat'"),
    ({"prior_hidden": 4}, "prior_hidden must be a tuple .* not 4"),
    ({"prior_hidden": (0,)}, "a width in prior_hidden"), ({"latent_dim": 0}, "latent_dim")])
def test_bad_options_are_refused(rng, options, message):
    with pytest.raises(ValueError, match=message):
        CVAE(6, **{"condition_dim": 3} | options, rng=rng)


# Without latents ---------------------------------------------------------------------------------------------------
@pytest.mark.equation("cvae.baseline", "ln p(x|y) = sum_j ln Bernoulli(x_j; sigma(f(y)_j)), pixels independent",
                      bound=1e-10)
def test_a_network_without_latents_scores_each_pixel_by_itself(measure, rng):
    model = FeedForward(5, 3, (7,), rng=rng).astype(np.float64)
    x, y = (rng.random((4, 5)) < 0.5).astype(float), rng.standard_normal((4, 3))
    p = 1 / (1 + np.exp(-model.net(y).data))
    measure(model.predict(y).log_prob(x).data - stats.bernoulli(p).logpmf(x.astype(int)).sum(axis=1))
    loss, terms = model.loss((x, y), rng)
    assert loss.item() == terms["nll"] == pytest.approx(-model.predict(y).log_prob(x).data.mean())


def test_latents_pay_where_there_are_two_ways_to_go_on(rng):
    """x is four equal bits, whatever y: independent pixels cost 4 ln 2, a latent variable ln 2 and its own price."""
    x = np.repeat(rng.integers(0, 2, (512, 1)), 4, axis=1).astype(np.float32)
    y = rng.random((512, 2), np.float32)
    models = CVAE(4, 2, 1, (16,), rng=rng), FeedForward(4, 2, (16,), rng=rng)
    for model in models:
        with contextlib.redirect_stdout(io.StringIO()):
            fit(model, Batches(x, 64, labels=y), epochs=40, optimizer=optim.Adam(model.parameters(), 0.01), rng=rng)
    cvae = -models[0].log_likelihood(x, y, 50, rng).mean()
    plain = models[1].loss((x, y), rng)[1]["nll"]
    assert plain == pytest.approx(4 * np.log(2), rel=0.05) and cvae < plain - 1


@pytest.mark.parametrize("batch, message", [
    ((np.zeros((8, 1)), np.zeros((8, 3))), r"x must have shape \(8, 5\), not \(8, 1\)"),
    ((np.zeros((1, 5)), np.zeros((8, 3))), r"x must have shape \(8, 5\), not \(1, 5\)"),
    ((np.full((2, 5), 2.0), np.zeros((2, 3))), "x must be in"), (np.zeros((2, 5)), "a pair"),
    ((np.full((2, 5), np.nan), np.zeros((2, 3))), "x must be finite"),
    ((np.zeros((2, 5)), np.full((2, 3), np.inf)), "y must be finite"),
    ((np.zeros((2, 5)), np.zeros(2, int)), r"y must have shape \(any, 3\), not \(2,\)")])
def test_a_network_without_latents_refuses_what_it_cannot_use(rng, batch, message):
    with pytest.raises(ValueError, match=message):
        FeedForward(5, 3, (7,), rng=rng).astype(np.float64).loss(batch, rng)


@pytest.mark.parametrize("sizes", [(0, 3, (7,)), (5, True, (7,)), (5, 3, 7), (5, 3, (0,))])
def test_a_network_of_no_size_is_refused(rng, sizes):
    with pytest.raises(ValueError, match="positive integer|a tuple"):
        FeedForward(*sizes, rng=rng)
