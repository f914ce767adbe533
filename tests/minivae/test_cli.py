"""The command line: train, stop, resume, evaluate, sample; and one clear line for whatever is wrong."""
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from minivae import checkpoint, runs
from minivae.__main__ import main
from minivae.data.batches import as_floats
from minivae.files import locked
from minivae.vae import VAE

from ..ledger import ROOT


@pytest.fixture
def data(tmp_path, rng):
    path = tmp_path / "data.npy"
    np.save(path, rng.integers(0, 256, (64, 5, 4), np.uint8))
    return path


def train(data, out, *more):
    return main(["train", "vae", "--data", str(data), "--out", str(out), "--hidden", "8", "--latent-dim", "2",
                 "--batch-size", "16", *more])


def refused(capsys, message):
    """Whether stderr holds one line, an error with this message."""
    lines = capsys.readouterr().err.strip().splitlines()
    return len(lines) == 1 and lines[0].startswith("error: ") and message in lines[0]


def test_train_evaluate_sample(data, tmp_path, capsys):
    out = tmp_path / "run"
    assert train(data, out, "--epochs", "2") == 0
    assert sorted(path.name for path in out.iterdir()) == ["checkpoint.npz", "history.csv"]
    assert main(["evaluate", str(out), "--samples", "3"]) == 0
    assert "64 examples" in (text := capsys.readouterr().out) and "-ln p(x) <=" in text
    assert main(["sample", str(out), "--n", "7", "--out", str(tmp_path / "s.npy")]) == 0
    assert np.load(tmp_path / "s.npy").shape == (7, 20)
    assert main(["sample", str(out), "--n", "7", "--out", str(tmp_path / "s.png")]) == 0
    assert (tmp_path / "s.png").read_bytes()[1:4] == b"PNG"


def test_evaluate_prints_what_the_model_says(data, tmp_path, capsys):
    assert train(data, tmp_path / "run", "--epochs", "1") == 0
    capsys.readouterr()
    assert main(["evaluate", str(tmp_path / "run"), "--samples", "50"]) == 0
    printed = r"-ELBO +(\S+)  = KL (\S+) - recon (\S+)\n-ln p\(x\) <= *(\S+)  \+- (\S+), with 50"
    elbo, kl, recon, nll, error = map(float, re.search(printed, capsys.readouterr().out).groups())
    model = VAE(20, 2, (8,), rng=np.random.default_rng(0))
    model.load_state(checkpoint.load(tmp_path / "run" / "checkpoint.npz").part("model"))
    x = as_floats(np.load(data)).reshape(64, 20)
    assert kl == pytest.approx(model.encode(x).kl().data.mean(), abs=1e-3)
    assert elbo == pytest.approx(kl - recon, abs=2e-3) and recon < 0 < nll <= elbo + 0.1
    expected = -model.log_likelihood(x, 2000, np.random.default_rng(1))
    assert nll == pytest.approx(expected.mean(), abs=0.05) and error == pytest.approx(expected.std() / 8, abs=0.02)


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".csv"])
def test_every_kind_of_file_trains_the_same(tmp_path, rng, suffix):
    x, path = rng.random((40, 6), np.float32).round(3), tmp_path / f"x{suffix}"
    write = {".npy": np.save, ".npz": lambda p, x: np.savez(p, x=x),
             ".csv": lambda p, x: np.savetxt(p, x, delimiter=",")}
    write[suffix](path, x)
    reference = tmp_path / "reference.npy"
    np.save(reference, x)
    states = []
    for source, out in ((path, tmp_path / "a"), (reference, tmp_path / "b")):
        assert train(source, out, "--epochs", "1") == 0
        states.append(checkpoint.load(out / "checkpoint.npz").part("model"))
    assert all((states[0][k] == states[1][k]).all() for k in states[1])


