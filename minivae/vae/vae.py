"""The variational autoencoder: a latent variable model, and a network that guesses its posterior, trained together.

    (1)  p(z) = N(0, I),  p(x | z) = Bernoulli(x; σ(f(z)))  or  N(x; f(z), s²)
    (2)  q(z | x) = N(z; μ(x), σ²(x))
    (3)  ln p(x) − KL(q(z | x) ‖ p(z | x)) = E_q ln p(x | z) − KL(q(z | x) ‖ p(z)) = ELBO(x)  [vae.elbo]
    (4)  z = μ + σ ε, ε ~ N(0, I):  ∇ E_q f(z) = E_ε ∇ f(μ + σ ε)                             [vae.reparameterisation]
    (5)  ln p(x) = ln E_q w >= E ln 1/k Σᵢ wᵢ,  w = p(x | z) p(z) / q(z | x)                   [vae.log-likelihood]
    (6)  free bits:  Σ_j max(λ, mean over the batch of KL_j)                                  [vae.free-bits]
    (7)  linear f and μ:  max ELBO = max ln p of PPCA                                        [vae.linear-optimum]
         at fixed s²:  |wᵢ|² = (λᵢ − s²)₊, so that weaker directions collapse                [vae.collapse]
         the best s² is the mean squared error per element                                   [vae.decoder-variance]

x (B, D) data, z (B, d) latents; recon = E_q ln p(x | z) and kl, both (B,), in nats: summed over pixels and latents. The
loss is −ELBO, averaged over the batch. f, μ, ln σ² are MLPs. Kingma and Welling, arXiv:1312.6114, sections 2 and 3, for
(1) to (4); Burda et al., arXiv:1509.00519, for (5); Kingma et al., arXiv:1606.04934, appendix C.8, for (6);
Lucas et al., arXiv:1911.02469, for (7), with λᵢ the eigenvalues of the data covariance and wᵢ the columns of f.
"""
import math
from typing import NamedTuple

import numpy as np

from autograd import Tensor, no_grad, ops
from autograd.nn import MLP, Parameter, check_rng
from autograd.tensor import plain

from ..checks import check_choice, check_count, check_weight, check_widths, positive
from ..distributions import Bernoulli, Normal
from ..train import Model

ROWS = 512                                   # examples, or importance samples, that are worked on at once


class Elbo(NamedTuple):
    """Per example, in nats: recon = E ln p(x | z) and kl, so that the ELBO is recon - kl."""
    recon: Tensor
    kl: Tensor

    @property
    def value(self):
        return self.recon - self.kl


