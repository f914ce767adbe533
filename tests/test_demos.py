"""Every demo runs, draws its figures and judges itself; the list names them all."""
import os
import subprocess
import sys

import pytest

from demos import FOLDER
from demos.__main__ import listing

from .ledger import ROOT

DEMOS = {"adversarial": ["codes.png", "game.png", "log_ratio.png", "samples.png"],
         "beta_vae": ["kl_per_latent.png", "rate_distortion.png", "tradeoff.png", "traversals.png"],
         "cvae": ["completion.png", "samples.png", "styles.png"],
         "diffusion": ["film.gif", "score.png", "steps.png", "there_and_back.png"],
         "diffusion_mnist": ["denoising.png", "run.npz", "samples.png"],
         "flows": ["energies.png", "posteriors.png", "samples.png"],
         "reproduce": sorted(["samples.png", "table.csv", *(f"{m}_quick_0.{end}" for m in (
             "vae-1", "vae-5", "iwae-5", "vae-50", "iwae-50") for end in ("npy", "npz"))]),
         "ppca": ["completed.png", "em_climb.png", "mixture.png", "noise_vanishes.png"],
         "vae": ["history_2.csv", "history_20.csv", "interpolation.png", "latent_space.png", "learning_curves.png",
                 "manifold.png", "reconstructions.png", "samples.png"],
         "variants": ["samples.png"],
         "vq_vae": ["codes.png", "reconstructions.png", "samples.png"],
         "hierarchical": ["kl_per_latent.png", "levels_ladder.png", "levels_stacked.png"],
         "inference": ["elbo_and_gap.png", "forward_and_reverse.png", "gradient_variance.png", "posterior.png"]}


def run(*args):
    return subprocess.run([sys.executable, *args], cwd=ROOT, capture_output=True, text=True, timeout=300)


def test_the_list_names_every_demo_and_its_time():
    assert set(DEMOS) == {path.stem for path in FOLDER.glob("[a-z]*.py")}
    assert all(any(line.split()[:1] == [name] and "min" in line for line in listing().splitlines()) for name in DEMOS)


@pytest.mark.parametrize("name", DEMOS)
def test_a_quick_demo_runs_and_judges_itself(name, tmp_path):
    done = run("-m", "demos", name, "--quick", "--out", str(tmp_path / "out"))
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == DEMOS[name]


@pytest.mark.parametrize("bounds", ["(1.0, 1e9)", "(1e9, 1.0)"])
def test_a_demo_that_misses_its_own_result_fails(tmp_path, bounds):
    source = (FOLDER / "vae.py").read_text()
    easier = source.replace("(155.0, 150.0)", bounds).replace("= 3, 10, digits[:10_000]", "= 1, 2, digits[:500]")
    assert easier.count(bounds) == 1
    (tmp_path / "vae.py").write_text(easier)
    done = subprocess.run([sys.executable, str(tmp_path / "vae.py"), "--quick", "--out", str(tmp_path)], cwd=ROOT,
                          capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert done.returncode == 1 and "AssertionError" in done.stderr and "> 1.0 nats" in done.stderr


def test_a_demo_fits_on_two_screens():
    assert all(len((FOLDER / f"{name}.py").read_text().splitlines()) <= 90 for name in DEMOS)


@pytest.mark.parametrize("args, message", [(["vea"], "no demo 'vea'"), (["vae", "--fast"], "--fast"),
                                           (["vae", "--seed", "-1"], "negative"), (["../vae"], "no demo"),
                                           (["vae", "--out", "/proc/vae"], "--out /proc/vae")])
def test_an_unknown_name_or_option_is_one_clear_error(args, message):
    done = run("-m", "demos", *args)
    assert done.returncode == 2 and message in done.stderr and "Traceback" not in done.stderr


def test_importing_minivae_loads_no_matplotlib_and_compiles_nothing():
    code = ("import sys, minivae.vae, minivae.data, minivae.train, autograd.kernels as k; "
            "print('matplotlib' in sys.modules, len(k.adam.overloads) if hasattr(k.adam, 'overloads') else 0)")
    assert run("-c", code).stdout.split() == ["False", "0"]