def test_resume_goes_on_to_the_same_weights(data, tmp_path):
    for more in (["--epochs", "1"], ["--epochs", "3", "--resume"]):
        assert train(data, tmp_path / "parts", *more) == 0
    assert train(data, tmp_path / "whole", "--epochs", "3") == 0
    a, b = (checkpoint.load(tmp_path / name / "checkpoint.npz").arrays for name in ("parts", "whole"))
    assert all((a[k] == b[k]).all() for k in a)


def test_a_run_is_never_overwritten_nor_mixed_with_another(data, tmp_path, capsys, rng):
    out = tmp_path / "run"
    assert train(data, out, "--epochs", "1") == 0
    before = (out / "checkpoint.npz").read_bytes()
    other = tmp_path / "other.npy"
    np.save(other, rng.integers(0, 256, (64, 5, 4), np.uint8))
    capsys.readouterr()
    for more, source, message in (([], data, "holds a run already"),
                                  (["--resume", "--seed", "1"], data, "seed = 0, not 1"),
                                  (["--resume", "--lr", "0.1"], data, "lr = 0.001, not 0.1"),
                                  (["--resume"], other, "does not hold the data")):
        assert train(source, out, "--epochs", "2", *more) == 1
        assert refused(capsys, message)
    np.save(data, np.load(other))
    assert train(data, out, "--epochs", "2", "--resume") == 1
    assert refused(capsys, "does not hold the data")
    assert (out / "checkpoint.npz").read_bytes() == before


def test_nothing_to_resume_is_an_error_that_leaves_nothing(data, tmp_path, capsys):
    assert train(data, tmp_path / "run", "--resume") == 1
    assert refused(capsys, "holds no run") and not (tmp_path / "run").exists()


@pytest.mark.parametrize("x, message", [
    (np.full((20, 4), np.nan, np.float32), "NaN or values outside [0, 1], first in row 0"),
    (np.eye(20) + 0.5, "first in row 0"),
    (np.zeros((8, 4), np.uint8), "at most 8, the number of examples"), (np.zeros((0, 4), np.uint8), "shape (0, 4)")])
def test_bad_data_is_one_line_and_leaves_no_run(tmp_path, capsys, x, message):
    np.save(tmp_path / "x.npy", x)
    assert train(tmp_path / "x.npy", tmp_path / "run") == 1
    assert refused(capsys, message) and not (tmp_path / "run" / "checkpoint.npz").exists()


def test_a_damaged_or_missing_run_is_one_line(data, tmp_path, capsys):
    out = tmp_path / "run"
    assert train(data, out, "--epochs", "1") == 0
    capsys.readouterr()
    (out / "checkpoint.npz").write_bytes((out / "checkpoint.npz").read_bytes()[:-200])
    for command in (["evaluate", str(out)], ["sample", str(out), "--out", str(tmp_path / "s.png")],
                    ["evaluate", str(tmp_path / "none")]):
        assert main(command) == 1
        assert refused(capsys, "checkpoint.npz: ")
    assert train(data, out, "--resume") == 1
    assert refused(capsys, "checkpoint.npz: ")


@pytest.mark.parametrize("change", [
    {"settings": None}, {"settings": ["data"]}, {"settings": {"beta": 1}}, {"settings": {"hidden": 3}}, {"model": []},
    {"model": "vea"}, {"shape": None}, {"shape": [64, "x"]}, {"settings": {"latent_dim": "x"}}])
def test_a_configuration_that_is_none_is_one_line(data, tmp_path, capsys, change):
    path = tmp_path / "run" / "checkpoint.npz"
    assert train(data, tmp_path / "run", "--epochs", "1") == 0
    header, arrays = checkpoint.load(path)
    header["config"] |= change
    np.savez(path, header=np.frombuffer(json.dumps(header).encode(), np.uint8), **arrays)
    capsys.readouterr()
    assert main(["evaluate", str(tmp_path / "run")]) == 1
    assert refused(capsys, "checkpoint.npz: ")


