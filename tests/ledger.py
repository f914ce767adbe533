"""What is claimed, where it is computed, and which test checks it: the rows of the ledger and of EQUATIONS.md.

A module's docstring numbers its equations, each with a tag: `(1)  y = x W + b   [fused.linear]`; code that computes one
cites it, `# (1)`; a test is marked with the tag. All three are read from the source, nothing is registered.
"""
import ast
import re
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent
PACKAGES = ("autograd", "minivae")
KINDS = {"E": "exact", "G": "gradient check", "Q": "quadrature", "S": "standard errors", "O": "optimum"}
HEADER = """# Equations

Every identity that the code relies on, post by post, where it is computed, the test that checks it, and what the last
full run measured. Written by `pytest --equations`; a test fails when it is stale. In the column *kind*: {kinds}.
"""


class Mark(NamedTuple):
    """The arguments of `@pytest.mark.equation`."""
    id: str
    equation: str
    bound: float
    kind: str = "E"


def read_mark(mark) -> Mark:
    if mark is None:
        raise ValueError("a test that measures must be marked @pytest.mark.equation(id, equation, bound=..., kind=...)")
    return _mark(*mark.args, **mark.kwargs)


def _mark(*args, **kwargs):
    mark = Mark(*args, **kwargs)
    if mark.kind not in KINDS:
        raise ValueError(f"{mark.id}: kind is one of {', '.join(KINDS)}, not {mark.kind!r}")
    return mark


def marks() -> list[tuple[Mark, str]]:
    """Every mark in the tests, with its `file::test`, in order."""
    found = []
    for path in sorted(ROOT.glob("tests/**/test_*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            for d in getattr(node, "decorator_list", ()):
                if isinstance(d, ast.Call) and ast.unparse(d.func) == "pytest.mark.equation":
                    args = [ast.literal_eval(a) for a in d.args]
                    kwargs = {k.arg: ast.literal_eval(k.value) for k in d.keywords}
                    found.append((_mark(*args, **kwargs), f"{path.relative_to(ROOT)}::{node.name}"))
    return found


def tags() -> dict[str, str]:
    """Every tag in the source, with `file: the functions that cite its number`."""
    found = {}
    for path in (p for package in PACKAGES for p in sorted(ROOT.glob(f"{package}/**/*.py"))):
        text = path.read_text()
        doc = ast.get_docstring(ast.parse(text)) or ""
        number = None
        for line in doc.splitlines():
            if m := re.match(r"\s*\((\d+)\) ", line):
                number = m[1]
            for tag in re.findall(r"\[([a-z0-9]+\.[a-z0-9-]+)\]", line):
                where = ", ".join(_citing(text, number))
                found[tag] = f"{path.relative_to(ROOT)}{': ' + where if where else ''}"
    return found


def _citing(text, number):
    """The names of the functions, or of the assigned tables, in whose source the comment `# (number)` stands."""
    lines = [i for i, line in enumerate(text.splitlines(), 1) if re.search(rf"# .*\({number}\)", line)]
    names = []
    for i in lines:
        inside = [n for n in ast.walk(ast.parse(text)) if isinstance(n, (ast.FunctionDef, ast.ClassDef, ast.Assign))
                  and n.lineno <= i <= n.end_lineno]
        name = ".".join(n.name if not isinstance(n, ast.Assign) else ast.unparse(n.targets[0]) for n in inside
                        if not isinstance(n, ast.Assign) or len(inside) == 1)
        if name and name not in names:
            names.append(name)
    return names


def table(measured) -> list[str]:
    """The ledger as pytest prints it: identity, measured, bound, margin."""
    found = [(mark, measured[mark.id, test]) for mark, test in sorted(marks()) if (mark.id, test) in measured]
    width = max(len(mark.id) for mark, _ in found)
    lines = [f"{'identity':{width}}  kind  measured     bound     margin"]
    for mark, value in found:
        margin = f"{mark.bound / value:10.3g}" if value else "     exact"
        margin = margin if value <= mark.bound else "    BROKEN"
        lines.append(f"{mark.id:{width}}   {mark.kind}    {value:8.1e}  {mark.bound:8.1e} {margin}")
    return lines


def posts() -> dict[str, str]:
    """The post of each file, in the README's reading order; before the posts comes the engine, after them the rest."""
    found, post = {}, "The engine"
    for line in (ROOT / "README.md").read_text().partition("## Read it")[2].splitlines():
        if m := re.match(r"\| \*\*(.+?)\*\*", line):
            post = f"Post {m[1]}"
        elif line.startswith("And what surrounds them"):
            post = "What surrounds them"
        for file in re.findall(r"\]\(([\w/]+\.py)\)", line) if line.startswith("| ") else ():
            found.setdefault(file, post)
    return found


def rows() -> list[list[str]]:
    """The columns of EQUATIONS.md that do not depend on a run, as its files are read."""
    where, order = tags(), list(posts())
    found = [[mark.id, mark.equation, where.get(mark.id, "?"), test, mark.kind, f"{mark.bound:g}"]
             for mark, test in sorted(marks())]
    return sorted(found, key=lambda row: order.index(_file(row)) if _file(row) in order else len(order))


def _file(row):
    return row[2].partition(":")[0]


def write(measured):
    """Write EQUATIONS.md."""
    kinds = ", ".join(f"{k} {v}" for k, v in KINDS.items())
    lines, post, of = [HEADER.format(kinds=kinds)], None, posts()
    for row in rows():
        if post != (post := of.get(_file(row), post)):
            lines += [f"\n## {post}\n", "| id | equation | computed in | test | kind | bound | measured |",
                      "| --- | --- | --- | --- | --- | --- | --- |"]
        value = measured.get((row[0], row[3]))
        lines.append(_line([*row, "" if value is None else f"{value:.1e}"]))
    (ROOT / "EQUATIONS.md").write_text("\n".join(lines) + "\n")


def _line(row):
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |"


def stale() -> list[str]:
    """What EQUATIONS.md says otherwise than the source."""
    path = ROOT / "EQUATIONS.md"
    have = [line.rpartition(" | ")[0].removesuffix(" |") for line in path.read_text().splitlines()
            if re.match(r"\| [a-z0-9]+\.", line)] if path.exists() else []
    want = [_line(row).removesuffix(" |") for row in rows()]
    return [f"missing: {w}" for w in want if w not in have] + [f"outdated: {h}" for h in have if h not in want]
