"""The denoisers of minivae.diffusion in PyTorch. Nothing of ours is imported here.

A network takes x_t (B, ...) and t (B,), from 1, and returns the noise in x_t. Adam trains it on |eps - net(x_t, t)|^2,
summed over an example, for a schedule alpha_bar (T,). What trains, or samples, is a function of nothing.
"""
import math

import numpy as np
import torch
from torch import nn
from torch.nn.functional import interpolate, scaled_dot_product_attention, silu

from .torch_peers import mlp, trainer


class Block(nn.Module):
    def __init__(self, c_in, c_out):
        super().__init__()
        self.norm1, self.conv1 = nn.GroupNorm(8, c_in), nn.Conv2d(c_in, c_out, 3, padding=1)
        self.time = nn.Linear(128, c_out)
        self.norm2, self.conv2 = nn.GroupNorm(8, c_out), nn.Conv2d(c_out, c_out, 3, padding=1)
        self.skip = nn.Conv2d(c_in, c_out, 1) if c_in != c_out else nn.Identity()

    def forward(self, x, time):
        h = self.conv1(silu(self.norm1(x))) + self.time(time)[:, :, None, None]
        return self.conv2(silu(self.norm2(h))) + self.skip(x)


class Attention(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.norm, self.qkv, self.out = nn.GroupNorm(8, c), nn.Linear(c, 3 * c), nn.Linear(c, c)

    def forward(self, x):
        q, k, v = self.qkv(self.norm(x).flatten(2).transpose(1, 2)).chunk(3, dim=2)
        return x + self.out(scaled_dot_product_attention(q, k, v)).transpose(1, 2).reshape(x.shape)


class UNet(nn.Module):
    """`minivae.diffusion.UNet((1, 28, 28), channels=32, multipliers=(1, 2, 2))`: images (B, C, H, W)."""

    def __init__(self):
        super().__init__()
        self.time = nn.Sequential(nn.Linear(32, 128), nn.SiLU(), nn.Linear(128, 128), nn.SiLU())
        self.first = nn.Conv2d(1, 32, 3, padding=1)
        self.down = nn.ModuleList([Block(32, 32), Block(32, 64)])
        self.halve = nn.ModuleList(nn.Conv2d(c, c, 3, stride=2, padding=1) for c in (32, 64))
        self.before, self.attention, self.after = Block(64, 64), Attention(64), Block(64, 64)
        self.up = nn.ModuleList([Block(128, 64), Block(96, 32)])
        self.norm, self.last = nn.GroupNorm(8, 32), nn.Conv2d(32, 1, 3, padding=1)

    def forward(self, x, t):
        time, x, skips = self.time(embedding(t)), self.first(x), []
        for block, halve in zip(self.down, self.halve):
            skips.append(x := block(x, time))
            x = halve(x)
        x = self.after(self.attention(self.before(x, time)), time)
        for block in self.up:
            x = block(torch.cat([interpolate(x, scale_factor=2), skips.pop()], dim=1), time)
        return self.last(silu(self.norm(x)))


class MLPDenoiser(nn.Module):
    """`minivae.diffusion.MLPDenoiser(2, hidden)`: points (B, 2)."""

    def __init__(self, hidden):
        super().__init__()
        self.layers = mlp(2 + 32, *hidden, 2)

    def forward(self, x, t):
        return self.layers(torch.cat([x, embedding(t)], dim=1))


def embedding(t, dim=32):
    angle = t[:, None] * torch.exp(torch.arange(dim // 2) * (-2 * math.log(10_000) / dim))
    return torch.cat([angle.sin(), angle.cos()], dim=1)


def training(net, x, alpha_bar, compiled):
    alpha_bar = torch.tensor(alpha_bar, dtype=torch.float32)

    def loss():
        t, eps = torch.randint(len(alpha_bar), (len(x),)), torch.randn_like(x)
        a = alpha_bar[t].reshape(-1, *[1] * (x.ndim - 1))
        return torch.sum((eps - net(a.sqrt() * x + (1 - a).sqrt() * eps, t + 1)) ** 2) / len(x)
    return trainer(loss, net, compiled=compiled)


def unet_step(batch, alpha_bar, compiled=False, channels_last=False):
    layout = torch.channels_last if channels_last else torch.contiguous_format
    x = torch.from_numpy(np.random.default_rng(0).uniform(-1, 1, (batch, 1, 28, 28)).astype(np.float32))
    return training(UNet().to(memory_format=layout), x.contiguous(memory_format=layout), alpha_bar, compiled)


def mlp_step(x, alpha_bar, hidden, compiled=False):
    return training(MLPDenoiser(hidden), torch.tensor(x, dtype=torch.float32), alpha_bar, compiled)


def ddim(batch, alpha_bar, steps, channels_last=False):
    """Digits, x_0 clipped to [-1, 1], as DDIM makes them without noise."""
    layout = torch.channels_last if channels_last else torch.contiguous_format
    T, net = len(alpha_bar), UNet().to(memory_format=layout)
    alpha_bar = [1.0, *alpha_bar]
    times = [-(-i * T // steps) for i in range(steps, -1, -1)]

    @torch.inference_mode()
    def sample():
        x = torch.randn(batch, 1, 28, 28)
        for t, s in zip(times, times[1:]):
            a, b = alpha_bar[t], alpha_bar[s]
            eps = net(x, torch.full((batch,), t))
            x0 = ((x - (1 - a) ** 0.5 * eps) / a ** 0.5).clamp(-1, 1)
            x = b ** 0.5 * x0 + (1 - b) ** 0.5 * (x - a ** 0.5 * x0) / (1 - a) ** 0.5
    return sample
