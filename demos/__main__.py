"""python -m demos NAME [--quick] [--out DIR] [--seed S]; without a name, what there is and how long it takes."""
import ast
import runpy
import sys

from . import FOLDER


def listing() -> str:
    """A line a demo: its name, its time, and the first line of its docstring."""
    lines = ["python -m demos NAME [--quick] [--out DIR] [--seed S]        (--quick: some seconds)", ""]
    for path in sorted(FOLDER.glob("[a-z]*.py")):
        tree = ast.parse(path.read_text())
        constants = {ast.unparse(n.targets[0]): n.value for n in tree.body if isinstance(n, ast.Assign)}
        lines.append(f"  {path.stem:12} {constants['TIME'].value:12} {ast.get_docstring(tree).splitlines()[0]}")
    return "\n".join(lines)


def main(argv: list[str]) -> int:
    if not argv or argv[0] in ("-h", "--help"):
        print(listing())
        return 0
    name = argv[0]
    if not name.isidentifier() or name.startswith("_") or not (FOLDER / f"{name}.py").exists():
        print(f"there is no demo {name!r}:\n\n{listing()}", file=sys.stderr)
        return 2
    sys.argv = [f"{name}.py", *argv[1:]]
    try:
        runpy.run_module(f"demos.{name}", run_name="__main__")
    except KeyboardInterrupt as stop:
        print(stop if stop.args else "stopped", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
