"""The linear map of a layer, with its activation: y = φ(x W + b).

    (1)  y = φ(x W + b):  x (..., in), W (in, out), b (out,)                                 [linear.forward]

It is composed of the product of matrices, a sum, and one of the activations of ops.py. Its derivatives follow from
theirs: with u = x W + b, g = ∂L/∂y and δ = g φ'(u),

    ∂L/∂x = δ Wᵀ,   ∂L/∂W = xᵀ δ,   ∂L/∂b = Σ over the rows of δ.

A row of y does not depend on the other rows of x. Its last digits can depend on how many rows there are, since the
library behind NumPy's product of matrices (BLAS) adds in another order for another shape.
"""
from . import ops
from .floors import faster

ACTIVATIONS = (None, "relu", "tanh", "sigmoid")                    # those that `linear` takes


def linear(x, w, b=None, activation: str | None = None):
    """φ(x W + b): x (..., in), w (in, out), b (out,) or None; `activation` None, "relu", "tanh" or "sigmoid"."""
    if activation not in ACTIVATIONS:
        raise ValueError(f"linear takes the activations {list(ACTIVATIONS)}, not {activation!r}")
    if w.ndim != 2 or b is not None and b.shape != w.shape[1:]:
        raise ValueError(f"linear takes w (in, out) and b (out,), not {w.shape} and {None if b is None else b.shape}")
    if x.shape[-1:] != w.shape[:1]:
        raise ValueError(f"linear takes x (..., {len(w)}) for w {w.shape}, not {x.shape}")
    return _linear(x, w, b, activation=activation)


@faster
def _linear(x, w, b, activation=None):
    y = x @ w if b is None else x @ w + b                                                  # (1)
    return getattr(ops, activation)(y) if activation else y
