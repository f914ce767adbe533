"""beta-VAE: the VAE whose KL costs β nats a nat; and its annealed form, which is told how many nats to use.

    (1)  β-VAE:     loss = −E_q ln p(x | z) + β KL(q(z | x) ‖ p(z))                          [beta.objective]
    (2)  annealed:  loss = −E_q ln p(x | z) + γ |KL(q(z | x) ‖ p(z)) − C|,  C = C_max min(1, t/T)    [beta.capacity]
    (3)  with D = −E ln p(x | z) and R = E KL:  dD/dR = −β at the optimum                    [beta.slope]
    (4)  R >= I_q(x; z),  R + D >= H(x)                                                      [beta.bounds]
    (5)  linear f, noise s², θ = β s²:  |wᵢ|² = (λᵢ − θ)₊,  R = ½ Σ (ln λᵢ/θ)₊,  E|x − f(z)|² = Σ min(λᵢ, θ)
         which is reverse water-filling                                                      [beta.water-filling]

KL and D in nats an example, averaged over the batch; t counts training steps; λᵢ are the eigenvalues of the data's
covariance, and wᵢ the columns of the decoder f. β > 1 asks the code for economy, which on some data lines its axes up
with the factors that made them. Higgins et al., beta-VAE, ICLR 2017, for (1); Burgess et al., arXiv:1804.03599, for
(2); Alemi et al., arXiv:1711.00464, for (3) and (4). `minivae.metrics.rate_distortion` measures R and D.
"""
from ..checks import check_count, check_weight
from .vae import VAE


class BetaVAE(VAE):
    """A VAE whose KL is weighed by `beta`. The other options are VAE's."""

    def __init__(self, data_dim: int, *, beta: float = 4.0, **options):
        self.beta = check_weight(beta, "beta")
        super().__init__(data_dim, **options)

    def penalty(self, q, z, kl):
        return self.beta * super().penalty(q, z, kl)                                       # (1)


class AnnealedVAE(VAE):
    """A VAE held to a KL of `capacity` nats, which rises from 0 over `steps` steps, by a penalty of `gamma`."""

    def __init__(self, data_dim: int, *, gamma: float = 1000.0, capacity: float = 25.0, steps: int = 100_000,
                 **options):
        self.gamma, self.capacity = check_weight(gamma, "gamma"), check_weight(capacity, "capacity")
        self.steps, self.target = check_count(steps, "steps"), 0.0
        super().__init__(data_dim, **options)

    def on_step(self, t: int):
        super().on_step(t)
        self.target = self.capacity * min(1.0, t / self.steps)                             # (2)

    def penalty(self, q, z, kl):
        return self.gamma * abs(super().penalty(q, z, kl) - self.target)                   # (2)
