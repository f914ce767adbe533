"""The conditional VAE: the VAE with a condition y, a label or part of an image, in every term of the ELBO.

    (1)  p(z | y) = N(z; m(y), v(y)), learned, or N(0, I) whatever y
    (2)  p(x | z, y) = Bernoulli(x; σ(f(z, y)))  or  N(x; f(z, y), s²)
    (3)  q(z | x, y) = N(z; μ(x, y), σ²(x, y))
    (4)  ln p(x | y) − KL(q(z | x, y) ‖ p(z | x, y)) = E_q ln p(x | z, y) − KL(q(z | x, y) ‖ p(z | y))     [cvae.elbo]
    (5)  ln p(x | y) = ln E_q w,  w = p(x | z, y) p(z | y) / q(z | x, y)                     [cvae.log-likelihood]
    (6)  y is worth E ln p(x | y) − ln p(x) = I(x; y), for Gaussians ½ ln |Σ_x| / |Σ_x|y|    [cvae.information]
    (7)  without y, the best q costs E KL(q(z | x) ‖ p(z | x, y)), and the best prior E KL(p(z | y) ‖ p(z))  [cvae.cost]
         and if y has no weight in any term, this is the VAE                                 [cvae.vae]

x (B, D), z (B, d), y (B, C): C numbers an example, or labels 0..C−1 as integers (B,), which become one-hot. y joins x
at the encoder's input and z at the decoder's. With a fixed prior, z must be independent of y, and holds what y does not
say (style); with a learned one it need not. Sohn, Lee and Yan, Learning structured output representation using deep
conditional generative models, 2015, section 4.1; Kingma et al., arXiv:1406.5298, has (1) with N(0, I).
"""
import numpy as np

from autograd import Tensor, no_grad, ops
from autograd.nn import MLP
from autograd.tensor import plain

from ..checks import check_choice, check_count, check_widths
from ..distributions import Bernoulli, Normal
from .vae import VAE, Elbo


class CVAE(VAE):
    """A VAE of x given y, for data of width `data_dim` and conditions of `condition_dim` classes or numbers.

    prior         "learned", (1), or "standard", N(0, I)
    prior_hidden  widths of the hidden layers between y and p(z | y); () makes m and ln v linear in y
    The other options are VAE's.
    """

    def __init__(self, data_dim: int, condition_dim: int, latent_dim: int = 20, hidden: tuple = (400,), *,
                 prior: str = "learned", prior_hidden: tuple = (), activation: str = "relu", rng: np.random.Generator,
                 **options):
        check_choice(prior, "prior", ("learned", "standard"))
        prior_hidden = check_widths(prior_hidden, "prior_hidden")
        self.condition_dim = check_count(condition_dim, "condition_dim")
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
        y = self.condition(y)
        h = self.prior_net(y) if self.prior_net else np.zeros((len(y), 2 * self.latent_dim), y.dtype)
        return Normal(h[:, :self.latent_dim], h[:, self.latent_dim:])                      # (1)

    def elbo(self, x, y, rng: np.random.Generator) -> Elbo:
        """The two terms of (4), (B,) each, from one sample of z per example."""
        return self._elbo(x, y, rng)[2]

    def _elbo(self, x, y, rng):
        y = self.condition(y)
        q, p = self.encode(x, y), self.prior(y)
        z = q.rsample(rng)
        recon = self.decode(z, y).log_prob(x)
        unit = q
        if self.prior_net:                   # q in the coordinates in which p is N(0, I): each latent's KL is the same
            unit = Normal((q.mu - p.mu) * ops.exp(-0.5 * p.logvar), q.logvar - p.logvar)
        kl = unit.kl() if self.analytic else q.log_prob(z) - p.log_prob(z)
        return unit, z, Elbo(recon, kl)                                                    # (4)

    def loss(self, batch: tuple, rng: np.random.Generator) -> tuple[Tensor, dict[str, float]]:
        """−ELBO in nats, averaged over a batch (x, y), as weighed by `penalty`, and the terms as they are."""
        if not isinstance(batch, (tuple, list)) or len(batch) != 2:
            raise ValueError(f"a batch of {type(self).__name__} is a pair (x, y), as Batches(..., labels=y) gives them")
        return self._loss(*self._elbo(*batch, rng))

    @no_grad()
    def log_likelihood(self, x, y, k: int, rng: np.random.Generator) -> np.ndarray:
        """ln p(x | y), (B,) nats, bounded from below by k importance samples from q."""
        x = np.asarray(self.check(x))
        return self._log_mean_weights(k, rng, x, np.asarray(self.condition(y, len(x))))    # (5)

    @no_grad()
    def sample(self, y, rng: np.random.Generator, noise: bool = False) -> np.ndarray:
        """A draw of x for each y, (B, D): the means of p(x | z, y) for z ~ p(z | y) or, with `noise`, draws of x."""
        p = self.decode(self.prior(y).sample(rng), y)
        return p.sample(rng) if noise else np.asarray(p.mean)

    @no_grad()
    def reconstruct(self, x, y) -> np.ndarray:
        """The mean of p(x | z, y) at z = the mean of q(z | x, y), (B, D)."""
        return np.asarray(self.decode(self.encode(x, y).mean, y).mean)

    def condition(self, y, rows: int | None = None) -> np.ndarray | Tensor:
        """y as floats (B, C): labels as one-hot; numbers, and bytes, as they are. Raises ValueError for others."""
        values, C, dtype = np.asarray(plain(y)), self.condition_dim, self.logvar.dtype
        labels = values.ndim == 1 and values.dtype.kind in "iu"
        if not labels and (values.ndim != 2 or values.shape[1] != C or values.dtype.kind not in "fbiu"):
            raise ValueError(f"y must be integer labels (batch,) below {C}, or numbers (batch, {C}), "
                             f"not {values.dtype} of shape {values.shape}")
        if rows not in (None, len(values)):
            raise ValueError(f"there must be one y for each x or z: {len(values)} for {rows}")
        if labels and values.size and not 0 <= values.min() <= values.max() < C:
            raise ValueError(f"labels must be in [0, {C}), got {values.min()} to {values.max()}")
        if labels:
            return (values[:, None] == np.arange(C)).astype(dtype)
        if not np.isfinite(values := values.astype(dtype, copy=False)).all():
            raise ValueError(f"y must be finite, in {dtype}")
        return y if isinstance(y, Tensor) else values

    def _join(self, x, y):
        return ops.concatenate([x, self.condition(y, len(x))], axis=1)

    def describe(self):
        sizes = f"{self.data_dim} given {self.condition_dim} -> {self.latent_dim}"
        return f"{type(self).__name__}({sizes}, {self.likelihood})"
