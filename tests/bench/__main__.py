"""python -m tests.bench [NAME ...] [--rounds N] [--json FILE]: this project and its peers, in turn, within one run.

Absolute times drift, so every figure is a ratio of medians over rounds in which all contenders take their turn, and
each absolute target has its floor from the same run beside it. Peers come with the oracle extra; what is lacking is
said. Memory is read from /proc, so on Linux only.
"""
import argparse
import contextlib
import gc
import io
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from minivae.data import Batches, mnist, sprites

from ..ledger import ROOT
from . import convolution, diffusion, family, paradigms, peers, variants
from . import linear as linear_models

ROWS = []


def row(what, value, target, detail="", unit=""):
    """Enter a figure in the table, and print it at once."""
    ROWS.append({"what": what, "value": value, "target": target, "unit": unit, "detail": detail})
    verdict = "ok" if value <= target else "MISSED"
    print(f"{what:58} {value:8.2f} {unit:4} <= {target:<6g} {verdict:7} {detail}", flush=True)


def medians(contenders, rounds, seconds=0.25):
    """The median time of one call of each, all taking turns; `seconds` is how long a turn lasts."""
    times = {name: [] for name in contenders}
    for name, f in contenders.items():
        for _ in range(5):
            f()
    gc.collect()
    gc.freeze()                                                    # what the packages left is nobody's garbage
    for _ in range(rounds):
        for name, f in contenders.items():
            end = time.perf_counter() + seconds
            while time.perf_counter() < end:
                start = time.perf_counter()
                f()
                times[name].append(time.perf_counter() - start)
    return {name: statistics.median(t) for name, t in times.items()}


def available(makers, *args):
    """The contenders whose packages are there."""
    found = {}
    for name, make in makers.items():
        try:
            found[name] = make(*args)
            found[name]()
        except Exception as error:
            found.pop(name, None)
            print(f"  without {name}: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}")
    return found


def ratios(what, medians, targets, scale=1e3, unit="ms"):
    for peer, target in targets.items():
        if peer in medians:
            row(f"{what}: ours / {peer}", medians["ours"] / medians[peer], target,
                f"{medians['ours'] * scale:.3g} / {medians[peer] * scale:.3g} {unit}")


def step(rounds):
    x = (np.random.default_rng(0).random((128, 784)) < 0.13).astype(np.float32)
    makers = {"ours": peers.ours, "bare GEMMs": peers.gemms, "JAX jit": peers.jax, "PyTorch eager": peers.torch,
              "torch.compile": peers.compiled}
    ratios("train step 784-400-20, batch 128", medians(available(makers, 784, 400, 20, x), rounds),
           {"bare GEMMs": 1.3, "JAX jit": 1.0, "PyTorch eager": 0.5, "torch.compile": 0.7})


def small_step(rounds):
    x = (np.random.default_rng(0).random((20, 784)) < 0.13).astype(np.float32)
    makers = {"ours": peers.ours, "JAX jit": peers.jax, "PyTorch eager": peers.torch}
    ratios("train step 784-200-50, batch 20", medians(available(makers, 784, 200, 50, x), rounds),
           {"JAX jit": 1.0, "PyTorch eager": 0.4})


def chain(rounds):
    contenders = peers.chain()
    found = available({name: lambda f=f: f for name, f in contenders.items()})
    ratios("one op, forward and backward", medians(found, rounds), {"PyTorch": 0.8, "bare NumPy": 2.5},
           scale=1e6 / 5000, unit="us")


def epochs(rounds):
    """Ten epochs of the demo's training, an epoch of each in turn."""
    batches, rng = Batches(mnist("train").images, 128, binarise=True), np.random.default_rng(0)
    x = next(batches(rng))
    found = available({"ours": peers.ours, "PyTorch eager": peers.torch}, 784, 400, 20, x)
    times = {name: [] for name in found}
    for _ in range(10):
        for name, f in found.items():
            start = time.perf_counter()
            for x in batches(rng):
                f(x)
            times[name].append(time.perf_counter() - start)
    ratios("10 epochs of the demo's training", {k: 10 * statistics.median(t) for k, t in times.items()},
           {"PyTorch eager": 0.5}, scale=1, unit="s")


