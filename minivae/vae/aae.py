"""The adversarial autoencoder: codes that look like N(0, I) all together, and need not do so each by itself.

    (1)  E KL(q(z | x) ‖ p(z)) = I(x; z) + KL(q̄ ‖ p),  q̄(z) = E q(z | x):  a VAE pays for both, an AAE for the second
    (2)  loss = −E_q ln p(x | z) − γ mean of l(z)                                            [aae.objective]
    (3)  l = logit D minimises E_p softplus(−l) + E_q̄ softplus(l),  D(z) = P(z was drawn from p)
         at its best  l(z) = ln p(z)/q̄(z)                                                    [aae.density-ratio]
         where −E_q̄ l, and its gradient with l held, are those of KL(q̄ ‖ p)                  [aae.kl]

z (B, d). No density of q̄ or p is asked for: samples will do. A game of two players: the VAE minimises (2), holding D;
then D (3), with the same z, as they were before the VAE moved, and as many from p. Labels are not smoothed and slopes
not penalised: either would move the best l off the log ratio, and that is finite anyhow, since q(z | x) has noise.
γ = 1 would be the ELBO plus I(x; z); a critic lags behind the code, and more of it keeps q̄ at p. Makhzani et al.,
arXiv:1511.05644, section 2, with Gaussian q(z | x); there the encoder pays softplus(−l) = −ln D in place of −l, and
moves twice a step, once for each term of (2).
"""
import numpy as np

from autograd import ops
from autograd.nn import MLP
from autograd.tensor import plain

from ..checks import check_weight, check_widths
from .factor_vae import FactorVAE, critic_loss, frozen
from .vae import VAE


class AAE(VAE):
    """A VAE that pays `gamma` for KL(q̄ ‖ p), judged by an MLP with `critic` hidden units, in place of its KL.

    The other options are VAE's, but for kl_warmup and free_bits, which weigh the KL.
    """

    def __init__(self, data_dim: int, *, gamma: float = 10.0, critic: tuple = (256, 256), rng: np.random.Generator,
                 **options):
        self.gamma = check_weight(gamma, "gamma")
        if options.get("kl_warmup") or options.get("free_bits"):
            raise ValueError("an AAE takes no kl_warmup or free_bits: its loss has no KL that they could weigh")
        super().__init__(data_dim, rng=rng, **options)
        self.critic = MLP(self.latent_dim, *check_widths(critic, "critic"), 1, rng=rng)

    optimizer = FactorVAE.optimizer

    def penalty(self, q, z, kl):
        return -self.gamma * ops.mean(self.critic(z))                                      # (2)

    def objectives(self, x, rng: np.random.Generator):
        q = self.encode(x)
        z, elbo = self._elbo(x, q, rng)
        with frozen(self.critic):
            loss, terms = self._loss(q, z, elbo)
        yield "vae", loss, terms | {"penalty": loss.item() + terms["recon"]}
        l = self.critic(np.concatenate([self.draw(len(x), rng), plain(z)]))
        loss = critic_loss(l[:len(x)], l[len(x):])                                         # (3)
        yield "critic", loss, {"critic": loss.item()}
