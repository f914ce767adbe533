"""The way back, from noise to data: one step from x_t to x_s, s < t, given the x̂_0 that the denoiser sees in x_t.

    (1)  ancestral, s = t − 1:  x_s = μ̃_t(x_t, x̂_0) + σ_t z,  z ~ N(0, I)                    [diffusion.ancestral]
    (2)  DDIM, any s < t:  x_s = √ᾱ_s x̂_0 + √(1 − ᾱ_s − σ²) ε̂ + σ z,  ε̂ = (x_t − √ᾱ_t x̂_0) / √(1 − ᾱ_t)
         σ² = η² (1 − ᾱ_s) / (1 − ᾱ_t) (1 − ᾱ_t / ᾱ_s);  with η = 1, s = t − 1 it is (1), σ² = β̃  [diffusion.ddim]
    (3)  guidance:  (1 − w) f(x_t, t, ∅) + w f(x_t, t, y) in place of f(x_t, t, y)           [diffusion.guidance]
         so that the score is that of q(x_t)^{1−w} q(x_t | y)^w
    (4)  what the last step, s = 0, gives is a mean: noise would only blur it                [diffusion.last-step]
    (5)  Gaussian data, the best denoiser: (1), with z in the last step too, gives their variance for any T if
         σ_t² = β̃_t + c² Var(x_0 | x_t), c = √ᾱ_{t−1} β_t/(1 − ᾱ_t): β_t if Var x_0 = 1, β̃_t if 0 [diffusion.variance]
         and (2) with η = 0, so σ = 0, is wrong by O(1/T)                                     [diffusion.ddim-order]

Ho et al., arXiv:2006.11239, algorithm 2, for (1); Song, Meng and Ermon, arXiv:2010.02502, equations 12 and 16, for (2);
Ho and Salimans, arXiv:2207.12598, for (3), whose w is 1 less; Bao et al., arXiv:2201.06503, for (5).
"""
import math
from typing import Callable

import numpy as np

from autograd import no_grad
from autograd.nn import check_rng
from autograd.tensor import plain

from ..checks import check_array, check_count, check_number, check_weight
from ..train import Progress
from .schedule import Schedule
from .score import from_x0, to_x0

ROWS, NUMBERS = 512, 2 ** 17                 # examples, and numbers in them, denoised at once: more leave the cache


