"""PixelCNN: a distribution over grids of codes, each predicted from those before it, by convolutions with masks.

    (1)  ln p(k) = Σᵢ ln p(kᵢ | k₁ … kᵢ₋₁),  i = 1 … n, row by row                           [pixelcnn.chain-rule]
    (2)  w ⊙ M ∗ x:  M is 1 at the places before the middle one, in that order, and, but for the first layer, at the
         middle: so what predicts kᵢ depends on k₁ … kᵢ₋₁ alone                               [pixelcnn.causal]
    (3)  bits a code:  −ln p(k) / (n ln 2)

k (B, h, w) integers in 0..K−1, n = h w; the network's output is K logits a place. A code enters as a vector, learned,
and so does its place. All factors of (1) come from one pass; a draw takes n of them. A 3 x 3 mask does not see the row
above beyond its own width, so that some codes far to the right are seen late or never. van den Oord, Kalchbrenner and
Kavukcuoglu, arXiv:1601.06759, section 3; as the prior of a VQ-VAE, arXiv:1711.00937, section 3.3.
"""
import math

import numpy as np

from autograd import Tensor, no_grad, ops
from autograd.conv import conv2d
from autograd.nn import Conv2d, Embedding, Linear, Parameter, check_rng

from ..checks import check_count
from ..distributions import Categorical
from ..train import Model


class MaskedConv2d(Conv2d):
    """A convolution of `width` to `width` channels that sees the places before each and, with `middle`, that one."""

    def __init__(self, width: int, kernel: int, *, middle: bool, rng: np.random.Generator):
        super().__init__(width, width, kernel, rng=rng)
        seen = np.arange(kernel ** 2) < kernel ** 2 // 2 + middle
        self.mask = seen.reshape(kernel, kernel, 1, 1).astype(np.float32)

    def forward(self, x):
        return conv2d(x, self.w * self.mask, self.b, padding=self.padding)                 # (2)


class PixelCNN(Model):
    """p(k) on a `grid` (h, w) of `codes` kinds of code: one masked layer of 5 x 5, `layers` of 3 x 3: `width` wide."""

    def __init__(self, codes: int, grid: tuple[int, int] = (7, 7), width: int = 64, layers: int = 3, *,
                 rng: np.random.Generator):
        check_rng(rng)
        self.codes, width = check_count(codes, "codes"), check_count(width, "width")
        if not isinstance(grid, (tuple, list)) or len(grid) != 2:
            raise ValueError(f"grid must be a height and a width, such as (7, 7), not {grid!r}")
        self.grid = tuple(check_count(n, "each of grid") for n in grid)
        self.embed, self.place = Embedding(codes, width, rng=rng), Parameter(np.zeros((*self.grid, width)))
        self.first = MaskedConv2d(width, 5, middle=False, rng=rng)
        self.layers = [MaskedConv2d(width, 3, middle=True, rng=rng)
                       for _ in range(check_count(layers, "layers", least=0))]
        self.head = Linear(width, codes, rng=rng)

    def predict(self, k: np.ndarray) -> Categorical:
        """p(kᵢ | k₁ … kᵢ₋₁) at every place, for k (B, h, w)."""
        x = self.first(self.embed(k)) + self.place
        for layer in self.layers:
            x = x + layer(ops.relu(x))
        return Categorical(self.head(ops.relu(x)))

    def log_prob(self, k):
        """ln p(k), (B,) nats, for k (B, h, w)."""
        k = self.check(k)
        return ops.sum(self.predict(k).log_prob(k), axis=(1, 2))                           # (1)

    def loss(self, k, rng: np.random.Generator) -> tuple[Tensor, dict[str, float]]:
        """−ln p(k) in nats, averaged over k (B, h, w), and the same as bits a code."""
        nll = -ops.mean(self.log_prob(k))
        return nll, {"nll": nll.item(), "bits": nll.item() / (math.prod(self.grid) * math.log(2))}     # (3)

    @no_grad()
    def sample(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """n draws of k, (n, h, w)."""
        k = np.zeros((check_count(n, "n"), *self.grid), int)
        for i, j in np.ndindex(self.grid):
            k[:, i, j] = Categorical(self.predict(k).logits[:, i, j]).sample(rng)
        return k

    def check(self, k) -> np.ndarray:
        """k as integers (B, h, w), or a ValueError. As Batches has it, flat and in floats, it is welcome too."""
        k = np.asarray(k)
        if k.ndim == 2 and k.shape[1] == math.prod(self.grid):
            k = k.reshape(-1, *self.grid)
        if k.ndim != 3 or k.shape[1:] != self.grid or len(k) == 0:
            raise ValueError(f"codes must have shape (batch, {self.grid[0]}, {self.grid[1]}) with at least one row, "
                             f"not {k.shape}")
        if k.dtype.kind not in "iuf" or (k != np.floor(k)).any() or not 0 <= k.min() <= k.max() < self.codes:
            raise ValueError(f"codes must be whole numbers from 0 to {self.codes - 1}, and these go from {k.min()} to "
                             f"{k.max()}, as {k.dtype}")
        return k.astype(int)
