"""Denoising diffusion: a network that learns to undo one small step of noising, and so to make data out of noise.

    (1)  p(x_T) = N(0, I),  p(x_{t−1} | x_t) = N(μ̃_t(x_t, x̂_0), σ_t² I),  x̂_0 from the network's f(x_t, t)
    (2)  simple:   E_{t, ε} w_t |f* − f(x_t, t)|²,  f* = ε, x_0 or v;  least at E[f* | x_t]           [diffusion.simple]
    (3)  min-SNR:  w_t = min(SNR_t, γ), times 1 / SNR_t for ε, 1 for x_0, 1 / (SNR_t + 1) for v      [diffusion.min-snr]
    (4)  vlb:      L_T + T E_t L_{t−1},  the bound of vlb.py from one t an example           [diffusion.vlb-loss]
    (5)  learned:  ln σ_t² = u ln β_t + (1 − u) ln β̃_t,  with u from the network too            [diffusion.learned]
    (6)  hybrid:   simple + 0.001 vlb, the latter to teach u alone: x̂_0 is a constant in it  [diffusion.hybrid]

x (B, *shape), t (B,) in 1..T, y (B,) classes. A denoiser is a Module with a `shape` and `num_classes` (None: it knows
none), called as `denoiser(x, t, y)`. With variance = "learned" it returns f and u one after the other, along axis 1.
Ho et al., arXiv:2006.11239, for (1), (2) and (4); Nichol and Dhariwal, arXiv:2102.09672, for (5), equation 15, and (6);
Hang et al., arXiv:2303.09556, for (3).
"""
import math
import warnings

import numpy as np

from autograd import Tensor, ops
from autograd.nn import Module, check_rng, check_state
from autograd.tensor import plain

from ..checks import check_array, check_choice, check_classes, check_number, check_weight, finite, positive
from ..train import Model
from .sampling import denoise, sample
from .schedule import Schedule
from .score import FORMS, from_x0, to_x0
from .vlb import end_term, step_terms, vlb

GREY = "scale grey levels to x / 127.5 - 1"


