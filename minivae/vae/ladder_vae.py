"""Hierarchical VAEs: latents above latents; and the ladder, whose posterior comes down the same steps as its prior.

    (1)  p(x, z) = p(x | z₁) p(z₁ | z₂) … p(z_L),  p(zᵢ | zᵢ₊₁) = N(mᵢ(zᵢ₊₁), vᵢ(zᵢ₊₁)),  p(z_L) = N(0, I)
         of which ln p(x) = ln E_q p(x, z)/q(z | x) for either of the following q            [ladder.model]
    (2)  stacked:  q(z | x) = q(z₁ | x) q(z₂ | z₁) … q(z_L | z_L−1)                          [ladder.stacked]
    (3)  ladder:   q(z | x) = q(z_L | x) Πᵢ q(zᵢ | x, zᵢ₊₁),  q(zᵢ | x, zᵢ₊₁) ∝ N(zᵢ; μ̂ᵢ(x), σ̂ᵢ²(x)) p(zᵢ | zᵢ₊₁)
         1/σᵢ² = 1/σ̂ᵢ² + 1/vᵢ,  μᵢ = σᵢ² (μ̂ᵢ/σ̂ᵢ² + mᵢ/vᵢ)                                  [ladder.merge]
         the posterior itself, if m and f(z₁) = W z₁ + b are linear and WᵀW diagonal         [ladder.linear]
    (4)  KL(q(z | x) ‖ p(z)) = Σᵢ E_q ln q(zᵢ | ·)/p(zᵢ | zᵢ₊₁)                              [ladder.chain-rule]
         in a ladder = Σᵢ E_q KL(q(zᵢ | x, zᵢ₊₁) ‖ p(zᵢ | zᵢ₊₁)):  p from above, not N(0, I)  [ladder.closed-form]

z = (z₁, …, z_L), (B, d₁ + … + d_L), the lowest level first; a network says μ, and a number of which softplus makes the
variance. Stacked, an upper level sees x only through samples of the lower ones; in a ladder each sees x itself, and
adds to what p says from above. Either can switch latents off for good, q(zᵢ | ·) = p(zᵢ | zᵢ₊₁), before others have a
use for them. In a ladder σ̂²/vᵢ then grows, until (3) has no gradient left: hence warm-up, batch normalisation, and
softplus, not exp, all from the paper. With them, five levels and twenty epochs of digits, the ladder's −ELBO is 93.2
nats, the stacked model's 95.0, and its top level is off. Batch normalisation decides: without, 94.9 and 93.3.
Stacked, zᵢ₊₁ depends on zᵢ: (4) has no closed form there.
Sønderby et al., arXiv:1602.02282, section 2; for (2), Burda et al., arXiv:1509.00519.
"""
import math

import numpy as np

from autograd import Tensor, no_grad, ops
from autograd.nn import MLP, Module

from ..checks import check_count
from ..distributions import Normal
from .batch_norm import NormedMLP
from .vae import VAE, Elbo

LEAST = 1e-6                                 # the smallest variance
ONE = math.log(math.expm1(1 - LEAST))        # softplus(ONE) + LEAST = 1


