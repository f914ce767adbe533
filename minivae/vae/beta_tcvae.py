"""beta-TCVAE: of the three parts of the KL, only the total correlation, what the latents tell of each other, costs β.

    (1)  E KL(q(z | x) ‖ p(z)) = I(x; z) + TC + Σⱼ KL(q(zⱼ) ‖ p(zⱼ)),  TC = KL(q(z) ‖ Πⱼ q(zⱼ))
    (2)  loss = −E_q ln p(x | z) + KL + (β − 1) TC                                           [tc.objective]
    (3)  TC ≈ mean of ln q̂(zᵢ) − Σⱼ ln q̂(zᵢⱼ),  q̂(zᵢ) = Σₘ Wᵢₘ q(zᵢ | xₘ)                    [tc.estimator]
    (4)  weighted:    Wᵢₘ = 1/(N M)
    (5)  stratified:  Wᵢᵢ = 1/N,  one other Wᵢₘ = (N − M + 1)/(N (M − 1)),  the rest 1/(M − 1): rows sum to 1   [tc.weights]

q(z) = 1/N Σₙ q(z | xₙ) over the N training examples is estimated from the M of a batch; zᵢ ~ q(z | xᵢ), so that xᵢ has
to be in the sum, once in N. By (4), q̂ is too small by a factor of about M / (1 + M/N (...)) where other examples matter,
in each of the d + 1 logarithms. Nats throughout. Chen et al., arXiv:1802.04942, section 4 and appendix C.
"""
import math

import numpy as np

from autograd import ops
from autograd.fused import LOG_2PI

from .beta_vae import check_weight
from .vae import VAE


class BetaTCVAE(VAE):
    """A VAE whose total correlation is weighed by `beta`; `data_size` is N, how many examples there are to train on.

    weights  "stratified", (5), or "weighted", (4). The other options are VAE's.
    """

    def __init__(self, data_dim: int, *, data_size: int, beta: float = 6.0, weights: str = "stratified", **options):
        if weights not in ("stratified", "weighted"):
            raise ValueError(f"weights is 'stratified' or 'weighted', not {weights!r}")
        if not isinstance(data_size, (int, np.integer)) or data_size < 2:
            raise ValueError(f"data_size is how many training examples there are, at least 2, not {data_size!r}")
        self.beta, self.data_size, self.weights = check_weight(beta, "beta"), int(data_size), weights
        super().__init__(data_dim, **options)

    def penalty(self, q, z, kl):
        tc = total_correlation(q, z, log_weights(len(z), self.data_size, self.weights))
        return super().penalty(q, z, kl) + (self.beta - 1) * tc                            # (2)


def total_correlation(q, z, log_W: np.ndarray):
    """The estimate (3), a scalar, from z (M, d) ~ q, with mu and logvar (M, d), and ln W (M, M)."""
    log_W = log_W.astype(z.dtype)
    centred = ops.expand_dims(z, 1) - q.mu                         # (M, M, d): of zᵢ and q(z | xₘ)
    log_q = -0.5 * (centred * centred * ops.exp(-q.logvar) + q.logvar + LOG_2PI)
    joint = ops.logsumexp(ops.sum(log_q, axis=2) + log_W, axis=1)                          # (3)
    marginals = ops.logsumexp(log_q + log_W[:, :, None], axis=1)                           # (3)
    return ops.mean(joint) - ops.mean(ops.sum(marginals, axis=1))                          # (3)


def log_weights(M: int, N: int, kind: str) -> np.ndarray:
    """ln W, (M, M), of (4) or (5)."""
    if not 1 < M <= N:
        raise ValueError(f"q(z) takes a batch of 2 to data_size = {N} examples to estimate, not {M}")
    if kind == "weighted":
        return np.full((M, M), -math.log(N * M))                                           # (4)
    W = np.full((M, M), 1 / (M - 1))
    np.fill_diagonal(W, 1 / N)
    W[np.arange(M), np.arange(1, M + 1) % M] = (N - M + 1) / (N * (M - 1))                 # (5)
    return np.log(W)