class DDPM(Model):
    """A diffusion model of whatever `denoiser` takes, under `schedule`.

    predict   "eps", "x0" or "v": what f is
    loss      "simple", "vlb" or "hybrid"
    variance  σ_t²: "beta", "beta_tilde" (that of t = 2 at t = 1), "learned", or an array (T,)
    min_snr   γ of (3), 5 in the paper; None: w_t = 1
    p_drop    how often a class is hidden in training, for guidance
    images    x is grey levels k / 127.5 − 1, so that L_0 is (3) of vlb.py, not a density; default: shape has three axes
    clip      the data are in [−clip, clip], and, but for training, x̂_0 is clipped to that; default: 1 for images,
              otherwise 10, since data much larger than the noise of variance 1 were never scaled to match it

    Data x may come flattened, (B, D).
    """

    def __init__(self, denoiser: Module, schedule: Schedule, *, predict: str = "eps", loss: str = "simple",
                 variance: str | np.ndarray = "beta", min_snr: float | None = None, p_drop: float = 0.1,
                 images: bool | None = None, clip: float | None = None):
        if not isinstance(denoiser, Module) or not hasattr(denoiser, "shape") or not isinstance(schedule, Schedule):
            raise ValueError(f"a DDPM needs a denoiser, a Module with a shape, and a Schedule, "
                             f"not {type(denoiser).__name__} and {type(schedule).__name__}")
        self.denoiser, self.schedule, self.shape = denoiser, schedule, tuple(denoiser.shape)
        self.num_classes = getattr(denoiser, "num_classes", None)
        self.predict = check_choice(predict, "predict", ("eps", "x0", "v"))
        if getattr(denoiser, "predict", predict) != predict:
            raise ValueError(f"this denoiser predicts {denoiser.predict!r}, not {predict!r}")
        if not np.array_equal(getattr(denoiser, "schedule", schedule).beta, schedule.beta):
            raise ValueError(f"this denoiser is for {denoiser.schedule}, not {schedule}")
        self.objective = check_choice(loss, "loss", ("simple", "vlb", "hybrid"))
        if isinstance(variance, str):
            check_choice(variance, "variance", ("beta", "beta_tilde", "learned"))
            logvar = schedule.log_beta_tilde if variance == "beta_tilde" else np.log(schedule.beta)
        elif not ((variance := finite(variance, "variance", (schedule.T,))) > 0).all():
            raise ValueError(f"each variance must be > 0, not {variance.min()}")
        else:
            logvar = np.log(variance)
        self.learned = isinstance(variance, str) and variance == "learned"
        if getattr(denoiser, "learned_variance", self.learned) != self.learned:
            raise ValueError(f"the denoiser's learned_variance is {denoiser.learned_variance}, "
                             f"and this DDPM's variance {'learned' if self.learned else 'fixed'}")
        self.logvar = logvar.astype(next((p.dtype for p in denoiser.parameters()), np.float64))
        self.beta, self.form = schedule.beta, np.array(FORMS.index(predict))       # for load_state: what weights mean
        if loss == {True: "simple", False: "hybrid"}[self.learned]:
            raise ValueError(f"the loss {loss!r} does not go with variance {variance!r}: hybrid and vlb are what a "
                             f"learned variance can be learned by, and hybrid is for nothing else")
        self.min_snr = None if min_snr is None else positive(min_snr, "min_snr")
        if loss == "vlb" and min_snr is not None:
            raise ValueError("min_snr weighs the simple loss, and there is none in the loss 'vlb'")
        if (p_drop := check_weight(p_drop, "p_drop")) > 1:
            raise ValueError(f"p_drop is a probability, not {p_drop}")
        self.p_drop, self.images = p_drop, len(self.shape) == 3 if images is None else bool(images)
        self.clip = (1.0 if self.images else 10.0) if clip is None else check_number(clip, "clip")
        if self.clip <= 0 or self.images and self.clip != 1:
            raise ValueError(f"clip must be > 0, and 1 for images, not {clip}")

    dtype = property(lambda self: self.logvar.dtype)

    def loss(self, batch, rng: np.random.Generator) -> tuple[Tensor, dict[str, float]]:
        """What `loss` says, of a batch x or (x, y), from one t and one ε an example; and its parts."""
        check_rng(rng)
        if isinstance(batch, tuple) and len(batch) != 2:
            raise ValueError(f"a batch is x or a pair (x, y), not {len(batch)} arrays")
        x0, y = self.check(*batch) if isinstance(batch, tuple) else self.check(batch)
        s, B = self.schedule, len(x0)
        t, eps = rng.integers(1, s.T, B, endpoint=True), rng.standard_normal(x0.shape, x0.dtype)
        xt = s.q_sample(x0, t, eps)
        if y is not None:
            y = np.where(rng.random(B) < self.p_drop, self.num_classes, y)
        (f, u), parts = self.outputs(xt, t, y), {}
        if self.objective != "vlb":
            parts["simple"] = self._simple(f, x0, xt, t, eps)
        if self.objective != "simple":
            x0_hat = to_x0(s, plain(f) if parts else f, xt, t, self.predict)
            terms = step_terms(s, x0, xt, t, x0_hat, self.log_variance(xt, t, u), self.images)
            parts["vlb"] = s.T * ops.mean(terms) + np.mean(end_term(s, x0)).item()         # (4)
        loss, *bound = parts.values()
        return loss + 0.001 * bound[0] if bound else loss, {k: v.item() for k, v in parts.items()}     # (6)

    def _simple(self, f, x0, xt, t, eps):
        s, target = self.schedule, eps if self.predict == "eps" else from_x0(self.schedule, x0, xt, t, self.predict)
        error = ops.square(f - target)
        if self.min_snr is not None:
            snr, = s.at(t, xt, s.snr)
            w = np.minimum(snr, self.min_snr) / {"eps": snr, "x0": 1, "v": snr + 1}[self.predict]       # (3)
            error = w * error
        return ops.sum(error) / len(x0)                                                    # (2)

    def outputs(self, xt, t, y):
        """f and, of a learned variance, u, differentiable; otherwise f and None."""
        B, C, *rest = xt.shape
        out, shape = self.denoiser(xt, t, y), (B, C + C * self.learned, *rest)
        if out.shape != shape:
            raise ValueError(f"the denoiser made {out.shape} of {xt.shape}, not {shape}: its learned_variance must be "
                             f"{self.learned}, as this DDPM's is")
        return ops.split(out, 2, axis=1) if self.learned else (out, None)

    def log_variance(self, xt, t, u):
        """ln σ_t², (B, 1, ..., 1), or, learned, (B, ...)."""
        if not self.learned:
            return self.schedule.at(t, xt, self.logvar)[0]
        high, low = self.schedule.at(t, xt, self.logvar, self.schedule.log_beta_tilde)
        return u * high + (1 - u) * low                                                    # (5)

    denoise, sample, vlb = denoise, sample, vlb                    # what a trained model is for: sampling.py, vlb.py

    def score(self, xt, t, y=None, guidance: float = 1.0) -> np.ndarray:
        """∇ ln q(x_t), (B, ...), as the model has learned it."""
        return from_x0(self.schedule, self.denoise(xt, t, y, guidance)[0], xt, t, "score")

    def load_state(self, state):
        """As any Module's, but a ValueError, too, for the state of another schedule, prediction or variance."""
        mine = self.state()
        check_state(mine, state, "this DDPM")
        for name, what in ("beta", "schedule"), ("form", "prediction"), ("logvar", "variance"):
            if not np.allclose(state[name], mine[name], 1e-5, 0):  # one of them may have been rounded to float32
                raise ValueError(f"this is not the state of this {self.describe()}: it is of another {what}")
        super().load_state(state)

    def check(self, x, y=None):
        """x as (B, *shape) and y, or a ValueError that says what is wrong with them."""
        check_array(x, "x", self.dtype, f", as the denoiser is{f' ({GREY})' * self.images}")
        if x.shape[1:] == (math.prod(self.shape),):
            x = x.reshape(len(x), *self.shape)
        if x.shape[1:] != self.shape or not len(x):
            raise ValueError(f"x must have shape (batch, {', '.join(map(str, self.shape))}), not {x.shape}")
        low, high, bound = x.min(), x.max(), self.clip
        if not (-bound - 1e-5 <= low <= high <= bound + 1e-5 and math.isfinite(high - low)):       # 1e-5: rounding
            how = GREY if self.images else "scale data to a variance of about 1, as the noise has"
            raise ValueError(f"x must be finite and in [-{bound:g}, {bound:g}], and goes from {low} to {high}: {how}")
        if self.images and 0 <= low < high:
            warnings.warn(f"no pixel of these {len(x)} images is darker than the middle of [-1, 1]: {GREY}, "
                          "or x in [0, 1] to 2 x - 1", stacklevel=3)
        return x, self.labels(y, len(x))

    def labels(self, y, n: int):
        """y (n,), or, if it is None, n times "no class"; None for a denoiser without classes."""
        return check_classes(y, n, self.num_classes, hidden=False)

    def describe(self):
        return f"DDPM({self.schedule}, {self.predict}, {self.objective})"
