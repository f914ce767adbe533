"""Train a model on MNIST or on your own data, judge it, draw from it, take it elsewhere."""
import argparse
import math
import os
import shlex
import sys
from pathlib import Path

import numpy as np

from autograd import no_grad, optim
from autograd.floors import keep_memory

from . import runs
from .data import Batches, binarise
from .data.batches import as_floats, check_data
from .export import export
from .files import atomic, locked
from .train import fit

EXAMPLES = """examples:
  python -m minivae train vae --data mnist --epochs 10 --out runs/vae
  python -m minivae train vae --data mnist --epochs 20 --out runs/vae --resume    ten epochs more
  python -m minivae train vae --data faces.npy --out runs/faces --likelihood gaussian --variance learned
  python -m minivae train cvae --data faces.npy --labels names.npy --out runs/people
  python -m minivae train beta-vae --beta 4 --latent-dim 10 --out runs/beta
  python -m minivae evaluate runs/vae --samples 500
  python -m minivae sample runs/vae --n 64 --out samples.png
  python -m minivae export runs/vae --out vae.npz                                 for PyTorch

Data are .npy, .npz or .csv files of examples (N, ...): bytes, which are divided by 255, or floats, in [0, 1] for a
Bernoulli likelihood. A first line of a .csv that is of names, or is 0,1,2,..., is taken for its head and skipped.

A run lives in its folder, as checkpoint.npz and history.csv: stop it with Ctrl-C, or pull the plug, and go on with
--resume as if nothing had happened."""
FILES = "checkpoint.npz", "history.csv"      # of a run
ROWS = 1000                                  # examples that `evaluate` looks at in one go


def parser() -> argparse.ArgumentParser:
    wide = dict(formatter_class=argparse.RawDescriptionHelpFormatter)
    root = argparse.ArgumentParser(prog="python -m minivae", description=__doc__, epilog=EXAMPLES, **wide)
    commands = root.add_subparsers(dest="command", required=True, metavar="train | evaluate | sample | export")
    given = dict(argument_default=argparse.SUPPRESS)               # so that --resume can tell what was given

    train = commands.add_parser("train", help="train a model, or go on training it", epilog=EXAMPLES, **wide, **given)
    train.add_argument("model", choices=runs.MODELS, metavar="MODEL", help="which: %(choices)s")
    train.add_argument("--data", help="mnist (60,000 training digits), or a .npy, .npz or .csv file (default: mnist)")
    train.add_argument("--labels", help="for a cvae of your own data: a file of whole numbers, one for each example")
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
    own = train.add_argument_group("options of one model or another")
    own.add_argument("--beta", type=_weight, help="price of the KL, beta-vae (4), or total correlation, beta-tcvae (6)")
    own.add_argument("--gamma", type=_weight, help="what the critic's word, factor-vae, aae (10), or likeness, vae-gan "
                     "(0.1), counts")
    own.add_argument("--lambda-od", type=_weight, help="price of a covariance of two latents, dip-vae (10)")
    own.add_argument("--k", type=_positive, help="samples in the bound, iwae (50)")
    own.add_argument("--pseudo-inputs", type=_positive, help="components of the prior, vamp-vae (500)")
    own.add_argument("--prior", choices=("learned", "standard"), help="p(z | y) or N(0, I), cvae (learned)")

    judge = commands.add_parser("evaluate", help="ELBO and importance-sampled log likelihood", **wide)
    judge.add_argument("run", type=Path, help="the folder of a run")
    judge.add_argument("--samples", type=_positive, default=500, help="importance samples each (default: %(default)s)")
    judge.add_argument("--data", help="mnist (its test digits, binarised once) or a file (default: as in training)")
    judge.add_argument("--labels", help="for a cvae: the labels of --data")
    judge.add_argument("--seed", type=_natural, default=0, help="(default: %(default)s)")

    draw = commands.add_parser("sample", help="draw from the model", **wide)
    draw.add_argument("run", type=Path, help="the folder of a run")
    draw.add_argument("--n", type=_positive, default=64, help="how many (default: %(default)s)")
    draw.add_argument("--out", type=Path, required=True, help="a .png picture, or a .npy array (n, D)")
    draw.add_argument("--label", type=_natural, help="from a cvae: draw this one only (default: all, in turn)")
    draw.add_argument("--seed", type=_natural, default=0, help="(default: %(default)s)")

    take = commands.add_parser("export", help="write the weights as PyTorch lays them out", **wide)
    take.add_argument("run", type=Path, help="the folder of a run")
    take.add_argument("--out", type=Path, required=True, help="a .npz of arrays by name: see minivae/export.py")
    return root


