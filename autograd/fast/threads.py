"""Work in parts: one compiled loop, done by several threads, through one checked gate.

    @kernel                                                        # does one part of the work
    def double(part, parts, x):
        begin, end = span(part, parts, len(x))
        x[begin:end] *= 2

    run(double, parts_of(len(x)), x)                               # does all parts, on the cores that there are

The threads are those of Python's ThreadPoolExecutor. Kernels are compiled without Python's lock (`nogil`), so they run
side by side. A part takes at least a tenth of a millisecond: to hand it to another thread costs some 50 µs, and a
shorter loop is done by the caller alone. Which thread does which part does not change any result, and the number of
parts depends on the work alone: results are the same bit for bit on any number of cores.

`run` is also the gate: a kernel reads and writes memory without checks of its own, so every array is checked here.

- A fork leaves the child without threads: it makes new ones when it first needs them.
- If the process is pinned to other cores (taskset, os.sched_setaffinity), new threads are made that are pinned so, too.
- Where no thread can be started, the caller does all parts.
- A part that a thread has begun is waited for, however long the system lets that thread wait: it writes into the
  caller's arrays, so nobody else can do it instead. Parts that have not begun are done by whoever is free.
"""
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import numba
import numpy as np

from .jit import kernel

WORTH = 3e6                                  # multiplications that take about as long as two hand-overs
MOST = 8                                     # parts of a loop: several for each thread, since one may be held up
SUMS = 4                                     # parts of a loop that adds up one array for each part

_lock = threading.RLock()                    # a signal handler may come in while it is held
_pool, _made_for = (None, 0), None           # the threads beside the caller's and their number; for which cores


def parts_of(work: float, most: int = MOST) -> int:
    """Into how many parts to cut a loop that takes as long as `work` multiplications."""
    return int(max(1, min(most, work // WORTH)))


@kernel
def span(part, parts, n):
    """Where this part of range(n) begins and ends."""
    return part * n // parts, (part + 1) * n // parts


def run(loop, parts, *arguments, writes=1):
    """loop(part, parts, *arguments) for each part. The last `writes` arrays are written, the others only read.

    Raises ValueError unless every array is contiguous, aligned and in the machine's byte order, and every one that is
    written is writeable and shares no memory with another.
    """
    _check(loop, [a for a in arguments if isinstance(a, np.ndarray)], writes)
    left = iter(range(parts))                                      # next() is atomic: each part is taken once

    def work():
        for part in left:
            loop(part, parts, *arguments)

    pool, threads = _threads() if parts > 1 else (None, 0)
    others = []
    try:
        with suppress(RuntimeError):                               # Python is shutting down: the caller does all
            for _ in range(min(threads, parts - 1)):
                others.append(pool.submit(work))
        work()
    finally:
        for other in others:
            if not other.cancel():                                 # it has begun a part
                other.result()


def _check(loop, arrays, writes):
    for a in arrays:
        if not (a.flags.c_contiguous and a.flags.aligned and a.dtype.isnative):
            raise ValueError(f"{loop.__name__} takes contiguous, aligned arrays, and was given {a.dtype.str} of shape "
                             f"{a.shape} with strides {a.strides}: use np.ascontiguousarray")
    for i in range(len(arrays) - writes, len(arrays)):
        if not arrays[i].flags.writeable:
            raise ValueError(f"{loop.__name__} was given a read-only array to write to")
        if any(np.may_share_memory(arrays[i], a) for j, a in enumerate(arrays) if j != i):
            raise ValueError(f"{loop.__name__} was given an array to write to that shares memory with another")


def _threads():
    """The pool for the cores that this process may use now, and its number of threads: (None, 0) if there are none."""
    global _pool, _made_for
    cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    wanted = os.getpid(), frozenset(cores)
    if wanted != _made_for:
        with _lock:
            if wanted != _made_for:
                _pool, _made_for = _start(min(len(cores), numba.config.NUMBA_NUM_THREADS) - 1), wanted
    return _pool


def _start(n):
    """A pool of n threads, all of them started, or of fewer where the system gives no more, and their number."""
    while n > 0:
        pool, started = ThreadPoolExecutor(n, "autograd"), threading.Barrier(n + 1)
        try:
            for _ in range(n):
                pool.submit(started.wait)
            started.wait()
            return pool, n
        except RuntimeError:                                       # there is no thread to be had: try with one less
            started.abort()
            pool.shutdown(wait=False)
            n -= 1
    return None, 0


def _forget():
    """A forked child has none of its parent's threads, and maybe a lock that one of them held."""
    global _lock, _pool, _made_for
    _lock, _pool, _made_for = threading.RLock(), (None, 0), None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
