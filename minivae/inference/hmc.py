"""Hamiltonian Monte Carlo: draws from a posterior without approximation, to hold variational answers against.

    (1)  H(z, r) = −ln p(z) + ½ |r|²,  r ~ N(0, I):  the particle z rolls, and H stays
    (2)  leapfrog  r ← r + ½ h ∇ln p(z),  z ← z + h r,  r ← r + ½ h ∇ln p(z)
         runs backwards if r is turned round, |det ∂(z', r')/∂(z, r)| = 1                    [hmc.leapfrog]
         and H errs by O(h²)                                                                 [hmc.energy]
    (3)  so accepting z' with probability min(1, exp(H − H')) leaves p as it is              [hmc.invariance]
    (4)  ESS = n C / τ,  τ = 1 + 2 Σ ρₜ;  R̂² = variance of all draws / that within halves    [hmc.diagnosis]

z (C, d): C chains, a row each, move at once. Neal, MCMC using Hamiltonian dynamics, 2011, arXiv:1206.1901, for (1) to
(3); Hoffman and Gelman, arXiv:1111.4246, section 3.2, for adapting h; Vehtari et al., arXiv:1903.08008, for (4).
"""
import math
from typing import Callable, NamedTuple

import numpy as np
import scipy

from autograd import no_grad
from autograd.nn import check_rng
from autograd.tensor import plain

from ..checks import check_count, positive
from .transforms import Space, check_finite, value_and_gradient


class HMC(NamedTuple):
    """Draws of a posterior.

    z           (n, C, d) in the unconstrained space, for `effective_sample_size` and `split_rhat`
    acceptance  (C,), the mean probability;  step  h;  divergences  how often the energy rose by more than 1000 nats
    """
    space: Space
    z: np.ndarray
    acceptance: np.ndarray
    step: float
    divergences: int

    @property
    def samples(self) -> np.ndarray | dict[str, np.ndarray]:
        """The parameters as `log_joint` takes them: (n, C, d), or a dict of (n, C, ...)."""
        return self.space.constrain(self.z)[0]