class StackedVAE(VAE):
    """A VAE with levels of latents, `latent_dims` of them, the lowest first, inferred upwards, (2).

    hidden      of each level the width of the hidden layer to and from it; () makes all networks linear
    batch_norm  whether the hidden layers are normalised: then call `eval()` before anything but training
    The other options are VAE's, but for kl: that is (4).
    """

    def __init__(self, data_dim: int, latent_dims: tuple = (50, 25), hidden: tuple = (400, 200), *,
                 batch_norm: bool = False, **options):
        if not isinstance(latent_dims, (tuple, list)) or len(latent_dims) < 2:
            raise ValueError(f"latent_dims must be a tuple of sizes, one for each of two levels or more, "
                             f"not {latent_dims!r}")
        if not isinstance(hidden, (tuple, list)) or len(hidden) not in (0, len(latent_dims)):
            raise ValueError(f"hidden must be (), or a width for each of {len(latent_dims)} levels, not {hidden!r}")
        if "kl" in options:
            raise ValueError("a hierarchy takes no kl: a ladder has a closed form for that of each level, others none")
        self.latent_dims = tuple(check_count(d, "each of latent_dims") for d in latent_dims)
        self.batch_norm = batch_norm
        super().__init__(data_dim, sum(latent_dims), hidden, kl="monte-carlo", **options)

    def networks(self, hidden, activation, rng):
        """From each level up, to q: D to 2 d₁, d₁ to 2 d₂, ...; and down, to p: d₂ to 2 d₁, ..., and d₁ to D."""
        d, widths = self.latent_dims, [(h,) for h in hidden] or [()] * len(self.latent_dims)
        kind = NormedMLP if self.batch_norm else MLP
        mlp = lambda n, w, m: kind(n, *w, m, activation=activation, rng=rng)
        self.top_down = TopDown(d, [mlp(above, w, 2 * n) for n, above, w in zip(d, d[1:], widths[1:])])
        return [mlp(n, w, 2 * m) for n, w, m in zip(self.below(hidden), widths, d)], mlp(d[0], widths[0], self.data_dim)

    def below(self, hidden):
        """The widths of what each level is inferred from."""
        return self.data_dim, *self.latent_dims[:-1]

    def bottom_up(self, x) -> list[Normal]:
        """What x says, whatever is drawn: q(z₁ | x)."""
        return [_normal(self.encoder[0](self.check(x)))]

    def infer(self, said: list[Normal], rng: np.random.Generator | None = None) -> "Levels":
        """z ~ q(z | x), for what `bottom_up` gave; without rng, every level at its mean."""
        z, q = [_draw(said[0], rng)], list(said)
        for net in self.encoder[1:]:
            q.append(_normal(net(z[-1])))                                                  # (2)
            z.append(_draw(q[-1], rng))
        return Levels(z, q, self.top_down.at(z))

    def encode(self, x) -> Normal:
        """q of every level, (B, Σ dᵢ), with those that it depends on at their means."""
        return self.infer(self.bottom_up(x)).q

    def decode(self, z):
        """p(x | z), for z (B, Σ dᵢ), of which z₁ is what matters."""
        return super().decode(z[:, :self.latent_dims[0]])

    def elbo(self, x, rng: np.random.Generator) -> Elbo:
        return self._elbo(x, rng)[2]

    def _elbo(self, x, rng):
        levels = self.infer(self.bottom_up(x), rng)
        recon = super().decode(levels.each[0][0]).log_prob(x)
        return levels, levels.each[0][0], Elbo(recon, levels.kl())

    def loss(self, x, rng: np.random.Generator) -> tuple[Tensor, dict[str, float]]:
        return self._loss(*self._elbo(x, rng))

    def prior(self) -> "TopDown":
        return self.top_down

    def draw(self, n: int, rng: np.random.Generator) -> np.ndarray:
        return self.top_down.sample(n, rng)

    def _log_mean_weight(self, k, rng, x):
        said, log_sum = self.bottom_up(x), np.full(len(x), -np.inf)
        for _ in range(k):
            levels = self.infer(said, rng)
            log_w = self.decode(levels.z).log_prob(x) - levels.q.log_prob(levels.z) + levels.p.log_prob(levels.z)
            log_sum = np.logaddexp(log_sum, np.asarray(log_w))
        return log_sum - math.log(k)

    @no_grad()
    def kl_per_latent(self, x, rng: np.random.Generator) -> list[np.ndarray]:
        """Of each level, (dᵢ,): the nats that its latents cost, averaged over x (B, D) and one z for each."""
        return self.top_down.split(np.asarray(self.infer(self.bottom_up(x), rng).kl_terms()).mean(axis=0))

    def active_units(self, x, rng: np.random.Generator) -> list[int]:
        """Of each level, how many latents cost more than 0.01 nats."""
        return [int(np.sum(kl > 0.01)) for kl in self.kl_per_latent(x, rng)]

    @no_grad()
    def redraw(self, x, kept: int, rng: np.random.Generator) -> np.ndarray:
        """Images (B, D) that have the `kept` top levels of z from x, and the others from p, given those."""
        check_count(kept, "kept", least=0, most=len(self.latent_dims))
        z = self.top_down.split(np.asarray(self.infer(self.bottom_up(x), rng).z))
        return np.asarray(self.decode(self.top_down.sample(len(x), rng, z[len(z) - kept:])).mean)

    def describe(self):
        return f"{type(self).__name__}({' -> '.join(map(str, (self.data_dim, *self.latent_dims)))}, {self.likelihood})"


