"""Work in parts: one compiled loop, done by several threads, through one checked gate.

    @kernel                                                        # does one part of the work
    def double(part, parts, x):
        begin, end = span(part, parts, len(x))
        x[begin:end] *= 2

    run(double, parts_of(len(x)), x)                               # does all parts, on the cores that there are

Kernels are compiled without Python's lock (`nogil`), so Python's threads run them side by side. A part takes at
least some tenths of a millisecond: to hand it to another thread costs about 50 µs, and a shorter loop is done by the
caller alone.
Which thread does which part does not change any result, and the number of parts depends on the work alone: results are
the same bit for bit on any number of cores.

`run` is also the gate: a kernel reads and writes memory without checks of its own, so every array is checked here.

Why not Numba's own threads, `prange`? They are about as quick, but the OpenMP below them ends a forked child that uses
it, ends the process where the system gives no thread, and keeps its threads where they were when the process is pinned
anew. Here these cases are a few lines of Python each.

The threads wait for offers in a queue. An offer has a lock, and whoever takes the lock first has the work: a thread of
the crew, or the caller, who takes the offer back when no part is left. So the caller waits for a thread only if that
thread has begun. A pool of concurrent.futures does not suit: an interrupt (Ctrl-C) within its `submit` can leave a lock
held for good, and a signal handler within it waits for a lock that its own thread holds. Every later call then hangs.

- A part that a thread has begun is waited for, however long the system lets that thread wait, and whatever a signal
  handler raises meanwhile: it writes into the caller's arrays, so nobody else can do it instead.
- A signal handler may call `run` at any moment, and so may a loop within a loop.
- A fork leaves the child without threads: it makes new ones when it first needs them.
- Threads are pinned as the caller is (taskset, os.sched_setaffinity). If that changes, new threads take their place.
- Where a thread cannot be started, or Python is shutting down, there are fewer threads, down to the caller alone.
- A kernel is compiled, or loaded from its cache, by the caller before another thread may call it: Numba's lock and the
  lock of a module that is being imported would otherwise wait for each other. A signal handler that has interrupted the
  compiler, and so holds Numba's lock, does its loops alone.
"""
import _thread
import os
import threading
from contextlib import suppress
from queue import SimpleQueue

import numba
import numpy as np

from . import jit
from .jit import kernel

WORTH = 1.5e7                                # multiplications that a part has at least
MOST = 8                                     # parts of a loop: several for each thread, since one may be held up
SUMS = 4                                     # parts of a loop that adds up one array for each part
WAITING = 100                                # offers in the queue, from which on no more are made


