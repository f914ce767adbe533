"""The triangular flow: each variable moves by a linear function of those before it, and so is correlated with them.

    (1)  f(z) = z + L z,  L strictly lower triangular:  ln |det ∂f/∂z| = 0                   [flows.triangular]
    (2)  z ~ N(μ, diag σ²):  f(z) ~ N((I + L) μ, (I + L) diag σ² (I + L)ᵀ), which is
         any Gaussian there is, by its Cholesky factor (I + L) diag σ                        [flows.triangular-gaussian]
    (3)  z ← x − L z: pass i puts the i-th variable right, and dim passes all

z, x (B, d); L (d, d), or that of each example where there is a context, of which it is a linear function. No volume
changes, and no exponential is taken: sizes are left to the σ of whatever draws z. Kingma et al., arXiv:1606.04934,
appendix A, where it is called linear IAF.
"""
import numpy as np

from autograd import Tensor

from .planar import Direct


class Triangular(Direct):
    """(1). At the start L = 0, which is the identity: nothing is drawn from `rng`, which all layers are given."""

    def __init__(self, dim: int, context: int = 0, *, rng: np.random.Generator | None = None):
        super().__init__(dim, context)
        self.start(np.zeros(dim * dim))
        self.below = np.tril(np.ones((dim, dim), np.float32), -1)

    def forward(self, z, h=None):
        return z + self._moves(z, self._matrix(h)), self._log_det(z)                       # (1)

    def inverse(self, x, h=None):
        z, L = x, self._matrix(h)
        for _ in range(self.dim):
            z = x - self._moves(z, L)                                                      # (3)
        return z, self._log_det(x)

    def _matrix(self, h):
        return self.numbers(h).reshape(-1, self.dim, self.dim) * self.below

    def _moves(self, z, L):
        """L z, (B, d)."""
        return (L @ z.reshape(-1, self.dim, 1)).reshape(z.shape)

    def _log_det(self, z):
        return Tensor(np.zeros(len(z), z.dtype))
