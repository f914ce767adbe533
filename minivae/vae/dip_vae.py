"""DIP-VAE: the covariance of the codes is drawn towards I, so that the aggregate posterior has uncorrelated latents.

    (1)  Cov z = Cov_x μ(x) + E_x Σ(x),  over z ~ q(z | x), x ~ data                         [dip.covariance]
    (2)  DIP-VAE-I:   C = Cov_x μ(x);  DIP-VAE-II:  C = Cov z                                [dip.kinds]
         loss = −ELBO + λ_od Σ_{i≠j} C²ᵢⱼ + λ_d Σᵢ (Cᵢᵢ − 1)²                                [dip.objective]

μ(x) and Σ(x) = diag σ²(x) are the encoder's; C (d, d) is that of the batch. Kumar, Sattigeri and Balakrishnan,
arXiv:1711.00848, section 2. In the first kind σ(x) may shrink to 0 unseen: a larger λ_d keeps μ(x) spread.
"""
import numpy as np

from autograd import ops

from ..checks import check_choice, check_weight
from .vae import VAE


class DIPVAE(VAE):
    """A VAE with the covariance penalty (2): `kind` "i" or "ii", weights `lambda_od` and `lambda_d`.

    By default λ_od = 10, and λ_d = 10 λ_od for "i", λ_od for "ii". The other options are VAE's.
    """

    def __init__(self, data_dim: int, *, kind: str = "ii", lambda_od: float = 10.0, lambda_d: float | None = None,
                 **options):
        self.kind = check_choice(kind, "kind", ("i", "ii"))
        self.lambda_od = check_weight(lambda_od, "lambda_od")
        wanted = lambda_od * (10 if kind == "i" else 1) if lambda_d is None else lambda_d
        self.lambda_d = check_weight(wanted, "lambda_d")
        super().__init__(data_dim, **options)

    def penalty(self, q, z, kl):
        C, I = code_covariance(q, self.kind), np.eye(self.latent_dim, dtype=z.dtype)
        weight = self.lambda_od + (self.lambda_d - self.lambda_od) * I
        return super().penalty(q, z, kl) + ops.sum(weight * ops.square(C - I))             # (2)


def code_covariance(q, kind: str):
    """C (d, d) of (2), over a batch of codes q (B, d)."""
    centred = q.mu - ops.mean(q.mu, axis=0)
    C = centred.T @ centred / len(q.mu)
    return C if kind == "i" else C + ops.diag(ops.mean(q.variance, axis=0))                # (1), (2)
