"""The arguments of an op: which are arrays and which are static, and the one dtype that a call has.

A Tensor keeps its dtype. Python numbers, NumPy's scalars and integer arrays next to a Tensor take its dtype, as Python
numbers do next to an ndarray; two different float dtypes in one call raise ValueError. (NumPy would make float64 of
`np.float64(2) * x` for a float32 x, and so of everything after it.)
"""
import inspect

import numpy as np

from .tensor import Tensor


def names_of(forward, arity):
    """The names of the forward's arrays and of its static arguments, and the defaults of these."""
    if isinstance(forward, np.ufunc):
        return ("x",) if forward.nin == 1 else ("a", "b"), (), {}
    params = list(inspect.signature(forward).parameters.values())
    defaults = {p.name: p.default for p in params if p.default is not p.empty}
    if params[0].kind is inspect.Parameter.VAR_POSITIONAL:         # any number of arrays: concatenate
        return (), tuple(p.name for p in params[1:]), defaults
    arity = arity or len(params) - len(defaults)                   # None for a joint VJP
    return tuple(p.name for p in params[:arity]), tuple(p.name for p in params[arity:]), defaults


def named_by(vjp):
    """What a VJP names: all its parameters but the first, which is the cotangent of the output."""
    return list(inspect.signature(vjp).parameters)[1:]


def check_names(names, statics, wanted, extras):
    """Raise ValueError if a VJP names what it cannot have, or an argument has a name that means something else."""
    if taken := {"y", "shapes", "residual", "needs"} & {*names, *statics}:
        raise ValueError(f"the forward's arguments may not be called {', '.join(sorted(taken))}: for a VJP these names "
                         f"mean something else")
    if unknown := {n for each in wanted for n in each} - {"y", *names, *statics, *extras}:
        raise ValueError(f"a VJP names {', '.join(sorted(unknown))}, and of its arguments knows "
                         f"{', '.join(['g', 'y', *names, *sorted(extras), *statics])}")


def bind(op, args, static, defaults):
    """The arrays, and the static arguments by name, given or by default. A static argument is no Tensor."""
    arity = len(op.names) or len(args)
    if not arity <= len(args) <= arity + len(op.statics):
        raise TypeError(f"{op.__name__} takes {arity} to {arity + len(op.statics)} arguments, not {len(args)}")
    static = {**defaults, **static, **dict(zip(op.statics, args[arity:]))}
    if unknown := static.keys() - op.statics:
        raise TypeError(f"{op.__name__} takes no argument {', '.join(unknown)}, only "
                        f"{', '.join(op.names + op.statics)}")
    for name in static:
        if isinstance(static[name], Tensor):
            raise TypeError(f"{op.__name__} is not differentiable in {name}: give it .data to say that you know")
    return args[:arity], static


def unpack(op, args):
    """Of the arguments: their arrays or numbers, their Nodes (None for constants), and the dtype of the Tensors.

    The dtype is None if there is no Tensor. Raises ValueError if the arguments have two float dtypes.
    """
    values, nodes, dtype, constants = [], [], None, False
    for a in args:
        if isinstance(a, Tensor):
            values.append(a.data)
            nodes.append(a.node)
            if dtype is not None and a.data.dtype != dtype:
                raise _two_dtypes(op, dtype, a.dtype)
            dtype = a.data.dtype
        else:
            values.append(a)
            nodes.append(None)
            constants = True
    if constants:                                                  # None is an array left out, such as a bias
        values = [v if node or v is None else _constant(op, v, dtype) for v, node in zip(values, nodes)]
    return values, nodes, dtype


def _two_dtypes(op, one, other):
    return ValueError(f"{op.__name__} was given {one} and {other}, and a Tensor keeps one dtype: convert the array "
                      f"with .astype, or the model with Module.astype")


def _constant(op, a, dtype):
    """A constant as the op wants it: numbers and integer arrays take the Tensors' dtype, other arrays must have it."""
    if isinstance(a, np.ndarray) and (a.dtype == dtype or dtype is None):
        return a
    if dtype is None and not isinstance(a, (list, tuple)):         # a function of ndarrays: as NumPy has it
        return a
    if isinstance(a, np.generic):
        a = a.item()
    if isinstance(a, (bool, int, float)):
        return a
    if _holds_tensors(a):
        raise ValueError(f"{op.__name__} was given a {type(a).__name__} of Tensors: ops.stack makes one of them")
    a = np.asarray(a)
    if dtype is None or a.dtype == dtype:
        return a
    if a.dtype.kind not in "biu":
        raise _two_dtypes(op, a.dtype, dtype)
    return a.astype(dtype)


def _holds_tensors(a):
    return isinstance(a, (list, tuple)) and any(isinstance(part, Tensor) or _holds_tensors(part) for part in a)
