"""IWAE: the VAE trained on a tighter bound than the ELBO, from k samples of z for each x instead of one.

    (1)  loss = −L_k,  L_k = E ln 1/k Σᵢ wᵢ,  wᵢ = p(x | zᵢ) p(zᵢ) / q(zᵢ | x),  zᵢ ~ q       [iwae.objective]
    (2)  L₁ = ELBO: with k = 1 this is the VAE, with the KL of the sample that recon uses    [iwae.one]
    (3)  ∇L_k = E Σᵢ ŵᵢ ∇ ln wᵢ,  ŵᵢ = wᵢ / Σⱼ wⱼ:  a bad guess of z has little say           [iwae.gradient]

x (B, D), z (k, B, d), w and ŵ (k, B), where ŵ is a weight, with no derivative of its own. The VAE pays for every z that
explains x badly, so that its posteriors shrink to what q can represent; here one good z of k is enough, and the model
is freer. The encoder runs once a batch, the decoder on k B rows together. As k grows, noise drowns the gradient of the
encoder: the `estimator` "dreg" mends that for a second pass through the decoder, see minivae.inference.importance.
Burda, Grosse and Salakhutdinov, arXiv:1509.00519, section 3.
"""
import numpy as np

from autograd import Tensor

from ..checks import check_choice, check_count
from ..inference.importance import ESTIMATORS, importance_bound, log_weights, model_log_joint
from .vae import VAE


class IWAE(VAE):
    """A VAE trained on the bound of `k` samples, with the gradient of `estimator`: "iwae", "stl" or "dreg".

    The other options are VAE's, but for kl_warmup and free_bits: the bound has no KL apart that could be weighed.
    """

    def __init__(self, data_dim: int, *, k: int = 50, estimator: str = "iwae", **options):
        self.k, self.estimator = check_count(k, "k"), check_choice(estimator, "estimator", ESTIMATORS)
        if options.get("kl_warmup") or options.get("free_bits"):
            raise ValueError("an IWAE takes no kl_warmup or free_bits: its bound has no KL apart that could be weighed")
        super().__init__(data_dim, **options)

    def loss(self, x, rng: np.random.Generator) -> tuple[Tensor, dict[str, float]]:
        """−L_k in nats, averaged over x (B, D); the bound, and the ELBO as the same samples estimate it."""
        log_w = log_weights(model_log_joint(self, x), self.encode(x), self.k, rng, self.estimator)
        bound = importance_bound(log_w).mean()                                             # (1), (2), (3)
        return -bound, {"bound": bound.item(), "elbo": float(log_w.data.mean())}
