"""The user's own arrays: .npy, .npz and .csv files."""
import math
import os
import warnings
from pathlib import Path

import numpy as np

from ..files import read_header, read_npz, reading

LARGE = 64 * 2**20                           # bytes: of a larger .npy, rows are read when they are needed


class Rows:
    """The examples of an .npy file that stays on disk: `rows[index]` reads those that the index is of into an array.

    An index is a whole number, a slice, a mask (N,) of bools, or an array of whole numbers; IndexError for any other.

    Not a memory map, since the kernel may map far more than the rows that are touched, and all of it counts as ours:
    training on a million rows of 784 bytes came to 1,000 MB with a map, and comes to 180 MB without.
    """

    def __init__(self, path: Path, offset: int, shape: tuple, dtype: np.dtype):
        self.path, self.offset, self.shape, self.dtype = path, offset, shape, dtype
        self.file = open(path, "rb", buffering=0)

    def __len__(self):
        return self.shape[0]

    def __getitem__(self, index: int | slice | np.ndarray) -> np.ndarray:
        rows = self._rows(index)
        x = np.empty((rows.size, math.prod(self.shape[1:])), self.dtype)
        for row, into in zip(rows.flat, x):
            if os.preadv(self.file.fileno(), [into], self.offset + int(row) * into.nbytes) != into.nbytes:
                raise ValueError(f"{self.path}: row {row} is gone: the file was cut short while it was in use")
        return x.reshape(rows.shape + self.shape[1:])

    def _rows(self, index):
        """The index as whole numbers from 0 on."""
        if isinstance(index, slice):
            return np.arange(*index.indices(len(self)))
        if isinstance(index, tuple):
            raise IndexError(f"rows are all that can be chosen: index by one thing, such as a list, not by {index}")
        rows = np.asarray(index) if np.size(index) else np.zeros(0, int)
        if rows.dtype == bool and rows.shape == (len(self),):
            return np.flatnonzero(rows)
        if rows.dtype.kind not in "iu":
            raise IndexError(f"rows are chosen by whole numbers or by a mask ({len(self)},), not by {rows.dtype} of "
                             f"shape {rows.shape}")
        bad = rows[(rows < -len(self)) | (rows >= len(self))]
        if bad.size:
            raise IndexError(f"there are {len(self)} rows, none of them number {bad[0]}")
        return rows.astype(np.int64) % len(self)


def load(path: str | Path) -> np.ndarray | Rows:
    """The examples (N, ...) in a file: uint8, bool, float32 or float64.

    .npy  of which a large one stays on disk, as Rows
    .npz  the one array in it, or the one named "images", "x" or "data"
    .csv  numbers and commas, one example a line, read as float32; a first line of names, or of 0,1,2,..., is skipped

    Raises ValueError, naming the file and what is wrong with it.
    """
    path = Path(path)
    with reading(path):
        if path.suffix not in READERS:
            raise ValueError(f"data come as {', '.join(READERS)}")
        data = READERS[path.suffix](path)
        if data.dtype not in (np.uint8, bool, np.float32, np.float64):
            raise ValueError(f"holds {data.dtype}, wanted uint8, bool, float32 or float64")
        if len(data.shape) < 2 or 0 in data.shape:
            raise ValueError(f"has shape {data.shape}, wanted (N, ...) with at least one row and one column")
    return data


def load_labels(path: str | Path) -> np.ndarray:
    """The labels (N,) in a file, whole numbers from 0 up: a .npy, a .csv with one a line, or a .npz.

    Of an .npz the array named "labels" or "y", or the only one. Raises ValueError, naming the file and what is wrong.
    """
    path = Path(path)
    with reading(path):
        if path.suffix not in READERS:
            raise ValueError(f"labels come as {', '.join(READERS)}")
        y = READERS[path.suffix](path, ("labels", "y"))[:]
        if y.ndim == 2 and y.shape[1] == 1:
            y = y[:, 0]
        if y.ndim != 1 or not len(y) or y.dtype.kind not in "iuf" or (y != np.floor(y)).any() or y.min() < 0:
            raise ValueError(f"holds {y.dtype} of shape {y.shape}, wanted labels (N,), whole numbers from 0 up")
    return y.astype(int)


def _npy(path, names=()):
    with open(path, "rb") as file:
        shape, fortran, dtype = read_header(file, os.fstat(file.fileno()).st_size)
        start = file.tell()
    if fortran or not dtype.isnative:
        return np.ascontiguousarray(np.load(path, allow_pickle=False), dtype.newbyteorder("="))
    if path.stat().st_size <= LARGE or not hasattr(os, "preadv"):  # Windows: there, all is read at once
        return np.load(path, allow_pickle=False)
    return Rows(path, start, shape, dtype)


def _npz(path, names=("images", "x", "data")):
    arrays = read_npz(path)
    found = [name for name in names if name in arrays] or list(arrays)
    if len(found) != 1 and len(arrays) != 1:
        what = "labels" if "labels" in names else "examples"
        raise ValueError(f"holds arrays named {sorted(arrays)}: which are the {what}? name one "
                         f"{', '.join(names[:-1])} or {names[-1]}")
    return arrays[found[0]]


def _csv(path, names=()):
    with open(path, encoding="utf-8-sig") as file:
        first = file.readline().strip().split(",")
    numbered = not names and first == [str(i) for i in range(len(first))]          # as pandas does; a label may be 0
    head = numbered or not any(map(_number, first))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")      # loadtxt warns of an empty file, which `load` refuses
        try:
            return np.loadtxt(path, np.float32, comments=None, delimiter=",", skiprows=int(head), ndmin=2,
                              encoding="utf-8-sig")
        except ValueError as error:
            raise ValueError(str(error).split("; use")[0]) from None


def _number(text):
    try:
        float(text)
    except ValueError:
        return False
    return True


READERS = {".npy": _npy, ".npz": _npz, ".csv": _csv}
