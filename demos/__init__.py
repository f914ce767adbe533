"""One demo a post: `python -m demos` lists them."""
import argparse
import sys
from pathlib import Path

FOLDER = Path(__file__).parent


def options(name: str, run: bool = False) -> argparse.Namespace:
    """The command line that all demos share: --quick, --out, --seed. Run cell by cell in an editor, the defaults.

    A demo that looks into a `run` of `python -m minivae train` takes its folder, too; without one, run is None.
    """
    parser = argparse.ArgumentParser(prog=f"python -m demos {name}")
    if run:
        parser.add_argument("run", type=Path, nargs="?", metavar="DIR", help="the folder of a run (default: train one)")
    parser.add_argument("--quick", action="store_true", help="a short run, to see that everything works")
    parser.add_argument("--out", type=Path, default=Path("out", name), help="folder to write to (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the one random generator (default: %(default)s)")
    args = parser.parse_args(sys.argv[1:] if Path(sys.argv[0]).stem == name else [])
    if args.seed < 0:
        parser.error(f"--seed must not be negative, got {args.seed}")
    try:
        args.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        parser.error(f"--out {args.out}: {error.strerror}")
    return args
