"""Layers: a Module is whatever holds parameters.

    (1)  Linear:   y = φ(x W + b),  W and b ~ U(−1/√in, 1/√in)                               [nn.linear-init]
    (2)  Dropout:  y = m ⊙ x / (1 − p),  m ~ Bernoulli(1 − p), so E y = x                    [nn.dropout]

A Module's state is what its attributes hold, by their names: a Parameter is a parameter, an ndarray a buffer, a Module
or a list of Modules a part. Nothing is registered. Layers are float32; `astype(np.float64)` converts a whole model.
The initialisation (1) is the one of PyTorch's nn.Linear, for sizes that its users know to work.
"""
from typing import Iterator

import numpy as np

from . import fused, ops
from .fused import ACTIVATIONS
from .tensor import FLOATS, Leaf, Tensor


class Parameter(Tensor):
    """A Tensor that requires a gradient: what an optimizer changes."""
    __slots__ = ()

    def __init__(self, data, dtype=np.float32):
        super().__init__(data, requires_grad=True, dtype=dtype)


class Module:
    """Something with parameters, buffers and parts; call it to run `forward`."""
    training = True
    draws = False                                                  # whether `forward` takes an rng after x

    def __call__(self, *args, **kwargs):
        return self.forward(*args, **kwargs)

    def _items(self, prefix=""):
        """(name, owner, key, value) of every parameter and buffer, in the order of assignment."""
        for key, value in vars(self).items():
            if isinstance(value, (Parameter, np.ndarray)):
                yield prefix + key, self, key, value
            elif _hides_parameters(value):
                raise ValueError(f"{type(self).__name__}.{key} holds parameters where nothing would find them: "
                                 "make them Parameters or Modules, as attributes or, Modules, in a list")
            for name, part in _parts(key, value):
                yield from part._items(f"{prefix}{name}.")

    def modules(self) -> Iterator["Module"]:
        """This module and all its parts."""
        yield self
        for key, value in vars(self).items():
            for _, part in _parts(key, value):
                yield from part.modules()

    def named_parameters(self) -> dict[str, Parameter]:
        return {name: value for name, _, _, value in self._items() if isinstance(value, Parameter)}

    def parameters(self) -> list[Parameter]:
        return list({id(p): p for p in self.named_parameters().values()}.values())

    def state(self) -> dict[str, np.ndarray]:
        """Copies of all parameters and buffers, by name."""
        return {name: np.array(value) for name, _, _, value in self._items()}

    def load_state(self, state: dict[str, np.ndarray]):
        """Take over what `state()` gave. Raises ValueError, and changes nothing, if a name, shape or dtype differs."""
        check_state(self.state(), state, type(self).__name__)
        for name, owner, key, value in list(self._items()):
            if isinstance(value, Parameter):
                value.assign(state[name])
            else:
                setattr(owner, key, np.array(state[name], value.dtype))

    def astype(self, dtype):
        """Convert every parameter and every float buffer to float32 or float64, in place; returns self."""
        if np.dtype(dtype) not in FLOATS:
            raise ValueError(f"a model is float32 or float64, not {np.dtype(dtype)}")
        for _, owner, key, value in list(self._items()):
            if isinstance(value, Parameter):
                value.data, value.node.stale = value.data.astype(dtype), True
                value.node = Leaf(value.shape, value.dtype)
            elif value.dtype.kind == "f":
                setattr(owner, key, value.astype(dtype))
        return self

    def train(self, on=True):
        """Training mode: dropout is active. Returns self."""
        for module in self.modules():
            module.training = on
        return self

    def eval(self):
        """Evaluation mode: dropout does nothing. Returns self."""
        return self.train(False)

    def describe(self) -> str:
        """What the repr says of this module itself, parts aside."""
        return type(self).__name__

    def __repr__(self):
        total = sum(p.size for p in self.parameters())
        lines = [f"{self.describe()}  [{total:,} parameters]"]
        for key, value in vars(self).items():
            for name, part in _parts(key, value):
                first, *rest = repr(part).splitlines()
                lines += [f"  {name}: {first}", *("  " + line for line in rest)]
        return "\n".join(lines)


def check_state(mine: dict, given: dict, whose: str):
    """Raise ValueError unless `given` has the names, shapes and dtypes of `mine`."""
    if set(mine) != set(given):
        raise ValueError(f"this is not the state of {whose}: it lacks {sorted(set(mine) - set(given))} "
                         f"and has {sorted(set(given) - set(mine))}, which is not known")
    for name in mine:
        if np.shape(given[name]) != np.shape(mine[name]):
            raise ValueError(f"this is not the state of {whose}: {name} has shape {np.shape(given[name])}, "
                             f"not {np.shape(mine[name])}")
        if given[name].dtype != mine[name].dtype:
            raise ValueError(f"this is not the state of {whose}: {name} is {given[name].dtype}, not {mine[name].dtype}")


