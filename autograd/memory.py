"""The memory of arrays that have died is kept for the next ones.

For an array of more than 128 KB the C library of Linux, glibc, asks the system for memory, and gives it back when the
array dies. Training makes the same arrays again at each step, and each of their pages then costs a fault, and zeros
that nobody reads: with 6,400 rows of 784 a third to a half of the step (IWAE with k = 50: 64 ms, without 34), of a
U-Net's step a tenth. So glibc is told to keep what it has, except for arrays of more than 32 MB; the peak is the same.
Who has set MALLOC_ or GLIBC_TUNABLES in the environment is left in peace, and so is any other C library.
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
        library.gnu_get_libc_version                               # nobody else's numbers may mean the same
        return bool(library.mallopt(M_MMAP_THRESHOLD, 2 ** 25) and library.mallopt(M_TRIM_THRESHOLD, 2 ** 31 - 1))
    except (AttributeError, OSError, TypeError):
        return False
