"""The conditional VAE: the VAE with a condition y, a label or part of an image, in every term of the ELBO.

    (1)  p(z | y) = N(z; m(y), s²(y)), learned, or N(0, I) whatever y
    (2)  p(x | z, y) = Bernoulli(x; σ(f(z, y)))  or  N(x; f(z, y), s²)
    (3)  q(z | x, y) = N(z; μ(x, y), σ²(x, y))
    (4)  ln p(x | y) − KL(q(z | x, y) ‖ p(z | x, y)) = E_q ln p(x | z, y) − KL(q(z | x, y) ‖ p(z | y))     [cvae.elbo]
    (5)  ln p(x | y) = ln E_q w,  w = p(x | z, y) p(z | y) / q(z | x, y)                     [cvae.log-likelihood]

x (B, D), z (B, d), y (B, C): labels 0..C−1 as integers (B,), which become one-hot, or C numbers an example. y joins x at
the encoder's input and z at the decoder's. With a fixed prior, z must be independent of y, and holds what y does not say
(style); with a learned one it need not. Sohn, Lee and Yan, Learning structured output representation using deep
conditional generative models, 2015, section 4.1; Kingma et al., arXiv:1406.5298, has (1) with N(0, I).
"""
import numpy as np

from autograd import Tensor, no_grad, ops
from autograd.nn import MLP
from autograd.tensor import plain

from ..distributions import Bernoulli, Normal
from .vae import VAE, Elbo


class CVAE(VAE):
    """A VAE of x given y, for data of width `data_dim` and conditions of `condition_dim` classes or numbers.

    prior         "learned", (1), or "standard", N(0, I)
    prior_hidden  widths of the hidden layers between y and p(z | y); () makes m and ln s² linear in y
    The other options are VAE's.
    """

    def __init__(self, data_dim: int, condition_dim: int, latent_dim: int = 20, hidden: tuple = (400,), *,
                 prior: str = "learned", prior_hidden: tuple = (), activation: str = "relu", rng: np.random.Generator,
                 **options):
        if not isinstance(condition_dim, int) or condition_dim < 1:
            raise ValueError(f"condition_dim must be a positive whole number, not {condition_dim!r}")
        if prior not in ("learned", "standard"):
            raise ValueError(f"prior is 'learned' or 'standard', not {prior!r}")
        self.condition_dim = condition_dim
        super().__init__(data_dim, latent_dim, hidden, activation=activation, rng=rng, **options)
        self.prior_net = None
        if prior == "learned":
            self.prior_net = MLP(condition_dim, *prior_hidden, 2 * latent_dim, activation=activation, rng=rng)
            for p in self.prior_net.layers[-1].parameters():
                p.assign(np.zeros(p.shape))                        # N(0, I) to begin with

    def networks(self, hidden, activation, rng):
        D, d, C = self.data_dim, self.latent_dim, self.condition_dim
        return (MLP(D + C, *hidden, 2 * d, activation=activation, rng=rng),
                MLP(d + C, *hidden[::-1], D, activation=activation, rng=rng))

    def encode(self, x, y) -> Normal:
        """q(z | x, y), for x (B, D) and y (B,) or (B, C)."""
        h = self.encoder(self._join(self.check(x), y))
        return Normal(h[:, :self.latent_dim], h[:, self.latent_dim:])                      # (3)

    def decode(self, z, y) -> Bernoulli | Normal:
        """p(x | z, y), for z (B, d)."""
        return super().decode(self._join(z, y))                                            # (2)

    def prior(self, y) -> Normal:
        """p(z | y)."""
        if self.prior_net is None:
            return super().prior()
        h = self.prior_net(self.condition(y))
        return Normal(h[:, :self.latent_dim], h[:, self.latent_dim:])                      # (1)

    def elbo(self, x, y, rng: np.random.Generator) -> Elbo:
        """The two terms of (4), (B,) each, from one sample of z per example."""
        return self._elbo(x, y, self.encode(x, y), rng)[1]

    def _elbo(self, x, y, q, rng):
        z, p = q.rsample(rng), self.prior(y)
        recon = self.decode(z, y).log_prob(x)
        kl = q.kl(self.prior_net and p) if self.analytic else q.log_prob(z) - p.log_prob(z)
        return z, Elbo(recon, kl)                                                          # (4)

    def loss(self, batch: tuple, rng: np.random.Generator) -> tuple[Tensor, dict[str, float]]:
        """−ELBO in nats, averaged over a batch (x, y), and its terms."""
        x, y = batch
        q = self.encode(x, y)
        return self._loss(q, *self._elbo(x, y, q, rng))

    @no_grad()
    def log_likelihood(self, x, y, k: int, rng: np.random.Generator) -> np.ndarray:
        """ln p(x | y), (B,) nats, bounded from below by k importance samples from q."""
        return self._log_mean_weights(k, rng, np.asarray(self.check(x)), self.condition(y))               # (5)

    @no_grad()
    def sample(self, y, rng: np.random.Generator, noise: bool = False) -> np.ndarray:
        """A draw of x for each y, (B, D): the means of p(x | z, y) for z ~ p(z | y) or, with `noise`, draws of x."""
        y = self.condition(y)
        p = self.prior(y)
        z = Normal(*(np.broadcast_to(plain(v), (len(y), self.latent_dim)) for v in (p.mu, p.logvar))).sample(rng)
        p = self.decode(z, y)
        return p.sample(rng) if noise else np.asarray(p.mean)

    @no_grad()
    def reconstruct(self, x, y) -> np.ndarray:
        """The mean of p(x | z, y) at z = the mean of q(z | x, y), (B, D)."""
        return np.asarray(self.decode(self.encode(x, y).mean, y).mean)

    def condition(self, y) -> np.ndarray:
        """y as (B, C) floats: labels become one-hot. Raises ValueError unless y is what the model is conditioned on."""
        y, C, dtype = np.asarray(y), self.condition_dim, self.logvar.dtype
        if y.ndim == 1 and y.dtype.kind in "iu":
            if y.size and not 0 <= y.min() <= y.max() < C:
                raise ValueError(f"labels must be in [0, {C}), got {y.min()} to {y.max()}")
            return np.eye(C, dtype=dtype)[y]
        if y.ndim != 2 or y.shape[1] != C or y.dtype.kind not in "fbiu":
            raise ValueError(f"y must be integer labels (batch,) below {C}, or numbers (batch, {C}), "
                             f"not {y.dtype} of shape {y.shape}")
        if not np.isfinite(y).all():
            raise ValueError("y must be finite")
        return y.astype(dtype, copy=False)

    def _join(self, x, y):
        y = self.condition(y)
        if len(y) != len(x):
            raise ValueError(f"there must be a y for each x: {len(y)} for {len(x)}")
        return ops.concatenate([x, y], axis=1)

    def describe(self):
        return f"{type(self).__name__}({self.data_dim} given {self.condition_dim} -> {self.latent_dim}, {self.likelihood})"
