"""Work in parts: each part is done once, whoever does it, and arrays are checked before any of them is.

What may hang, or ends a process, is tried in a process of its own.
"""
import gc
import os
import signal
import subprocess
import sys
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

threads = pytest.importorskip("autograd.fast.threads", reason="there is no fast floor")
from autograd.fast.jit import COMPILES, kernel
from autograd.fast.threads import run, span

ROOT = Path(__file__).parents[3]
needs_threads = pytest.mark.skipif(not COMPILES, reason="without the compiler, the loops are plain Python")
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
needs_timer = pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="this system has no timer that interrupts")


@kernel
def _count(part, parts, seen, counts):
    seen[part] = parts
    begin, end = span(part, parts, counts.size)
    for i in range(begin, end):
        counts[i] += 1


@kernel
def count_slowly(part, parts, times, counts):
    begin, end = span(part, parts, counts.size)
    for _ in range(times):
        for i in range(begin, end):
            counts[i] = counts[i] + 1 if counts[i] < 1000 else counts[i] - 999


def count_once(parts=4):
    """Fails unless each part is done once."""
    counts = np.zeros(1000, int)
    run(_count, parts, np.zeros(60, int), counts, writes=2)
    assert (counts == 1).all()


def use_cores(n):
    """Threads as on a machine of n cores."""
    threads.os.sched_getaffinity = lambda pid: set(range(n))
    threads.numba.config.NUMBA_NUM_THREADS = 8


def live():
    """The number of threads that serve, once those that were told to end had the time to."""
    def serves(frame):
        return frame is not None and (frame.f_code is threads._serve.__code__ or serves(frame.f_back))
    deadline = time.monotonic() + 20
    while (n := sum(map(serves, sys._current_frames().values()))) != threads._crew.size and time.monotonic() < deadline:
        time.sleep(0.01)
    return n


def training_step():
    """The bytes of a small VAE-like step (linear, bernoulli_nll, Adam) and of a convolution with its gradients."""
    from autograd import Tensor
    from autograd.conv import conv2d
    from autograd.linear import linear
    from autograd.losses import bernoulli_nll
    from autograd.norm import group_norm
    from autograd.optim import Adam
    rng = np.random.default_rng(0)
    w, b, v, c, image, kernel, gain, shift = (
        Tensor(rng.standard_normal(shape), requires_grad=True, dtype=np.float32)
        for shape in ((30, 20), (20,), (20, 30), (30,), (4, 8, 8, 16), (3, 3, 16, 16), (16,), (16,)))
    x = (rng.random((16, 30)) > 0.5).astype(np.float32)
    optimizer = Adam([w, b, v, c], lr=0.01)
    for _ in range(2):
        optimizer.zero_grad()
        bernoulli_nll(linear(linear(x, w, b, "tanh"), v, c), x).sum().backward()
        optimizer.step()
    y = group_norm(conv2d(image, kernel, padding=1), gain, shift, 4, silu=True)
    y.backward(np.ones_like(y.data))
    return b"".join(a.tobytes() for a in (w.data, b.data, v.data, c.data, y.data, image.grad, kernel.grad, gain.grad))


def in_a_process(code, timeout=60, **settings):
    """Run the code, with the names of this file, in a new process. Shows the threads' stacks if it hangs or fails."""
    start = (f"import faulthandler; faulthandler.dump_traceback_later({timeout}, exit=True)\n"
             "from tests.autograd.fast.test_threads import *\nthreads.WORTH = 1\nuse_cores(4)\n")
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "1", **settings}
    done = subprocess.run([sys.executable, "-c", start + code], cwd=ROOT, env=env, capture_output=True, text=True,
                          timeout=timeout + 30)
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stdout[-2000:] + done.stderr[-6000:]
    return done.stdout


@pytest.fixture(params=[1, 2, 3, 5])
def cores(request, monkeypatch):
    """Threads as on a machine of so many cores."""
    monkeypatch.setattr(threads.os, "sched_getaffinity", lambda pid: set(range(request.param)), raising=False)
    monkeypatch.setattr(threads.numba.config, "NUMBA_NUM_THREADS", 8)
    return request.param


