"""Parameters with constraints as points of R^d, where a Gaussian can lie and a particle can roll.

    (1)  ln p(ζ) = ln p(θ) + ln |det ∂θ/∂ζ|,  θ = T(ζ)                                       [constraints.density]
    (2)  positive  θ = exp ζ,   ln |∂θ/∂ζ| = ζ                                               [constraints.jacobian]
         softplus  θ = ln(1 + exp ζ) > 0,   ln |∂θ/∂ζ| = ln σ(ζ)
         unit      θ = σ(ζ) in (0, 1),   ln |∂θ/∂ζ| = ln σ(ζ) + ln σ(−ζ)
    (3)  simplex   θₖ = vₖ rₖ, a share vₖ = σ(ζₖ − ln(K − k)) of the stick that is left, rₖ = 1 − Σ_{j<k} θⱼ
                   ln |det| = Σ_{k<K} ln vₖ(1 − vₖ) + ln rₖ                                  [constraints.simplex]

ζ (S, d), a draw a row, and θ named Tensors (S, ...). K positive numbers that sum to 1 take K − 1 of the d, and ζ = 0 is
the middle of the simplex. Kucukelbir et al., Automatic differentiation variational inference, JMLR 18, 2017, section
2.3, for (1) and (2); (3) is how Stan breaks the stick (Carpenter et al., J. Statistical Software 76, 2017).
"""
import math
from typing import Callable, NamedTuple

import numpy as np

from autograd import Tensor, grad, ops
from autograd.tensor import plain

from ..checks import check_choice, check_count


class Transform(NamedTuple):
    """From R to where a parameter lives: ζ -> (θ, ln |∂θ/∂ζ|, to be summed); back from θ; and which θ there are."""
    forward: Callable
    inverse: Callable
    wanted: str
    holds: Callable


def _log_sigmoid(z):
    return -ops.softplus(-z)


def _break_stick(z):
    k = z.shape[-1]
    a = z - np.log(np.arange(k, 0, -1))
    log_v, log_left = _log_sigmoid(a), _log_sigmoid(-a)
    none = np.zeros((*z.shape[:-1], 1))
    log_r = ops.concatenate([none, ops.cumsum(log_left, axis=-1)], axis=-1)
    theta = ops.exp(ops.concatenate([log_v, none], axis=-1) + log_r)                       # (3)
    return theta, log_v + log_left + log_r[..., :-1]                                       # (3)


def _join_stick(theta):
    rest = np.flip(np.cumsum(np.flip(theta, -1), -1), -1)          # from the end: what is left, without cancellation
    return np.log(theta[..., :-1] / rest[..., 1:]) + np.log(np.arange(theta.shape[-1] - 1, 0, -1))


TRANSFORMS = {
    "real": Transform(lambda z: (z, 0 * z), lambda x: x, "finite", np.isfinite),
    "positive": Transform(lambda z: (ops.exp(z), z),                                       # (2)
                          np.log, "positive and finite", lambda x: (x > 0) & (x < np.inf)),
    "softplus": Transform(lambda z: (ops.softplus(z), _log_sigmoid(z)),                    # (2)
                          lambda x: x + np.log(-np.expm1(-x)), "positive and finite", lambda x: (x > 0) & (x < np.inf)),
    "unit": Transform(lambda z: (ops.sigmoid(z), _log_sigmoid(z) + _log_sigmoid(-z)),      # (2)
                      lambda x: np.log(x / (1 - x)), "in (0, 1)", lambda x: (x > 0) & (x < 1)),
    "simplex": Transform(_break_stick, _join_stick, "positive, with a sum of 1 over the last axis",
                         lambda x: (x > 0) & (np.abs(x.sum(axis=-1, keepdims=True) - 1) < 1e-6)),
}


