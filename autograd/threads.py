"""Work in parts: a compiled loop that all cores share, handed over within a microsecond.

    @shared                                                        # a kernel that does one part of its work
    def _double(part, parts, x):
        begin, end = span(part, parts, len(x))
        x[begin:end] *= 2

    @kernel(nogil=True)                                            # without Python's lock, for a part may ask for it
    def double(crew, parts, *arguments):                           # called as double(crew(), parts_of(len(x)), x)
        share(crew, parts, _double, arguments)

The threads of the crew wait in compiled code, without Python's lock, and watch one word of memory: job, number of
parts, next part. Whoever adds 1 to it has taken a part, the caller too, so a thread that comes late costs nothing.
After a tenth of a millisecond without work they look only now and then, after a second they sleep. The caller waits
for nobody to come, but for who has begun. Where others want the cores that can be long: then it works alone for ten
times as long.

Why not Numba's threads, or BLAS's? Numba's take 5 to 50 µs a loop, and then hold a core that BLAS lacks; BLAS runs
nothing but its own products. BLAS's threads in turn keep a core busy for 30 ms after a large product, though they give
way to whoever wants that core: the crew keeps off the core that the caller is on, and wants theirs.

While one thread of Python shares its work, kernels that others call are done by those alone. How many parts there are
depends on the work and the number of cores, and not on who takes them: results are the same bit for bit.
`NUMBA_DISABLE_JIT=1` does one part after the other.
"""
import os
import sys
import threading
from contextlib import suppress

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.core.imputils import lower_constant
from numba.extending import intrinsic, models, overload, register_jitable, register_model, typeof_impl

from .jit import COMPILES, kernel

LINUX = sys.platform == "linux"              # there a thread knows its core, and may choose it
CORES = sorted(os.sched_getaffinity(0)) if LINUX else list(range(os.cpu_count() or 1))
MOVES = LINUX and len(CORES) > 1
CREW = min(len(CORES), 4)                    # threads, the caller among them
WORTH = 3e5                                  # multiplications: 1 µs or two, about what it takes to hand them over
LOOKS, NAPS, NAP = 400_000, 10_000, 100      # without work: 0.1 to 0.3 ms of looks, then a second or two of naps, in µs

LATE, ALOOF = 1_000_000, 10                  # ns of waiting after which the caller works alone, ten times as long

# Where `_state` has what. Words that several threads write are a cache line or two apart.
WORD, DONE, CORE, FUNCTION, ARGUMENTS, ALONE, BUSY, FAILED, ASLEEP, SIZE = (
    0, 16, 32, 33, 34, 48, 64, 80, 96, 112)
_state, _threads = np.zeros(SIZE, np.int64), []
_wake, _starting = threading.Semaphore(0), threading.Lock()

INT, BYTES = ir.IntType(64), ir.IntType(8).as_pointer()
PART = ir.FunctionType(INT, [INT, INT, BYTES])                    # of part, parts and the arguments' address: failed?


class shared:
    """A kernel f(part, parts, *arguments) that `share` can hand to other threads."""

    def __init__(self, f):
        self.f = kernel(f)

    def __call__(self, *args):
        return self.f(*args)


def parts_of(work: float, most: int = 1) -> int:
    """Into how many parts to cut `work` multiplications: 1, or `most` a thread."""
    return most * CREW if work >= most * WORTH else 1


@register_jitable
def span(part, parts, n):
    """Where this part of range(n) begins and ends. None is longer than the first, which the caller takes."""
    return (part * n + parts - 1) // parts, ((part + 1) * n + parts - 1) // parts


def crew() -> np.ndarray:
    """What `share` needs: the memory that all threads look at. Starts or wakes them."""
    if len(_threads) < CREW - 1 and COMPILES:
        _serve(np.zeros(SIZE, np.int64), 0, 0)                     # compiled here, where it holds nobody up
        with _starting:
            while len(_threads) < CREW - 1:
                thread = threading.Thread(target=_work, daemon=True, name="autograd")
                thread.start()
                _threads.append(thread)
    elif _state[ASLEEP]:
        _state[ASLEEP] -= 1
        _wake.release()
    return _state