def test_every_part_is_done_once(cores, rng):
    counts, want = np.zeros(1000, int), 0
    for parts in rng.integers(1, 60, 300).tolist():
        seen, want = np.zeros(60, int), want + 1
        run(_count, parts, seen, counts, writes=2)
        assert seen[:parts].tolist() == [parts] * parts and not seen[parts:].any()
    np.testing.assert_array_equal(counts, want)


@pytest.mark.parametrize("n", [0, 1, 5, 64])
@pytest.mark.parametrize("parts", [1, 2, 3, 7])
def test_spans_are_the_whole_without_gap_or_overlap(n, parts):
    assert [i for part in range(parts) for i in range(*span(part, parts, n))] == list(range(n))


def test_two_parts_are_worked_on_at_the_same_time(monkeypatch):
    monkeypatch.setattr(threads.os, "sched_getaffinity", lambda pid: {0, 1}, raising=False)
    monkeypatch.setattr(threads.numba.config, "NUMBA_NUM_THREADS", 2)
    meeting = threading.Barrier(2, timeout=30)

    def meet(part, parts):
        meeting.wait()

    run(meet, 2, writes=0)


def test_threads_of_python_do_not_disturb_each_other(cores):
    counts = [np.zeros(1000, int) for _ in range(64)]
    with ThreadPoolExecutor(16) as pool:
        for _ in range(20):
            list(pool.map(lambda c: run(_count, 8, np.zeros(60, int), c, writes=2), counts))
    assert all((c == 20).all() for c in counts)


def test_a_part_that_fails_is_an_error_and_the_next_loop_is_none(cores):
    def fail(part, parts):
        if part == parts - 1:
            raise MemoryError("no memory for this part")
    for parts in (1, 4):
        with pytest.raises(MemoryError):
            run(fail, parts, writes=0)
        count_once(parts)


def test_a_loop_within_a_loop_ends(cores):
    counts = np.zeros((8, 100), int)

    def outer(part, parts):
        run(_count, 4, np.zeros(60, int), counts[part], writes=2)
    run(outer, 8, writes=0)
    assert (counts == 1).all()


# The crew

@pytest.mark.parametrize("number", [1, 2, 3])
def test_where_no_thread_can_be_started_there_are_fewer_and_the_caller_does_the_rest(number, monkeypatch):
    monkeypatch.setattr(threads.os, "sched_getaffinity", lambda pid: set(range(100, 104)), raising=False)
    monkeypatch.setattr(threads.numba.config, "NUMBA_NUM_THREADS", 8)
    start, started = threads._thread.start_new_thread, []

    def starts(*args):
        if len(started) == number - 1:
            raise RuntimeError("can't start new thread")
        started.append(start(*args))
    monkeypatch.setattr(threads._thread, "start_new_thread", starts)
    monkeypatch.setattr(threads, "_crew", threads._Crew())
    count_once()
    assert len(started) == threads._crew.size == number - 1
    count_once()
    threads._crew.end()


def test_one_core_needs_no_thread(monkeypatch):
    monkeypatch.setattr(threads.os, "sched_getaffinity", lambda pid: {0}, raising=False)
    monkeypatch.setattr(threads, "_crew", threads._Crew())
    monkeypatch.setattr(threads._thread, "start_new_thread", None)
    count_once()


def test_when_the_cores_change_the_old_threads_end(monkeypatch):
    monkeypatch.setattr(threads.numba.config, "NUMBA_NUM_THREADS", 8)
    for cores in ({0, 1}, {0, 1, 2}, {1, 2}, {5, 6, 7, 8}, {3, 4}):
        monkeypatch.setattr(threads.os, "sched_getaffinity", lambda pid: cores, raising=False)
        count_once()
        assert live() == len(cores) - 1


