"""One demo a post: `python -m demos` lists them."""
import argparse
import sys
from pathlib import Path

FOLDER = Path(__file__).parent


def options(name: str, **more: dict) -> argparse.Namespace:
    """The command line that all demos share: --quick, --out, --seed. Run cell by cell in an editor, the defaults.

    `more` holds what one demo adds, by name: the keywords of argparse's `add_argument`. With `nargs` it is positional.
    """
    parser = argparse.ArgumentParser(prog=f"python -m demos {name}")
    parser.add_argument("--quick", action="store_true", help="a short run, to see that everything works")
    parser.add_argument("--out", type=Path, default=Path("out", name), help="folder to write to (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the one random generator (default: %(default)s)")
    for key, how in more.items():
        parser.add_argument(key if "nargs" in how else f"--{key}", **how)
    args = parser.parse_args(sys.argv[1:] if Path(sys.argv[0]).stem == name else [])
    if args.seed < 0:
        parser.error(f"--seed must not be negative, got {args.seed}")
    try:
        args.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        parser.error(f"--out {args.out}: {error.strerror}")
    return args
