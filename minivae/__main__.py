"""Train a model on MNIST or on your own data, judge it, draw from it."""
import argparse
import math
import os
import shlex
import sys
import zlib
from pathlib import Path

import numpy as np

from autograd import optim

from . import checkpoint
from .data import Batches, binarise, load, mnist
from .data.arrays import Rows
from .data.batches import as_floats, check_data
from .files import atomic, locked
from .train import evaluate, fit
from .vae import VAE

MODELS = {"vae": VAE}
EXAMPLES = """examples:
  python -m minivae train vae --data mnist --epochs 10 --out runs/vae
  python -m minivae train vae --data mnist --epochs 20 --out runs/vae --resume    ten epochs more
  python -m minivae train vae --data faces.npy --out runs/faces --likelihood gaussian --variance learned
  python -m minivae evaluate runs/vae --samples 500
  python -m minivae sample runs/vae --n 64 --out samples.png

Data are .npy, .npz or .csv files of examples (N, ...): bytes, which are divided by 255, or floats, in [0, 1] for a
Bernoulli likelihood. A run lives in its folder, as checkpoint.npz and history.csv: stop it with Ctrl-C, or pull the
plug, and go on with --resume as if nothing had happened."""
DEFAULTS = dict(data="mnist", epochs=10, seed=0, batch_size=None, lr=1e-3, binarise=None, latent_dim=20, hidden=[400],
                likelihood="bernoulli", variance=1.0, kl="analytic", kl_warmup=0, free_bits=0.0, activation="relu")
ROWS = 1000                                  # examples that `evaluate` looks at in one go
OPTIONS = ("latent_dim", "hidden", "likelihood", "variance", "kl", "kl_warmup", "free_bits", "activation")


def parser() -> argparse.ArgumentParser:
    wide = dict(formatter_class=argparse.RawDescriptionHelpFormatter)
    root = argparse.ArgumentParser(prog="python -m minivae", description=__doc__, epilog=EXAMPLES, **wide)
    commands = root.add_subparsers(dest="command", required=True, metavar="train | evaluate | sample")
    given = dict(argument_default=argparse.SUPPRESS)               # so that --resume can tell what was given

    train = commands.add_parser("train", help="train a model, or go on training it", epilog=EXAMPLES, **wide, **given)
    train.add_argument("model", choices=MODELS, help="which model: %(choices)s")
    train.add_argument("--data", help="mnist (60,000 training digits), or a .npy, .npz or .csv file (default: mnist)")
    train.add_argument("--epochs", type=_positive, help="passes over the data, in all (default: 10)")
    train.add_argument("--out", type=Path, required=True, help="the folder of this run")
    train.add_argument("--seed", type=_natural, help="seed of the one random generator (default: 0)")
    train.add_argument("--resume", action="store_true", help="go on with the run in --out, with its settings")
    train.add_argument("--batch-size", type=_positive, help="examples a step (default: 128, or all if there are fewer)")
    train.add_argument("--lr", type=_weight, help="Adam's learning rate (default: 0.001)")
    train.add_argument("--binarise", action=argparse.BooleanOptionalAction,
                       help="draw each pixel as 0 or 1, anew in each epoch (default: for mnist, yes)")
    model = train.add_argument_group("model options")
    model.add_argument("--latent-dim", type=_positive, help="number of latents (default: 20)")
    model.add_argument("--hidden", type=_positive, nargs="*", help="widths of the hidden layers (default: 400)")
    model.add_argument("--likelihood", choices=("bernoulli", "gaussian"), help="of the data (default: bernoulli)")
    model.add_argument("--variance", type=_variance, help="of a Gaussian likelihood: a number, or learned (default: 1)")
    model.add_argument("--kl", choices=("analytic", "monte-carlo"), help="how the KL is computed (default: analytic)")
    model.add_argument("--kl-warmup", type=_natural, help="steps over which the KL comes to count in full (default: 0)")
    model.add_argument("--free-bits", type=_weight, help="nats a latent may use at no charge (default: 0)")
    model.add_argument("--activation", choices=("relu", "tanh", "sigmoid", "silu", "gelu"), help="(default: relu)")

    judge = commands.add_parser("evaluate", help="ELBO and importance-sampled log likelihood", **wide)
    judge.add_argument("run", type=Path, help="the folder of a run")
    judge.add_argument("--samples", type=_positive, default=500, help="importance samples each (default: %(default)s)")
    judge.add_argument("--data", help="mnist (its test digits, binarised once) or a file (default: as in training)")
    judge.add_argument("--seed", type=_natural, default=0, help="(default: %(default)s)")

    draw = commands.add_parser("sample", help="draw from the model", **wide)
    draw.add_argument("run", type=Path, help="the folder of a run")
    draw.add_argument("--n", type=_positive, default=64, help="how many (default: %(default)s)")
    draw.add_argument("--out", type=Path, required=True, help="a .png picture, or a .npy array (n, D)")
    draw.add_argument("--seed", type=_natural, default=0, help="(default: %(default)s)")
    return root