@pytest.mark.skipif(not Path("/proc/self/task").is_dir() or len(os.sched_getaffinity(0)) < 2,
                    reason="needs Linux and two cores")
def test_every_thread_is_pinned_as_the_caller_is():
    in_a_process("""
import importlib, re
importlib.reload(os)                                               # the cores that there are, not those of use_cores
def pinned(thread):
    return re.search(r"Cpus_allowed_list:\\s*(.*)", open(f"/proc/self/task/{thread}/status").read())[1]
def meet(part, parts):
    meeting.wait()
    seen.append(threading.get_native_id())
cores = sorted(os.sched_getaffinity(0))
for mine in (cores[:2], cores, cores[-1:], cores[-2:]):
    os.sched_setaffinity(0, mine)
    crew, seen, meeting = min(2, len(mine)), [], threading.Barrier(min(2, len(mine)), timeout=30)
    run(meet, crew, writes=0)
    assert len(set(seen)) == crew and {pinned(thread) for thread in seen} == {pinned(os.getpid())}, (mine, seen)
    assert live() == 1
""", NUMBA_NUM_THREADS="2")


def test_a_thread_that_waits_keeps_no_array_alive(cores):
    class Array(np.ndarray):                                       # of ndarrays proper there are no weak references
        pass
    counts = np.zeros(1000, int).view(Array)
    run(_count, 8, np.zeros(60, int), counts, writes=2)
    seen = weakref.ref(counts)
    del counts
    deadline = time.monotonic() + 20
    while seen() is not None and time.monotonic() < deadline:
        time.sleep(0.001)
    assert seen() is None


def test_offers_that_nobody_accepts_do_not_pile_up(monkeypatch):
    monkeypatch.setattr(threads.os, "sched_getaffinity", lambda pid: {0, 1, 2}, raising=False)
    monkeypatch.setattr(threads.numba.config, "NUMBA_NUM_THREADS", 8)
    busy, free = threading.Barrier(3, timeout=30), threading.Event()

    def hold(part, parts):
        busy.wait()
        free.wait(30)
    holder = threading.Thread(target=run, args=(hold, 3), kwargs={"writes": 0})
    holder.start()
    while busy.n_waiting < 2 and threads._crew.offers.qsize() == 0 and not busy.broken and busy.n_waiting:
        pass
    time.sleep(0.1)                                                # all threads are in `hold`
    for _ in range(1000):
        count_once()
    assert threads._crew.offers.qsize() <= threads.WAITING + 2
    free.set()
    holder.join()
    count_once()


# Forks

@needs_threads
@needs_fork
def test_a_process_may_fork_while_a_thread_is_in_a_kernel():
    """OpenBLAS has one thread here: a fork during a product of matrices that it shares out hangs, without us, too."""
    in_a_process("""
want, stop = training_step(), threading.Event()
def work():
    while not stop.is_set():
        assert training_step() == want
workers = [threading.Thread(target=work) for _ in range(2)]
for worker in workers:
    worker.start()
for _ in range(20):
    if not (child := os.fork()):
        signal.alarm(20)
        os._exit(0 if training_step() == want and training_step() == want else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert training_step() == want
stop.set()
""")


@needs_threads
@needs_fork
def test_a_process_may_fork_two_hundred_times():
    in_a_process("""
for _ in range(200):
    count_once()
    if not (child := os.fork()):
        signal.alarm(20)
        count_once()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
assert live() == 3
""")


PROCESSES = """
import multiprocessing, threading
from tests.autograd.fast.test_threads import *

def child(want, answers):
    threads.WORTH = 1
    use_cores(4)
    answers.put(training_step() == want)

if __name__ == "__main__":
    import faulthandler
    faulthandler.dump_traceback_later(90, exit=True)
    threads.WORTH = 1
    use_cores(4)
    want, stop = training_step(), threading.Event()
    def work():
        while not stop.is_set():
            assert training_step() == want
    threading.Thread(target=work).start()
    for method, times in (("fork", 5), ("spawn", 1), ("forkserver", 2)):
        context = multiprocessing.get_context(method)
        for _ in range(times):
            answers = context.SimpleQueue()
            process = context.Process(target=child, args=(want, answers))
            process.start()
            process.join(40)
            assert process.exitcode == 0 and answers.get(), (method, process)
            assert training_step() == want
    stop.set()
"""


