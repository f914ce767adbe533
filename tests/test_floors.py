"""The plain floor is enough: without the fast one, switched off or deleted, everything still works."""
import os
import shutil
import subprocess
import sys

import pytest

from .ledger import ROOT

# One file for each part of the engine and of the models, so that it takes a minute. CI runs all of the engine's tests.
FILES = ["tests/autograd/test_tensor.py", "tests/autograd/test_transforms.py", "tests/autograd/test_losses.py",
         "tests/autograd/test_conv.py", "tests/autograd/test_nn.py", "tests/autograd/test_optim.py",
         "tests/minivae/test_vae.py"]


def python(folder, *arguments, **env):
    return subprocess.run([sys.executable, *arguments], cwd=folder, env={**os.environ, "PYTHONPATH": "", **env},
                          capture_output=True, text=True)


@pytest.fixture(scope="module")
def without_fast(tmp_path_factory):
    """A copy of the project without the folder autograd/fast."""
    folder = tmp_path_factory.mktemp("plain") / "project"
    ignore = shutil.ignore_patterns("fast", ".git", "__pycache__", "*.egg-info", "out", "runs", "gallery", "bench")
    shutil.copytree(ROOT, folder, ignore=ignore)
    # Beside `pip install -e`, Python would find the folder in the original.
    (folder / "sitecustomize.py").write_text("import sys\nsys.meta_path[:] = [f for f in sys.meta_path if not "
                                             "str(getattr(f, '__module__', '')).startswith('__editable__')]\n")
    return folder


def test_the_copy_has_no_fast_floor(without_fast):
    code = "from autograd import floors; print(floors.FAST, floors.__file__)"
    out = python(without_fast, "-W", "error", "-c", code, PYTHONPATH=str(without_fast)).stdout
    assert out == f"None {without_fast / 'autograd' / 'floors.py'}\n"


def test_without_the_folder_the_engine_passes_its_tests(without_fast):
    run = python(without_fast, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "not oracle", *FILES,
                 PYTHONPATH=str(without_fast))
    assert run.returncode == 0, run.stdout[-3000:] + run.stderr[-2000:]
    assert " passed" in run.stdout


def test_without_the_folder_a_demo_runs_and_nothing_is_compiled(without_fast, tmp_path):
    run = python(without_fast, "-m", "demos", "vae", "--quick", "--out", str(tmp_path),
                 PYTHONPATH=str(without_fast))
    assert run.returncode == 0, run.stderr
    assert "compiling" not in run.stderr and "Warning" not in run.stderr and list(tmp_path.glob("*.png"))


@pytest.mark.parametrize("variable", ["AUTOGRAD_PLAIN", "NUMBA_DISABLE_JIT"])
def test_a_variable_switches_the_fast_floor_off(variable):
    code = ("import warnings; warnings.simplefilter('error'); from autograd import OPS, floors, linear; "
            "print(floors.FAST, [name for name in ('linear', 'bernoulli_nll', 'group_norm') if name in OPS])")
    assert python(ROOT, "-c", code, **{variable: "1"}).stdout == "None []\n"
    assert python(ROOT, "-c", code, AUTOGRAD_PLAIN="0", NUMBA_DISABLE_JIT="0").stdout.startswith("<module")


def test_a_fast_floor_that_cannot_be_imported_is_one_warning():
    code = ("import sys, warnings; sys.modules['numba'] = None\n"
            "with warnings.catch_warnings(record=True) as said:\n"
            "    warnings.simplefilter('always')\n"
            "    from autograd import Tensor, floors, losses\n"
            "print(floors.FAST, len(said), said[0].message, losses.bernoulli_nll(Tensor([[0.0]]), [[1.0]]))")
    out = python(ROOT, "-c", code).stdout
    assert out.startswith("None 1 autograd runs on its plain floor") and "numba" in out and "0.693" in out