@pytest.mark.parametrize("command, message", [
    (["train", "vea", "--out", "x"], "invalid choice: 'vea'"), (["train", "vae"], "--out"), (["fly"], "invalid choice"),
    (["train", "vae", "--out", "x", "--epochs", "0"], "'0' is not a whole number from 1 up"),
    (["train", "vae", "--out", "x", "--lr", "nan"], "'nan' is not a number from 0 up"),
    (["train", "vae", "--out", "x", "--variance", "-1"], "'-1' is not a positive number or 'learned'"),
    (["train", "vae", "--out", "x", "--frobnicate"], "--frobnicate"), ([], "required")])
def test_unknown_words_are_refused_with_the_choices(capsys, command, message):
    with pytest.raises(SystemExit) as stop:
        main(command)
    assert stop.value.code == 2 and message in capsys.readouterr().err


def test_help_teaches(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    text = capsys.readouterr().out
    assert "examples:" in text and "--resume" in text and "evaluate" in text


def test_a_folder_that_cannot_be_written_is_one_line(data, capsys):
    assert train(data, "/proc/run") == 1
    assert refused(capsys, "/proc/run")


def test_ctrl_c_leaves_a_run_that_goes_on(data, tmp_path):
    out = tmp_path / "run"
    command = [sys.executable, "-m", "minivae", "train", "vae", "--data", str(data), "--out", str(out), "--epochs",
               "100000",
               "--hidden", "8", "--latent-dim", "2", "--batch-size", "16"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    while not (out / "checkpoint.npz").exists():
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130 and "--resume" in err and "Traceback" not in err
    t = checkpoint.load(out / "checkpoint.npz").header["position"]["t"]
    assert t > 0 and f"step {t};" in err


def test_a_full_disk_ends_in_one_line_with_the_checkpoint_before_intact(data, tmp_path):
    """RLIMIT_FSIZE stands in for the full disk: writing past it fails in the same way."""
    out = tmp_path / "run"
    assert train(data, out, "--epochs", "1") == 0
    before = (out / "checkpoint.npz").read_bytes()
    code = (f"import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
            f"resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000)); from minivae.__main__ import main;"
            f"sys.exit(main(['train', 'vae', '--data', {str(data)!r}, '--out', {str(out)!r}, '--epochs', '2', "
            f"'--resume']))")
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True,
                          env={**os.environ, "NUMBA_CACHE_DIR": str(tmp_path / "cache")})
    assert done.returncode == 1 and len(done.stderr.strip().splitlines()) <= 1 + done.stderr.count("compil")
    assert "the checkpoint before is intact" in done.stderr and "Traceback" not in done.stderr
    assert (out / "checkpoint.npz").read_bytes() == before
    assert sorted(path.name for path in out.iterdir()) == ["checkpoint.npz", "history.csv"]


def test_two_processes_cannot_have_the_same_folder(data, tmp_path, capsys):
    with locked(tmp_path / "run"):
        assert train(data, tmp_path / "run") == 1
        assert refused(capsys, "in use by another process")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".checkpoint.npz.1.part").write_text("left by a kill")
    assert train(data, tmp_path / "run", "--epochs", "1") == 0
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["checkpoint.npz", "history.csv"]


