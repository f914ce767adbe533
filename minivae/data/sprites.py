"""Sprites: one white shape on black, drawn when asked for, so that what varies from image to image is known exactly.

    (1)  pixel = 255 · area of the shape within it, rounded                                   [sprites.coverage]
         = what is to the right of the outline's edges that go down, less what is to the right of those that go up
    (2)  outline = (x, y) + r R(θ) u,  r = scale · 7/32 of the image's width                  [sprites.outline]
         for u on the square with corners (±1, ±1)/√2, the ellipse (cos t, ½ sin t), or the heart
    (3)  (16 sin³t, 13 cos t − 5 cos 2t − 2 cos 3t − cos 4t − 5/6) · 6/107                    [sprites.heart]
         whose area is 180π (6/107)², centroid 0, and farthest point the tip, at distance 1
    (4)  i = (((shape · S + scale) · O + orientation) · X + x) · Y + y                        [sprites.index]

Factors in (4) are integers from 0, of which S, O, X, Y count the values. All u lie in the unit disc and all centres in
the middle half of the image, so no shape reaches the outermost pixels; a shape turns about its centroid, so orientation
does not change position. Images are the same on every machine: sines and cosines are rounded, never near a tie, to
integers, and the rest is integer arithmetic.

After dSprites, Matthey, Higgins, Hassabis and Lerchner 2017; the heart is in Weisstein, "Heart Curve", MathWorld.
"""
import math
from typing import Sequence

import numpy as np

from autograd.floors import compiled
from autograd.nn import check_rng

from ..checks import check_count
from .arrays import Rows
from .batches import as_floats

CORNERS = 256                                # of the polygon that stands for a curve, within 1/300 pixel of it
UNIT = 1 << 20                               # the 1 of u, cos θ and sin θ, as integers
BITS = 16                                    # a pixel is 1 << BITS wide
ONE = 1 << BITS

