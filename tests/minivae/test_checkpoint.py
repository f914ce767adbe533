"""A run that was stopped, in whatever way, ends like the run that never stopped; a bad file is never believed."""
import json
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from autograd import ops, optim
from minivae import checkpoint
from minivae.data import Batches, load
from minivae.train import fit
from minivae.vae import VAE

from ..ledger import ROOT

FUZZ = 500
DATA = np.random.default_rng(1).integers(0, 256, (60, 12), np.uint8)


def setup(seed=0, cls=VAE):
    """A model with everything that a checkpoint must hold: warm-up, schedule, average, buffers."""
    rng = np.random.default_rng(seed)
    model = cls(12, 2, (16,), kl_warmup=7, rng=rng)
    optimizer = optim.Adam(model.parameters(), optim.warmup_cosine(0.01, 3, 40))
    return dict(model=model, batches=Batches(DATA, 16, binarise=True), optimizer=optimizer, rng=rng,
                ema=optim.EMA(model.parameters(), 0.9))


def everything(run):
    return {**run["model"].state(), **{f"o{k}": v for k, v in run["optimizer"].state().items()},
            **{f"e{k}": v for k, v in run["ema"].state().items()}, "rng": np.array(str(run["rng"].bit_generator.state))}


def same(a, b):
    return set(a) == set(b) and all(np.array_equal(a[k], b[k]) for k in a)


class Stop(VAE):
    """A VAE that is interrupted, by an exception, at a step of its choice."""
    at = None

    def on_step(self, t):
        super().on_step(t)
        if t == self.at:
            raise InterruptedError


@pytest.mark.equation("engine.resume", "stopped and resumed = never stopped, bit for bit", bound=0)
@pytest.mark.parametrize("at", range(2, 13))
def test_a_resumed_run_ends_like_one_that_never_stopped(measure, tmp_path, at):
    whole, stopped, resumed = setup(), setup(cls=Stop), setup(seed=99)
    rows = fit(**whole, epochs=3, on_epoch=lambda epoch: {"draw": float(whole["rng"].random())})
    stopped["model"].at = at
    path = tmp_path / "run.npz"
    with pytest.raises(InterruptedError):
        fit(**stopped, epochs=3, checkpoint=path, every=0,
            on_epoch=lambda epoch: {"draw": float(stopped["rng"].random())})
    again = fit(**resumed, epochs=3, checkpoint=path, resume=True,
                on_epoch=lambda epoch: {"draw": float(resumed["rng"].random())})
    a, b = everything(whole), everything(resumed)
    assert same(a, b)
    measure(max(np.max(np.abs(a[k] - b[k])) for k in a if k != "rng"))
    assert [{**row, "seconds": 0} for row in again] == [{**row, "seconds": 0} for row in rows]


def test_a_finished_run_can_be_lengthened(tmp_path):
    whole, short, longer = setup(), setup(), setup()
    fit(**whole, epochs=4)
    fit(**short, epochs=2, checkpoint=tmp_path / "run.npz")
    fit(**longer, epochs=4, checkpoint=tmp_path / "run.npz", resume=True)
    assert same(everything(whole), everything(longer))


def test_checkpoints_are_saved_by_time_and_by_epoch(tmp_path, monkeypatch):
    saved = []
    monkeypatch.setattr("minivae.train.save", lambda *args, position, **kwargs: saved.append(position["t"]))
    fit(**setup(), epochs=2, checkpoint=tmp_path / "run.npz", every=1e9)
    assert saved == [4, 8]
    fit(**setup(), epochs=1, checkpoint=tmp_path / "run.npz", every=0)
    assert saved[2:] == [1, 2, 3, 4, 4]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_finishes_the_step_saves_and_says_how_to_go_on(tmp_path, number):
    path, run, whole = tmp_path / "run.npz", setup(), setup()
    before = signal.getsignal(signal.SIGINT)

    class Interrupts(VAE):
        def on_step(self, t):
            super().on_step(t)
            if t == 6:
                os.kill(os.getpid(), number)

    run["model"].__class__ = Interrupts
    with pytest.raises(KeyboardInterrupt, match="after step 6; .*run.npz .* resume"):
        fit(**run, epochs=3, checkpoint=path)
    assert signal.getsignal(signal.SIGINT) is before
    resumed = setup()
    fit(**resumed, epochs=3, checkpoint=path, resume=True)
    fit(**whole, epochs=3)
    assert same(everything(whole), everything(resumed))


