"""MNIST is what was published, and batches are what they say."""
import re
import shutil
import sys

import numpy as np
import pytest

from minivae.data import Batches, binarise, load_labels, mnist
from minivae.data.batches import as_floats


@pytest.fixture
def copy(tmp_path, monkeypatch):
    """A copy of the shipped files that a test may damage, with an empty cache."""
    module = sys.modules["minivae.data.mnist"]
    shutil.copytree(module.FOLDER, tmp_path / "mnist")
    monkeypatch.setattr(module, "FOLDER", tmp_path / "mnist")
    module._read.cache_clear()
    yield tmp_path / "mnist"
    module._read.cache_clear()


def test_mnist_is_whole():
    train, test = mnist("train"), mnist("test")
    assert train.images.shape == (60_000, 28, 28) and test.images.shape == (10_000, 28, 28)
    assert train.labels.shape == (60_000,) and test.labels.shape == (10_000,)
    assert {a.dtype for a in (*train, *test)} == {np.dtype(np.uint8)}
    assert np.bincount(test.labels).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert train.labels[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    assert round(train.images.mean(), 4) == 33.3184                # the published mean, 0.1307 of 255


def test_fit_and_validation_share_the_training_file():
    train, fit, validation = mnist("train"), mnist("fit"), mnist("validation")
    assert len(fit.images) == 50_000 and len(validation.images) == 10_000
    assert np.shares_memory(fit.images, train.images)
    np.testing.assert_array_equal(validation.labels, train.labels[50_000:])


def test_the_digits_cannot_be_changed_by_accident():
    with pytest.raises(ValueError, match="read-only"):
        mnist("test").images[0] = 0


def test_damaged_files_are_refused(copy):
    path = copy / "t10k-labels-idx1-ubyte.gz"
    packed = path.read_bytes()
    for damaged in (packed[:-100], packed[:50] + bytes([packed[50] ^ 1]) + packed[51:], b"", packed + b"x"):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match="t10k-labels.*damaged"):
            mnist("test")
    path.unlink()
    with pytest.raises(ValueError, match="not complete.*t10k-labels"):
        mnist("test")
    path.write_bytes(packed)
    assert len(mnist("test").labels) == 10_000


def test_an_unknown_split_lists_the_splits():
    for split in ("valid", []):
        with pytest.raises(ValueError, match="'train', 'test', 'fit', 'validation', not " + re.escape(repr(split))):
            mnist(split)


@pytest.mark.equation("data.binarisation", "P(u < v) = v / 255 for u uniform on {0, ..., 254}", bound=1e-10)
def test_dynamic_binarisation_has_exactly_the_right_probability(measure):
    class EveryByte:
        """A generator that draws each of 0..254 once, for each pixel value."""
        def integers(self, low, high, shape, dtype):
            return np.tile(np.arange(low, high, dtype=dtype)[:, None], (1, shape[1]))

    v = np.tile(np.arange(256, dtype=np.uint8), (255, 1))
    x = Batches(v, 255, binarise=True).batch(np.arange(255), 0, EveryByte())
    measure(x.mean(axis=0, dtype=float) - np.arange(256) / 255)


@pytest.mark.equation("data.binarisation", "x_j ~ Bernoulli(v_j / 255), drawn anew", bound=5, kind="S")
def test_dynamic_binarisation_draws_anew_each_epoch(measure, rng):
    v = np.tile(np.array([[0, 30, 128, 255]], np.uint8), (5000, 1))
    batches = Batches(v, 5000, binarise=True)
    first, second = next(batches(rng)), next(batches(rng))
    assert first.dtype == np.float32 and (first != second)[:, 1:3].any(axis=0).all()
    assert (first[:, 0] == 0).all() and (first[:, 3] == 1).all()
    p = v[0, 1:3] / 255
    measure((first[:, 1:3].mean(0) - p) / np.sqrt(p * (1 - p) / 5000))


def test_only_bytes_are_binarised(rng):
    images = np.full((3, 4), 200, np.uint8)
    for bad, message in ((np.full((3, 4), 0.9, np.float32), "float32"), (images[:0], r"at least one row .* \(0, 4\)"),
                         ([[1, 2]], "not list")):
        with pytest.raises(ValueError, match=message):
            binarise(bad, rng)
    with pytest.raises(ValueError, match="Generator"):
        binarise(images, None)


