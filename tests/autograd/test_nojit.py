"""Everything runs without the compiler, so that a debugger can step through it."""
import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
ENV = {**os.environ, "NUMBA_DISABLE_JIT": "1"}


def test_without_jit_kernels_are_plain_functions():
    code = ("from types import FunctionType; from importlib import import_module; from autograd import floors;"
            "assert floors.FAST is None and type(import_module('minivae.data.sprites')._draw) is FunctionType")
    subprocess.run([sys.executable, "-c", code], env=ENV, cwd=HERE.parents[1], check=True)


def test_whatever_uses_a_kernel_passes_its_tests_without_jit():
    files = [str(HERE / f"test_{name}.py") for name in ("conv", "losses", "images", "optim")]
    files.append(str(HERE.parent / "minivae" / "test_train.py"))
    run = subprocess.run([sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "not oracle", *files],
                         env=ENV, cwd=HERE.parents[1], capture_output=True, text=True)
    assert run.returncode == 0, run.stdout[-2000:] + run.stderr[-2000:]
    assert " passed" in run.stdout
