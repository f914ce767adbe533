"""Ops that exist for speed or stability, each with its twin: the plain composition that it equals.

    (1)  linear:                 y = φ(x W + b)                                              [fused.linear]
    (2)  bernoulli_nll:          −ln Π σ(l)ˣ (1 − σ(l))¹⁻ˣ = Σ softplus(l) − x l             [fused.bernoulli-nll]
    (3)  gaussian_nll:           −ln N(x; μ, σ²) = ½ Σ ln 2π + ln σ² + (x − μ)² / σ²         [fused.gaussian-nll]
    (4)  gaussian_kl:            KL(N(μ, σ²) ‖ N(0, 1)) = ½ Σ μ² + σ² − 1 − ln σ²            [fused.gaussian-kl]
    (5)  softmax_cross_entropy:  −ln softmax(l)_c = ln Σ exp(l) − l_c                      [fused.softmax-cross-entropy]
    (6)  group_norm:             y = φ(γ (x − μ) / √(σ² + ε) + β)                            [fused.group-norm]

Sums run over the last axis, so (B, D) gives (B,), in nats. In (6) φ is the identity or SiLU, and μ and σ² belong to
one image and one group of its channels (Wu and He, arXiv:1803.08494). The twin is the oracle of the op's tests, and
what second and higher derivatives go through: a VJP that uses a saved residual could not know how that depends on the
inputs.
"""
import math

import numpy as np

from . import kernels, ops
from .primitive import op
from .product import product
from .threads import crew, parts_of

LOG_2PI = math.log(2 * math.pi)
RELU, GROUP_NORM, BERNOULLI = 15, 60, 90     # take as long as so many multiplications an element

# Activations that `linear` can fuse: in place on its output, and the derivative as a function of that output.
ACTIVATIONS = {None: (lambda y: y, lambda g, y: g),
               "relu": (None, None),                               # has kernels, bias and all
               "tanh": (lambda y: np.tanh(y, out=y), lambda g, y: g * (1 - y * y)),
               "sigmoid": (lambda y: ops.sigmoid.forward(y, out=y), lambda g, y: g * y * (1 - y))}


def _linear(x, w, b, activation=None):
    """φ(x W + b): x (..., in), w (in, out), b (out,) or None, activation None, "relu", "tanh" or "sigmoid"."""
    if activation not in ACTIVATIONS:
        raise ValueError(f"linear fuses the activations {list(ACTIVATIONS)}, not {activation!r}")
    if w.ndim != 2 or b is not None and b.shape != w.shape[1:]:
        raise ValueError(f"linear takes w (in, out) and b (out,), not {w.shape} and {np.shape(b)}")
    if x.shape[-1:] != w.shape[:1]:
        raise ValueError(f"linear takes x (..., {len(w)}) for w {w.shape}, not {x.shape}")
    y = product(_flat(x), w, b, activation == "relu")
    if x.ndim != 2:
        y = y.reshape(*x.shape[:-1], w.shape[1])
    return y if activation in (None, "relu") else ACTIVATIONS[activation][0](y)            # (1)


def _flat(x):
    """A view (B, D) of x (..., D)."""
    return x if x.ndim == 2 else x.reshape(math.prod(x.shape[:-1]), x.shape[-1])


def _linear_vjp(g, x, w, y, activation, needs):
    if activation == "relu":
        gb, flat = np.empty(y.shape[-1], y.dtype), np.empty_like(_flat(y))
        kernels.relu_vjp(crew(), parts_of(RELU * y.size), _flat(np.ascontiguousarray(g)), _flat(y), flat, gb)
    else:
        flat = _flat(ACTIVATIONS[activation][1](g, y))
        gb = needs[2] and np.add.reduce(flat)
    return needs[0] and product(flat, w.T).reshape(x.shape), needs[1] and product(_flat(x).T, flat), gb


def _linear_twin(x, w, b, activation=None):
    y = x @ w if b is None else x @ w + b
    return getattr(ops, activation)(y) if activation else y


def _bernoulli_nll(logits, x):
    """−ln p(x) of independent Bernoulli variables: logits and x (..., D), x in [0, 1]; returns (...,) nats."""
    dtype = np.result_type(logits, x, np.float32)
    if np.shape(logits) != np.shape(x):
        logits, x = np.broadcast_arrays(logits, x)
    logits, x = np.ascontiguousarray(logits, dtype), np.ascontiguousarray(x, dtype)
    nll, residual = np.empty(logits.shape[:-1], dtype), np.empty_like(logits)
    kernels.bernoulli_nll(crew(), parts_of(BERNOULLI * logits.size), _flat(logits), _flat(x), nll.reshape(-1),
                          _flat(residual))                                                 # (2)
    return nll, residual


def _gaussian_nll(x, mu, logvar):
    """−ln N(x; mu, exp(logvar)): arguments (..., D) or broadcast to that; returns (...,) nats."""
    z2 = (x - mu) ** 2 * np.exp(-logvar)
    return 0.5 * np.sum(LOG_2PI + logvar + z2, axis=-1)                                    # (3)


def _gaussian_nll_vjp(g, x, mu, logvar):
    x, mu, logvar = np.broadcast_arrays(x, mu, logvar)
    g, w, r = g[..., None], np.exp(-logvar), x - mu
    gx = g * r * w
    return gx, -gx, 0.5 * g * (1 - r * r * w)


