"""The IWAE: its loss and gradient by hand, the VAE as k = 1, and what a looser q is worth."""
import contextlib
import io

import numpy as np
import pytest
from scipy import special, stats

from autograd import Tensor, ops, optim
from minivae.data import Batches
from minivae.inference.importance import ESTIMATORS, iw_elbo, log_weights, model_log_joint
from minivae.train import fit
from minivae.vae import IWAE, VAE
from minivae.vae.gaps import exact_log_likelihood


def setup(rng, k, cls=IWAE, **options):
    """A model with posteriors far from Gaussian, so that weights differ, and five examples of six bits."""
    options = {"k": k, **options} if cls is IWAE else options
    model = cls(6, latent_dim=2, hidden=(8,), activation="tanh", rng=rng, **options).astype(np.float64)
    for p in model.decoder.parameters():
        p.assign(3 * p.data)
    return model, (rng.random((5, 6)) < 0.5).astype(float)


def gradients(model, value):
    for p in model.parameters():
        p.grad = None
    value.backward()
    return [p.grad for p in model.parameters()]


@pytest.mark.equation("iwae.objective", "loss = -mean over x of ln 1/k sum_i p(x|z_i) p(z_i) / q(z_i|x)", bound=1e-10)
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_the_loss_is_the_bound_computed_by_hand(measure, rng, estimator):
    model, x = setup(rng, 9, estimator=estimator)
    loss, terms = model.loss(x, np.random.default_rng(3))
    q, bound, elbo = model.encode(x), [], []
    mu, sigma = q.mu.data, np.exp(q.logvar.data / 2)
    z = mu + sigma * np.random.default_rng(3).standard_normal((9, 5, 2))
    for n in range(5):
        bit = special.expit(model.decode(z[:, n]).logits.data)
        log_p = stats.bernoulli(bit).logpmf(x[n]).sum(-1) + stats.norm.logpdf(z[:, n]).sum(-1)
        log_w = log_p - stats.norm(mu[n], sigma[n]).logpdf(z[:, n]).sum(-1)
        bound.append(special.logsumexp(log_w) - np.log(9))
        elbo.append(log_w.mean())
    measure(loss.data + np.mean(bound))
    measure(terms["bound"] - np.mean(bound))
    measure(terms["elbo"] - np.mean(elbo))
    assert terms["bound"] > terms["elbo"] + 0.1


@pytest.mark.equation("iwae.one", "k = 1: loss and gradient are the VAE's with a Monte Carlo KL", bound=1e-10)
def test_with_one_sample_it_is_the_vae(measure):
    found = []
    for cls, options in ((IWAE, {}), (VAE, {"kl": "monte-carlo"})):
        model, x = setup(np.random.default_rng(0), 1, cls, **options)
        loss, terms = model.loss(x, np.random.default_rng(4))
        found.append((loss.data, terms["elbo"], *gradients(model, loss)))
    for a, b in zip(*found):
        measure((a - b) / np.abs(b).max())


@pytest.mark.equation("iwae.gradient", "grad = -mean over x of sum_i what_i grad ln w_i, what held still", bound=1e-10)
def test_the_weights_of_the_gradient_are_detached(measure, rng):
    model, x = setup(rng, 7)
    found = gradients(model, model.loss(x, np.random.default_rng(1))[0])
    log_w = log_weights(model_log_joint(model, x), model.encode(x), 7, np.random.default_rng(1))
    still = special.softmax(log_w.data, axis=0)
    right = gradients(model, -ops.sum(still * log_w) / 5)
    log_w = log_weights(model_log_joint(model, x), model.encode(x), 7, np.random.default_rng(1))
    attached = gradients(model, -ops.sum(ops.softmax(log_w, axis=0) * log_w) / 5)
    for a, b in zip(found, right):
        measure((a - b) / np.abs(b).max())
    assert max(np.abs(a - b).max() for a, b in zip(found, attached)) > 0.01


