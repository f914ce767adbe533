"""detect_nan: which operation made the first NaN or inf?"""
import traceback
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from .modes import debug


@contextmanager
def detect_nan():
    """A context, or a decorator, in which the first NaN or inf stops the program.

    Raises FloatingPointError naming the op, the shapes, and the line that called it; for one that a backward pass
    makes, the line of the forward call.
    """
    before, debug.watch = debug.watch, _watch
    try:
        yield
    finally:
        debug.watch = before


def _watch(array, op, inputs, node):
    """Look at what `op` made: a value from `inputs`, or, with none, a gradient on the way back from `node`."""
    site = _caller() if inputs else getattr(node, "site", "a graph recorded outside detect_nan()")
    if inputs and node is not None:
        node.site = site
    if np.isfinite(array).all():
        return
    what = "nan" if np.isnan(array).any() else "inf"
    if inputs:
        old = [i for i, v in enumerate(inputs) if v is not None and not np.isfinite(v).all()]
        cause = f"argument {old[0]} was not finite already" if old else "all its arguments were finite"
        shapes = ", ".join(str(np.shape(v)) for v in inputs)
        raise FloatingPointError(f"{op.__name__} of shapes {shapes} gave {what} in shape {array.shape}; "
                                 f"{cause}; {site}")
    raise FloatingPointError(f"the derivative of {op.__name__} gave {what} in shape {array.shape}; {site}")


def _caller():
    """The line outside this package that is being run."""
    here = Path(__file__).parent
    for frame in reversed(traceback.extract_stack()):
        if Path(frame.filename).parent != here and frame.name != "__array_function__":
            return f"called at {frame.filename}:{frame.lineno}: {frame.line}"
    return "called from inside autograd"
