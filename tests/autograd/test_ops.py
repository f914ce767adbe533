"""The calculus table against PyTorch, against differences and against its own algebra."""
import numpy as np
import pytest

from autograd import OPS, Tensor, grad, gradcheck, ops
from autograd.tensor import mode

from .cases import ANALYTIC, CASES, SMOOTH, directional

every_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES)
every_smooth_case = pytest.mark.parametrize("case", SMOOTH, ids=[c.name for c in SMOOTH])
every_analytic_case = pytest.mark.parametrize("case", ANALYTIC, ids=[c.name for c in ANALYTIC])


def test_every_op_has_a_gradient_case():
    assert not set(OPS) - {name.partition(":")[0] for name in CASES}, "enter them in cases.py"


@every_case
def test_a_case_runs_the_op_that_it_is_named_after(case, monkeypatch):
    ran = set()
    monkeypatch.setattr(mode, "watch", lambda array, op, inputs, node: ran.add(op.__name__))
    case.f(*case.tensors())
    name = case.name.partition(":")[0]
    assert name in ran or name not in OPS and hasattr(ops, name)


@pytest.mark.oracle
@every_case
def test_values_and_gradients_are_those_of_torch(case, torch):
    xs, ts = case.tensors(), [torch.tensor(x, requires_grad=True) for x in case.inputs]
    y, t = case.f(*xs), case.peer(torch, *ts)
    np.testing.assert_allclose(y.data, t.detach().numpy(), rtol=1e-10, atol=1e-12)
    y.backward(case.cotangent())
    t.backward(torch.tensor(case.cotangent()))
    for x, t in zip(xs, ts):
        np.testing.assert_allclose(x.grad, t.grad.numpy(), rtol=1e-10, atol=1e-12)