def parts_of(work: float, most: int = MOST) -> int:
    """Into how many parts to cut a loop that takes as long as `work` multiplications."""
    return int(max(1, min(most, work // WORTH)))


@kernel
def span(part, parts, n):
    """Where this part of range(n) begins and ends."""
    return part * n // parts, (part + 1) * n // parts


def run(loop, parts, *arguments, writes=1):
    """loop(part, parts, *arguments) for each part. The last `writes` arrays are written, the others only read.

    Raises ValueError unless every array is contiguous, aligned and in the machine's byte order, all arrays of floats
    have one dtype, and every array that is written is writeable and shares no memory with another.
    """
    arrays = [a for a in arguments if isinstance(a, np.ndarray)]
    _check(loop, arrays, writes)
    if parts == 1 or jit.compiling() or not (crew := _crew_of_caller()).size:
        for part in range(parts):
            loop(part, parts, *arguments)
        return
    left, offers = iter(range(parts)), []                          # next() is atomic: each part is taken once

    def work():
        for part in left:
            loop(part, parts, *arguments)

    try:
        kinds = loop, *[(a.dtype, a.ndim, a.flags.writeable) for a in arrays]
        if kinds not in _compiled and hasattr(loop, "py_func"):
            loop(next(left), parts, *arguments)
            _compiled.add(kinds)
        if crew.offers.qsize() < WAITING:
            for _ in range(min(crew.size, parts - 1)):
                offers.append(_Offer(work))                        # before a thread can take it, or nobody would wait
                crew.offers.put(offers[-1])
        work()
    finally:
        _wait(left, offers)
    for offer in offers:
        if offer.error:
            raise offer.error


def _check(loop, arrays, writes):
    floats, owners, apart = None, set(), True
    for a in arrays:
        flags, dtype, owner = a.flags, a.dtype, a.base
        if not (flags.c_contiguous and flags.aligned and dtype.isnative):
            raise ValueError(f"{loop.__name__} takes contiguous, aligned arrays, and was given {dtype.str} of shape "
                             f"{a.shape} with strides {a.strides}: use np.ascontiguousarray")
        if dtype.kind == "f" and dtype is not floats:
            if floats is not None and floats != dtype:
                raise ValueError(f"{loop.__name__} takes arrays of one dtype, and was given {floats} and {dtype}")
            floats = dtype
        if owner is None:
            owners.add(id(a))
            apart = apart and flags.owndata
        else:
            owners.add(id(owner))
            apart = apart and owner.__class__ is np.ndarray and owner.flags.owndata
    apart = apart and len(owners) == len(arrays)                   # each in memory of its own: no need to compare them
    for i in range(len(arrays) - writes, len(arrays)):
        if not arrays[i].flags.writeable:
            raise ValueError(f"{loop.__name__} was given a read-only array to write to")
        if not apart and any(np.may_share_memory(arrays[i], a) for a in arrays[:i]):
            raise ValueError(f"{loop.__name__} was given an array to write to that shares memory with another")


class _Offer:
    """Work that a thread of the crew may take until the caller takes it back."""
    __slots__ = "lock", "work", "error"

    def __init__(self, work):
        self.lock, self.work, self.error = threading.RLock(), work, None

    def accept(self):
        if self.lock.acquire(blocking=False):                      # or the caller has taken it back
            try:
                self.work()
            except BaseException as error:
                self.error = error
            finally:
                self.lock.release()

    def take_back(self):
        """Take the lock for good, which waits for a thread that has begun. May be called again."""
        self.lock.acquire()
        self.work = None                                           # an offer in the queue keeps no arrays alive


def _wait(left, offers):
    """Wait until no thread works on these offers, even if a signal handler raises: its error comes after that."""
    interrupt = None
    while True:
        try:
            for _ in left:                                         # after an error no part is begun any more
                pass
            for offer in offers:
                offer.take_back()
            break
        except BaseException as error:
            interrupt = error
    try:
        if interrupt:
            raise interrupt
    finally:
        del interrupt                                              # or this frame and its error keep each other alive


class _Crew:
    """Up to `most` threads that accept offers, made for such cores.

    They are started by `_thread`: an interrupt within threading.Thread.start can leave a thread stuck for good. Python
    does not wait for them at its end, and they wait for nothing but offers.
    """

    def __init__(self, most=0, cores=None):
        self.offers, self.most, self.size, self.made_for = SimpleQueue(), most, 0, (most, cores)
        self.before, self.ended = None, False

    def start(self):
        """Start the threads, and end those of the crew `before`, which this one replaces."""
        self.before.end()
        with suppress(RuntimeError):                               # the system has no more threads to give
            while self.size < self.most and not self.ended:
                _thread.start_new_thread(_serve, (self.offers,))
                self.size += 1
        self.before = None

    def end(self):
        """Let each thread end after what it has begun. May be called again, and by a signal handler within `start`."""
        self.ended = True
        if self.before:                                            # an interrupt came before `start` was done
            self.before.end()
        for _ in range(self.most):
            self.offers.put(None)


def _serve(offers):
    while (offer := offers.get()) is not None:
        offer.accept()
        del offer                                                  # while it waits, a thread keeps no arrays alive


_crew = NOBODY = _Crew()
_lock = threading.RLock()                    # held while a crew is made; a signal handler may come in and make another
_compiled = set()                            # loops, and the kinds of their arguments, that threads can call


def _crew_of_caller():
    """The crew for the cores that the calling thread may use now."""
    global _crew
    cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    wanted = size, cores = min(len(cores), numba.config.NUMBA_NUM_THREADS) - 1, frozenset(cores)
    if size < 1:
        return NOBODY
    if _crew.made_for != wanted or _crew.before:
        with _lock:
            if _crew.made_for != wanted or _crew.before:
                crew = _Crew(size, cores)
                crew.before, _crew = _crew, crew                   # no call, so no signal handler, between the two
                crew.start()
    return _crew


def _forget():
    """A forked child has none of its parent's threads, and maybe a lock that one of them held."""
    global _lock, _crew
    _lock, _crew = threading.RLock(), _Crew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
