"""Derivatives as functions of functions, of any order: they nest.

    (1)  grad f = ∇f,  jacobian F = ∂F/∂x,  hessian f = ∂(∇f)/∂x          [transforms.hessian]
    (2)  hvp f (x, v) = ∇²f(x) v = ∇ₓ ⟨∇f(x), v⟩                          [transforms.hvp]

Arguments are ndarrays, numbers or Tensors. The result is an ndarray, unless something outside still traces it: a Tensor
that requires a gradient, given as argument, or a parameter that f closes over. Then it is a Tensor that can itself be
differentiated, so that the loss of a gradient penalty or of score matching needs nothing special.

Example, hessian(f)(x) for f = sum(x³). The outer jacobian makes a leaf X of x. The inner grad makes X' = positive(X)
and runs f, which records sum(X'³). It sees that X is older than its own input X', so its result must be a Tensor that
depends on X. So its walk gives Tensors to the VJPs, and they record 3 X'². The outer walk, from each element of 3 X'²
to X, finds nothing older than X. It gives ndarrays to the same VJPs, and the result is the ndarray diag(6 x).

B. A. Pearlmutter, Fast exact multiplication by the Hessian, Neural Computation 1994, for (2).
"""
from functools import wraps

import numpy as np

from . import ops
from .modes import mode, recording
from .tensor import Tensor, plain, pull, wrap


def grad(f, argnums=0):
    """The gradient of a scalar function f in its argument `argnums` (a tuple gives a tuple). Zero for a constant."""
    return _named(f, "grad", lambda *args: value_and_grad(f, argnums)(*args)[1])


def value_and_grad(f, argnums=0):
    """`(f(x), grad(f)(x))` from one evaluation. Raises ValueError unless f returns one number."""
    def both(*args):
        y, inputs, lift = _trace(f, args, argnums)
        if np.size(y) != 1:
            raise ValueError(f"grad: {_name(f)} must return one number, not shape {np.shape(y)}: use jacobian")
        gs = _gradients(y, np.ones(np.shape(y)), inputs, lift)                                  # (1)
        return _value(y, lift), gs if isinstance(argnums, tuple) else gs[0]
    return _named(f, "value_and_grad", both)


def jacobian(f, argnums=0):
    """∂f/∂x, of shape `f(x).shape + x.shape`: one backward pass for each element of f(x)."""
    def matrix(*args):
        y, inputs, lift = _trace(f, args, _one(argnums))
        basis = np.eye(np.size(y), dtype=inputs[0].dtype).reshape(np.size(y), *np.shape(y))
        rows = [_gradients(y, e, inputs, lift)[0] for e in basis]                               # (1)
        shape = np.shape(y) + inputs[0].shape
        return ops.reshape(ops.stack(rows), shape) if rows else np.zeros(shape, inputs[0].dtype)
    return _named(f, "jacobian", matrix)


def hessian(f, argnums=0):
    """∇²f of a scalar function, of shape `x.shape + x.shape`."""
    return _named(f, "hessian", jacobian(grad(f, _one(argnums)), argnums))                         # (1)


def hvp(f):
    """The Hessian-vector product `hvp(f)(x, v)`, of the shape of x, at the cost of a few gradients."""
    return _named(f, "hvp", lambda x, v: grad(lambda x: ops.sum(ops.multiply(grad(f)(x), v)))(x))   # (2)


def _trace(f, args, argnums):
    """(y, inputs, lift): y = f(*args) with fresh inputs in the places `argnums`; and whether the derivative must be a
    Tensor itself, since something older traces it: another transform, or a parameter that f closes over.
    """
    places = argnums if isinstance(argnums, tuple) else (argnums,)
    n = len(args)
    if not all(-n <= i < n for i in places) or len({i % n for i in places}) < len(places):
        raise ValueError(f"argnums = {argnums} does not name different arguments of the {n} of {_name(f)}")
    places = [i % n for i in places]
    before, mode.tracing = mode.tracing, True
    try:
        with recording(True):
            inputs = [_fresh(args[i]) for i in places]
            y = f(*[inputs[places.index(i)] if i in places else a for i, a in enumerate(args)])
    finally:
        mode.tracing = before
    if not isinstance(y, (Tensor, np.ndarray, np.generic, int, float)):
        raise ValueError(f"{_name(f)} must return a Tensor, not {type(y).__name__}: ops.stack makes one of a list")
    nested = any(x.node.op for x in inputs)                        # an input is traced by another transform: see _fresh
    # Under no_grad nothing outside is recorded, so nobody needs a Tensor.
    return y, inputs, mode.recording and (nested or _outside(y, inputs))


def _fresh(x):
    """A new input: a leaf or, of a Tensor that is traced already, y = x, a new node that depends on the older one."""
    if isinstance(x, Tensor) and x.requires_grad:
        return ops.positive(x)
    return Tensor(plain(x), requires_grad=True)


def _outside(y, inputs):
    """Whether y depends on a node made before the inputs."""
    since = min(x.node.serial for x in inputs)
    stack = [y.node] if isinstance(y, Tensor) and y.requires_grad else []
    seen = set(stack)
    while stack:
        node = stack.pop()
        if node.serial < since:
            return True
        new = [p for p in node.parents if p is not None and p not in seen]
        seen.update(new)
        stack += new
    return False


def _gradients(y, g, inputs, lift):
    """The cotangents of the inputs, 0 where y does not depend on them, from the cotangent g of y."""
    wrt, found = {x.node for x in inputs}, {}
    if isinstance(y, Tensor) and y.requires_grad and y.node.serial >= min(n.serial for n in wrt):
        g = g.astype(y.dtype)                                      # a y that is older does not depend on the inputs
        with recording(lift):
            found = pull(y.node, wrap(g) if lift else g, wrt, lift)
    gs = [found.get(x.node) for x in inputs]
    gs = [np.zeros(x.shape, x.dtype) if g is None else g for x, g in zip(inputs, gs)]
    return tuple(g if isinstance(g, Tensor) else wrap(g) for g in gs) if lift else tuple(map(np.copy, gs))


def _value(y, lift):
    return y if lift else np.asarray(plain(y))


def _one(argnums):
    if isinstance(argnums, tuple):
        raise ValueError(f"jacobian and hessian take one argument at a time, not argnums = {argnums}")
    return argnums


def _name(f):
    return getattr(f, "__name__", repr(f))


def _named(f, transform, g):
    g = wraps(f)(g) if callable(f) else g
    g.__name__ = f"{transform}({_name(f)})"
    return g
