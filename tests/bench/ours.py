"""Training steps of this project.

Each function takes sizes, and returns a function of nothing that makes one step.
"""
import contextlib
import io

import numpy as np

from autograd import Tensor, ops, optim
from autograd.conv import conv2d
from minivae.data import Batches, mnist
from minivae.diffusion import DDPM, MLPDenoiser, Schedule, UNet
from minivae.vae import IWAE, VAE


def trainer(model, x):
    """A step of Adam on the model's loss of x."""
    rng, optimizer = np.random.default_rng(0), optim.Adam(model.parameters(), 1e-3)

    def step():
        loss, _ = model.loss(x, rng)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss
    step.parameters = sum(p.data.size for p in model.parameters())
    return step


def players(model, x):
    """A step of all players of a model, each with its own loss, as `minivae.train.fit` makes it."""
    rng = np.random.default_rng(0)
    optimizer = model.optimizer() if hasattr(model, "optimizer") else optim.Adam(model.parameters(), 1e-3)

    def step():
        for player, loss, _ in model.objectives(x, rng):
            turn = optimizer if player is None else optimizer[player]
            turn.zero_grad()
            loss.backward()
            turn.step()
    return step


def digits(D, batch):
    return (np.random.default_rng(0).random((batch, D)) < 0.13).astype(np.float32)


def vae(D, h, d, batch):
    return trainer(VAE(D, d, (h,), rng=np.random.default_rng(0)), digits(D, batch))


def iwae(D, h, d, batch, k):
    return trainer(IWAE(D, k=k, latent_dim=d, hidden=(h, h), rng=np.random.default_rng(0)), digits(D, batch))


def epoch(D, h, d, batch):
    """One epoch of the training digits, binarised anew, instead of one step."""
    batches, rng = Batches(mnist("train").images, batch, binarise=True), np.random.default_rng(0)
    model = VAE(D, d, (h,), rng=rng)
    optimizer = optim.Adam(model.parameters(), 1e-3)

    def run():
        for x in batches(rng):
            loss, _ = model.loss(x, rng)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return run


def unet_model(T=1000):
    """28 x 28, 32 channels, multipliers 1-2-2."""
    return DDPM(UNet((1, 28, 28), channels=32, multipliers=(1, 2, 2), rng=np.random.default_rng(0)), Schedule.cosine(T))


def unet(batch):
    return trainer(unet_model(), np.random.default_rng(0).uniform(-1, 1, (batch, 1, 28, 28)).astype(np.float32))


def ddim(batch, steps):
    model, rng = unet_model(), np.random.default_rng(0)

    def sample():
        with contextlib.redirect_stdout(io.StringIO()):
            model.sample(batch, rng, steps=steps, eta=0.0)
    return sample


def mlp_denoiser(x, T, hidden):
    model = DDPM(MLPDenoiser(2, tuple(hidden), rng=np.random.default_rng(0)), Schedule.cosine(T))
    return trainer(model, np.array(x, np.float32))


def chain(n):
    """Forward and backward through n operations on one float32."""
    def step():
        y = x = Tensor(np.array([0.5], np.float32), requires_grad=True)
        for _ in range(n // 4):
            y = ops.sin(ops.tanh(y) * 0.9 + x)
        y.backward()
    step.calls = n
    return step


def convolution(c_in, c_out, size, stride, batch, gradients):
    """A 3 x 3 convolution, padded by 1, with the gradients of all that goes in, or without."""
    rng = np.random.default_rng(0)
    x, w = (rng.standard_normal(shape, np.float32) for shape in ((batch, size, size, c_in), (3, 3, c_in, c_out)))
    b = np.zeros(c_out, np.float32)
    forward = lambda: conv2d(x, w, b, stride=stride, padding=1)
    if not gradients:
        return forward
    leaves, g = [Tensor(v, requires_grad=True) for v in (x, w, b)], rng.standard_normal(forward().shape, np.float32)

    def step():
        for leaf in leaves:
            leaf.grad = None
        conv2d(*leaves, stride=stride, padding=1).backward(g)
    return step
