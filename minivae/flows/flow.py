"""Normalising flows: push a simple density through a chain of invertible maps, and the result is known exactly.

    (1)  z_K = f_K ∘ … ∘ f₁(z₀):  ln q(z_K) = ln q₀(z₀) − Σₖ ln |det ∂fₖ/∂zₖ₋₁|               [flows.density]
    (2)  f⁻¹(f(z)) = z,  and its ln |det| is that of f, negated                              [flows.inverse]
    (3)  ∫ q(x) dx = 1                                                                       [flows.normalised]

z, x (B, dim); log-determinants and log densities (B,), in nats; q₀ = N(0, I) unless something else, such as the encoder
of a VAE, draws z₀. A layer may depend on a context h (B, context), which is how a flow differs from one example of x to
another. Tabak and Vanden-Eijnden, 2010, for the idea; Rezende and Mohamed, arXiv:1505.05770, section 3, for (1).
"""
from typing import Iterable

import numpy as np

from autograd import Tensor, no_grad
from autograd.nn import Module, check_rng
from autograd.tensor import plain

from ..checks import check_count, finite
from ..distributions import Normal
from ..train import Model


class Layer(Module):
    """An invertible map of z (B, dim), given h (B, context) unless `context` is 0: what a Flow is made of.

    `forward(z, h)` returns f(z) and ln |det ∂f/∂z|, (B,); `inverse(x, h)` returns z and ln |det ∂z/∂x|.
    """

    def __init__(self, dim: int, context: int = 0):
        self.dim, self.context = check_count(dim, "dim"), check_count(context, "context", least=0)

    def inverse(self, x, h=None):
        raise ValueError(f"{type(self).__name__} has no inverse: it can be drawn from, but knows no density of x")

    def check_context(self, h):
        """A ValueError if there is no h for a layer that takes one; the others let it pass, so that a Flow can mix."""
        if h is None and self.context:
            raise ValueError(f"{self.describe()} takes a context h (batch, {self.context})")

    def describe(self):
        return f"{type(self).__name__}({self.dim}{f' given {self.context}' if self.context else ''})"


class Flow(Layer, Model):
    """Layers one after the other, and with q₀ = N(0, I) a density. Raises ValueError if they do not match."""

    def __init__(self, layers: Iterable[Layer]):
        layers = list(layers) if isinstance(layers, Iterable) else layers
        if not isinstance(layers, list) or not layers or not all(isinstance(f, Layer) for f in layers):
            raise ValueError("a Flow is made of at least one layer, in a list, such as [Planar(2, rng=rng)], "
                             f"not of {layers}")
        for name in ("dim", "context"):
            sizes = {getattr(f, name) for f in layers} - {0}
            if len(sizes) > 1:
                raise ValueError(f"layers do not match: the {name} of {layers} is not one")
        super().__init__(layers[0].dim, max(f.context for f in layers))
        self.layers = layers

    def forward(self, z, h=None) -> tuple[Tensor, Tensor]:
        """z_K and Σ ln |det|, (B,), for z₀ (B, dim)."""
        return self._through([f.forward for f in self.layers], z, h)

    def inverse(self, x, h=None) -> tuple[Tensor, Tensor]:
        """z₀ and ln |det ∂z₀/∂x|, (B,), for x (B, dim). Raises ValueError if a layer has no inverse."""
        return self._through([f.inverse for f in reversed(self.layers)], x, h)             # (2)

    def _through(self, maps, z, h):
        self.check(z, h)
        total = 0.0
        for f in maps:
            z, logdet = f(z, h)
            total = logdet + total
        return z, total

    def log_prob(self, x, h=None) -> Tensor:
        """ln q(x), (B,) nats, with q₀ = N(0, I)."""
        z, logdet = self.inverse(x, h)
        zeros = np.zeros(self.dim, z.dtype)
        return Normal(zeros, zeros).log_prob(z) + logdet                                   # (1)

    def loss(self, batch, rng: np.random.Generator) -> tuple[Tensor, dict[str, float]]:
        """−ln q in nats, averaged over a batch of x (B, dim), or of pairs (x, h)."""
        nll = -self.log_prob(*batch if isinstance(batch, tuple) else (batch,)).mean()
        return nll, {"nll": nll.item()}

    @no_grad()
    def sample(self, n: int, rng: np.random.Generator, h=None) -> np.ndarray:
        """n draws from q, (n, dim); with a context, one for each row of h (n, context)."""
        check_rng(rng)
        return plain(self.forward(rng.standard_normal((check_count(n, "n"), self.dim), dtype=self.dtype), h)[0])

    @property
    def dtype(self):
        return self.parameters()[0].dtype

    def check(self, z, h):
        """Raise ValueError for another shape than (B, dim) and (B, context), and for arrays that are not finite."""
        self.check_context(h)
        if h is not None and not self.context:
            raise ValueError(f"{self.describe()} takes no context h")
        for array, name, width in ((z, "z", self.dim), (h, "h", self.context)):
            if isinstance(array, Tensor) and (array.ndim != 2 or array.shape[1] != width):
                raise ValueError(f"{name} must have shape (batch, {width}), not {array.shape}")
            if width and not isinstance(array, Tensor):
                finite(array, name, (None, width))
        if self.context and len(z) != len(h):
            raise ValueError(f"there must be one h for each z: {len(h)} for {len(z)}")
