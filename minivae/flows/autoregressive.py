"""Autoregressive flows: each variable is scaled and shifted as those before it say, so the Jacobian is triangular.

    (1)  MADE:  unit j of a layer sees unit i of the one before iff deg i <= deg j, of the last iff deg i < deg j;
         deg of input i is its place in the order, hidden units share out the rest:
         output i depends on the inputs before i alone                                       [flows.made]
    (2)  IAF:  z'ᵢ = σᵢ(z₁…ᵢ₋₁) zᵢ + mᵢ(z₁…ᵢ₋₁):    ln |det ∂z'/∂z| = Σ ln σᵢ                  [flows.iaf]
    (3)  MAF:  zᵢ = (xᵢ − mᵢ(x₁…ᵢ₋₁))/σᵢ(x₁…ᵢ₋₁):  ln |det ∂z/∂x| = −Σ ln σᵢ                  [flows.maf]

z, z', x (B, dim); a context h has degree 0: all see it. IAF draws in one pass, as a posterior must, MAF finds a density
in one. The way back goes variable by variable: pass i of z ← (z' − m(z))/σ(z) puts the i-th right, and dim passes all.
ln σ is bounded as in coupling.py. Germain et al., arXiv:1502.03509, section 4, for (1); Kingma et al.,
arXiv:1606.04934, sections 3 and 4, for (2); Papamakarios et al., arXiv:1705.07057, section 3, for (3).
"""
import numpy as np

from autograd import ops
from autograd.linear import linear
from autograd.nn import ACTIVATIONS, Linear, Sequential

from ..checks import check_count, check_widths
from .coupling import bounded, start_at_zero
from .flow import Layer


class MaskedLinear(Linear):
    """y = φ(x (M ⊙ W) + b), with a mask M (n_in, n_out) of zeros and ones."""

    def __init__(self, mask: np.ndarray, activation: str | None = None, *, rng: np.random.Generator):
        super().__init__(*mask.shape, activation, rng=rng)
        self.mask = np.asarray(mask, np.float32)

    def forward(self, x):
        fits = self.activation in ACTIVATIONS
        y = linear(x, self.w * self.mask, self.b, activation=self.activation if fits else None)
        return y if fits else getattr(ops, self.activation)(y)


class MaskedMLP(Sequential):
    """x (B, dim), and a context h (B, context), to (B, outputs, dim): [:, :, i] of those before i in `order`, and h.

    `order` (dim,) is the place of each variable, a permutation of 0..dim−1; by default they come as they are.
    """

    def __init__(self, dim: int, hidden: tuple = (64,), outputs: int = 1, context: int = 0, *,
                 order: np.ndarray | None = None, activation: str = "tanh", rng: np.random.Generator):
        self.dim, self.outputs = check_count(dim, "dim"), check_count(outputs, "outputs")
        self.context = check_count(context, "context", least=0)
        order = np.arange(dim) if order is None else np.asarray(order)
        if order.shape != (dim,) or {*order.tolist()} != {*range(dim)}:
            raise ValueError(f"order must be a permutation of 0..{dim - 1}, not {order}")
        least = 0 if context else 1                                # a unit of degree 0 sees the context only
        degrees = [np.append(order + 1, np.zeros(context, int)),
                   *(least + np.arange(n) * max(1, dim - least) // n for n in check_widths(hidden, "hidden"))]
        masks = [a[:, None] <= b for a, b in zip(degrees, degrees[1:])]
        masks.append(degrees[-1][:, None] < np.tile(order + 1, outputs))                   # (1)
        super().__init__(*[MaskedLinear(mask, activation, rng=rng) for mask in masks[:-1]],
                         MaskedLinear(masks[-1], rng=rng))

    def forward(self, x, h=None):
        y = super().forward(ops.concatenate([x, h], axis=1) if self.context else x)
        return y.reshape(len(x), self.outputs, self.dim)


class _Autoregressive(Layer):
    """m and ln σ of a masked network, 0 at the start: the identity. With `flip`, the last variable comes first."""

    def __init__(self, dim: int, hidden: tuple = (64,), context: int = 0, *, flip: bool = False,
                 activation: str = "tanh", rng: np.random.Generator):
        super().__init__(dim, context)
        order = np.arange(dim)[::-1] if flip else None
        self.net = start_at_zero(MaskedMLP(dim, hidden, 2, context, order=order, activation=activation, rng=rng))

    def mean_and_scale(self, x, h):
        """m and ln σ, (B, dim), each of the variables of x before its own."""
        self.check_context(h)
        y = self.net(x, h)
        return y[:, 0], bounded(y[:, 1])


class IAF(_Autoregressive):
    """(2): forward is one pass, inverse `dim`."""

    def forward(self, z, h=None):
        m, s = self.mean_and_scale(z, h)
        return ops.exp(s) * z + m, ops.sum(s, axis=1)                                      # (2)

    def inverse(self, x, h=None):
        z = x
        for _ in range(self.dim):
            m, s = self.mean_and_scale(z, h)
            z = (x - m) * ops.exp(-s)                                                      # (2)
        return z, -ops.sum(s, axis=1)


class MAF(_Autoregressive):
    """(3): inverse is one pass, forward `dim`."""

    def forward(self, z, h=None):
        x = z
        for _ in range(self.dim):
            m, s = self.mean_and_scale(x, h)
            x = ops.exp(s) * z + m                                                         # (3)
        return x, ops.sum(s, axis=1)

    def inverse(self, x, h=None):
        m, s = self.mean_and_scale(x, h)
        return (x - m) * ops.exp(-s), -ops.sum(s, axis=1)                                  # (3)
