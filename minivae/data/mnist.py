"""The MNIST handwritten digits, shipped with the package and checked when read.

Y. LeCun, C. Cortes, C. Burges, The MNIST database of handwritten digits, 1998. Licence and checksums are beside the
files, in data/mnist/.
"""
import gzip
import hashlib
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..checks import check_choice

FOLDER = Path(__file__).parent / "mnist"
SHA256 = {
    "train-images-idx3-ubyte.gz": "0b367032e93c5d0cea0925647cfdb18614af8ee15f83e6f2fc2ad904a6835971",
    "train-labels-idx1-ubyte.gz": "1787548bbe0bff1ec2ecdc0ef292b02df999e2d1a6002d27500982c652b17203",
    "t10k-images-idx3-ubyte.gz": "1a1a05eab793c14bb050b398624a11b0ffd1a2953baed553b1b9bd079e2a20be",
    "t10k-labels-idx1-ubyte.gz": "b91679a0acfe4ba0e50a2437a903084cba1f5f92592b016a25a7dfd00455798b",
}
SPLITS = {"train": ("train", slice(None)), "test": ("t10k", slice(None)),
          "fit": ("train", slice(50_000)), "validation": ("train", slice(50_000, None))}


class Digits(NamedTuple):
    """Images (N, 28, 28) and labels (N,), both uint8 and read-only; 0 is background, 255 ink."""
    images: np.ndarray
    labels: np.ndarray


def mnist(split: str) -> Digits:
    """The digits of "train" (60,000), "test" (10,000), "fit" (train's first 50,000) or "validation" (its last 10,000).

    Raises ValueError for another name, and for files that are missing, damaged or not the published ones.
    """
    name, rows = SPLITS[check_choice(split, "split", tuple(SPLITS))]
    images, labels = _read(f"{name}-images-idx3-ubyte.gz"), _read(f"{name}-labels-idx1-ubyte.gz")
    return Digits(images[rows], labels[rows])


@cache
def _read(name):
    try:
        packed = (FOLDER / name).read_bytes()
    except OSError as error:
        raise ValueError(f"MNIST is not complete: cannot read {FOLDER / name} ({error.strerror})") from None
    if hashlib.sha256(packed).hexdigest() != SHA256[name]:
        raise ValueError(f"{FOLDER / name} is damaged: its SHA-256 is not {SHA256[name]}; install the package again")
    raw = gzip.decompress(packed)
    shape = np.frombuffer(raw, ">i4", count=raw[3], offset=4)      # IDX: 0 0 type ndim, then the sizes, big-endian
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * raw[3]).reshape(shape)
