"""beta-TCVAE: of the three parts of the KL, only the total correlation, what the latents tell of each other, costs β.

    (1)  E KL(q(z | x) ‖ p(z)) = I(x; z) + TC + Σⱼ KL(q(zⱼ) ‖ p(zⱼ)),  TC = KL(q(z) ‖ Πⱼ q(zⱼ))
    (2)  loss = −E_q ln p(x | z) + KL + (β − 1) TC                                           [tc.objective]
    (3)  TC ≈ mean of ln q̂(zᵢ) − Σⱼ ln q̂(zᵢⱼ),  q̂(zᵢ) = Σₘ Wᵢₘ q(zᵢ | xₘ)                    [tc.estimator]
    (4)  weighted:    Wᵢₘ = 1/(N M)
    (5)  stratified:  Wᵢᵢ = 1/N,  one other (N − M + 1)/(N (M − 1)),  the rest 1/(M − 1): Σₘ Wᵢₘ = 1   [tc.weights]

q(z) = 1/N Σₙ q(z | xₙ) over the N training examples is estimated from the M of a batch; zᵢ ~ q(z | xᵢ), so that xᵢ has
to be in the sum, as 1/N of it. Over the draw of the others E q̂(zᵢ) is q(zᵢ) by (5), but by (4) it is
((M − 1) q(zᵢ) + (N − M) q(zᵢ | xᵢ)/N) / (M (N − 1)), from q(zᵢ)/M, where xᵢ is all of q(zᵢ), down to
q(zᵢ) (M − 1)/(M (N − 1)), where it is nothing; at M = N it is q(zᵢ)/N, and TC comes out (d − 1) ln N too large.
Nats throughout. Chen et al., arXiv:1802.04942, section 3 and appendix C.
"""
import math

import numpy as np

from autograd import ops
from autograd.floors import compiled, exp_minus, fused
from autograd.losses import LOG_2PI

from ..checks import check_choice, check_count, check_weight
from .vae import VAE


class BetaTCVAE(VAE):
    """A VAE whose total correlation is weighed by `beta`; `data_size` is N, how many examples there are to train on.

    weights  "stratified", (5), or "weighted", (4). The other options are VAE's.
    """

    def __init__(self, data_dim: int, *, data_size: int, beta: float = 6.0, weights: str = "stratified", **options):
        self.beta = check_weight(beta, "beta")
        self.data_size = check_count(data_size, "data_size, how many training examples there are,", least=2)
        self.weights = check_choice(weights, "weights", ("stratified", "weighted"))
        super().__init__(data_dim, **options)

    def penalty(self, q, z, kl):
        if len(z) == 1:                                            # a last batch of one example tells nothing of q(z)
            return super().penalty(q, z, kl)
        tc = total_correlation(z, q.mu, q.logvar, log_weights(len(z), self.data_size, self.weights))
        return super().penalty(q, z, kl) + (self.beta - 1) * tc                            # (2)


def log_weights(M: int, N: int, kind: str) -> np.ndarray:
    """ln W, (M, M), of (4) or (5)."""
    if not 1 < M <= N:
        raise ValueError(f"q(z) takes a batch of 2 to data_size = {N} examples to estimate, not {M}")
    if kind == "weighted":
        return np.full((M, M), -math.log(N * M))                                           # (4)
    log_W, i = np.full((M, M), -math.log(M - 1)), np.arange(M)
    log_W[i, i] = -math.log(N)
    log_W[i, i - 1] = math.log((N - M + 1) / (N * (M - 1)))                                # (5)
    return log_W


def total_correlation(z, mu, logvar, log_W):
    """The estimate (3), a scalar in nats, from zᵢ ~ N(μᵢ, exp(logvarᵢ)), all (M, d), and ln W, (M, M) or a number.
    """
    if z.ndim != 2 or not z.shape == mu.shape == logvar.shape:
        raise ValueError(f"z, mu and logvar must have one shape (M, d), not {z.shape}, {mu.shape} and {logvar.shape}")
    return _total_correlation(z, mu, logvar, log_W)


