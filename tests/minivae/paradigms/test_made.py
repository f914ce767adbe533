"""MADE: a distribution over bits that sums to one, from a network that never looks ahead."""
import contextlib
import io
from itertools import product

import numpy as np
import pytest

from autograd import gradcheck, jacobian, optim
from minivae.data import Batches
from minivae.paradigms import MADE
from minivae.train import evaluate, fit

from ..test_distributions import z_score

ORDERS = pytest.mark.parametrize("order", ["natural", "random", np.array([3, 1, 4, 0, 2])], ids=str)


def model_of(D=5, hidden=(12,), seed=0, **options):
    """A model far from where it starts, in float64."""
    rng = np.random.default_rng(seed)
    model = MADE(D, hidden, **options, rng=rng).astype(np.float64)
    for p in model.parameters():
        p.assign(p.data + rng.standard_normal(p.shape))
    return model


def every(D):
    """{0, 1}ᴰ, (2ᴰ, D)."""
    return np.array(list(product([0.0, 1.0], repeat=D)))


@pytest.mark.equation("made.autoregressive", "d y_i / d x_j = 0 exactly unless j is before i in the order", bound=1e-10)
@pytest.mark.parametrize("hidden", [(), (12,), (12, 32)], ids=str)
@ORDERS
def test_no_conditional_sees_its_own_bit_or_a_later_one(measure, rng, hidden, order):
    for activation in ("tanh", "relu"):
        model = model_of(hidden=hidden, order=order, activation=activation)
        before = model.order[:, None] > model.order                # (i, j): j is before i
        seen = np.zeros((5, 5), bool)
        for x in every(5):
            J = np.asarray(jacobian(lambda v: model.predict(v.reshape(1, 5)).mean[0])(x))
            measure(J * ~before)
            assert not J[~before].any()                            # and not merely small
            seen |= J != 0
        assert (seen == before).all()                              # and all that is before


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("D, hidden", [(1, (5,)), (2, (3,)), (5, ()), (9, (7,)), (17, (64,)), (33, (16, 33)),
                                       (784, (500,))], ids=str)
