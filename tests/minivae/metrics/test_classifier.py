"""The shipped classifier reads what it claims to, in whatever form digits come; a bad file or image is refused."""
import shutil

import numpy as np
import pytest
from scipy.ndimage import uniform_filter

from minivae.data import binarise, mnist
from minivae.data.mnist import Digits
from minivae.metrics import classifier
from minivae.metrics.classifier import FILE, augment, digit_classifier, load, main, save, score, train

from ..test_checkpoint import fuzzed, same

FUZZ = 300
IMAGES, LABELS = (a[:300] for a in mnist("test"))


@pytest.mark.equation("classifier.error", "share of the 10,000 test digits misread, grey and binarised", bound=0.02,
                      kind="O")
def test_the_shipped_classifier_reads_98_percent_and_what_it_claims(measure):
    model = digit_classifier()
    grey, bits = mnist("test").images, binarise(mnist("test").images, np.random.default_rng(1))
    right = np.array([np.sum(model.predict(x) == mnist("test").labels) for x in (grey, bits)])
    measure(1 - right / 10_000)
    assert np.abs(right - model.right).max() <= 2                  # another BLAS may round a doubtful digit otherwise
    assert (score(model) == right).all()
    assert FILE.stat().st_size < 1e6


@pytest.mark.equation("classifier.probabilities", "h = relu(relu(x W1 + b1) W2 + b2), p = softmax(h W3 + b3)",
                      bound=1e-10)
def test_features_and_probabilities_are_those_of_the_network(measure):
    model = load(FILE).astype(np.float64)
    (w1, b1), (w2, b2), (w3, b3) = [(layer.w.data, layer.b.data) for layer in (*model.body.layers[::2], model.head)]
    x = IMAGES.reshape(-1, 784) / 255
    h = np.maximum(np.maximum(x @ w1 + b1, 0) @ w2 + b2, 0)
    p = np.exp(h @ w3 + b3) / np.exp(h @ w3 + b3).sum(axis=1, keepdims=True)
    measure((model.features(x) - h) / np.abs(h).max())
    measure(model.probabilities(x) - p)
    assert h.shape == (300, 128) and (model.predict(x) == p.argmax(axis=1)).all()


@pytest.mark.equation("classifier.augmentation", "E x~ = mean of x moved by each of {-1, 0, 1}^2", bound=5, kind="S")
def test_training_images_are_moved_by_a_pixel_and_half_are_drawn_as_bits(measure, rng):
    x = np.zeros((28, 28), np.float32)
    x[0, 5], x[9:13, 18:22], x[20, 3], x[27, 27] = 0.5, 0.3, 1.0, 0.7     # what leaves the image is lost
    before, n = x.copy(), 40_000
    seen = augment(np.tile(x.ravel(), (n, 1)), rng)
    mean = uniform_filter(x, 3, mode="constant").ravel()
    assert (x == before).all() and seen.dtype == np.float32 and (seen[:, mean == 0] == 0).all()
    seen, mean = seen[:, mean > 0], mean[mean > 0]
    measure((seen.mean(axis=0) - mean) / (seen.std(axis=0) / n ** 0.5))
    grey = np.isin(seen, np.float32([0.3, 0.5, 0.7])).any(axis=1).mean()
    measure((grey - 0.5) / (0.5 / n ** 0.5))                       # of each that stays grey some of its ink shows


def test_a_digit_is_the_same_in_every_form():
    model, floats = digit_classifier(), IMAGES.reshape(-1, 784) / 255
    expected = model.features(floats.astype(np.float32))
    for x in (IMAGES, IMAGES.reshape(-1, 784), floats, floats.reshape(-1, 28, 28)):
        before = x.copy()
        np.testing.assert_allclose(model.features(x), expected, atol=1e-4)
        assert (x == before).all()
    np.testing.assert_allclose(model.features(IMAGES > 127), model.features((IMAGES > 127).astype(np.float32)))
    assert expected.dtype == np.float32 and (expected >= 0).all()


def test_a_verdict_does_not_depend_on_chance_or_on_company(monkeypatch):
    model, x = digit_classifier(), IMAGES
    together = model.probabilities(x)
    assert (model.probabilities(x) == together).all() and digit_classifier() is model
    np.testing.assert_allclose(together.sum(axis=1), 1, atol=1e-6)
    monkeypatch.setattr(classifier, "ROWS", 7)
    np.testing.assert_allclose(model.probabilities(x), together, atol=1e-5)
    np.testing.assert_allclose(model.probabilities(x[5:6]), together[5:6], atol=1e-5)


