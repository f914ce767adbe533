"""python -m tests.bench [NAME ...] [--rounds N] [--condition C] [--json FILE]: this project beside its peers.

Absolute times drift, so a figure is a ratio of medians over rounds in which all contenders take their turn, each in a
process of its own: see tests/bench/contest.py. Peers come with the oracle extra; one that is not available is named.
"""
import argparse
import json
import os
import platform
from importlib import metadata
from pathlib import Path

from . import diffusion, family, linear, paradigms, processes, steps, variant_steps, variants
from .contest import AVX2, CONDITIONS, Contest

PACKAGES = "numpy", "numba", "jax", "torch", "scikit-learn"
# Variables that change what a contender does.
VARIABLES = (*AVX2, "AUTOGRAD_PLAIN", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_DISABLE_JIT")
MODULES = steps, processes, linear, family, variant_steps, diffusion, variants, paradigms
BENCHES = {f.__name__: f for module in MODULES for f in getattr(module, "BENCHES", ())}
SLOW = {f.__name__: f for module in MODULES for f in getattr(module, "SLOW", ())}


def machine():
    """The processor's name, the cores that this process may use, the widest vector extension, and the load."""
    try:
        facts = dict(line.split(":", 1) for line in Path("/proc/cpuinfo").read_text().splitlines() if ":" in line)
    except OSError:
        facts = {}
    facts = {key.strip(): value.strip() for key, value in facts.items()}
    flags = facts.get("flags", facts.get("Features", "")).split()
    extensions = {"avx512f": "AVX-512", "avx2": "AVX2", "avx": "AVX", "sve": "SVE", "asimd": "NEON"}
    widest = next((extensions[flag] for flag in extensions if flag in flags), "unknown vectors")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    load = f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "unknown"
    return (f"{facts.get('model name') or platform.processor() or platform.machine()}, "
            f"family {facts.get('cpu family', '?')}, model {facts.get('model', '?')}; cores: {cores}; {widest}; "
            f"load before the run: {load}")


def versions():
    found = []
    for package in PACKAGES:
        try:
            found.append(f"{package} {metadata.version(package)}")
        except metadata.PackageNotFoundError:
            found.append(f"no {package}")
    return ", ".join(found)


def report(what, value, target, detail="", unit=""):
    """Print a row of the table; returns it for the JSON file."""
    verdict = "ok" if value <= target else "MISSED"
    print(f"{what:58} {value:8.2f} {unit:4} <= {target:<6g} {verdict:7} {detail}", flush=True)
    return {"what": what, "value": value, "target": target, "unit": unit, "detail": detail}


def main():
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    conditional = {f.__name__: f for f in steps.CONDITIONAL}
    parser.add_argument("names", nargs="*",
                        help=f"which (default: all of {', '.join(BENCHES)}); and the slow {', '.join(SLOW)}")
    parser.add_argument("--rounds", type=int, default=9, help="turns that each contender takes (default: %(default)s)")
    parser.add_argument("--condition", choices=CONDITIONS, default="idle",
                        help="; ".join(f"{name}: {what}" for name, what in CONDITIONS.items())
                        + f"; all but idle are for {', '.join(conditional)} (default: %(default)s)")
    parser.add_argument("--json", type=Path, help="write the table to this file, too")
    args = parser.parse_args()
    known = BENCHES | SLOW if args.condition == "idle" else conditional
    for name in args.names:
        if name not in known:
            parser.error(f"there is no bench {name!r} under the condition {args.condition}: choose from "
                         f"{', '.join(known)}")
    if args.rounds < 1:
        parser.error(f"--rounds is {args.rounds}: at least 1 is needed")
    rows = []
    with Contest(args.rounds, args.condition) as contest:
        print(f"{machine()}\n{versions()}\ncondition: {args.condition}, {CONDITIONS[args.condition]}")
        for name in VARIABLES:
            if name in os.environ:
                print(f"note: {name}={os.environ[name]}")
        for name in args.names or (BENCHES if args.condition == "idle" else conditional):
            print(f"\n{name}", flush=True)
            rows += [report(*row) for row in known[name](contest)]
            if args.json:
                args.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
