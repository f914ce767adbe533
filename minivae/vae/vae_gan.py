"""VAE-GAN: two images are alike if a critic, which learns to tell data from fakes, sees the same in both.

    (1)  f(x), l(x):  the critic's last hidden layer, and its logit of P(x is data)
    (2)  ln p(f | z) = ln N(f(x)/s; f(x̃)/s, I),  x̃ = E[x | z],  s² = mean of f(x)²            [vaegan.likeness]
    (3)  encoder:  KL(q(z | x) ‖ p(z)) − E_q ln p(f | z)
    (4)  decoder:  −γ E_q ln p(f | z) + mean of softplus(−l(x̂))
    (5)  critic:   mean of softplus(−l(x + ε)) + mean of softplus(l(x̂ + ε)),  ε ~ N(0, v)
         in each of which the other two players are held                                      [vaegan.players]
         at its best  l = ln p/p̂, of the densities of x + ε and x̂ + ε                         [vaegan.density-ratio]

x (B, D), f (B, F), z (B, d); x̂ (2B, D) are fakes: the x̃, of z ~ q(z | x), and as many of z ~ p(z). A likelihood of
pixels asks for the mean of all that x may be, a blur; features ask for strokes. All gradients are taken before anyone
moves. Fakes fill d dimensions only, and off them a critic can be ever more sure: l → ±∞, from which nobody learns. With
ε both densities are positive everywhere and l stays finite, and a log ratio; with smoothed labels it would not be one.
Larsen et al., arXiv:1512.09300, section 2 and algorithm 1, where s = 1, since batch normalisation sets the unit of f.
In (4) softplus(−l) stands for −softplus(l), whose slope is 0 where the critic is sure: Goodfellow et al.,
arXiv:1406.2661, section 3. Sønderby et al., arXiv:1610.04490, for ε. ELBO and ln p(x) are those of pixels, as ever.
"""
import numpy as np

from autograd import Tensor, ops
from autograd.nn import MLP, Parameter
from autograd.optim import Adam, Players
from autograd.tensor import plain

from ..checks import check_weight, check_widths
from ..distributions import Normal
from .factor_vae import critic_loss, frozen
from .vae import VAE


class VAEGAN(VAE):
    """A VAE trained on likeness in the features of a critic, an MLP with `critic` hidden units.

    gamma  what likeness counts for the decoder, against the critic's verdict
    noise  √v, the deviation of ε in (5)
    The other options are VAE's, but for kl, which is analytic, and a learned variance, which no loss depends on.
    """

    def __init__(self, data_dim: int, *, gamma: float = 0.1, noise: float = 0.3, critic: tuple = (400,),
                 rng: np.random.Generator, **options):
        self.gamma, self.noise = check_weight(gamma, "gamma"), check_weight(noise, "noise")
        super().__init__(data_dim, rng=rng, **options)
        if "kl" in options or isinstance(self.logvar, Parameter):
            raise ValueError("a VAEGAN takes no kl, which is analytic, and no learned variance: no loss depends on it")
        self.critic = MLP(data_dim, *check_widths(critic, "critic"), 1, rng=rng)

    def optimizer(self, lr: float = 1e-3, critic_lr: float = 3e-4) -> Players:
        """Adam for all three, with little momentum for those that chase each other."""
        return Players(encoder=Adam(self.encoder.parameters(), lr),
                       decoder=Adam(self.decoder.parameters(), lr, betas=(0.5, 0.999)),
                       critic=Adam(self.critic.parameters(), critic_lr, betas=(0.5, 0.999)))

    def judge(self, x) -> tuple[Tensor, Tensor]:
        """f (B, F) and l (B, 1) of images x (B, D)."""
        *hidden, last = self.critic.layers
        for layer in hidden:
            x = layer(x)
        return x, last(x)                                                                  # (1)

    def unlikeness(self, f, again) -> Tensor:
        """−ln p(f | z), averaged over a batch, in nats: the features f of x and `again` of x̃, (B, F) each."""
        f = plain(f)
        s = float(np.sqrt(np.mean(np.square(f)))) or 1.0           # a critic without a feature has no unit
        return -Normal(again / s, np.zeros(1, f.dtype)).log_prob(f / s).mean()             # (2)

    def loss(self, x, rng: np.random.Generator) -> tuple[Tensor, dict[str, float]]:
        """The encoder's loss (3) in nats, averaged over x (B, D), and the terms, with those of the ELBO of pixels."""
        x = self.check(x)
        return self._loss_of_code(x, self.judge(x)[0], rng)[1:]

    def _loss_of_code(self, x, f, rng):
        q = self.encode(x)
        p = self.decode(z := q.rsample(rng))
        kl, unlike = q.kl().mean(), self.unlikeness(f, self.judge(p.mean)[0])
        recon = p.log_prob(x).mean().item()
        terms = {"elbo": recon - kl.item(), "recon": recon, "kl": kl.item(), "unlikeness": unlike.item()}
        return z, self.penalty(q, z, kl) + unlike, terms                                   # (3)

    def objectives(self, x, rng: np.random.Generator):
        x = self.check(x)
        with frozen(self.decoder, self.critic):
            f = self.judge(x)[0]
            z, loss, terms = self._loss_of_code(x, f, rng)
        yield "encoder", loss, terms
        with frozen(self.critic):
            fakes = self.decode(np.concatenate([plain(z), self.draw(len(x), rng)])).mean
            again, l = self.judge(fakes)
        fooling = ops.mean(ops.softplus(-l))
        loss = self.gamma * self.unlikeness(f, again[:len(x)]) + fooling                   # (4)
        yield "decoder", loss, {"fooling": fooling.item()}
        images = np.stack([x, *plain(fakes).reshape(2, *x.shape)])
        images += self.noise * rng.standard_normal(x.shape, dtype=self.logvar.dtype)       # the same for all three
        l = self.judge(images.reshape(-1, x.shape[1]))[1]
        loss = critic_loss(l[:len(x)], l[len(x):])                                         # (5)
        yield "critic", loss, {"critic": loss.item()}