def test_odd_values_in_a_row_and_new_columns_after_a_resume_do_no_harm(tmp_path):
    path, history = tmp_path / "run.npz", tmp_path / "history.csv"
    fit(**setup(), epochs=1, checkpoint=path, history=history, on_epoch=lambda epoch: {"a": np.float32(1)})
    rows = fit(**setup(), epochs=2, checkpoint=path, history=history, resume=True,
               on_epoch=lambda epoch: {"b": np.ones(())})
    assert rows[0]["a"] == 1 and rows[1]["b"] == 1
    assert history.read_text().splitlines()[0].endswith("a,b")


def test_another_run_is_not_resumed(tmp_path):
    path = tmp_path / "run.npz"
    fit(**setup(), epochs=1, checkpoint=path)
    for change, message in (({"batches": Batches(DATA, 15)}, "60 examples in batches of 16"),
                            ({"batches": Batches(DATA[:50], 16)}, "not of 50"), ({"ema": None}, "average of weights")):
        with pytest.raises(ValueError, match=message):
            fit(**{**setup(), **change}, epochs=2, checkpoint=path, resume=True)


def test_training_works_in_a_thread_where_signals_cannot_be_caught(tmp_path):
    run, whole = setup(), setup()
    thread = threading.Thread(target=lambda: fit(**run, epochs=1, checkpoint=tmp_path / "run.npz"))
    thread.start()
    thread.join()
    fit(**whole, epochs=1)
    assert same(everything(whole), everything(run))


def test_a_write_that_fails_keeps_the_checkpoint_before(tmp_path, monkeypatch):
    path, run = tmp_path / "run.npz", setup()
    fit(**run, epochs=1, checkpoint=path)
    good = path.read_bytes()

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        fit(**setup(), epochs=1, checkpoint=path)
    assert path.read_bytes() == good and list(tmp_path.iterdir()) == [path]


def test_a_loss_that_is_not_finite_names_step_op_and_last_checkpoint_and_spoils_nothing(tmp_path):
    path = tmp_path / "run.npz"

    class Broken(VAE):
        def decode(self, z):
            return super().decode(np.log(z - 1e9) if self.spoilt else z)

        def on_step(self, t):
            self.spoilt = t == 6

    run = setup(cls=Broken)
    with np.errstate(invalid="ignore"), pytest.raises(FloatingPointError) as error:
        fit(**run, epochs=3, checkpoint=path, every=0)
    assert "step 6: log of shapes (16, 2) gave nan" in (text := str(error.value)) and "run.npz is the last good" in text
    assert checkpoint.load(path).header["position"]["t"] == 5


def test_the_step_that_failed_is_run_again_with_the_same_draws():
    class Unlucky(VAE):
        """Its loss is NaN for some draws only."""

        def decode(self, z):
            return super().decode(z + ops.log(ops.where(z.data > 3.2, z - z - 1, z - z + 1)))

    run = setup(cls=Unlucky)
    with np.errstate(invalid="ignore"), pytest.raises(FloatingPointError, match="log of shapes .* gave nan"):
        fit(**run, epochs=200)


def test_the_average_of_weights_is_updated_after_each_step():
    run, averages = setup(), []

    class Watch(VAE):
        def on_step(self, t):
            super().on_step(t)
            averages.append(self.decoder.layers[0].w.data.copy())  # before step t, so after step t - 1

    run["model"].__class__ = Watch
    fit(**run, epochs=2)
    average = averages[0]
    for w in [*averages[1:], run["model"].decoder.layers[0].w.data]:
        average = 0.9 * average + 0.1 * w
    i = next(i for i, p in enumerate(run["ema"].params) if p is run["model"].decoder.layers[0].w)
    np.testing.assert_allclose(run["ema"].average[i], average, rtol=1e-5)
    assert not np.allclose(run["ema"].average[i], averages[0])


