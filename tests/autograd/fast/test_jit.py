"""Kernels are right on any processor, from any cache or without one, and after a fork."""
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from autograd import floors

jit = pytest.importorskip("autograd.fast.jit", reason="there is no fast floor")
from llvmlite import binding

pytestmark = pytest.mark.skipif(not floors.FAST, reason="the fast floor is off")
ROOT = Path(__file__).parents[3]
HOST = binding.get_host_cpu_features()
X86 = binding.Target.from_default_triple().name.startswith("x86")
WIDEST = 16 if not X86 else 64 if HOST.get("avx512f") else 32 if HOST.get("avx") else 16
every_width = pytest.mark.parametrize("settings, width", [
    pytest.param({"NUMBA_CPU_NAME": "skylake-avx512"}, 64 if X86 else 16, id="skylake-avx512"),
    pytest.param({"NUMBA_CPU_NAME": "haswell"}, 32 if X86 else 16, id="haswell"),
    pytest.param({"NUMBA_CPU_NAME": "x86-64", "NUMBA_CPU_FEATURES": ""}, 16, id="x86-64"),
])

STEP = """
import numpy as np
from autograd import floors, losses, nn, ops, optim
assert floors.FAST, "the fast floor is off"
rng = np.random.default_rng(0)
layer = nn.Linear(3, 5, rng=rng)
adam = optim.Adam(layer.parameters())
loss = ops.mean(losses.bernoulli_nll(layer(np.ones((4, 3), np.float32)), np.eye(4, 5, dtype=np.float32)))
loss.backward()
adam.step()
print(loss.data, *[p.data.sum() for p in layer.parameters()])
"""


def environment(cache, **settings):
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("NUMBA_", "AUTOGRAD_"))}
    return {**kept, "PYTHONPATH": str(ROOT), **({"NUMBA_CACHE_DIR": str(cache)} if cache else {}), **settings}


