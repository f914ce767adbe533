"""The forward process of diffusion: noise is mixed into x in T small steps, until nothing else is left.

    (1)  q(x_t | x_{t−1}) = N(√(1 − β_t) x_{t−1}, β_t I)
    (2)  q(x_t | x_0) = N(√ᾱ_t x_0, (1 − ᾱ_t) I),  α_t = 1 − β_t,  ᾱ_t = Π_{s<=t} α_s,  ᾱ_0 = 1    [diffusion.forward]
    (3)  q(x_{t−1} | x_t, x_0) = N(μ̃_t, β̃_t I),  β̃_t = β_t (1 − ᾱ_{t−1}) / (1 − ᾱ_t)
         μ̃_t = √ᾱ_{t−1} β_t / (1 − ᾱ_t) x_0 + √α_t (1 − ᾱ_{t−1}) / (1 − ᾱ_t) x_t             [diffusion.posterior]
    (4)  linear:   β_t evenly from 10⁻⁴ to 0.02, times 1000 / T                              [diffusion.linear]
    (5)  cosine:   ᾱ_t = f(t) / f(0),  f(t) = cos² ½π (t/T + s) / (1 + s),  s = 0.008,  but β_t <= 0.999
                                                                                             [diffusion.cosine]
    (6)  sigmoid:  ᾱ_t = (σ(3) − σ(6 t/T − 3)) / (σ(3) − σ(−3)),  but ᾱ_T = 10⁻⁹             [diffusion.sigmoid]

x (B, ...), t (B,) whole numbers from 1 to T, or one for all; the arrays of a schedule are (T,) float64, and their index
0 is t = 1. Each schedule gives about the same ᾱ as a function of t/T whatever T is; that is what 1000/T in (4) is for.
Ho et al., arXiv:2006.11239, section 2, for (1) to (3), and section 4 for (4); Nichol and Dhariwal, arXiv:2102.09672,
equation 17, for (5); Jabri et al., arXiv:2212.11972, for (6), with start −3, end 3, tau 1.
"""
import numpy as np
from scipy.special import expit

from autograd.tensor import FLOATS

from ..checks import check_count

LEAST = 1e-30                                # of ᾱ_T: x_0 is found by division by its root, in float32 too