def child(code, **env):
    """Run Python code in a process of its own; returns what it prints, as numbers."""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env={**os.environ, **env}, capture_output=True,
                          text=True)
    if done.returncode:
        raise RuntimeError((done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1])
    return [float(v) for v in done.stdout.split()]


def imports(rounds):
    """Seconds that `import minivae` takes over `import numba`, and whether it loads matplotlib."""
    clock = ("import time, sys; t = time.perf_counter(); import {};"
             "print(time.perf_counter() - t, 'matplotlib' in sys.modules)")
    times = {"numba": [], "numba, minivae.vae, minivae.data, minivae.train": []}
    for _ in range(max(rounds, 5)):
        for what in times:
            out = subprocess.run([sys.executable, "-c", clock.format(what)], cwd=ROOT, capture_output=True,
                                 text=True).stdout
            times[what].append(float(out.split()[0]))
    floor, whole = (statistics.median(t) for t in times.values())
    row("import minivae, over import numba", whole - floor, 0.2, f"{whole:.2f} - {floor:.2f} s; matplotlib loaded: "
        f"{out.split()[1]}", "s")


def compilation(rounds):
    code = ("import io, contextlib, runpy, sys; from numba.core import event\n"
            "with contextlib.redirect_stdout(io.StringIO()), event.install_recorder('numba:compile') as r:\n"
            "    sys.argv = ['vae.py', '--quick', '--out', {!r}]; runpy.run_module('demos.vae', run_name='__main__')\n"
            "open_, total = [], 0.0\n"
            "for t, e in r.buffer:\n"
            "    if e.is_start: open_.append(t)\n"
            "    elif open_: start = open_.pop(); total += (t - start) * (not open_)\n"
            "print(total)")
    with tempfile.TemporaryDirectory() as folder:
        first, second = (child(code.format(folder), NUMBA_CACHE_DIR=folder)[0] for _ in range(2))
    row("compilation in the first run of the demo", first, 12, unit="s")
    row("compilation in the second run", second, 0, unit="s")


# The peak of this process in MB. Not ru_maxrss, which a child inherits from the process that started it.
PEAK = "print(int(open('/proc/self/status').read().split('VmHWM:')[1].split()[0]) / 1024)"
MEMORY = {
    "ours": "import numpy as np; from autograd import optim; from minivae.vae import VAE\n"
            "from minivae.train import fit; import io, contextlib; from minivae.data import Batches, mnist\n"
            "rng = np.random.default_rng(0)\n"
            "model = VAE(784, 20, (400,), rng=rng)\n"
            "with contextlib.redirect_stdout(io.StringIO()):\n"
            "    fit(model, Batches(mnist('train').images, 128, binarise=True), epochs=2,\n"
            "        optimizer=optim.Adam(model.parameters(), 1e-3), rng=rng)\n",
    "PyTorch": "import numpy as np; from minivae.data import Batches, mnist; from tests.bench import peers\n"
               "rng = np.random.default_rng(0); batches = Batches(mnist('train').images, 128, binarise=True)\n"
               "step = peers.torch(784, 400, 20, next(batches(rng)))\n"
               "for _ in range(2):\n"
               "    for x in batches(rng): step(x)\n"}


def memory(rounds):
    peaks = {}
    for name, code in MEMORY.items():
        try:
            peaks[name], = child(code + PEAK)
        except RuntimeError as error:
            print(f"  without {name}: {error}")
    row("peak memory of the MNIST training", peaks["ours"], 400,
        f"PyTorch: {peaks.get('PyTorch', float('nan')):.0f} MB", "MB")


def large_file(rounds):
    """One epoch over a million examples on disk."""
    code = ("import io, contextlib, sys; from minivae.__main__ import main\n"
            "with contextlib.redirect_stdout(io.StringIO()):\n"
            "    assert main(['train', 'vae', '--data', {0!r} + '/x.npy', '--out', {0!r} + '/run', '--epochs', '1',\n"
            "                 '--hidden', '32', '--latent-dim', '4', '--batch-size', '512']) == 0\n")
    with tempfile.TemporaryDirectory() as folder:
        rng = np.random.default_rng(0)
        with open(f"{folder}/x.npy", "wb") as file:
            np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": (10**6, 784)})
            for _ in range(100):
                file.write(rng.bytes(10**4 * 784))
        peak, = child(code.format(folder) + PEAK)
    row("peak memory, training on 1,000,000 x 784 bytes on disk", peak, 600, unit="MB")


