"""The calculus table: every primitive, its forward and its VJPs on adjacent lines.

Notation: x, or a and b, are the arguments, y the output, g = ∂L/∂y. A VJP returns ∂L/∂x for the argument in its place.

    (1)  elementwise y = f(x):  ∂L/∂x = g f'(x)                                              [ops.elementwise]
    (2)  linear y = A x:  ∂L/∂x = Aᵀg, so linear ops come in pairs that are each other's VJP [ops.linear]
    (3)  Y = A B:  ∂L/∂A = G Bᵀ,  ∂L/∂B = AᵀG                                                [ops.matmul]
    (4)  Y = A⁻¹:  ∂L/∂A = −Yᵀ G Yᵀ;   ln|det A|:  ∂L/∂A = g A⁻ᵀ                              [ops.inverse]
    (5)  A = L Lᵀ, P = tril(LᵀG) with its diagonal halved:  ∂L/∂A = ½ L⁻ᵀ (P + Pᵀ) L⁻¹       [ops.cholesky]

A VJP runs on ndarrays and, for derivatives of higher order, on Tensors: `np.cos(x)` is then the op `cos` of a Tensor.
At kinks and ties the derivative is PyTorch's: 0 at relu's and |x|'s kink, equal shares for ties of maximum, minimum,
max and min, 1 at the bounds of clip. Functions given no Tensor return ndarrays. Names and arguments are NumPy's
wherever NumPy has the function. Sources: M. Giles, Collected matrix derivative results for forward and reverse mode
algorithmic differentiation, 2008, for (3) and (4); I. Murray, arXiv:1602.07527, for (5).
"""
import builtins
import math
import types

import numpy as np
from numpy.lib.array_utils import normalize_axis_index
from scipy import special

from .primitive import op
from .tensor import NUMPY, Tensor, plain

# Arithmetic ---------------------------------------------------------------------------------------------- (1)
add = op(np.add, lambda g: g, lambda g: g)
subtract = op(np.subtract, lambda g: g, lambda g: -g)
multiply = op(np.multiply, lambda g, b: g * b, lambda g, a: g * a)
divide = op(np.divide, lambda g, b: g / b, lambda g, y, b: -g * y / b)
negative = op(np.negative, lambda g: -g)
positive = op(np.positive, lambda g: g)

# Elementwise --------------------------------------------------------------------------------------------- (1)
exp = op(np.exp, lambda g, y: g * y)
expm1 = op(np.expm1, lambda g, y: g * (y + 1))
log = op(np.log, lambda g, x: g / x)
log1p = op(np.log1p, lambda g, x: g / (1 + x))
sqrt = op(np.sqrt, lambda g, y: 0.5 * g / y)
square = op(np.square, lambda g, x: 2 * g * x)
sin = op(np.sin, lambda g, x: g * np.cos(x))
cos = op(np.cos, lambda g, x: -g * np.sin(x))
tanh = op(np.tanh, lambda g, y: g - g * y * y)
sign = op(np.sign, lambda g: 0 * g)
abs = op(np.abs, lambda g, x: g * np.sign(x), name="abs")
erf = op(special.erf, lambda g, x: g * (2 / math.sqrt(math.pi) * np.exp(-x * x)))
sigmoid = op(special.expit, lambda g, y: g * y * (1 - y), name="sigmoid")


def _softplus(x):
    """ln(1 + eˣ)."""
    return np.logaddexp(x, 0)


def _relu(x):
    """max(x, 0)."""
    return np.maximum(x, 0)


def _leaky_relu(x, slope=0.01):
    """x where positive, slope * x elsewhere."""
    return np.where(x > 0, x, slope * x)


def _silu(x):
    """x σ(x). Ramachandran et al., arXiv:1710.05941."""
    return x * special.expit(x)


def _gelu(x):
    """x Φ(x), with Φ the standard normal distribution function. Hendrycks and Gimpel, arXiv:1606.08415."""
    return x * special.ndtr(x)