def test_weights_that_are_not_finite_are_not_saved(tmp_path):
    run = setup()
    run["model"].decoder.layers[0].b.assign(np.full(16, np.inf))
    del run["batches"]
    with pytest.raises(FloatingPointError, match="model/decoder.layers.0.b is not finite"):
        checkpoint.save(tmp_path / "run.npz", **run, position={})
    assert not list(tmp_path.iterdir())


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    path = tmp_path_factory.mktemp("saved") / "run.npz"
    run = setup()
    fit(**run, epochs=1, checkpoint=path)
    return path, run


def fuzzed(raw, rng):
    """`raw` cut short, with some bits flipped, with bytes replaced, or with a part repeated."""
    kind, i = rng.integers(4), int(rng.integers(len(raw)))
    if kind == 0:
        return raw[:i]
    if kind == 1:
        damaged = bytearray(raw)
        for j in rng.integers(len(raw), size=rng.integers(1, 9)):
            damaged[j] ^= 1 << int(rng.integers(8))
        return bytes(damaged)
    if kind == 2:
        return raw[:i] + rng.bytes(int(rng.integers(1, 64))) + raw[i + int(rng.integers(64)):]
    return raw[:i] + raw[max(0, i - int(rng.integers(200))):]


def test_a_damaged_checkpoint_is_refused_or_is_still_the_same(saved, tmp_path, rng):
    path, _ = saved
    raw, whole, refused = path.read_bytes(), checkpoint.load(path), 0
    bad = tmp_path / "bad.npz"
    for _ in range(FUZZ):
        bad.write_bytes(fuzzed(raw, rng))
        try:
            found = checkpoint.load(bad)
        except ValueError as error:
            assert str(error).startswith(str(bad)) and "\n" not in str(error)
            refused += 1
        else:
            assert found.header == whole.header and same(found.arrays, whole.arrays)
    assert refused > 0.8 * FUZZ


def test_foreign_and_future_checkpoints_are_refused_and_change_nothing(saved, tmp_path):
    path, _ = saved
    bad = tmp_path / "bad.npz"
    for arrays, message in (({"a": np.ones(3)}, "not a checkpoint"), ({"header": np.arange(9)}, "not a checkpoint")):
        np.savez(bad, **arrays)
        with pytest.raises(ValueError, match=message):
            checkpoint.load(bad)
    np.savez(bad, header=np.array([print], object))
    with pytest.raises(ValueError, match="never loaded"):
        checkpoint.load(bad)
    found = checkpoint.load(path)
    for change, message in (({"format": 2}, "format 2.*reads 1"), ({"kind": "x"}, "not a checkpoint")):
        header = {**found.header, **change}
        raw = np.frombuffer(json.dumps(header).encode(), np.uint8)
        np.savez(bad, header=raw, **found.arrays)
        with pytest.raises(ValueError, match=message):
            checkpoint.load(bad)
    other = setup()
    other["model"] = VAE(12, 3, (16,), rng=other["rng"])
    del other["batches"]
    before = everything(other)
    with pytest.raises(ValueError, match="not the state of this VAE"):
        checkpoint.restore(found, **other)
    del found.header["rng"]["state"]
    other["model"] = setup()["model"]
    with pytest.raises(ValueError, match="random state"):
        checkpoint.restore(found, **other)
    assert everything(other)["rng"] == before["rng"]


@pytest.mark.parametrize("change", [
    None, [], {"more": 1}, {"size": None}, {"size": [60]}, {"rows": [1]}, {"rows": []}, {"epoch": "x"}, {"epoch": 1},
    {"done": 9}, {"done": 2.0}, {"done": -1}, {"t": 7}, {"t": None}, {"seconds": "x"}, {"sums": [1]},
    {"sums": {"elbo": "x"}}, {"start": {}}, {"start": 3}, {"start": {"bit_generator": "MT19937"}}, {"start": None}])
