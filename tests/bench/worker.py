"""One contender in a process of its own: python -m tests.bench.worker MODULE:FUNCTION ARGUMENTS.

ARGUMENTS is a JSON list. FUNCTION takes them and returns the step to be timed, a function without arguments. The
process builds the step, calls it a few times, so that everything is compiled, and writes a line about it. After that,
each line on the standard input is a number of seconds: the process times the step for so long, and writes the result.
All lines that it writes are JSON.

A step may have two attributes. `parameters` is the size of the model. A step that has it returns the loss, and both are
compared with the peers'. `calls` says how many training steps one call makes, if it is not one.
"""
import ctypes
import gc
import importlib
import json
import os
import signal
import sys
import time
from pathlib import Path

WARM_UP_CALLS, WARM_UP_SECONDS = 5, 3.0
BUSY_SHARE = 0.05                            # a thread that computes for less of the time is not counted
PR_SET_PDEATHSIG = 1                         # prctl(2), sys/prctl.h


def thread_times():
    """The nanoseconds that each thread of this process has computed; none where the system does not tell."""
    times = {}
    for path in Path("/proc/self/task").glob("*/schedstat"):
        try:
            times[path.parent.name] = int(path.read_text().split()[0])
        except OSError:                                            # the thread has just ended
            pass
    return times


def timed(step, seconds):
    """The mean time of a training step during so many seconds, and the number of threads that took part."""
    end = time.perf_counter() + seconds / 4                        # this process was asleep: its caches are cold
    step()
    while time.perf_counter() < end:
        step()
    before, calls, begin = thread_times(), 0, time.perf_counter()
    while not calls or time.perf_counter() < begin + seconds:
        step()
        calls += 1
    spent = time.perf_counter() - begin
    threads = sum(after - before.get(thread, 0) > BUSY_SHARE * spent * 1e9 for thread, after in thread_times().items())
    return {"seconds": spent / calls / getattr(step, "calls", 1), "threads": threads}


def build(maker, arguments):
    """The step, and what is known of it."""
    module, function = maker.split(":")
    step = getattr(importlib.import_module(module), function)(*arguments)
    end, first = time.perf_counter() + WARM_UP_SECONDS, step()
    for _ in range(WARM_UP_CALLS - 1):
        if time.perf_counter() < end:
            step()
    if not hasattr(step, "parameters"):
        return step, {"parameters": None}
    return step, {"parameters": step.parameters, "loss": float(first.item())}


def main():
    if sys.platform == "linux":                                    # end with the parent, even if it is killed
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)                                                  # whatever else is printed is not an answer

    def answer(values):
        print(json.dumps(values), file=answers, flush=True)
    try:
        step, facts = build(sys.argv[1], json.loads(sys.argv[2]))
    except Exception as error:
        answer({"error": f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"})
        return
    gc.collect()
    gc.freeze()                                                    # the collector need not visit the packages' objects
    answer(facts)
    for line in sys.stdin:
        answer(timed(step, float(line)))


if __name__ == "__main__":
    main()
