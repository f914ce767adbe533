"""Vector quantisation: K vectors that stand for all others, each for those that it is nearest to, and how they learn.

    (1)  k = argminⱼ |z − eⱼ|²                                                               [vq.nearest]
    (2)  L = Σ |z − e_k|²:  ∂L/∂eⱼ = 2 nⱼ (eⱼ − z̄ⱼ),  nⱼ of the z having the code j, with mean z̄ⱼ   [vq.gradient]
    (3)  or  Nⱼ ← γ Nⱼ + (1 − γ) nⱼ,  mⱼ ← γ mⱼ + (1 − γ) nⱼ z̄ⱼ,  eⱼ = mⱼ / Nⱼ,  with no gradient:
         γ = 0 is a step of Lloyd's algorithm, k-means                                       [vq.ema]
    (4)  perplexity = exp(−Σⱼ pⱼ ln pⱼ),  p = n / Σ n:  1 if one code does it all, K if they are used alike
                                                                                             [vq.perplexity]

z (N, d), k (N,), e and m (K, d), N and n (K,). (3) is what (2) would have after many steps at rest, and forgets z of
1 / (1 − γ) batches ago. A code that is nearest to nothing gets no gradient and stays unused: so it is restarted, as one
of the z, at random. van den Oord, Vinyals and Kavukcuoglu, arXiv:1711.00937, appendix A.1, for (3); Dhariwal et al.,
arXiv:2005.00341, section 3.1, for restarts.
"""
import numpy as np
from scipy import sparse
from scipy.special import entr

from autograd.nn import Module, Parameter

from ..checks import check_choice, check_count, check_weight

ROWS = 128                                   # of z, whose distances to all codes stay in the cache


class Codebook(Module):
    """`codes` vectors e of length `dim`, which learn by (3), "ema", or as parameters of a loss, "gradient".

    decay    γ of (3), and of Nⱼ, the record of use, in both cases
    restart  a code whose use Nⱼ is less than this part of the mean is restarted
    """

    def __init__(self, codes: int, dim: int, learning: str = "ema", decay: float = 0.99, restart: float = 0.1, *,
                 rng: np.random.Generator):
        self.learning = check_choice(learning, "codebook", ("ema", "gradient"))
        self.decay, self.restart = check_weight(decay, "decay"), check_weight(restart, "restart")
        if self.decay >= 1 or self.restart >= 1:
            raise ValueError(f"decay and restart must be less than 1, not {decay} and {restart}")
        shape = check_count(codes, "codes"), dim
        self.e = Parameter(rng.uniform(-1, 1, shape) / codes)
        self.uses, self.sums = np.zeros(codes, np.float32), np.zeros(shape, np.float32)    # N and m

    def follow(self, z: np.ndarray, k: np.ndarray, rng: np.random.Generator):
        """After a step of training: take e after the z (N, d), which have the codes k (N,), and restart unused ones.

        Raises ValueError if the first z are fewer than the codes.
        """
        e, K = self.e.data.copy(), len(self.e)
        if not self.uses.any() and len(z) < K:
            raise ValueError(f"a codebook of {K} is larger than its first batch, of {len(z)} vectors: give it "
                             "larger batches of more data, or fewer codes")
        n = np.bincount(k, minlength=K).astype(z.dtype)
        of = sparse.csr_array((np.ones(len(k), z.dtype), k, np.arange(len(k) + 1)), (len(k), K))       # one-hot rows
        self.uses = self.decay * self.uses + (1 - self.decay) * n
        self.sums = self.decay * self.sums + (1 - self.decay) * (of.T @ z)
        if self.learning == "ema":
            e[n > 0] = self.sums[n > 0] / self.uses[n > 0, None]                           # (3); of others the same
        dead = np.flatnonzero(self.uses < self.restart * self.uses.mean())
        e[dead] = rng.choice(z, len(dead), replace=len(dead) > len(z))
        self.uses[dead] = self.uses.mean()
        self.sums[dead] = self.uses[dead, None] * e[dead]
        self.e.assign(e)


def nearest(z: np.ndarray, e: np.ndarray) -> np.ndarray:
    """(1) for z (N, d) and e (K, d), of one dtype: (N,) integers.

    |z − e|² = |z|² + 2 (|e|²/2 − z·e), and |z|² is the same for all codes, so the bracket decides. Its two terms cancel
    where z and e are far from the origin compared with the distance between them. Two measures keep the digits that
    remain: the sums are float64, in which products of float32 numbers are exact, and the origin is moved to the median
    of the codes, which a few distant codes do not move. Then codes can be mixed up only if their |z − e|² differ by
    less than about d 1e-16 times the squared distance to the origin. Each row of z is compared by itself, but for some
    rows at a time, so that the distances are searched while they are in the cache.
    """
    origin = np.median(e, axis=0).astype(np.float64)
    z, e = z - origin, e - origin
    halves = 0.5 * np.sum(e * e, axis=1)
    blocks = [np.argmin(halves - z[i:i + ROWS] @ e.T, axis=1) for i in range(0, len(z), ROWS)]             # (1)
    return np.concatenate(blocks) if blocks else np.zeros(0, int)


def perplexity(k: np.ndarray, K: int) -> float:
    """(4) of codes k, integers below K of any shape: as many as would be, were all of them used alike."""
    return float(np.exp(entr(np.bincount(k.reshape(-1), minlength=K) / k.size).sum()))     # (4)
