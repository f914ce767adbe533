"""The C library keeps the memory of arrays only if the user asks for it."""
import ctypes
import os
import subprocess
import sys
from pathlib import Path

import pytest

memory = pytest.importorskip("autograd.fast.memory", reason="there is no fast floor")

FAULTS = """
import resource, numpy, autograd
faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for i in range(20):
    x = [numpy.ones(3_000_000, numpy.float32) for _ in range(3)]
    before = faults() if i == 1 else before if i else 0
    del x
print(faults() - before)
"""


@pytest.mark.skipif(sys.platform != "linux" or not hasattr(ctypes.CDLL(None), "gnu_get_libc_version"),
                    reason="only glibc gives memory back that fast")
@pytest.mark.parametrize("settings, kept", [({}, False), ({"AUTOGRAD_MALLOC": "keep"}, True),
                                            ({"AUTOGRAD_MALLOC": "keep", "MALLOC_TRIM_THRESHOLD_": "131072"}, False)])
def test_arrays_that_die_leave_their_memory_to_the_next(settings, kept):
    env = {k: v for k, v in os.environ.items() if not k.startswith(("MALLOC_", "AUTOGRAD_")) and k != "GLIBC_TUNABLES"}
    run = subprocess.run([sys.executable, "-c", FAULTS], env={**env, **settings}, capture_output=True, text=True,
                         cwd=Path(__file__).parents[3], check=True)
    assert (int(run.stdout) < 500) == kept, run.stdout             # 20 times 3 arrays have 9,000 pages each time


def test_a_setting_of_the_user_is_not_changed(monkeypatch):
    monkeypatch.setenv("GLIBC_TUNABLES", "glibc.malloc.check=0")
    assert not memory.keep()
