"""How contenders are compared: each in its own process, in turn, over several rounds.

In one process, the threads and the allocators of the packages disturb each other. So each contender has a process,
`tests.bench.worker`, which lives through all rounds: compilation is paid once, and each turn begins with a warm
program. A contender that waits for its turn is stopped by SIGSTOP. Therefore no thread of it can spin, and no pause is
needed for its threads to fall asleep.

A round gives each contender one turn, and every second round has the reverse order. A turn's figure is the mean time of
a training step, because JAX returns before a step is done and only many steps together can be timed. A contender's
figure is the median over its turns, and a row of the report is a ratio of two contenders' figures.
"""
import json
import os
import signal
import statistics
import subprocess
import sys
from contextlib import ExitStack

from ..ledger import ROOT

PEER = "fastest peer"                        # in a target: the fastest of all contenders whose names begin so
PEERS = ("JAX", "PyTorch", "torch.compile", "scikit-learn")
CONDITIONS = {"idle": "nothing else runs", "one-core": "every contender is held to one core",
              "busy": "a neighbour computes on one of the cores", "avx2": "no contender uses wider vectors than AVX2"}
AVX2 = {"NUMBA_CPU_NAME": "haswell", "OPENBLAS_CORETYPE": "Haswell", "ATEN_CPU_CAPABILITY": "avx2",
        "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_ENABLE_INSTRUCTIONS": "AVX2", "XLA_FLAGS": "--xla_cpu_max_isa=AVX2"}
# The neighbour ends with the process that started it, even if that is killed.
NEIGHBOUR = "import os; parent = os.getppid()\nwhile os.getppid() == parent: pass"
# By default glibc returns the memory of large arrays to the system at each step. `autograd` tells it to keep them, and
# the peers get the same advantage.
KEEP_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(2 ** 25), "MALLOC_TRIM_THRESHOLD_": str(2 ** 31 - 1)}


def contender(maker, *arguments, **env):
    """What is to be timed: "module:function" of tests.bench, its arguments, and variables of the environment."""
    return f"tests.bench.{maker}", arguments, env


class Worker:
    """The process of one contender. It is stopped unless it answers."""

    def __init__(self, maker, arguments, env):
        shared = {"TORCHINDUCTOR_COMPILE_THREADS": "1"}            # otherwise torch.compile has processes of its own
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.bench.worker", maker, json.dumps(arguments)], cwd=ROOT, text=True,
            env={**os.environ, **shared, **env}, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL)
        self.threads = 0

    def __enter__(self):
        self.facts = self.answer()
        return self

    def __exit__(self, *error):
        self.process.kill()
        self.process.communicate()

    def answer(self):
        line = self.process.stdout.readline()
        if not line:
            return {"error": f"the process ended with exit code {self.process.wait()}"}
        self.process.send_signal(signal.SIGSTOP)
        return json.loads(line)

    def turn(self, seconds):
        """The mean time of a training step, in seconds."""
        self.process.send_signal(signal.SIGCONT)
        self.process.stdin.write(f"{seconds}\n")
        self.process.stdin.flush()
        found = self.answer()
        if "error" in found:
            raise RuntimeError(found["error"])
        self.threads = max(self.threads, found["threads"])
        return found["seconds"]


class Contest:
    """Comparisons of so many rounds under one of CONDITIONS; to be used as a context."""

    def __init__(self, rounds, condition="idle"):
        self.rounds, self.condition, self.neighbour = rounds, condition, None

    def __enter__(self):
        cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
        if self.condition == "one-core":
            os.sched_setaffinity(0, cores[-1:])                    # child processes inherit it
        elif self.condition == "avx2":
            os.environ.update({**AVX2, "XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} {AVX2['XLA_FLAGS']}".strip()})
        elif self.condition == "busy":
            self.neighbour = subprocess.Popen([sys.executable, "-c", NEIGHBOUR])
            os.sched_setaffinity(self.neighbour.pid, cores[-1:])
        return self

    def __exit__(self, *error):
        if self.neighbour:
            self.neighbour.kill()
            self.neighbour.wait()

    def medians(self, contenders, seconds=0.25, rounds=None):
        """The time of a training step of each contender that is available; `seconds` is how long a turn lasts."""
        with ExitStack() as stack:
            workers = {}
            for name, (maker, arguments, env) in contenders.items():
                memory = KEEP_MEMORY if name.startswith(PEERS) else {}
                worker = stack.enter_context(Worker(maker, arguments, {**memory, **env}))
                if "error" not in worker.facts:
                    workers[name] = worker
                elif name.startswith("ours"):
                    raise RuntimeError(f"{name}: {worker.facts['error']}")
                else:
                    print(f"  without {name}: {worker.facts['error']}", flush=True)
            check_same_work({name: worker.facts for name, worker in workers.items()})
            times = {name: [] for name in workers}
            for i in range(rounds or self.rounds):
                for name in list(workers)[::1 if i % 2 == 0 else -1]:
                    times[name].append(workers[name].turn(seconds))
            print("  threads: " + ", ".join(f"{name} {worker.threads}" for name, worker in workers.items()), flush=True)
        return {name: statistics.median(turns) for name, turns in times.items()}

    def compare(self, what, contenders, targets, scale=1e3, unit="ms", **options):
        """Rows of the report: what, ratio, target, detail. `targets` are triples: a name, a name or PEER, the target.

        `scale` turns seconds into `unit`s. Under a condition the one target is to be as fast as the fastest peer.
        """
        if self.condition != "idle":
            contenders = {name: c for name, c in contenders.items() if name == "ours" or name.startswith(PEERS)}
            targets = [("ours", PEER, 1.0)]
        times, rows = self.medians(contenders, **options), []
        for name, other, target in targets:
            label = other
            if other == PEER:
                other = min((peer for peer in times if peer.startswith(PEERS)), key=times.get, default=None)
                label = f"{PEER}, {other}"
            if other in times:
                rows.append((f"{what}: {name} / {label}", times[name] / times[other], target,
                             f"{times[name] * scale:.3g} / {times[other] * scale:.3g} {unit}"))
        rest = ", ".join(f"{name} {seconds * scale:.3g}" for name, seconds in times.items())
        print(f"  {unit}: {rest}", flush=True)
        return rows


def check_same_work(facts):
    """The peers' models must have as many parameters as ours, and losses of about the size of ours before training."""
    known = {name: fact for name, fact in facts.items() if fact["parameters"]}
    ours = known.get("ours")
    for name, fact in known.items() if ours else ():
        if fact["parameters"] != ours["parameters"]:
            raise RuntimeError(f"{name} has {fact['parameters']:,} parameters, ours {ours['parameters']:,}")
        if not 0.7 < fact["loss"] / ours["loss"] < 1.4:
            raise RuntimeError(f"the loss of {name} begins at {fact['loss']:.4g}, ours at {ours['loss']:.4g}")
