"""A trained model's weights, named and laid out as PyTorch has them, in a plain .npz: where it is outgrown, it goes on.

    import numpy as np, torch
    arrays = np.load("vae.npz")
    net.load_state_dict({name: torch.from_numpy(arrays[name]) for name in arrays})

A name is the path of attributes, as in PyTorch, and a list of modules counts like an nn.ModuleList. What differs:

    here                                   in the file, and in PyTorch
    Linear w (in, out), b                  nn.Linear weight (out, in), bias
    Conv2d w (kh, kw, in, out), b          nn.Conv2d weight (out, in, kh, kw), bias
    GroupNorm gain, shift                  nn.GroupNorm weight, bias
    BatchNorm gain, shift, mean, variance  nn.BatchNorm1d weight, bias, running_mean, running_var
    Embedding w (n, dim)                   nn.Embedding weight
    masked layers: w under a mask          weight with zeros where the mask has them, in nn.Linear or nn.Conv2d
    Sequential, MLP: net.layers.1.w        nn.Sequential net.2.weight: each activation is a layer that counts
    SelfAttention qkv, out                 two nn.Linear; or nn.MultiheadAttention's in_proj_weight (_bias), out_proj
    any other parameter or buffer          under its name, as it is: logvar, codebook.e, pseudo, ...

Images are (B, H, W, C) inside this project and (B, C, H, W) there; a Linear over channels, such as a U-Net block's
`skip`, is nn.Conv2d(in, out, 1) there, with weight[:, :, None, None]. The eps of PyTorch's norms is ours, 1e-5.
"""
from pathlib import Path

import numpy as np

from autograd.nn import Conv2d, Embedding, GroupNorm, Linear, Module, Parameter, Sequential
from autograd.tensor import plain

from .files import write_npz
from .vae.batch_norm import BatchNorm

LAYOUTS = {Linear: {"w": ("weight", (1, 0)), "b": ("bias", (0,))},
           Conv2d: {"w": ("weight", (3, 2, 0, 1)), "b": ("bias", (0,))},
           GroupNorm: {"gain": ("weight", (0,)), "shift": ("bias", (0,))},
           BatchNorm: {"gain": ("weight", (0,)), "shift": ("bias", (0,)), "mean": ("running_mean", (0,)),
                       "variance": ("running_var", (0,))},
           Embedding: {"w": ("weight", (0, 1))}}


def state_dict(model: Module) -> dict[str, np.ndarray]:
    """The parameters and buffers of `model`, by PyTorch's names and in its shapes: copies, of the same dtypes."""
    if not isinstance(model, Module):
        raise ValueError(f"a Module can be exported, such as a VAE or a UNet, not {type(model).__name__}")
    return dict(_walk(model, ""))


def _walk(module, prefix):
    layout = next((LAYOUTS[cls] for cls in type(module).__mro__ if cls in LAYOUTS), {})
    for key, value in vars(module).items():
        if isinstance(value, (Parameter, np.ndarray)) and not (layout and key == "mask"):
            name, axes = layout.get(key, (key, range(value.ndim)))
            array = plain(value) * module.mask if key == "w" and hasattr(module, "mask") else plain(value)
            yield prefix + name, np.array(array.transpose(*axes), order="C")
        elif isinstance(value, Module):
            yield from _walk(value, f"{prefix}{key}.")
        elif isinstance(value, (list, tuple)):
            head, place = prefix if isinstance(module, Sequential) else f"{prefix}{key}.", 0
            for part in value:
                if isinstance(part, Module):
                    yield from _walk(part, f"{head}{place}.")
                place += 1 + (isinstance(module, Sequential) and _acts(part))


def _acts(layer):
    """Whether a layer here does what in an nn.Sequential is one more: its activation."""
    return bool(getattr(layer, "activation", None) or getattr(layer, "silu", False))


def export(model: Module, path: str | Path) -> dict[str, np.ndarray]:
    """Write `state_dict(model)` as an .npz, whole or not at all, and return it.

    Raises ValueError if that is not what the path ends in, FloatingPointError if a weight is not finite.
    """
    if Path(path).suffix != ".npz":
        raise ValueError(f"an export is an .npz file, not {path}")
    arrays = state_dict(model)
    bad = [name for name, a in arrays.items() if a.dtype.kind == "f" and not np.isfinite(a).all()]
    if bad:
        raise FloatingPointError(f"not exported: {bad[0]} is not finite")
    write_npz(path, arrays)
    return arrays