def _parts(key, value):
    if isinstance(value, Module):
        return [(key, value)]
    if isinstance(value, (list, tuple)) and any(isinstance(v, Module) for v in value):
        return [(f"{key}.{i}", v) for i, v in enumerate(value) if isinstance(v, Module)]
    return []


class Linear(Module):
    """y = φ(x W + b): x (..., n_in) to (..., n_out), `activation` None or the name of an op; no b if not `bias`."""

    def __init__(self, n_in: int, n_out: int, activation: str | None = None, *, bias: bool = True,
                 rng: np.random.Generator):
        check_rng(rng)
        if min(n_in, n_out) < 1:
            raise ValueError(f"Linear needs at least one input and one output, not {n_in} and {n_out}")
        check_activation(activation)
        bound = n_in ** -0.5
        self.activation = activation
        self.w = Parameter(rng.uniform(-bound, bound, (n_in, n_out)))                      # (1)
        self.b = Parameter(rng.uniform(-bound, bound, n_out)) if bias else None

    def forward(self, x):
        if np.ndim(x) < 1 or x.shape[-1] != self.w.shape[0]:
            raise ValueError(f"Linear({self.w.shape[0]}, {self.w.shape[1]}) was given {np.shape(x)}: "
                             f"the last axis must be {self.w.shape[0]}")
        if self.activation in ACTIVATIONS:
            return fused.linear(x, self.w, self.b, activation=self.activation)             # (1)
        return getattr(ops, self.activation)(fused.linear(x, self.w, self.b))

    def describe(self):
        return f"Linear({self.w.shape[0]} -> {self.w.shape[1]}{', ' + self.activation if self.activation else ''})"


class Dropout(Module):
    """In training, zeroes each element with probability p and scales the others by 1 / (1 − p)."""
    draws = True

    def __init__(self, p: float = 0.5):
        if not 0 <= p < 1:
            raise ValueError(f"dropout needs 0 <= p < 1, not {p}")
        self.p = p

    def forward(self, x, rng: np.random.Generator):
        if not self.training or self.p == 0:
            return x
        if rng is None:
            raise ValueError("dropout in training draws: give it a numpy.random.Generator, or call eval()")
        return x * ((rng.random(x.shape, np.float32) >= self.p).astype(x.dtype) / x.dtype.type(1 - self.p))    # (2)

    def describe(self):
        return f"Dropout({self.p})"


class Embedding(Module):
    """A table of n vectors of length dim, looked up by integers: (...) to (..., dim). N(0, 1) at the start."""

    def __init__(self, n: int, dim: int, *, rng: np.random.Generator):
        self.w = Parameter(rng.standard_normal((n, dim)))

    def forward(self, index):
        index = np.asarray(index)
        if index.dtype.kind not in "iu":
            raise ValueError(f"Embedding takes integers, not {index.dtype}")
        if index.size and not 0 <= index.min() <= index.max() < len(self.w):
            raise ValueError(f"Embedding of {len(self.w)} was asked for {index.min()} to {index.max()}")
        return self.w[index]

    def describe(self):
        return f"Embedding({self.w.shape[0]}, {self.w.shape[1]})"


class Sequential(Module):
    """Layers one after the other. `rng` is handed to those that draw, such as Dropout."""
    draws = True

    def __init__(self, *layers: Module):
        self.layers = list(layers)

    def forward(self, x, rng: np.random.Generator | None = None):
        for layer in self.layers:
            x = layer(x, rng) if layer.draws else layer(x)
        return x


class MLP(Sequential):
    """Linear layers of sizes[0] to sizes[-1], with `activation` after all but the last."""

    def __init__(self, *sizes: int, activation: str = "relu", rng: np.random.Generator):
        if len(sizes) < 2:
            raise ValueError(f"an MLP needs an input and an output size, not {sizes}")
        names = [activation] * (len(sizes) - 2) + [None]
        super().__init__(*[Linear(i, o, a, rng=rng) for i, o, a in zip(sizes, sizes[1:], names)])


def _hides_parameters(value):
    """Whether an attribute that is neither Parameter nor part holds something to train."""
    if isinstance(value, dict):
        value = list(value.values())
        return any(isinstance(v, Module) for v in value) or _hides_parameters(value)
    if isinstance(value, (list, tuple)):
        return any(_hides_parameters(v) or isinstance(v, Parameter) for v in value)
    return isinstance(value, Tensor) and value.requires_grad


def check_rng(rng):
    if not isinstance(rng, np.random.Generator):
        raise ValueError(f"rng must be a numpy.random.Generator, such as np.random.default_rng(0), not {rng!r}")


def check_activation(name):
    choices = [*ACTIVATIONS, "leaky_relu", "silu", "gelu", "softplus"]
    if name not in choices:
        raise ValueError(f"activation must be one of {choices}, not {name!r}")
