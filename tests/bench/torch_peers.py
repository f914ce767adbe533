"""Training steps in PyTorch, eager and compiled, with the fused Adam.

Each function takes sizes, and returns a function of nothing that makes one step. Nothing of this project is imported
here, so that it can neither help nor disturb.
"""
import math

import numpy as np
import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits


def mlp(*sizes):
    layers = [layer for i, o in zip(sizes, sizes[1:]) for layer in (nn.Linear(i, o), nn.ReLU())]
    return nn.Sequential(*layers[:-1])


def trainer(loss, *nets, compiled=False):
    """A step of Adam on `loss()` for the parameters of `nets`."""
    parameters = [p for net in nets for p in net.parameters()]
    optimizer = torch.optim.Adam(parameters, 1e-3, fused=True)
    loss = torch.compile(loss) if compiled else loss

    def step():
        optimizer.zero_grad()
        value = loss()
        value.backward()
        optimizer.step()
        return value
    step.parameters = sum(p.numel() for p in parameters)
    return step


def digits(D, batch):
    return torch.from_numpy((np.random.default_rng(0).random((batch, D)) < 0.13).astype(np.float32))


def vae_loss(encoder, decoder, x):
    mu, logvar = encoder(x).chunk(2, dim=1)
    z = mu + torch.exp(0.5 * logvar) * torch.randn_like(mu)
    nll = binary_cross_entropy_with_logits(decoder(z), x, reduction="sum")
    return (nll + 0.5 * torch.sum(mu * mu + logvar.exp() - 1 - logvar)) / len(x)


def vae(D, h, d, batch, compiled=False):
    encoder, decoder, x = mlp(D, h, 2 * d), mlp(d, h, D), digits(D, batch)
    return trainer(lambda: vae_loss(encoder, decoder, x), encoder, decoder, compiled=compiled)


def epoch(D, h, d, batch):
    """One epoch of the training digits, binarised anew, instead of one step."""
    from minivae.data import Batches, mnist
    batches, rng = Batches(mnist("train").images, batch, binarise=True), np.random.default_rng(0)
    encoder, decoder, now = mlp(D, h, 2 * d), mlp(d, h, D), [None]
    step = trainer(lambda: vae_loss(encoder, decoder, now[0]), encoder, decoder)

    def run():
        for x in batches(rng):
            now[0] = torch.from_numpy(x)
            step()
    return run


def iwae(D, h, d, batch, k, compiled=False):
    """Two hidden layers of h in the encoder and in the decoder."""
    encoder, decoder, x = mlp(D, h, h, 2 * d), mlp(d, h, h, D), digits(D, batch)

    def loss():
        mu, logvar = encoder(x).chunk(2, dim=1)
        eps = torch.randn(k, *mu.shape)
        z = mu + torch.exp(0.5 * logvar) * eps
        log_q = -0.5 * (math.log(2 * math.pi) + logvar + eps * eps).sum(-1)
        log_p = -0.5 * (math.log(2 * math.pi) + z * z).sum(-1)
        nll = binary_cross_entropy_with_logits(decoder(z), x.expand(k, -1, -1), reduction="none").sum(-1)
        return -(torch.logsumexp(log_p - log_q - nll, dim=0) - math.log(k)).mean()
    return trainer(loss, encoder, decoder, compiled=compiled)


def chain(n):
    """Forward and backward through n operations on one float32."""
    def step():
        y = x = torch.tensor([0.5], requires_grad=True)
        for _ in range(n // 4):
            y = torch.sin(torch.tanh(y) * 0.9 + x)
        y.backward()
    step.calls = n
    return step


def convolution(c_in, c_out, size, stride, batch, gradients, channels_last):
    """A 3 x 3 convolution, padded by 1, with the gradients of all that goes in, or without."""
    rng, layout = np.random.default_rng(0), torch.channels_last if channels_last else torch.contiguous_format
    array = lambda *shape: torch.from_numpy(rng.standard_normal(shape, np.float32)).contiguous(memory_format=layout)
    x, w = array(batch, c_in, size, size), array(c_out, c_in, 3, 3)
    b = torch.zeros(c_out)
    forward = lambda: nn.functional.conv2d(x, w, b, stride, 1)
    g = array(*forward().shape)

    def step():
        x.grad = w.grad = b.grad = None
        forward().backward(g)
    if gradients:
        for leaf in (x, w, b):
            leaf.requires_grad_()
    return step if gradients else torch.no_grad()(forward)
