"""Layers start as they say, keep their state by name, and refuse what they cannot take."""
import numpy as np
import pytest

from autograd import Tensor, no_grad, nn, ops, optim
from autograd.nn import Linear, Module, Parameter


class Net(Module):
    """A module with every kind of attribute: a part, parts in a list, a parameter, buffers and plain values."""

    def __init__(self, rng):
        self.body = nn.MLP(4, 5, 3, activation="tanh", rng=rng)
        self.heads = [Linear(3, 2, rng=rng), Linear(3, 1, rng=rng)]
        self.scale = Parameter(np.ones(2))
        self.mean, self.count = np.zeros(3, np.float32), np.zeros(1, int)
        self.name = "net"

    def forward(self, x):
        h = self.body(x) - self.mean
        return self.heads[0](h) * self.scale + self.heads[1](h)


NAMES = ["body.layers.0.w", "body.layers.0.b", "body.layers.1.w", "body.layers.1.b", "heads.0.w", "heads.0.b",
         "heads.1.w", "heads.1.b", "scale"]


@pytest.fixture
def net(rng):
    return Net(rng)


# How layers begin

@pytest.mark.equation("nn.linear-init", "W and b ~ U(-1/sqrt(in), 1/sqrt(in)): mean 0, variance 1/(3 in)",
                      bound=5, kind="S")
def test_linear_starts_uniform(measure):
    n = 64
    layer = Linear(n, 3000, rng=np.random.default_rng(0))
    assert layer.w.dtype == layer.b.dtype == np.float32
    for x in (layer.w.data.astype(float).ravel() * n ** 0.5, layer.b.data.astype(float) * n ** 0.5):
        assert np.abs(x).max() <= 1 + 1e-6 and np.abs(x).max() > 0.99
        measure(x.mean() / (1 / (3 * x.size)) ** 0.5)
        measure((np.mean(x ** 2) - 1 / 3) / (4 / 45 / x.size) ** 0.5)


def test_an_embedding_starts_standard_normal():
    w = nn.Embedding(200, 300, rng=np.random.default_rng(0)).w.data.astype(float)
    assert abs(w.mean()) * w.size ** 0.5 < 5 and abs(np.mean(w ** 2) - 1) * (w.size / 2) ** 0.5 < 5


def test_one_seed_gives_one_network():
    a, b, c = (Net(np.random.default_rng(seed)).state() for seed in (1, 1, 2))
    assert all(np.array_equal(a[k], b[k]) for k in a)
    assert not np.array_equal(a["heads.0.w"], c["heads.0.w"])


# What layers compute

@pytest.mark.parametrize("activation", [None, "relu", "tanh", "sigmoid", "leaky_relu", "silu", "gelu", "softplus"])
def test_linear_is_activation_of_an_affine_map(activation, rng):
    layer = Linear(3, 4, activation, rng=rng).astype(np.float64)
    x = rng.standard_normal((2, 5, 3))
    y = x @ layer.w.data + layer.b.data
    np.testing.assert_allclose(layer(x).data, getattr(ops, activation)(y) if activation else y, rtol=1e-12, atol=1e-14)


def test_an_mlp_is_its_layers_in_turn(rng):
    mlp = nn.MLP(3, 5, 6, 2, activation="gelu", rng=rng)
    x = rng.standard_normal((4, 3)).astype(np.float32)
    h = x
    for layer in mlp.layers:
        h = layer(h)
    assert [layer.activation for layer in mlp.layers] == ["gelu", "gelu", None]
    np.testing.assert_array_equal(mlp(x).data, h.data)


def test_an_embedding_looks_up_and_adds_up_gradients(rng):
    table = nn.Embedding(5, 3, rng=rng)
    y = table([[1, 4], [1, 1]])
    np.testing.assert_array_equal(y.data, table.w.data[[[1, 4], [1, 1]]])
    ops.sum(y).backward()
    np.testing.assert_array_equal(table.w.grad[:, 0], [0, 3, 0, 0, 1])


