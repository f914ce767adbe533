"""Work in parts, for kernels that release Python's lock (`nogil`) and so run on all cores at the same time.

The threads are Python's, and not Numba's: those spin for milliseconds after each loop, and hold a core that BLAS then
lacks. BLAS's own spin for a tenth of a second after a large product, yielding to whoever wants their core; but the
scheduler, which counts that as work, would rather let two threads of ours share another. So each keeps to its core.
"""
import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np

CORES = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))
WORTH = 1e7                                  # multiplications: 80 µs, about what it takes to wake a thread
_pool = []


def _keep_to_one(cores):
    core = cores.pop()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {core})                            # 0 is this thread, and not the process


def in_parts(f, n: int, work: float, most: int = 4) -> list:
    """[f(part) for each of the slices that range(n) is cut into]: at most `most` a core, and one for little `work`.

    More parts than cores, and who is done takes the next, since a core may be shared. The cuts depend on n, the work
    and the number of cores alone: a sum over the parts is the same bit for bit.
    """
    parts = max(1, min(int(work / WORTH), most * len(CORES), n))
    cuts = np.linspace(0, n, parts + 1).astype(int).tolist()
    slices = [slice(i, j) for i, j in zip(cuts, cuts[1:])]
    if parts == 1 or len(CORES) == 1:
        return [f(part) for part in slices]
    if not _pool:
        _pool.append(ThreadPoolExecutor(len(CORES), initializer=_keep_to_one, initargs=(list(CORES),)))
    todo, done = iter(enumerate(slices)), [None] * parts

    def run():
        for i, part in todo:
            done[i] = f(part)
    for thread in [_pool[0].submit(run) for _ in range(min(parts, len(CORES)))]:
        thread.result()
    return done


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.clear)                # threads do not survive a fork
