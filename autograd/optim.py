"""Optimizers: what to do with a gradient.

    (1)  SGD      v ← μ v + g,  θ ← θ − η v                                                  [optim.sgd]
    (2)  Adam     m ← β₁ m + (1 − β₁) g,  v ← β₂ v + (1 − β₂) g²
                  θ ← θ − η m̂ / (√v̂ + ε),  m̂ = m / (1 − β₁ᵗ),  v̂ = v / (1 − β₂ᵗ)             [optim.adam]
    (3)  AdamW    θ ← (1 − η λ) θ, then (2); Adam with weight_decay λ adds λ θ to g instead  [optim.adamw]
    (4)  EMA      θ̄ ← d θ̄ + (1 − d) θ                                                        [optim.ema]
    (5)  clipping g ← g min(1, c / ‖g‖), ‖·‖ over all parameters together                    [optim.clip]
    (6)  warm-up and cosine  η(t) = η t / w for t < w, then η (1 + cos π (t − w) / (T − w)) / 2   [optim.cosine]

In (2), m and v are running means of g and g². They start at 0, so after t steps their weights sum to 1 − β₁ᵗ and 1 −
β₂ᵗ; dividing by that corrects the bias. t counts the steps of each parameter, since one without a gradient is left
alone.

`lr` is a number or a function of the optimizer's step 1, 2, ..., such as `warmup_cosine` returns. Kingma and Ba,
arXiv:1412.6980, for (2); Loshchilov and Hutter, arXiv:1711.05101 and 1608.03983, for (3) and (6). Defaults are those of
PyTorch.
"""
import math
from contextlib import contextmanager
from typing import Callable, Iterable

import numpy as np

from .floors import faster
from .module import check_state
from .tensor import Leaf, Tensor


class Optimizer:
    """Changes parameters by their `.grad`; its own arrays are its `state()`, for a checkpoint."""
    slots = ()                                                     # names of the arrays kept for each parameter

    def __init__(self, params: Iterable[Tensor], lr: float | Callable[[int], float]):
        self.params, self.lr, self.t = list(params), lr, 0
        self.steps = [0] * len(self.params)                        # of each: one that had no gradient was not stepped
        if not self.params or not all(isinstance(p.node, Leaf) for p in self.params):
            raise ValueError("an optimizer needs at least one parameter, all with requires_grad=True")
        if len({id(p) for p in self.params}) < len(self.params):
            raise ValueError("an optimizer was given the same parameter twice")
        if not callable(lr) and not 0 <= lr < math.inf:
            raise ValueError(f"lr must be a number >= 0 or a function of the step, not {lr}")
        for slot in self.slots:
            setattr(self, slot, [np.zeros_like(p.data) for p in self.params])

    def __getitem__(self, player: str):
        raise ValueError(f"this is a game: give Players, with an optimizer named {player!r}, not one "
                         f"{type(self).__name__}")

    def zero_grad(self):
        for p in self.params:
            p.node.grad = None

    def step(self):
        self.t += 1
        lr = self.lr(self.t) if callable(self.lr) else self.lr
        for i, p in enumerate(self.params):
            g = p.grad
            if g is None:
                continue
            arrays = [getattr(self, slot)[i] for slot in self.slots]
            if arrays and arrays[0].dtype != p.dtype:
                raise ValueError(f"a parameter became {p.dtype} after this optimizer was made: make a new one")
            self.steps[i] += 1
            self.update(lr, self.steps[i], p.data, g, *arrays)
            p.assign()

    def state(self) -> dict[str, np.ndarray]:
        arrays = {f"{slot}.{i}": a.copy() for slot in self.slots for i, a in enumerate(getattr(self, slot))}
        return {"t": np.array(self.t), "steps": np.array(self.steps), **arrays}

    def load_state(self, state: dict[str, np.ndarray]):
        """Take over what `state()` gave; raises ValueError for another optimizer's."""
        check_state(self.state(), state, f"{type(self).__name__} of these {len(self.params)} parameters")
        self.t, self.steps = int(state["t"]), state["steps"].tolist()
        for slot in self.slots:
            for i, a in enumerate(getattr(self, slot)):
                a[...] = state[f"{slot}.{i}"]


class SGD(Optimizer):
    """Stochastic gradient descent with momentum and weight decay (λ θ added to g)."""
    slots = ("v",)

    def __init__(self, params, lr, momentum=0.0, weight_decay=0.0):
        super().__init__(params, lr)
        if not (0 <= momentum < 1 and 0 <= weight_decay < math.inf):
            raise ValueError(f"needs 0 <= momentum < 1 and weight_decay >= 0, not {momentum} and {weight_decay}")
        self.momentum, self.weight_decay = momentum, weight_decay

    def update(self, lr, t, p, g, v):
        v *= self.momentum
        v += (g + self.weight_decay * p) if self.weight_decay else g
        p -= lr * v                                                                        # (1)


