"""How a plain Python loop becomes a kernel: compiled by Numba at its first call, and cached on disk beside its source.

`NUMBA_DISABLE_JIT=1` leaves all kernels what they are, plain Python, so a debugger can step through them. The first
compilation says what it is doing. `error_model="numpy"` matters: with Python's, a loop that divides must be able to
raise, and does not vectorise.
"""
import sys

import numba
from numba.core import event

COMPILES = not numba.config.DISABLE_JIT
_ours = set()


def kernel(function=None, **options):
    """Compile at the first call, cache on disk."""
    if function is None:
        return lambda function: kernel(function, **options)
    _ours.add(function)
    return numba.njit(cache=True, error_model="numpy", **options)(function)


class _Announcer(event.Listener):
    """Says on stderr which kernel Numba is compiling, since a first run that hangs for a second looks broken."""
    depth = 0                                                      # kernels within kernels go without saying

    def on_start(self, event):
        function = event.data["dispatcher"].py_func
        if function in _ours and not self.depth:
            print(f"compiling the kernel `{function.__name__.strip('_')}` (once, then cached)", file=sys.stderr,
                  flush=True)
        self.depth += 1

    def on_end(self, event):
        self.depth -= 1


event.register("numba:compile", _Announcer())