softplus = op(_softplus, lambda g, x: g * sigmoid(x))
relu = op(_relu, lambda g, y: g * (y > 0))
leaky_relu = op(_leaky_relu, lambda g, x, slope: np.where(x > 0, g, slope * g))
silu = op(_silu, lambda g, x, y: g * (y + sigmoid(x) * (1 - y)))
gelu = op(_gelu, lambda g, x: g * (0.5 * (1 + erf(x / math.sqrt(2)))
                                   + x * np.exp(-0.5 * x * x) / math.sqrt(2 * math.pi)))
maximum = op(np.maximum, lambda g, a, b: np.where(a == b, 0.5 * g, np.where(a > b, g, 0)),
                         lambda g, a, b: np.where(a == b, 0.5 * g, np.where(a > b, 0, g)))
minimum = op(np.minimum, lambda g, a, b: np.where(a == b, 0.5 * g, np.where(a < b, g, 0)),
                         lambda g, a, b: np.where(a == b, 0.5 * g, np.where(a < b, 0, g)))
_where = op(lambda a, b, condition: np.where(condition, a, b),
            lambda g, condition: np.where(condition, g, 0),
            lambda g, condition: np.where(condition, 0, g), name="where")
clip = op(lambda x, a_min=None, a_max=None: np.clip(x, a_min, a_max), lambda g, y, x: np.where(x == y, g, 0),
          numpy=np.clip)
_power = op(np.power, lambda g, a, b: g * np.where(b == 0, 0, b * a ** np.where(b == 0, 1, b - 1)),
                      lambda g, a, b, y: g * y * np.log(np.where((a == 0) & (b >= 0), 1, a)))
# A constant exponent needs no logarithm, so the base may be negative. For n = 0, 0 x⁻¹ would be NaN at x = 0.
_power_n = op(lambda x, n: x ** n, lambda g, x, n: g * (n * x ** (n - 1)) if n else 0 * g, name="power_n")


def power(a, b):
    """As np.power, differentiable. Where b = 0 the derivative in a is 0, where a = 0 <= b that in b is 0."""
    if isinstance(b, (int, float, np.generic)):
        return _power_n(a, n=b if isinstance(b, int) else float(b))
    return _power(np.asarray(a, b.dtype) if isinstance(a, (int, float, np.generic)) else a, b)


def where(condition, a, b):
    """As np.where with three arguments, differentiable in `a` and `b`."""
    return _where(a, b, condition=np.asarray(plain(condition), bool))


# Shapes and sums: linear, so each one's VJP is another of them -------------------------------------------- (2)
def kept_shape(shape, axis):
    """`shape` with a 1 in the place of each axis that a reduction over `axis` removes."""
    if axis is None:
        return (1,) * len(shape)
    gone = [i % len(shape) for i in (axis if isinstance(axis, tuple) else (axis,))]
    return tuple(1 if i in gone else n for i, n in enumerate(shape))


BASIC = {int, slice, type(None), types.EllipsisType}               # what basic indexing is made of


def _scatter_add(x, index, shape):
    """Zeros of `shape` with x added at `index`: the adjoint of indexing."""
    y = np.zeros(shape, x.dtype)
    if BASIC.issuperset(map(type, index if isinstance(index, tuple) else (index,))):
        y[index] = x                                               # basic indexing hits no element twice
    else:
        np.add.at(y, index, x)
    return y


sum = op(lambda x, axis=None, keepdims=False: np.add.reduce(x, axis=axis, keepdims=keepdims),
         lambda g, shapes, axis: np.broadcast_to(g.reshape(kept_shape(shapes[0], axis)), shapes[0]), numpy=np.sum)
broadcast_to = op(lambda x, shape: np.broadcast_to(x, shape), lambda g: g, numpy=np.broadcast_to)    # pull sums
cumsum = op(lambda x, axis=None: np.cumsum(x, axis),
            lambda g, axis, shapes: np.flip(np.cumsum(np.flip(g, axis), axis), axis).reshape(shapes[0]),
            numpy=np.cumsum)