def test_a_position_where_no_run_can_be_is_refused_and_changes_nothing(tmp_path, change):
    path, run, stopped = tmp_path / "run.npz", setup(seed=9), setup(cls=Stop)
    stopped["model"].at = 7                                        # in the second epoch, after two of its four batches
    with pytest.raises(InterruptedError):
        fit(**stopped, epochs=3, checkpoint=path, every=0)
    found, before = checkpoint.load(path), everything(run)
    header = {**found.header, "position": {**found.header["position"], **change} if change else change}
    np.savez(path, header=np.frombuffer(json.dumps(header).encode(), np.uint8), **found.arrays)
    with pytest.raises(ValueError, match="run.npz: ") as error:
        fit(**run, epochs=3, checkpoint=path, resume=True)
    assert "\n" not in str(error.value) and same(everything(run), before)


def test_a_checkpoint_of_weights_that_are_not_finite_is_refused(saved, tmp_path):
    found = checkpoint.load(saved[0])
    name = next(iter(found.arrays))
    arrays = {**found.arrays, name: np.full_like(found.arrays[name], np.nan)}
    np.savez(tmp_path / "bad.npz", header=np.frombuffer(json.dumps(found.header).encode(), np.uint8), **arrays)
    with pytest.raises(ValueError, match=f"bad.npz: is damaged: {name} is not finite"):
        checkpoint.load(tmp_path / "bad.npz")


def files(tmp_path, rng):
    """A good data file of each kind."""
    x = rng.integers(0, 256, (30, 12), np.uint8)
    np.save(tmp_path / "x.npy", x)
    np.savez(tmp_path / "x.npz", x=x)
    np.savez_compressed(tmp_path / "y.npz", images=x.reshape(30, 3, 4), labels=np.arange(30))
    np.savetxt(tmp_path / "x.csv", x / 255, delimiter=",", header="a,b,c", comments="")
    return sorted(tmp_path.iterdir())


def test_data_files_are_read(tmp_path, rng):
    csv, npy, npz, named = files(tmp_path, rng)
    x = load(npy)
    assert x.shape == (30, 12) and x.dtype == np.uint8
    assert (load(npz) == x).all() and (load(named).reshape(30, 12) == x).all()
    np.testing.assert_allclose(load(csv), x / 255, rtol=1e-6)
    np.save(tmp_path / "f.npy", np.asfortranarray(x.astype(">f4")))
    assert load(tmp_path / "f.npy").flags.c_contiguous and (load(tmp_path / "f.npy") == x).all()


@pytest.mark.parametrize("kind", range(4))
def test_a_damaged_data_file_is_refused_or_is_a_plain_array(tmp_path, rng, kind):
    path = files(tmp_path, rng)[kind]
    raw = path.read_bytes()
    bad = tmp_path / f"bad{path.suffix}"
    for _ in range(FUZZ):
        bad.write_bytes(fuzzed(raw, rng))
        try:
            x = load(bad)
        except ValueError as error:
            assert str(error).startswith(str(bad)) and "\n" not in str(error)
        else:
            assert x.ndim >= 2 and x.size and x.size <= 4 * len(raw) * 8 and x.dtype.kind in "bfu"


@pytest.mark.parametrize("name, content, message", [
    ("x.csv", "1,2\n3\n", "columns changed"), ("x.csv", "1,2\n3,b\n", "could not convert string 'b'"),
    ("x.csv", "", "shape"),
    ("x.csv", "a,b\n", "shape"), ("x.csv", "a,1\n2,3\n", "could not convert string 'a'"),
    ("x.txt", "1", ".npy, .npz, .csv"),
    ("x.npy", "hello", "magic"), ("x.npz", "hello", "not a zip file"), ("none.npy", None, "No such file")])
def test_files_that_are_no_data_are_refused(tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=f"{name}: .*{message}"):
        load(tmp_path / name)


@pytest.mark.parametrize("array, message", [
    (np.zeros(3), "shape"), (np.zeros((0, 3)), "shape"), (np.zeros((2, 2), complex), "complex128"),
    (np.zeros((2, 2), int), "int64"), (np.array([["a", "b"]]), "<U1"),
    (np.array([[print, 1]], object), "never loaded")])
def test_arrays_that_are_no_data_are_refused(tmp_path, array, message):
    np.save(tmp_path / "x.npy", array)
    with pytest.raises(ValueError, match=message):
        load(tmp_path / "x.npy")