def train(args):
    with locked(args.out):
        _train(args, args.out / "checkpoint.npz", getattr(args, "resume", False))


def _train(args, path, resume):
    given = {name: value for name, value in vars(args).items() if name in DEFAULTS}
    if path.exists() and not resume:
        raise ValueError(f"{args.out} holds a run already: go on with it by --resume, or name another folder by --out")
    if resume and not path.exists():
        raise ValueError(f"{args.out} holds no run to go on with: there is no {path}")
    old = _read(path)[1] if resume else {"model": args.model, "settings": {}}
    settings = DEFAULTS | old["settings"] | given
    for name, new in (given | {"model": args.model}).items():
        was = old["settings"].get(name, new) if name != "model" else old["model"]
        if new != was and name not in ("epochs", "data"):
            raise ValueError(f"{args.out} was trained with {name} = {was}, not {new}: to resume, leave that as it was")
    if settings["data"] != "mnist":
        settings["data"] = str(Path(settings["data"]).resolve())
    data = mnist("train").images if settings["data"] == "mnist" else load(settings["data"])
    settings["batch_size"] = settings["batch_size"] or min(128, len(data))
    if settings["binarise"] is None:
        settings["binarise"] = settings["data"] == "mnist" and settings["likelihood"] == "bernoulli"
    config = {"model": args.model, "settings": settings, "shape": list(data.shape), "fingerprint": _fingerprint(data)}
    if resume and config["fingerprint"] != old["fingerprint"]:
        raise ValueError(f"{settings['data']} does not hold the data that {args.out} was trained on")
    rng = np.random.default_rng(settings["seed"])
    model = _model(config, rng)
    batches = Batches(data, settings["batch_size"], binarise=settings["binarise"], dtype=np.float32,
                      bounds=(0, 1) if settings["likelihood"] == "bernoulli" else None)
    if not resume and (args.out / "history.csv").exists():
        raise ValueError(f"{args.out} holds a history.csv that is not of this run: name another folder by --out")
    print(model, flush=True)
    with np.errstate(all="ignore"):                                # fit itself watches for what is not finite
        rows = fit(model, batches, epochs=settings["epochs"], rng=rng, history=args.out / "history.csv", config=config,
                   optimizer=optim.Adam(model.parameters(), settings["lr"]), checkpoint=path, resume=resume)
    print(f"{path} holds the model after {len(rows)} epochs: python -m minivae evaluate {shlex.quote(str(args.out))}")


def judge(args):
    model, config = _load(args.run)
    source, rng = args.data or config["settings"]["data"], np.random.default_rng(args.seed)
    data = mnist("test").images if source == "mnist" else load(source)
    check_data(data, (0, 1) if config["settings"]["likelihood"] == "bernoulli" else None)
    if source == "mnist" and config["settings"]["binarise"]:
        data = binarise(data, np.random.default_rng(1))
    terms, nll = [], []
    for i in range(0, len(data), ROWS):
        x = as_floats(data[i:i + ROWS], np.float32)
        x = x.reshape(len(x), -1)
        terms += [list(evaluate(model, x, rng).values())] * len(x)
        nll.append(-model.log_likelihood(x, args.samples, rng))
    (elbo, recon, kl), nll = np.mean(terms, axis=0), np.concatenate(nll)
    print(f"{len(nll):,} examples of {source}, in nats each:")
    print(f"-ELBO      {-elbo:9.3f}  = KL {kl:.3f} - recon {recon:.3f}")
    error = nll.std() / math.sqrt(len(nll))
    print(f"-ln p(x) <={nll.mean():9.3f}  +- {error:.3f}, with {args.samples} importance samples")


