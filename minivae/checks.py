"""What arguments must be: each check returns its value, or raises a ValueError that names what was given and wanted."""
import math
from numbers import Real

import numpy as np


def check_count(value, name: str, most: int | None = None, why: str = "") -> int:
    """`value` as an int in 1..most."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
        raise ValueError(f"{name} must be a positive integer, not {value!r}")
    if most is not None and value > most:
        raise ValueError(f"{name} must be at most {most}{why}, not {value}")
    return int(value)


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
