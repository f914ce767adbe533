"""VQ-VAE: the latents of an image are words from a dictionary of K, one at each place of a grid.

    (1)  z_e = encoder(x),  z_q = e_k,  k = argminⱼ |z_e − eⱼ|²:  q(k | x) is one-hot
    (2)  straight through:  ∂L/∂z_e = ∂L/∂z_q                                                [vq.straight-through]
    (3)  loss = −ln p(x | z_q) + Σ |sg(z_e) − e_k|² + β Σ |z_e − sg(e_k)|²                    [vq.objective]
    (4)  KL(q(k | x) ‖ p(k)) = −ln p(k),  with the uniform prior ln K a place                [vq.kl]

x (B, s²) square images; z_e, z_q (B, h, w, d) with h = w = s / 2ⁿ; k (B, h, w) integers; e (K, d) the codebook; sg
holds its argument constant. In (3) the second term moves e alone, and is left out where e is a moving average, see
codebook.py; the third keeps z_e near what stands for it. With the uniform prior, as in training, the KL is constant.
Samples and short codes take a prior that knows which codes go together: `code_prior`, fitted to the codes afterwards
(pixel_cnn.py). van den Oord, Vinyals and Kavukcuoglu, arXiv:1711.00937, section 3.
"""
import math
from typing import NamedTuple

import numpy as np

from autograd import Tensor, no_grad, ops
from autograd.nn import check_activation

from ..checks import check_weight
from .codebook import Codebook, nearest, perplexity
from .convolutional import Decoder, Encoder
from .pixel_cnn import PixelCNN
from .vae import ROWS, VAE, Elbo


class Codes(NamedTuple):
    """q(k | x): z_e (B, h, w, d), k (B, h, w), the one value that it allows, and z_q as `mean`, straight through."""
    z_e: Tensor
    k: np.ndarray
    mean: Tensor


class VQVAE(VAE):
    """A convolutional VAE of square images, `data_dim` pixels in rows (B, D), with `codes` words in its dictionary.

    latent_dim    d, the length of the vectors that words stand for
    hidden        channels after each halving of the image: with two, 28 x 28 pixels get 7 x 7 words
    commitment    β of (3)
    codebook      "ema" or "gradient": how words learn their vectors. It, decay and restart are explained in Codebook

    Of VAE's options it takes likelihood, variance and activation. The codebook learns in `objectives`, so by `fit`.
    """

    def __init__(self, data_dim: int = 784, latent_dim: int = 16, hidden: tuple = (32, 64), *, codes: int = 128,
                 commitment: float = 0.25, codebook: str = "ema", decay: float = 0.99, restart: float = 0.1,
                 likelihood: str = "bernoulli", variance: float | str = 1.0, activation: str = "relu",
                 rng: np.random.Generator):
        check_activation(activation)
        self.commitment = check_weight(commitment, "commitment")
        super().__init__(data_dim, latent_dim, hidden, likelihood=likelihood, variance=variance, activation=activation,
                         rng=rng)
        self.codebook = Codebook(codes, latent_dim, codebook, decay, restart, rng=rng)
        self.code_prior = None                                     # uniform

    def networks(self, hidden, activation, rng):
        side, n = math.isqrt(self.data_dim), len(hidden)
        if not n or side ** 2 != self.data_dim or side % 2 ** n:
            raise ValueError(f"a VQVAE needs one width or more in hidden, and square images that can be halved for "
                             f"each: not {hidden} and {self.data_dim} pixels")
        self.grid = side >> n, side >> n
        return (Encoder(side, hidden, self.latent_dim, activation, rng),
                Decoder(hidden, self.latent_dim, activation, rng))

    def encode(self, x) -> Codes:
        """q(k | x), for x (B, s²)."""
        z_e, e = self.encoder(self.check(x)), self.codebook.e.data
        k = nearest(z_e.data.reshape(-1, self.latent_dim), e).reshape(z_e.shape[:3])       # (1)
        return Codes(z_e, k, z_e + (e[k] - z_e.data))                                      # (2)

    @no_grad()
    def codes(self, x: np.ndarray) -> np.ndarray:
        """k (N, h, w) of x (N, s²), some rows at a time."""
        return np.concatenate([self.encode(x[i:i + ROWS]).k for i in range(0, max(1, len(x)), ROWS)])

    def _elbo(self, x, q, rng):
        return q.mean, Elbo(self.decode(q.mean).log_prob(x), self.code_length(q.k))

    @no_grad()
    def code_length(self, k: np.ndarray) -> Tensor:
        """−ln p(k), (B,) nats, for k (B, h, w)."""
        if self.code_prior:
            return -self.code_prior.log_prob(k)                                            # (4)
        nats = math.prod(self.grid) * math.log(len(self.codebook.e))
        return Tensor(np.full(len(k), nats, self.logvar.dtype))                            # (4)

    def penalty(self, q, z, kl):
        e, B = self.codebook.e, len(q.k)
        loss = self.commitment / B * ops.sum(ops.square(q.z_e - e.data[q.k]))              # (3)
        if self.codebook.learning == "gradient":
            loss = loss + ops.sum(ops.square(q.z_e.data - e[q.k])) / B                     # (3)
        return loss

    def objectives(self, x, rng: np.random.Generator):
        q = self.encode(x)
        loss, terms = self._loss(q, *self._elbo(x, q, rng))
        yield None, loss, terms | {"perplexity": perplexity(q.k, len(self.codebook.e))}
        self.codebook.follow(q.z_e.data.reshape(-1, self.latent_dim), q.k.reshape(-1), rng)

    def use(self, prior: PixelCNN):
        """Draw codes from `prior` and count their nats by it. Raises ValueError if it is one of other codes."""
        if not isinstance(prior, PixelCNN):
            raise ValueError(f"a prior of codes must be a PixelCNN, not {prior!r}")
        mine, given = (len(self.codebook.e), self.grid), (prior.codes, prior.grid)
        if mine != given:
            raise ValueError(f"a prior of {given[0]} codes on a grid {given[1]} is not one of {mine[0]} on {mine[1]}")
        self.code_prior = prior

    def draw(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """n draws of z_q, (n, h, w, d), for k from the prior."""
        prior = self.code_prior
        k = prior.sample(n, rng) if prior else rng.integers(0, len(self.codebook.e), (n, *self.grid))
        return self.codebook.e.data[k]

    def _log_mean_weight(self, k, rng, x):
        return np.asarray(self.elbo(x, rng).value, np.float64)     # q proposes one k, however often it is asked

    def describe(self):
        h, w = self.grid
        return f"VQVAE({self.data_dim} -> {h} x {w} of {len(self.codebook.e)} words, {self.likelihood})"
