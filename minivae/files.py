"""Files that are either the old version or the new one, never half of it."""
import os
from contextlib import contextmanager
from pathlib import Path


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
