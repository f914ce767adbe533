"""The variants of the VAE as a PyTorch user would write them, eager. Nothing of ours is imported here.

Each function returns a function of nothing that makes one training step, batch 128.
"""
import math

import numpy as np
import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits, one_hot, softplus

from .torch_peers import digits, mlp, trainer

LEAST = 1e-6                                 # the smallest variance of a level, as in minivae.vae.ladder_vae
ONE = math.log(math.expm1(1 - LEAST))


def images():
    return torch.from_numpy(np.random.default_rng(0).random((128, 784), np.float32))


def negative_log_likelihood(logits, x):
    return binary_cross_entropy_with_logits(logits, x, reduction="none").sum(-1)


def draw(mu, logvar):
    return mu + torch.exp(0.5 * logvar) * torch.randn_like(mu)


def log_normal(z, mu, logvar):
    return (-0.5 * (math.log(2 * math.pi) + logvar + (z - mu) ** 2 * torch.exp(-logvar))).sum(-1)


def level(h):
    """The mean and the log variance of a level of a hierarchy."""
    mu, raw = h.chunk(2, dim=1)
    return mu, torch.log(softplus(raw + ONE) + LEAST)


def vamp():
    x, encoder, decoder = digits(784, 128), mlp(784, 200, 200, 100), mlp(50, 200, 200, 784)
    pseudo = nn.Embedding(500, 784)

    def loss():
        mu, logvar = encoder(x).chunk(2, dim=1)
        z = draw(mu, logvar)
        means, logvars = encoder(torch.sigmoid(pseudo.weight)).chunk(2, dim=1)
        log_p = torch.logsumexp(log_normal(z[:, None], means, logvars), dim=1) - math.log(500)
        return (negative_log_likelihood(decoder(z), x) + log_normal(z, mu, logvar) - log_p).mean()
    return trainer(loss, encoder, decoder, pseudo)


def stacked():
    x, q1, q2, p1 = digits(784, 128), mlp(784, 400, 100), mlp(50, 200, 50), mlp(25, 200, 100)
    decoder, zero = mlp(50, 400, 784), torch.zeros(())

    def loss():
        one = level(q1(x))
        z1 = draw(*one)
        two = level(q2(z1))
        z2 = draw(*two)
        kl = log_normal(z1, *one) - log_normal(z1, *level(p1(z2))) + log_normal(z2, *two) - log_normal(z2, zero, zero)
        return (negative_log_likelihood(decoder(z1), x) + kl).mean()
    return trainer(loss, q1, q2, p1, decoder)


def ladder():
    x, up1, up2, hint1, hint2 = digits(784, 128), mlp(784, 400), mlp(400, 200), mlp(400, 100), mlp(200, 50)
    above, decoder = mlp(25, 200, 100), mlp(50, 400, 784)

    def loss():
        h1 = torch.relu(up1(x))
        mu1, logvar1 = level(hint1(h1))
        mu2, logvar2 = level(hint2(torch.relu(up2(h1))))
        m, v = level(above(draw(mu2, logvar2)))
        share = torch.sigmoid(v - logvar1)
        mu, logvar = m + share * (mu1 - m), logvar1 - softplus(logvar1 - v)
        kl = 0.5 * ((mu2 ** 2 + torch.exp(logvar2) - 1 - logvar2).sum(1)
                    + ((mu - m) ** 2 * torch.exp(-v) + torch.exp(logvar - v) - 1 - logvar + v).sum(1))
        return (negative_log_likelihood(decoder(draw(mu, logvar)), x) + kl).mean()
    return trainer(loss, up1, up2, hint1, hint2, above, decoder)


def quantised(K=128, d=16, beta=0.25, decay=0.99):
    """A step of `VQVAE()`; no code is restarted."""
    x = images().reshape(-1, 1, 28, 28)
    encoder = nn.Sequential(nn.Conv2d(1, 32, 3, 2, 1), nn.ReLU(), nn.Conv2d(32, 64, 3, 2, 1), nn.ReLU(),
                            nn.Conv2d(64, d, 3, padding=1))
    decoder = nn.Sequential(nn.Conv2d(d, 64, 3, padding=1), nn.ReLU(), nn.Upsample(scale_factor=2),
                            nn.Conv2d(64, 32, 3, padding=1), nn.ReLU(), nn.Upsample(scale_factor=2),
                            nn.Conv2d(32, 1, 3, padding=1))
    e, uses, sums = torch.randn(K, d), torch.ones(K), torch.randn(K, d)

    def loss():
        z_e = encoder(x).permute(0, 2, 3, 1)
        z = z_e.detach().reshape(-1, d)
        k = torch.argmin((z * z).sum(1, keepdim=True) - 2 * z @ e.T + (e * e).sum(1), dim=1)
        z_q = e[k].reshape(z_e.shape)
        of = one_hot(k, K).float()
        uses.mul_(decay).add_((1 - decay) * of.sum(0))
        sums.mul_(decay).add_((1 - decay) * of.T @ z)
        e.copy_(sums / uses.clamp_min(1e-5)[:, None])
        logits = decoder((z_e + (z_q - z_e).detach()).permute(0, 3, 1, 2))
        nll = binary_cross_entropy_with_logits(logits, x, reduction="sum")
        return (nll + beta * ((z_e - z_q) ** 2).sum()) / len(x)
    return trainer(loss, encoder, decoder)


