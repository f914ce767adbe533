"""Four densities in the plane that no Gaussian fits: two arcs, a wave, and waves that part. A test for flows.

    (1)  U₁ = ½ ((|z| − 2)/0.4)² − ln(e^(−½ ((z₁ − 2)/0.6)²) + e^(−½ ((z₁ + 2)/0.6)²))
    (2)  U₂ = ½ ((z₂ − w₁)/0.4)²,  w₁ = sin(2π z₁/4)
    (3)  U₃ = −ln(e^(−½ ((z₂ − w₁)/0.35)²) + e^(−½ ((z₂ − w₁ + w₂)/0.35)²)),  w₂ = 3 e^(−½ ((z₁ − 1)/0.6)²)
    (4)  U₄ = −ln(e^(−½ ((z₂ − w₁)/0.4)²) + e^(−½ ((z₂ − w₁ + w₃)/0.35)²)),  w₃ = 3 σ((z₁ − 1)/0.3)
    (5)  KL(q ‖ p) = E_q₀ [ln q₀(z) − ln |det ∂f/∂z| + U(f(z))] + ln ∫ e^−U                  [flows.energy-kl]

p = e^−U / ∫ e^−U, z (B, 2), U (B,) in nats. U₂ to U₄ know no end of z₁, and the paper shows |z₁| <= 4: a wall
½ ((|z₁| − 4)₊/0.4)² is added, which makes a density of them. A flow that is fitted to e^−βU, with β from 0.01 up to 1,
finds all parts of p before they are far apart. Rezende and Mohamed, arXiv:1505.05770, table 1 and section 6.1.
"""
import math
from typing import Callable

import numpy as np
from scipy.special import logsumexp

from autograd import no_grad, ops, optim
from autograd.losses import LOG_2PI

from ..vae.gaps import grid
from .flow import Flow


def ring(z):
    r = ops.sqrt(ops.sum(z * z, axis=1) + 1e-12)
    return 0.5 * ops.square((r - 2) / 0.4) + _either((z[:, 0] - 2) / 0.6, (z[:, 0] + 2) / 0.6)          # (1)


def wave(z):
    return 0.5 * ops.square((z[:, 1] - _w1(z)) / 0.4) + _wall(z)                           # (2)


def split(z):
    w2 = 3 * ops.exp(-0.5 * ops.square((z[:, 0] - 1) / 0.6))
    above = z[:, 1] - _w1(z)
    return _either(above / 0.35, (above + w2) / 0.35) + _wall(z)                           # (3)


def fork(z):
    w3 = 3 * ops.sigmoid((z[:, 0] - 1) / 0.3)
    above = z[:, 1] - _w1(z)
    return _either(above / 0.4, (above + w3) / 0.35) + _wall(z)                            # (4)


ENERGIES = {"U1": ring, "U2": wave, "U3": split, "U4": fork}


def _w1(z):
    return ops.sin(0.5 * math.pi * z[:, 0])


def _either(a, b):
    return -ops.logsumexp(-0.5 * ops.square(ops.stack([a, b])), axis=0)


def _wall(z):
    return 0.5 * ops.square(ops.maximum(ops.abs(z[:, 0]) - 4, 0.0) / 0.4)


def fit_energy(flow: Flow, energy: Callable, rng: np.random.Generator, *, steps: int = 1500, batch: int = 256,
               lr: float = 0.02) -> Flow:
    """Train a flow of the plane by Adam towards e^−U, with β = 1 from the third part of `steps` on; returns it."""
    optimizer = optim.Adam(flow.parameters(), optim.warmup_cosine(lr, min(50, steps - 1), steps + 1))
    for t in range(1, steps + 1):
        z, logdet = flow(rng.standard_normal((batch, 2), dtype=flow.dtype))
        beta = min(1.0, 0.01 + 3 * t / steps)
        loss = ops.mean(beta * energy(z) - logdet)                                         # (5), annealed
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return flow


@no_grad()
def energy_kl(flow: Flow, energy: Callable, nodes: int = 401) -> float:
    """KL(q ‖ p) in nats, both integrals by quadrature: of `nodes` a side in z₀, and of steps of 0.03 in z."""
    z, weight = grid(2, 601, 9)
    log_normaliser = logsumexp(-energy(z)) + math.log(weight)
    z0, weight = grid(2, nodes, 8)
    log_q0 = -0.5 * np.sum(z0 * z0, axis=1) - LOG_2PI
    z, logdet = flow(z0.astype(flow.dtype))
    return float(np.sum(np.exp(log_q0) * (log_q0 - logdet.data + energy(z).data + log_normaliser)) * weight)  # (5)
