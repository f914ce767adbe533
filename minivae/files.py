"""Files that can be trusted: written whole or not at all, read without pickle and checked before they are believed."""
import io
import math
import os
import zipfile
from contextlib import contextmanager
from pathlib import Path

import numpy as np

try:
    import fcntl
except ImportError:                          # Windows: there, two processes are not kept apart
    fcntl = None


@contextmanager
def atomic(path: str | Path, mode: str = "wb", **options):
    """`open(path, mode)` for writing, through a temporary file beside it: flushed, synced and renamed at the end.

    If anything goes wrong the temporary file is removed and `path` is what it was. Makes the folder if need be.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with open(part, mode, **options) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def locked(folder: str | Path, *names: str):
    """Within this context no other process gets past here with the same folder: it raises ValueError there.

    Sweeps up what a killed process may have left half-written of the files that have these names. The system drops the
    lock with the process.
    """
    folder = Path(folder)
    new = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY) if fcntl else None
    try:
        if fcntl:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        for name in names:
            for part in folder.glob(f".{name}.[0-9]*.part"):       # `atomic` names them so
                part.unlink()
        yield
    except BlockingIOError:
        raise ValueError(f"{folder} is in use by another process") from None
    finally:
        if fcntl:
            os.close(descriptor)
        if new and not any(folder.iterdir()):                      # it came to nothing
            folder.rmdir()


@contextmanager
def reading(path: str | Path):
    """Within this context whatever goes wrong becomes a ValueError that begins with the path."""
    try:
        yield
    except Exception as error:               # damaged files fail in many ways: zipfile, zlib, struct, tokenize, ...
        if str(error).startswith(f"{path}: "):
            raise
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"{path}: {reason}") from None


def read_header(file, size: int) -> tuple[tuple, bool, np.dtype]:
    """Shape, Fortran order and dtype of an open .npy file of `size` bytes, which must be what they call for."""
    version = np.lib.format.read_magic(file)
    if version == (1, 0):
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
    elif version == (2, 0):
        shape, fortran, dtype = np.lib.format.read_array_header_2_0(file)
    else:
        raise ValueError(f"version {version[0]}.{version[1]} of the .npy format is not known")
    if dtype.hasobject:
        raise ValueError("holds Python objects, and those are never loaded")
    wanted, found = math.prod(shape) * dtype.itemsize, size - file.tell()
    if wanted != found:
        raise ValueError(f"is damaged: shape {shape} of {dtype} takes {wanted} bytes, and there are {found}")
    return shape, fortran, dtype


def read_npz(path: str | Path) -> dict[str, np.ndarray]:
    """All arrays of an .npz file, by name. Raises ValueError if anything in it is damaged or not a plain array."""
    with reading(path), zipfile.ZipFile(path) as archive:
        arrays = {}
        for info in archive.infolist():
            raw = archive.read(info)         # checks the CRC
            with reading(info.filename):
                read_header(io.BytesIO(raw), len(raw))
                array = np.lib.format.read_array(io.BytesIO(raw), allow_pickle=False)
            arrays[info.filename.removesuffix(".npy")] = array
        return arrays


def write_npz(path: str | Path, arrays: dict[str, np.ndarray]):
    """Write plain arrays, by name, as one .npz file: atomically, and of any size."""
    with atomic(path) as file, zipfile.ZipFile(file, "w") as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.asarray(array, order="C"), allow_pickle=False)
