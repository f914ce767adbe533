"""Reverse-mode automatic differentiation: what a Tensor is, and the walk back.

A Tensor is an ndarray that remembers the operation that made it. Each operation knows one vector-Jacobian product (VJP)
for each argument (see primitive.py and the table in ops.py). `pull` walks back from the result and applies the chain
rule:

    (1)  y = f(x₁, ..., xₙ):  ∂L/∂xᵢ += (∂y/∂xᵢ)ᵀ ∂L/∂y                                      [engine.vjp]
    (2)  ⟨u, J v⟩ = ⟨Jᵀu, v⟩ for all u and v: a VJP is the adjoint of the derivative J       [engine.adjoint]
    (3)  a broadcast to b:  ∂L/∂a = ∂L/∂b summed over the axes along which a was repeated    [engine.broadcast]
    (4)  f = ½ xᵀA x:  ∇f = ½ (A + Aᵀ) x,  ∇²f = ½ (A + Aᵀ)                                  [engine.double-backward]

∂L/∂y, of the shape of y, is called the cotangent of y and written g. An example: L = sum(a · b) records two Nodes,
multiply and sum. `pull` starts at sum with g = 1, which its VJP spreads to the shape of a · b; multiply's two VJPs then
give g b for a and g a for b.

What is recorded is made of Nodes, not of Tensors. A Node knows the Nodes of its arguments and the arrays that its VJPs
name, and no Node knows a Tensor. So there are no reference cycles, and the graph is freed with its last reference.

In a plain backward pass, VJPs get ndarrays and are plain NumPy. If the derivative is to be differentiated again
(`lift=True`), the same VJPs get Tensors, whose operators record a new graph: one table serves derivatives of every
order. A VJP cannot see which of the two it gets, since it uses operators, ops, and NumPy functions that have an op.
Example (4): ∇f = ½ (g A x + g Aᵀ x) is then itself a graph, and walking back from it gives ∇²f.

Arrays are kept as they are, not copied: do not change an array that was given to an op before its backward pass. The
names in brackets are those of the tests that check an equation.

A. Griewank and A. Walther, Evaluating Derivatives, 2nd ed., SIAM 2008, chapters 3 and 6.
"""
from heapq import heappop, heappush
from itertools import count
from operator import attrgetter

import numpy as np

from .modes import debug, mode

NUMPY = {}                                   # NumPy function -> the op that takes its place when it is given a Tensor
FLOATS = (np.dtype(np.float32), np.dtype(np.float64))
serials = count()


class Node:
    """One application of an op: the Nodes of its arguments (None for constants), and what its VJPs name.

    `saved` maps names to arrays and static arguments; it is None after `backward` has freed it. A Node has a larger
    serial number than its parents, since they were made before. `site` is for detect_nan(): the user's line.
    """
    __slots__ = ("op", "parents", "saved", "shape", "dtype", "serial", "site")

    def __init__(self, op, parents, saved, shape, dtype):
        self.op, self.parents, self.saved, self.shape, self.dtype = op, parents, saved, shape, dtype
        self.serial = next(serials)


class Leaf(Node):
    """A Node that no op made: the walk back ends here. It is stale once its Tensor has been assigned a new value."""
    __slots__ = ("grad", "stale")

    def __init__(self, shape, dtype, grad=None):
        super().__init__(None, (), {}, shape, dtype)
        self.grad, self.stale = grad, False