def test_a_users_own_hidden_files_are_left_alone(data, tmp_path):
    for name in (".thesis.part", ".thesis.npz.1.part", ".checkpoint.npz.old.part"):
        (tmp_path / name).write_text("precious")
    before = sorted(tmp_path.iterdir())
    assert train(data, tmp_path, "--resume") == 1
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("name", ["run/checkpoint.npz", "run/../run/checkpoint.npz", "link.npz", "data.npy"])
def test_nothing_is_written_over_what_a_run_needs(data, tmp_path, capsys, name):
    assert train(data, tmp_path / "run", "--epochs", "1") == 0
    (tmp_path / "link.npz").symlink_to(tmp_path / "run" / "checkpoint.npz")
    before = (tmp_path / name).read_bytes()
    capsys.readouterr()
    command = "sample" if name == "data.npy" else "export"
    assert main([command, str(tmp_path / "run"), "--out", str(tmp_path / name)]) == 1
    assert refused(capsys, "is a file that") and (tmp_path / name).read_bytes() == before
    assert main(["export", str(tmp_path / "run"), "--out", str(tmp_path / "run" / "vae.npz")]) == 0
    shutil.copytree(tmp_path / "run", tmp_path / "kept")
    assert main(["export", str(tmp_path / "run"), "--out", str(tmp_path / "kept" / "checkpoint.npz")]) == 1
    assert refused(capsys, "is a file of another run") and main(["evaluate", str(tmp_path / "kept")]) == 0


def test_a_reader_who_has_read_enough_is_no_error(data, tmp_path):
    assert train(data, tmp_path / "run", "--epochs", "1") == 0
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "minivae", "evaluate", str(tmp_path / "run"), "--samples", "1"]
    done = subprocess.run(command, cwd=ROOT, stdout=write, stderr=subprocess.PIPE, text=True)
    os.close(write)
    assert done.returncode == 141 and not done.stderr


def test_data_that_moved_are_known_again(data, tmp_path, monkeypatch):
    out = tmp_path / "run"
    assert train(data, out, "--epochs", "1") == 0
    monkeypatch.chdir("/")
    assert main(["evaluate", str(out), "--samples", "1"]) == 0     # from anywhere
    moved = data.rename(tmp_path / "moved.npy")
    assert train(moved, out, "--epochs", "2", "--resume") == 0
    assert main(["evaluate", str(out), "--samples", "1"]) == 0


def test_one_changed_pixel_is_noticed(data, tmp_path, capsys):
    out = tmp_path / "run"
    assert train(data, out, "--epochs", "1") == 0
    x = np.load(data)
    x[5, 2, 2] ^= 1
    np.save(data, x)
    capsys.readouterr()
    assert train(data, out, "--epochs", "2", "--resume") == 1
    assert refused(capsys, "does not hold the data")


def test_float64_data_train_and_few_examples_are_one_batch(tmp_path, rng):
    np.save(tmp_path / "x.npy", rng.random((30, 6)))
    assert main(["train", "vae", "--data", str(tmp_path / "x.npy"), "--out", str(tmp_path / "run"), "--epochs",
                 "1"]) == 0
    assert main(["evaluate", str(tmp_path / "run"), "--samples", "2"]) == 0


def test_gaussian_data_train_and_are_drawn_in_their_own_range(tmp_path, rng):
    np.save(tmp_path / "x.npy", 3 * rng.standard_normal((30, 6)))
    assert train(tmp_path / "x.npy", tmp_path / "run", "--epochs", "1", "--likelihood", "gaussian") == 0
    assert main(["sample", str(tmp_path / "run"), "--n", "4", "--out", str(tmp_path / "s.PNG")]) == 0


def test_a_lost_history_is_written_again(data, tmp_path):
    out = tmp_path / "run"
    assert train(data, out, "--epochs", "2") == 0
    before = (out / "history.csv").read_text()
    (out / "history.csv").unlink()
    assert train(data, out, "--epochs", "2", "--resume") == 0
    assert (out / "history.csv").read_text() == before


def test_a_foreign_history_is_not_overwritten(data, tmp_path, capsys):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "history.csv").write_text("precious")
    assert train(data, tmp_path / "run") == 1
    assert refused(capsys, "not of this run") and (tmp_path / "run" / "history.csv").read_text() == "precious"


@pytest.mark.parametrize("more, message", [(["--out", "a" * 300], "too long"), (["--hidden", "1000000000000"],
                                                                                "memory")])