def test_static_binarisation_is_the_published_rule():
    images = mnist("test").images
    expected = np.random.default_rng(1).random((10_000, 784)) < images.reshape(10_000, 784) / 255
    x = binarise(images, np.random.default_rng(1))
    assert x.dtype == np.float32 and (x == expected).all()


def test_an_epoch_visits_every_example_once_in_a_new_order(rng):
    data = np.arange(20, dtype=np.float32).reshape(10, 2)
    batches = Batches(data, 4, labels=np.arange(10))
    one, two = (list(batches(rng)) for _ in range(2))
    assert [len(x) for x, _ in one] == [4, 4, 2] and len(batches) == 3
    for epoch in (one, two):
        x, y = (np.concatenate(part) for part in zip(*epoch))
        assert sorted(y) == list(range(10)) and (x == data[y]).all()
    assert [list(y) for _, y in one] != [list(y) for _, y in two]
    assert [len(x) for x, _ in Batches(data, np.int64(4), labels=np.arange(10))(rng)] == [4, 4, 2]
    again = list(batches(np.random.default_rng(0)))
    assert all((a == b).all() for (a, _), (b, _) in zip(one, again))


def test_pixels_become_floats_a_batch_at_a_time(rng):
    for data, dtype, top in ((np.full((4, 2, 2), 255, np.uint8), np.float32, 1), (np.ones((4, 4), bool), np.float32, 1),
                             (np.full((4, 4), 0.5), np.float64, 0.5)):
        before = data.copy()
        x = next(Batches(data, 2)(rng))
        assert x.shape == (2, 4) and x.dtype == dtype and (x == top).all() and (data == before).all()
    assert as_floats(np.arange(256, dtype=np.uint8)).max() <= 1


@pytest.mark.parametrize("data, size, options, message", [
    (np.zeros((0, 4), np.uint8), 1, {}, "at least one row"), (np.zeros((4, 0), np.uint8), 1, {}, "at least one row"),
    (np.zeros(4, np.uint8), 1, {}, "shape"), ([[1, 2]], 1, {}, "list"),
    (np.zeros((4, 4), np.uint8), 5, {}, "batch_size must be at most 4, the number of examples, not 5"),
    (np.zeros((4, 4), np.uint8), 0, {}, "a positive integer, not 0"),
    (np.zeros((4, 4), np.uint8), True, {}, "a positive integer, not True"), (np.zeros((4, 4), int), 2, {}, "int64"),
    (np.full((4, 4), np.nan), 2, {}, "NaN or inf, first in row 0"),
    (np.zeros((4, 4)), 2, {"binarise": True}, "float64"),
    (np.array([[1.0], [np.inf]]), 2, {}, "first in row 1"),
    (np.zeros((4, 4)), 2, {"labels": np.zeros(3)}, r"labels of shape \(3,\)")])
def test_bad_data_is_refused(data, size, options, message):
    with pytest.raises(ValueError, match=message):
        Batches(data, size, **options)


def test_labels_are_read_from_every_kind_of_file(tmp_path):
    y = np.array([0, 2, 1, 0])
    np.save(tmp_path / "y.npy", y.astype(np.uint8))
    np.save(tmp_path / "column.npy", y[:, None].astype(np.float64))
    np.savez(tmp_path / "y.npz", images=np.zeros((4, 2)), labels=y)
    (tmp_path / "y.csv").write_text("0\n2\n1\n0\n")                # whose first line is no head
    (tmp_path / "named.csv").write_text("digit\n0\n2\n1\n0\n")
    for path in tmp_path.iterdir():
        found = load_labels(path)
        assert found.dtype == int and found.tolist() == y.tolist(), path


@pytest.mark.parametrize("y, message", [
    (np.array([0, -1]), "whole numbers from 0 up"), (np.array([0.5]), "whole numbers"), (np.eye(2), "shape (2, 2)"),
    (np.array([np.nan]), "whole numbers"), (np.zeros(0, int), "shape (0,)"), (np.array(["a"]), "holds <U1")])
def test_what_are_no_labels_is_one_clear_error(tmp_path, y, message):
    np.save(tmp_path / "y.npy", y)
    with pytest.raises(ValueError) as error:
        load_labels(tmp_path / "y.npy")
    assert message in str(error.value) and str(error.value).startswith(str(tmp_path / "y.npy"))
    with pytest.raises(ValueError, match="which are the labels"):
        np.savez(tmp_path / "y.npz", a=y, b=y)
        load_labels(tmp_path / "y.npz")
