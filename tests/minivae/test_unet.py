"""The U-Net is the network of its equations, piece by piece, and as a whole the same as in PyTorch."""
import os
import signal

import numpy as np
import pytest

from autograd import Tensor, no_grad, ops, optim
from autograd.nn import time_embedding
from autograd.pooling import upsample
from minivae.checkpoint import load
from minivae.data import Batches
from minivae.diffusion import DDPM, Schedule, UNet
from minivae.diffusion.unet import Attention, Block
from minivae.train import fit

from ..autograd.cases import directional

T = np.array([1, 500])


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def small(rng):
    return UNet((2, 8, 12), channels=8, multipliers=(1, 2, 1), num_classes=3, groups=4, rng=rng).astype(np.float64)


def normal(rng, *shape):
    return rng.standard_normal(shape)


def twin_norm(norm, x):
    """Group norm and, if it has one, SiLU, from plain NumPy."""
    B, *_, C = x.shape
    parts = x.reshape(B, -1, norm.groups, C // norm.groups)
    parts = (parts - parts.mean(axis=(1, 3), keepdims=True)) / np.sqrt(parts.var(axis=(1, 3), keepdims=True) + 1e-5)
    y = parts.reshape(x.shape) * norm.gain.data + norm.shift.data
    return y / (1 + np.exp(-y)) if norm.silu else y


@pytest.mark.equation("unet.block", "h = W1*phi(norm x) + V phi(tau), y = x + W2*phi(norm h)", bound=1e-10, kind="E")
@pytest.mark.parametrize("c_in, c_out", [(8, 8), (8, 12)])
def test_a_block_adds_to_its_input_what_two_convolutions_make_of_it_and_of_the_time(rng, measure, c_in, c_out):
    block, x, tau = Block(c_in, c_out, 6, 4, rng=rng).astype(np.float64), normal(rng, 2, 4, 4, c_in), normal(rng, 2, 6)
    h = block.conv1(twin_norm(block.norm1, x)) + (tau @ block.time.w.data + block.time.b.data)[:, None, None]
    y = block.conv2(twin_norm(block.norm2, np.asarray(h)))
    skip = x if c_in == c_out else x @ block.skip.w.data + block.skip.b.data
    measure(np.abs(np.asarray(block(x, tau)) - skip - np.asarray(y)).max())


@pytest.mark.equation("unet.attention", "y = x + attention(norm(x))", bound=1e-10, kind="E")
def test_attention_lets_each_position_see_all_others_and_not_know_where_they_are(rng, measure):
    attention, x = Attention(8, 4, rng=rng).astype(np.float64), normal(rng, 2, 3, 3, 8)
    n = twin_norm(attention.norm, x).reshape(2, 9, 8)
    q, k, v = np.split(n @ attention.attention.qkv.w.data + attention.attention.qkv.b.data, 3, axis=2)
    p = np.exp(q @ k.transpose(0, 2, 1) / 8 ** 0.5)
    mixed = (p / p.sum(axis=2, keepdims=True) @ v) @ attention.attention.out.w.data + attention.attention.out.b.data
    y = np.asarray(attention(x))
    measure(np.abs(y - x - mixed.reshape(x.shape)).max())
    assert np.allclose(np.asarray(attention(x[:, ::-1].copy())), y[:, ::-1])


@pytest.mark.equation("unet.time", "tau = MLP(sines and cosines of t) + e_y", bound=1e-10, kind="E")
def test_the_time_and_the_class_are_one_vector_and_no_class_is_a_class_of_its_own(rng, measure, small):
    x, y = normal(rng, 2, 2, 8, 12), np.array([2, 0])
    silu = lambda a: a / (1 + np.exp(-a))
    first, second = small.time
    h = silu(time_embedding(T, 8, dtype=np.float64) @ first.w.data + first.b.data)
    tau = h @ second.w.data + second.b.data + small.classes.w.data[y]
    measure(np.abs(np.asarray(small.embed(T, y)) - silu(tau)).max())
    at = lambda t, y: np.asarray(small(x, t, y))
    assert np.array_equal(at(T, None), at(T, np.full(2, 3)))
    assert all(np.abs(at(T, y) - other).max() > 1e-3 for other in (at(T, y[::-1]), at(T, None), at(T + 1, y)))


@pytest.mark.equation("unet.skip", "x = block([upsample(x), s])", bound=1e-10, kind="E")
def test_the_way_up_is_given_what_the_way_down_had_at_that_size(rng, measure, small):
    x = normal(rng, 2, 2, 8, 12)
    tau, h = small.embed(T, None), small.stem(x.transpose(0, 2, 3, 1))
    one = small.down[0](h, tau)
    two = small.down[1](small.halve[0](one), tau)
    low = small.halve[1](two)
    first, attention, last = small.middle
    h = last(attention(first(low, tau)), tau)
    assert one.shape[1:3] == (8, 12) and two.shape[1:3] == (4, 6) and h.shape[1:3] == (2, 3)
    for block, skip in zip(small.up, (two, one)):
        h = block(ops.concatenate([upsample(h), skip], axis=3), tau)
    expected = np.asarray(small.head(small.norm(h))).transpose(0, 3, 1, 2)
    measure(np.abs(np.asarray(small(x, T)) - expected).max())


def test_every_parameter_and_the_input_have_the_right_gradient(rng, small):
    x, y, weights = Tensor(normal(rng, 2, 2, 8, 12), requires_grad=True), np.array([1, 3]), normal(rng, 2, 2, 8, 12)
    f = lambda: ops.sum(small(x, T, y) * weights)
    f().backward()
    for p in [x, *small.parameters()]:
        gradient, at, v = p.grad, p.data.copy(), normal(rng, *p.shape)

        def moved(value):
            p.assign(value)
            return f().item()
        numeric = directional(moved, [at], [v], h=1e-4)
        p.assign(at)
        assert abs(np.sum(gradient * v) - numeric) < 1e-7 * max(1, abs(numeric))


@pytest.mark.oracle
def test_it_is_the_network_that_pytorch_is_measured_with(rng, oracle):
    torch = oracle("torch")
    from tests.bench import denoisers
    unet, peer = UNet((1, 28, 28), channels=32, multipliers=(1, 2, 2), rng=rng), denoisers.UNet()
    assert sum(p.size for p in unet.parameters()) == 509_857
    layout = {4: (3, 2, 0, 1), 2: (1, 0), 1: (0,)}
    names = {"stem": "first", "middle.0": "before", "middle.1": "attention", "middle.2": "after", "head": "last",
             "time.1": "time.2"}
    state = {}
    for name, p in unet.named_parameters().items():
        for ours, theirs in names.items():
            if name.startswith(ours + "."):
                name = theirs + name[len(ours):]
                break
        name = name.replace("attention.attention.", "attention.")
        name = name.removesuffix(".w").removesuffix(".gain") + ".weight" if name.endswith((".w", ".gain")) else (
            name.removesuffix(".b").removesuffix(".shift") + ".bias")
        state[name] = torch.tensor(p.data.transpose(layout[p.ndim]))
    theirs = peer.state_dict()
    peer.load_state_dict({name: a.reshape(theirs[name].shape) for name, a in state.items()})
    x, t = rng.standard_normal((2, 1, 28, 28), np.float32), np.array([1, 777])
    with no_grad(), torch.no_grad():
        expected = peer(torch.tensor(x), torch.tensor(t)).numpy()
        assert np.abs(np.asarray(unet(x, t)) - expected).max() < 1e-5 * np.abs(expected).max() + 1e-5


def test_a_learned_variance_doubles_the_channels_and_float32_stays(rng):
    unet = UNet((3, 4, 4), channels=8, multipliers=(1, 1), learned_variance=True, rng=rng)
    y = unet(rng.standard_normal((2, 3, 4, 4), np.float32), T)
    assert y.shape == (2, 6, 4, 4) and y.dtype == np.float32


@pytest.mark.parametrize("options, message", [
    (dict(shape=(1, 30, 28)), "30 x 28 cannot be halved 2 times"), (dict(shape=(28, 28)), "a shape (C, H, W)"),
    (dict(shape=(0, 28, 28)), "must be a positive integer, not 0"), (dict(multipliers=()), "some multipliers"),
    (dict(multipliers=(1, 0)), "each multiplier must be a positive integer"),
    (dict(channels=12), "multiple of groups = 8"), (dict(channels=9, groups=3), "channels must be even"),
    (dict(shape=28), "a shape (C, H, W)"), (dict(multipliers=2), "some multipliers"),
    (dict(num_classes=0), "num_classes must be a positive integer"), (dict(groups=0), "groups must be"),
    (dict(rng=0), "rng must be")])
def test_a_unet_that_cannot_be_is_one_clear_error(rng, options, message):
    with pytest.raises(ValueError) as error:
        UNet(**dict(shape=(1, 28, 28), rng=rng) | options)
    assert message in str(error.value)


@pytest.mark.parametrize("args, message", [
    (((2, 1, 8, 12), T, None), "not (2, 1, 8, 12)"), (((2, 2, 8, 12), T[:1], None), "(1,)"),
    (((2, 2, 8, 12), T, np.zeros(3, int)), "(3,)"), (((2, 2, 8, 12), T, np.array([0, 4])), "0 to 4"),
    (((2, 2, 8, 12), T, np.array([0.0, 1.0])), "y must be 2 whole numbers"),
    (((2, 2, 8, 12), T + 0.5, None), "t must be 2 whole numbers from 1 on"),
    (((2, 2, 8, 12), T - 1, None), "not [  0 499]"), (((), T, None), "not (), (2,)")])
def test_what_does_not_fit_is_one_clear_error(small, args, message):
    shape, t, y = args
    with pytest.raises(ValueError) as error:
        small(np.zeros(shape), t, y)
    assert message in str(error.value)


def test_a_class_given_to_a_unet_without_classes_is_an_error(rng):
    with pytest.raises(ValueError, match="no classes"):
        UNet((1, 4, 4), channels=8, multipliers=(1,), rng=rng)(np.zeros((1, 1, 4, 4), np.float32), T[:1], T[:1])


def digits(rng):
    unet = UNet((1, 8, 8), channels=8, multipliers=(1, 1), num_classes=3, learned_variance=True, rng=rng)
    return DDPM(unet, Schedule.cosine(20), loss="hybrid", variance="learned")


def test_ddpm_trains_every_parameter_of_it_and_samples_with_guidance(rng):
    model, x = digits(rng), rng.uniform(-1, 1, (8, 1, 8, 8)).astype(np.float32)
    loss, terms = model.loss((x, np.arange(8) % 3), rng)
    loss.backward()
    assert all(np.any(p.grad) for p in model.parameters()) and set(terms) == {"simple", "vlb"}
    drawn = model.sample(4, rng, y=np.array([0, 1, 2, 0]), guidance=2.0)
    assert drawn.shape == (4, 1, 8, 8) and drawn.dtype == np.float32 and np.abs(drawn).max() <= 1


def test_training_stopped_by_ctrl_c_amid_an_epoch_ends_in_the_weights_of_training_that_was_not(tmp_path):
    class Stops(DDPM):
        def on_step(self, t):
            if t == 5:
                os.kill(os.getpid(), signal.SIGINT)

    def run(kind=DDPM, **options):
        rng = np.random.default_rng(1)
        model = digits(rng)
        model.__class__ = kind
        optimizer, average = optim.Adam(model.parameters(), 1e-3), optim.EMA(model.parameters(), 0.9)
        batches = Batches(rng.uniform(-1, 1, (24, 1, 8, 8)).astype(np.float32), 8, labels=np.arange(24) % 3)
        fit(model, batches, epochs=3, optimizer=optimizer, rng=rng, ema=average, **options)
        state = [*model.state().values(), *optimizer.state().values(), *average.state().values()]
        average.apply()
        return [*state, model.sample(2, rng)]
    stopped = dict(checkpoint=tmp_path / "run.npz", resume=True)
    with pytest.raises(KeyboardInterrupt, match="after step 5"):
        run(Stops, **stopped)
    assert load(tmp_path / "run.npz").header["position"]["t"] == 5
    assert all(np.array_equal(a, b) for a, b in zip(run(**stopped), run(), strict=True))
