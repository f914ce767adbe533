"""Optimizers against their formulas in NumPy and, step by step, against PyTorch."""
import math

import numpy as np
import pytest

from autograd import Tensor, losses, nn, ops, optim
from autograd.nn import Parameter

STEPS = 20


def trajectory(make, shape=(3, 2), dtype=np.float64):
    """The parameter after 20 steps of an optimizer, driven by fixed gradients, which are returned as well."""
    rng = np.random.default_rng(3)
    start, gradients = rng.standard_normal(shape), rng.standard_normal((STEPS, *shape))
    p = Parameter(start, dtype=dtype)
    optimizer = make([p])
    for g in gradients:
        p.grad = g.astype(dtype)
        optimizer.step()
    return p.data, start, gradients


@pytest.mark.equation("optim.sgd", "v <- mu v + g, theta <- theta - eta v", bound=1e-12)
@pytest.mark.parametrize("momentum, decay", [(0.0, 0.0), (0.9, 0.0), (0.9, 0.1)])
def test_sgd_is_its_formula(momentum, decay, measure):
    got, p, gradients = trajectory(lambda params: optim.SGD(params, 0.1, momentum=momentum, weight_decay=decay))
    v = 0
    for g in gradients:
        v = momentum * v + g + decay * p
        p = p - 0.1 * v
    measure(got - p)


def adam(p, gradients, shrink, coupled, lr=0.1, b1=0.8, b2=0.95, eps=1e-3):
    m = v = 0
    for t, g in enumerate(gradients, 1):
        g = g + coupled * p
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g ** 2
        p = (1 - lr * shrink) * p - lr * (m / (1 - b1 ** t)) / (np.sqrt(v / (1 - b2 ** t)) + eps)
    return p


@pytest.mark.equation("optim.adam", "theta <- theta - eta m^ / (sqrt(v^) + eps), with m^ = m / (1 - beta1^t)",
                      bound=1e-10)
@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_adam_is_its_formula(decay, measure):
    got, p, gradients = trajectory(lambda params: optim.Adam(params, 0.1, (0.8, 0.95), 1e-3, decay))
    measure(got - adam(p, gradients, 0.0, decay))


@pytest.mark.parametrize("make", [optim.Adam, optim.AdamW], ids=lambda f: f.__name__)
def test_what_is_changed_between_steps_holds_from_the_next_one_on(make, rng):
    start, gradients = rng.standard_normal(4), rng.standard_normal((2, 4))
    settings = [(0.1, (0.9, 0.99), 1e-8, 0.0), (0.2, (0.5, 0.8), 1e-2, 0.3)]
    p, m, v = Tensor(start, requires_grad=True), np.zeros(4), np.zeros(4)
    optimizer, want = make([p], weight_decay=0.0), start
    for t, (g, (lr, (b1, b2), eps, decay)) in enumerate(zip(gradients, settings), 1):
        optimizer.lr, optimizer.betas, optimizer.eps, optimizer.weight_decay = lr, (b1, b2), eps, decay
        p.grad = g.copy()
        optimizer.step()
        g, want = (g, (1 - lr * decay) * want) if make is optim.AdamW else (g + decay * want, want)
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g ** 2
        want = want - lr * m / (1 - b1 ** t) / (np.sqrt(v / (1 - b2 ** t)) + eps)
    np.testing.assert_allclose(p.data, want, rtol=1e-12)


@pytest.mark.equation("optim.adamw", "theta <- (1 - eta lambda) theta, then Adam", bound=1e-10)
def test_adamw_is_its_formula(measure):
    got, p, gradients = trajectory(lambda params: optim.AdamW(params, 0.1, (0.8, 0.95), 1e-3, 0.1))
    measure(got - adam(p, gradients, 0.1, 0.0))


PEERS = {"SGD": dict(lr=0.1), "SGD momentum": dict(lr=0.1, momentum=0.9),
         "SGD weight decay": dict(lr=0.1, momentum=0.9, weight_decay=0.1), "Adam": dict(),
         "Adam all": dict(lr=0.05, betas=(0.8, 0.95), eps=1e-4, weight_decay=0.1), "AdamW": dict(lr=0.05),
         "AdamW all": dict(lr=0.05, betas=(0.8, 0.95), eps=1e-4, weight_decay=0.1)}


