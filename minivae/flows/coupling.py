"""RealNVP's coupling: half of the variables stay, and scale and shift the others, through any network.

    (1)  x_a = z_a,  x_b = z_b exp s(z_a) + t(z_a):  ln |det| = Σⱼ sⱼ                         [flows.coupling]
    (2)  z_b = (x_b − t(x_a)) exp(−s(x_a)): one pass either way, and the network need not be inverted
    (3)  s = S tanh(raw/S),  S = 3: no layer scales by more than e³ = 20, and none to 0      [flows.bounded]

z, x (B, dim); a is the first half of the variables, b the rest; with `flip`, the other way round: flows alternate.
Dinh, Sohl-Dickstein and Bengio, arXiv:1605.08803, sections 3.2, 3.3 and 3.5.
"""
import numpy as np

from autograd import ops
from autograd.nn import MLP

from ..checks import check_count, check_widths
from .flow import Layer

LIMIT = 3.0                                  # S


class Coupling(Layer):
    """(1), with an MLP for s and t, whose last layer is 0 at the start: the identity."""

    def __init__(self, dim: int, hidden: tuple = (64,), context: int = 0, *, flip: bool = False,
                 activation: str = "tanh", rng: np.random.Generator):
        super().__init__(check_count(dim, "the dim of a Coupling", least=2), context)
        self.flip, self.cut = flip, dim // 2
        kept = dim - self.cut if flip else self.cut
        hidden = check_widths(hidden, "hidden")
        self.net = start_at_zero(MLP(kept + context, *hidden, 2 * (dim - kept), activation=activation, rng=rng))

    def forward(self, z, h=None):
        a, b = self._halves(z)
        s, t = self._scale_and_shift(a, h)
        return self._join(a, b * ops.exp(s) + t), ops.sum(s, axis=1)                       # (1)

    def inverse(self, x, h=None):
        a, b = self._halves(x)
        s, t = self._scale_and_shift(a, h)
        return self._join(a, (b - t) * ops.exp(-s)), -ops.sum(s, axis=1)                   # (2)

    def _halves(self, z):
        first, last = z[:, :self.cut], z[:, self.cut:]
        return (last, first) if self.flip else (first, last)

    def _join(self, a, b):
        return ops.concatenate([b, a] if self.flip else [a, b], axis=1)

    def _scale_and_shift(self, a, h):
        self.check_context(h)
        raw, t = ops.split(self.net(ops.concatenate([a, h], axis=1) if self.context else a), 2, axis=1)
        return bounded(raw), t


def bounded(raw):
    """s, within ±S."""
    return LIMIT * ops.tanh(raw / LIMIT)                                                   # (3)


def start_at_zero(net):
    """`net`, with its last layer 0."""
    for p in net.layers[-1].parameters():
        p.assign(np.zeros(p.shape))
    return net
