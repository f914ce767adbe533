"""The training loop: deterministic, honest about failure, and its files whole."""
import csv

import numpy as np
import pytest

from autograd import optim
from minivae.data import Batches
from minivae.files import atomic
from minivae.train import evaluate, fit
from minivae.vae import VAE


def train(tmp_path=None, epochs=3, **options):
    rng = np.random.default_rng(0)
    data = (np.random.default_rng(1).random((64, 1)) < 0.5) * np.full((64, 12), 255, np.uint8)
    model = VAE(12, 2, (16,), rng=rng)
    rows = fit(model, Batches(data.astype(np.uint8), 16), epochs=epochs, optimizer=optim.Adam(model.parameters(), 0.01),
               rng=rng, history=tmp_path and tmp_path / "deep" / "history.csv", **options)
    return model, rows


def test_training_learns():
    _, rows = train(epochs=60)
    assert rows[0]["elbo"] < -8 and rows[-1]["elbo"] > -2.5        # 12 equal pixels: -8.3 if independent, at best -ln 2


def test_the_same_seed_gives_the_same_weights_bit_for_bit():
    a, b = train()[0].state(), train()[0].state()
    assert all((a[name] == b[name]).all() for name in a)


def test_the_history_holds_every_epoch(tmp_path):
    _, rows = train(tmp_path, on_epoch=lambda epoch: {"test_elbo": -epoch})
    with open(tmp_path / "deep" / "history.csv") as file:
        table = list(csv.DictReader(file))
    assert [row["epoch"] for row in table] == ["1", "2", "3"] and list(table[0]) == list(rows[0])
    assert float(table[2]["test_elbo"]) == -3 and float(table[1]["elbo"]) == pytest.approx(rows[1]["elbo"], rel=1e-5)
    assert float(table[0]["elbo"]) == pytest.approx(float(table[0]["recon"]) - float(table[0]["kl"]), rel=1e-4)
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["history.csv"]


def test_each_epoch_prints_one_plain_line(capsys):
    train()
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3 and all("elbo" in line and "\r" not in line for line in lines)


def test_a_loss_that_is_not_finite_stops_training_and_names_the_step():
    class Broken(VAE):
        def on_step(self, t):
            if t == 6:
                self.decoder.layers[-1].b.assign(np.full(12, np.nan))

    rng = np.random.default_rng(0)
    model = Broken(12, 2, (4,), rng=rng)
    message = "not finite at step 6: (linear .*argument 2|add .*argument 1) was not finite already"
    with pytest.raises(FloatingPointError, match=message):
        fit(model, Batches(np.zeros((64, 12), np.uint8), 16), epochs=3, optimizer=optim.Adam(model.parameters()),
            rng=rng)


def test_evaluate_weighs_every_example_alike(rng):
    model = VAE(12, 2, (4,), rng=rng)
    x = rng.random((10, 12), np.float32)
    kl = model.encode(x).kl().data.mean()
    assert evaluate(model, x, rng, rows=4)["kl"] == pytest.approx(kl, rel=1e-6)
    assert all(p.grad is None for p in model.parameters())


def test_evaluate_drops_nothing_out_and_leaves_the_mode_as_it_was(rng):
    model = VAE(12, 2, (4,), rng=rng)
    seen = []
    model.on_step, loss = None, model.loss
    model.loss = lambda x, rng: (seen.append(model.training), loss(x, rng))[1]
    evaluate(model, np.ones((4, 12), np.float32), rng)
    assert seen == [False] and model.training


def test_means_are_over_the_epoch_and_not_over_the_run():
    class Ones(VAE):
        def loss(self, x, rng):
            return super().loss(x, rng)[0], {"one": 1.0}

    rng = np.random.default_rng(0)
    model = Ones(12, 2, (4,), rng=rng)
    rows = fit(model, Batches(np.zeros((64, 12), np.uint8), 16), epochs=3, optimizer=optim.Adam(model.parameters()),
               rng=rng)
    assert [row["one"] for row in rows] == [1, 1, 1]


def test_an_optimizer_of_another_model_is_refused(rng):
    model, other = VAE(12, 2, (4,), rng=rng), VAE(12, 2, (4,), rng=rng)
    with pytest.raises(ValueError, match="none of the model's parameters"):
        fit(model, Batches(np.zeros((64, 12), np.uint8), 16), epochs=1, optimizer=optim.Adam(other.parameters()),
            rng=rng)


@pytest.mark.parametrize("epochs", [0, 1.5, np.nan, "3", True])
def test_what_is_no_number_of_epochs_is_refused(epochs):
    with pytest.raises(ValueError, match=f"epochs must be a positive integer, not {epochs!r}"):
        train(epochs=epochs)


def test_a_write_that_fails_leaves_the_old_file(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(RuntimeError, match="half"):
        with atomic(path, "w") as file:
            file.write("new")
            raise RuntimeError("half way")
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]
    with atomic(path, "w") as file:
        file.write("new")
    assert path.read_text() == "new" and list(tmp_path.iterdir()) == [path]
