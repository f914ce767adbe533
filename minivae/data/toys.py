"""Points in the plane whose shape one sees at a glance, for models of densities: TOYS maps a name to a set.

    (1)  E x = 0,  E|x|² = 2: a shape is moved and scaled by constants, not by its sample    [toys.scale]
    (2)  checkerboard: p(x) = 1/8a² on the eight dark squares, whose side is a = √3/2        [toys.checkerboard]
    (3)  eight_gaussians, grid: x ~ 1/K Σₖ N(mₖ, s² I), and x_t = √ᾱ x + √(1 − ᾱ) ε, ε ~ N(0, I), has the density
         q(x_t) = 1/K Σₖ N(x_t; √ᾱ mₖ, v I),  v = ᾱ s² + 1 − ᾱ                               [toys.density]
    (4)  ∇ ln q(x_t) = Σₖ p(k | x_t) (√ᾱ mₖ − x_t) / v                                       [toys.score]

x (n, 2), mₖ (K, 2). `TOYS["rings"](n, rng)` is an array (n, 2) of float32, each row drawn by itself. By (3) and (4) the
last two tell what a model should have learned, at every level ᾱ of noise.
"""
from functools import wraps

import numpy as np
from scipy.special import logsumexp, softmax

from autograd.nn import check_rng

from ..checks import check_count, finite, positive

NOISE = 0.05                                 # the standard deviation of points about their curve, once it is scaled


def _toy(f):
    """f with its arguments checked and its points in float32."""
    @wraps(f)
    def draw(n: int, rng: np.random.Generator) -> np.ndarray:
        check_rng(rng)
        return f(check_count(n, "n"), rng).astype(np.float32)
    return draw


def _blurred(curve, mean_square, rng):
    """Points (n, 2) of a curve about 0 with that E|x|², scaled, with noise, to (1)."""
    return curve * ((2 - 2 * NOISE ** 2) / mean_square) ** 0.5 + NOISE * rng.standard_normal(curve.shape)      # (1)


def _on_circle(angle):
    return np.stack([np.cos(angle), np.sin(angle)], axis=1)


@_toy
def two_moons(n, rng):
    """Two half circles that reach into each other."""
    curve = _on_circle(rng.uniform(0, np.pi, n)) - [1 / 2, 1 / 4]
    return _blurred(curve * rng.choice([-1, 1], (n, 1)), 21 / 16 - 1 / np.pi, rng)


@_toy
def rings(n, rng):
    """Circles of radius 1, 2, 3, equally dense."""
    radius = rng.choice([1, 2, 3], (n, 1), p=[1 / 6, 2 / 6, 3 / 6])
    return _blurred(radius * _on_circle(rng.uniform(0, 2 * np.pi, n)), 6, rng)


@_toy
def spirals(n, rng):
    """Two arms r = angle of a turn and a half, of nearly the same density everywhere."""
    angle = 3 * np.pi * np.sqrt(rng.random(n))
    return _blurred(_on_circle(angle) * (angle * rng.choice([-1, 1], n))[:, None], 9 * np.pi ** 2 / 2, rng)


@_toy
def checkerboard(n, rng):
    """The dark squares of a board of 4 x 4, with sharp edges."""
    x = rng.uniform(0, 4, n)
    y = np.floor(x) % 2 + 2 * rng.integers(0, 2, n) + rng.random(n)
    return (np.stack([x, y], axis=1) - 2) * (3 / 4) ** 0.5                                 # (2)


class Mixture:
    """K equally likely Gaussians of one width; `means` (K, 2), of mean 0, and `std` are scaled to (1)."""

    def __init__(self, means: np.ndarray, std: float):
        means, std = finite(means, "means", (None, 2)), positive(std, "std")
        if not np.allclose(means.mean(axis=0), 0, atol=1e-6):
            raise ValueError(f"the mean of means must be 0, not {means.mean(axis=0)}")
        scale = (2 / (np.mean(np.sum(means ** 2, axis=1)) + 2 * std ** 2)) ** 0.5          # (1)
        self.means, self.std = scale * means, scale * std
        self._draw = _toy(lambda n, rng: rng.choice(self.means, n) + self.std * rng.standard_normal((n, 2)))

    def __call__(self, n: int, rng: np.random.Generator) -> np.ndarray:
        return self._draw(n, rng)

    def log_density(self, x: np.ndarray, alpha_bar: float = 1.0) -> np.ndarray:
        """ln q(x_t) in nats, (n,), of points x (n, 2); alpha_bar is 1 for the data themselves, 0 for N(0, I)."""
        x, _, log_terms, v = self._terms(x, alpha_bar)
        return (logsumexp(log_terms, axis=1) - np.log(2 * np.pi * v * len(self.means))).astype(x.dtype)    # (3)

    def score(self, x: np.ndarray, alpha_bar: float = 1.0) -> np.ndarray:
        """∇ ln q(x_t), (n, 2)."""
        x, away, log_terms, v = self._terms(x, alpha_bar)
        return (np.einsum("nk,nkd->nd", softmax(log_terms, axis=1), away) / v).astype(x.dtype)     # (4)

    def _terms(self, x, alpha_bar):
        """x, the differences √ᾱ mₖ − x (n, K, 2), −|√ᾱ mₖ − x|² / 2v (n, K), and v."""
        x = finite(x, "x", (None, 2))
        if not 0 <= alpha_bar <= 1:
            raise ValueError(f"alpha_bar must be in [0, 1], not {alpha_bar}")
        away, v = alpha_bar ** 0.5 * self.means - x[:, None], alpha_bar * self.std ** 2 + 1 - alpha_bar
        return x, away, -np.sum(away ** 2, axis=2) / (2 * v), v


eight_gaussians = Mixture(_on_circle(np.arange(8) * np.pi / 4), 0.1)
grid = Mixture(np.stack(np.meshgrid(*[np.arange(-2.0, 3.0)] * 2), axis=-1).reshape(-1, 2), 0.12)
TOYS = {"two_moons": two_moons, "rings": rings, "spirals": spirals, "checkerboard": checkerboard,
        "eight_gaussians": eight_gaussians, "grid": grid}
