"""How a NumPy function and its VJPs become a primitive: an op that records what it does.

    tanh = op(np.tanh, lambda g, y: g * (1 - y * y))
    mul = op(np.multiply, lambda g, b: g * b, lambda g, a: g * a)

A VJP says by its parameters' names what it needs, and nothing else is kept: first `g`, the cotangent of the output;
then any of `y`, the output; the forward's own arguments (`x`, or `a` and `b`, for a ufunc); `shapes`, of all arguments;
and static keywords. It returns a new array, `g` itself, or a view of `g`. The engine undoes broadcasting and keeps the
dtype, so no VJP has to.
"""
import inspect
from contextlib import contextmanager
from operator import itemgetter

import numpy as np

from .tensor import NUMPY, Node, Tensor, debug, mode, serial, wrap

new, ndarray, asarray = object.__new__, np.ndarray, np.asarray                  # looked up in every op
OPS = {}                                     # name -> primitive


def op(forward, *vjps, name=None, joint=None, twin=None, residual=False, numpy=None):
    """A primitive from `forward(*arrays, *static) -> ndarray` and one VJP an array.

    The forward's first arguments, one for each VJP, are arrays to differentiate; the others are static. Raises
    ValueError for a name that is taken, a VJP too few, or one that names what it cannot have.

    joint     one VJP for all arrays (the arguments without a default), returning a tuple; it may also name `needs`,
              which of them are traced
    residual  the forward returns `(y, residual)`, and VJPs may name `residual`; needs a twin
    twin      the same function composed of other ops: a fused op's oracle, and what higher order differentiates
    numpy     the NumPy function that it stands in for when that is called on a Tensor
    name      by default that of `numpy` or `forward`
    """
    if residual and not twin:
        raise ValueError("a residual is not differentiable: name a twin")
    if isinstance(forward, np.ufunc) and not joint and len(vjps) != forward.nin:
        raise ValueError(f"np.{forward.__name__} takes {forward.nin} arrays and needs as many VJPs, not {len(vjps)}")
    numpy = forward if isinstance(forward, np.ufunc) else numpy
    names, defaults, arity = _arguments(forward, None if joint else len(vjps))
    statics = names[arity:] if arity else ()
    names = names[:arity]
    place = {n: i for i, n in enumerate(["y", *names])}            # where `saved` has it
    rules = [list(inspect.signature(v).parameters)[1:] for v in ([joint] if joint else vjps)]
    keywords = {n for rule in rules for n in rule} - set(place)
    unknown = keywords - {*statics, *_only_by_keyword(forward), "shapes", "residual", *["needs"] * bool(joint)}
    if unknown:
        raise ValueError(f"a VJP names {', '.join(sorted(unknown))}, and of its arguments knows g, {', '.join(place)}, "
                         f"shapes{''.join(', ' + s for s in statics)}")
    keepers = {}                                                   # which arguments are traced -> what to save

    def keeper(traced):
        active = rules if joint else [rule for rule, needed in zip(rules, traced) if needed]
        kept = {place[n] for rule in active for n in rule if n in place} | {place[n] for n in names if twin}
        keepers[traced] = itemgetter(*(i + 1 if i in kept else 0 for i in range(len(traced) + 1)), 0)
        return keepers[traced]

    def apply(*args, **static):
        if len(args) != arity and arity:
            args, static = _bind(apply, args, static, arity, statics)
        if statics or static:
            static = _checked(apply, defaults, static)
        dtype, values, parents, mixed = None, [], [], False
        for a in args:
            if isinstance(a, Tensor):
                parents.append(a.node)
                values.append(a := a.data)
                if a.dtype is not dtype:
                    mixed, dtype = mixed or dtype is not None, a.dtype
            else:
                parents.append(None)
                values.append(a)
                mixed = mixed or a.__class__ is not float
        if dtype is None:                                          # no Tensor: a function of ndarrays
            if any(isinstance(v, (list, tuple)) for v in values):
                values = [_constant(v, None, apply) for v in values]
            y = forward(*values, **static)
            return np.asarray(y[0] if residual else y)
        if mixed:
            values = [_constant(v, dtype, apply) for v in values]
        y = forward(*values, **static)
        if residual:
            y, static["residual"] = y
        if y.__class__ is not np.ndarray or y.dtype is not dtype:
            y = np.asarray(y, dtype)
        node = None
        if mode.recording and parents.count(None) < len(parents):
            traced = tuple([p is not None for p in parents])
            saved = (keepers.get(traced) or keeper(traced))((None, y, *values))
            if keywords or twin:
                if "shapes" in keywords:
                    static["shapes"] = [np.shape(v) for v in values]
                if "needs" in keywords:
                    static["needs"] = traced
                saved = (*saved[:-1], static)
            node = Node(apply, parents, saved, y.shape, dtype)
        if debug.watch:
            debug.watch(y, apply, values, node)
        return wrap(y, node)

    if not (joint or twin):
        if not (keywords or statics):
            apply = {1: _unary, 2: _binary}.get(arity, lambda apply, *_: apply)(apply, forward, keeper)
        elif arity == 1:
            apply = _unary_with(apply, forward, keeper, defaults, "shapes" in keywords)
    apply.__name__ = apply.__qualname__ = name or (numpy or forward).__name__.strip("_")
    apply.__doc__ = f"As np.{numpy.__name__}, differentiable." if numpy else forward.__doc__
    apply.forward, apply.twin, apply.joint = forward, twin, joint and _bound(joint, rules[0], place)
    apply.vjps = [_bound(v, rule, place) for v, rule in zip(vjps, rules)]
    if OPS.setdefault(apply.__name__, apply) is not apply:
        raise ValueError(f"there is an op named {apply.__name__} already")
    if numpy:
        NUMPY[numpy] = apply
    return apply