def _composed(z, mu, logvar, log_W):
    log_W = np.broadcast_to(log_W, (len(z), len(z))).astype(z.dtype)
    r = (ops.expand_dims(z, 1) - mu) * ops.exp(-0.5 * logvar)      # (M, M, d): of zᵢ and q(z | xₘ)
    log_q = -0.5 * (r * r + logvar + LOG_2PI)
    joint = ops.logsumexp(ops.sum(log_q, axis=2) + log_W, axis=1)
    marginals = ops.logsumexp(log_q + log_W[:, :, None], axis=1)
    return ops.mean(joint - ops.sum(marginals, axis=1))                                    # (3)


def _in_one_loop(z, mu, logvar, log_W):
    """As `_composed`, and the gradient with it: ∂TC/∂ln q(zᵢⱼ | xₘ) is what xₘ contributes to q̂(zᵢ) less what it
    contributes to q̂(zᵢⱼ), over M.
    """
    args = np.array([z.T, mu.T, logvar.T], np.result_type(z, mu, logvar, np.float32))
    log_W = np.array(np.broadcast_to(log_W, (len(z), len(z))).T, args.dtype, order="C")
    gradient = np.zeros_like(args)
    tc = _estimate(*args, np.exp(-0.5 * args[2]), log_W, *gradient)
    return np.asarray(tc, args.dtype), gradient.swapaxes(1, 2)


_total_correlation = fused(_composed, _in_one_loop, lambda g, residual: g * residual[0],
                           lambda g, residual: g * residual[1], lambda g, residual: g * residual[2], residual=True,
                           name="total_correlation")


# Below, z and the like are (d, M), and matrices have a row for each m: inner loops are over i, along memory.

@compiled(fastmath={"reassoc", "contract"})                        # for sums that vectorise
def _estimate(z, mu, logvar, rate, log_W, to_z, to_mu, to_logvar):
    """(3), with rate = 1/σ; its gradient goes to the last three, which are 0."""
    (d, M), number = z.shape, z.dtype.type
    joint = log_W.copy()
    for j in range(d):
        _add_log_density(z[j], mu[j], logvar[j], rate[j], joint)
    tc = _mean_log_sum_exp(joint)
    for j in range(d):
        marginal = log_W.copy()
        _add_log_density(z[j], mu[j], logvar[j], rate[j], marginal)
        tc -= _mean_log_sum_exp(marginal)                                                  # (3)
        for m in range(M):
            sum_g = sum_gr = sum_grr = number(0)
            for i in range(M):
                r = rate[j, m] * (z[j, i] - mu[j, m])
                g = (joint[m, i] - marginal[m, i]) / number(M)
                to_z[j, i] -= rate[j, m] * g * r
                sum_g += g
                sum_gr += g * r
                sum_grr += g * r * r
            to_mu[j, m] = rate[j, m] * sum_gr
            to_logvar[j, m] = number(0.5) * (sum_grr - sum_g)
    return tc


@compiled
def _add_log_density(z, mu, logvar, rate, x):
    """x (M, M) += ln N(zᵢ; μₘ, σₘ²), from vectors (M,)."""
    half, log_2pi = z.dtype.type(0.5), z.dtype.type(LOG_2PI)
    for m in range(len(mu)):
        for i in range(len(z)):
            r = rate[m] * (z[i] - mu[m])
            x[m, i] -= half * (r * r + logvar[m] + log_2pi)


@compiled
def _mean_log_sum_exp(x):
    """The mean over columns of ln Σ exp(x), and x (M, M) ← exp(x) / Σ exp(x)."""
    M = len(x)
    top, total = x[0].copy(), np.zeros_like(x[0])
    for m in range(1, M):
        for i in range(M):
            top[i] = max(top[i], x[m, i])
    for m in range(M):
        for i in range(M):
            x[m, i] = exp_minus(top[i] - x[m, i])
            total[i] += x[m, i]
    for m in range(M):
        for i in range(M):
            x[m, i] /= total[i]
    return np.mean((top + np.log(total)).astype(np.float64))       # of which d + 1 nearly cancel