def draw(args):
    if args.out.suffix.lower() not in (".png", ".npy"):
        raise ValueError(f"--out names a .png picture or a .npy array, not {args.out}")
    model, config = _load(args.run)
    x = model.sample(args.n, np.random.default_rng(args.seed))
    if args.out.suffix.lower() == ".npy":
        with atomic(args.out) as file:
            np.save(file, x, allow_pickle=False)
    else:
        from . import plots                                        # loads matplotlib; the other commands do without
        limits = (0, 1) if config["settings"]["likelihood"] == "bernoulli" else None
        columns, ink = math.isqrt(args.n - 1) + 1, config["settings"]["data"] == "mnist"
        figure = plots.image_grid(x, columns, "samples", _picture(config["shape"]), ink=ink, limits=limits)
        plots.save(figure, args.out)
    print("wrote", args.out)


def _read(path):
    """A checkpoint of this program, and its configuration."""
    found = checkpoint.load(path)
    config = found.header["config"]
    if not isinstance(config, dict) or set(config) != {"model", "settings", "shape", "fingerprint"} \
            or config["model"] not in MODELS or not set(config["settings"]) <= set(DEFAULTS):
        raise ValueError(f"{path}: was not written by `python -m minivae train` of this version")
    config["settings"] = DEFAULTS | config["settings"]
    return found, config


def _load(folder):
    """The trained model of a run, and its configuration."""
    found, config = _read(folder / "checkpoint.npz")
    model = _model(config, np.random.default_rng(0))
    model.load_state(found.part("model"))
    return model, config


def _model(config, rng):
    options = {name: config["settings"][name] for name in OPTIONS}
    return MODELS[config["model"]](math.prod(config["shape"][1:]), **options, rng=rng)


def _fingerprint(data):
    """Shape, dtype and CRC: of all the data, or of some rows of a file that is too large to read."""
    rows = np.ascontiguousarray(data[::max(1, len(data) // 64)] if isinstance(data, Rows) else data)
    return f"{data.shape} {data.dtype} {zlib.crc32(rows):08x}"


def _picture(shape):
    """How to show one example: as the image that it is, as a square, or as a line."""
    if len(shape) == 3:
        return tuple(shape[1:])
    width, side = math.prod(shape[1:]), math.isqrt(math.prod(shape[1:]))
    return (side, side) if side * side == width else (1, width)


def _number(kind, low, what):
    def parse(text):
        try:
            value = kind(text)
        except ValueError:
            value = math.nan
        if not low <= value < math.inf:
            raise argparse.ArgumentTypeError(f"{text!r} is not {what}")
        return value
    return parse


_positive, _natural = _number(int, 1, "a whole number from 1 up"), _number(int, 0, "a whole number from 0 up")
_weight = _number(float, 0, "a number from 0 up")


def _variance(text):
    return text if text == "learned" else _number(float, 1e-300, "a positive number or 'learned'")(text)


def main(argv: list[str] | None = None) -> int:
    """Run a command; whatever goes wrong is one line on stderr and a nonzero exit."""
    args = parser().parse_args(argv)
    try:
        {"train": train, "evaluate": judge, "sample": draw}[args.command](args)
    except KeyboardInterrupt as stop:
        print(str(stop).replace("with resume", "with --resume") or "stopped", file=sys.stderr)
        return 130
    except (ValueError, FloatingPointError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except MemoryError:
        print("error: there is not enough memory for that", file=sys.stderr)
        return 1
    except OSError as error:
        folder = getattr(args, "out", None) or args.run
        kept = args.command == "train" and os.path.exists(folder / "checkpoint.npz")
        what = error.filename2 or error.filename or folder
        print(f"error: {what}: {error.strerror or error}{'; the checkpoint before is intact' if kept else ''}",
              file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