@pytest.mark.equation("nn.dropout", "y = m x / (1 - p): E y = x, Var y = x^2 p / (1 - p)", bound=5, kind="S")
@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_dropout_keeps_the_mean(p, measure, rng):
    x, n = np.array([1.0, -2.0, 0.5]), 20_000
    y = nn.Dropout(p)(np.broadcast_to(x, (n, 3)), rng)
    assert np.isclose(np.unique(y[:, 0]), [0, 1 / (1 - p)]).all()
    measure((y.mean(0) - x) / np.abs(x) / (p / (1 - p) / n) ** 0.5)
    kept = (y != 0).mean(0)
    measure((kept - (1 - p)) / (p * (1 - p) / n) ** 0.5)


def test_dropout_gradients_use_the_same_mask(rng):
    x = Tensor(np.ones((50, 3)), requires_grad=True, dtype=np.float32)
    y = nn.Dropout(0.5)(x, rng)
    ops.sum(y).backward()
    assert y.dtype == np.float32
    np.testing.assert_array_equal(x.grad, y.data)


def test_dropout_does_nothing_in_evaluation(rng):
    x = np.ones((5, 3))
    for layer in (nn.Dropout(0.5).eval(), nn.Dropout(0.0)):
        assert layer(x, rng) is x


def test_sequential_hands_the_generator_to_the_layers_that_draw(rng):
    net = nn.Sequential(Linear(3, 64, rng=rng), nn.Sequential(nn.Dropout(0.5)), Linear(64, 2, rng=rng))
    x = np.ones((4, 3), np.float32)
    a, b, c = (net(x, np.random.default_rng(seed)).data for seed in (1, 1, 2))
    assert np.array_equal(a, b) and not np.array_equal(a, c)
    net.eval()
    np.testing.assert_array_equal(net(x).data, net(x, rng).data)


# State

def test_parameters_are_found_by_name_in_order(net):
    assert list(net.named_parameters()) == NAMES
    assert [p.size for p in net.parameters()] == [20, 5, 15, 3, 6, 2, 3, 1, 2]
    assert set(net.state()) == {*NAMES, "mean", "count"}
    assert [type(m).__name__ for m in net.modules()] == ["Net", "MLP"] + ["Linear"] * 4


def test_the_state_goes_round(net):
    other = Net(np.random.default_rng(9))
    net.mean[:], net.count[0] = [1, 2, 3], 7
    x = np.ones((2, 4), np.float32)
    assert not np.array_equal(net(x).data, other(x).data)
    other.load_state(net.state())
    np.testing.assert_array_equal(net(x).data, other(x).data)
    assert other.count == 7 and other.count.dtype == int


def test_the_state_is_a_copy(net):
    state = net.state()
    for a in state.values():
        a[...] = 77
    assert not any((a == 77).any() for a in net.state().values())
    net.load_state(state)
    state["mean"][:] = state["scale"][:] = 5
    assert (net.mean == 77).all() and (net.scale.data == 77).all()


def test_a_parameter_stays_the_same_object_when_state_is_loaded(net):
    before = net.parameters()
    net.load_state({k: v + 1 for k, v in net.state().items()})
    assert all(p is q for p, q in zip(before, net.parameters()))


@pytest.mark.parametrize("spoil, message", [
    (lambda s: s.pop("heads.1.b"), r"lacks \['heads.1.b'\]"),
    (lambda s: s.update(extra=np.ones(1)), r"has \['extra'\]"),
    (lambda s: s.update(scale=np.ones(3)), r"scale has shape \(3,\), not \(2,\)"),
    (lambda s: s.update(mean=np.ones((3, 1))), r"mean has shape \(3, 1\)")], ids=["lacks", "extra", "shape", "buffer"])
def test_a_state_that_does_not_fit_changes_nothing(net, spoil, message):
    state = {k: v + 1 for k, v in net.state().items()}
    spoil(state)
    before = net.state()
    with pytest.raises(ValueError, match=message):
        net.load_state(state)
    assert all(np.array_equal(before[k], v) for k, v in net.state().items())


def test_loading_a_state_between_forward_and_backward_is_noticed(net):
    loss = ops.sum(net(np.ones((2, 4), np.float32)))
    net.load_state(net.state())
    with pytest.raises(RuntimeError, match="changed between forward and backward"):
        loss.backward()