class Adam(Optimizer):
    """Adam (2): in each entry a step of about lr times the mean of the gradient over its root mean square."""
    slots = ("m", "v")
    decoupled = False

    def __init__(self, params, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0):
        super().__init__(params, lr)
        if len(betas) != 2 or not all(0 <= b < 1 for b in betas):
            raise ValueError(f"betas must be two numbers in [0, 1), not {betas}")
        if not (0 <= eps < math.inf and 0 <= weight_decay < math.inf):
            raise ValueError(f"eps and weight_decay must be numbers >= 0, not {eps} and {weight_decay}")
        self.betas, self.eps, self.weight_decay = betas, eps, weight_decay

    def update(self, lr, t, p, g, m, v):
        if self.weight_decay and not self.decoupled:
            g = g + self.weight_decay * p
        shrink = 1 - lr * self.weight_decay if self.decoupled else 1.0
        adam_step(p, g, m, v, t, lr, self.betas, self.eps, shrink)


@faster
def adam_step(p, g, m, v, t, lr, betas, eps, shrink=1.0):
    """One step of (2), or (3) where shrink = 1 − η λ, on arrays of one shape: p, m and v are changed in place."""
    b1, b2 = betas
    m[...] = b1 * m + (1 - b1) * g                                                         # (2)
    v[...] = b2 * v + (1 - b2) * g * g                                                     # (2)
    m_hat, v_hat = m / (1 - b1 ** t), v / (1 - b2 ** t)                                    # (2)
    p[...] = shrink * p - lr * m_hat / (np.sqrt(v_hat) + eps)                              # (2), (3)


class AdamW(Adam):
    """Adam with weight decay that the second moment does not scale."""
    decoupled = True

    def __init__(self, params, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01):
        super().__init__(params, lr, betas, eps, weight_decay)


class Players:
    """An optimizer for each player of a game, by name, as in `Players(vae=Adam(...), discriminator=Adam(...))`."""

    def __init__(self, **optimizers: Optimizer):
        if not optimizers or not all(isinstance(o, Optimizer) for o in optimizers.values()):
            raise ValueError("Players needs at least one optimizer, each by its player's name")
        self.optimizers = optimizers
        self.params = [p for o in optimizers.values() for p in o.params]
        if len({id(p) for p in self.params}) < len(self.params):
            raise ValueError("two players were given the same parameter")

    def __getitem__(self, name: str) -> Optimizer:
        if name not in self.optimizers:
            raise ValueError(f"there is no optimizer for the player {name!r}, only for {', '.join(self.optimizers)}")
        return self.optimizers[name]

    def state(self) -> dict[str, np.ndarray]:
        return {f"{name}.{key}": a for name, o in self.optimizers.items() for key, a in o.state().items()}

    def load_state(self, state: dict[str, np.ndarray]):
        """Take over what `state()` gave; raises ValueError, and changes nothing, for that of other players."""
        check_state(self.state(), state, f"the players {', '.join(self.optimizers)}")
        for name, o in self.optimizers.items():
            o.load_state({key: state[f"{name}.{key}"] for key in o.state()})


class EMA:
    """A moving average of parameters: `update()` after each step; `apply()`, or `with applied():`, to use it."""

    def __init__(self, params: Iterable[Tensor], decay: float = 0.999):
        if not 0 <= decay < 1:
            raise ValueError(f"decay must be in [0, 1), not {decay}")
        self.params, self.decay = list(params), decay
        self.average = [p.data.copy() for p in self.params]

    def update(self):
        for a, p in zip(self.average, self.params):
            a *= self.decay
            a += (1 - self.decay) * p.data                                                 # (4)

    def state(self) -> dict[str, np.ndarray]:
        return {str(i): a.copy() for i, a in enumerate(self.average)}

    def load_state(self, state: dict[str, np.ndarray]):
        """Take over what `state()` gave; raises ValueError for an average of other parameters."""
        check_state(self.state(), state, f"EMA of these {len(self.params)} parameters")
        for i, a in enumerate(self.average):
            a[...] = state[str(i)]

    def apply(self):
        """Give the parameters the average, for good."""
        for p, a in zip(self.params, self.average):
            p.assign(a)

    @contextmanager
    def applied(self):
        """Within this context the parameters hold the average."""
        raw = [p.data.copy() for p in self.params]
        self.apply()
        try:
            yield
        finally:
            for p, a in zip(self.params, raw):
                p.assign(a)


def clip_grad_norm(params: Iterable[Tensor], max_norm: float) -> float:
    """Scale all gradients so that their common norm is at most `max_norm`; returns the norm before.

    A norm that is infinite or NaN changes nothing: look at what is returned.
    """
    if not max_norm > 0:
        raise ValueError(f"max_norm must be positive, not {max_norm}")
    params = [p for p in params if p.grad is not None]
    norm = math.sqrt(sum(float(np.sum(np.square(p.grad, dtype=np.float64))) for p in params))
    if max_norm < norm < math.inf:
        for p in params:
            p.grad = np.asarray(p.grad * p.dtype.type(max_norm / norm))                                # (5)
    return norm


def warmup_cosine(lr: float, warmup: int, total: int) -> Callable[[int], float]:
    """The schedule (6): up to `lr` over `warmup` steps, down to 0 at step `total`."""
    if not 0 <= warmup < total:
        raise ValueError(f"needs 0 <= warmup < total, not {warmup} and {total}")

    def rate(t):
        if t < warmup:
            return lr * t / warmup                                                         # (6)
        return lr * (1 + math.cos(math.pi * min(1, (t - warmup) / (total - warmup)))) / 2  # (6)
    return rate
