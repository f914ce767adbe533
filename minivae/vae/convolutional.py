"""Convolutional encoder and decoder: an image becomes a small grid of vectors, and a grid an image.

    (1)  down:  a convolution of stride 2 and a nonlinearity, n times:  (s, s) pixels to (s/2ⁿ, s/2ⁿ) places
    (2)  up:    y = w ∗ upsample(x):  each pixel is repeated 2 x 2 times, and then convolved
    (3)         y[2 h + r] = Σₐ x[h + a − 1] w̃[a, r],  w̃[0, 0] = w₀,  w̃[1, 0] = w₁ + w₂,
                w̃[1, 1] = w₀ + w₁,  w̃[2, 1] = w₂,  the others 0                              [convolutional.doubling]

x (B, H, W, C), w (3, 3, C, N) and y (B, 2 H, 2 W, N); (3) is for one axis. To double by (2), and not by a transposed
convolution, leaves no pattern of pixels that more of the kernel sees than of others (Odena, Dumoulin and Olah,
Deconvolution and checkerboard artifacts, Distill, 2016). Of four neighbours in the repeated image most are the same
number, so (3) makes all four pixels y that come from one x at once, by one convolution of the small image with kernels
that are sums of w's parts. It took a training step of the VQ-VAE from 40 ms to 27.
"""
from itertools import pairwise

import numpy as np

from autograd import ops
from autograd.conv import conv2d
from autograd.nn import Conv2d, Module

PARTS = np.array([[[1, 0, 0], [0, 1, 1], [0, 0, 0]], [[0, 0, 0], [1, 1, 0], [0, 0, 1]]])               # r, a, i: (3)
PARTS = np.einsum("rai, qbj -> abrqij", PARTS, PARTS).reshape(36, 9)                       # for both axes


class Doubling(Conv2d):
    """A 3 x 3 convolution of the image, each of whose pixels is repeated 2 x 2 times: (B, H, W, C) to twice that."""

    def forward(self, x):
        (B, H, W, C), N = x.shape, len(self.b)
        w = (PARTS.astype(self.w.dtype) @ self.w.reshape(9, C * N)).reshape(3, 3, 4, C, N)
        w = ops.transpose(w, (0, 1, 3, 2, 4)).reshape(3, 3, C, 4 * N)
        y = conv2d(x, w, ops.concatenate([self.b] * 4), padding=1)                         # (3)
        return ops.transpose(y.reshape(B, H, W, 2, 2, N), (0, 1, 3, 2, 4, 5)).reshape(B, 2 * H, 2 * W, N)


class Encoder(Module):
    """Images (B, s²) to (B, s/2ⁿ, s/2ⁿ, d): a halving for each of the n widths in `hidden`, and a convolution to d."""

    def __init__(self, side: int, hidden: tuple, d: int, activation: str, rng: np.random.Generator):
        self.side, self.activation = side, getattr(ops, activation)
        self.halve = [Conv2d(i, o, stride=2, rng=rng) for i, o in pairwise((1, *hidden))]
        self.last = Conv2d(hidden[-1], d, rng=rng)

    def forward(self, x):
        x = x.reshape(len(x), self.side, self.side, 1)
        for layer in self.halve:
            x = self.activation(layer(x))                                                  # (1)
        return self.last(x)


class Decoder(Module):
    """(B, h, h, d) to images (B, (2ⁿ h)²): the way back."""

    def __init__(self, hidden: tuple, d: int, activation: str, rng: np.random.Generator):
        self.activation = getattr(ops, activation)
        self.first = Conv2d(d, hidden[-1], rng=rng)
        self.grow = [Doubling(i, o, rng=rng) for i, o in pairwise((*hidden[::-1], 1))]

    def forward(self, z):
        x = self.first(z)
        for layer in self.grow:
            x = layer(self.activation(x))                                                  # (2)
        return x.reshape(len(x), -1)