class VAE(Model):
    """An MLP encoder and decoder around `latent_dim` Gaussian latents, for data of width `data_dim`.

    likelihood  "bernoulli" for x in [0, 1], or "gaussian" with s² = `variance`, a number or "learned" (one s² for all)
    kl          "analytic" or "monte-carlo", the latter from the one sample that recon uses
    kl_warmup   training steps over which the weight of the KL rises to 1 (Bowman et al., arXiv:1511.06349)
    free_bits   λ of (6): nats a latent dimension may use at no charge
    hidden      widths of the encoder's layers, mirrored in the decoder; () makes both linear
    """

    def __init__(self, data_dim: int, latent_dim: int = 20, hidden: tuple = (400,), *, likelihood: str = "bernoulli",
                 variance: float | str = 1.0, kl: str = "analytic", kl_warmup: int = 0, free_bits: float = 0.0,
                 activation: str = "relu", rng: np.random.Generator):
        check_rng(rng)
        self.data_dim, self.latent_dim = check_count(data_dim, "data_dim"), check_count(latent_dim, "latent_dim")
        self.likelihood = check_choice(likelihood, "likelihood", ("bernoulli", "gaussian"))
        self.analytic = check_choice(kl, "kl", ("analytic", "monte-carlo")) == "analytic"
        learned = isinstance(variance, str) and variance == "learned"
        if not learned:
            positive(variance, "variance, unless 'learned',")
        if variance != 1 and likelihood == "bernoulli":
            raise ValueError(f"a Bernoulli likelihood has no variance, {variance!r} or other: choose 'gaussian'")
        self.kl_warmup, self.kl_weight = check_weight(kl_warmup, "kl_warmup"), 1.0
        self.free_bits = check_weight(free_bits, "free_bits")
        self.encoder, self.decoder = self.networks(check_widths(hidden, "hidden"), activation, rng)
        self.logvar = Parameter(np.zeros(1)) if learned else np.full(1, math.log(variance), np.float32)

    def networks(self, hidden, activation, rng):
        """The encoder, D to 2 d: mu and logvar; and the decoder, d to D."""
        return (MLP(self.data_dim, *hidden, 2 * self.latent_dim, activation=activation, rng=rng),
                MLP(self.latent_dim, *hidden[::-1], self.data_dim, activation=activation, rng=rng))

    def encode(self, x) -> Normal:
        """q(z | x), for x (B, D)."""
        h = self.encoder(self.check(x))
        return Normal(h[:, :self.latent_dim], h[:, self.latent_dim:])                      # (2)

    def decode(self, z) -> Bernoulli | Normal:
        """p(x | z), for z (B, d)."""
        h = self.decoder(z)
        return Bernoulli(h) if self.likelihood == "bernoulli" else Normal(h, self.logvar)  # (1)

    def elbo(self, x, rng: np.random.Generator) -> Elbo:
        """The two terms of (3), (B,) each, from one sample of z per example."""
        return self._elbo(x, self.encode(x), rng)[1]

    def _elbo(self, x, q, rng):
        z = q.rsample(rng)                                                                 # (4)
        recon = self.decode(z).log_prob(x)
        kl = q.kl() if self.analytic else q.log_prob(z) - self.prior().log_prob(z)
        return z, Elbo(recon, kl)                                                          # (3)

    def loss(self, x, rng: np.random.Generator) -> tuple[Tensor, dict[str, float]]:
        """−ELBO in nats, averaged over x (B, D), as weighed by `penalty`, and the terms as they are."""
        q = self.encode(x)
        z, elbo = self._elbo(x, q, rng)
        return self._loss(q, z, elbo)

    def _loss(self, q, z, elbo):
        recon, kl = elbo.recon.mean(), elbo.kl.mean()
        loss = self.penalty(q, z, kl) - recon
        return loss, {"elbo": recon.item() - kl.item(), "recon": recon.item(), "kl": kl.item()}

    def penalty(self, q: Normal, z: Tensor, kl: Tensor) -> Tensor:
        """What the loss charges for the code z ~ q: here the mean `kl`, weighed. Variants of the VAE override this."""
        if self.free_bits:
            kl = ops.sum(ops.maximum(q.kl_terms().mean(axis=0), self.free_bits))           # (6)
        return kl if self.kl_weight == 1 else self.kl_weight * kl

    def on_step(self, t: int):
        if self.kl_warmup:
            self.kl_weight = min(1.0, t / self.kl_warmup)

    def prior(self) -> Normal:
        """p(z), as a Normal that broadcasts."""
        zeros = np.zeros(self.latent_dim, self.logvar.dtype)
        return Normal(zeros, zeros)

    @no_grad()
    def log_likelihood(self, x, k: int, rng: np.random.Generator) -> np.ndarray:
        """ln p(x), (B,) nats, bounded from below by k importance samples from q. Memory does not grow with k or B."""
        return self._log_mean_weights(k, rng, np.asarray(self.check(x)))

    def _log_mean_weights(self, k, rng, *data):
        """ln of the mean of k weights, for `data` x or, in a model of x given y, x and y."""
        check_count(k, "k")
        parts = [[v[i:i + ROWS] for v in data] for i in range(0, len(data[0]), ROWS)]
        return np.concatenate([self._log_mean_weight(k, rng, *part) for part in parts])

    def _log_mean_weight(self, k, rng, x, *y):
        q, log_sum = self.encode(x, *y), np.full(len(x), -np.inf)
        for todo in range(k, 0, -(step := max(1, ROWS // len(x)))):
            n = min(step, todo)                                    # samples of each x in this round
            xs, *ys = (np.repeat(v, n, axis=0) for v in (x, *y))
            z, log_q = self._propose(q, n, rng)
            log_joint = self.decode(z, *ys).log_prob(xs) + self.prior(*ys).log_prob(z)
            log_w = np.asarray(log_joint - log_q, np.float64).reshape(len(x), n)
            log_sum = np.logaddexp(log_sum, np.logaddexp.reduce(log_w, axis=1))
        return log_sum - math.log(k)                                                       # (5)

    def _propose(self, q, n, rng):
        """n z for each row of q, (B n, d), and their ln q(z), (B n,)."""
        many = Normal(*(np.repeat(v.data, n, axis=0) for v in (q.mu, q.logvar)))
        z = many.rsample(rng)
        return z, many.log_prob(z)

    @no_grad()
    def sample(self, n: int, rng: np.random.Generator, noise: bool = False) -> np.ndarray:
        """n draws from the model, (n, D): the means of p(x | z) for z ~ p(z), or, with `noise`, draws of x itself."""
        check_rng(rng)
        p = self.decode(self.draw(check_count(n, "n"), rng))
        return p.sample(rng) if noise else np.asarray(p.mean)

    def draw(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """n draws of z ~ p(z), (n, d)."""
        return rng.standard_normal((n, self.latent_dim), dtype=self.logvar.dtype)

    @no_grad()
    def reconstruct(self, x) -> np.ndarray:
        """The mean of p(x | z) at z = the mean of q(z | x), (B, D)."""
        return np.asarray(self.decode(self.encode(x).mean).mean)

    def check(self, x):
        """x, as floats like the model's, or a ValueError that says what is wrong with it."""
        if not isinstance(x, (np.ndarray, Tensor)) or x.dtype.kind not in "fbiu":
            raise ValueError(f"x must be an array of numbers, not {getattr(x, 'dtype', type(x).__name__)}")
        if x.ndim != 2 or x.shape[1] != self.data_dim or len(x) == 0:
            raise ValueError(f"x must have shape (batch, {self.data_dim}) with at least one row, not {np.shape(x)}")
        if x.dtype.kind == "f" and x.dtype != self.logvar.dtype:
            raise ValueError(f"x is {x.dtype} and the model {self.logvar.dtype}: convert one with .astype")
        low, high = plain(x).min(), plain(x).max()
        if not (math.isfinite(low) and math.isfinite(high)):
            raise ValueError(f"x must be finite; it goes from {low} to {high}")
        if self.likelihood == "bernoulli" and not 0 <= low <= high <= 1:
            raise ValueError(f"x must be in [0, 1] for a Bernoulli likelihood; it goes from {low} to {high}")
        return x if x.dtype.kind == "f" else x.astype(self.logvar.dtype)

    def describe(self):
        return f"{type(self).__name__}({self.data_dim} -> {self.latent_dim}, {self.likelihood})"