def train(args):
    with locked(args.out, *FILES):
        _train(args, args.out / "checkpoint.npz", getattr(args, "resume", False))


def _train(args, path, resume):
    options = runs.options(args.model)
    given = {name: value for name, value in vars(args).items() if name not in ("command", "model", "out", "resume")}
    wrong = [name for name in given if name not in runs.DEFAULTS | options]
    if wrong:
        raise ValueError(f"a {args.model} takes no --{wrong[0].replace('_', '-')}")
    if path.exists() and not resume:
        raise ValueError(f"{args.out} holds a run already: go on with it by --resume, or name another folder by --out")
    if resume and not path.exists():
        raise ValueError(f"{args.out} holds no run to go on with: there is no {path}")
    old = runs.read(path)[1] if resume else {"model": args.model, "settings": {}}
    before = {"model": old["model"]} | runs.options(old["model"]) | old["settings"]
    for name, new in (given | {"model": args.model}).items() if resume else ():
        if new != (was := before.get(name)) and name not in ("epochs", "data", "labels"):
            raise ValueError(f"{args.out} was trained with {name} = {was}, not {new}: to resume, leave that as it was")
    settings = runs.DEFAULTS | old["settings"] | given
    for name in ("data", "labels"):
        if settings[name] not in ("mnist", None):
            settings[name] = str(Path(settings[name]).resolve())
    data, *labels = runs.read_data(args.model, settings["data"], settings["labels"], "train")
    settings["batch_size"] = settings["batch_size"] or min(128, len(data))
    if settings["binarise"] is None:
        settings["binarise"] = settings["data"] == "mnist" and settings.get("likelihood") != "gaussian"
    config = {"model": args.model, "settings": settings, "shape": list(data.shape),
              "classes": int(labels[0].max()) + 1 if labels else None, "fingerprint": runs.fingerprint(data, *labels)}
    if resume and config["fingerprint"] != old["fingerprint"]:
        raise ValueError(f"{settings['data']} does not hold the data that {args.out} was trained on")
    rng = np.random.default_rng(settings["seed"])
    model = runs.build(config, rng)
    batches = Batches(data, settings["batch_size"], binarise=settings["binarise"], dtype=np.float32,
                      labels=labels[0] if labels else None, bounds=(0, 1) if model.likelihood == "bernoulli" else None)
    if not resume and (args.out / "history.csv").exists():
        raise ValueError(f"{args.out} holds a history.csv that is not of this run: name another folder by --out")
    print(model, flush=True)
    make = getattr(model, "optimizer", lambda lr: optim.Adam(model.parameters(), lr))      # a game has one a player
    with np.errstate(all="ignore"):                                # fit itself watches for what is not finite
        rows = fit(model, batches, epochs=settings["epochs"], rng=rng, history=args.out / "history.csv", config=config,
                   optimizer=make(settings["lr"]), checkpoint=path, resume=resume)
    epochs = "1 epoch" if len(rows) == 1 else f"{len(rows)} epochs"
    print(f"{path} holds the model after {epochs}: python -m minivae evaluate {shlex.quote(str(args.out))}")