@pytest.mark.parametrize("x, message", [
    (np.zeros((3, 783)), r"\(N, 784\) or \(N, 28, 28\), not \(3, 783\)"), (np.zeros((3, 1, 28, 28)), "28, 28"),
    (np.zeros((28, 28)), r"not \(28, 28\)"), (np.zeros(784), "shape"), (np.zeros((0, 784)), "at least one row"),
    (np.full((3, 784), 1.5), r"outside \[0, 1\], first in row 0"), (np.full((3, 784), -0.1), "outside"),
    (np.full((3, 784), np.nan), "NaN"), (np.zeros((3, 784), int), "int64"), ([[0.0] * 784], "list"),
    (np.eye(784, dtype=np.uint8), "look like bits")])
def test_what_is_not_a_digit_is_refused(x, message):
    for judge in (digit_classifier().features, digit_classifier().probabilities, digit_classifier().predict):
        with pytest.raises(ValueError, match=message):
            judge(x)


def test_training_again_is_a_command_that_learns_repeats_itself_and_tells_its_score(tmp_path, capsys):
    digits = Digits(*(a[:4000] for a in mnist("train")))
    main(tmp_path / "again.npz", digits, epochs=2)
    model, said = load(tmp_path / "again.npz"), capsys.readouterr().out
    assert (model.right == score(model)).all() and model.right.min() > 7000
    assert "epoch 2/2" in said and f"{model.right[0] / 100:.2f} % are read right" in said and "again.npz" in said
    assert same(model.state(), train(digits, 2, np.random.default_rng(0)).state())


def test_without_training_mode_the_loss_draws_nothing(rng):
    model, x = digit_classifier(), IMAGES.reshape(-1, 784).astype(np.float32) / 255
    loss, terms = model.loss((x, LABELS), rng)
    p = model.probabilities(x)
    assert rng.bit_generator.state == np.random.default_rng(0).bit_generator.state
    np.testing.assert_allclose(loss.item(), -np.log(p[np.arange(300), LABELS]).mean(), rtol=1e-3)
    assert terms["percent_right"] == 100 * np.mean(p.argmax(axis=1) == LABELS)


def test_a_damaged_file_is_refused_or_is_still_the_same(tmp_path, rng):
    raw, whole, refused = FILE.read_bytes(), load(FILE).state(), 0
    bad = tmp_path / "bad.npz"
    for _ in range(FUZZ):
        bad.write_bytes(fuzzed(raw, rng))
        try:
            found = load(bad)
        except ValueError as error:
            assert str(error).startswith(str(bad)) and "\n" not in str(error)
            refused += 1
        else:
            assert same(found.state(), whole)
    assert refused > 0.8 * FUZZ


@pytest.mark.parametrize("change, message", [
    ({"head.b": None}, r"not the state of a DigitClassifier: it lacks \['head.b'\]"), ({"x": np.ones(3)}, "has .'x'."),
    ({"head.b": np.zeros(9, np.float16)}, "head.b has shape"), ({"head.b": np.zeros(10)}, "head.b is float64"),
    ({"head.b": np.full(10, np.nan, np.float16)}, "head.b is not finite"),
    ({"right": np.array([print, 1])}, "never loaded")])
def test_another_files_weights_are_refused(tmp_path, change, message):
    with np.load(FILE) as file:
        arrays = {name: a for name, a in {**file, **change}.items() if a is not None}
    np.savez(tmp_path / "bad.npz", **arrays)
    with pytest.raises(ValueError, match=f"bad.npz: .*{message}"):
        load(tmp_path / "bad.npz")
    with pytest.raises(ValueError, match="none.npz: No such file"):
        load(tmp_path / "none.npz")


def test_a_write_that_fails_keeps_the_file_before(tmp_path, monkeypatch):
    path = shutil.copy(FILE, tmp_path / "classifier.npz")

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        save(path, digit_classifier())
    assert path.read_bytes() == FILE.read_bytes() and list(tmp_path.iterdir()) == [path]