def test_what_cannot_be_is_one_line(data, tmp_path, capsys, monkeypatch, more, message):
    monkeypatch.chdir(tmp_path)
    assert main(["train", "vae", "--data", str(data), "--out", "run", "--batch-size", "16", *more]) == 1
    assert refused(capsys, message)


MODELS = [*runs.MODELS]


@pytest.fixture
def labels(tmp_path):
    np.save(tmp_path / "labels.npy", np.arange(64) % 3)
    return str(tmp_path / "labels.npy")


def train_any(model, data, labels, out, *more):
    given = ["--labels", labels] if model == "cvae" else []
    return main(["train", model, "--data", str(data), "--out", str(out), "--hidden", "8", "--latent-dim", "2",
                 "--batch-size", "16", *given, *more])


@pytest.mark.parametrize("model", MODELS)
def test_every_model_trains_resumes_is_judged_and_draws(data, labels, tmp_path, capsys, model):
    for out, more in (("parts", ["--epochs", "1"]), ("parts", ["--epochs", "2", "--resume"]),
                      ("whole", ["--epochs", "2"])):
        assert train_any(model, data, labels, tmp_path / out, *more) == 0
    a, b = (checkpoint.load(tmp_path / name / "checkpoint.npz").arrays for name in ("parts", "whole"))
    assert all((a[k] == b[k]).all() for k in a)
    capsys.readouterr()
    assert main(["evaluate", str(tmp_path / "whole"), "--samples", "20"]) == 0
    elbo, nll = map(float, re.search(r"-ELBO +(\S+) .*\n-ln p\(x\S*\) <= *(\S+) ", capsys.readouterr().out).groups())
    assert 0 < nll <= elbo + 0.1
    assert main(["sample", str(tmp_path / "whole"), "--n", "5", "--out", str(tmp_path / "s.npy")]) == 0
    assert np.load(tmp_path / "s.npy").shape == (5, 20)


@pytest.mark.parametrize("model, option, value, attribute", [
    ("beta-vae", "--beta", "7", "beta"), ("beta-tcvae", "--beta", "7", "beta"), ("factor-vae", "--gamma", "7", "gamma"),
    ("aae", "--gamma", "7", "gamma"), ("dip-vae", "--lambda-od", "7", "lambda_od"), ("iwae", "--k", "7", "k"),
    ("vamp-vae", "--pseudo-inputs", "7", "pseudo_inputs"), ("vae", "--free-bits", "7", "free_bits")])
def test_an_option_reaches_its_model_and_is_not_changed_on_the_way(data, labels, tmp_path, capsys, model, option, value,
                                                                   attribute):
    assert train_any(model, data, labels, tmp_path / "run", "--epochs", "1", option, value) == 0
    found = getattr(runs.load(tmp_path / "run").model, attribute)
    assert (len(found) if model == "vamp-vae" else found) == 7
    capsys.readouterr()
    assert train_any(model, data, labels, tmp_path / "run", "--resume", option, "3") == 1
    assert refused(capsys, f"{option.strip('-').replace('-', '_')} = 7")


def test_a_beta_tcvae_is_told_how_many_examples_there_are(data, labels, tmp_path):
    assert train_any("beta-tcvae", data, labels, tmp_path / "run", "--epochs", "1") == 0
    assert runs.load(tmp_path / "run").model.data_size == 64


def test_what_was_not_said_is_a_setting_too(data, labels, tmp_path, capsys):
    assert train_any("beta-vae", data, labels, tmp_path / "run", "--epochs", "1") == 0
    capsys.readouterr()
    for more, message in ((["--beta", "3"], "beta = 4.0, not 3.0"), (["--activation", "tanh"], "relu, not tanh")):
        assert train_any("beta-vae", data, labels, tmp_path / "run", "--resume", *more) == 1
        assert refused(capsys, message)
    assert train_any("vae", data, labels, tmp_path / "run", "--resume") == 1
    assert refused(capsys, "model = beta-vae, not vae")
    assert train_any("beta-vae", data, labels, tmp_path / "run", "--resume", "--beta", "4", "--epochs", "2") == 0