reshape = op(lambda x, shape: x.reshape(shape), lambda g, shapes: g.reshape(shapes[0]), numpy=np.reshape)
transpose = op(lambda x, axes=None: np.transpose(x, axes), lambda g, axes: np.transpose(
               g, None if axes is None else np.argsort([i % len(axes) for i in axes])), numpy=np.transpose)
swapaxes = op(lambda x, axis1, axis2: np.swapaxes(x, axis1, axis2),
              lambda g, axis1, axis2: np.swapaxes(g, axis1, axis2), numpy=np.swapaxes)
flip = op(lambda x, axis=None: np.flip(x, axis), lambda g, axis: np.flip(g, axis), numpy=np.flip)
tril = op(lambda x, k=0: np.tril(x, k), lambda g, k: np.tril(g, k), numpy=np.tril)
_getitem = op(lambda x, index: x[index], lambda g, index, shapes: scatter_add(g, index=index, shape=shapes[0]),
              name="getitem")
scatter_add = op(_scatter_add, lambda g, index: g[index])
_join = op(lambda *xs, axis: np.concatenate(xs, axis),
           joint=lambda g, shapes, axis: split(g, np.cumsum([s[axis] for s in shapes])[:-1], axis), name="concatenate")
pad = op(lambda x, pad_width, constant_values=0.0: np.pad(x, pad_width, constant_values=constant_values),
         lambda g, shapes, pad_width: g[tuple(slice(before, before + n) for n, (before, _) in zip(
             shapes[0], np.broadcast_to(pad_width, (len(shapes[0]), 2)).tolist()))], name="pad")


def getitem(x, index):
    """x[index], with NumPy's basic and advanced indexing."""
    return _getitem(x, index=tuple(map(_plain, index)) if isinstance(index, tuple) else _plain(index))


def _plain(i):
    if i.__class__ in BASIC:
        return i
    return np.array(i, int if isinstance(i, list) and not i else None)       # a copy: the VJP will use it again


def _array(x):
    """A Tensor or an array as it is, a number or a list of them as an array."""
    return x if isinstance(x, (Tensor, np.ndarray)) else add(x, 0)             # which refuses a list of Tensors


def concatenate(xs, axis=0):
    """As np.concatenate, differentiable."""
    return _join(*xs, axis=normalize_axis_index(axis, np.ndim(xs[0])))


def stack(xs, axis=0):
    """As np.stack, differentiable."""
    return _join(*[expand_dims(x, axis) for x in xs], axis=axis)


