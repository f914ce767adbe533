"""Fixtures of the engine's tests."""
import pytest

from autograd import OPS, op
from autograd.tensor import NUMPY


@pytest.fixture
def torch(oracle):
    """PyTorch on one thread, float64 by default."""
    torch = oracle("torch")
    torch.set_num_threads(1)
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield torch
    torch.set_default_dtype(default)


@pytest.fixture
def scratch_op():
    """`op` for primitives that the test makes and the table forgets."""
    known, numpy = dict(OPS), dict(NUMPY)
    yield op
    for table, before in ((OPS, known), (NUMPY, numpy)):
        table.clear()
        table.update(before)
