"""The denoiser of points."""
import numpy as np
import pytest

from autograd import Tensor
from minivae.diffusion import MLPDenoiser, mlp


def test_it_returns_the_shape_of_x_or_twice_the_width(rng):
    x, t = rng.standard_normal((4, 3), np.float32), np.array([1, 5, 9, 1000])
    assert MLPDenoiser(3, (8,), rng=rng)(x, t).shape == (4, 3)
    assert MLPDenoiser(3, (8,), learned_variance=True, rng=rng)(x, t).shape == (4, 6)
    assert MLPDenoiser(3, (), rng=rng)(x, t).shape == (4, 3)
    f = MLPDenoiser(3, (8,), rng=rng).astype(np.float64)
    assert f(x.astype(np.float64), t).dtype == np.float64


def test_it_sees_time_and_class_and_takes_none_for_no_class(rng):
    f, x = MLPDenoiser(2, (16,), num_classes=3, rng=rng), np.ones((5, 2), np.float32)
    at = lambda t, y: f(x[:len(t)], np.array(t), y).data
    rows = at([1, 2, 500, 501, 1000], None)
    assert min(np.abs(a - b).max() for i, a in enumerate(rows) for b in rows[:i]) > 1e-4
    rows = at([7, 7, 7, 7], np.array([0, 1, 2, 3]))
    assert min(np.abs(a - b).max() for i, a in enumerate(rows) for b in rows[:i]) > 1e-4
    np.testing.assert_allclose(rows[3], at([7], None)[0], rtol=1e-5)


def test_times_beyond_its_table_are_seen_as_well(rng, monkeypatch):
    f, x, t = MLPDenoiser(2, (8,), rng=rng), np.ones((4, 2), np.float32), np.array([1, 7, 900, 1000])
    from_table = f(x, t).data
    monkeypatch.setattr(mlp, "MANY", 1000)
    np.testing.assert_array_equal(f(x, t).data, from_table)
    assert np.isfinite(f(x, t * 10 ** 9).data).all()


def test_it_is_differentiable_in_x(rng):
    x = Tensor(rng.standard_normal((4, 2)), requires_grad=True, dtype=np.float32)
    MLPDenoiser(2, (8,), rng=rng)(x, np.arange(1, 5)).sum().backward()
    assert x.grad.shape == (4, 2) and np.abs(x.grad).min() > 0


@pytest.mark.parametrize("options, message", [
    ({"dim": 0}, "dim must be a positive"), ({"hidden": 8}, "hidden must be a tuple"),
    ({"hidden": (8, 0)}, "a width in hidden"), ({"num_classes": 0}, "num_classes"),
    ({"time_dim": 7}, "time_dim must be even.*not 7"), ({"activation": "swish"}, "activation must be one of"),
    ({"rng": 0}, "rng must be")], ids=str)
def test_bad_options_are_refused(rng, options, message):
    with pytest.raises(ValueError, match=message):
        MLPDenoiser(**{"dim": 2, "rng": rng, **options})


@pytest.mark.parametrize("shape, t, y, message", [
    ((2, 3), [1, 2], None, r"takes x \(B, 2\), not \(2, 3\)"), ((2,), [1, 2], None, r"not \(2,\)"),
    ((2, 2), [1], None, r"t must be 2 whole numbers from 1 on.*shape \(1,\)"), ((2, 2), 1, None, r"shape \(\)"),
    ((2, 2), [1, 0], None, r"whole numbers from 1 on, one for each x, not \[1 0\]"),
    ((2, 2), [1.0, 2.0], None, r"not \[1. 2.\]"), ((2, 2), [[1], [2]], None, r"shape \(2, 1\)"),
    ((2, 2), [1, 2], [0], "y must be 2 whole numbers"), ((2, 2), [1, 2], [0.0, 1.0], "y must be 2 whole numbers"),
    ((2, 2), [1, 2], [0, 4], r"classes must be in \[0, 3\), or 3 for none, got 0 to 4"),
    ((2, 2), [1, 2], [-1, 0], "got -1 to 0")], ids=str)
def test_what_does_not_fit_is_refused(rng, shape, t, y, message):
    with pytest.raises(ValueError, match=message):
        MLPDenoiser(2, (4,), num_classes=3, rng=rng)(np.zeros(shape, np.float32), t, y)


def test_classes_without_num_classes_are_refused(rng):
    with pytest.raises(ValueError, match="has no classes"):
        MLPDenoiser(2, rng=rng)(np.zeros((1, 2), np.float32), np.array([1]), np.array([0]))