class Schedule:
    """The noise of each step, `beta` (T,), each in (0, 1), and what follows from it, all (T,) float64:

    alpha, alpha_bar, alpha_bar_prev    α_t, ᾱ_t, ᾱ_{t−1}
    signal, noise                       √ᾱ_t and √(1 − ᾱ_t): how much of x_0 and of ε is in x_t
    beta_tilde, mean_x0, mean_xt        of (3): μ̃_t = mean_x0 x_0 + mean_xt x_t
    log_beta_tilde                      ln β̃_t, of t = 2 at t = 1 too: β̃_1 is 0
    snr                                 ᾱ_t / (1 − ᾱ_t)
    """

    def __init__(self, beta: np.ndarray):
        if np.asarray(beta).dtype.kind not in "iuf":
            raise ValueError(f"beta must be an array (T,) of real numbers in (0, 1), not {beta!r}")
        self.beta = beta = np.array(beta, np.float64)
        if beta.ndim != 1 or not beta.size or not ((beta > 0) & (beta < 1)).all():
            raise ValueError(f"beta must be an array (T,), T >= 1, of numbers in (0, 1), not {beta}")
        self.T, self.alpha = len(beta), 1 - beta
        log_alpha_bar = np.cumsum(np.log1p(-beta))                 # keeps the digits of 1 − ᾱ where β is small
        self.alpha_bar, rest = np.exp(log_alpha_bar), -np.expm1(log_alpha_bar)
        if self.alpha_bar[-1] < LEAST:
            raise ValueError(f"these betas leave alpha_bar = {self.alpha_bar[-1]:.1g} of x_0 at the end: make them "
                             f"smaller, or T, so that it is {LEAST:g} at least")
        self.alpha_bar_prev, rest_prev = np.append(1, self.alpha_bar[:-1]), np.append(0, rest[:-1])
        self.signal, self.noise, self.snr = self.alpha_bar ** 0.5, rest ** 0.5, self.alpha_bar / rest           # (2)
        self.beta_tilde = beta * rest_prev / rest                                          # (3)
        self.log_beta_tilde = np.log(np.append(self.beta_tilde[1:2], self.beta_tilde[1:]) if self.T > 1 else beta)
        self.mean_x0 = self.alpha_bar_prev ** 0.5 * beta / rest                            # (3)
        self.mean_xt = self.alpha ** 0.5 * rest_prev / rest                                # (3)
        for values in vars(self).values():
            if isinstance(values, np.ndarray):
                values.flags.writeable = False                     # each follows from beta

    @classmethod
    def linear(cls, T: int = 1000) -> "Schedule":
        """(4), for T > 20."""
        if check_count(T, "T") <= 20:
            raise ValueError(f"the linear schedule needs T > 20, or its last beta, 20 / T, is not below 1, not T = {T}")
        return cls(np.linspace(1e-4, 0.02, T) * 1000 / T)                                  # (4)

    @classmethod
    def cosine(cls, T: int = 1000) -> "Schedule":
        """(5)."""
        f = np.cos(np.pi / 2 * (np.arange(check_count(T, "T") + 1) / T + 0.008) / 1.008) ** 2
        return cls(np.minimum(1 - f[1:] / f[:-1], 0.999))                                  # (5)

    @classmethod
    def sigmoid(cls, T: int = 1000) -> "Schedule":
        """(6)."""
        f = expit(3) - expit(6 * np.arange(check_count(T, "T") + 1) / T - 3)
        alpha_bar = np.maximum(f / f[0], 1e-9)
        return cls(1 - alpha_bar[1:] / alpha_bar[:-1])                                     # (6)

    def q_sample(self, x0, t, eps):
        """x_t (B, ...), a draw from q(x_t | x_0) if eps (B, ...) is standard normal."""
        if np.shape(x0) != np.shape(eps):
            raise ValueError(f"eps must have the shape of x0, {np.shape(x0)}, not {np.shape(eps)}")
        signal, noise = self.at(t, x0, self.signal, self.noise)
        return signal * x0 + noise * eps                                                   # (2)

    def posterior(self, x0, xt, t):
        """The mean (B, ...) and the variance (B, 1, ..., 1) of q(x_{t−1} | x_t, x_0); at t = 1, x_0 and 0."""
        if np.shape(x0) != np.shape(xt):
            raise ValueError(f"x0 must have the shape of xt, {np.shape(xt)}, not {np.shape(x0)}")
        c0, ct, variance = self.at(t, xt, self.mean_x0, self.mean_xt, self.beta_tilde)
        return c0 * x0 + ct * xt, variance                                                 # (3)

    def at(self, t, like, *values: np.ndarray) -> list[np.ndarray]:
        """Each of `values` (T,) at t, (B, 1, ..., 1) or (1, ..., 1), of the dtype of `like` (B, ...) to multiply it."""
        t = np.asarray(t)
        if t.dtype.kind not in "iu" or not t.size or not 1 <= t.min() <= t.max() <= self.T:
            raise ValueError(f"t must be whole numbers from 1 to T = {self.T}, not {t}")
        if not hasattr(like, "dtype") or like.dtype not in FLOATS or t.shape not in ((), like.shape[:1]):
            raise ValueError(f"x must be float32 or float64, with one t for all or for each of its rows: x is "
                             f"{getattr(like, 'dtype', type(like))} of shape {np.shape(like)}, t of shape {t.shape}")
        shape = (t.size,) + (1,) * (like.ndim - 1)
        return [v[t - 1].astype(like.dtype).reshape(shape) for v in values]

    def __repr__(self):
        return f"Schedule(T = {self.T}, beta from {self.beta[0]:.2g} to {self.beta[-1]:.2g})"
