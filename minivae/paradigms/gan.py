"""A generative adversarial network: samples without a density, taught by a critic who learns to tell them from data.

    (1)  V(D, G) = E_p ln D(x) + E_q ln(1 − D(x)),  q the distribution of G(z), z ~ N(0, I), D = σ(l):
         critic:     max V, that is, min E_p softplus(−l) + E_q softplus(l)                  [gan.game]
         generator:  min E_q softplus(−l) = −E_q ln D, in place of V, whose slope vanishes where D is sure
    (2)  best D = p/(p + q),  l = ln p/q                                                     [gan.optimal-critic]
         p = N(m, S), q = N(m′, S):  l is linear, with weights S⁻¹(m − m′)                   [gan.linear-logit]
    (3)  max V = −ln 4 + 2 JSD(p, q),  so that ln 2 + V/2 <= JSD for any critic              [gan.jensen-shannon]
    (4)  at the best D, held, the generator's gradient is that of KL(q ‖ p) − 2 JSD(p, q)    [gan.non-saturating]
    (5)  what the critic may pay besides:  ½ γ E_p |∇l|²                                     [gan.penalty]
         all data at 0, all fakes at θ, l = ψ x, small steps of one length: near θ = ψ = 0
         both go as exp(λt), λ² + γλ + ¼ = 0: in circles if γ = 0, into the goal if γ > 0    [gan.dirac]

x, G(z) (B, D), l (B, 1), z (B, d); JSD(p, q) = ½ KL(p ‖ ½(p + q)) + ½ KL(q ‖ ½(p + q)), from 0 to ln 2 nats. All is 0
when q = p, and nowhere is a density asked for, or to be had. Where G(z) fills a thin sheet only, l → ±∞ off it; with
noise ε on both, p and q in (1) to (4) are blurred alike, their ratio stays finite, and they are still equal iff q = p.
With (5) the best l is flatter than ln p/q, and the bound in (3) loose; but where q = p, l = 0 is free and still best.
On MNIST, MLPs with γ = 1 draw digits of all classes after 3,000 steps, at a Fréchet distance of 62 (1,000 samples);
without (5), by ε of 0.3 to 1, after 1,300 to 2,500 steps much the same blot every time, at 590 to 680.
Goodfellow et al., arXiv:1406.2661, sections 3 and 4, algorithm 1 with k = 1; Arjovsky and Bottou, arXiv:1701.04862,
theorem 2.5, for (4); Sønderby et al., arXiv:1610.04490, for ε; Mescheder et al., arXiv:1801.04406, sections 2 to 4,
for (5), their R₁.
"""
import math

import numpy as np

from autograd import Tensor, grad, no_grad, ops
from autograd.nn import MLP, check_rng
from autograd.optim import Adam, Players
from autograd.tensor import plain

from ..checks import check_array, check_count, check_weight, check_widths, finite
from ..train import Model
from ..vae.factor_vae import critic_loss, frozen


class GAN(Model):
    """An MLP from `latent_dim` latents to data of width `data_dim`, `hidden` wide, and a critic, an MLP as well.

    pixels   x is in [0, 1], so that the generator ends in a sigmoid
    noise    the deviation of ε
    penalty  γ of (5)
    """

    def __init__(self, data_dim: int, latent_dim: int = 20, hidden: tuple = (128, 128), critic: tuple = (128, 128), *,
                 pixels: bool = False, noise: float = 0.0, penalty: float = 0.0, rng: np.random.Generator):
        check_rng(rng)
        self.data_dim, self.latent_dim = check_count(data_dim, "data_dim"), check_count(latent_dim, "latent_dim")
        self.pixels, self.noise, self.penalty = pixels, check_weight(noise, "noise"), check_weight(penalty, "penalty")
        self.generator = MLP(latent_dim, *check_widths(hidden, "hidden"), data_dim, rng=rng)
        for layer in self.generator.layers:                        # He's deviation, √(2/in): so G(z) depends on z
            layer.w.assign(6 ** 0.5 * layer.w.data)
        self.critic = MLP(data_dim, *check_widths(critic, "critic"), 1, activation="leaky_relu", rng=rng)

    dtype = property(lambda self: self.generator.layers[0].w.dtype)

    def optimizer(self, lr: float = 3e-4, critic_lr: float = 1e-3) -> Players:
        """Adam for both, with little momentum, for they chase each other; the critic is to keep up."""
        return Players(critic=Adam(self.critic.parameters(), critic_lr, betas=(0.5, 0.999)),
                       generator=Adam(self.generator.parameters(), lr, betas=(0.5, 0.999)))

    def generate(self, z) -> Tensor:
        """G(z), (B, D), for z (B, d)."""
        y = self.generator(z)
        return ops.sigmoid(y) if self.pixels else y

    def blurred(self, x, rng: np.random.Generator):
        """x + ε."""
        return x + self.noise * rng.standard_normal(x.shape, dtype=x.dtype) if self.noise else x

    def loss(self, x, rng: np.random.Generator) -> tuple[Tensor, dict[str, float]]:
        """The critic's, −V in nats and (5), for x (B, D) and as many fakes; and what (3) says of −V: a bound on JSD."""
        with no_grad():
            fakes = plain(self.generate(self.draw(len(self.check(x)), rng)))
        x = self.blurred(x, rng)
        loss = critic_loss(self.critic(x), self.critic(self.blurred(fakes, rng)))          # (1)
        terms = {"critic": loss.item(), "jsd": math.log(2) - loss.item() / 2}              # (3)
        return loss + self.steepness(x) if self.penalty else loss, terms

    def steepness(self, x) -> Tensor:
        """½ γ |∇l|², averaged over x (B, D)."""
        slope = grad(lambda x: ops.sum(self.critic(x)))(x)
        return 0.5 * self.penalty / len(x) * ops.sum(slope * slope)                        # (5)

    def objectives(self, x, rng: np.random.Generator):
        yield "critic", *self.loss(x, rng)
        with frozen(self.critic):
            fooling = ops.mean(ops.softplus(-self.critic(self.blurred(self.generate(self.draw(len(x), rng)), rng))))
        yield "generator", fooling, {"fooling": fooling.item()}                            # (1), (4)

    @no_grad()
    def log_ratio(self, x) -> np.ndarray:
        """l(x), (B,): ln p/q, of data to samples, as far as the critic has learned it."""
        return plain(self.critic(self.check(x)))[:, 0]                                     # (2)

    @no_grad()
    def sample(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """n draws G(z), (n, D)."""
        return plain(self.generate(self.draw(check_count(n, "n"), rng)))

    def draw(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """n draws of z ~ N(0, I), (n, d)."""
        check_rng(rng)
        return rng.standard_normal((n, self.latent_dim), dtype=self.dtype)

    def check(self, x):
        """x, or a ValueError that says what is wrong with it."""
        check_array(x, "x", self.dtype, ", as the model is")
        finite(x, "x", (None, self.data_dim))
        if self.pixels and not 0 <= x.min() <= x.max() <= 1:
            raise ValueError(f"x must be in [0, 1], as pixels are; it goes from {x.min()} to {x.max()}")
        return x

    def describe(self):
        return f"GAN({self.latent_dim} -> {self.data_dim})"
