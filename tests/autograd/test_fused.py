"""Fused ops equal their twins: value, gradient and Hessian, in both precisions."""
import numpy as np
import pytest

from autograd import Tensor, fused, grad, gradcheck, ops


@pytest.mark.equation("fused.linear", "linear(x, W, b) = phi(x W + b)", bound=1e-10)
def test_linear_is_its_twin(measure, rng):
    x, w, b = rng.standard_normal((5, 3)), rng.standard_normal((3, 4)), rng.standard_normal(4)
    measure(fused.linear(x, w, b, activation="tanh") - fused.linear.twin(x, w, b, activation="tanh"))