_t = np.arange(CORNERS) * 2 * math.pi / CORNERS
SHAPES = {
    "square": np.repeat([[1, 1], [-1, 1], [-1, -1], [1, -1]], CORNERS // 4, axis=0) / math.sqrt(2),
    "ellipse": np.stack([np.cos(_t), np.sin(_t) / 2], axis=1),
    "heart": np.stack([16 * np.sin(_t) ** 3, 13 * np.cos(_t) - 5 * np.cos(2 * _t) - 2 * np.cos(3 * _t) - np.cos(4 * _t)
                       - 5 / 6], axis=1)[::-1] * 6 / 107,            # anticlockwise, too        # (3)
}
PERIODS = {"square": math.pi / 2, "ellipse": math.pi, "heart": 2 * math.pi}
FACTORS = "shape", "scale", "orientation", "x", "y"


class Sprites(Rows):
    """`s = sprites(32)`: s[i] is image i, (32, 32) uint8, and s[rows], for a slice or indices, is (n, 32, 32).

    size          of an image, 32 or 64 pixels
    shapes        some of "square", "ellipse", "heart"
    scales        how many, evenly spaced from 1/2 to 1; the one scale is 1
    orientations  how many, anticlockwise in equal steps from 0, over [0, 2π); or over [0, π) if there are no hearts,
                  and over [0, π/2) if there are squares alone, since an ellipse repeats after π and a square after π/2
    xs, ys        how many centres, evenly spaced over the middle half of the image, to the right and down

    The default has the counts of dSprites, 737,280 images. Where shapes are mixed the orientation is ambiguous: beside
    hearts, an ellipse looks the same at 2 of the 40, a square at 4, and no code can tell which it is.

    `factor_names` and `factor_sizes` tell of the factors that vary, (k,), and so do `factors`; `values` of all five, by
    name: what the integers stand for, which is a name, a scale, radians, or a fraction of the image's width.
    """

    def __init__(self, size: int = 64, shapes: Sequence[str] = tuple(SHAPES), scales: int = 6, orientations: int = 40,
                 xs: int = 32, ys: int = 32):
        if (size := check_count(size, "size")) not in (32, 64):
            raise ValueError(f"size must be 32 or 64 pixels, not {size!r}")
        if not (isinstance(shapes, (tuple, list)) and shapes
                and all(name in list(SHAPES) and shapes.count(name) == 1 for name in shapes)):
            raise ValueError(f"shapes must be a tuple of some of {', '.join(SHAPES)}, each once, not {shapes!r}")
        for name, count in (("scales", scales), ("orientations", orientations), ("xs", xs), ("ys", ys)):
            check_count(count, name, 1000)
        turn = np.arange(orientations) * max(PERIODS[name] for name in shapes) / orientations
        x, y = (1 / 4 + (np.arange(n) + 1 / 2) / (2 * n) for n in (xs, ys))
        self.values = dict(zip(FACTORS, (tuple(shapes), np.linspace(1, 1 / 2, scales)[::-1], turn, x, y)))
        self._sizes = tuple(map(len, self.values.values()))
        self._vary = np.array(self._sizes) > 1
        self.factor_names = tuple(name for name in FACTORS if len(self.values[name]) > 1)
        self.factor_sizes = tuple(n for n in self._sizes if n > 1)
        self.shape, self.dtype = (math.prod(self._sizes), size, size), np.dtype(np.uint8)
        self._outlines = _integers(np.stack([SHAPES[name] for name in shapes]), UNIT)
        self._cos, self._sin = _integers(np.cos(turn), UNIT), _integers(np.sin(turn), UNIT)
        self._radius = _integers(self.values["scale"] * 7 / 32, size * ONE)
        self._x, self._y = _integers(x, size * ONE), _integers(y, size * ONE)

    def __getitem__(self, index: int | slice | np.ndarray) -> np.ndarray:
        rows = self._rows(index)
        shape, scale, orientation, x, y = np.unravel_index(rows.ravel(), self._sizes)
        images = np.empty((rows.size, *self.shape[1:]), np.uint8)
        _draw(self._outlines, shape, self._radius[scale], self._cos[orientation], self._sin[orientation],
              self._x[x], self._y[y], images)
        return images.reshape(rows.shape + self.shape[1:])

    def factors(self, index: int | slice | np.ndarray) -> np.ndarray:
        """The factors of image i, (k,), or of n images, (n, k): integers from 0, below `factor_sizes`."""
        return np.stack(np.unravel_index(self._rows(index), self._sizes), axis=-1)[..., self._vary]

    def index(self, factors: np.ndarray) -> np.ndarray:
        """The rows, (n,), whose factors are these, (n, k). Raises ValueError for factors that no image has."""
        factors = np.asarray(factors)
        if factors.dtype.kind not in "iu" or factors.shape[-1:] != (len(self.factor_sizes),):
            raise ValueError(f"factors must be integers, (n, {len(self.factor_sizes)}) for {self.factor_names}, not "
                             f"{factors.dtype} of shape {factors.shape}")
        bad = factors[((factors < 0) | (factors >= self.factor_sizes)).any(axis=-1)]
        if len(bad):
            raise ValueError(f"factors must be from 0 and below {self.factor_sizes}, not {bad[0].tolist()}")
        places = np.zeros((*factors.shape[:-1], len(FACTORS)), np.int64)
        places[..., self._vary] = factors
        return np.ravel_multi_index(tuple(np.moveaxis(places, -1, 0)), self._sizes)        # (4)

    def batch(self, n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """n images at random, each one as likely: (n, size²) float32 in [0, 1], and their factors (n, k)."""
        check_rng(rng)
        rows = rng.integers(len(self), size=check_count(n, "n"))
        return as_floats(self[rows].reshape(n, -1)), self.factors(rows)


sprites = Sprites                            # as a reader of data calls it, beside mnist and load


def _integers(values, one):
    """Fixed-point numbers. Here no value is within 1e-7 of a tie, and sin and cos are right to 1e-9."""
    return np.rint(values * one).astype(np.int64)


@compiled
def _draw(outlines, shape, radius, cos, sin, x, y, images):
    """Fill images (n, size, size) with (1), the other arguments being (n,). An image of 64 x 64 takes 6 µs."""
    size = images.shape[1]
    steps = np.zeros((size, size), np.int64)
    for i in range(len(images)):
        steps[:] = 0
        outline = outlines[shape[i]]
        x0, y0 = _corner(outline[-1], radius[i], cos[i], sin[i], x[i], y[i])
        for k in range(len(outline)):
            x1, y1 = _corner(outline[k], radius[i], cos[i], sin[i], x[i], y[i])
            _edge(x0, y0, x1, y1, steps)
            x0, y0 = x1, y1
        for row in range(size):
            area = 0
            for column in range(size):
                area += steps[row, column]
                images[i, row, column] = (255 * area + ONE * ONE) >> (2 * BITS + 1)        # (1)


@compiled
def _corner(u, radius, cos, sin, x, y):
    """Where a corner is, from the left and from the top."""
    return (x + radius * (cos * u[0] - sin * u[1]) // (UNIT * UNIT),                       # (2)
            y - radius * (sin * u[0] + cos * u[1]) // (UNIT * UNIT))


@compiled
def _edge(x0, y0, x1, y1, steps):
    """Add twice the area to the right of an edge, negative if it goes up, to the differences along each row of pixels.

    Cut at the borders of rows and columns, each piece is in one pixel and covers what is to its right there, and its
    full height in every pixel after that.
    """
    if y0 == y1:
        return
    sign = 1
    if y0 > y1:
        x0, y0, x1, y1, sign = x1, y1, x0, y0, -1
    for row in range(y0 >> BITS, (y1 - 1 >> BITS) + 1):
        top, bottom = max(y0, row << BITS), min(y1, row + 1 << BITS)
        a = x0 + (x1 - x0) * (top - y0) // (y1 - y0)
        b = x0 + (x1 - x0) * (bottom - y0) // (y1 - y0)
        a, b = min(a, b), max(a, b)
        done = 0
        for column in range(a >> BITS, (b >> BITS) + 1):
            left, right = max(a, column << BITS), min(b, column + 1 << BITS)
            height = bottom - top if right == b else (bottom - top) * (right - a) // (b - a)
            beside = left + right - (column << BITS + 1)           # twice the mean distance from the pixel's left
            steps[row, column] += sign * (height - done) * (2 * ONE - beside)
            steps[row, column + 1] += sign * (height - done) * beside
            done = height