def planar():
    """The nets and the map of eight planar layers: z to z', and ln |det|."""
    nets = [nn.Linear(64, 101) for _ in range(8)]

    def push(z, h):
        total = 0
        for net in nets:
            u, w, b = net(h).split([50, 50, 1], dim=1)
            wu = (w * u).sum(1, keepdim=True)
            c = softplus(wu + math.log(math.e - 1)) - 1
            u = u + (c - wu) * w / (w * w).sum(1, keepdim=True)
            t = torch.tanh((w * z).sum(1, keepdim=True) + b)
            z, total = z + u * t, total + torch.log1p(c * (1 - t * t))[:, 0]
        return z, total
    return nets, push


def triangular():
    """The same of a triangular layer: a matrix of each example, and no change of volume."""
    net = nn.Linear(64, 2500)
    return [net], lambda z, h: (z + torch.bmm(net(h).view(-1, 50, 50).tril(-1), z[:, :, None])[:, :, 0], 0)


def flow(layers):
    """A step of a FlowVAE with `planar` or `triangular` layers."""
    nets, push = {"planar": planar, "triangular": triangular}[layers]()
    x, encoder, decoder = digits(784, 128), mlp(784, 200, 200, 164), mlp(50, 200, 200, 784)

    def loss():
        mu, logvar, h = encoder(x).split([50, 50, 64], dim=1)
        z0 = draw(mu, logvar)
        z, logdet = push(z0, h)
        kl = 0.5 * ((mu * mu + logvar.exp() - 1 - logvar).sum(1) + (z * z - z0 * z0).sum(1)) - logdet
        return (negative_log_likelihood(decoder(z), x) + kl).mean()
    return trainer(loss, encoder, decoder, *nets)


def aae(gamma=10.0):
    """A step of `AAE(784)`."""
    x, encoder, decoder = images(), mlp(784, 400, 40), mlp(20, 400, 784)
    critic = mlp(20, 256, 256, 1)
    vae = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], 1e-3, fused=True)
    other = torch.optim.Adam(critic.parameters(), 1e-3, betas=(0.5, 0.9), fused=True)

    def step():
        mu, logvar = encoder(x).chunk(2, dim=1)
        z = mu + torch.exp(0.5 * logvar) * torch.randn_like(mu)
        nll = binary_cross_entropy_with_logits(decoder(z), x, reduction="sum") / len(x)
        vae.zero_grad()
        (nll - gamma * critic(z).mean()).backward()
        vae.step()
        other.zero_grad()
        (softplus(-critic(torch.randn_like(mu))).mean() + softplus(critic(z.detach())).mean()).backward()
        other.step()
    return step


def vae_gan(gamma=0.1, noise=0.3):
    """A step of `VAEGAN(784)`: each turn drops the gradients that are not its own."""
    x, encoder, decoder = images(), mlp(784, 400, 40), mlp(20, 400, 784)
    hidden, last = nn.Sequential(nn.Linear(784, 400), nn.ReLU()), nn.Linear(400, 1)
    players = [torch.optim.Adam(encoder.parameters(), 1e-3, fused=True),
               torch.optim.Adam(decoder.parameters(), 1e-3, betas=(0.5, 0.999), fused=True),
               torch.optim.Adam([*hidden.parameters(), *last.parameters()], 3e-4, betas=(0.5, 0.999), fused=True)]

    def move(player, loss):
        players[player].zero_grad()
        loss.backward()
        players[player].step()

    def step():
        mu, logvar = encoder(x).chunk(2, dim=1)
        z = mu + torch.exp(0.5 * logvar) * torch.randn_like(mu)
        with torch.no_grad():
            seen = hidden(x)
            s = seen.square().mean().sqrt()
        unlike = lambda again: 0.5 * (((again - seen) / s) ** 2).sum(1).mean()
        kl = 0.5 * (mu ** 2 + torch.exp(logvar) - 1 - logvar).sum(1).mean()
        move(0, kl + unlike(hidden(torch.sigmoid(decoder(z)))))
        fakes = torch.sigmoid(decoder(torch.cat([z.detach(), torch.randn_like(z)])))
        again = hidden(fakes)
        move(1, gamma * unlike(again[:len(x)]) + softplus(-last(again)).mean())
        eps = noise * torch.randn_like(x)
        real, fake = (last(hidden(images)) for images in (x + eps, fakes.detach() + eps.repeat(2, 1)))
        move(2, softplus(-real).mean() + softplus(fake).mean())
    return step