class LadderVAE(StackedVAE):
    """A StackedVAE inferred downwards, (3), from layers that go up without samples. The options are StackedVAE's."""

    def below(self, hidden):
        return self.data_dim, *(hidden[:-1] or (self.data_dim,) * (len(self.latent_dims) - 1))

    def bottom_up(self, x):
        """What x says, whatever is drawn: N(μ̂, σ̂²) of every level, of which the top one is q(z_L | x)."""
        h, said = self.check(x), []
        for net in self.encoder:                                   # a branch before its last layer goes on upwards
            for layer in net.layers[:-1]:
                h = layer(h)
            said.append(_normal(net.layers[-1](h)))
        return said

    def infer(self, said, rng=None):
        z, q, p = [], [], []
        for hint in reversed(said):
            p.insert(0, self.top_down.next(z, len(hint.mu)))
            q.insert(0, merge(hint, p[0]) if z else hint)                                  # (3)
            z.insert(0, _draw(q[0], rng))
        return Levels(z, q, p, closed=True)


def merge(a: Normal, b: Normal) -> Normal:
    """The normalised product of two densities, whose precisions add."""
    share = ops.sigmoid(b.logvar - a.logvar)                       # of a in the precision
    return Normal(b.mu + share * (a.mu - b.mu), a.logvar - ops.softplus(a.logvar - b.logvar))          # (3)


class TopDown(Module):
    """p(z) of (1), for levels of `sizes`, the lowest first: `nets[i]` makes p(zᵢ | zᵢ₊₁) of zᵢ₊₁."""

    def __init__(self, sizes: tuple, nets: list):
        self.sizes, self.nets = sizes, nets

    def next(self, above: list, rows: int) -> Normal:
        """p of the next level down from those `above`; if there are none p(z_L), for that many rows."""
        if above:
            return _normal(self.nets[-len(above)](above[0]))                               # (1)
        zeros = np.zeros((rows, self.sizes[-1]), self.nets[0].layers[0].w.dtype)
        return Normal(zeros, zeros)

    def at(self, z: list) -> list[Normal]:
        """p of every level of z, given the one above."""
        return [self.next(z[i + 1:], len(z[i])) for i in range(len(z))]

    def sample(self, n: int, rng: np.random.Generator, above: list = ()) -> np.ndarray:
        """n draws of z, (n, Σ dᵢ), of which the levels `above` are given."""
        z = list(above)
        while len(z) < len(self.sizes):
            z.insert(0, self.next(z, n).sample(rng))
        return np.concatenate(z, axis=1)

    def log_prob(self, z):
        """ln p(z), (B,) nats, for z (B, Σ dᵢ)."""
        return _joined(self.at(self.split(z))).log_prob(z)                                 # (1)

    def split(self, z) -> list:
        """Of an array (..., Σ dᵢ), what belongs to each level."""
        return ops.split(z, np.cumsum(self.sizes)[:-1], axis=-1)


class Levels:
    """z, and the q and p that each level of it had, given others: lists, which z, q and p join to (B, Σ dᵢ)."""

    def __init__(self, z: list, q: list[Normal], p: list[Normal], closed: bool = False):
        self.each, self.closed = list(zip(z, q, p)), closed

    @property
    def z(self):
        return ops.concatenate([z for z, _, _ in self.each], axis=1)

    @property
    def q(self):
        return _joined([q for _, q, _ in self.each])

    @property
    def p(self):
        return _joined([p for _, _, p in self.each])

    def kl(self):
        """(4), (B,): of the levels at z, or on average over each if that is in closed form."""
        if not self.closed:
            return sum(q.log_prob(z) - p.log_prob(z) for z, q, p in self.each)             # (4)
        *lower, (_, top, _) = self.each
        return sum((q.kl(p) for _, q, p in lower), top.kl())                               # (4), p(z_L) = N(0, I)

    def kl_terms(self):
        """The summands of `kl`, (B, Σ dᵢ): what each latent adds."""
        if self.closed:
            return self.q.kl_terms(self.p)                                                 # (4)
        q, p = (0.5 * (ops.square(self.z - n.mu) * ops.exp(-n.logvar) + n.logvar) for n in (self.q, self.p))
        return p - q                                                                       # (4)


def _normal(h):
    """From the output of a network: mu, and what softplus makes the variance of, side by side; of 0 it makes 1."""
    d = h.shape[1] // 2
    return Normal(h[:, :d], ops.log(ops.softplus(h[:, d:] + ONE) + LEAST))


def _joined(levels):
    return Normal(*(ops.concatenate([getattr(n, name) for n in levels], axis=1) for name in ("mu", "logvar")))


def _draw(q, rng):
    return q.mean if rng is None else q.rsample(rng)
