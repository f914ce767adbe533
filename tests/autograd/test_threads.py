"""Work in parts: each is done once, whoever does it, however many threads there are and whatever they did before."""
import os
import subprocess
import sys
import time
import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from autograd import threads
from autograd.jit import COMPILES, kernel
from autograd.product import product
from autograd.threads import crew, share, shared, span

needs_threads = pytest.mark.skipif(not COMPILES, reason="without the compiler there is one thread")


@shared
def _count(part, parts, counts, seen):
    seen[part] = parts
    for i in range(*span(part, parts, counts.size)):
        counts[i] += 1


@kernel(nogil=True)
def _counted(crew, parts, *arguments):
    share(crew, parts, _count, arguments)


@pytest.fixture(params=[1, 2, 3, 4])
def several(request, monkeypatch):
    """Threads as on a machine of more cores, or fewer."""
    monkeypatch.setattr(threads, "CREW", request.param)
    return request.param


def test_every_part_is_done_once(several, rng):
    counts, want = np.zeros(1000, int), 0
    for parts in rng.integers(1, 60, 2000).tolist():
        seen, want = np.zeros(60, int), want + 1
        _counted(crew(), parts, counts, seen)
        assert seen[:parts].tolist() == [parts] * parts and not seen[parts:].any()
    np.testing.assert_array_equal(counts, want)


@pytest.mark.parametrize("n", [0, 1, 5, 64])
@pytest.mark.parametrize("parts", [1, 2, 3, 7])
def test_spans_are_the_whole_without_gap_or_overlap(n, parts):
    assert [i for part in range(parts) for i in range(*span(part, parts, n))] == list(range(n))


@pytest.mark.parametrize("n", [0, 1, 3, 13, 64])
@pytest.mark.parametrize("parts", [1, 2, 3, 7, 16])
def test_no_part_is_longer_than_the_first_and_none_is_two_shorter(n, parts):
    first, *others = [end - begin for begin, end in (span(part, parts, n) for part in range(parts))]
    assert all(first - 1 <= length <= first for length in others)


@shared
def _meet(part, parts, here, met):
    """Wait for who does the other of two parts."""
    threads._store(here, part, 1)
    looks = 0
    while threads._load(here, 1 - part) == 0 and looks < 100_000_000:
        looks += 1
    met[part] = looks < 100_000_000


@kernel(nogil=True)
def _met(crew, parts, *arguments):
    share(crew, parts, _meet, arguments)


@needs_threads
def test_two_parts_are_worked_on_at_the_same_time(monkeypatch):
    monkeypatch.setattr(threads, "CREW", 2)
    for _ in range(100):                                           # the other thread may come late
        met = np.zeros(2, np.bool_)
        _met(crew(), 2, np.zeros(2, np.int64), met)
        if met.all():
            return
    pytest.fail("the second part was never begun before the first had ended")


@needs_threads
@pytest.mark.skipif(len(threads.CORES) < 2, reason="on one core they take turns")
def test_threads_fall_asleep_and_are_woken(monkeypatch, rng):
    monkeypatch.setattr(threads, "LOOKS", 1000)
    monkeypatch.setattr(threads, "NAPS", 2)
    monkeypatch.setattr(threads, "CREW", 2)
    a, b = rng.standard_normal((90, 80)), rng.standard_normal((80, 70))
    for _ in range(3):
        product(a, b)
        end = time.monotonic() + 30
        while threads._state[threads.ASLEEP] < len(threads._threads) and time.monotonic() < end:
            time.sleep(0.01)
        assert threads._state[threads.ASLEEP] == len(threads._threads)
        np.testing.assert_allclose(product(a, b), a @ b, rtol=1e-12, atol=1e-12)


def test_two_threads_of_python_do_not_disturb_each_other(rng):
    a, b = rng.standard_normal((8, 90, 80)), rng.standard_normal((80, 70))
    with ThreadPoolExecutor(4) as pool:
        for x, y in zip(np.tile(a, (50, 1, 1)), pool.map(lambda x: product(x, b), np.tile(a, (50, 1, 1)))):
            np.testing.assert_allclose(y, x @ b, rtol=1e-12, atol=1e-12)


def test_a_part_may_ask_for_pythons_lock(rng, monkeypatch):
    """As it does for memory, when tracemalloc is watching."""
    monkeypatch.setattr(threads, "CREW", 3)
    a, b = rng.standard_normal((90, 80)), rng.standard_normal((80, 70))
    tracemalloc.start()
    try:
        for _ in range(500):
            np.testing.assert_allclose(product(a, b), a @ b, rtol=1e-12, atol=1e-12)
    finally:
        tracemalloc.stop()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_forked_child_has_threads_of_its_own():
    code = ("import numpy as np, os; from autograd.product import product\n"
            "a = np.random.default_rng(0).standard_normal((90, 90)); want = product(a, a); child = os.fork()\n"
            "import time; from autograd import threads; threads.LOOKS, threads.NAPS = 100, 1\n"
            "for _ in range(100): assert np.array_equal(product(a, a), want)\n"
            "for _ in range(3):\n"
            "    while threads._state[threads.ASLEEP] < len(threads._threads): time.sleep(0.01)\n"
            "    assert np.array_equal(product(a, a), want)\n"
            "if child: assert os.waitpid(child, 0)[1] == 0\n")
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@shared
def _fail(part, parts, x):
    if part == parts - 1:
        raise ValueError
    x[part] = 1


@kernel(nogil=True)
def _failing(crew, parts, *arguments):
    share(crew, parts, _fail, arguments)


@pytest.mark.parametrize("parts", [1, 4])
def test_a_part_that_fails_is_an_error_and_the_next_job_is_none(parts, rng):
    for _ in range(5):
        with pytest.raises((RuntimeError, ValueError)):
            _failing(crew(), parts, np.zeros(4))
        counts = np.zeros(100, int)
        _counted(crew(), 4, counts, np.zeros(60, int))
        assert counts.tolist() == 100 * [1]


def test_threads_of_python_that_come_at_once_start_one_crew(monkeypatch):
    monkeypatch.setattr(threads, "CREW", 6)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: crew(), range(8)))
    assert len(threads._threads) == 5 * COMPILES
