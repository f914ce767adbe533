"""Each fast form is its plain form: value, gradient and Hessian, in both precisions, in odd layouts, and far out.

The plain form of an op is its twin. Models bring fused ops of their own, which are held to the same.
"""
import sys

import numpy as np
import pytest

from autograd import OPS, Tensor, floors, grad, hessian, ops
from autograd.norm import group_norm

from ..cases import CASES

pytestmark = pytest.mark.skipif(not floors.FAST, reason="the fast floor is off")
FUSED = [c for c in CASES.values() if (name := c.name.partition(":")[0]) in OPS and OPS[name].twin]


def cases_of(name):
    return pytest.mark.parametrize("case", [c for c in FUSED if c.smooth and c.name.partition(":")[0] == name],
                                   ids=lambda c: c.name)


def with_twin(case, monkeypatch):
    """From here on the case's op is its twin, wherever it is called."""
    name = case.name.partition(":")[0]
    op, twin = OPS[name], OPS[name].twin
    for module in list(sys.modules.values()):
        for key, value in list(vars(module).items()):
            if value is op:
                monkeypatch.setattr(module, key, twin)


def derivatives(case):
    """Value, gradients and Hessians of the case."""
    u, argnums = case.cotangent(), tuple(range(len(case.inputs)))
    phi = lambda *xs: ops.sum(ops.multiply(case.f(*xs), u))
    return [case.f(*case.inputs), *grad(phi, argnums)(*case.inputs), *[hessian(phi, i)(*case.inputs) for i in argnums]]


def compare(case, measure, monkeypatch):
    got = derivatives(case)
    with_twin(case, monkeypatch)
    for a, b in zip(got, derivatives(case)):
        measure((a - b) / max(1.0, np.max(np.abs(b))))


@pytest.mark.equation("linear.forward", "linear(x, W, b) = phi(x W + b): value, gradient, Hessian", bound=1e-10)
@cases_of("linear")
def test_linear_is_its_twin(case, measure, monkeypatch):
    compare(case, measure, monkeypatch)


@pytest.mark.equation("losses.bernoulli-nll", "-ln prod sigma(l)^x (1 - sigma(l))^(1 - x) = sum softplus(l) - x l: "
                      "value, gradient, Hessian", bound=1e-10)
@cases_of("bernoulli_nll")
def test_bernoulli_nll_is_its_twin(case, measure, monkeypatch):
    compare(case, measure, monkeypatch)


@pytest.mark.equation("norm.group-norm", "group_norm = phi(gain (x - mu) / sqrt(s^2 + eps) + shift): value, gradient, "
                      "Hessian", bound=1e-10)
@cases_of("group_norm")
def test_group_norm_is_its_twin(case, measure, monkeypatch):
    compare(case, measure, monkeypatch)


@pytest.mark.parametrize("case", FUSED, ids=lambda c: c.name)
def test_a_fused_op_in_float32_is_its_twin_in_float64(case, monkeypatch):
    def first_order(dtype):
        xs = case.tensors(dtype)
        y = case.f(*xs)
        y.backward(case.cotangent())
        return [y.data, *[x.grad for x in xs]]
    got = first_order(np.float32)
    with_twin(case, monkeypatch)
    for a, b in zip(got, first_order(np.float64)):
        assert a.dtype == np.float32
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5 * np.max(np.abs(b)))


def test_every_form_that_the_door_offers_is_in_use():
    assert {"linear", "bernoulli_nll", "group_norm"} <= {name for name, f in OPS.items() if f.twin}
    assert len(floors.FAST.FORMS) == 7


def test_group_norm_keeps_of_an_image_only_what_it_was_given(rng):
    x, gain, shift = [Tensor(rng.standard_normal(shape), requires_grad=True) for shape in ((2, 3, 3, 4), (4,), (4,))]
    y = group_norm(x, gain, shift, 2, silu=True)
    kept = [v for v in y.node.saved.values() if isinstance(v, np.ndarray)]
    assert {id(v) for v in kept} == {id(v.data) for v in (x, gain, shift)}
    assert sum(v.size for v in y.node.saved["residual"]) == 2 * 2 * 4


def test_group_norm_in_parts_is_the_same_bit_for_bit(rng, monkeypatch):
    arrays = [rng.standard_normal(shape).astype(np.float32) for shape in ((5, 3, 3, 4), (4,), (4,))]

    def run():
        inputs = [Tensor(v, requires_grad=True) for v in arrays]
        y = group_norm(*inputs, 2, silu=True)
        y.backward(arrays[0])
        return [y.data, *[v.grad for v in inputs]]
    results = []
    for worth in (np.inf, 1):
        monkeypatch.setattr(floors.FAST.threads, "WORTH", worth)
        results.append(run())
    for a, b in zip(*results):
        np.testing.assert_array_equal(a, b)


def test_group_norm_sums_in_float64(rng):
    x = (1000 + rng.standard_normal((2, 16, 16, 8))).astype(np.float32)
    got = group_norm(x, np.ones(8, np.float32), np.zeros(8, np.float32), 2)
    want = OPS["group_norm"].twin(x.astype(np.float64), np.ones(8), np.zeros(8), 2)
    np.testing.assert_allclose(got, want, atol=6e-5)               # the spacing of float32 at 1000