@pytest.mark.parametrize("model, more, message", [
    ("vae", ["--beta", "2"], "a vae takes no --beta"), ("beta-vae", ["--k", "5"], "a beta-vae takes no --k"),
    ("vae", ["--labels", "y.npy"], "a vae takes no --labels"), ("iwae", ["--kl-warmup", "9"], "takes no kl_warmup"),
    ("vamp-vae", ["--kl", "analytic"], "no closed form"), ("cvae", ["--labels", "none.npy"], "No such file"),
    ("vae", ["--pseudo-inputs", "3"], "a vae takes no --pseudo-inputs")])
def test_an_option_that_is_not_the_models_is_one_line(data, labels, tmp_path, capsys, model, more, message):
    assert train_any(model, data, labels, tmp_path / "run", *more) == 1
    assert refused(capsys, message) and not (tmp_path / "run").exists()


def test_a_cvae_of_digits_knows_their_labels_and_draws_them_to_order(tmp_path, capsys, monkeypatch):
    few = {split: type(runs.mnist(split))(*(a[:60] for a in runs.mnist(split))) for split in ("train", "test")}
    monkeypatch.setattr(runs, "mnist", few.get)
    assert main(["train", "cvae", "--out", str(tmp_path / "run"), "--epochs", "1", "--hidden", "8", "--latent-dim",
                 "1", "--batch-size", "30"]) == 0
    model = runs.load(tmp_path / "run").model
    assert model.condition_dim == 10
    assert main(["evaluate", str(tmp_path / "run"), "--samples", "2"]) == 0
    assert "60 examples of mnist" in (text := capsys.readouterr().out) and "-ln p(x|y) <=" in text
    for more, y in (([], np.arange(12) % 10), (["--label", "3"], np.full(12, 3))):
        assert main(["sample", str(tmp_path / "run"), "--n", "12", "--out", str(tmp_path / "s.npy"), *more]) == 0
        assert np.array_equal(np.load(tmp_path / "s.npy"), model.sample(y, np.random.default_rng(0)))
    assert main(["sample", str(tmp_path / "run"), "--label", "10", "--out", str(tmp_path / "s.npy")]) == 1
    assert refused(capsys, "no label 10: the labels")


def test_a_cvae_asks_for_the_labels_that_it_needs(data, labels, tmp_path, capsys, rng):
    assert main(["train", "cvae", "--data", str(data), "--out", str(tmp_path / "run")]) == 1
    assert refused(capsys, "--labels")
    assert train_any("cvae", data, labels, tmp_path / "run", "--epochs", "1") == 0
    capsys.readouterr()
    assert main(["evaluate", str(tmp_path / "run"), "--data", str(data)]) == 1
    assert refused(capsys, "--labels")
    assert main(["evaluate", str(tmp_path / "run"), "--data", str(data), "--labels", labels, "--samples", "2"]) == 0
    np.save(labels, np.arange(63))
    assert main(["evaluate", str(tmp_path / "run")]) == 1
    assert refused(capsys, "holds 63 labels, for the 64 examples")
    np.save(labels, (np.arange(64) + 1) % 3)                       # as many, and others
    assert train_any("cvae", data, labels, tmp_path / "run", "--epochs", "2", "--resume") == 1
    assert refused(capsys, "does not hold the data")


def test_a_run_without_labels_draws_none_to_order_and_is_not_judged_by_any(data, labels, tmp_path, capsys):
    assert train(data, tmp_path / "run", "--epochs", "1") == 0
    capsys.readouterr()
    assert main(["evaluate", str(tmp_path / "run"), "--labels", labels]) == 1
    assert refused(capsys, "a vae takes no --labels")
    assert main(["sample", str(tmp_path / "run"), "--label", "1", "--out", str(tmp_path / "s.npy")]) == 1
    assert refused(capsys, "no label 1")
