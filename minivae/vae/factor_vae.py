"""FactorVAE: the total correlation of the code is read off a classifier, and so can be paid for without its density.

    (1)  loss = −ELBO + γ TC,  TC = KL(q(z) ‖ Πⱼ q(zⱼ)) ≈ mean of l(z)                       [factor.objective]
    (2)  l = logit D minimises E_q(z) softplus(−l) + E_q̄(z) softplus(l),  q̄ = Πⱼ q(zⱼ)
         at its best  l(z) = ln q(z)/q̄(z)                                                    [factor.density-ratio]
    (3)  z ~ q̄: z of a batch with each latent permuted over the examples by itself           [factor.permutation]

z (B, d). A game of two players: the VAE minimises (1) on one half of each batch, holding D; then D (2), with z of that
half and permuted z of the other, as they were before the VAE moved. D(z) is the probability that z was not permuted.
Kim and Mnih, arXiv:1802.05983, section 3 and algorithm 2.
"""
from contextlib import contextmanager

import numpy as np

from autograd import no_grad, ops
from autograd.nn import MLP, Module
from autograd.optim import Adam, Players

from ..checks import check_weight, check_widths
from .vae import VAE


class FactorVAE(VAE):
    """A VAE that pays `gamma` for its total correlation, judged by an MLP with `critic` hidden units. VAE's options."""

    def __init__(self, data_dim: int, *, gamma: float = 10.0, critic: tuple = (256, 256), rng: np.random.Generator,
                 **options):
        self.gamma = check_weight(gamma, "gamma")
        super().__init__(data_dim, rng=rng, **options)
        self.critic = MLP(self.latent_dim, *check_widths(critic, "critic"), 1, activation="leaky_relu", rng=rng)

    def optimizer(self, lr: float = 1e-3, critic_lr: float = 1e-3) -> Players:
        """Adam for both players."""
        mine = {id(p) for p in self.critic.parameters()}
        vae = [p for p in self.parameters() if id(p) not in mine]
        return Players(vae=Adam(vae, lr), critic=Adam(self.critic.parameters(), critic_lr, betas=(0.5, 0.9)))

    def penalty(self, q, z, kl):
        return super().penalty(q, z, kl) + self.gamma * ops.mean(self.critic(z))           # (1)

    def objectives(self, x, rng: np.random.Generator):
        one, other = np.array_split(x, 2) if len(x) > 1 else (x, x)
        with no_grad():
            real, permuted = self.encode(one).sample(rng), permute(self.encode(other).sample(rng), rng)
        with frozen(self.critic):
            objective = self.loss(one, rng)
        yield "vae", *objective
        loss = critic_loss(self.critic(real), self.critic(permuted))
        yield "critic", loss, {"critic": loss.item()}


def critic_loss(real, fake):
    """(2) from logits (B, 1) of z and of permuted z: ln 2 times two if they cannot be told apart."""
    return ops.mean(ops.softplus(-real)) + ops.mean(ops.softplus(fake))                    # (2)


def permute(z: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """z (B, d) with the examples of each latent in an order of their own."""
    return rng.permuted(z, axis=0)                                                         # (3)


@contextmanager
def frozen(*modules: Module):
    """Within this context the parameters of these modules are constants: no gradient reaches them, or costs time."""
    held = [(p, p.node) for module in modules for p in module.parameters()]
    for p, _ in held:
        p.node = None
    try:
        yield
    finally:
        for p, node in held:
            p.node = node