@pytest.mark.oracle
@pytest.mark.parametrize("dtype, rtol", [(np.float64, 1e-10), (np.float32, 1e-6)], ids=["float64", "float32"])
@pytest.mark.parametrize("peer", PEERS)
def test_twenty_steps_are_those_of_torch(peer, dtype, rtol, torch):
    name, kwargs = peer.split()[0], PEERS[peer]
    got, start, gradients = trajectory(lambda params: getattr(optim, name)(params, **kwargs), dtype=dtype)
    p = torch.tensor(start.astype(dtype), requires_grad=True)
    optimizer = getattr(torch.optim, name)([p], **kwargs)
    for g in gradients:
        p.grad = torch.tensor(g.astype(dtype))
        optimizer.step()
    assert got.dtype == dtype
    np.testing.assert_allclose(got, p.detach().numpy(), rtol=rtol, atol=rtol)


@pytest.mark.oracle
@pytest.mark.parametrize("name", ["SGD", "Adam", "AdamW"])
def test_a_parameter_that_meets_its_gradient_late_is_stepped_as_in_torch(name, torch):
    ours = [Parameter([x], dtype=np.float64) for x in (3.0, 2.0)]
    theirs = [torch.tensor([x], requires_grad=True) for x in (3.0, 2.0)]
    optimizer, peer = getattr(optim, name)(ours, lr=0.1), getattr(torch.optim, name)(theirs, lr=0.1)
    for t in range(10):
        for i, (p, q) in enumerate(zip(ours, theirs)):
            if i == 0 or t >= 5:
                p.grad, q.grad = np.array([0.5]), torch.tensor([0.5])
        optimizer.step()
        peer.step()
    for p, q in zip(ours, theirs):
        np.testing.assert_allclose(p.data, q.detach().numpy(), rtol=1e-10)


@pytest.mark.parametrize("layout", [np.ascontiguousarray, np.asfortranarray, lambda x: np.flip(x)[::-1]],
                         ids=["C", "Fortran", "reversed"])
@pytest.mark.parametrize("make", [optim.SGD, optim.Adam, optim.AdamW], ids=lambda f: f.__name__)
def test_the_layout_of_a_parameter_does_not_matter(make, layout):
    x = np.arange(6.0).reshape(2, 3)
    p, g = Parameter(layout(x)), np.sign(x - 2.5).astype(np.float32)
    p.grad = np.asfortranarray(g[:, ::-1])[:, ::-1]
    optimizer = make([p], lr=0.1)
    for _ in range(3):
        before = p.data.copy()
        optimizer.step()
        assert (np.sign(before - p.data) == g).all()


@pytest.mark.parametrize("shape", [(), (1,), (0,), (2, 3, 4)])
@pytest.mark.parametrize("make", [optim.SGD, optim.Adam, optim.AdamW], ids=lambda f: f.__name__)
def test_parameters_of_any_shape_are_updated_in_place(make, shape):
    p = Parameter(np.ones(shape))
    data = p.data
    optimizer = make([p], lr=0.1)
    for _ in range(2):
        ops.sum(p * p).backward()
        optimizer.step()
        optimizer.zero_grad()
    assert p.data is data and data.dtype == np.float32 and (data < 1).all() and p.grad is None


def test_training_lowers_a_loss(rng):
    net, x = nn.MLP(2, 16, 2, rng=rng), rng.standard_normal((64, 2)).astype(np.float32)
    labels = (x[:, 0] * x[:, 1] > 0).astype(int)
    adam = optim.Adam(net.parameters(), 0.03)
    history = []
    for _ in range(100):
        loss = ops.mean(losses.softmax_cross_entropy(net(x), labels))
        adam.zero_grad()
        loss.backward()
        adam.step()
        history.append(loss.item())
    assert history[-1] < 0.3 * history[0]


def test_the_gradient_is_not_changed_by_a_step():
    for make in (optim.SGD, optim.Adam, optim.AdamW):
        p, g = Parameter(np.ones(3)), np.ones(3, np.float32)
        p.grad = g
        make([p], lr=0.1, weight_decay=0.1).step()
        np.testing.assert_array_equal(g, 1)


def test_parameters_without_a_gradient_are_left_alone():
    for make in (optim.SGD, optim.Adam, optim.AdamW):
        p, q = Parameter(np.ones(2)), Parameter(np.ones(2))
        q.grad = np.ones(2, np.float32)
        make([p, q], lr=0.1, weight_decay=0.5).step()
        assert (p.data == 1).all() and (q.data < 1).all()


def test_a_step_between_forward_and_backward_is_noticed():
    p = Parameter(np.ones(2))
    loss = ops.sum(p * p)
    p.grad = np.ones(2, np.float32)
    optim.SGD([p], lr=0.1).step()
    with pytest.raises(RuntimeError, match="changed between forward and backward"):
        loss.backward()