@no_grad()
def judge(args):
    run = runs.load(args.run)
    model, settings, rng = run.model, run.config["settings"], np.random.default_rng(args.seed)
    source, terms, nll = args.data or settings["data"], [], []
    data, *labels = run.data("test", args.data, args.labels)
    check_data(data, (0, 1) if model.likelihood == "bernoulli" else None)
    if source == "mnist" and settings["binarise"]:
        data = binarise(data, np.random.default_rng(1))
    for i in range(0, len(data), ROWS):
        x = as_floats(data[i:i + ROWS], np.float32)
        batch = x.reshape(len(x), -1), *(y[i:i + ROWS] for y in labels)
        terms.append([np.asarray(term) for term in model.elbo(*batch, rng)])
        nll.append(-model.log_likelihood(*batch, args.samples, rng))
    (recon, kl), nll = np.concatenate(terms, axis=1).mean(axis=1, dtype=float), np.concatenate(nll)
    seen = ", which it was trained on" if source != "mnist" and source == settings["data"] else ""
    print(f"{len(nll):,} examples of {source}{seen}, in nats each:")
    print(f"{'-ELBO':13}{kl - recon:9.3f}  = KL {kl:.3f} - recon {recon:.3f}")
    error, bound = nll.std() / math.sqrt(len(nll)), "-ln p(x|y) <=" if labels else "-ln p(x) <="
    print(f"{bound:13}{nll.mean():9.3f}  +- {error:.3f}, with {args.samples} importance samples")


def draw(args):
    if args.out.suffix.lower() not in (".png", ".npy"):
        raise ValueError(f"--out names a .png picture or a .npy array, not {args.out}")
    run = _load(args)
    classes, what, columns = run.config.get("classes"), args.n, math.isqrt(args.n - 1) + 1
    if classes:                                                    # one of each in turn, a column for each
        what, columns = np.arange(args.n) % classes, min(args.n, classes)
    if args.label is not None:
        if not classes or args.label >= classes:
            wanted = f"the labels of {args.run} go from 0 to {classes - 1}" if classes else f"{args.run} has no labels"
            raise ValueError(f"there is no label {args.label}: {wanted}")
        what, columns = np.full(args.n, args.label), math.isqrt(args.n - 1) + 1
    x = run.model.sample(what, np.random.default_rng(args.seed))
    if args.out.suffix.lower() == ".npy":
        with atomic(args.out) as file:
            np.save(file, x, allow_pickle=False)
    else:
        from . import plots                                        # loads matplotlib; the other commands do without
        limits = (0, 1) if run.model.likelihood == "bernoulli" else None
        plots.save(plots.image_grid(x, columns, "samples", run.picture, ink=run.ink, limits=limits), args.out)
    print("wrote", args.out)


def take(args):
    arrays = export(_load(args).model, args.out)
    for name, array in arrays.items():
        print(f"{name:32} {str(array.shape):20} {array.dtype}")
    print("wrote", args.out)


def _load(args):
    """The run, unless what is to be written in --out would take the place of a file that it or another run needs."""
    run = runs.load(args.run)
    for path in *(args.run / name for name in FILES), run.config["settings"]["data"], run.config["settings"]["labels"]:
        if path and args.out.exists() and os.path.exists(path) and args.out.samefile(path):
            raise ValueError(f"{args.out} is a file that {args.run} needs: write to another by --out")
    if args.out.name in FILES and (args.out.parent / FILES[0]).exists():
        raise ValueError(f"{args.out} is a file of another run: write to another by --out")
    return run


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
        {"train": train, "evaluate": judge, "sample": draw, "export": take}[args.command](args)
        sys.stdout.flush()
    except KeyboardInterrupt as stop:
        print(str(stop).replace("with resume", "with --resume") or "stopped", file=sys.stderr)
        return 130
    except (ValueError, FloatingPointError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except MemoryError:
        print("error: there is not enough memory for that", file=sys.stderr)
        return 1
    except BrokenPipeError:                                        # as of `| head -1`, which has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())     # else the flush at exit breaks, too
        return 141                                                 # 128 + SIGPIPE
    except OSError as error:
        folder = getattr(args, "out", None) or args.run
        kept = args.command == "train" and os.path.exists(folder / "checkpoint.npz")
        what = error.filename2 or error.filename or folder
        print(f"error: {what}: {error.strerror or error}{'; the checkpoint before is intact' if kept else ''}",
              file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    keep_memory()                                                  # the command line owns its process
    sys.exit(main())