# The commonest kinds of op, with what `apply`, Node and wrap do for them spelled out, which takes 0.9 µs of 1.6 off
# each call. Any other arguments than Tensors, arrays of one dtype, floats and keywords go the general way.
def _unary(apply, forward, keeper):
    def unary(x):
        if debug.watch or x.__class__ is not Tensor:
            return apply(x)
        parent, x = x.node, x.data
        y, t = forward(x), new(Tensor)
        if y.__class__ is not ndarray or y.dtype is not x.dtype:
            y = asarray(y, x.dtype)
        t.data, t.node = y, None
        if parent is not None and mode.recording:
            t.node = node = new(Node)
            node.op, node.parents, node.shape, node.dtype, node.serial, node.g = (
                unary, (parent,), y.shape, x.dtype, next(serial), None)
            node.saved = y if keeps_y else None, x if keeps_x else None, None
        return t
    keeps_y, keeps_x, _ = keeper((True,))((None, True, True))
    return unary


def _unary_with(apply, forward, keeper, defaults, shapes):
    """With static arguments, or a VJP that asks for the shape."""
    def unary(x, *args, **static):
        if x.__class__ is ndarray and not args:
            return asarray(forward(x, **_checked(unary, defaults, static)))
        if debug.watch or args or x.__class__ is not Tensor:
            return apply(x, *args, **static)
        parent, x, static = x.node, x.data, _checked(unary, defaults, static)
        y, t = forward(x, **static), new(Tensor)
        if y.__class__ is not ndarray or y.dtype is not x.dtype:
            y = asarray(y, x.dtype)
        t.data, t.node = y, None
        if parent is not None and mode.recording:
            if shapes:
                static["shapes"] = x.shape,
            t.node = node = new(Node)
            node.op, node.parents, node.shape, node.dtype, node.serial, node.g = (
                unary, (parent,), y.shape, x.dtype, next(serial), None)
            node.saved = y if keeps_y else None, x if keeps_x else None, static
        return t
    keeps_y, keeps_x, _ = keeper((True,))((None, True, True))
    return unary


