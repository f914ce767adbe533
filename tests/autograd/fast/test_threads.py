"""Work in parts: each part is done once, whoever does it, and arrays are checked before any of them is."""
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

threads = pytest.importorskip("autograd.fast.threads", reason="there is no fast floor")
from autograd.fast.jit import COMPILES, kernel
from autograd.fast.threads import run, span

needs_threads = pytest.mark.skipif(not COMPILES, reason="without the compiler, the loops are plain Python")


@kernel
def _count(part, parts, seen, counts):
    seen[part] = parts
    begin, end = span(part, parts, counts.size)
    for i in range(begin, end):
        counts[i] += 1


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
        counts = np.zeros(100, int)
        run(_count, parts, np.zeros(60, int), counts, writes=2)
        assert counts.tolist() == 100 * [1]


def test_a_loop_within_a_loop_ends(cores):
    counts = np.zeros((8, 100), int)

    def outer(part, parts):
        run(_count, 4, np.zeros(60, int), counts[part], writes=2)
    run(outer, 8, writes=0)
    assert (counts == 1).all()


@pytest.mark.parametrize("bad, message", [
    (np.zeros((4, 4)).T[1:], "strides"), (np.zeros(8)[::2], "strides"), (np.zeros(8)[::-1], "strides"),
    (np.broadcast_to(np.zeros(1), 4), "strides"), (np.zeros(33, np.int8)[1:].view(np.float64), "aligned"),
    (np.zeros(4, ">f8"), "byte|>f8")], ids=["transposed", "every second", "reversed", "broadcast", "misaligned", "order"])
def test_the_gate_refuses_what_a_kernel_cannot_take(bad, message):
    with pytest.raises(ValueError, match=message):
        run(_count, 1, bad, np.zeros(4), writes=1)
    with pytest.raises(ValueError, match=message):
        run(_count, 1, np.zeros(4), bad, writes=1)


def test_the_gate_refuses_to_write_to_what_is_read_only_or_shared():
    locked, x = np.zeros(4), np.zeros(8)
    locked.flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        run(_count, 1, np.zeros(4), locked)
    with pytest.raises(ValueError, match="shares memory"):
        run(_count, 1, x[:5], x[4:])
