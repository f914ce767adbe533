"""The beta-VAE is the VAE with another weight on the KL; the annealed one is held to a KL that rises."""
import numpy as np
import pytest

from autograd import optim
from minivae.data import Batches
from minivae.train import fit
from minivae.vae import VAE, AnnealedVAE, BetaVAE


def twin(cls, options={}, **own):
    """A model of class `cls` on six bits, always with the same weights."""
    return cls(6, latent_dim=2, hidden=(8,), activation="tanh", rng=np.random.default_rng(0), **options,
               **own).astype(np.float64)


@pytest.fixture
def x(rng):
    return (rng.random((5, 6)) < 0.5).astype(float)


OPTIONS = [{}, {"kl": "monte-carlo"}, {"free_bits": 0.2}, {"kl_warmup": 4},
           {"likelihood": "gaussian", "variance": "learned"}]


def loss(model, x):
    return model.loss(x, np.random.default_rng(3))


@pytest.mark.equation("beta.objective", "beta = 1: the VAE, loss and gradients, bit for bit", bound=0)
@pytest.mark.parametrize("options", OPTIONS)
def test_with_beta_one_it_is_the_vae(measure, x, options):
    one, vae = twin(BetaVAE, options, beta=1), twin(VAE, options)
    for model in (one, vae):
        model.on_step(1)
    (a, terms), (b, others) = loss(one, x), loss(vae, x)
    assert terms == others
    measure(a.item() - b.item())
    a.backward()
    b.backward()
    for p, q in zip(one.parameters(), vae.parameters(), strict=True):
        measure(p.grad - q.grad)


@pytest.mark.equation("beta.objective", "loss = -E ln p(x|z) + beta KL", bound=1e-10)
@pytest.mark.parametrize("beta", [0, 0.5, 4.0, np.float32(20)])
def test_each_nat_of_kl_costs_beta(measure, x, beta):
    value, terms = loss(twin(BetaVAE, beta=beta), x)
    measure(value.item() / (float(beta) * terms["kl"] - terms["recon"]) - 1)
    assert terms == loss(twin(VAE), x)[1]                          # what is reported is the ELBO, whatever is weighed


def test_beta_weighs_free_bits_and_warm_up_too(x):
    model = twin(BetaVAE, {"free_bits": 0.4, "kl_warmup": 4}, beta=3.0)
    model.on_step(1)
    value, terms = loss(model, x)
    charged = np.maximum(model.encode(x).kl_terms().data.mean(axis=0), 0.4).sum()
    np.testing.assert_allclose(value.item(), 3 * 0.25 * charged - terms["recon"], rtol=1e-12)
    assert charged > terms["kl"]


@pytest.mark.equation("beta.capacity", "C = C_max min(1, t/T)", bound=1e-10)
def test_the_annealed_target_rises_linearly_and_stays(measure):
    model = twin(AnnealedVAE, capacity=6.0, steps=4)
    targets = [model.target]
    for t in range(1, 8):
        model.on_step(t)
        targets.append(model.target)
    measure(np.array(targets) - [0, 1.5, 3, 4.5, 6, 6, 6, 6])


@pytest.mark.equation("beta.capacity", "loss = -E ln p(x|z) + gamma |KL - C|", bound=1e-10)
@pytest.mark.parametrize("capacity", [0.01, 9.0])
def test_kl_costs_gamma_above_the_target_and_is_wanted_below_it(measure, x, capacity):
    model = twin(AnnealedVAE, gamma=50.0, capacity=capacity, steps=10)
    model.on_step(10)
    value, terms = loss(model, x)
    measure(value.item() / (50 * abs(terms["kl"] - capacity) - terms["recon"]) - 1)
    value.backward()
    other = twin(BetaVAE, beta=50.0) if terms["kl"] > capacity else twin(VAE)
    other.penalty = (lambda q, z, kl: 50 * kl) if terms["kl"] > capacity else (lambda q, z, kl: -50 * kl)
    loss(other, x)[0].backward()
    for p, q in zip(model.parameters(), other.parameters(), strict=True):
        measure(p.grad - q.grad)


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("cls, own", [(BetaVAE, {"beta": 3.0}), (AnnealedVAE, {"gamma": 5.0, "capacity": 2.0})])
def test_gradients_of_the_loss_pass_finite_differences(x, cls, own, options):
    model = twin(cls, options, **own)
    model.on_step(2)
    loss(model, x)[0].backward()
    for p in model.parameters():
        i = np.unravel_index(np.argmax(np.abs(p.grad)), p.shape)
        at, values = p.data.copy(), []
        for h in (1e-6, -1e-6):
            p.data[i] = at[i] + h
            values.append(loss(model, x)[0].item())
        p.data[i] = at[i]
        assert p.grad[i] == pytest.approx((values[0] - values[1]) / 2e-6, rel=1e-6)


def train(cls, **own):
    """The mean of each term over the last ten epochs, on images of 12 equal pixels."""
    rng = np.random.default_rng(0)
    data = rng.integers(0, 2, (64, 1), np.uint8) * np.full(12, 255, np.uint8)
    model = cls(12, latent_dim=2, hidden=(16,), rng=rng, **own)
    rows = fit(model, Batches(data, 16), epochs=60, optimizer=optim.Adam(model.parameters(), 0.01), rng=rng)
    return {name: np.mean([row[name] for row in rows[-10:]]) for name in ("kl", "recon")}


def test_a_larger_beta_buys_less_rate_at_more_distortion():
    cheap, dear, out_of_reach = (train(BetaVAE, beta=beta) for beta in (0.3, 2.0, 50.0))
    assert cheap["kl"] > dear["kl"] + 0.3 and cheap["recon"] > dear["recon"]
    assert out_of_reach["kl"] < 0.01 and out_of_reach["recon"] < -8           # nothing but −12 ln 2 is left


def test_training_ends_at_the_capacity():
    for capacity in (1.0, 4.0):
        assert train(AnnealedVAE, gamma=30.0, capacity=capacity, steps=100)["kl"] == pytest.approx(capacity, abs=0.1)


def test_the_contract(rng):
    model = BetaVAE(1024, beta=4.0, latent_dim=10, hidden=(400,), rng=rng)
    value, terms = model.loss(rng.random((8, 1024), np.float32), rng)
    assert value.dtype == np.float32 and model.sample(3, rng).shape == (3, 1024)
    assert value.item() == pytest.approx(4 * terms["kl"] - terms["recon"], rel=1e-5)


@pytest.mark.parametrize("cls, options, message", [
    (BetaVAE, {"beta": -1}, "beta must be a number >= 0, not -1"), (BetaVAE, {"beta": np.nan}, "not nan"),
    (BetaVAE, {"beta": np.inf}, "not inf"), (BetaVAE, {"beta": "4"}, "not '4'"), (BetaVAE, {"beta": None}, "not None"),
    (BetaVAE, {"beta": True}, "not True"), (AnnealedVAE, {"gamma": -1}, "gamma must be a number >= 0"),
    (AnnealedVAE, {"capacity": -0.1}, "capacity must be a number >= 0, not -0.1"),
    (AnnealedVAE, {"steps": 0}, "steps must be a positive integer, not 0"),
    (AnnealedVAE, {"steps": 1e5}, "steps must be a positive integer"),
    (BetaVAE, {"latent_dim": 0}, "latent_dim must be")])
def test_bad_options_are_refused(rng, cls, options, message):
    with pytest.raises(ValueError, match=message):
        cls(6, rng=rng, **options)
