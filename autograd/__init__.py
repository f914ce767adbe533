"""A tiny reverse-mode autograd engine on NumPy, on two floors.

The plain floor, the files of this folder, is the definition: NumPy, written to be read. Begin with tensor.py (what a
Tensor is, and the walk back), primitive.py (how a function and its derivatives become an op; with it modes.py and
arguments.py, which are short) and ops.py (the table of all ops). Then come transforms.py, gradcheck.py, linear.py,
losses.py, norm.py, conv.py, pooling.py, module.py, nn.py and optim.py. debug.py and graph.py look inside a computation.

The fast floor, the folder fast/, holds for some of these functions the same function in fewer passes over memory,
compiled by Numba. floors.py puts them in place; AUTOGRAD_PLAIN=1 switches them off. A reader may skip both.
"""
from .tensor import Tensor                   # first, since tensor.py imports ops.py at its end
from . import conv, losses, nn, norm, ops, optim, pooling
from .debug import detect_nan
from .gradcheck import GradcheckError, gradcheck
from .graph import draw
from .modes import no_grad
from .primitive import OPS, op
from .transforms import grad, hessian, hvp, jacobian, value_and_grad
