"""Batch normalisation against its formulas and PyTorch's; and models that hold it."""
import contextlib
import io

import numpy as np
import pytest

from autograd import Tensor, gradcheck, no_grad, optim
from minivae.checkpoint import load
from minivae.data import Batches
from minivae.train import evaluate, fit
from minivae.vae import LadderVAE
from minivae.vae.batch_norm import BatchNorm, NormedMLP


def trained_norm(rng, d=4, rate=0.1, batches=5):
    """A BatchNorm in float64, with gain and shift, that has seen some batches; and those."""
    norm = BatchNorm(d, rate=rate).astype(np.float64)
    norm.gain.assign(rng.normal(1, 0.3, d))
    norm.shift.assign(rng.standard_normal(d))
    seen = [rng.normal(3, 2, (n, d)) for n in range(7, 7 + batches)]
    for x in seen:
        norm(x)
    return norm, seen


@pytest.mark.equation("batchnorm.batch", "(y - s) / g has mean 0, variance v / (v + eps)", bound=1e-12)
@pytest.mark.parametrize("B", [2, 50])
def test_a_batch_in_training_is_normalised(measure, rng, B):
    norm, _ = trained_norm(rng)
    x = rng.normal(-5, 3, (B, 4))
    y, v = (norm(x).data - norm.shift.data) / norm.gain.data, x.var(axis=0)
    measure(y.mean(axis=0))
    measure(y.var(axis=0) - v / (v + norm.eps))
    measure(y * np.sqrt(v + norm.eps) - (x - x.mean(axis=0)))


@pytest.mark.equation("batchnorm.running", "y = g (x - m) / sqrt(v + eps) + s of the running m and v", bound=1e-12)
@pytest.mark.parametrize("rate", [0.1, 1.0])
def test_evaluation_uses_the_running_statistics_of_training(measure, rng, rate):
    norm, seen = trained_norm(rng, rate=rate)
    mean, variance = np.zeros(4), np.ones(4)
    for x in seen:
        mean, variance = mean + rate * (x.mean(axis=0) - mean), variance + rate * (x.var(axis=0, ddof=1) - variance)
    x = rng.standard_normal((3, 4))
    y = norm.eval()(x)
    measure(y.data - (norm.gain.data * (x - mean) / np.sqrt(variance + 1e-5) + norm.shift.data))
    measure(norm(x[:1]).data - y.data[:1])                         # and examples know nothing of each other
    measure(norm.mean - mean)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("activation", [None, "tanh"])
def test_gradients_pass_finite_differences(rng, training, activation):
    norm, _ = trained_norm(rng)
    norm.train(training).activation = activation

    def f(x, gain, shift):
        norm.gain, norm.shift = gain, shift
        return norm(x)
    gradcheck(f, rng.standard_normal((6, 4)), rng.standard_normal(4), rng.standard_normal(4))


def test_it_agrees_with_pytorch(rng, oracle):
    torch = oracle("torch")
    ours, theirs = BatchNorm(5), torch.nn.BatchNorm1d(5)
    for n in (8, 3, 20):
        x = rng.normal(2, 3, (n, 5)).astype(np.float32)
        g = rng.standard_normal((n, 5)).astype(np.float32)
        a, b = Tensor(x, requires_grad=True), torch.tensor(x, requires_grad=True)
        (ours(a) * g).sum().backward()
        (theirs(b) * torch.from_numpy(g)).sum().backward()
        np.testing.assert_allclose(a.grad, b.grad.numpy(), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(ours.gain.grad, theirs.weight.grad.numpy(), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(ours.mean, theirs.running_mean.numpy(), rtol=1e-5)
    np.testing.assert_allclose(ours.variance, theirs.running_var.numpy(), rtol=1e-5)
    y = ours.eval()(x)
    assert y.dtype == ours.mean.dtype == np.float32
    np.testing.assert_allclose(y.data, theirs.eval()(torch.from_numpy(x)).detach().numpy(), rtol=1e-5, atol=1e-5)


def test_the_activation_comes_after_the_normalisation(rng):
    x = rng.standard_normal((9, 4)).astype(np.float32)
    y = BatchNorm(4)(x).data
    for mode in (True, False):
        plain, rectified = (BatchNorm(4, name).train(mode)(x).data for name in (None, "relu"))
        np.testing.assert_array_equal(rectified, np.maximum(plain, 0))
    assert (y < 0).any()


def test_all_hidden_layers_of_an_mlp_are_normalised_and_its_output_is_not(rng):
    net = NormedMLP(6, 5, 4, 3, rng=rng)
    assert [type(layer).__name__ for layer in net.layers] == ["Linear", "BatchNorm", "Linear", "BatchNorm", "Linear"]
    assert [layer.activation for layer in net.layers[1::2]] == ["relu", "relu"]
    assert [layer.b is None for layer in net.layers[::2]] == [True, True, False]
    x = rng.standard_normal((50, 6)).astype(np.float32)
    np.testing.assert_allclose(net(100 * x + 7).data, net(x).data, atol=1e-3)
    assert len(NormedMLP(6, 3, rng=rng).layers) == 1


def test_a_model_is_trained_by_its_batches_and_evaluated_by_running_statistics(rng, tmp_path):
    model = LadderVAE(12, (3, 2), (8, 6), batch_norm=True, rng=rng)
    x = rng.integers(0, 256, (64, 12), np.uint8)
    with contextlib.redirect_stdout(io.StringIO()):
        fit(model, Batches(x, 16, binarise=True), epochs=2, optimizer=optim.Adam(model.parameters(), 1e-3), rng=rng,
            checkpoint=tmp_path / "model.npz")
    norms = [m for m in model.modules() if isinstance(m, BatchNorm)]
    state = model.state()
    assert len(norms) == 4 and all(np.abs(n.mean).max() > 0 and n.mean.dtype == np.float32 for n in norms)
    test = np.round(x / np.float32(255))
    assert evaluate(model, test, np.random.default_rng(1), rows=64) == pytest.approx(
        evaluate(model, test, np.random.default_rng(1), rows=32), rel=0.2)
    assert model.training and all((value == state[name]).all() for name, value in model.state().items())
    other = LadderVAE(12, (3, 2), (8, 6), batch_norm=True, rng=rng)
    other.load_state(load(tmp_path / "model.npz").part("model"))
    with no_grad():
        np.testing.assert_array_equal(*(np.asarray(m.eval().encode(test[:1]).mean) for m in (model, other)))


@pytest.mark.parametrize("call, message", [
    (lambda: BatchNorm(0), "features must be a positive integer, not 0"),
    (lambda: BatchNorm(3, "sine"), "activation must be one of"),
    (lambda: BatchNorm(3, rate=0), "0 < rate <= 1"), (lambda: BatchNorm(3, eps=0), "eps > 0"),
    (lambda: BatchNorm(3)(np.ones((4, 2), np.float32)), r"BatchNorm of 3 features was given \(4, 2\)"),
    (lambda: BatchNorm(3)(np.ones((1, 3), np.float32)), "two examples or more: call eval")])
def test_bad_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_what_is_drawn_without_gradients_leaves_the_running_statistics_alone(rng):
    model, x = LadderVAE(12, (3, 2), (8, 6), batch_norm=True, rng=rng), rng.integers(0, 2, (8, 12)).astype(np.float32)
    before = {name: value.copy() for name, value in model.state().items()}
    model.sample(5, rng)
    model.log_likelihood(x, 3, rng)
    assert all((value == before[name]).all() for name, value in model.state().items())
    model.loss(x, rng)
    assert any((value != before[name]).any() for name, value in model.state().items())