class Space:
    """What a log joint is a function of: a number d, for one Tensor z (S, d), or names with shapes and transforms.

    `Space({"w": 3, "corr": ((2, 2), "unit"), "sigma": "positive"})` is for `log_joint(w, corr, sigma)`, called with
    Tensors (S, 3), (S, 2, 2) and (S,). A shape alone is real, a transform alone is of one number. Transforms: real,
    positive (exp), softplus (positive too), unit (0 to 1), simplex (the last axis sums to 1).
    """

    def __init__(self, parameters: int | dict):
        self.named, self.parts, self.dim = isinstance(parameters, dict), {}, 0
        if not (self.named and parameters):
            parameters = {"z": check_count(parameters, "parameters, unless a dict of some,")}
        for name, given in parameters.items():
            given = ((), given) if isinstance(given, str) else given
            shape, kind = given if isinstance(given, tuple) and len(given) == 2 and isinstance(given[1], str) \
                else (given, "real")
            shape = shape if isinstance(shape, tuple) else (shape,)
            shape = free = tuple(check_count(n, f"each length in the shape of {name}") for n in shape)
            check_choice(kind, f"the transform of {name}", tuple(TRANSFORMS))
            if kind == "simplex":
                if not shape or shape[-1] < 2:
                    raise ValueError(f"{name}: a simplex needs a last axis of at least 2, not shape {shape}")
                free = (*shape[:-1], shape[-1] - 1)
            start, self.dim = self.dim, self.dim + math.prod(free)
            self.parts[name] = shape, free, slice(start, self.dim), kind

    def constrain(self, z):
        """(θ, ln |det| (...)) of ζ (..., d), an array or Tensor: θ is one like it, or a dict of them (..., *shape)."""
        theta, log_det = {}, 0.0
        for name, (_, free, place, kind) in self.parts.items():
            theta[name], terms = TRANSFORMS[kind].forward(z[..., place].reshape(*z.shape[:-1], *free))
            log_det = log_det + ops.sum(terms.reshape(*z.shape[:-1], -1), axis=-1)
        return theta if self.named else theta["z"], log_det

    def unconstrain(self, theta) -> np.ndarray:
        """The ζ (..., d) of θ, as `constrain` gives it. Raises ValueError for a θ that no ζ has."""
        theta = theta if self.named else {"z": theta}
        if not isinstance(theta, dict) or set(theta) != set(self.parts):
            raise ValueError(f"needs a dict of {', '.join(self.parts)}, not {theta!r}")
        parts = []
        for name, (shape, _, _, kind) in self.parts.items():
            transform, x = TRANSFORMS[kind], np.asarray(plain(theta[name]), np.float64)
            batch = x.shape[:x.ndim - len(shape)]
            if x.shape != (*batch, *shape):
                raise ValueError(f"{name} has shape {x.shape}, which does not end in {shape}")
            if not np.all(transform.holds(x)):
                raise ValueError(f"{name} must be {transform.wanted}, not {x}: the density there is 0")
            parts.append(transform.inverse(x).reshape(*batch, -1))
        return np.concatenate(parts, axis=-1)

    def density(self, log_joint: Callable) -> Callable:
        """`log_joint` as a function of ζ (S, d): ln p(ζ) (S,), checked as `check_density` does."""
        def log_density(z):
            theta, log_det = self.constrain(z)
            log_p = log_joint(**theta) if self.named else log_joint(theta)
            return check_density(log_p, z) + log_det                                       # (1)
        return log_density


def check_density(log_p, z, factors: tuple = ()):
    """`log_p`, which a log joint gave for z (S, d): ValueError unless it is (S, *factors), and traced if z is."""
    if not isinstance(log_p, (Tensor, np.ndarray)):
        raise ValueError(f"log_joint must return a Tensor, not {type(log_p).__name__}")
    want = (len(z), *factors)
    if log_p.shape != want:
        raise ValueError(f"log_joint must return shape {want} for {len(z)} draws, not {log_p.shape}: a number for each "
                         f"draw{' and factor' if factors else ': sum over all axes but the first'}")
    if isinstance(z, Tensor) and z.requires_grad and not (isinstance(log_p, Tensor) and log_p.requires_grad):
        raise ValueError("log_joint returned a constant, which has no gradient: compute it from its arguments with "
                         "autograd.ops, without .data or NumPy arrays made of them")
    return log_p


def check_finite(log_p: np.ndarray, z: np.ndarray, where: str):
    """Raises ValueError if a log density (S, ...) at z (S, d) is not finite."""
    bad = np.argwhere(~np.isfinite(log_p))
    if len(bad):
        raise ValueError(f"log_joint is {log_p[tuple(bad[0])]} {where}, z = {z[bad[0][0]]}: it must be finite on all "
                         f"of R^d; a parameter with a constraint needs a transform ({', '.join(TRANSFORMS)})")


def value_and_gradient(log_density: Callable, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """ln p (S,) and its gradient (S, d) at the rows of z, by one backward pass: no row depends on another."""
    values = []

    def total(z):
        values.append(log_density(z))
        return ops.sum(values[0])
    g = grad(total)(z)
    return values[0].data, g
