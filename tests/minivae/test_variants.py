"""Every variant of the VAE as it comes: twenty seeds of digits, and none ends in a NaN."""
import contextlib
import io

import numpy as np
import pytest

from autograd import optim
from minivae.data import Batches, mnist
from minivae.flows import IAF, MAF, Coupling, Flow, Radial
from minivae.train import fit
from minivae.vae import AAE, CVAE, IWAE, VAE, VAEGAN, VQVAE, FlowVAE, LadderVAE, StackedVAE, VampVAE

VARIANTS = [VQVAE, StackedVAE, LadderVAE, AAE, VAEGAN, FlowVAE, IWAE, VampVAE]


@pytest.mark.parametrize("cls", VARIANTS)
def test_no_variant_at_its_default_settings_gives_a_nan_for_twenty_seeds(cls):
    """`fit` raises when a loss is not finite, so what is looked at here is what a training leaves behind."""
    images = mnist("train").images
    for seed in range(20):
        rng = np.random.default_rng(seed)
        model = cls(784, rng=rng)
        optimizer = model.optimizer() if hasattr(model, "optimizer") else optim.Adam(model.parameters())
        with contextlib.redirect_stdout(io.StringIO()):
            rows = fit(model, Batches(images[100 * seed:][:100], 25, binarise=True), epochs=2, optimizer=optimizer,
                       rng=rng)
        x = (images[-20:].reshape(20, 784) / np.float32(255))
        found = [*model.state().values(), [*rows[-1].values()], model.sample(5, rng), model.reconstruct(x),
                 model.log_likelihood(x, 2, rng), model.elbo(x, rng).value.data]
        assert all(np.isfinite(values).all() for values in found), f"seed {seed}"


@pytest.mark.parametrize("cls", [Radial, Coupling, IAF, MAF])
def test_no_layer_as_a_posterior_gives_a_nan_for_twenty_seeds(cls):
    images = mnist("train").images
    for seed in range(20):
        rng = np.random.default_rng(seed)
        model = FlowVAE(784, 6, flow=Flow([cls(6, context=8, rng=rng), cls(6, context=8, rng=rng)]), rng=rng)
        with contextlib.redirect_stdout(io.StringIO()):
            fit(model, Batches(images[100 * seed:][:100], 25, binarise=True), epochs=2, rng=rng,
                optimizer=optim.Adam(model.parameters()))
        assert np.isfinite(model.log_likelihood(images[-9:].reshape(9, 784) / np.float32(255), 2, rng)).all()
        assert all(np.isfinite(values).all() for values in model.state().values()), f"seed {seed}"


@pytest.mark.parametrize("cls", [VAE, CVAE, *VARIANTS])
def test_bits_as_integers_are_the_same_bits(rng, cls):
    condition = (3,) if cls is CVAE else ()
    model, bits = cls(784, *condition, hidden=(8, 8), rng=rng), rng.integers(0, 2, (130, 784))
    y = (np.arange(len(bits)) % 3,) * len(condition)
    draws = lambda: np.random.default_rng(1)
    for make in (lambda x: [v.item() for _, v, _ in model.objectives((x, *y) if y else x, draws())],
                 lambda x: model.log_likelihood(x, *y, 2, draws()), lambda x: model.reconstruct(x, *y)):
        start = {name: value.copy() for name, value in model.state().items()}
        made = make(bits)
        model.load_state(start)                                    # a codebook learns with its loss
        np.testing.assert_array_equal(made, make(bits.astype(np.float32)))


@pytest.mark.parametrize("cls", [VAE, *VARIANTS])
def test_what_is_no_number_of_draws_or_no_generator_is_refused(rng, cls):
    model = cls(784, rng=rng)
    for n in (0, -1, 2.5, True):
        with pytest.raises(ValueError, match=f"n must be a positive integer, not {n}"):
            model.sample(n, rng)
    with pytest.raises(ValueError, match="rng must be a numpy.random.Generator, .* not 0"):
        model.sample(2, 0)
    if cls is not VQVAE:                                           # whose loss draws nothing
        with pytest.raises(ValueError, match="rng must be a numpy.random.Generator, .* not 0"):
            model.loss(np.zeros((2, 784), np.float32), 0)
