"""A run of `python -m minivae train`: a folder with a checkpoint, and in it the model's name, its settings, its data.

The checkpoint's configuration says what the command line was told, and nothing else: what it was not told is as the
model's class has it. `load` makes the trained model of it, for whoever wants to judge it, draw from it or look into it.
"""
import inspect
import math
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np

from . import checkpoint
from .data import load as load_array
from .data import load_labels, mnist
from .data.arrays import Rows
from .files import reading
from .vae import AAE, CVAE, DIPVAE, IWAE, VAE, VAEGAN, BetaTCVAE, BetaVAE, FactorVAE, FlowVAE, VampVAE

MODELS = {"vae": VAE, "cvae": CVAE, "beta-vae": BetaVAE, "beta-tcvae": BetaTCVAE, "factor-vae": FactorVAE,
          "dip-vae": DIPVAE, "iwae": IWAE, "vamp-vae": VampVAE, "flow-vae": FlowVAE, "aae": AAE, "vae-gan": VAEGAN}
DEFAULTS = dict(data="mnist", labels=None, epochs=10, seed=0, batch_size=None, lr=1e-3, binarise=None)


class Run(NamedTuple):
    """The trained model of a run, and its configuration."""
    model: VAE
    config: dict

    def data(self, split: str, source: str | None = None, labels: str | None = None) -> tuple:
        """(x,) or, for a CVAE, (x, y): of the run's own data, or of `source`; of mnist the `split`, else all."""
        settings = self.config["settings"]
        return read_data(self.config["model"], source or settings["data"],
                         labels or (None if source else settings["labels"]), split)

    @property
    def ink(self) -> bool:
        """Whether large values are to be shown dark, as ink on paper."""
        return self.config["settings"]["data"] == "mnist"

    @property
    def picture(self) -> tuple[int, int]:
        """How to show one example: as the image that it is, as a square, or as a line."""
        shape = self.config["shape"][1:]
        width, side = math.prod(shape), math.isqrt(math.prod(shape))
        return tuple(shape) if len(shape) == 2 else (side, side) if side * side == width else (1, width)


def options(name: str) -> dict:
    """The options of a model and their defaults: those of its class, and of the classes that it extends."""
    found = {}
    for cls in reversed(MODELS[name].__mro__):
        if "__init__" in vars(cls):
            found |= {key: list(p.default) if isinstance(p.default, tuple) else p.default
                      for key, p in inspect.signature(cls).parameters.items() if p.default is not p.empty}
    return found


def build(config: dict, rng: np.random.Generator) -> VAE:
    """The model of a configuration, as it is before training."""
    name, (size, *shape) = config["model"], config["shape"]
    given = {key: value for key, value in config["settings"].items() if key in options(name)}
    if name == "beta-tcvae":
        given["data_size"] = size
    if name == "cvae":
        given["condition_dim"] = config["classes"]
    return MODELS[name](math.prod(shape), **given, rng=rng)


def read(path: Path) -> tuple[checkpoint.Checkpoint, dict]:
    """A checkpoint of a run, and its configuration. Raises ValueError if it is of another program."""
    found = checkpoint.load(path)
    config = found.header["config"]
    try:
        ours = {"model", "settings", "shape", "fingerprint"} <= set(config) \
            and set(config["settings"]) <= set(DEFAULTS | options(config["model"]))
        config["settings"] = DEFAULTS | config["settings"]
    except (KeyError, TypeError):
        ours = False
    if not ours:
        raise ValueError(f"{path}: was not written by `python -m minivae train` of this version")
    return found, config


def load(folder: str | Path) -> Run:
    """The run in a folder. Raises ValueError, naming the file, if there is none, or it is damaged."""
    path = Path(folder) / "checkpoint.npz"
    found, config = read(path)
    with reading(path):
        model = build(config, np.random.default_rng(0))
        model.load_state(found.part("model"))
    return Run(model, config)


def read_data(model: str, source: str, labels: str | None, split: str) -> tuple:
    """(x,), or (x, y) for a model of x given y: `source` is mnist, of which this is the `split`, or a file."""
    if model != "cvae":
        if labels is not None:
            raise ValueError(f"a {model} takes no --labels")
        return (mnist(split).images if source == "mnist" else load_array(source),)
    if source == "mnist" and labels is None:
        return tuple(mnist(split))
    if labels is None:
        raise ValueError(f"a cvae is of x given y: name a file with the label of each example of {source} by --labels")
    x, y = mnist(split).images if source == "mnist" else load_array(source), load_labels(labels)
    if len(x) != len(y):
        raise ValueError(f"{labels}: holds {len(y)} labels, for the {len(x)} examples of {source}")
    return x, y


def fingerprint(*arrays) -> str:
    """Shape, dtype and CRC of each: of all of it, or of some rows of a file that is too large to read."""
    parts = []
    for data in arrays:
        rows = np.ascontiguousarray(data[::max(1, len(data) // 64)] if isinstance(data, Rows) else data)
        parts.append(f"{data.shape} {data.dtype} {zlib.crc32(rows):08x}")
    return " ".join(parts)