def _gaussian_kl(mu, logvar):
    """KL(N(mu, exp(logvar)) ‖ N(0, 1)): (..., D) each; returns (...,) nats. expm1 keeps the digits near 0."""
    excess = np.expm1(logvar)
    return 0.5 * np.add.reduce(mu * mu + excess - logvar, axis=-1), excess                 # (4)


def _gaussian_kl_vjp(g, mu, logvar, residual):
    if np.shape(mu) != np.shape(logvar):                           # one of them may be a number
        mu, residual = np.broadcast_arrays(mu, residual)
    g = g[..., None]
    return g * mu, 0.5 * g * residual


def _softmax_cross_entropy(logits, labels):
    """−ln softmax(logits)[labels]: logits (..., K), labels (...,) integers in [0, K); returns (...,) nats."""
    labels = np.asarray(labels)
    if labels.dtype.kind not in "iu" or labels.shape != logits.shape[:-1]:
        raise ValueError(f"labels must be integers of shape {logits.shape[:-1]}, not {labels.dtype} of {labels.shape}")
    if labels.size and not 0 <= labels.min() <= labels.max() < logits.shape[-1]:
        raise ValueError(f"labels must be in [0, {logits.shape[-1]}), got {labels.min()} to {labels.max()}")
    log_p = ops.log_softmax.forward(logits)
    return -np.take_along_axis(log_p, labels[..., None], -1)[..., 0], log_p                # (5)


def _softmax_cross_entropy_vjp(g, residual, labels):
    g = g[..., None]
    return g * np.exp(residual) - np.where(np.arange(residual.shape[-1]) == np.asarray(labels)[..., None], g, 0)


def _group_norm(x, gain, shift, groups=1, eps=1e-5, silu=False):
    """φ(gain (x − μ) / √(σ² + eps) + shift): x (B, ..., C), gain and shift (C,), φ = SiLU if `silu`, else the identity.

    The C channels fall into `groups` of neighbours; μ and σ² are over all positions and the channels of a group, for
    each x[b] by itself.
    """
    C = x.shape[-1] if x.ndim > 1 else 0
    if not eps > 0:
        raise ValueError(f"group_norm needs eps > 0, or what is constant is divided by 0, not {eps!r}")
    if not isinstance(groups, (int, np.integer)) or groups < 1 or not C or C % groups:
        raise ValueError(f"group_norm takes x (B, ..., C) with C a multiple of groups, not {x.shape} and {groups!r}")
    if gain.shape != (C,) or shift.shape != (C,):
        raise ValueError(f"group_norm of {C} channels takes gain and shift ({C},), not {gain.shape} and {shift.shape}")
    dtype = np.result_type(x, gain, shift, np.float32)
    x, gain, shift = (np.ascontiguousarray(v, dtype) for v in (x, gain, shift))
    y, (mean, rstd) = np.empty_like(x), np.empty((2, len(x), C), dtype)
    kernels.group_norm(crew(), parts_of(GROUP_NORM * x.size, 4), _rows(x), gain, shift, groups, eps, silu, _rows(y),
                       mean, rstd)                                                         # (6)
    return y, (mean, rstd)


def _group_norm_vjp(g, x, gain, shift, residual, groups, silu):
    g, x, gain, shift = map(np.ascontiguousarray, (g, x, gain, shift))
    gx, (ggain, gshift) = np.empty_like(x), np.empty((2, len(x), len(gain)), x.dtype)
    kernels.group_norm_vjp(crew(), parts_of(GROUP_NORM * x.size, 4), _rows(g), _rows(x), gain, shift, groups, silu,
                           *residual, _rows(gx), ggain, gshift)
    return gx, ggain.sum(axis=0), gshift.sum(axis=0)


def _rows(x):
    """A view (B, P, C) of a contiguous x (B, ..., C)."""
    return x.reshape(len(x), math.prod(x.shape[1:-1]), x.shape[-1])


def _group_norm_twin(x, gain, shift, groups=1, eps=1e-5, silu=False):
    parts = ops.reshape(x, (len(x), -1, groups, x.shape[-1] // groups))
    r = parts - ops.mean(parts, axis=(1, 3), keepdims=True)
    r = r / ops.sqrt(ops.mean(ops.square(r), axis=(1, 3), keepdims=True) + eps)
    y = gain * ops.reshape(r, x.shape) + shift
    return ops.silu(y) if silu else y


linear = op(_linear, joint=_linear_vjp, twin=_linear_twin)
bernoulli_nll = op(_bernoulli_nll, lambda g, residual: g[..., None] * residual, lambda g, logits, residual:
                   -g[..., None] * np.broadcast_to(logits, residual.shape),
                   residual=True, twin=lambda logits, x: ops.sum(ops.softplus(logits) - x * logits, axis=-1))
gaussian_nll = op(_gaussian_nll, joint=_gaussian_nll_vjp, twin=lambda x, mu, logvar: 0.5 * ops.sum(
    LOG_2PI + logvar + ops.square(x - mu) / ops.exp(logvar), axis=-1))
gaussian_kl = op(_gaussian_kl, joint=_gaussian_kl_vjp, residual=True, twin=lambda mu, logvar: 0.5 * ops.sum(
    ops.square(mu) + ops.exp(logvar) - 1 - logvar, axis=-1))
softmax_cross_entropy = op(_softmax_cross_entropy, _softmax_cross_entropy_vjp, residual=True, twin=lambda logits,
                           labels: -ops.log_softmax(logits)[(*np.indices(np.shape(labels)), np.asarray(labels))])
group_norm = op(_group_norm, joint=_group_norm_vjp, residual=True, twin=_group_norm_twin)
