"""Score matching: learn ∇ ln p, which has no normalising constant, at every level of noise, and follow it back to data.

    (1)  ½ E_p |s − ∇ ln p|² = E_p [½ |s|² + div s] + a constant: p is not asked for         [score.implicit]
    (2)  x̃ = x + σ ε ~ q_σ:  ½ E |s(x̃) + ε/σ|² = ½ E |s(x̃) − ∇ ln q_σ(x̃)|² + a constant     [score.denoising]
    (3)  loss:  E_t ½ σ_t² |s(x̃, t) + ε/σ_t|²,  t uniform in 1..T                            [score.loss]
    (4)  s(x, t) = −f(√ᾱ x, t)/σ_t = √ᾱ ∇ ln q(x_t),  x_t = √ᾱ x̃,  ᾱ = 1/(1 + σ_t²),        [score.mixture]
         where f is a denoiser that predicts ε in x_t, so that (3) is half the simple loss of a DDPM    [score.ddpm]
    (5)  Langevin, for t from T to 1:  x ← x + ½ α s(x, t) + √α z,  α = a σ_t²               [score.langevin]
         and at the end x + σ₁² s(x, 1) = E[x | x̃]                                           [score.last-step]

x, s (B, ...), t (B,) or one for all. Where data are rare nobody learns their score, and Langevin steps, which are
local, would never find out how much of p lies on which island; much noise joins the islands, and little by little it
is taken away. A denoiser of diffusion/ serves, and what was trained here is a DDPM too, `DDPM(model.denoiser,
model.schedule)`: one score, two ways back. Hyvärinen, JMLR 6, 2005, for (1); Vincent, Neural Computation 23, 2011, for
(2); Song and Ermon, arXiv:1907.05600, section 4, for (3), their equation 6 with λ = σ², and (5), their algorithm 1.
"""
import numpy as np

from autograd import Tensor, grad, no_grad, ops
from autograd.nn import Module, check_rng
from autograd.tensor import plain

from ..checks import check_array, check_count, finite, positive
from ..diffusion import Schedule
from ..diffusion.sampling import ROWS
from ..train import Model, Progress


def noise_levels(sigma: np.ndarray) -> Schedule:
    """The schedule in which √(1 − ᾱ_t)/√ᾱ_t is sigma (T,), positive and rising: x_t = √ᾱ_t (x + σ_t ε)."""
    sigma = finite(sigma, "sigma", (None,)).astype(np.float64)
    before = np.append(0, sigma[:-1])
    if not (sigma > before).all():
        raise ValueError(f"sigma must be positive and rise, as np.geomspace(0.02, 10, 50) does, not {sigma}")
    return Schedule((sigma ** 2 - before ** 2) / (1 + sigma ** 2))                         # (4): 1 − ᾱ_t/ᾱ_{t−1}


def implicit_loss(score, x: np.ndarray):
    """½ |s|² + div s, (B,), for a function `score` of x (B, D): as good as the score's error, and D gradients dear."""
    s = score(x)
    div = sum(grad(lambda x: ops.sum(score(x)[:, j]))(x)[:, j] for j in range(x.shape[1]))
    return 0.5 * ops.sum(s * s, axis=1) + div                                              # (1)


class ScoreModel(Model):
    """The score at each level of `schedule` (see `noise_levels`), by a `denoiser` as DDPM takes it, without classes."""

    def __init__(self, denoiser: Module, schedule: Schedule):
        if not isinstance(denoiser, Module) or not hasattr(denoiser, "shape") or not isinstance(schedule, Schedule):
            raise ValueError(f"a ScoreModel needs a denoiser, a Module with a shape, and a Schedule, such as "
                             f"noise_levels(sigma), not {type(denoiser).__name__} and {type(schedule).__name__}")
        self.denoiser, self.schedule, self.shape = denoiser, schedule, tuple(denoiser.shape)

    sigma = property(lambda self: self.schedule.noise / self.schedule.signal)
    dtype = property(lambda self: next((p.dtype for p in self.denoiser.parameters()), np.dtype(np.float64)))

    def score(self, x, t) -> Tensor:
        """s(x, t), (B, ...), the gradient of ln q_σ, σ = σ_t, for x (B, ...) and t (B,), or one t for all."""
        signal, sigma = self.schedule.at(t, x, self.schedule.signal, self.sigma)
        return self.denoiser(signal * x, np.broadcast_to(t, len(x))) / -sigma              # (4)

    def loss(self, x, rng: np.random.Generator) -> tuple[Tensor, dict[str, float]]:
        """(3), from one t and one ε for each of x (B, ...)."""
        check_rng(rng)
        x = self.check(x)
        t, eps = rng.integers(1, self.schedule.T, len(x), endpoint=True), rng.standard_normal(x.shape, x.dtype)
        sigma, = self.schedule.at(t, x, self.sigma)
        loss = 0.5 * ops.sum(ops.square(sigma * self.score(x + sigma * eps, t) + eps)) / len(x)        # (2), (3)
        return loss, {"loss": loss.item()}

    @no_grad()
    def sample(self, n: int, rng: np.random.Generator, steps: int = 5, a: float = 0.2, on_level=None) -> np.ndarray:
        """n draws, (n, *shape), by `steps` steps of (5) at each level, of size `a` in units of the noise's variance.

        `on_level` is called after each level with t and x.
        """
        check_rng(rng)
        steps, a, T = check_count(steps, "steps"), positive(a, "a", below=4), self.schedule.T
        wide = self.dtype.type(1 / self.schedule.signal[-1])       # noise, and data of variance 1
        x, progress = wide * rng.standard_normal((check_count(n, "n"), *self.shape), self.dtype), Progress(T)
        try:
            for t in range(T, 0, -1):
                alpha = self.dtype.type(a * self.sigma[t - 1] ** 2)
                for _ in range(steps):
                    z = rng.standard_normal(x.shape, x.dtype)
                    x = x + 0.5 * alpha * self._scores(x, t) + np.sqrt(alpha) * z          # (5)
                if on_level:
                    on_level(t, x)
                progress.show(T + 1 - t, f"level {T + 1 - t}/{T}", {})
        finally:
            progress.close()
        return x + self.dtype.type(self.sigma[0] ** 2) * self._scores(x, 1)                # (5)

    def _scores(self, x, t):
        return np.concatenate([plain(self.score(x[i:i + ROWS], t)) for i in range(0, len(x), ROWS)])

    def check(self, x):
        """x as (B, *shape), or a ValueError that says what is wrong with it. Flattened, (B, D), it is welcome too."""
        check_array(x, "x", self.dtype, ", as the denoiser is")
        if x.shape[1:] == (np.prod(self.shape),):
            x = x.reshape(len(x), *self.shape)
        return finite(x, "x", (None, *self.shape))

    def describe(self):
        return f"ScoreModel({self.schedule.T} levels, sigma from {self.sigma[0]:.2g} to {self.sigma[-1]:.2g})"