def _work():
    while True:
        while (core := _serve(_state, LOOKS, NAPS if LINUX else 0)) >= 0:
            with suppress(OSError):                                # the process may be held to fewer cores by now
                os.sched_setaffinity(0, [c for c in CORES if c != core])           # 0 is this thread
        _state[ASLEEP] += 1
        _wake.acquire()


def _forget():
    """Threads do not survive a fork."""
    global _wake, _starting
    _wake, _starting = threading.Semaphore(0), threading.Lock()
    _threads.clear()
    _state[:] = 0


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


def share(state, parts, f, arguments):
    """f(part, parts, *arguments) for each part, on all threads: for kernels. Returns when all are done."""
    for part in range(parts):
        f(part, parts, *arguments)


@overload(share)
def _share(state, parts, f, arguments):
    def compiled(state, parts, f, arguments):
        function, address = _bind(f, arguments)
        if parts == 1 or LINUX and state[ALONE] > 0 and state[ALONE] > _time() or _set(state, BUSY):
            failed = 0
            for part in range(parts):
                failed |= _call(function, address, part, parts)
            if failed:
                raise RuntimeError("a part of a shared loop has failed: was there no memory?")
            return
        start = _time() if LINUX else 0
        state[FUNCTION], state[ARGUMENTS], state[CORE] = function, address, _core() if LINUX else 0
        _store(state, DONE, 0)
        job = (_load(state, WORD) >> 32) + 1
        _store(state, WORD, (job << 32) | (parts << 16))           # from here on all may look
        _take(state)
        middle = _time() if LINUX else 0
        while _load(state, DONE) < parts:
            pass
        waited = _time() - middle if LINUX else 0
        if waited > 2 * (middle - start) + LATE:                   # others want the cores: let them have them
            state[ALONE] = middle + waited + ALOOF * min(waited, 10 * LATE)    # it may have been stopped
        failed = _load(state, FAILED)
        state[FAILED] = 0
        _store(state, BUSY, 0)
        if failed:
            raise RuntimeError("a part of a shared loop has failed: was there no memory?")
    return compiled


@kernel
def _take(state):
    """Take parts and do them until none is left. Returns whether there was one."""
    found = False
    while True:
        word = _load(state, WORD)
        if word & 0xFFFF >= word >> 16 & 0xFFFF:
            return found
        word = _add_one(state, WORD)                               # another may have been faster, or it is another job
        part, parts = word & 0xFFFF, word >> 16 & 0xFFFF
        if part >= parts:
            return found
        if _call(state[FUNCTION], state[ARGUMENTS], part, parts):
            _store(state, FAILED, 1)
        _add_one(state, DONE)
        found = True


@kernel(nogil=True)
def _serve(state, looks, naps):
    """Do what there is. Returns a core to leave, for the caller is on it, or −1 after long idleness."""
    idle = 0
    while idle < looks + naps:
        idle += 1
        if _take(state):
            idle = 0
        elif LINUX and idle > looks:
            _nap(NAP)
        if MOVES and idle & 1023 == 1 and _core() == state[CORE]:  # at most one of two that share a core gets to work
            return state[CORE]
    return -1


# What Numba lacks: atomic reads and writes, and calls by address ----------------------------------------------------
def _at(context, builder, state, value, i):
    data = context.make_array(state)(context, builder, value).data
    return builder.gep(data, [ir.Constant(INT, i) if isinstance(i, int) else i])


@intrinsic
def _load(typing, state, i):
    """state[i], and whatever was written before it."""
    def build(context, builder, signature, args):
        return builder.load_atomic(_at(context, builder, state, *args), "acquire", 8)
    return types.int64(state, types.int64), build


@intrinsic
def _store(typing, state, i, value):
    """state[i] ← value, seen by others only after whatever was written before."""
    def build(context, builder, signature, args):
        builder.store_atomic(args[2], _at(context, builder, state, *args[:2]), "release", 8)
        return context.get_dummy_value()
    return types.void(state, types.int64, types.int64), build


