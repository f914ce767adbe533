"""How a NumPy function and its VJPs become an op: a function that records what it does.

    tanh = op(np.tanh, lambda g, y: g * (1 - y * y))
    mul = op(np.multiply, lambda g, b: g * b, lambda g, a: g * a)

There is one VJP for each array. It says by the names of its parameters what it needs, and no other array is kept: first
the cotangent of the output, usually called `g`; then any of `y`, the output; the forward's own arguments (`x`, or `a`
and `b`, for a ufunc); `shapes`, the shapes of all arguments; and static arguments such as `axis`. A VJP returns a new
array, `g` itself, or a view of `g`. The engine undoes broadcasting and keeps the dtype, so no VJP has to.

What the forward computes on the way and a VJP needs is its residual. A VJP that uses it cannot be differentiated again,
so such an op has a twin, the same function made of other ops, for derivatives of higher order:

    square = op(lambda x: (x * x, 2 * x), lambda g, residual: g * residual, residual=True, twin=lambda x: x * x)
"""
from operator import itemgetter

import numpy as np

from .arguments import bind, check_names, named_by, names_of, unpack
from .modes import debug, mode
from .tensor import NUMPY, Node, wrap

OPS = {}                                     # name -> op


def op(forward, *vjps, name=None, joint=None, twin=None, residual=False, numpy=None):
    """An op from `forward(*arrays, *static) -> ndarray` and one VJP for each array.

    The forward's first arguments, one for each VJP, are arrays to differentiate; the others are static. Raises
    ValueError for a name that is taken, a VJP too few, or a VJP that names what it cannot have.

    joint     one VJP for all arrays (the arguments without a default), which returns a tuple; it may also name `needs`,
              a tuple that says which of them require a gradient
    residual  the forward returns `(y, residual)`, and VJPs may name `residual`; needs a twin
    twin      the same function composed of other ops: what the op is tested against, and what derivatives of the second
              and higher order go through instead of the VJPs
    numpy     the NumPy function that the op takes the place of when it is called with a Tensor; `name` is the op's name
    """
    if residual and not twin:
        raise ValueError("a residual is not differentiable: name a twin")
    if isinstance(forward, np.ufunc) and not joint and len(vjps) != forward.nin:
        raise ValueError(f"np.{forward.__name__} takes {forward.nin} arrays and needs as many VJPs, not {len(vjps)}")
    numpy = forward if isinstance(forward, np.ufunc) else numpy
    names, statics, defaults = names_of(forward, None if joint else len(vjps))
    wanted = [named_by(v) for v in ([joint] if joint else vjps)]
    extras = {"shapes"} | ({"residual"} if residual else set()) | ({"needs"} if joint else set())
    check_names(names, statics, wanted, extras)
    asks_shapes = any("shapes" in each for each in wanted)
    plans = {}                               # a cache: which arguments require a gradient -> what_to_keep of them

    def apply(*args, **static):
        if statics or static or (names and len(args) != len(names)):           # else: as many arrays as the op takes
            args, static = bind(apply, args, static, defaults)
        values, parents, dtype = unpack(apply, args)
        y = forward(*values, **static)
        if residual:
            y, static["residual"] = y
        y = np.asarray(y, dtype)
        if dtype is None:                                          # no Tensor was given: a function of ndarrays
            return y
        node = None
        if mode.recording and any(parents):
            needs = tuple(map(bool, parents))                      # a Node is true, None is not
            if needs not in plans:
                plans[needs] = what_to_keep(needs)
            known = (y, *values)
            saved = {n: known[i] for n, i in plans[needs]}
            if asks_shapes:
                static["shapes"] = [np.shape(v) for v in values]
            if joint:
                static["needs"] = needs
            node = Node(apply, parents, saved | static if static else saved, y.shape, y.dtype)
        if debug.watch:
            debug.watch(y, apply, values, node)
        return wrap(y, node)

    def what_to_keep(needs):
        """[(name, place in (y, *values))] of what the VJPs of these arguments name; with a twin, also all arguments."""
        active = wanted if joint else [each for each, needed in zip(wanted, needs) if needed]
        asked = {n for each in active for n in each} | set(names if twin else ())
        return [(n, i) for i, n in enumerate(["y", *names]) if n in asked]

    apply.__name__ = apply.__qualname__ = name or (numpy or forward).__name__.strip("_")
    apply.__doc__ = f"As np.{numpy.__name__}, differentiable." if numpy else forward.__doc__
    apply.forward, apply.twin, apply.names, apply.statics = forward, twin, names, statics
    apply.joint = joint and _from_saved(joint, wanted[0])
    apply.vjps = [_from_saved(vjp, each) for vjp, each in zip(vjps, wanted)]
    if OPS.setdefault(apply.__name__, apply) is not apply:
        raise ValueError(f"there is an op named {apply.__name__} already")
    if numpy:
        NUMPY[numpy] = apply
    return apply


def _from_saved(vjp, wanted):
    """`vjp(g, the values that it names)` as a function of g and the dict of saved values."""
    if len(wanted) < 2:                                            # itemgetter gives a tuple for two names or more
        return (lambda g, saved: vjp(g, saved[wanted[0]])) if wanted else lambda g, saved: vjp(g)
    pick = itemgetter(*wanted)
    return lambda g, saved: vjp(g, *pick(saved))