def hmc(log_joint: Callable, parameters: int | dict, *, rng: np.random.Generator, draws: int = 1000, warmup: int = 500,
        chains: int = 4, leaps: int = 16, accept: float = 0.8, start=None) -> HMC:
    """`draws` draws by each of `chains` chains from the posterior that `log_joint` (nats, up to a constant) is of.

    log_joint, parameters  as for `advi`; a leading axis of C chains, one draw each
    leaps    leapfrog steps a draw: 1 to `leaps`, by lot, lest a trajectory come full circle
    accept   the acceptance that the step size is tuned for in `warmup`, in which also each coordinate's scale is learnt
    start    C draws, as `samples` has them; by default ζ ~ N(0, I)

    A trajectory that diverges, or ends where the density is 0 or not a number, is rejected. Raises ValueError if the
    density is so at the start, and if the log joint has another shape or does not depend on its arguments.
    """
    check_rng(rng)
    for name, n, least in ("draws", draws, 1), ("warmup", warmup, 2), ("chains", chains, 1), ("leaps", leaps, 1):
        check_count(n, name, least=least)
    positive(accept, "accept", below=1)
    space = Space(parameters)
    z = rng.standard_normal((chains, space.dim)) if start is None else space.unconstrain(start)
    if z.shape != (chains, space.dim):
        raise ValueError(f"start must be a draw for each of {chains} chains, not of shape {z.shape[:-1]}")
    density, scale = space.density(log_joint), np.ones(space.dim)
    check_finite(value_and_gradient(density, z)[0], z, "at the start")

    def run(z, n, adapt, step):
        """n draws (n, C, d) of z, their acceptance (n, C), and the step size, adapted or as it was."""
        f = lambda u: density(u * scale)                           # coordinates of about one width
        tune, out, alpha = DualAveraging(step, accept), np.empty((n, *z.shape)), np.empty((n, chains))
        u, diverged = z / scale, 0
        for i in range(n):
            u, alpha[i], error = transition(f, u, tune.step if adapt else step, 1 + rng.integers(leaps), rng)
            out[i] = u * scale
            diverged += int(np.sum(~(error < 1000)))
            tune.update(alpha[i].mean())
        return out, alpha, tune.mean if adapt else step, diverged

    learn, _, step, _ = run(z, -(-warmup // 2), True, 0.1)
    spread = learn[len(learn) // 2:].std(axis=(0, 1))
    scale = np.where(spread > 0, spread, 1.0)
    tuned, _, step, _ = run(learn[-1], warmup // 2, True, 0.1)
    out, alpha, step, diverged = run(tuned[-1], draws, False, step)
    return HMC(space, out, alpha.mean(axis=0), step, diverged)


def leapfrog(gradient: Callable, z, r, step: float, n: int):
    """(z, r) after n steps of (2), where `gradient(z)` is that of ln p."""
    r = r + 0.5 * step * gradient(z)
    for i in range(n):
        z = z + step * r                                                                   # (2)
        r = r + (step if i < n - 1 else 0.5 * step) * gradient(z)                          # (2)
    return z, r


def transition(log_density: Callable, z: np.ndarray, step: float, leaps: int, rng: np.random.Generator):
    """One draw for each chain z (C, d): the next z, the acceptance (C,), and by how much the energy rose (C,)."""
    r = rng.standard_normal(z.shape)
    with np.errstate(all="ignore"), no_grad():
        new, s = leapfrog(lambda z: value_and_gradient(log_density, z)[1], z, r, step, leaps)
        energy = lambda z, r: 0.5 * np.sum(r * r, axis=1) - plain(log_density(z))          # (1)
        error = energy(new, s) - energy(z, r)
    alpha = np.where(np.isfinite(error), np.exp(-np.maximum(error, 0)), 0.0)
    move = rng.random(len(z)) < alpha                                                      # (3)
    return np.where(move[:, None], new, z), alpha, error


class DualAveraging:
    """A step size with a given mean acceptance: `step` while it is sought, `mean` when it has been found."""

    def __init__(self, step, accept):
        self.t, self.excess, self.accept, self.step = 0, 0.0, accept, step
        self.centre, self.log_mean = math.log(10 * step), 0.0

    def update(self, alpha: float):
        self.t += 1
        self.excess += (self.accept - alpha - self.excess) / (self.t + 10)
        log_step = self.centre - self.excess * math.sqrt(self.t) / 0.05
        self.log_mean += self.t ** -0.75 * (log_step - self.log_mean)
        self.step = math.exp(log_step)

    @property
    def mean(self):
        return math.exp(self.log_mean)


def effective_sample_size(x: np.ndarray) -> np.ndarray:
    """How many independent draws would give means as exact as those of x (n, C, ...), for each quantity (...)."""
    x = _check(x)
    n, chains = x.shape[:2]
    centred = x - x.mean(axis=0)
    power = np.abs(scipy.fft.rfft(centred, 2 * n, axis=0)) ** 2
    covariance = scipy.fft.irfft(power, 2 * n, axis=0)[:n].mean(axis=1) / n
    within, total = _variances(x)
    rho = 1 - (within - covariance * n / (n - 1)) / total
    pairs = (rho[:n - n % 2:2] + rho[1::2])                        # positive and falling, but for noise (Geyer 1992)
    pairs = np.minimum.accumulate(np.where(np.cumprod(pairs > 0, axis=0), pairs, 0))
    tau = np.maximum(2 * pairs.sum(axis=0) - 1, 1 / math.log10(n * chains))
    return n * chains / tau                                                                # (4)


def split_rhat(x: np.ndarray) -> np.ndarray:
    """R̂ of x (n, C, ...), n >= 4, for each quantity (...): near 1 if the halves of all chains saw the same."""
    x = _check(x)
    half = len(x) // 2
    within, total = _variances(np.concatenate([x[:half], x[-half:]], axis=1))
    return np.sqrt(total / within)                                                         # (4)


def _variances(x):
    """The variance within chains, and that of all draws, of x (n, C, ...)."""
    n, chains = x.shape[:2]
    within = x.var(axis=0, ddof=1).mean(axis=0)
    between = x.mean(axis=0).var(axis=0, ddof=1) if chains > 1 else 0.0
    return within, within * (n - 1) / n + between


def _check(x):
    x = np.asarray(x)
    if x.ndim < 2 or len(x) < 4:
        raise ValueError(f"draws must be (n, chains, ...) with n >= 4, not {x.shape}")
    if not np.isfinite(x).all() or not np.all(x.var(axis=0).mean(axis=0) > 0):
        raise ValueError("draws must be finite, and vary within the chains")
    return x