@intrinsic
def _add_one(typing, state, i):
    """state[i] ← state[i] + 1 without anyone between; returns what it was."""
    def build(context, builder, signature, args):
        return builder.atomic_rmw("add", _at(context, builder, state, *args), ir.Constant(INT, 1), "acq_rel")
    return types.int64(state, types.int64), build


@intrinsic
def _set(typing, state, i):
    """state[i] ← 1; returns what it was."""
    def build(context, builder, signature, args):
        return builder.atomic_rmw("xchg", _at(context, builder, state, *args), ir.Constant(INT, 1), "acq_rel")
    return types.int64(state, types.int64), build


@intrinsic
def _core(typing):
    """The core that this thread is on."""
    def build(context, builder, signature, args):
        function = cgutils.get_or_insert_function(builder.module, ir.FunctionType(ir.IntType(32), []), "sched_getcpu")
        return builder.sext(builder.call(function, []), INT)
    return types.int64(), build


@intrinsic
def _time(typing):
    """Nanoseconds, from whenever."""
    def build(context, builder, signature, args):
        clock, now = ir.IntType(32), cgutils.alloca_once(builder, ir.ArrayType(INT, 2))
        kind = ir.FunctionType(clock, [clock, now.type])
        monotonic = ir.Constant(clock, 1)
        builder.call(cgutils.get_or_insert_function(builder.module, kind, "clock_gettime"), [monotonic, now])
        seconds, nanoseconds = cgutils.unpack_tuple(builder, builder.load(now), 2)
        return builder.add(builder.mul(seconds, ir.Constant(INT, 10**9)), nanoseconds)
    return types.int64(), build


@intrinsic
def _nap(typing, microseconds):
    def build(context, builder, signature, args):
        kind = ir.FunctionType(ir.IntType(32), [ir.IntType(32)])
        builder.call(cgutils.get_or_insert_function(builder.module, kind, "usleep"),
                     [builder.trunc(args[0], ir.IntType(32))])
        return context.get_dummy_value()
    return types.void(types.int64), build


class _Shared(types.Opaque):
    """The type of a `shared`: each has its own. (Were they Numba's dispatchers, what uses them could not be cached.)"""

    def __init__(self, f):
        super().__init__(f"shared({f.__module__}.{f.__qualname__})")
        self.f = f


typeof_impl.register(shared)(lambda value, context: _Shared(value.f))
register_model(_Shared)(models.OpaqueModel)
lower_constant(_Shared)(lambda context, builder, kind, value: context.get_dummy_value())


@intrinsic
def _bind(typing, f, arguments):
    """The address of a function of (part, parts, address) that calls f, and that of its arguments, on the stack."""
    kinds = (types.int64, types.int64, *arguments)
    f.f.compile(kinds)

    def build(context, builder, signature, args):
        compiled, module, values = f.f.overloads[kinds], builder.module, args[1]
        context.active_code_library.add_linking_library(compiled.library)
        name = f"part.{compiled.fndesc.mangled_name}"
        if name not in module.globals:
            function = ir.Function(module, PART, name)
            function.linkage = "internal"
            b = ir.IRBuilder(function.append_basic_block())
            part, parts, address = function.args
            unpacked = b.load(b.bitcast(address, values.type.as_pointer()))
            unpacked = [b.extract_value(unpacked, i) for i in range(len(arguments))]
            status, _ = context.call_conv.call_function(b, context.declare_function(module, compiled.fndesc),
                                                        types.none, kinds, [part, parts, *unpacked])
            b.ret(b.zext(status.is_error, INT))
        stack = cgutils.alloca_once_value(builder, values)         # outlives the job: `share` waits for all parts
        addresses = [builder.ptrtoint(pointer, INT) for pointer in (module.globals[name], stack)]
        return context.make_tuple(builder, signature.return_type, addresses)
    return types.UniTuple(types.int64, 2)(f, arguments), build


@intrinsic
def _call(typing, function, address, part, parts):
    """Call what `_bind` made; returns whether it failed."""
    def build(context, builder, signature, args):
        function = builder.inttoptr(args[0], PART.as_pointer())
        return builder.call(function, [*args[2:], builder.inttoptr(args[1], BYTES)])
    return types.int64(types.int64, types.int64, types.int64, types.int64), build