def split(x, sections, axis=0):
    """As np.split: a list of slices along `axis`, `sections` equal ones or cut at those indices."""
    x = _array(x)
    n = x.shape[axis]
    if np.ndim(sections) == 0:
        if sections < 1 or n % sections:
            raise ValueError(f"split: an axis of length {n} does not divide into {sections} equal parts")
        sections = [n // sections * i for i in range(1, sections)]
    cuts, ahead = [0, *sections, n], (slice(None),) * (axis % x.ndim)
    return [x[(*ahead, slice(int(i), int(j)))] for i, j in zip(cuts, cuts[1:])]


def expand_dims(x, axis):
    """As np.expand_dims for one axis, differentiable."""
    x = _array(x)
    axis = normalize_axis_index(axis, x.ndim + 1)
    return reshape(x, (*x.shape[:axis], 1, *x.shape[axis:]))


def diag(x):
    """As np.diag with k = 0: the diagonal of a matrix, or the matrix of a diagonal."""
    if x.ndim not in (1, 2):
        raise ValueError(f"diag takes a vector or a matrix, not shape {x.shape}")
    i = np.arange(len(x))
    return scatter_add(x, (i, i), (len(x), len(x))) if x.ndim == 1 else getitem(x, (i[:min(x.shape)],) * 2)


def trace(x):
    """The sum of a matrix's diagonal."""
    if x.ndim != 2:
        raise ValueError(f"trace takes a matrix, not shape {x.shape}")
    return sum(diag(x))


# Reductions ----------------------------------------------------------------------------------------------------
def _to_extremes(g, x, y, axis):
    """g, shared equally by the elements of x that are the extreme y."""
    hit = np.equal(x, y.reshape(kept_shape(x.shape, axis))) | np.isnan(x)      # a NaN is the extreme, if there is one
    return np.where(hit, g.reshape(kept_shape(x.shape, axis)) / hit.sum(axis, keepdims=True).astype(x.dtype), 0)


def _logsumexp(x, axis=None, keepdims=False):
    """ln Σ exp x, shifted by the maximum so that nothing overflows."""
    top = np.max(x.real, axis=axis, keepdims=True)                 # .real, for gradcheck's complex step
    top = np.where(np.isfinite(top), top, 0)
    y = np.log(np.sum(np.exp(x - top), axis=axis, keepdims=True)) + top
    return y if keepdims else y.reshape(np.sum(x, axis=axis).shape)


def _softmax(x, axis=-1):
    """exp x / Σ exp x."""
    e = np.exp(x - np.max(x.real, axis=axis, keepdims=True))
    return e / np.sum(e, axis=axis, keepdims=True)


def _log_softmax(x, axis=-1):
    """x − ln Σ exp x."""
    return x - _logsumexp(x, axis, keepdims=True)


max = op(lambda x, axis=None, keepdims=False: np.max(x, axis=axis, keepdims=keepdims), _to_extremes, numpy=np.max)
min = op(lambda x, axis=None, keepdims=False: np.min(x, axis=axis, keepdims=keepdims), _to_extremes, numpy=np.min)
logsumexp = op(_logsumexp, lambda g, x, y, axis: g.reshape(kept_shape(x.shape, axis)) * np.exp(
    x - np.where(y == -np.inf, 0, y).reshape(kept_shape(x.shape, axis))))
softmax = op(_softmax, lambda g, y, axis: y * (g - np.sum(g * y, axis=axis, keepdims=True)))
log_softmax = op(_log_softmax, lambda g, y, axis: g - np.exp(y) * np.sum(g, axis=axis, keepdims=True))


def _mean(x, axis=None, keepdims=False):
    total = np.add.reduce(x, axis=axis, keepdims=keepdims)
    return total / (x.size / builtins.max(1, total.size))


mean = op(_mean, lambda g, shapes, axis: np.broadcast_to(g.reshape(kept_shape(shapes[0], axis)) / (
    math.prod(shapes[0]) / builtins.max(1, g.size)), shapes[0]), numpy=np.mean)


def var(x, axis=None, ddof=0, keepdims=False):
    """As np.var, differentiable: divides by n − ddof, and ddof is 0 as in NumPy."""
    x = _array(x)
    squares = square(x - mean(x, axis, keepdims=True))
    total = sum(squares, axis=axis, keepdims=keepdims)
    return divide(total, x.size / builtins.max(1, total.size) - ddof)


def prod(x, axis=None, keepdims=False):
    """As np.prod over one axis or all, differentiable at zeros too: it multiplies halves with halves."""
    x = _array(x)
    shape = kept_shape(x.shape, axis)
    if axis is None:
        y = reshape(x, (-1,))
    else:
        axis = normalize_axis_index(axis, x.ndim)
        y = transpose(x, axes=(axis, *[i for i in range(x.ndim) if i != axis]))
    while len(y) > 1:
        half, odd = len(y) // 2, y[len(y) // 2 * 2:]
        y = concatenate([y[:half] * y[half:2 * half], odd]) if len(odd) else y[:half] * y[half:]
    y = getitem(y, 0) if len(y) else add(sum(y, axis=0), 1)
    return reshape(y, shape) if keepdims else y


# Matrices -------------------------------------------------------------------------------------------------------
def _t(x):
    return np.swapaxes(x, -1, -2)


_matmul = op(np.matmul, lambda g, b: g @ _t(b), lambda g, a: _t(a) @ g)                                          # (3)
inv = op(lambda x: np.linalg.inv(x), lambda g, y: -_t(y) @ g @ _t(y), numpy=np.linalg.inv)                       # (4)
_solve = op(lambda a, b: np.linalg.solve(a, b), lambda g, a, y: -np.linalg.solve(_t(a), g) @ _t(y),
            lambda g, a: np.linalg.solve(_t(a), g), name="solve")
_logdet = op(lambda x: np.linalg.slogdet(x)[1], lambda g, x: g.reshape((*g.shape, 1, 1)) * _t(np.linalg.inv(x)),
             name="logdet")                                                                                        # (4)


def _cholesky_vjp(g, y):
    m = _t(y) @ g
    s = np.linalg.solve(_t(y), np.tril(m) + _t(np.tril(m, -1)))    # L⁻ᵀ (P + Pᵀ): P's diagonal is half of M's
    return 0.5 * _t(np.linalg.solve(_t(y), _t(s)))


cholesky = op(lambda x: np.linalg.cholesky(x), _cholesky_vjp, numpy=np.linalg.cholesky)                          # (5)


def matmul(a, b):
    """As np.matmul, differentiable: batched, broadcast, and with 1-D arguments."""
    a, b = _array(a), _array(b)
    if a.ndim == 0 or b.ndim == 0:
        raise ValueError("matmul of a scalar: use multiply")
    if a.ndim == 1 or b.ndim == 1:
        y = _matmul(reshape(a, (1, -1)) if a.ndim == 1 else a, reshape(b, (-1, 1)) if b.ndim == 1 else b)
        return reshape(y, y.shape[:-2] + y.shape[-2:-1] * (a.ndim > 1) + y.shape[-1:] * (b.ndim > 1))
    if a.ndim > 2 == b.ndim:                                       # one product, not one an item
        rows = reshape(a, (math.prod(a.shape[:-1]), a.shape[-1]))
        return reshape(_matmul(rows, b), (*a.shape[:-1], b.shape[-1]))
    return _matmul(a, b)


def solve(a, b):
    """As np.linalg.solve, differentiable: a 1-D `b` is a vector, otherwise a (batch of) matrices."""
    return reshape(_solve(a, reshape(b, (-1, 1))), a.shape[:-1]) if b.ndim == 1 else _solve(a, b)


def slogdet(x):
    """(sign, ln|det x|), as np.linalg.slogdet: the sign an ndarray, the logarithm differentiable."""
    return np.linalg.slogdet(plain(x))[0], _logdet(x)


def einsum(subscripts, a, b):
    """np.einsum of two operands, differentiable: no ellipsis, and no index twice in one operand or in the output."""
    inputs, arrow, out = subscripts.replace(" ", "").partition("->")
    one, comma, two = inputs.partition(",")
    if not arrow:
        out = "".join(sorted(c for c in one + two if (one + two).count(c) == 1))
    if not comma or not (one + two + out).isalpha() and one + two + out or \
            builtins.any(len(set(s)) < len(s) for s in (one, two, out)) or set(out) - set(one + two):
        raise ValueError(f"einsum: {subscripts!r} is not of the form 'ij,jk->ik' with each index once an operand")
    return _einsum(a, b, one=one, two=two, out=out)


def _einsum_to(target, shape, x, x_axes, y, y_axes):
    """The sum of x y onto the axes `target`, repeated along those that neither has, such as i and j in 'ij,k->k'."""
    found = "".join(c for c in target if c in x_axes + y_axes)
    z = einsum(f"{x_axes},{y_axes}->{found}", x, y)
    sizes = iter(z.shape)
    return np.broadcast_to(z.reshape(tuple(next(sizes) if c in found else 1 for c in target)), shape)


_einsum = op(lambda a, b, one, two, out: np.einsum(f"{one},{two}->{out}", a, b, optimize=True),
             lambda g, b, shapes, one, two, out: _einsum_to(one, shapes[0], g, out, b, two),
             lambda g, a, shapes, one, two, out: _einsum_to(two, shapes[1], g, out, a, one), name="einsum")


# The NumPy functions that the functions above take the place of when they are called with a Tensor.
for _f in (matmul, power, where, concatenate, stack, split, expand_dims, diag, trace, var, prod, einsum):
    NUMPY[getattr(np, _f.__name__)] = _f
NUMPY.update({np.linalg.solve: solve, np.linalg.slogdet: slogdet})
