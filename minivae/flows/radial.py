"""The radial flow: a map that pushes points away from a centre, or draws them near.

    (1)  f(z) = z + β (z − z₀)/(α + r),  r = |z − z₀|,  α > 0,  β > −α
         det = (1 + β/(α + r))^(d − 1) (1 + α β/(α + r)²)                                    [flows.radial]
    (2)  R = |f(z) − z₀| = r + β r/(α + r): the inverse is a quadratic equation in r

z (B, d); z₀ (d,), α and β numbers, or those of each example where there is a context. Where β <= −α, the centre would
be turned inside out: the parameters are ln(e^α − 1) and ln(e^(α + β) − 1), which can be anything.
Rezende and Mohamed, arXiv:1505.05770, section 4.1 and appendix A.
"""
import numpy as np

from autograd import ops
from autograd.nn import check_rng

from ..checks import finite, positive
from .planar import TINY, Direct, softplus_inverse


class Radial(Direct):
    """(1). At the start β = 0, which is the identity, α = 1 and z₀ is random."""

    def __init__(self, dim: int, context: int = 0, *, rng: np.random.Generator):
        check_rng(rng)
        one = softplus_inverse(1.0)
        super().__init__(dim, context)
        self.start(np.append(rng.standard_normal(dim), [one, one]))

    def forward(self, z, h=None):
        center, alpha, rise = self._split(h)
        r = _norm(z - center)
        h = ops.expand_dims((rise - alpha) / (alpha + r), -1)
        return z + h * (z - center), self._log_det(r, alpha, rise)                         # (1)

    def inverse(self, x, h=None):
        center, alpha, rise = self._split(h)
        R = _norm(x - center)
        half = (R - rise) / 2
        root = ops.abs(half) + ops.sqrt(half * half + alpha * R)   # the larger of |r| of the two solutions
        r = ops.where(half > 0, root, alpha * R / root)                                    # (2)
        shrink = ops.expand_dims((alpha + r) / (rise + r), -1)
        return center + shrink * (x - center), -self._log_det(r, alpha, rise)

    def assign(self, center, alpha: float, beta: float):
        """Take over z₀, α and β. Raises ValueError unless α > 0 and β > −α."""
        alpha = positive(alpha, "alpha")
        if not alpha + beta > 0:
            raise ValueError(f"a radial map is invertible if beta > -alpha = {-alpha:.4g}, and this is {beta:.4g}")
        numbers = softplus_inverse(np.array([alpha, alpha + finite([beta], "beta", (1,))[0]]))
        self.theta.assign(np.append(finite(center, "center", (self.dim,)), numbers))

    def _split(self, h):
        """z₀, α and α + β, the latter two > 0 whatever theta is."""
        theta = self.numbers(h)
        return theta[..., :-2], ops.softplus(theta[..., -2]), ops.softplus(theta[..., -1])

    def _log_det(self, r, alpha, rise):
        return ((self.dim - 1) * ops.log(rise + r) + ops.log(r * (r + 2 * alpha) + alpha * rise)
                - (self.dim + 1) * ops.log(alpha + r))                                     # (1): no differences


def _norm(x):
    return ops.sqrt(ops.maximum(ops.sum(x * x, axis=-1), TINY))