@needs_threads
@needs_fork
def test_processes_of_every_kind_compute_the_same_numbers(tmp_path):
    (tmp_path / "program.py").write_text(PROCESSES)
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, tmp_path / "program.py"], env=env, capture_output=True, text=True,
                          timeout=120)
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr[-6000:]


@needs_threads
@needs_fork
def test_a_process_that_is_stopped_in_the_middle_goes_on_where_it_was():
    code = ("from tests.autograd.fast.test_threads import *\nuse_cores(4)\ncounts = np.zeros(100_000, int)\n"
            "print('begins', flush=True)\nfor _ in range(30): run(count_slowly, 8, 30, counts)\n"
            "print(counts.min(), counts.max(), 900 % 1000)")
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, env=env, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "begins\n"
    for _ in range(20):
        time.sleep(0.01)
        process.send_signal(signal.SIGSTOP)
        time.sleep(0.01)
        process.send_signal(signal.SIGCONT)
    assert process.communicate(timeout=60)[0] == "900 900 900\n" and process.returncode == 0


# Interrupts and signal handlers

@needs_threads
@needs_timer
def test_an_interrupt_leaves_no_thread_at_work_and_the_next_call_is_right():
    in_a_process("""
import random
signal.signal(signal.SIGALRM, signal.default_int_handler)
counts, hits = np.zeros(100_000, int), 0
run(count_slowly, 4, 2, counts)               # compiles: an interrupt while Numba compiles can leave Numba broken
count_once()
for _ in range(150):
    try:
        signal.setitimer(signal.ITIMER_REAL, random.uniform(1e-5, 2e-3))
        while True:
            run(count_slowly, 4, 2, counts)
    except KeyboardInterrupt:
        hits += 1
    before = counts.copy()
    time.sleep(0.001)
    assert (counts == before).all(), "a thread still writes"
    count_once()
assert hits == 150 and live() == 3
gc.collect()
""")


@needs_threads
@needs_timer
def test_an_interrupt_while_threads_are_made_leaves_none_behind():
    in_a_process("""
import random
signal.signal(signal.SIGALRM, signal.default_int_handler)
hits = 0
count_once()
for _ in range(150):
    try:
        signal.setitimer(signal.ITIMER_REAL, random.uniform(1e-5, 1e-3))
        while True:
            use_cores(random.randint(2, 6))
            count_once()
    except KeyboardInterrupt:
        hits += 1
    use_cores(4)
    count_once()
assert hits == 150 and live() == 3, live()
""")


@needs_threads
@needs_timer
def test_a_signal_handler_may_run_a_loop_within_a_loop_also_while_threads_are_made():
    in_a_process("""
import random
hits = depth = 0
def handle(*_):
    global hits, depth
    hits, depth = hits + 1, depth + 1
    if depth < 4:                             # a handler within a handler; but not for ever
        signal.setitimer(signal.ITIMER_REAL, 3e-4)
    count_once(random.randint(1, 8))
    depth -= 1
    signal.setitimer(signal.ITIMER_REAL, 3e-4)
signal.signal(signal.SIGALRM, handle)
signal.setitimer(signal.ITIMER_REAL, 3e-4)
begin = time.monotonic()
while time.monotonic() < begin + 3:
    count_once()
    if random.random() < 0.1:
        use_cores(random.randint(2, 6))
signal.signal(signal.SIGALRM, signal.SIG_IGN)
use_cores(4)
count_once()
assert hits > 50 and live() == 3, (hits, live())
""")


# The beginning and the end of a process