@pytest.mark.equation("iwae.gradient", "the loss has the gradient of its estimator", bound=1e-10)
def test_the_estimator_is_the_one_that_was_asked_for(measure):
    encoders = {}
    for estimator in ESTIMATORS:
        model, x = setup(np.random.default_rng(0), 6, estimator=estimator)
        found = gradients(model, model.loss(x, np.random.default_rng(1))[0])
        truth = gradients(model, -iw_elbo(model, x, 6, np.random.default_rng(1), estimator).mean())
        for a, b in zip(found, truth):
            measure((a - b) / np.abs(b).max())
        encoders[estimator] = found[0]
    assert all(np.abs(encoders[a] - encoders[b]).max() > 1e-3 for a, b in (("iwae", "stl"), ("stl", "dreg")))


@pytest.mark.parametrize("estimator, passes", [("iwae", 1), ("stl", 1), ("dreg", 2)])
def test_the_encoder_runs_once_on_b_rows_and_the_decoder_on_k_b(monkeypatch, rng, estimator, passes):
    model, x = setup(rng, 10, estimator=estimator)
    rows = {"encoder": [], "decoder": []}
    for name, seen in rows.items():
        net = getattr(model, name)
        monkeypatch.setattr(net, "forward", lambda v, f=net.forward, seen=seen: (seen.append(len(v)), f(v))[1])
    model.loss(x, rng)
    assert rows == {"encoder": [5], "decoder": [50] * passes}


def test_it_finds_a_better_model_where_the_posterior_is_no_gaussian():
    """x is 5 bits that agree, all or but one, and one latent: the exact ln p(x) of what both models have learned."""
    rng = np.random.default_rng(0)
    x = np.repeat(rng.integers(0, 2, (256, 1)), 5, axis=1)
    x = np.where(np.arange(5) == rng.integers(0, 5, (256, 1)), rng.integers(0, 2, (256, 1)), x).astype(np.float32)
    found = []
    for cls, options in ((VAE, {}), (IWAE, {"k": 20})):
        model = cls(5, latent_dim=1, hidden=(), rng=np.random.default_rng(1), **options)
        with contextlib.redirect_stdout(io.StringIO()):
            fit(model, Batches(x, 64), epochs=200, optimizer=optim.Adam(model.parameters(), 0.02), rng=rng)
        found.append(exact_log_likelihood(model.astype(np.float64), x.astype(float)).mean())
    assert found[1] > found[0] + 0.01


def test_the_contract(rng):
    model = IWAE(784, k=3, latent_dim=20, hidden=(400,), rng=rng)
    x = rng.random((16, 784), np.float32)
    before = x.copy()
    loss, terms = model.loss(x, rng)
    loss.backward()
    assert isinstance(loss, Tensor) and loss.shape == () and set(terms) == {"bound", "elbo"}
    assert all(p.grad.dtype == np.float32 and p.grad.shape == p.shape for p in model.parameters())
    assert model.elbo(x, rng).value.shape == model.log_likelihood(x, 10, rng).shape == (16,)
    assert model.sample(4, rng).shape == (4, 784) and model.reconstruct(x).shape == x.shape
    assert (x == before).all()


def test_twenty_seeds_train_without_a_nan():
    for seed in range(20):
        rng = np.random.default_rng(seed)
        model = IWAE(12, rng=rng)
        with contextlib.redirect_stdout(io.StringIO()):
            rows = fit(model, Batches(rng.integers(0, 256, (64, 12), np.uint8), 32, binarise=True), epochs=3, rng=rng,
                       optimizer=optim.Adam(model.parameters(), 1e-3))
        assert np.isfinite([row["bound"] for row in rows]).all()


@pytest.mark.parametrize("options, message", [
    ({"k": 0}, "k must be a positive integer, not 0"), ({"k": 2.0}, "k must be a positive integer, not 2.0"),
    ({"estimator": "vimco"}, "estimator must be one of 'iwae', 'stl', 'dreg', not 'vimco'"),
    ({"kl_warmup": 5}, "takes no kl_warmup"), ({"free_bits": 0.1}, "no kl_warmup or free_bits")])
def test_bad_options_are_refused(rng, options, message):
    with pytest.raises(ValueError, match=message):
        IWAE(6, rng=rng, **options)


@pytest.mark.parametrize("x, message", [(np.full((2, 6), np.nan), "finite"), (np.zeros((2, 5)), "shape"),
                                        (np.full((2, 6), 2.0), r"\[0, 1\]")])
def test_bad_data_is_refused(rng, x, message):
    with pytest.raises(ValueError, match=message):
        setup(rng, 2)[0].loss(x, rng)
