"""Two floors: the plain form, which is the definition, and a faster form of the same function, if there is one.

The plain engine is NumPy and is written to be read. The folder `fast` holds, for some of its functions, the same
function compiled by Numba, in fewer passes over memory. This file is the only way from one to the other.

    @faster                              # `form(plain)`, with the form of that name in fast.FORMS, or `plain` itself
    def bernoulli_nll(logits, x): ...

A form takes the plain function, as its twin (see primitive.py) or for the cases that it leaves to it, and returns a
function with the same arguments. Models that bring a faster form of their own use

    log_prob = fused(plain, forward, joint=vjp)  # an op with this forward and VJP, or `plain`, which is composed of ops
    @compiled                                    # a plain Python loop, compiled as it stands
    def draw(...): ...

and, in such loops, `exp_minus(a)`, which is exp(−a) for a >= 0 in a form that the compiler vectorises.

The fast floor is off if the environment has AUTOGRAD_PLAIN=1 or NUMBA_DISABLE_JIT=1, if the folder is not there, or if
it cannot be imported, which gives one warning. Then the plain function is used in every case, and everything works as
before, only slower. A test holds each fast form equal to its plain one.
"""
import math
import os
import warnings
from importlib import import_module

from .primitive import op


def _open_fast_floor():
    """The module `autograd.fast`, or None where the plain floor is to do everything."""
    if os.environ.get("AUTOGRAD_PLAIN", "0") not in ("", "0"):
        return None
    try:
        fast = import_module(".fast", __package__)
    except Exception as error:
        if getattr(error, "name", None) != f"{__package__}.fast":  # the folder is there, but does not work
            warnings.warn(f"autograd runs on its plain floor, which is slower: the fast floor cannot be used here, "
                          f"because of {type(error).__name__}: {error}", RuntimeWarning, stacklevel=2)
        return None
    return fast if fast.COMPILES else None                         # not under NUMBA_DISABLE_JIT


FAST = _open_fast_floor()


def faster(plain):
    """The fast form of the function `plain`, found by its name, or `plain` itself."""
    form = FAST and FAST.FORMS.get(plain.__name__)
    return form(plain) if form else plain


def fused(plain, forward, *vjps, **options):
    """An op with its own forward and VJPs that computes what `plain` composes of other ops; or `plain` itself."""
    return op(forward, *vjps, twin=plain, **options) if FAST else plain


def compiled(loop=None, **options):
    """The Python loop `loop`, compiled by Numba (numba.njit's options) at its first call; or `loop` itself.

    It takes arrays of any layout. It does not check its indices, so the caller checks the shapes.
    """
    if loop is None:
        return lambda loop: compiled(loop, **options)
    return FAST.kernel(loop, **options) if FAST else loop


def keep_memory():
    """For a program that owns its process: keep the memory of arrays for the next ones (see fast/memory.py)."""
    if FAST:
        FAST.memory.keep()


exp_minus = FAST.exp_minus if FAST else lambda a: math.exp(-a)
