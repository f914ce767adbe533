"""python -m demos NAME [--quick] [--out DIR] [--seed S]; without a name, what there is and how long it takes.

python -m demos all [--quick] [--out DIR] [--seed S] runs them all, one after the other, into DIR/NAME.
"""
import argparse
import ast
import os
import runpy
import subprocess
import sys
import textwrap
import time
from pathlib import Path

from autograd.floors import keep_memory

from . import FOLDER


def names() -> list[str]:
    return [path.stem for path in sorted(FOLDER.glob("[a-z]*.py"))]


def listing() -> str:
    """A line a demo: its name, its time, and the first line of its docstring."""
    lines = ["python -m demos NAME [--quick] [--out DIR] [--seed S]        (--quick: some seconds)", ""]
    for name in names():
        tree = ast.parse((FOLDER / f"{name}.py").read_text())
        constants = {ast.unparse(n.targets[0]): n.value for n in tree.body if isinstance(n, ast.Assign)}
        text = f"{name:15} {constants['TIME'].value:12} {ast.get_docstring(tree).splitlines()[0]}"
        lines.append(textwrap.fill(text, 100, initial_indent="  ", subsequent_indent=31 * " "))
    return "\n".join([*lines, "", f"  {'all':28} All of them, one after the other."])


def run_all(argv: list[str]) -> int:
    """Run every demo in a process of its own; a line for each, and the end of what went wrong. 1 if any failed."""
    parser = argparse.ArgumentParser(prog="python -m demos all")
    parser.add_argument("--quick", action="store_true", help="short runs, to see that everything works")
    parser.add_argument("--out", type=Path, default=Path("out"), help="folder for their folders (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of each (default: %(default)s)")
    args, failed, begin = parser.parse_args(argv), [], time.perf_counter()
    for name in names():
        command = [sys.executable, "-m", "demos", name, "--out", args.out / name, f"--seed={args.seed}"]
        start = time.perf_counter()
        done = subprocess.run(command + ["--quick"] * args.quick, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              text=True, env={**os.environ, "MPLBACKEND": "agg"})          # no window that waits
        ok = done.returncode == 0
        print(f"{name:15} {time.perf_counter() - start:6.1f} s  {'ok' if ok else 'failed'}", flush=True)
        if not ok:
            failed.append(name)
            print("    " + "\n    ".join(done.stdout.splitlines()[-10:]), flush=True)
    print(f"{'all':15} {time.perf_counter() - begin:6.1f} s  " + (f"failed: {', '.join(failed)}" if failed else "ok"))
    return bool(failed)


def main(argv: list[str]) -> int:
    if not argv or argv[0] in ("-h", "--help"):
        print(listing())
        return 0
    name = argv[0]
    try:
        if name == "all":
            return run_all(argv[1:])
        if name not in names():
            print(f"there is no demo {name!r}:\n\n{listing()}", file=sys.stderr)
            return 2
        sys.argv = [f"{name}.py", *argv[1:]]
        runpy.run_module(f"demos.{name}", run_name="__main__")
    except KeyboardInterrupt as stop:
        print(stop if stop.args else "stopped", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    keep_memory()                                                  # a demo owns its process
    sys.exit(main(sys.argv[1:]))
