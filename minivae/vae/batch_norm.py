"""Batch normalisation: each feature of a layer to the mean and the variance that training then chooses for it.

    (1)  training:    y = g (x − m) / √(v + ε) + s,  m and v of the batch: mean, variance          [batchnorm.batch]
    (2)  evaluation:  the same of running means,  m ← (1 − α) m + α m_batch,  v likewise           [batchnorm.running]

x (B, d), all else (d,). In (2) the variance of a batch is the unbiased one, B/(B − 1) times that of (1), and only
batches whose gradients are recorded count, not those within no_grad(). An example's y depends on what else is in its
batch, which is noise in training; `eval()` ends that. Ioffe and Szegedy, arXiv:1502.03167, section 3.
"""
import numpy as np

from autograd import ops
from autograd.nn import Linear, Module, Parameter, Sequential, check_activation
from autograd.norm import group_norm
from autograd.modes import mode
from autograd.tensor import plain

from ..checks import check_count


class BatchNorm(Module):
    """Features (B, `features`) normalised over the batch, or, after `eval()`, by what batches were like on average.

    activation  what comes after it, None or the name of an op
    rate        α of (2), the weight of the newest batch in the running mean and variance
    eps         ε, so that a constant feature is not divided by zero
    """

    def __init__(self, features: int, activation: str | None = None, rate: float = 0.1, eps: float = 1e-5):
        check_count(features, "features")
        check_activation(activation)
        if not 0 < rate <= 1 or not eps > 0:
            raise ValueError(f"BatchNorm needs 0 < rate <= 1 and eps > 0, not {rate} and {eps}")
        self.activation, self.rate, self.eps = activation, rate, eps
        self.gain, self.shift = Parameter(np.ones(features)), Parameter(np.zeros(features))
        self.mean, self.variance = np.zeros(features, np.float32), np.ones(features, np.float32)

    def forward(self, x):
        y = self.normalised(x)
        return y if self.activation is None else getattr(ops, self.activation)(y)

    def normalised(self, x):
        if x.ndim != 2 or x.shape[1] != len(self.gain):
            raise ValueError(f"BatchNorm of {len(self.gain)} features was given {x.shape}")
        if not self.training:
            return self.gain * ((x - self.mean) * (self.variance + self.eps) ** -0.5) + self.shift         # (2)
        if len(x) < 2:
            raise ValueError("batch normalisation in training needs two examples or more: call eval() for one")
        if mode.recording:
            for running, batch in (self.mean, plain(x).mean(axis=0)), (self.variance, plain(x).var(axis=0, ddof=1)):
                running += x.dtype.type(self.rate) * (batch - running)                     # (2)
        one = x.reshape(1, *x.shape)                               # each feature a group, the batch its positions
        return group_norm(one, self.gain, self.shift, len(self.gain), self.eps).reshape(x.shape)     # (1)

    def describe(self):
        return f"BatchNorm({len(self.gain)})"


class NormedMLP(Sequential):
    """An MLP whose hidden layers are normalised before their activation: W x, with no b, as s does what b would."""

    def __init__(self, *sizes: int, activation: str = "relu", rng: np.random.Generator):
        hidden = [part for i, o in zip(sizes, sizes[1:-1])
                  for part in (Linear(i, o, bias=False, rng=rng), BatchNorm(o, activation))]
        super().__init__(*hidden, Linear(*sizes[-2:], rng=rng))