def test_lr_may_be_a_function_of_the_step():
    seen = []
    p = Parameter(np.zeros(1), dtype=np.float64)
    sgd = optim.SGD([p], lambda t: seen.append(t) or 10.0 ** -t)
    for _ in range(3):
        p.grad = -np.ones(1)
        sgd.step()
    assert seen == [1, 2, 3]
    np.testing.assert_allclose(p.data, 0.111)


@pytest.mark.parametrize("lr", [np.float64(0.1), lambda t: np.float64(0.1)], ids=["number", "function"])
@pytest.mark.parametrize("make", [optim.SGD, optim.Adam], ids=lambda f: f.__name__)
def test_numpy_numbers_do_not_change_the_dtype(make, lr):
    p = Parameter(np.ones(3))
    p.grad = np.ones(3, np.float32)
    optimizer = make([p], lr, weight_decay=np.float64(0.1))
    optimizer.step()
    assert p.data.dtype == np.float32 and all(a.dtype in (np.float32, int) for a in optimizer.state().values())


@pytest.mark.parametrize("make", [lambda ps: optim.SGD(ps, 0.1, momentum=0.9), optim.Adam, optim.AdamW],
                         ids=["SGD", "Adam", "AdamW"])
def test_an_optimizer_that_is_saved_and_loaded_goes_on_bit_for_bit(make):
    gradients = np.random.default_rng(0).standard_normal((10, 3)).astype(np.float32)

    def run(p, optimizer, gradients):
        for g in gradients:
            p.grad = g
            optimizer.step()
    p, q = Parameter(np.ones(3)), Parameter(np.ones(3))
    first, resumed = make([p]), make([q])
    run(p, first, gradients[:5])
    q.assign(p.data)
    resumed.load_state(first.state())
    run(p, first, gradients[5:])
    run(q, resumed, gradients[5:])
    np.testing.assert_array_equal(p.data, q.data)
    assert first.state()["t"] == 10


def test_the_state_is_a_copy():
    p = Parameter(np.ones(3))
    adam = optim.Adam([p])
    adam.state()["m.0"][:] = 5
    assert not adam.state()["m.0"].any()


@pytest.mark.parametrize("other", [lambda p: optim.SGD([p], 0.1), lambda p: optim.Adam([p, Parameter(np.ones(3))]),
                                   lambda p: optim.Adam([Parameter(np.ones(4))])], ids=["kind", "number", "shape"])
def test_the_state_of_another_optimizer_is_refused(other):
    p = Parameter(np.ones(3))
    adam = optim.Adam([p])
    with pytest.raises(ValueError, match="not the state of Adam of these 1 parameters"):
        adam.load_state(other(p).state())


# EMA, clipping, schedules

@pytest.mark.equation("optim.ema", "average <- d average + (1 - d) theta", bound=1e-12)
def test_the_ema_is_a_geometric_sum(measure, rng):
    values = rng.standard_normal((6, 3))
    p = Parameter(values[0], dtype=np.float64)
    ema = optim.EMA([p], decay=0.7)
    for v in values[1:]:
        p.assign(v)
        ema.update()
    measure(ema.average[0] - 0.7 ** 5 * values[0] - sum(0.3 * 0.7 ** (5 - t) * values[t] for t in range(1, 6)))


def test_the_ema_is_applied_and_taken_back():
    p = Parameter(np.ones(2))
    ema = optim.EMA([p], decay=0.5)
    p.assign([3.0, 3.0])
    ema.update()
    with pytest.raises(KeyError):
        with ema.applied():
            np.testing.assert_array_equal(p.data, [2, 2])
            raise KeyError
    np.testing.assert_array_equal(p.data, [3, 3])
    np.testing.assert_array_equal(ema.average[0], [2, 2])
    assert ema.average[0].dtype == np.float32


def test_the_state_of_an_ema_goes_round_as_a_copy():
    p, q = Parameter(np.ones(2)), Parameter(np.full(2, 5.0))
    ema, other = optim.EMA([p]), optim.EMA([q])
    state = ema.state()
    other.load_state(state)
    for array in state.values():
        array[:] = 9
    np.testing.assert_array_equal(other.average[0], [1, 1])
    np.testing.assert_array_equal(ema.average[0], [1, 1])
    with pytest.raises(ValueError, match="not the state of EMA of these 2 parameters"):
        optim.EMA([p, q]).load_state(ema.state())


