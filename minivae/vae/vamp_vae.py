"""VampPrior: the best prior for a VAE is the mean of its own posteriors, so the prior is made of some of them.

    (1)  E_x ELBO = E_x [E_q ln p(x | z) − I] − KL(q̄ ‖ p),  q̄(z) = E_x q(z | x):  the best p is q̄    [vamp.best]
    (2)  p(z) = 1/K Σₖ q(z | uₖ),  K pseudo-inputs u in place of all the x                   [vamp.prior]
    (3)  ln p(z) = ln Σₖ exp ln q(z | uₖ) − ln K                                             [vamp.density]
    (4)  KL(q ‖ p) ≈ ln q(z | x) − ln p(z),  z ~ q(z | x): a mixture's has no closed form    [vamp.kl]

I = E_x KL(q(z | x) ‖ q̄). u (K, D) are parameters, trained with the rest: in (0, 1), as σ of logits, for a Bernoulli
likelihood. The encoder that makes q(z | x) of x makes the components of u, (K, d), anew in each step. To be near
the standard prior costs q̄ nats, and latents that it leaves unused.
Tomczak and Welling, arXiv:1705.07120, sections 2 and 3.
"""
import math

import numpy as np

from autograd import ops
from autograd.floors import compiled, fused
from autograd.losses import LOG_2PI
from autograd.nn import Parameter, check_rng
from autograd.tensor import plain

from ..checks import check_count
from ..distributions import Normal
from .vae import VAE

EDGE = 0.02                                  # pseudo-inputs that start from pixels start in [EDGE, 1 - EDGE]


class VampVAE(VAE):
    """A VAE whose prior is the mixture (2).

    pseudo_inputs  how many, which then start as noise, or an array (K, D) of examples that they start from
    The other options are VAE's, but for kl, which is (4), and free_bits: the KL has no summand for each latent.
    """

    def __init__(self, data_dim: int, *, pseudo_inputs: int | np.ndarray = 500, rng: np.random.Generator, **options):
        if options.get("free_bits") or "kl" in options:
            raise ValueError("a VampVAE takes no kl or free_bits: the KL to a mixture has no closed form, "
                             "and no summand for each latent")
        super().__init__(data_dim, kl="monte-carlo", rng=rng, **options)
        if np.ndim(pseudo_inputs):
            start = np.asarray(self.check(pseudo_inputs), np.float32)
            if self.likelihood == "bernoulli":
                start = np.clip(start, EDGE, 1 - EDGE)
                start = np.log(start / (1 - start))
        else:
            start = rng.standard_normal((check_count(pseudo_inputs, "pseudo_inputs"), data_dim))
        self.pseudo = Parameter(start)

    @property
    def pseudo_inputs(self):
        """u (K, D)."""
        return ops.sigmoid(self.pseudo) if self.likelihood == "bernoulli" else self.pseudo

    def prior(self) -> "Mixture":
        q = self.encode(self.pseudo_inputs)
        return Mixture(q.mu, q.logvar)                                                     # (2)

    def draw(self, n: int, rng: np.random.Generator) -> np.ndarray:
        return self.prior().sample(n, rng)

    def describe(self):
        return f"{super().describe()[:-1]}, {len(self.pseudo)} pseudo-inputs)"


class Mixture:
    """Gaussians N(mu, exp(logvar)) of equal weight: mu and logvar (K, d)."""

    def __init__(self, mu, logvar):
        self.mu, self.logvar = mu, logvar

    def log_prob(self, z):
        """ln p(z), (B,) nats, for z (B, d)."""
        return mixture_log_prob(z, self.mu, self.logvar)                                   # (3)

    def sample(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """n draws, (n, d)."""
        check_rng(rng)
        k = rng.integers(len(self.mu), size=n)
        return Normal(plain(self.mu)[k], plain(self.logvar)[k]).sample(rng)


def mixture_log_prob(z, mu, logvar):
    """ln of the mean of K densities N(z; mu, exp(logvar)): z (B, d), mu and logvar (K, d); returns (B,) nats."""
    if z.ndim != 2 or mu.shape != logvar.shape or mu.shape[1:] != z.shape[1:]:
        raise ValueError(f"this takes z (B, d), mu and logvar (K, d), not {z.shape}, {mu.shape} and {logvar.shape}")
    return _mixture_log_prob(z, mu, logvar)


def _composed(z, mu, logvar):
    log_q = -0.5 * ops.sum(ops.square(ops.expand_dims(z, 1) - mu) * ops.exp(-logvar) + logvar + LOG_2PI, axis=2)
    return ops.logsumexp(log_q, axis=1) - math.log(len(mu))                                # (3)


def _in_one_loop(z, mu, logvar):
    """As `_composed`, without an array (B, K, d)."""
    dtype = np.result_type(z, mu, logvar, np.float32)
    z, mu, logvar = (np.ascontiguousarray(v, dtype) for v in (z, mu.T, logvar.T))
    log_q = np.empty((len(z), mu.shape[1]), dtype)
    log_q[:] = np.sum(logvar + LOG_2PI, axis=0)
    _add_squares(z, mu, np.exp(-0.5 * logvar), log_q)
    log_q *= -0.5
    log_p = ops.logsumexp.forward(log_q, axis=1)
    return log_p - math.log(len(logvar.T)), np.exp(log_q - log_p[:, None])                 # (3)


def _mixture_vjp(g, z, mu, logvar, residual):
    """Each component answers for its share, in `residual` (B, K), of the density at z."""
    share, precision = g[:, None] * residual, np.exp(-logvar)
    total, first = share.sum(axis=0)[:, None], share.T @ z
    squares = share.T @ (z * z) - mu * (2 * first - mu * total)    # Σ over b of share (z − mu)²
    return (share @ (precision * mu) - z * (share @ precision), precision * (first - mu * total),
            0.5 * (precision * squares - total))


_mixture_log_prob = fused(_composed, _in_one_loop, joint=_mixture_vjp, residual=True, name="mixture_log_prob")


@compiled
def _add_squares(z, mu, rate, x):
    """x (B, K) += Σⱼ ((zⱼ − μⱼ) / σⱼ)², with z (B, d), mu and rate = 1/σ (d, K): the inner loop runs along memory."""
    for b in range(x.shape[0]):
        for j in range(mu.shape[0]):
            for k in range(mu.shape[1]):
                r = (z[b, j] - mu[j, k]) * rate[j, k]
                x[b, k] += r * r
