"""Graphs die with their last reference, without the cycle collector, however deep they are."""
import gc
import sys
import weakref

import numpy as np
import pytest

from autograd import Tensor, grad, hvp, losses, nn, ops, optim
from autograd.linear import linear
from autograd.nn import Parameter
from autograd.tensor import Node


@pytest.fixture
def no_collector():
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def living_nodes():
    return sum(isinstance(o, Node) for o in gc.get_objects())


class Tracked(np.ndarray):
    """An array that a weak reference can follow."""


def training(rng):
    net = nn.MLP(4, 8, 3, activation="silu", rng=rng)
    adam, x, labels = optim.Adam(net.parameters()), rng.standard_normal((5, 4)).astype(np.float32), [0, 1, 2, 0, 1]

    def step():
        ops.mean(losses.softmax_cross_entropy(net(Tensor(x)), labels)).backward()
        adam.step()
        adam.zero_grad()
    return step


def latent(rng):
    mu, logvar = (Parameter(rng.standard_normal((5, 3))) for _ in range(2))

    def step():
        z = mu + ops.exp(logvar / 2) * rng.standard_normal((5, 3), np.float32)
        loss = ops.sum(losses.gaussian_kl(mu, logvar) + losses.bernoulli_nll(z, ops.sigmoid(z)))
        loss.backward()
        mu.grad = logvar.grad = None
    return step


def forward_only(rng):
    net, x = nn.MLP(4, 8, 3, rng=rng), np.ones((5, 4), np.float32)
    return lambda: ops.sum(net(x) ** 2)


def higher_order(rng):
    p, x = Parameter(rng.standard_normal((3, 3)), dtype=np.float64), rng.standard_normal(3)

    def step():
        ops.sum(grad(lambda x: ops.logsumexp(linear(x, p, None, activation="tanh")))(x) ** 2).backward()
        hvp(lambda x: ops.sum(ops.tanh(x @ p)))(x, x)
        p.grad = None
    return step


def failing(rng):
    x = Tensor(np.ones(3), requires_grad=True)

    def step():
        y = ops.exp(x)
        y.backward(np.ones(3))
        try:
            y.backward(np.ones(3))
        except RuntimeError:
            x.grad = None
    return step


@pytest.mark.parametrize("kind", [training, latent, forward_only, higher_order, failing], ids=lambda f: f.__name__)
def test_a_thousand_steps_leave_nothing_behind(kind, rng, no_collector):
    step = kind(rng)
    for _ in range(2500):                              # CPython keeps up to 2,000 freed tuples of each length
        step()
    objects, blocks = len(gc.get_objects()), sys.getallocatedblocks()
    for _ in range(1000):
        step()
    assert len(gc.get_objects()) - objects < 50
    assert sys.getallocatedblocks() - blocks < 200


def chain(x, n=10_000):
    for _ in range(n):
        x = ops.sin(x)
    return x


def test_a_chain_of_ten_thousand_ops_goes_forward_backward_and_away(no_collector):
    before = living_nodes()
    x = Tensor(0.5, requires_grad=True)
    y = chain(x)
    y.backward()
    assert 0 < x.grad < 1
    assert living_nodes() == before + 2, "of the graph only its two ends remain, and the Tensors that hold them"
    del x, y
    assert living_nodes() == before


def test_a_chain_that_is_dropped_without_backward_goes_away(no_collector):
    before = living_nodes()
    y = chain(Tensor(0.5, requires_grad=True))
    assert living_nodes() - before > 10_000
    del y
    assert living_nodes() == before


def test_a_chain_of_ten_thousand_ops_has_a_grad_and_a_second_one(no_collector):
    before = living_nodes()
    assert 0 < grad(chain)(0.5) < 1
    assert np.isfinite(grad(grad(lambda x: chain(x, 2000)))(0.5))
    assert living_nodes() == before


def test_a_wide_fan_out_is_visited_once_an_edge(scratch_op):
    calls = []
    double = scratch_op(lambda x: x * 2, lambda g: calls.append(1) or 2 * g, name="double")
    x = y = Tensor(1.0, requires_grad=True)
    for _ in range(30):
        y = double(y) + double(y)
    y.backward()
    assert x.grad == 4.0 ** 30 and len(calls) == 60


@pytest.mark.parametrize("f, survives", [(np.exp, False), (np.tanh, False), (ops.relu, False), (ops.sigmoid, False),
                                         (lambda h: h + 1.0, False), (lambda h: h * 2.0, False), (ops.sum, False),
                                         (np.log, True), (np.square, True)],
                         ids=["exp", "tanh", "relu", "sigmoid", "add", "multiply", "sum", "log", "square"])
def test_an_intermediate_array_that_no_vjp_names_is_freed(f, survives, no_collector):
    x = Tensor(np.ones(3), requires_grad=True)
    h = x + 1.0
    h.data = h.data.view(Tracked)
    alive = weakref.ref(h.data)
    y = f(h)
    assert alive() is not None and y.requires_grad
    del h
    assert (alive() is not None) == survives


def test_backward_frees_what_the_graph_kept_while_its_output_lives(no_collector):
    x = Tensor(np.ones(3), requires_grad=True)
    h = x + 1.0
    h.data = h.data.view(Tracked)
    alive = weakref.ref(h.data)
    y = ops.sum(ops.square(h))
    del h
    assert alive() is not None
    y.backward()
    assert alive() is None and y.item() == 12


def test_an_output_may_die_before_its_graph(no_collector):
    x = Tensor(np.ones(3), requires_grad=True)
    y = ops.exp(x)
    tensor, z = weakref.ref(y), ops.sum(y * 2.0)
    del y
    assert tensor() is None
    z.backward()
    np.testing.assert_allclose(x.grad, 2 * np.exp(np.ones(3)))