class Tensor:
    """A float32 or float64 array that can be differentiated: `Tensor(data, requires_grad=False, dtype=None)`.

    Copies `data`; integers and booleans become float64, other dtypes raise ValueError. `.data` is the ndarray; `.grad`,
    on leaves, is the ndarray that `backward` adds to, or None. A Tensor is immutable: only optimizers and loaders
    write, by `assign`. Comparisons and other questions without a derivative return ndarrays.
    """
    __slots__ = ("data", "node", "__weakref__")

    def __init__(self, data, requires_grad=False, dtype=None):
        data = np.array(data, dtype, order="C")
        if dtype is None and data.dtype.kind in "biu":
            data = data.astype(np.float64)
        if data.dtype not in FLOATS:
            raise ValueError(f"a Tensor holds float32 or float64, not {data.dtype}")
        self.data = data
        self.node = Leaf(data.shape, data.dtype) if requires_grad else None

    shape, ndim, size, dtype = (property(attrgetter("data." + name)) for name in ("shape", "ndim", "size", "dtype"))
    requires_grad = property(lambda self: self.node is not None)
    grad = property(lambda self: getattr(self.node, "grad", None))

    @grad.setter
    def grad(self, g):
        if not isinstance(self.node, Leaf):
            raise ValueError("only a leaf that requires a gradient has a .grad to set")
        g = g if g is None else np.asarray(g)
        if g is not None and (g.shape, g.dtype) != (self.shape, self.dtype):
            raise ValueError(f"this .grad is {self.dtype} of shape {self.shape}, not {g.dtype} of shape {g.shape}")
        self.node.grad = g

    def backward(self, gradient=None):
        """Add d(self)/d(leaf), weighted by `gradient` (default 1, for one element only), to the `.grad` of each leaf.

        Frees the graph. Raises ValueError if there is none or `gradient` has another shape, RuntimeError if a backward
        has freed it or a parameter has changed since the forward pass. Threads must not walk back to one leaf at once.
        """
        if self.node is None:
            raise ValueError("backward() on a constant: nothing that it was computed from requires a gradient")
        if gradient is None and self.size != 1:
            raise ValueError(f"backward() of shape {self.shape}: only one element can do without a `gradient`")
        g = np.ones(self.shape, self.dtype) if gradient is None else np.array(gradient, self.dtype)
        if g.shape != self.shape:
            raise ValueError(f"`gradient` has shape {g.shape}, the Tensor {self.shape}")
        for leaf, g in pull(self.node, g, free=True).items():
            leaf.grad = np.asarray(g if leaf.grad is None else leaf.grad + g)              # 0-d stays an array

    def assign(self, value=None):
        """Overwrite a leaf's `.data`, or only mark it as modified: backward through an older graph then raises."""
        if self.node and self.node.op:
            raise ValueError(f"only a leaf or a constant can be assigned, not the result of {self.node.op.__name__}")
        if value is not None:
            if np.shape(value) != self.shape:
                raise ValueError(f"cannot assign an array of shape {np.shape(value)} to a Tensor of shape {self.shape}")
            self.data[...] = value
        if self.node:
            self.node.stale = True
            self.node = Leaf(self.data.shape, self.data.dtype, self.node.grad)

    def detach(self):
        """The same data as a constant."""
        return wrap(self.data)

    # Operators and methods. All that compute are ops of ops.py; comparisons return ndarrays.
    def __add__(self, b): return ops.add(self, b)
    def __radd__(self, a): return ops.add(a, self)
    def __sub__(self, b): return ops.subtract(self, b)
    def __rsub__(self, a): return ops.subtract(a, self)
    def __mul__(self, b): return ops.multiply(self, b)
    def __rmul__(self, a): return ops.multiply(a, self)
    def __truediv__(self, b): return ops.divide(self, b)
    def __rtruediv__(self, a): return ops.divide(a, self)
    def __pow__(self, b): return ops.power(self, b)
    def __rpow__(self, a): return ops.power(a, self)
    def __matmul__(self, b): return ops.matmul(self, b)
    def __rmatmul__(self, a): return ops.matmul(a, self)
    def __neg__(self): return ops.negative(self)
    def __pos__(self): return ops.positive(self)
    def __abs__(self): return ops.abs(self)
    def __getitem__(self, index): return ops.getitem(self, index)
    def __len__(self): return len(self.data)
    def __bool__(self): return bool(self.data)
    def item(self): return self.data.item()
    def __eq__(self, b): return np.equal(self.data, plain(b))
    def __ne__(self, b): return np.not_equal(self.data, plain(b))
    def __lt__(self, b): return np.less(self.data, plain(b))
    def __le__(self, b): return np.less_equal(self.data, plain(b))
    def __gt__(self, b): return np.greater(self.data, plain(b))
    def __ge__(self, b): return np.greater_equal(self.data, plain(b))
    __hash__ = object.__hash__
    T = property(lambda self: ops.transpose(self))

    def reshape(self, *shape):
        return ops.reshape(self, shape[0] if np.ndim(shape[0]) else shape)

    def transpose(self, *axes):
        return ops.transpose(self, axes[0] if axes and np.ndim(axes[0]) else axes or None)

    def __iter__(self):
        return (self[i] for i in range(len(self)))                 # len() of no axes raises TypeError

    def __float__(self):
        self._must_not_be_traced()
        return float(self.data)

    def __format__(self, spec):
        return format(self.item(), spec) if spec else repr(self)

    def __repr__(self):
        op = self.node and self.node.op
        origin = "" if self.node is None else f", op={op.__name__}" if op else ", requires_grad=True"
        return f"Tensor({np.array2string(self.data, prefix='Tensor(', separator=', ')}, dtype={self.dtype}{origin})"

    # What NumPy asks of a Tensor. A function or ufunc of NumPy is replaced by the op of that name, or raises.
    def __array__(self, dtype=None, copy=None):
        self._must_not_be_traced()
        if copy or dtype is not None and np.dtype(dtype) != self.dtype:
            return np.array(self.data, dtype)
        return np.broadcast_to(self.data, self.shape)              # a view that cannot be written

    def __array_ufunc__(self, ufunc, method, *inputs, **kwargs):
        if method == "__call__" and not kwargs:
            return self.__array_function__(ufunc, (), inputs, kwargs)
        raise TypeError(f"np.{ufunc.__name__} of a Tensor takes no out, where, dtype or .{method}: see autograd.ops")

    def __array_function__(self, function, types, args, kwargs):
        if function in NUMPY:
            return NUMPY[function](*args, **kwargs)
        if function in QUESTIONS:
            return function(*map(plain, args), **kwargs)
        raise TypeError(f"np.{function.__name__} has no derivative here: see autograd.ops, or use .data")

    def _must_not_be_traced(self):
        if mode.tracing and self.node is not None:
            raise ValueError("within grad(f) and its kin a traced Tensor cannot become an array or a number, or its "
                             "derivative would be lost: use autograd.ops, ops.stack for a list, or .data on purpose")