def _binary(apply, forward, keeper):
    def binary(a, b):
        p = q = None
        if a.__class__ is Tensor:
            p, x = a.node, a.data
            dtype = x.dtype
            if b.__class__ is Tensor:
                q, z = b.node, b.data
                if z.dtype is not dtype:
                    return apply(a, b)
            elif b.__class__ is float:
                z = asarray(b, dtype)                              # NumPy is slow with numbers, and the VJP has it too
            elif b.__class__ is ndarray and b.dtype is dtype:
                z = b
            else:
                return apply(a, b)
        elif b.__class__ is Tensor:
            q, z = b.node, b.data
            dtype = z.dtype
            if a.__class__ is float:
                x = asarray(a, dtype)
            elif a.__class__ is ndarray and a.dtype is dtype:
                x = a
            else:
                return apply(a, b)
        else:
            return apply(a, b)
        if debug.watch:
            return apply(a, b)
        y, t = forward(x, z), new(Tensor)
        if y.__class__ is not ndarray or y.dtype is not dtype:
            y = asarray(y, dtype)
        t.data, t.node = y, None
        if mode.recording and (p is not None or q is not None):
            keeps_y, keeps_x, keeps_z, _ = first if q is None else second if p is None else both
            t.node = node = new(Node)
            node.op, node.parents, node.shape, node.dtype, node.serial, node.g = (
                binary, (p, q), y.shape, dtype, next(serial), None)
            node.saved = y if keeps_y else None, x if keeps_x else None, z if keeps_z else None, None
        return t
    both, first, second = (keeper(traced)((None, True, True, True)) for traced in [(True, True), (True, False),
                                                                                   (False, True)])
    return binary


def _arguments(forward, arity):
    """The names of the forward's arguments, the defaults of its static ones, and how many are arrays (None: any)."""
    if isinstance(forward, np.ufunc):
        return ["x"] if forward.nin == 1 else ["a", "b"], {}, forward.nin
    params = list(inspect.signature(forward).parameters.values())
    if params[0].kind is inspect.Parameter.VAR_POSITIONAL:
        return [], {}, None
    defaults = {p.name: p.default for p in params if p.default is not inspect.Parameter.empty}
    return [p.name for p in params], defaults, arity or len(params) - len(defaults)


def _only_by_keyword(forward):
    if isinstance(forward, np.ufunc):
        return []
    params = inspect.signature(forward).parameters.values()
    return [p.name for p in params if p.kind is inspect.Parameter.KEYWORD_ONLY]


def _bind(op, args, static, arity, statics):
    """The arrays, and the static arguments by name, that a call means."""
    if not arity <= len(args) <= arity + len(statics):
        raise TypeError(f"{op.__name__} takes {arity} to {arity + len(statics)} arguments, not {len(args)}")
    return args[:arity], dict(zip(statics, args[arity:])) | static


def _checked(op, defaults, static):
    """The static arguments, whether given or not, of which none is a Tensor."""
    static = {**defaults, **static}
    for name, value in static.items():
        if isinstance(value, Tensor):
            raise TypeError(f"{op.__name__} is not differentiable in {name}: give it .data to say that you know")
    return static


def _bound(vjp, rule, place):
    """`vjp(g, what it names)` as (f, i), to be called as f(g, saved[i]) or, if i is None, f(g, saved)."""
    if len(rule) == 1 and rule[0] in place:
        return vjp, place[rule[0]]
    # The call spelled out, of names that are parameters of a function already: 0.07 µs, where *[...] takes 0.5.
    named = [f"saved[{place[n]}]" if n in place else f"saved[-1][{n!r}]" for n in rule]
    code = compile(f"lambda g, saved: vjp({', '.join(['g', *named])})", f"{__file__}: vjp", "eval")
    return eval(code, {"vjp": vjp}), None


def _constant(v, dtype, op):
    """An argument of an op on Tensors: numbers take their dtype, integer arrays are cast, float arrays must match."""
    if v.__class__ is np.ndarray and v.dtype is dtype:
        return v
    if isinstance(v, np.generic):
        v = v.item()
    if v is None or isinstance(v, (bool, int, float)):
        return v
    if _holds_tensors(v):
        raise ValueError(f"{op.__name__} was given a {type(v).__name__} of Tensors: ops.stack makes one of them")
    v = np.asarray(v)
    if dtype is None:
        return v
    if v.dtype.kind not in "biu" and v.dtype != dtype:
        raise ValueError(f"{op.__name__} was given {v.dtype} and {dtype}, and a Tensor keeps one dtype: "
                         f"convert the array with .astype, or the model with Module.astype")
    return v.astype(dtype, copy=False)


def _holds_tensors(v):
    return isinstance(v, (list, tuple)) and any(isinstance(part, Tensor) or _holds_tensors(part) for part in v)


@contextmanager
def no_grad():
    """A context, or a decorator, within which ops record nothing."""
    with _recording(False):
        yield


@contextmanager
def _recording(on):
    before, mode.recording = mode.recording, on
    try:
        yield
    finally:
        mode.recording = before
