"""What holds parameters, and finds, saves and restores them.

A Module's state is what its attributes hold, by their names: a Parameter is a parameter, an ndarray a buffer, a Module
or a list of Modules a part. Nothing is registered. Layers are float32; `astype(np.float64)` converts a whole model.
"""
from typing import Iterator

import numpy as np

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


def _hides_parameters(value):
    """Whether an attribute that is neither Parameter nor part holds something to train."""
    if isinstance(value, dict):
        value = list(value.values())
        return any(isinstance(v, Module) for v in value) or _hides_parameters(value)
    if isinstance(value, (list, tuple)):
        return any(_hides_parameters(v) or isinstance(v, Parameter) for v in value)
    return isinstance(value, Tensor) and value.requires_grad
