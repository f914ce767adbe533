"""Reverse-mode automatic differentiation: what a Tensor is, and the walk backwards.

A Tensor is an ndarray that remembers the operation it came from. Each operation knows one vector-Jacobian product
(VJP) per argument (see primitive.py and the table in ops.py), and `pull` applies the chain rule from the end to the
start:

    (1)  y = f(x₁, ..., xₙ):  ∂L/∂xᵢ += (∂y/∂xᵢ)ᵀ ∂L/∂y                                      [engine.vjp]
    (2)  ⟨u, J v⟩ = ⟨Jᵀu, v⟩ for all u and v                                                 [engine.adjoint]
    (3)  a broadcast to b:  ∂L/∂a = ∂L/∂b summed over the axes along which a was repeated     [engine.broadcast]
    (4)  f = ½ xᵀA x:  ∇f = ½ (A + Aᵀ) x,  ∇²f = ½ (A + Aᵀ)                                  [engine.double-backward]

A graph is made of Nodes, never of Tensors: a node knows the nodes it came from and those arrays that its VJPs name.
Nothing else is kept alive, and since no node knows a Tensor there is no cycle: the last reference frees it all. A node
is younger than its parents, so going back by serial number is a topological order.

In a plain backward pass VJPs get ndarrays and are plain NumPy. When the derivative is itself to be differentiated
(`lift=True`) the same VJPs get Tensors, whose operators and NumPy protocols record a new graph: one table serves
derivatives of every order. ndarrays that an op is given are kept as they are, not copied: change them after backward.

A. Griewank and A. Walther, Evaluating Derivatives, 2nd ed., SIAM 2008, chapters 3 and 6.
"""
from heapq import heappop, heappush, heappushpop
from itertools import count
from operator import attrgetter
from threading import local

import numpy as np

NUMPY = {}                                   # NumPy function -> the primitive that stands in for it
FLOATS = (np.dtype(np.float32), np.dtype(np.float64))
serial = count()


class Mode(local):
    """What ops do besides computing, in each thread by itself. Set by no_grad(), and grad() and its kin."""

    def __init__(self):
        self.recording = True
        self.tracing = False                 # a transform is running its function


class Debug:
    """What watches all threads, a function of (array, op, input arrays, node) or None. Set by detect_nan()."""
    __slots__ = ("watch",)


mode, debug = Mode(), Debug()
debug.watch = None


class Node:
    """One application of a primitive: where its output came from, and what its VJPs name."""
    __slots__ = ("op", "parents", "saved", "shape", "dtype", "serial", "g", "site")

    def __init__(self, op, parents, saved, shape, dtype):
        self.op, self.parents, self.saved, self.shape, self.dtype = op, parents, saved, shape, dtype
        self.serial, self.g = next(serial), None


class Leaf(Node):
    """Where the walk back ends, and where `backward` leaves the gradient."""
    __slots__ = ("grad", "stale")

    def __init__(self, shape, dtype, grad=None):
        self.op, self.parents, self.saved, self.shape, self.dtype = None, (), (), shape, dtype
        self.serial, self.g, self.grad, self.stale = next(serial), None, grad, False