@no_grad()
def denoise(model, xt, t, y=None, guidance: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """x̂_0 (B, ...) and ln σ_t², which broadcasts to it, for x_t (B, ...), t and y (B,), or one t for all.

    `guidance` is w of (3): 1 is the model given y, 0 the model that knows no y, more exaggerates what y changes.
    """
    guidance = check_number(guidance, "guidance")                  # a float of NumPy's would make float32 float64
    if not math.isfinite(guidance):
        raise ValueError(f"guidance must be a finite number, not {guidance}")
    if y is None and guidance not in (0, 1):
        raise ValueError(f"guidance = {guidance} is towards a class: give y")
    check_array(xt, "x_t", model.dtype, ", as the denoiser is")
    if xt.shape[1:] != model.shape or not len(xt):
        raise ValueError(f"x_t must have shape (B, {', '.join(map(str, model.shape))}), with at least one row, "
                         f"not {xt.shape}")
    if np.shape(t) not in ((), xt.shape[:1]):
        raise ValueError(f"t must be one for all or for each of {len(xt)} rows, not of shape {np.shape(t)}")
    t, y = np.broadcast_to(t, len(xt)), model.labels(y, len(xt))
    y = model.labels(None, len(xt)) if guidance == 0 else y
    rows = max(1, min(ROWS, NUMBERS // math.prod(model.shape)) // (1 if guidance in (0, 1) else 2))
    parts = [_denoise(model, xt[i:i + rows], t[i:i + rows], y if y is None else y[i:i + rows], guidance)
             for i in range(0, len(xt), rows)]
    return tuple(np.concatenate(part) for part in zip(*parts))


def _denoise(model, xt, t, y, guidance):
    if guidance in (0, 1):
        f, u = map(plain, model.outputs(xt, t, y))
    else:                                                          # with and without the class, in one call
        both = np.concatenate([y, np.full(len(y), model.num_classes)])
        f, u = map(plain, model.outputs(np.concatenate([xt, xt]), np.tile(t, 2), both))
        f, none = np.split(f, 2)
        f, u = none + guidance * (f - none), u[:len(xt)] if model.learned else None        # (3)
    x0_hat = to_x0(model.schedule, f, xt, t, model.predict)
    if not np.isfinite(x0_hat).all():
        raise FloatingPointError(f"what the denoiser makes of x at t = {t[0]} is not finite")
    return np.clip(x0_hat, -model.clip, model.clip), model.log_variance(xt, t, u)


@no_grad()
def sample(model, n: int, rng: np.random.Generator, y=None, guidance: float = 1.0, steps: int | None = None,
           eta: float = 1.0, on_step: Callable | None = None, noise: bool = False) -> np.ndarray:
    """n draws from the model, (n, *shape), of the classes y (n,), or of any.

    guidance   weight of the class: 1 as it is, 0 not at all; more gives more typical and less varied draws
    steps      None with eta = 1: T ancestral steps, with the model's variance; else at most T of DDIM's, with its own
    eta        of DDIM: 0 makes x_0 a function of x_T
    on_step    called before each step with t, x_t and the x̂_0 that the denoiser sees in it
    noise      draw x_0 from p(x_0 | x_1), where the ancestral sampler otherwise gives its mean
    """
    check_rng(rng)
    s, n, eta = model.schedule, check_count(n, "n"), check_weight(eta, "eta")
    ancestral = steps is None and eta == 1
    if noise and not ancestral:
        raise ValueError("noise is for the ancestral sampler: DDIM has none in its last step")
    times = timesteps(s.T, steps)
    progress, x = Progress(len(times)), rng.standard_normal((n, *model.shape), model.dtype)
    try:
        for done, (t, after) in enumerate(zip(times, [*times[1:], 0]), 1):
            x0_hat, logvar = model.denoise(x, t, y, guidance)
            if on_step:
                on_step(t, x, x0_hat)
            if ancestral:
                mean, variance = s.posterior(x0_hat, x, t)[0], np.exp(logvar) * (after > 0 or noise)       # (1), (4)
            else:
                mean, variance = ddim(s, x0_hat, x, t, after, eta)
            x = mean + variance ** 0.5 * rng.standard_normal(x.shape, x.dtype) if np.any(variance) else mean
            progress.show(done, f"step {done}/{len(times)}", {})
    finally:
        progress.close()
    return x


def timesteps(T: int, steps: int | None = None) -> list[int]:
    """The times of `steps` evenly spaced steps from T down, the last of which goes to 0. None: all T."""
    steps = T if steps is None else check_count(steps, "steps", T, ", the steps of the schedule")
    return [-(-i * T // steps) for i in range(steps, 0, -1)]


def ddim(schedule: Schedule, x0_hat, xt, t: int, s: int, eta: float):
    """The mean (B, ...) and the variance of x_s in (2). Raises ValueError for an eta > 1 with which σ² > 1 − ᾱ_s."""
    alpha_bar, rest = [1.0, *schedule.alpha_bar.tolist()], [0.0, *(schedule.noise ** 2).tolist()]
    variance = eta ** 2 * rest[s] / rest[t] * (1 - alpha_bar[t] / alpha_bar[s])            # (2)
    if variance > rest[s]:
        raise ValueError(f"eta = {eta} is too much: {variance:.3g} of a variance of {rest[s]:.3g} at t = {s}")
    eps_hat = from_x0(schedule, x0_hat, xt, t, "eps")
    return alpha_bar[s] ** 0.5 * x0_hat + (rest[s] - variance) ** 0.5 * eps_hat, variance  # (2)