def test_astype_converts_parameters_and_float_buffers(net):
    x, names = np.random.default_rng(0).standard_normal((3, 4)), list(net.named_parameters())
    single = net(x.astype(np.float32)).data
    assert net.astype(np.float64) is net
    assert all(p.dtype == np.float64 and isinstance(p, Parameter) for p in net.parameters())
    assert net.mean.dtype == np.float64 and net.count.dtype == int and list(net.named_parameters()) == names
    y = net(x)
    np.testing.assert_allclose(y.data, single, rtol=1e-5, atol=1e-6)
    ops.sum(y).backward()
    assert all(p.grad.dtype == np.float64 for p in net.parameters())


def test_a_shared_parameter_is_counted_once(net):
    alone = len(net.parameters())
    net.tied = net.heads[0]
    net.scale_too = net.scale
    assert len(net.parameters()) == alone
    assert "[57 parameters]" in repr(net).splitlines()[0]
    x = np.ones((2, 4), np.float32)
    ops.sum(net(x)).backward()
    before = net.scale.data.copy()
    optim.SGD(net.parameters(), 1.0).step()
    np.testing.assert_array_equal(net.scale.data, before - net.scale.grad)


def test_repr_counts_the_parameters_of_every_part(net):
    assert repr(net) == """Net  [57 parameters]
  body: MLP  [43 parameters]
    layers.0: Linear(4 -> 5, tanh)  [25 parameters]
    layers.1: Linear(5 -> 3)  [18 parameters]
  heads.0: Linear(3 -> 2)  [8 parameters]
  heads.1: Linear(3 -> 1)  [4 parameters]"""
    assert repr(nn.Dropout(0.25)) == "Dropout(0.25)  [0 parameters]"
    assert repr(nn.Embedding(1000, 2, rng=np.random.default_rng(0))) == "Embedding(1000, 2)  [2,000 parameters]"


def test_train_and_eval_reach_every_part(net):
    net.heads.append(nn.Dropout(0.5))
    assert net.eval() is net and not any(m.training for m in net.modules())
    assert net.train() is net and all(m.training for m in net.modules())


def test_every_parameter_gets_a_gradient_and_buffers_none(net):
    ops.sum(net(np.ones((2, 4), np.float32))).backward()
    assert all(p.grad.shape == p.shape and p.grad.dtype == np.float32 for p in net.parameters())


def test_a_network_runs_without_recording(net):
    with no_grad():
        assert not net(np.ones((2, 4), np.float32)).requires_grad


# Bad input

@pytest.mark.parametrize("make, message", [
    (lambda rng: Linear(3, 2, "swish", rng=rng), "one of.*relu.*silu.*'swish'"),
    (lambda rng: nn.MLP(3, 4, 2, activation="exp", rng=rng), "one of.*relu.*'exp'"),
    (lambda rng: Linear(0, 2, rng=rng), "not 0 and 2"),
    (lambda rng: nn.MLP(3, rng=rng), r"input and an output.*\(3,\)"),
    (lambda rng: nn.Dropout(1.0), "0 <= p < 1, not 1.0"), (lambda rng: nn.Dropout(-0.1), "not -0.1"),
    (lambda rng: Linear(3, 2, rng=rng)(np.ones((5, 4), np.float32)), r"Linear\(3, 2\) was given \(5, 4\).*must be 3"),
    (lambda rng: Linear(3, 2, rng=rng)(np.float32(1)), r"was given \(\)"),
    (lambda rng: nn.Linear(2.0, 3, rng=rng), "one input and one output, not 2.0 and 3"),
    (lambda rng: nn.Embedding(0, 2, rng=rng), "at least one vector and one number in it, not 0 and 2"),
    (lambda rng: nn.Embedding(5, 2, rng=0), "rng must be"),
    (lambda rng: nn.Embedding(5, 2, rng=rng)([0, 5]), "Embedding of 5 was asked for 0 to 5"),
    (lambda rng: nn.Embedding(5, 2, rng=rng)([-1]), "asked for -1"),
    (lambda rng: nn.Embedding(5, 2, rng=rng)([1.0]), "integers, not float64")])
def test_bad_input_is_refused_in_words(make, message, rng):
    with pytest.raises(ValueError, match=message):
        make(rng)


def test_an_embedding_of_nothing_is_nothing(rng):
    assert nn.Embedding(5, 2, rng=rng)(np.zeros((0, 3), int)).shape == (0, 3, 2)


def test_a_generator_must_be_given():
    with pytest.raises(TypeError, match="rng"):
        Linear(3, 2)
