"""Benches that start processes of their own: imports, compilation, memory, and runs that are killed.

Each function takes a Contest, and returns rows: what, value, target, detail, unit. Memory is read from /proc, so on
Linux only.
"""
import contextlib
import io
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from ..ledger import ROOT


def child(code, **env):
    """Run Python code in a process of its own; returns what it prints, as numbers."""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env={**os.environ, **env}, capture_output=True,
                          text=True)
    if done.returncode:
        raise RuntimeError((done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1])
    return [float(v) for v in done.stdout.split()]


def imports(contest):
    """Seconds that `import minivae` takes over `import numba`, and whether it loads matplotlib."""
    clock = ("import time, sys; t = time.perf_counter(); import {};"
             "print(time.perf_counter() - t, 'matplotlib' in sys.modules)")
    times = {"numba": [], "numba, minivae.vae, minivae.data, minivae.train": []}
    for _ in range(max(contest.rounds, 5)):
        for what in times:
            out = subprocess.run([sys.executable, "-c", clock.format(what)], cwd=ROOT, capture_output=True,
                                 text=True).stdout
            times[what].append(float(out.split()[0]))
    floor, whole = (statistics.median(t) for t in times.values())
    return [("import minivae, over import numba", whole - floor, 0.2,
             f"{whole:.2f} - {floor:.2f} s; matplotlib loaded: {out.split()[1]}", "s")]


def compilation(contest):
    """Seconds that Numba compiles in the first run of the demo, and in the second, which finds the cache."""
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
    return [("compilation in the first run of the demo", first, 12, "", "s"),
            ("compilation in the second run", second, 0, "", "s")]


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
    "PyTorch": "from tests.bench.torch_peers import epoch\n"
               "run = epoch(784, 400, 20, 128); run(); run()\n"}

# What is imported, and the five steps of the U-Net after which the peak is read again.
UNET_MEMORY = {"ours": ("from tests.bench.ours import unet\n", "step = unet(64)\n"),
               "PyTorch": ("from tests.bench.denoisers import unet_step\n",
                           "step = unet_step(64, [1 - i / 1001 for i in range(1, 1001)])\n")}


def memory(contest):
    """The peak of two epochs of the demo's training."""
    peaks = {}
    for name, code in MEMORY.items():
        try:
            peaks[name], = child(code + PEAK)
        except RuntimeError as error:
            print(f"  without {name}: {error}")
    return [("peak memory of the MNIST training", peaks["ours"], 400,
             f"PyTorch: {peaks.get('PyTorch', np.nan):.0f} MB", "MB")]


def large_file(contest):
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
    return [("peak memory, training on 1,000,000 x 784 bytes on disk", peak, 600, "", "MB")]


def kills(contest):
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
    return [("runs killed 20 times that end in other weights", wrong, 0)]


def unet_memory(contest):
    """The peak of the U-Net's training step, beside PyTorch's."""
    peaks = {}
    for name, (imports, build) in UNET_MEMORY.items():
        try:
            peaks[name] = child(f"{imports}{PEAK}\n{build}for _ in range(5): step()\n{PEAK}")
        except RuntimeError as error:
            print(f"  without {name}: {error}")
    (before, after), (peer_before, peer_after) = peaks["ours"], peaks.get("PyTorch", [np.nan] * 2)
    return [("U-Net train step, peak memory: ours / PyTorch", after / peer_after, 1.0,
             f"{after:.0f} / {peer_after:.0f} MB, "
             f"without the imports {after - before:.0f} / {peer_after - peer_before:.0f}")]


BENCHES = imports, compilation, memory, unet_memory, large_file, kills
