"""The memory of arrays that have died is kept for the next ones, if the user asks for it: AUTOGRAD_MALLOC=keep.

For an array of more than 128 KB the C library of Linux, glibc, asks the system for memory, and gives it back when the
array dies. Training makes the same arrays again at each step, and each of their pages then costs a page fault. With
this setting glibc keeps the memory of arrays of up to 32 MB. The peak is the same; a step of IWAE with k = 50 takes a
tenth less time.

The setting holds for the whole process, so importing the engine changes nothing. The command line and the demos own
their process, and call `keep()`. Nothing is changed if MALLOC_ or GLIBC_TUNABLES is set, or under another C library.
"""
import ctypes
import os

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3                        # mallopt(3), malloc.h


def keep() -> bool:
    """Tell glibc to keep the memory of arrays; returns whether it was told."""
    if "GLIBC_TUNABLES" in os.environ or any(name.startswith("MALLOC_") for name in os.environ):
        return False
    try:
        library = ctypes.CDLL(None)
        library.gnu_get_libc_version                               # elsewhere the numbers may mean other things
        return bool(library.mallopt(M_MMAP_THRESHOLD, 2 ** 25) and library.mallopt(M_TRIM_THRESHOLD, 2 ** 31 - 1))
    except (AttributeError, OSError, TypeError):
        return False


if os.environ.get("AUTOGRAD_MALLOC") == "keep":
    keep()