KERNEL_OF_A_MODULE = """
import numpy as np
from tests.autograd.fast.test_threads import kernel, run, span, use_cores
@kernel
def fill(part, parts, x):
    begin, end = span(part, parts, x.size)
    x[begin:end] = 1
use_cores(4)
x = np.zeros(1000)
run(fill, 8, x)
assert (x == 1).all()
"""


@needs_threads
def test_a_module_may_call_its_kernel_while_it_is_imported(tmp_path):
    (tmp_path / "program.py").write_text(KERNEL_OF_A_MODULE)
    for _ in range(3):                                             # compiled at first, then loaded
        in_a_process(f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import program", timeout=40)


@needs_threads
def test_the_last_loop_of_a_process_is_one_at_its_exit():
    code = "import atexit; late = lambda: (count_once(), training_step(), print('right'))\natexit.register(late)\n"
    before = f"import atexit, sys; sys.path.insert(0, {str(ROOT)!r})\natexit.register(lambda: late())\n"
    assert in_a_process(code) == "right\n"
    assert in_a_process(code + "count_once()") == "right\n"
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    early = before + "from tests.autograd.fast.test_threads import *\nuse_cores(4)\ncount_once()\n"
    done = subprocess.run([sys.executable, "-c", early + "late = lambda: (count_once(), print('right'))"], env=env,
                          capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.returncode) == ("right\n", 0), done.stderr


@needs_threads
def test_a_process_ends_while_its_threads_are_at_work():
    for _ in range(3):
        in_a_process("""
def work():
    while True:
        run(count_slowly, 8, 3, counts)
counts = np.zeros(100_000, int)
for _ in range(3):
    threading.Thread(target=work, daemon=True).start()
time.sleep(0.2)
""")


@needs_threads
def test_memory_and_threads_do_not_grow():
    in_a_process("""
import resource, tracemalloc
def steps(n):
    for _ in range(n):
        count_once(8)
        try:
            run(lambda part, parts: 1 / part, 4, writes=0)
        except ZeroDivisionError:
            pass
steps(200)
tracemalloc.start()
gc.collect()
before = tracemalloc.get_traced_memory()[0]
steps(2000)
gc.collect()
assert tracemalloc.get_traced_memory()[0] - before < 20_000, tracemalloc.get_traced_memory()
assert live() == 3
""")


# The gate

@pytest.mark.parametrize("bad, message", [
    (np.zeros((4, 4)).T[1:], "strides"), (np.zeros(8)[::2], "strides"), (np.zeros(8)[::-1], "strides"),
    (np.broadcast_to(np.zeros(1), 4), "strides"), (np.zeros(33, np.int8)[1:].view(np.float64), "aligned"),
    (np.zeros(4, ">f8"), "byte|>f8"), (np.zeros(4, np.float32), "one dtype")],
    ids=["transposed", "every second", "reversed", "broadcast", "misaligned", "order", "dtype"])
def test_the_gate_refuses_what_a_kernel_cannot_take(bad, message):
    with pytest.raises(ValueError, match=message):
        run(_count, 1, bad, np.zeros(4), writes=1)
    with pytest.raises(ValueError, match=message):
        run(_count, 1, np.zeros(4), bad, writes=1)


def test_the_gate_refuses_to_write_to_what_is_read_only_or_shared():
    locked, x, text = np.zeros(4), np.zeros(8), bytearray(64)
    locked.flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        run(_count, 1, np.zeros(4), locked)
    for a, b in ((x[:5], x[4:]), (x, x), (x[:5], x.view(np.int64)[4:]), (x, x.reshape(2, 4)[1]),
                 (np.frombuffer(text), np.frombuffer(memoryview(text)[8:]))):
        for writes in (1, 2):
            with pytest.raises(ValueError, match="shares memory"):
                run(_count, 1, a, b, writes=writes)
    run(_count, 1, x, x, writes=0)                                 # what is only read may be shared


def test_the_gate_lets_halves_of_one_array_pass():
    counts = np.zeros((2, 1000), int)
    run(_count, 1, *counts, writes=2)
    assert (counts[1] == 1).all()
