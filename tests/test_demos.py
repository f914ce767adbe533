"""Every demo runs, draws its figures and judges itself; the list names them all."""
import os
import subprocess
import sys

import numpy as np
import pytest
from matplotlib.image import imread, imsave

from demos import FOLDER
from demos.__main__ import listing

from .ledger import ROOT

DEMOS = {"adversarial": ["codes.png", "game.png", "log_ratio.png", "samples.png"],
         "beta_vae": ["kl_per_latent.png", "rate_distortion.png", "tradeoff.png", "traversals.png"],
         "cvae": ["completion.png", "samples.png", "styles.png"],
         "diffusion": ["film.gif", "score.png", "steps.png", "there_and_back.png"],
         "diffusion_mnist": ["denoising.png", "run.npz", "samples.png"],
         "explore": ["explorer.png"],
         "flows": ["energies.png", "posteriors.png", "samples.png"],
         "paradigms": ["paradigms.png"],
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
    assert all(any(line.split()[:1] == [name] and "min" in line for line in listing().splitlines())
               for name in DEMOS)


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


@pytest.mark.parametrize("code, exit_code, message", [("", 0, "ok"), ("raise ValueError('no')", 1, "failed: two")])
def test_all_runs_each_and_fails_if_any_does(tmp_path, code, exit_code, message):
    (tmp_path / "demos").mkdir()
    for path in (FOLDER / "__init__.py", FOLDER / "__main__.py"):
        (tmp_path / "demos" / path.name).write_text(path.read_text())
    for name, text in (("one", ""), ("two", code)):
        (tmp_path / "demos" / f"{name}.py").write_text(
            f"from demos import options\nargs = options({name!r})\n{text}\n(args.out / str(args.quick)).touch()")
    done = subprocess.run([sys.executable, "-m", "demos", "all", "--quick", "--out", "here"], cwd=tmp_path, text=True,
                          capture_output=True)
    assert done.returncode == exit_code, done.stderr
    one, two, *more, last = done.stdout.splitlines()
    assert one.split()[::3] == ["one", "ok"] and two.split()[::3] == ["two", "failed" if code else "ok"]
    assert message in last and any("ValueError: no" in line for line in more) == bool(code)
    assert (tmp_path / "here" / "one" / "True").exists()


def test_the_gallery_cuts_small_pictures_of_one_size_from_figures_that_the_demos_draw(tmp_path):
    from demos.gallery.__main__ import PICTURES, small
    for figure, part in PICTURES.values():
        demo, _, name = figure.partition("/")
        assert name in DEMOS.get(demo, [name]) and min(part) >= 0 and part[0] + part[2] <= 1 >= part[1] + part[3]
    picture = np.ones((60, 80, 4), np.float32)
    picture[30:, 40:, :3] = 0                                      # the lower right quarter is black
    imsave(tmp_path / "x.png", picture)
    for part, value in (((0.5, 0.5, 0.5, 0.5), 0), ((0, 0.5, 0.5, 0.5), 255), ((0.5, 0, 0.5, 0.5), 255)):
        pixels = small(tmp_path / "x.png", part)
        assert pixels.shape == (240, 320, 3) and pixels.dtype == np.uint8 and np.all(pixels[5:-5, 5:-5] == value)
    for path in (FOLDER / "gallery").glob("*.png"):
        assert path.stem in PICTURES and path.stat().st_size < 60_000 and imread(path).shape[:2] == (240, 320)


def test_importing_minivae_loads_no_matplotlib_and_compiles_nothing():
    code = ("import sys, minivae.vae, minivae.data, minivae.train; from autograd.floors import FAST; "
            "print('matplotlib' in sys.modules, len(FAST.loops.adam.overloads) if FAST else 0)")
    assert run("-c", code).stdout.split() == ["False", "0"]
