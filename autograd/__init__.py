"""A tiny reverse-mode autograd engine on NumPy.

Reading order: tensor, primitive, ops, transforms, gradcheck, fused (and kernels), conv (and winograd, vectors,
product, threads, memory), pooling, nn (and module), optim. debug and graph look inside a computation.
"""
from . import conv, losses, nn, norm, ops, optim, pooling
from .debug import detect_nan
from .gradcheck import GradcheckError, gradcheck
from .graph import draw
from .primitive import OPS, no_grad, op
from .tensor import Tensor
from .transforms import grad, hessian, hvp, jacobian, value_and_grad
