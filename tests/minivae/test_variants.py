"""Every variant of the VAE as it comes: twenty seeds of digits, and none ends in a NaN."""
import contextlib
import io

import numpy as np
import pytest

from autograd import optim
from minivae.data import Batches, mnist
from minivae.flows import IAF, MAF, Coupling, Flow, Radial
from minivae.train import fit
from minivae.vae import AAE, IWAE, VAEGAN, VQVAE, FlowVAE, LadderVAE, StackedVAE, VampVAE


@pytest.mark.parametrize("cls", [VQVAE, StackedVAE, LadderVAE, AAE, VAEGAN, FlowVAE, IWAE, VampVAE])
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