# NumPy functions whose result has no derivative: they return a truth value, a place, a size, or other values.
QUESTIONS = {np.equal, np.not_equal, np.less, np.less_equal, np.greater, np.greater_equal, np.isnan, np.isinf,
             np.isfinite, np.isclose, np.allclose, np.array_equal, np.shape, np.ndim, np.size, np.argmax, np.argmin,
             np.argsort, np.ones_like, np.zeros_like, np.empty_like, np.full_like}


def plain(x):
    """The ndarray of a Tensor; anything else as it is."""
    return x.data if isinstance(x, Tensor) else x


def wrap(data, node=None):
    """A Tensor around an ndarray, unchecked and uncopied."""
    t = object.__new__(Tensor)
    t.data, t.node = data, node
    return t


def pull(root, g, wrt=(), lift=False, free=False):
    """The walk back: from the node `root`, with cotangent `g`, to the nodes `wrt`, and to leaves that it meets.

    Returns {node: cotangent}. With `lift`, the cotangents are Tensors that can be differentiated again. With `free`,
    each node is emptied after its visit. The youngest waiting node is visited next. All nodes that use its output are
    younger still, so they are done, and its cotangent is complete. A node older than all of `wrt` cannot depend on
    them, and is not visited: it may belong to another graph, even to a freed one.
    """
    oldest = min((node.serial for node in wrt), default=0)
    waiting, cotangents, reached = [(-root.serial, root)], {root: g}, {}
    while waiting:
        node = heappop(waiting)[1]
        op, g = node.op, cotangents.pop(node)
        if op is None and node.stale:
            raise RuntimeError(f"a parameter of shape {node.shape} was changed between forward and backward")
        if op is None or node in wrt:
            reached[node] = g
            continue
        saved = _saved(node, lift)
        together = _all_at_once(op, g, saved, lift) if op.joint or op.twin else None
        for i, parent in enumerate(node.parents):
            if parent is None or parent.serial < oldest:
                continue
            gp = op.vjps[i](g, saved) if together is None else together[i]                 # (1)
            gp = _fit(gp, g, parent, lift)                                                 # (3)
            if debug.watch:
                debug.watch(plain(gp), op, (), node)
            if parent in cotangents:
                cotangents[parent] = cotangents[parent] + gp           # (1), not by +=: others may share this array
            else:
                cotangents[parent] = gp
                heappush(waiting, (-parent.serial, parent))
        if free:
            node.saved, node.parents = None, ()
    return reached


def _saved(node, lift):
    """What the node saved; with `lift`, y and those arguments that have a Node as Tensors with that Node."""
    if node.saved is None:
        raise RuntimeError("a backward pass has freed this graph: run the forward pass again")
    if not lift:
        return node.saved
    origin = {"y": node, **dict(zip(node.op.names, node.parents))}
    return {name: wrap(v, origin[name]) if origin.get(name) else v for name, v in node.saved.items()}


def _all_at_once(op, g, saved, lift):
    """The cotangents of all arguments, by the joint VJP or, with `lift`, by running the twin; None if there is neither.

    The walk through the twin stops at `positive`, y = x, which is a new Node for each argument.
    """
    if not (lift and op.twin):
        return op.joint(g, saved) if op.joint else None
    inputs = [ops.positive(v) if isinstance(v, Tensor) else v for v in map(saved.get, op.names)]
    y = op.twin(*inputs, **{name: saved[name] for name in op.statics})
    found = pull(y.node, g, {x.node for x in inputs if isinstance(x, Tensor)}, True) if getattr(y, "node", None) else {}
    return [found.get(x.node, wrap(np.zeros(x.shape, x.dtype))) if isinstance(x, Tensor) else None for x in inputs]


def _fit(gp, g, parent, lift):
    """The cotangent gp, made from g, as an array, or a Tensor with `lift`, of the shape and dtype of `parent`."""
    if not isinstance(gp, Tensor if lift else np.ndarray):
        gp = wrap(np.asarray(gp)) if lift else np.asarray(gp)
    if gp.shape != parent.shape:
        extra = gp.ndim - len(parent.shape)
        repeated = [i for i, n in enumerate(parent.shape, extra) if n == 1 and gp.shape[i] != 1]
        gp = gp.sum(axis=(*range(extra), *repeated), keepdims=True).reshape(parent.shape)  # (3)
    if gp.dtype is not parent.dtype:
        gp = gp.astype(parent.dtype)
    if parent.op is None and not lift and (gp is g or gp.base is not None):
        gp = gp.copy()                       # a leaf keeps it, and add's VJP returns g itself, sum's a view of it
    return gp


from . import ops                            # at the end, since ops needs what is defined above

for _name in ("sum", "mean", "var", "max", "min", "prod", "cumsum", "swapaxes", "clip", "exp", "log", "sqrt", "square",
              "abs", "sin", "cos", "tanh", "sigmoid", "relu", "softmax", "log_softmax", "logsumexp"):
    setattr(Tensor, _name, getattr(ops, _name))
