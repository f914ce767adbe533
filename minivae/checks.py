"""What arguments must be: each check returns its value, or raises a ValueError that names what was given and wanted."""
import math
from numbers import Real

import numpy as np


def check_count(value, name: str, most: int | None = None, why: str = "", least: int = 1) -> int:
    """`value` as an int in least..most."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
        wanted = "a positive integer" if least == 1 else f"an integer >= {least}"
        raise ValueError(f"{name} must be {wanted}, not {value!r}")
    if most is not None and value > most:
        raise ValueError(f"{name} must be at most {most}{why}, not {value}")
    return int(value)


def check_widths(value, name: str) -> tuple[int, ...]:
    """`value` as a tuple of positive integers, which can be empty."""
    if not isinstance(value, (tuple, list)):
        raise ValueError(f"{name} must be a tuple of widths, such as (64,), not {value!r}")
    return tuple(check_count(n, f"a width in {name}") for n in value)


def check_choice(value, name: str, choices: tuple[str, ...]) -> str:
    """`value`, which is one of `choices`."""
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, choices))}, not {value!r}")
    return value


def check_weight(value, name: str) -> float:
    """`value` as a float, finite and >= 0."""
    if isinstance(value, bool) or not isinstance(value, Real) or not 0 <= value < math.inf:
        raise ValueError(f"{name} must be a number >= 0, not {value!r}")
    return float(value)


def check_number(value, name: str) -> float:
    """`value` as a float; it can be infinite."""
    if isinstance(value, bool) or not isinstance(value, Real) or math.isnan(value):
        raise ValueError(f"{name} must be a number, not {value!r}")
    return float(value)


def positive(value, name: str, below: float = math.inf) -> float:
    """`value` as a float, > 0 and < `below`."""
    if isinstance(value, bool) or not isinstance(value, Real) or not 0 < value < below:
        wanted = "> 0" if below == math.inf else f"in (0, {below:g})"
        raise ValueError(f"{name} must be a number {wanted}, not {value!r}")
    return float(value)


def check_times(t, n: int) -> np.ndarray:
    """`t` as n whole numbers from 1 on: the times of n examples."""
    t = np.asarray(t)
    if t.shape != (n,) or t.dtype.kind not in "iu" or n and t.min() < 1:
        raise ValueError(f"t must be {n} whole numbers from 1 on, one for each x, not "
                         f"{t if t.size < 10 else t.dtype} of shape {t.shape}")
    return t


def check_classes(y, n: int, classes: int | None, hidden: bool = True) -> np.ndarray | None:
    """`y` as n whole numbers in [0, classes), and, if `hidden`, `classes` itself, "no class", which None stands for.

    None for a denoiser without classes, which is one of `classes` = None.
    """
    if y is None:
        return None if classes is None else np.full(n, classes)
    if classes is None:
        raise ValueError("this denoiser has no classes: build it with num_classes, or leave y out")
    y = np.asarray(y)
    if y.shape != (n,) or y.dtype.kind not in "iu":
        raise ValueError(f"y must be {n} whole numbers, one for each x, not {y.dtype} of shape {y.shape}")
    if y.size and not 0 <= y.min() <= y.max() < classes + hidden:
        raise ValueError(f"classes must be in [0, {classes}){f', or {classes} for none' * hidden}, "
                         f"got {y.min()} to {y.max()}")
    return y


def check_array(x, name: str, dtype, why: str = ""):
    """A ValueError, which goes on with `why`, unless `x` is an ndarray of `dtype`."""
    if not isinstance(x, np.ndarray) or x.dtype != dtype:
        given = x.dtype if isinstance(x, np.ndarray) else type(x).__name__
        raise ValueError(f"{name} must be an array of {dtype}{why}, not {given}")


def finite(value, name: str, shape: tuple) -> np.ndarray:
    """`value` as an array of floats, finite and of that shape, in which None is any length."""
    array = np.asarray(value)
    if array.dtype.kind not in "biuf":
        raise ValueError(f"{name} must be made of real numbers, not {value!r}")
    array = array if array.dtype in (np.float32, np.float64) else array.astype(np.float64)
    if array.ndim != len(shape) or 0 in array.shape or any(n not in (None, m) for n, m in zip(shape, array.shape)):
        wanted = ", ".join("any" if n is None else str(n) for n in shape) + "," * (len(shape) == 1)
        raise ValueError(f"{name} must have shape ({wanted}), not {array.shape}")
    if not np.isfinite(array).all():
        raise ValueError(f"{name} must be finite, and holds {array[~np.isfinite(array)][0]}")
    return array