class Tensor:
    """A float32 or float64 array that can be differentiated: `Tensor(data, requires_grad=False, dtype=None)`.

    Copies `data`; integers and booleans become float64, other dtypes raise ValueError. `.data` is the ndarray; `.grad`,
    on leaves, the ndarray that `backward` accumulates, or None. A Tensor is immutable: only optimizers and loaders
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
        if g is not None and (np.shape(g), np.asarray(g).dtype) != (self.shape, self.dtype):
            raise ValueError(f"this .grad is {self.dtype} of shape {self.shape}, "
                             f"not {np.asarray(g).dtype} of shape {np.shape(g)}")
        self.node.grad = g if g is None else np.asarray(g)

    def assign(self, value=None):
        """Overwrite `.data` in place; without a value: say that it has been done. Graphs made before will notice."""
        if value is not None:
            if np.shape(value) != self.shape:
                raise ValueError(f"cannot assign an array of shape {np.shape(value)} to a Tensor of shape {self.shape}")
            self.data[...] = value
        leaf = self.node
        if leaf.__class__ is Leaf:
            leaf.stale, self.node = True, Leaf(self.data.shape, self.data.dtype, leaf.grad)

    def detach(self):
        """The same data as a constant."""
        return wrap(self.data)

    def item(self):
        return self.data.item()

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
            leaf.grad = np.asarray(g if leaf.grad is None else leaf.grad + g)

    def __array__(self, dtype=None, copy=None):
        self._may_be_cut()
        if copy or dtype is not None and np.dtype(dtype) != self.dtype:
            return np.array(self.data, dtype)
        view = self.data.view()
        view.flags.writeable = False
        return view

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

    def __len__(self):
        return len(self.data)

    def __iter__(self):
        if self.ndim == 0:
            raise TypeError("iteration over a Tensor of no axes")
        return (self[i] for i in range(len(self)))

    def __float__(self):
        self._may_be_cut()
        return float(self.data)

    def __format__(self, spec):
        return format(self.item(), spec) if spec else repr(self)

    def _may_be_cut(self):
        if mode.tracing and self.node is not None:
            raise ValueError("within grad(f) and its kin a traced Tensor cannot become an array or a number, or its "
                             "derivative would be lost: use autograd.ops, ops.stack for a list, or .data on purpose")

    def __bool__(self):
        return bool(self.data)

    __hash__ = object.__hash__

    def __repr__(self):
        op = self.node and self.node.op
        origin = "" if self.node is None else f", op={op.__name__}" if op else ", requires_grad=True"
        return f"Tensor({np.array2string(self.data, prefix='Tensor(', separator=', ')}, dtype={self.dtype}{origin})"


# What NumPy may be asked about a Tensor though the answer has no derivative: it is no real number, or not its values.
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
    """The chain rule from node `root`, with cotangent `g`, back to the nodes `wrt` or, without them, to all leaves.

    Returns {node: cotangent}. With `lift`, cotangents are Tensors that can be differentiated again. With `free`, the
    graph is given up on the way. A heap hands out the youngest node that has a cotangent: all that it flows into are
    younger still, so its cotangent is complete. No node older than the oldest of `wrt` can depend on it, or is visited.
    """
    kind, cast = (Tensor, lambda x: wrap(np.asarray(x))) if lift else (np.ndarray, np.asarray)
    since = min((node.serial for node in wrt), default=-1)
    watch, ends, heap, node, following = debug.watch, [], [], root, None
    root.g = g
    if root.op is None:
        ends, node = [root], None
    try:
        while node is not None:
            op, g = node.op, node.g
            if wrt and node in wrt:
                ends.append(node)
                node = heappop(heap)[1] if heap else None
                continue
            node.g = None
            saved, vjps, following = node.saved, op.vjps, None
            if saved is None:
                raise RuntimeError("a backward pass has freed this graph: run the forward pass again")
            if lift:
                saved = _lift(node)                                                        # (4)
            done = _pull_twin(node, saved, g) if lift and op.twin else None if vjps else call(op.joint, g, saved)
            i = -1
            for p in node.parents:                     # by hand, since zip costs 90 ns, a third of what is not NumPy's
                i += 1
                if p is None or p.serial < since:
                    continue
                if done is None:
                    vjp, slot = vjps[i]
                    gp = vjp(g, saved) if slot is None else vjp(g, saved[slot])            # (1), (2)
                else:
                    gp = done[i]
                if gp.__class__ is not kind:
                    gp = cast(gp)
                if gp.shape != p.shape:
                    gp = _unbroadcast(gp, p.shape)
                if gp.dtype is not p.dtype and gp.dtype != p.dtype:
                    gp = gp.astype(p.dtype)
                if watch:
                    watch(plain(gp), op, (), node)
                if p.g is not None:
                    p.g = p.g + gp
                elif p.op is None:                     # a leaf keeps what it gets, so it must not be shared
                    p.g = gp.copy() if not lift and (gp is g or gp.base is not None) else gp
                    ends.append(p)
                else:
                    p.g = gp
                    if following is None:
                        following = p                  # in a chain there is no other, and the heap stays empty
                    else:
                        heappush(heap, (-p.serial, p))
            if free:
                node.saved, node.parents = None, ()
            if heap:
                node = heappop(heap)[1] if following is None else heappushpop(heap, (-following.serial, following))[1]
            else:
                node = following
        for end in ends:
            if end.op is None and end.stale:
                raise RuntimeError(f"a parameter of shape {end.shape} was changed between forward and backward")
        return {end: end.g for end in ends}
    except BaseException:
        for p in (node, following, *(node.parents if node else ()), *[n for _, n in heap]):
            if p is not None and p.serial >= since:    # older ones may be another's, which this walk is a part of
                p.g = None
        raise
    finally:
        for end in ends:
            end.g = None


def call(vjp, g, saved):
    """What a bound VJP (see primitive.py) makes of the output's cotangent."""
    f, slot = vjp
    return f(g, saved) if slot is None else f(g, saved[slot])


def _unbroadcast(g, shape):
    extra = g.ndim - len(shape)
    repeated = (i for i, n in enumerate(shape, extra) if n == 1 != g.shape[i])
    return g.sum(axis=(*range(extra), *repeated), keepdims=True).reshape(shape)            # (3)


def _lift(node):
    """What `node` saved, as Tensors that know where they came from."""
    return [v if n is None or v is None else wrap(v, n)
            for v, n in zip(node.saved, (node, *node.parents))] + [node.saved[-1]]


def _pull_twin(node, saved, g):
    """The cotangents of a fused op's arguments by way of its twin, which any order can differentiate."""
    fresh = NUMPY[np.positive]               # y = x, from ops, which imports this module
    inputs = [fresh(x) if isinstance(x, Tensor) else x for x in saved[1:-1]]
    y = node.op.twin(*inputs, **{k: v for k, v in saved[-1].items() if k not in ("residual", "shapes", "needs")})
    ends = pull(y.node, g, wrt={x.node for x in inputs if isinstance(x, Tensor)}, lift=True)
    return [isinstance(x, Tensor) and ends.get(x.node, wrap(np.zeros(x.shape, x.dtype))) for x in inputs]