def start(code, cache, root=ROOT, **settings):
    """What the code prints in a process of its own, and which kernels this compiled. Or the process has failed."""
    run = subprocess.run([sys.executable, "-c", code], env={**environment(cache), "PYTHONPATH": str(root), **settings},
                         cwd=root, capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, f"exit {run.returncode}: {run.stdout}{run.stderr}"
    return run.stdout, re.findall("compiling the kernel `(.*)`", run.stderr), run.stderr


def files_of(cache):
    return sorted(path for path in cache.rglob("*") if path.is_file())


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    """A cache that one small training step has filled, and what the step prints."""
    cache = tmp_path_factory.mktemp("cache")
    want, compiled, _ = start(STEP, cache)
    assert compiled == ["bernoulli_nll", "adam"]
    return cache, want


@pytest.fixture
def cache(filled, tmp_path):
    return Path(shutil.copytree(filled[0], tmp_path / "cache"))


# the width of vectors

@pytest.mark.skipif(not X86, reason="these are x86 processors")
@pytest.mark.parametrize("name, features, width", [
    (None, None, WIDEST), ("haswell", None, 32), ("haswell", "", 32), ("skylake-avx512", None, 64),
    ("skylake-avx512", "-avx512f", 32), ("x86-64", None, 16), ("x86-64", "", 16), ("x86-64", "+avx512f", 64),
    ("generic", "", 16), ("no such processor", None, 16)])
def test_vectors_are_as_wide_as_those_of_numbas_target(name, features, width, monkeypatch):
    monkeypatch.setattr(jit.numba.config, "CPU_NAME", name)
    monkeypatch.setattr(jit.numba.config, "CPU_FEATURES", features)
    assert jit._vector_bytes() == width


def test_vectors_are_narrow_if_llvm_cannot_be_asked_and_on_other_processors(monkeypatch):
    monkeypatch.setattr(jit.binding, "parse_assembly", None)
    assert jit._vector_bytes() == 16
    monkeypatch.undo()
    other = SimpleNamespace(name="aarch64")
    monkeypatch.setattr(jit.binding, "Target", SimpleNamespace(from_default_triple=lambda: other))
    assert jit._vector_bytes() == 16


@every_width
def test_vectors_of_every_width_compute_what_numpy_does(settings, width, tmp_path):
    """The host's own width is that of all other tests. Where it is less than 64, LLVM splits the vectors."""
    env = environment(tmp_path, **settings)
    shown = subprocess.run([sys.executable, "-c", "from autograd.fast.vectors import BYTES; print(BYTES)"], env=env,
                           cwd=ROOT, capture_output=True, text=True, check=True)
    assert int(shown.stdout) == width
    run = subprocess.run([sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/autograd/fast/"
                          "test_vectors.py"], env=env, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert run.returncode == 0 and " passed" in run.stdout, run.stdout[-2000:] + run.stderr[-2000:]


# the cache

PRODUCT = """
import numpy as np
from autograd.fast import vectors
from autograd.fast.jit import kernel
@kernel
def product(*args):
    vectors.contract(*args)
"""


def test_processors_with_different_vectors_share_a_cache(tmp_path):
    """One of them is told to Numba by its features and one by its name, so that Numba takes both for the same."""
    (tmp_path / "product.py").write_text(PRODUCT)
    code = """if True:
        import numpy as np, product
        from autograd.fast.vectors import BYTES, whole_vectors
        b = whole_vectors(np.arange(6.0).reshape(2, 1, 3))
        c = np.full(b.shape[2] + 8, 7.0)
        product.product(np.ones(2), np.zeros(1, int), 1, 1, b, c, np.zeros(1, int), np.zeros(b.shape[2]))
        assert c[:3].tolist() == [3, 5, 7] and (c[b.shape[2]:] == 7).all(), c
        print(BYTES)"""
    features = {"NUMBA_CPU_FEATURES": HOST.flatten()}
    path = {"PYTHONPATH": os.pathsep.join([str(ROOT), str(tmp_path)])}
    seen = [start(code, tmp_path / "cache", NUMBA_CPU_NAME="x86-64", **settings, **path)[:2]
            for settings in (features, {}, features, {})]
    assert seen == [(f"{WIDEST}\n", ["product"]), ("16\n", ["product"]), (f"{WIDEST}\n", []), ("16\n", [])]


def test_processes_on_several_processors_fill_a_cold_cache_at_once(filled, tmp_path):
    kinds = [{}, {"NUMBA_CPU_NAME": "generic"}]
    for compiled in (True, False):
        runs = [subprocess.Popen([sys.executable, "-c", STEP], env=environment(tmp_path, **kind), cwd=ROOT, text=True,
                                 stdout=subprocess.PIPE, stderr=subprocess.PIPE) for kind in kinds for _ in range(2)]
        for run in runs:
            out, err = run.communicate(timeout=300)
            assert run.returncode == 0 and compiled == bool(err), err
            np.testing.assert_allclose(np.array(out.split(), float), np.array(filled[1].split(), float), rtol=1e-6)
    assert len(files_of(tmp_path)) == 2 * len(files_of(filled[0]))


def flip(content):
    """The content with a bit changed in every hundredth byte, in the middle of the code among others."""
    content = bytearray(content)
    content[50::100] = bytes(byte ^ 16 for byte in content[50::100])
    return bytes(content)


@pytest.mark.parametrize("damage", [lambda content: b"", lambda content: content[:len(content) // 2], flip],
                         ids=["emptied", "cut", "flipped"])
def test_a_damaged_file_is_compiled_anew(damage, filled, cache):
    files = files_of(cache)
    for damaged in [[file] for file in files] + [files]:
        for file in damaged:
            file.write_bytes(damage(file.read_bytes()))
        out, compiled, err = start(STEP, cache)
        lost = {name for name in ("bernoulli_nll", "adam") if any(name in file.name for file in damaged)}
        assert out == filled[1] and set(compiled) == lost, err     # `span` is within both, and its file is not read
    assert start(STEP, cache)[:2] == (filled[1], [])               # and what it compiled is kept


def test_a_file_under_the_name_of_another_is_not_used(filled, cache):
    files = files_of(cache)
    contents = [file.read_bytes() for file in files]
    for file, content in zip(files, contents[1:] + contents[:1]):
        file.write_bytes(content)
    assert start(STEP, cache)[0] == filled[1]


def test_a_kernel_is_compiled_anew_if_a_file_of_the_engine_has_changed_but_not_for_its_date(tmp_path):
    engine = Path(shutil.copytree(ROOT / "autograd", tmp_path / "autograd")) / "fast" / "vectors.py"
    assert start(STEP, tmp_path / "cache", tmp_path)[1]
    os.utime(engine, (0, 0))
    assert not start(STEP, tmp_path / "cache", tmp_path)[1]
    engine.write_text(engine.read_text() + "# a change\n")
    assert start(STEP, tmp_path / "cache", tmp_path)[1]


def test_where_no_cache_can_be_written_kernels_are_compiled_at_each_start(filled, tmp_path):
    file = tmp_path / "file"
    file.write_text("a file where a folder is wanted: not even root can write into it")
    shutil.copytree(ROOT / "autograd", tmp_path / "autograd", ignore=shutil.ignore_patterns("__pycache__"))
    for folder in ("autograd", "autograd/fast"):
        shutil.copy(file, tmp_path / folder / "__pycache__")
    for cache in (None, file / "cache"):
        out, compiled, err = start(STEP, cache, tmp_path, HOME=str(file), XDG_CACHE_HOME=str(file))
        assert out == filled[1] and compiled == ["bernoulli_nll", "adam"]
        assert "at each start: for a cache, set NUMBA_CACHE_DIR to a folder that can be written" in err


def test_a_full_disk_is_reported_and_leaves_no_unfinished_file(filled, tmp_path):
    full = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))"
    out, _, err = start(full + STEP, tmp_path, PYTHONDONTWRITEBYTECODE="1")
    assert out == filled[1] and "compiled kernels are not cached: OSError" in err
    assert files_of(tmp_path) == []


def test_without_its_folder_the_fast_floor_is_off_and_nothing_is_said(tmp_path):
    shutil.copytree(ROOT / "autograd", tmp_path / "autograd", ignore=shutil.ignore_patterns("fast"))
    code = """if True:
        import sys
        sys.meta_path = [f for f in sys.meta_path if "editable" not in str(f)]   # pip install -e would find the folder
        from autograd import floors
        assert floors.FAST is None"""
    assert start(code, None, tmp_path)[2] == ""


# the parts of Numba that are private

def test_kernels_work_without_any_private_part_of_numba(filled, tmp_path):
    hidden = """if True:
        import sys, llvmlite.binding, numba.core
        private = ["numba.core." + name for name in ("caching", "codegen", "compiler_lock", "event")]
        modules = {name: sys.modules[name] for name in [*private, "llvmlite.binding.ffi"]}
        for name in modules:
            sys.modules[name] = None
            delattr(sys.modules[name.rpartition(".")[0]], name.rpartition(".")[2])
        import autograd.fast.vectors
        assert autograd.fast.vectors.BYTES == 16
        sys.modules.update(modules)                                # Numba itself needs them to compile
        """
    out, compiled, err = start(hidden + STEP.replace("\n", "\n" + 8 * " "), tmp_path)
    assert (out, err) == (filled[1], "") and not files_of(tmp_path)


FORK = """
import os, signal, sys, threading, time
import numpy as np
from autograd.fast import jit
signal.alarm(200)

def new(n):
    def loop(x):
        total = 0.0
        for i in range(x.size):
            total += np.exp(x[i]) / (n + abs(x[i]))
        return total
    return jit.kernel(loop)

def child_of_a_fork():
    child = os.fork()
    if not child:
        signal.alarm(30)                                           # a child that hangs is killed
        os._exit(not np.isclose(new(1)(np.zeros(3)), 3))
    assert os.waitpid(child, 0)[1] == 0, "the child hangs, or is wrong"
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.parametrize("meanwhile", ["""
def work():
    for n in range(2, 1000):
        new(n)(np.ones(3))
threading.Thread(target=work, daemon=True).start()
time.sleep(2)
for i in range(8):
    child_of_a_fork()
    time.sleep(0.07)
""", """
from numba.core.compiler_lock import global_compiler_lock
jit.PATIENCE, held = 0.1, threading.Event()
def hold():
    with global_compiler_lock:
        held.set()
        time.sleep(100)
threading.Thread(target=hold, daemon=True).start()
held.wait()
child_of_a_fork()
"""], ids=["compiles", "never lets go"])
def test_the_child_of_a_fork_compiles_though_a_thread_of_its_parent(meanwhile, tmp_path):
    start(FORK + meanwhile + "\nos._exit(0)", tmp_path)
