"""How a plain Python loop becomes a kernel: compiled by Numba at its first call, and kept on disk for the next start.

`NUMBA_DISABLE_JIT=1` leaves all kernels what they are, plain Python, so a debugger can step through them. The first
compilation says what it is doing. `error_model="numpy"` matters: with Python's, a loop that divides must be able to
raise, and does not vectorise.

The cache is not Numba's. Numba's crashes on a damaged file, may give one processor the code of another if both write at
once, and sees no change in other files of which a kernel holds functions and constants. Here each kernel has one file
for each processor and each set of argument types: a digest, then compiled code. The digest is checked first. Code that
is damaged, or older than the engine or its own file, is compiled anew.

All that the project uses of Numba's private parts is in this file. If a later version of Numba lacks one of them,
kernels are compiled at each start, or have narrower vectors. Tests: tests/autograd/fast/test_jit.py.
"""
import hashlib
import inspect
import os
import pickle
import sys
import threading
import uuid
from contextlib import suppress
from pathlib import Path

import llvmlite
import numba
import numpy
from llvmlite import binding

COMPILES = not numba.config.DISABLE_JIT
VERSIONS = numba.__version__, llvmlite.__version__, numpy.__version__
ENGINE = hashlib.sha256(b"".join(path.read_bytes() for path in sorted(Path(__file__).parent.glob("*.py")))).digest()
PATIENCE = 10                                # seconds that a fork waits for the compiler
SUM = "define <16 x float> @f(<16 x float> %x) {\n %y = fadd <16 x float> %x, %x\n ret <16 x float> %y\n}"
_kernels = {}                                # the functions that are kernels: how often each is compiled, in words
_said = []                                   # why kernels are not cached


def _vector_bytes():
    """Bytes of a vector on Numba's processor: where LLVM's code for a sum of 64 bytes names the registers of 64 or 32.

    A processor given by name alone, as in NUMBA_CPU_NAME=x86-64, has the vectors that all processors of this name have.
    Numba adds the host's features, but any width is right: LLVM splits vectors that are too wide.
    """
    with suppress(Exception):
        from numba.core import codegen
        name, features = numba.config.CPU_NAME, numba.config.CPU_FEATURES
        if name is None:
            name = binding.get_host_cpu_name()
            features = codegen.get_host_cpu_features() if features is None else features
        binding.initialize_native_target()
        binding.initialize_native_asmprinter()
        target = binding.Target.from_default_triple()
        if target.name.startswith("x86"):                          # without +64bit an unknown name ends the process
            machine = target.create_target_machine(cpu=name, features="+64bit," + (features or ""))
            code = machine.emit_assembly(binding.parse_assembly(SUM))
            return 64 if "zmm" in code else 32 if "ymm" in code else 16
    return 16


VECTOR_BYTES = _vector_bytes()


class _Cache:
    """The compiled forms of one function on disk, in the place of Numba's FunctionCache."""

    def __init__(self, function):
        from numba.core import caching
        self._parts = caching.CompileResultCacheImpl(function)     # RuntimeError: there is no folder to write to
        self._pickled, self._function = caching.dumps, function
        self._sources = ENGINE + Path(inspect.getfile(function)).read_bytes()
        self.cache_path = self._parts.locator.get_cache_path()

    def _file(self, signature, context):
        cells = self._pickled([cell.cell_contents for cell in self._function.__closure__ or ()])
        key = signature, context.codegen().magic_tuple(), VECTOR_BYTES, VERSIONS, self._function.__code__.co_code, cells
        name = f"{self._parts.filename_base}.{hashlib.sha256(repr(key).encode()).hexdigest()[:32]}.nbc"
        return Path(self.cache_path, name)

    def _digest(self, file, code):
        return hashlib.sha256(self._sources + file.name.encode() + code).digest()

    def load_overload(self, signature, context):
        """The compiled function, or None if it must be compiled."""
        with suppress(Exception):                                  # whatever is wrong with the file, compiling mends it
            context.refresh()
            file = self._file(signature, context)
            content = file.read_bytes()
            if content[:32] == self._digest(file, content[32:]):
                return self._parts.rebuild(context, pickle.loads(content[32:]))

    def save_overload(self, signature, result):
        try:
            if self._parts.check_cachable(result):
                file, code = self._file(signature, result.target_context), self._pickled(self._parts.reduce(result))
                self._parts.locator.ensure_cache_path()
                unfinished = file.with_name(f"{file.name}.{uuid.uuid4().hex[:16]}")
                try:
                    unfinished.write_bytes(self._digest(file, code) + code)
                    unfinished.replace(file)
                finally:
                    unfinished.unlink(missing_ok=True)
        except Exception as error:                                 # the disk is full, say
            if not _said:                                          # once is enough
                _said.append(error)
                print(f"compiled kernels are not cached: {type(error).__name__}: {error}", file=sys.stderr, flush=True)

    def flush(self):
        """Numba calls this before it compiles a function anew. The file will be replaced then."""


def kernel(function, **options):
    """Compile at the first call, cache on disk."""
    compiled = numba.njit(error_model="numpy", nogil=True, **options)(function)
    _kernels[function] = "at each start: for a cache, set NUMBA_CACHE_DIR to a folder that can be written"
    with suppress(Exception):
        if hasattr(compiled, "_cache"):
            compiled._cache, _kernels[function] = _Cache(function), "once, then cached"
    return compiled


with suppress(Exception):
    from numba.core import event

    class _Announcer(event.Listener):
        """Says on stderr which kernel Numba is compiling, since a first run that hangs for a second looks broken."""
        depth = 0                                                  # kernels within kernels go without saying

        def on_start(self, event):
            function = getattr(event.data.get("dispatcher"), "py_func", None)
            if function in _kernels and not self.depth:
                print(f"compiling the kernel `{function.__name__.strip('_')}` ({_kernels[function]})", file=sys.stderr,
                      flush=True)
            self.depth += 1

        def on_end(self, event):
            self.depth -= 1

    event.register("numba:compile", _Announcer())

def compiling() -> bool:
    """Whether some thread compiles just now."""
    return False


with suppress(Exception):
    from llvmlite.binding import ffi
    from numba.core.compiler_lock import global_compiler_lock

    compiling = global_compiler_lock.is_locked
    HOLDERS = global_compiler_lock, ffi.lib._lock                  # each holds a lock, Python's RLock

    def _wait_for_the_compiler():
        """A fork copies the data of Numba and LLVM, which are half changed while another thread compiles."""
        for holder in HOLDERS:
            holder._lock.acquire(timeout=PATIENCE)

    def _go_on():
        for holder in HOLDERS:
            if holder._lock._is_owned():
                holder._lock.release()

    def _go_on_in_the_child():
        for holder in HOLDERS:
            if not holder._lock._is_owned():                       # a thread that the child does not have never lets go
                holder._lock = threading.RLock()
        _go_on()

    if all(hasattr(holder._lock, "_is_owned") for holder in HOLDERS):
        os.register_at_fork(before=_wait_for_the_compiler, after_in_parent=_go_on, after_in_child=_go_on_in_the_child)
