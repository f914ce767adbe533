"""A training run on disk: all that it takes to go on as if it had never stopped.

    (1)  stopped and resumed = never stopped, bit for bit                                    [engine.resume]

One .npz without pickle: the arrays of the model, its optimizer and its weights' average, each under a prefix, and a
JSON header: format version, configuration, random state, and where in which epoch the run is. The random state at the
start of the epoch stands for the order of its examples. Files are replaced atomically, so there is always a whole one.
"""
import json
from pathlib import Path
from typing import NamedTuple

import numpy as np

from autograd.nn import Module, check_state
from autograd.optim import EMA, Optimizer

from .files import read_npz, reading, write_npz

KIND, FORMAT = "minivae checkpoint", 1


class Checkpoint(NamedTuple):
    """What a file holds: `header`, of JSON's types, and `arrays`, by prefixed name."""
    header: dict
    arrays: dict[str, np.ndarray]

    def part(self, prefix: str) -> dict[str, np.ndarray]:
        return {name.removeprefix(prefix + "/"): a for name, a in self.arrays.items() if name.startswith(prefix + "/")}


def save(path: str | Path, model: Module, optimizer: Optimizer, rng: np.random.Generator, *, position: dict,
         config: dict | None = None, ema: EMA | None = None):
    """Write a checkpoint. Raises FloatingPointError, and writes nothing, if a parameter is not finite."""
    parts = {"model": model.state(), "optimizer": optimizer.state(), "ema": ema.state() if ema else {}}
    arrays = {f"{prefix}/{name}": a for prefix, part in parts.items() for name, a in part.items()}
    if bad := _not_finite(arrays):
        raise FloatingPointError(f"not saved: {bad[0]} is not finite: are the data scaled?")
    header = {"kind": KIND, "format": FORMAT, "config": config or {}, "position": position,
              "rng": rng.bit_generator.state, "optimizer": type(optimizer).__name__}
    write_npz(path, {"header": np.frombuffer(json.dumps(header).encode(), np.uint8), **arrays})


def _not_finite(arrays):
    return [name for name, a in arrays.items() if not np.isfinite(a).all()]


def load(path: str | Path) -> Checkpoint:
    """Read a checkpoint. Raises ValueError, naming the file, unless it is a whole one of a version that is known."""
    arrays = read_npz(path)
    with reading(path):
        try:
            header = json.loads(arrays.pop("header").tobytes())
            kind, version = header["kind"], header["format"]
        except (KeyError, TypeError, ValueError):
            kind = None
        if kind != KIND:
            raise ValueError("is not a checkpoint of minivae")
        if version != FORMAT:
            raise ValueError(f"has checkpoint format {version}, and this version of minivae reads {FORMAT}")
        missing = {"config", "position", "rng", "optimizer"} - set(header)
        if missing:
            raise ValueError(f"is damaged: its header has no {', '.join(sorted(missing))}")
        if bad := _not_finite(arrays):
            raise ValueError(f"is damaged: {bad[0]} is not finite")
    return Checkpoint(header, arrays)


def restore(checkpoint: Checkpoint, model: Module, optimizer: Optimizer, rng: np.random.Generator,
            ema: EMA | None = None):
    """Put everything back. Raises ValueError, before anything is changed, if the model or the optimizer is another."""
    header = checkpoint.header
    if header["optimizer"] != type(optimizer).__name__:
        raise ValueError(f"the checkpoint is of {header['optimizer']}, not {type(optimizer).__name__}")
    parts = {"model": model, "optimizer": optimizer} | ({"ema": ema} if ema else {})
    for name, part in parts.items():
        check_state(part.state(), checkpoint.part(name), f"this {type(part).__name__}")
    if checkpoint.part("ema") and not ema:
        raise ValueError("the checkpoint has an average of weights: give an EMA to go on with it")
    state = rng.bit_generator.state
    try:
        rng.bit_generator.state = header["rng"]
    except (KeyError, TypeError, ValueError) as error:
        rng.bit_generator.state = state
        raise ValueError(f"the checkpoint's random state is not that of a {state['bit_generator']}: {error}") from None
    try:
        for name, part in parts.items():
            part.load_state(checkpoint.part(name))                                         # (1)
    except ValueError:                       # a model, which is the first, can refuse what has its shapes
        rng.bit_generator.state = state
        raise
