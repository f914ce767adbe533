"""Minibatches: images stay as they are stored, and become floats one batch at a time.

    (1)  dynamic binarisation:  xⱼ ~ Bernoulli(vⱼ / 255), drawn anew each time an image is seen   [data.binarisation]

For bytes v, (1) is u < v with u uniform on {0, ..., 254}: exact, with no rounding of v / 255.
Salakhutdinov and Murray, ICML 2008, introduced binarised MNIST; a fixed draw (`binarise`) makes test sets comparable.
"""
import math
from typing import Iterator

import numpy as np

from autograd.nn import check_rng

from ..checks import check_count
from .arrays import Rows

ROWS = 4096                                  # rows looked at or drawn at once, so that large data stay where they are


class Batches:
    """`for x in batches(rng)`: all of `data` once, shuffled, `batch_size` at a time; with labels, pairs (x, y).

    data      (N, ...) uint8, scaled to [0, 1]; or bool, or float32 or float64, taken as they are; an array or Rows
    binarise  draw every pixel from (1), anew each time; needs uint8
    labels    (N,) or (N, ...), handed out beside the images, unchanged
    dtype     of the batches; by default float32, or float64 if the data are
    bounds    what all float data must lie between

    A batch is (B, D); the last one of an epoch may be smaller. Raises ValueError for empty data, NaN or inf, values
    out of bounds, and a batch larger than the data.
    """

    def __init__(self, data: np.ndarray, batch_size: int, *, binarise: bool = False, labels: np.ndarray | None = None,
                 dtype: np.dtype | None = None, bounds: tuple[float, float] | None = None):
        check_data(data, bounds)
        batch_size = check_count(batch_size, "batch_size", len(data), ", the number of examples")
        if binarise and data.dtype != np.uint8:
            raise ValueError(f"dynamic binarisation reads bytes as probabilities, and these data are {data.dtype}")
        labels = labels if labels is None else np.asarray(labels)
        if labels is not None and labels.shape[:1] != data.shape[:1]:
            raise ValueError(f"{len(data)} examples have labels of shape {labels.shape}")
        self.data, self.batch_size, self.binarise, self.labels, self.dtype = data, batch_size, binarise, labels, dtype

    def __len__(self):
        """How many batches make an epoch."""
        return -(-len(self.data) // self.batch_size)

    def __call__(self, rng: np.random.Generator) -> Iterator:
        order = self.order(rng)
        for i in range(len(self)):
            yield self.batch(order, i, rng)

    def order(self, rng: np.random.Generator) -> np.ndarray:
        """The order in which one epoch visits the examples."""
        check_rng(rng)
        return rng.permutation(len(self.data))

    def batch(self, order: np.ndarray, i: int, rng: np.random.Generator):
        """Batch i of the epoch in this order."""
        rows = order[i * self.batch_size:(i + 1) * self.batch_size]
        x = self.data[rows].reshape(len(rows), -1)
        if self.binarise:
            x = (rng.integers(0, 255, x.shape, np.uint8) < x).astype(np.float32)           # (1)
        x = as_floats(x, self.dtype)
        return x if self.labels is None else (x, self.labels[rows])


def as_floats(x: np.ndarray, dtype: np.dtype | None = None) -> np.ndarray:
    """uint8 scaled to [0, 1], bool as 0 and 1, in float32; floats as they are; all in `dtype`, if it is given."""
    if x.dtype == np.uint8:
        x = x * np.float32(1 / 255)
    elif x.dtype == bool:
        x = x.astype(np.float32)
    return x if dtype is None else x.astype(dtype, copy=False)


def binarise(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """One fixed draw of `rng.random((N, D)) < images / 255`: uint8 (N, ...) to float32 (N, D)."""
    check_data(images)
    check_rng(rng)
    if images.dtype != np.uint8:
        raise ValueError(f"binarisation reads bytes as probabilities, and these images are {images.dtype}")
    x = np.empty((len(images), math.prod(images.shape[1:])), np.float32)
    for i in range(0, len(x), ROWS):
        v = images[i:i + ROWS].reshape(-1, x.shape[1])
        x[i:i + ROWS] = rng.random(v.shape) < v / 255
    return x


def check_data(data, bounds=None):
    """Raise ValueError, naming the row, unless these are data for Batches."""
    if not isinstance(data, (np.ndarray, Rows)) or len(data.shape) < 2 or 0 in data.shape:
        raise ValueError(f"data must be an array of shape (N, ...) with at least one row and column, "
                         f"not {type(data).__name__} of shape {np.shape(data)}")
    if data.dtype not in (np.uint8, bool, np.float32, np.float64):
        raise ValueError(f"data must be uint8, bool, float32 or float64, not {data.dtype}")
    if data.dtype.kind == "f":
        low, high = bounds or (-np.finfo(data.dtype).max, np.finfo(data.dtype).max)
        for i in range(0, len(data), ROWS):
            rows = data[i:i + ROWS]
            good = ((rows >= low) & (rows <= high)).reshape(len(rows), -1).all(axis=1)
            if not good.all():
                wanted = f"NaN or values outside [{low}, {high}]" if bounds else "NaN or inf"
                mend = ": scale them, or train with a Gaussian likelihood" if bounds else ""
                raise ValueError(f"the data have {wanted}, first in row {i + int(np.argmin(good))}{mend}")