def test_no_bit_of_a_logit_comes_from_what_the_masks_hide(D, hidden, dtype, rng):
    """Whatever the shape is: products of matrices have other kernels at their edges, and for a single row."""
    model = MADE(D, hidden, order="random", rng=rng).astype(dtype)
    for rows in (1, 2, 5, 33, 128):
        x = (rng.random((rows, D)) < 0.5).astype(dtype)
        logits = model.predict(x).logits.data
        for place in {0, D // 3, D // 2, D - 1}:
            for change in (1, 1e30):
                other = np.where(model.order >= place, x + dtype(change), x)
                seen = model.order <= place
                np.testing.assert_array_equal(model.predict(other).logits.data[:, seen], logits[:, seen])


@pytest.mark.equation("made.chain-rule", "sum over {0, 1}^D of p(x) = 1, and p(x_i | before) is that of the joint",
                      bound=1e-10)
@pytest.mark.parametrize("hidden", [(), (12,), (12, 32)], ids=str)
@ORDERS
def test_the_probabilities_of_all_that_can_be_sum_to_one(measure, hidden, order):
    model, x = model_of(hidden=hidden, order=order), every(5)
    p = np.exp(model.log_prob(x).data)
    measure(p.sum() - 1)
    for place in range(5):
        known, (i,) = model.order < place, np.flatnonzero(model.order == place)
        for row, mean in zip(x, model.predict(x).mean.data):
            same = (x[:, known] == row[known]).all(axis=1)
            measure(p[same & (x[:, i] == 1)].sum() / p[same].sum() - mean[i])


@pytest.mark.equation("made.sampling", "how often each x of {0, 1}^D is drawn = n p(x)", bound=5, kind="S")
@ORDERS
def test_each_point_is_drawn_as_often_as_its_probability_says(measure, rng, order):
    model, n = model_of(order=order), 40_000
    drawn = (model.sample(n, rng) @ 2.0 ** np.arange(4, -1, -1)).astype(int)
    p = np.exp(model.log_prob(every(5)).data)
    measure((np.bincount(drawn, minlength=32) - n * p) / np.sqrt(n * p * (1 - p)))


def test_the_loss_is_the_mean_over_the_batch_and_its_gradient_is_right(rng):
    model, x = model_of(activation="tanh"), every(5)[::3]
    loss, terms = model.loss(x, rng)
    assert loss.item() == terms["nll"] == pytest.approx(-model.log_prob(x).data.mean(), rel=1e-12)
    for layer in model.net.layers:
        start = layer.w.data

        def at(w):
            layer.w = w
            return model.loss(x, rng)[0]
        gradcheck(at, start)
        layer.w = start


@pytest.mark.parametrize("dim, width", [(40, 10), (40, 39), (40, 50), (3, 64)])
def test_a_narrow_layer_sees_all_along_the_order(rng, dim, width):
    """Were the first `width` places the only ones that units may see up to, later bits could not tell."""
    first = MADE(dim, (width,), rng=rng).net.layers[0].mask
    sees = np.sort(first.sum(axis=0))                              # of each unit: how many bits it sees
    assert sees[0] >= 1 and sees[-1] >= dim - dim / width - 1 and sees[-1] < dim
    assert np.diff(sees).max() <= np.ceil(dim / width)


@pytest.mark.parametrize("order", ["natural", "random"])
@pytest.mark.parametrize("seed", [0, 1])
def test_it_learns_bits_that_are_told_by_no_single_other(seed, order):
    """x₂ = x₀ xor x₁, which no pair of bits shows; the best there is, is the entropy: 2 ln 2 and that of x₃."""
    rng = np.random.default_rng(seed)
    x = rng.integers(0, 2, (2000, 4))
    x[:, 2], x[:, 3] = x[:, 0] ^ x[:, 1], rng.random(2000) < 0.2
    x = x.astype(np.float32)
    model = MADE(4, (64,), order=order, rng=rng)
    with contextlib.redirect_stdout(io.StringIO()):
        fit(model, Batches(x, 100), epochs=40, optimizer=optim.Adam(model.parameters(), 0.01), rng=rng)
    freq = np.unique(x, axis=0, return_counts=True)[1] / len(x)
    assert 0 <= evaluate(model, x, rng)["nll"] + np.sum(freq * np.log(freq)) < 0.02
    drawn = model.sample(2000, rng)
    assert np.mean(drawn[:, 2] == (drawn[:, 0] != drawn[:, 1])) > 0.98
    assert abs(z_score(drawn[:, 3], x[:, 3].mean())) < 5


def test_order_and_masks_are_part_of_what_is_saved(rng):
    model, other = (MADE(9, (20,), order="random", rng=np.random.default_rng(seed)) for seed in (0, 1))
    x = (rng.random((6, 9)) < 0.5).astype(np.float32)
    assert not np.array_equal(model.order, other.order) and "order" in model.state()
    other.load_state(model.state())
    np.testing.assert_array_equal(model.log_prob(x).data, other.log_prob(x).data)
    np.testing.assert_array_equal(model.sample(7, np.random.default_rng(2)), other.sample(7, np.random.default_rng(2)))


def test_it_keeps_float32_and_its_input_and_draws_the_same_again(rng):
    model = MADE(9, (20,), rng=rng)
    x = (rng.random((6, 9)) < 0.5).astype(np.float32)
    before = x.copy()
    assert model.log_prob(x).dtype == model.sample(3, rng).dtype == np.float32
    np.testing.assert_array_equal(x, before)
    one, two = (model.sample(5, np.random.default_rng(3)) for _ in range(2))
    assert (one == two).all() and set(np.unique(one)) <= {0, 1}


@pytest.mark.parametrize("options, message", [
    ({"data_dim": 0}, "data_dim must be a positive integer, not 0"), ({"order": "raster"}, "'natural', 'random'"),
    ({"order": np.array([0, 1, 2, 3, 3])}, r"order must be a permutation of 0..4"),
    ({"order": None}, r"order must be a permutation of 0..4, not None"),
    ({"order": [None, 1, 2, 3, 4]}, r"order must be a permutation of 0..4"),
    ({"hidden": (0,)}, "a width in hidden must be"), ({"rng": 0}, "rng must be a numpy.random.Generator"),
    ({"activation": "step"}, "activation must be one of")])
def test_what_cannot_be_a_made_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        MADE(**{"data_dim": 5, "rng": np.random.default_rng(0)} | options)


@pytest.mark.parametrize("x, message", [
    (np.full((2, 5), 0.5, np.float32), "x must be 0 and 1.*goes from 0.5 to 0.5: draw bits"),
    (np.full((2, 5), np.nan, np.float32), "x must be 0 and 1"), (np.full((2, 5), 2, np.float32), "from 2.0 to 2.0"),
    (np.zeros((2, 4), np.float32), r"shape \(batch, 5\) with at least one row, not \(2, 4\)"),
    (np.zeros((0, 5), np.float32), "at least one row"), (np.zeros((2, 5)), "array of float32, .*not float64"),
    ([[0, 1, 0, 1, 0]], "array of float32, .*not list")])
def test_what_are_no_bits_is_refused(rng, x, message):
    with pytest.raises(ValueError, match=message):
        MADE(5, rng=rng).log_prob(x)
