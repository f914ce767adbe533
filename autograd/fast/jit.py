"""How a plain Python loop becomes a kernel: compiled by Numba at its first call, and cached on disk beside its source.

A cached kernel holds what it calls of other files, too: it is compiled anew when any file of the engine has changed.

`NUMBA_DISABLE_JIT=1` leaves all kernels what they are, plain Python, so a debugger can step through them. The first
compilation says what it is doing. `error_model="numpy"` matters: with Python's, a loop that divides must be able to
raise, and does not vectorise.
"""
import os
import sys
from pathlib import Path

import numba
from numba.core import event

COMPILES = not numba.config.DISABLE_JIT
ENGINE = tuple((f.name, os.stat(f).st_mtime, os.stat(f).st_size) for f in sorted(Path(__file__).parent.glob("*.py")))
_ours = set()


def kernel(function, **options):
    """Compile at the first call, cache on disk."""
    _ours.add(function)
    compiled = numba.njit(cache=True, error_model="numpy", nogil=True, **options)(function)
    file = getattr(getattr(compiled, "_cache", None), "_cache_file", None)
    if hasattr(file, "_source_stamp"):                             # or it would notice a change of its own file only
        file._source_stamp = file._source_stamp, ENGINE
    return compiled


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