def kills(rounds):
    """Twenty kills at random moments: how many runs did not end in the weights of the run that was never killed?"""
    from ..minivae.test_checkpoint import everything, same, setup
    from minivae.train import fit
    rng, wrong = np.random.default_rng(0), 0
    script = ("import sys, minivae.train as t; from tests.minivae.test_checkpoint import setup; run = setup();"
              "t.fit(**run, epochs=400, checkpoint=sys.argv[1], every=0, resume=True)")
    whole = setup()
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        fit(**whole, epochs=400)
        path = Path(folder) / "run.npz"
        done = 0
        while done < 20:
            process = subprocess.Popen([sys.executable, "-c", script, str(path)], cwd=ROOT, stdout=subprocess.DEVNULL)
            time.sleep(rng.uniform(0.8, 2.0))
            process.send_signal(signal.SIGKILL)
            if process.wait() not in (0, -signal.SIGKILL):
                raise RuntimeError(f"a run ended by itself with exit code {process.returncode}")
            done += process.returncode == -signal.SIGKILL
            if process.returncode == 0:                            # it came to its end: compare, and begin again
                resumed = setup()
                fit(**resumed, epochs=400, checkpoint=path, resume=True)
                wrong += not same(everything(whole), everything(resumed))
                path.unlink()
        resumed = setup()
        fit(**resumed, epochs=400, checkpoint=path, resume=True)
        wrong += not same(everything(whole), everything(resumed))
    row("runs killed 20 times that end in other weights", wrong, 0)


def table(benches, doc):
    """A bench that enters the rows which `benches` return."""
    def run(rounds):
        for bench in benches:
            for figures in bench(rounds, medians):
                row(*figures)
    run.__doc__ = doc
    return run


def drawing(rounds):
    """Sprites a second, in batches of 64."""
    rng, s = np.random.default_rng(0), sprites(64)
    each = medians({"ours": lambda: s.batch(64, rng)}, rounds)["ours"] / 64
    row("time to draw a sprite of 64 x 64, over 1/5,000 s", each * 5000, 1, f"{1 / each:,.0f} a second")


BENCHES = {f.__name__: f for f in (step, small_step, chain, epochs, imports, compilation, memory, large_file, kills,
                                   drawing)}
BENCHES["linear"] = table(linear_models.BENCHES, "The linear models, beside scikit-learn and the NumPy calls they use.")
BENCHES["variants"] = table([family.variants], "A step of each variant of the VAE, beside the VAE's.")
BENCHES |= {f.__name__: table([f], f.__doc__) for f in (*convolution.BENCHES, *diffusion.BENCHES, *variants.BENCHES)}
SLOW = {f.__name__: table([f], f.__doc__) for f in (family.conditional, family.completion, family.untangling,
                                                    diffusion.toys, diffusion.digits, paradigms.made,
                                                    *variants.SLOW)}


def main():
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*",
                        help=f"which (default: all of {', '.join(BENCHES)}); and the slow {', '.join(SLOW)}")
    parser.add_argument("--rounds", type=int, default=7, help="turns that each contender takes (default: %(default)s)")
    parser.add_argument("--json", type=Path, help="write the table to this file, too")
    args = parser.parse_args()
    for name in args.names:
        if name not in BENCHES | SLOW:
            parser.error(f"there is no bench {name!r}: choose from {', '.join(BENCHES | SLOW)}")
    if "OPENBLAS_CORETYPE" in os.environ:
        print(f"note: OPENBLAS_CORETYPE={os.environ['OPENBLAS_CORETYPE']} holds NumPy's BLAS to that type's kernels")
    for name in args.names or BENCHES:
        (BENCHES | SLOW)[name](args.rounds)
    if args.json:
        args.json.write_text(json.dumps(ROWS, indent=1))


if __name__ == "__main__":
    main()