@pytest.mark.parametrize("text", ["\ufeff0.1,0.2\n0.3,0.4\n", "0,1\n0.1,0.2\n0.3,0.4\n", "a,b\n0.1,0.2\n0.3,0.4\n"])
def test_csv_files_of_spreadsheets_and_pandas_are_read(tmp_path, text):
    (tmp_path / "x.csv").write_text(text, encoding="utf-8")
    np.testing.assert_allclose(load(tmp_path / "x.csv"), [[0.1, 0.2], [0.3, 0.4]], rtol=1e-6)


def test_a_large_file_stays_on_disk_and_reads_the_same(tmp_path, rng, monkeypatch):
    x = rng.integers(0, 256, (50, 3, 4), np.uint8)
    np.save(tmp_path / "x.npy", x)
    monkeypatch.setattr("minivae.data.arrays.LARGE", 100)
    rows = load(tmp_path / "x.npy")
    assert not isinstance(rows, np.ndarray) and len(rows) == 50 and rows.shape == x.shape and rows.dtype == x.dtype
    for index in (slice(10, 20), np.array([7, 3, 3]), slice(None, None, 9), slice(-3, None), slice(5, 5), -1, 3,
                  np.int64(2), [-50, 49], np.array([[1, -2], [0, 5]]), np.arange(50) % 3 == 0, [False] * 50, []):
        expected = x[index] if np.size(index) else x[:0]
        assert rows[index].shape == expected.shape and (rows[index] == expected).all()
    assert np.array_equal(np.asarray(rows), x) and np.array_equal([*rows], x)
    for index, message in ((50, "there are 50 rows, none of them number 50"), ([0, -51], "number -51"), (1., "float64"),
                           (np.ones(49, bool), r"a mask \(50,\), not by bool of shape \(49,\)"), (True, "bool"),
                           ((0, 1), r"one thing, such as a list, not by \(0, 1\)"), ("a", "<U1"), (None, "object")):
        with pytest.raises(IndexError, match=message):
            rows[index]
    a, b = (list(Batches(data, 16, binarise=True)(np.random.default_rng(0))) for data in (rows, x))
    assert all((p == q).all() for p, q in zip(a, b))
    (tmp_path / "x.npy").write_bytes((tmp_path / "x.npy").read_bytes()[:-20])
    with pytest.raises(ValueError, match="x.npy: row 48 is gone"):
        rows[40:]


def test_threads_read_the_rows_that_they_ask_for(tmp_path, monkeypatch):
    x = np.repeat(np.arange(5000), 8).reshape(-1, 8).astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    monkeypatch.setattr("minivae.data.arrays.LARGE", 100)
    rows = load(tmp_path / "x.npy")
    with ThreadPoolExecutor(4) as pool:
        indices = [np.random.default_rng(i).integers(5000, size=2000) for i in range(16)]
        for index, found in zip(indices, pool.map(rows.__getitem__, indices)):
            np.testing.assert_array_equal(found, x[index])


def test_a_header_that_promises_more_than_the_file_holds_allocates_nothing(tmp_path):
    with open(tmp_path / "x.npy", "wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "<f8", "fortran_order": False, "shape": (10**15, 784)})
    with pytest.raises(ValueError, match="damaged.*takes 62720"):
        load(tmp_path / "x.npy")


def test_killed_at_random_moments_it_still_ends_like_a_run_that_was_not(tmp_path, rng):
    kills = 3
    script = ("import sys, minivae.train as t; from tests.minivae.test_checkpoint import setup; run = setup();"
              "t.fit(**run, epochs=400, checkpoint=sys.argv[1], every=0, resume=True)")
    command, path = [sys.executable, "-c", script, str(tmp_path / "run.npz")], tmp_path / "run.npz"
    for _ in range(kills):
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
        before = path.stat().st_mtime_ns if path.exists() else 0
        while process.poll() is None and (not path.exists() or path.stat().st_mtime_ns == before):
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 0.3))
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL                   # else it was done too soon for this to test anything
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    whole, resumed = setup(), setup()
    fit(**whole, epochs=400)
    fit(**resumed, epochs=400, checkpoint=path, resume=True)
    assert same(everything(whole), everything(resumed))
