"""Group normalisation: the channels of each image, a group at a time, to mean 0 and variance 1.

    (1)  y = φ(γ (x − μ) / √(σ² + ε) + β)                                                    [norm.group-norm]

x (B, ..., C). The C channels fall into groups of neighbours. μ and σ² are the mean and the variance over all positions
and over the channels of one group, for each image x[b] by itself, so an image's output does not depend on the rest of
the batch. gain γ and shift β (C,) are learned, ε avoids a division by 0, and φ is the identity or SiLU. The variance is
the mean of (x − μ)². With one group this is layer normalisation over the image; with C groups, instance normalisation.
Its derivatives follow from those of the ops that it is composed of. With x̂ = (x − μ) / √(σ² + ε) and h = γ ∂L/∂y, for
φ the identity, they come out as

    ∂L/∂x = (h − mean(h) − x̂ mean(h x̂)) / √(σ² + ε),   ∂L/∂γ = Σ x̂ ∂L/∂y,   ∂L/∂β = Σ ∂L/∂y,

with the means over one group of one image: moving all x of a group, or scaling them, does not change y.
Wu and He, arXiv:1803.08494, section 3.
"""
import math

import numpy as np

from . import ops
from .floors import faster


def group_norm(x, gain, shift, groups: int = 1, eps: float = 1e-5, silu: bool = False):
    """(1): x (B, ..., C), gain and shift (C,), with SiLU if `silu`. Returns the shape of x."""
    C = x.shape[-1] if x.ndim > 1 else 0
    if not eps > 0:
        raise ValueError(f"group_norm needs eps > 0, or what is constant is divided by 0, not {eps!r}")
    if not isinstance(groups, (int, np.integer)) or groups < 1 or not C or C % groups:
        raise ValueError(f"group_norm takes x (B, ..., C) with C a multiple of groups, not {x.shape} and {groups!r}")
    if gain.shape != (C,) or shift.shape != (C,):
        raise ValueError(f"group_norm of {C} channels takes gain and shift ({C},), not {gain.shape} and {shift.shape}")
    return _group_norm(x, gain, shift, groups=int(groups), eps=eps, silu=silu)


@faster
def _group_norm(x, gain, shift, groups=1, eps=1e-5, silu=False):
    B, C, positions = len(x), x.shape[-1], math.prod(x.shape[1:-1])
    r = ops.reshape(x, (B, positions, groups, C // groups))
    r = r - ops.mean(r, axis=(1, 3), keepdims=True)
    r = r / ops.sqrt(ops.mean(ops.square(r), axis=(1, 3), keepdims=True) + eps)
    y = gain * ops.reshape(r, x.shape) + shift                                             # (1)
    return ops.silu(y) if silu else y
