"""Is a derivative right? Compare it with one that uses no calculus.

    (1)  central differences  ∂φ/∂xᵢ ≈ (φ(x + h eᵢ) − φ(x − h eᵢ)) / 2h     error O(h²) + O(ε/h)     [gradcheck.central]
    (2)  complex step         ∂φ/∂xᵢ ≈ Im φ(x + i h eᵢ) / h                 error O(h²), no cancellation, so h = 1e-30
                                                                            [gradcheck.complex-step]

φ(x) = ⟨u, f(x)⟩ with a fixed random u, so that all of f's outputs are checked at once. The complex step needs f
analytic: no abs, max, comparison or complex conjugate on the way. Squire and Trapp, SIAM Review 1998, for (2).
"""
from typing import NamedTuple

import numpy as np

from . import ops
from .transforms import grad


class GradcheckError(AssertionError):
    """A derivative that differs from its numerical value."""


class Report(NamedTuple):
    """The worst entry that gradcheck met: `error` is |analytic - numeric| / max(1, |analytic|, |numeric|)."""
    error: float
    argument: int
    index: tuple
    analytic: float
    numeric: float

    def __str__(self):
        return (f"argument {self.argument}, entry {self.index}: analytic {self.analytic:.12g}, "
                f"numeric {self.numeric:.12g}, error {self.error:.2g}")


def gradcheck(f, *inputs, method="central", step=None, rtol=None, rng=None):
    """Check the gradient of f in every entry of every input; returns a Report or raises GradcheckError with it.

    f takes the inputs, as float64 Tensors or as ndarrays (complex ones for the complex step), and returns an array of
    any shape. Defaults: "central" with step 6e-6 and rtol 1e-6, "complex" with step 1e-30 and rtol 1e-12.
    """
    if method not in ("central", "complex"):
        raise ValueError(f"method is 'central' or 'complex', not {method!r}")
    if not inputs:
        raise ValueError("gradcheck needs at least one input")
    step = {"central": 6e-6, "complex": 1e-30}[method] if step is None else step
    rtol = {"central": 1e-6, "complex": 1e-12}[method] if rtol is None else rtol
    inputs = [np.array(x, np.float64) for x in inputs]
    u = (rng or np.random.default_rng(0)).standard_normal(np.shape(f(*inputs)))
    analytic = grad(lambda *xs: ops.sum(ops.multiply(f(*xs), u)), tuple(range(len(inputs))))(*inputs)
    nothing = worst = Report(0.0, 0, (), 0.0, 0.0)
    for k, (x, a) in enumerate(zip(inputs, analytic)):
        for index in np.ndindex(x.shape):
            n = _numeric(lambda v: np.sum(u * np.asarray(f(*inputs[:k], v, *inputs[k + 1:]))), x, index, method, step)
            error = abs(a[index] - n) / max(1.0, abs(a[index]), abs(n))
            if worst is nothing or not error <= worst.error:                          # a NaN is the worst of all
                worst = Report(float(error), k, index, float(a[index]), float(n))
            if np.isnan(error):
                raise GradcheckError(f"gradcheck ({method}): {worst}")
    if worst.error > rtol:
        raise GradcheckError(f"gradcheck ({method}) wants {rtol:.0e}: {worst}")
    return worst


def _numeric(phi, x, index, method, h):
    if method == "complex":
        z = x.astype(complex)
        z[index] += 1j * h
        return phi(z).imag / h                                                             # (2)
    h = h * max(1.0, abs(x[index]))
    up, down = x.copy(), x.copy()
    up[index] += h
    down[index] -= h
    return (phi(up) - phi(down)) / (up[index] - down[index])                               # (1)