@pytest.mark.equation("optim.clip", "g <- g min(1, c / ||g||), one norm over all parameters", bound=1e-12)
@pytest.mark.parametrize("max_norm", [0.5, 5.0, 50.0])
def test_clipping_scales_the_common_norm(max_norm, measure):
    params, gradients = [Parameter(np.zeros(s), dtype=np.float64) for s in (2, 3, 1)], ([3.0, 0], [0, 4.0, 0], [12.0])
    for p, g in zip(params, gradients):
        p.grad = np.array(g)
    measure(optim.clip_grad_norm(params + [Parameter(np.zeros(2))], max_norm) - 13)
    for p, g in zip(params, gradients):
        measure(p.grad - np.array(g) * min(1, max_norm / 13))


def test_clipping_writes_to_no_array_that_it_was_given():
    p, g = Parameter(np.zeros(2)), np.array([3, 4], np.float32)
    p.grad = g
    optim.clip_grad_norm([p], 1.0)
    np.testing.assert_array_equal(g, [3, 4])
    assert type(p.grad) is np.ndarray and p.grad.dtype == np.float32


def test_clipping_keeps_the_gradient_of_a_scalar_an_array():
    p = Parameter(2.0)
    p.grad = np.array(4, np.float32)
    assert optim.clip_grad_norm([p], 1.0) == 4
    assert type(p.grad) is np.ndarray and p.grad == 1


@pytest.mark.equation("optim.cosine", "eta t / w for t <= w, then eta (1 + cos pi (t - w) / (T - w)) / 2", bound=1e-12)
def test_the_schedule_warms_up_and_cools_down(measure):
    rate = optim.warmup_cosine(0.2, 4, 12)
    want = [0.05, 0.1, 0.15, 0.2] + [0.1 * (1 + math.cos(math.pi * k / 8)) for k in range(1, 9)]
    measure(np.array([rate(t) for t in range(1, 13)]) - want)
    measure(rate(100))
    measure(optim.warmup_cosine(0.2, 0, 10)(5) - 0.1)


@pytest.mark.parametrize("call, message", [
    (lambda p: optim.SGD([], 0.1), "at least one"), (lambda p: optim.SGD([p], -1), "lr must be.*not -1"),
    (lambda p: optim.Adam([p], math.nan), "lr must be.*nan"), (lambda p: optim.SGD([p], math.inf), "inf"),
    (lambda p: optim.Adam([p], betas=(0.9, 1.0)), r"\[0, 1\).*1.0"),
    (lambda p: optim.AdamW([p], betas=(-0.1, 0.9)), "-0.1"),
    (lambda p: optim.EMA([p], 1.0), r"\[0, 1\), not 1.0"), (lambda p: optim.clip_grad_norm([p], 0), "positive, not 0"),
    (lambda p: optim.clip_grad_norm([p], math.nan), "positive, not nan"),
    (lambda p: optim.warmup_cosine(0.1, 10, 10), "warmup < total, not 10 and 10"),
    (lambda p: optim.warmup_cosine(0.1, -1, 10), "-1"),
    (lambda p: optim.SGD([Tensor(1.0)], 0.1), "requires_grad=True"),
    (lambda p: optim.SGD([p * 2], 0.1), "requires_grad=True")])
def test_bad_arguments_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call(Parameter(np.ones(2)))


def test_players_keep_an_optimizer_each_and_their_state_comes_back(rng):
    def players():
        a, b = (Tensor(np.ones(3), requires_grad=True) for _ in "ab")
        return a, b, optim.Players(first=optim.Adam([a], 0.1), second=optim.SGD([b], 0.1, momentum=0.9))
    a, b, game = players()
    ops.sum(a * b).backward()
    game["first"].step()
    np.testing.assert_array_equal(b.data, 1)
    game["second"].step()
    assert (a.data < 1).all() and (b.data < 1).all() and len(game.params) == 2
    _, _, again = players()
    again.load_state(game.state())
    assert all(np.array_equal(v, game.state()[k]) for k, v in again.state().items())
    assert "first.m.0" in game.state() and "second.v.0" in game.state()


@pytest.mark.parametrize("make, message", [
    (lambda p: optim.Players(), "at least one optimizer"), (lambda p: optim.Players(a=p), "at least one optimizer"),
    (lambda p: optim.Players(a=optim.SGD([p], 0.1), b=optim.SGD([p], 0.1)), "two players were given the same"),
    (lambda p: optim.Players(a=optim.SGD([p], 0.1))["b"], "no optimizer for the player 'b', only for a"),
    (lambda p: optim.Players(a=optim.SGD([p], 0.1)).load_state({}), "not the state of the players a"),
    (lambda p: optim.SGD([p], 0.1)["a"], "this is a game: give Players")])
def test_players_that_are_none_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make(Tensor(np.ones(2), requires_grad=True))
