"""Draw the graph behind a Tensor: the operations that made it, and the leaves that they started from.

A blue box is an operation with the shape of its output, an ochre box a leaf: a parameter, or an input that requires a
gradient. Constants are not drawn, for a graph does not remember them. Arrows run down to the output, the way of the
computation; `backward` goes against them. Where everything stands is decided in three steps:

    rows    a node is as many rows above the output as its longest way there has arrows, so above all its children
    order   sweeps down and up sort each row by the mean place of its neighbours, so that few arrows cross
    places  a linear program makes the arrows as upright as boxes that keep their distance allow

An arrow that skips rows keeps a place free in each, so it runs through no box. One unit of the Axes is a point.

K. Sugiyama, S. Tagawa and M. Toda, Methods for visual understanding of hierarchical system structures, IEEE Trans.
Systems, Man, and Cybernetics 1981; for the linear program E. Gansner et al., A technique for drawing directed graphs,
IEEE Trans. Software Engineering 1993.
"""
from collections import defaultdict
from itertools import pairwise

import numpy as np

from .tensor import Leaf, Node, Tensor

LIMIT, SWEEPS = 300, 8                       # more nodes cannot be read; sweeps in pairs, down and up
HALF, STEP, PAD, GAP, PORT = 17, 62, 10, 16, 10                   # half a box, row to row, in and between boxes, arrows
STYLE = {False: ("#2c4f7c", "#e6eef8"), True: ("#9a5b13", "#fdf0dc")}              # ink and paper of operation and leaf


def draw(y: Tensor, names: dict[str, Tensor] | None = None, ax=None):
    """Draw the graph of y on `ax`, by default on a new pyplot figure of the size it needs; returns the matplotlib Axes.

    `names` labels leaves, or any Tensors of the graph: `model.named_parameters()`, `{"x": x, "z": z}`. From left to
    right is not the order of the arguments. Raises ValueError for a constant or for more than 300 nodes, RuntimeError
    for a graph that `backward` has freed.
    """
    import matplotlib.pyplot as plt
    from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, PathPatch
    from matplotlib.path import Path
    from matplotlib.textpath import TextPath

    nodes, names = _nodes(y), {t.node: name for name, t in (names or {}).items()}
    titles = {n: _title(n, names.get(n)) for n in nodes}
    texts = {n: [TextPath((0, 0), titles[n], 10), TextPath((0, 0), str(n.shape), 8)] for n in nodes}
    rows, above = _rows(nodes)
    width = dict.fromkeys(above, 0)
    for n in nodes:
        width[n] = 2 * PAD + max(PORT * (len(above[n]) - 1), *(text.vertices[:, 0].max() for text in texts[n]))
    _order(rows, above)
    x, y = _places(rows, above, width), {v: STEP * i for i, row in enumerate(rows) for v in row}
    left, right = min(x[v] - width[v] / 2 for v in x) - PAD, max(x[v] + width[v] / 2 for v in x) + PAD
    low, high = -HALF - PAD, STEP * (len(rows) - 1) + HALF + PAD
    if ax is None:
        ax = plt.figure(figsize=((right - left) / 72, (high - low) / 72)).add_axes((0, 0, 1, 1))
    ax.set(xlim=(left, right), ylim=(low, high), aspect="equal")
    ax.axis("off")
    for b in above:
        for port, a in enumerate(sorted(above[b], key=x.get)):
            end, middle = x[b] + PORT * (port - (len(above[b]) - 1) / 2), (y[a] + y[b]) / 2
            curve = [(x[a], y[a] - HALF), (x[a], middle), (end, middle), (end, y[b] + HALF), (end, y[b] - HALF)]
            steps = [Path.MOVETO, Path.CURVE4, Path.CURVE4, Path.CURVE4, Path.LINETO]
            stop, head = (4, "-|>") if isinstance(b, Node) else (5, "-")
            ax.add_artist(FancyArrowPatch(path=Path(curve[:stop], steps[:stop]), arrowstyle=head, mutation_scale=10,
                                          color="#777777", capstyle="butt", shrinkA=0, shrinkB=0, zorder=1))
    for n in nodes:
        ink, paper = STYLE[isinstance(n, Leaf)]
        ax.add_artist(FancyBboxPatch((x[n] - width[n] / 2, y[n] - HALF), width[n], 2 * HALF, label=titles[n], zorder=2,
                                      boxstyle="round,pad=0,rounding_size=6", facecolor=paper, edgecolor=ink))
        for text, color, base in zip(texts[n], (ink, "#555555"), (3, -11)):
            shift = x[n] - text.vertices[:, 0].max() / 2, y[n] + base
            ax.add_artist(PathPatch(Path(text.vertices + shift, text.codes), facecolor=color, linewidth=0, zorder=3))
    return ax


def _nodes(y):
    """The nodes of the graph of y, what is behind a first argument before what is behind a second."""
    if getattr(y, "node", None) is None:
        raise ValueError("draw() of a constant: nothing that it was computed from requires a gradient")
    seen, stack = {}, [y.node]
    while stack:
        node = stack.pop()
        if node.op and node.saved is None:
            raise RuntimeError("a backward pass has freed this graph: run the forward pass again and draw it first")
        seen[node] = True
        stack += [p for p in reversed(node.parents) if p is not None and p not in seen]
    if len(seen) > LIMIT:
        raise ValueError(f"a graph of {len(seen)} nodes is too large to read, {LIMIT} is the most: draw a smaller "
                         "model, fewer steps, or a Tensor from the middle of the computation")
    return list(seen)


def _title(node, name):
    """A leaf's name; or `op`, or `name = op`, with the words that it was told, as in `linear relu`."""
    if node.op is None:
        return name or "leaf"
    op = " ".join([node.op.__name__, *(v for v in node.saved.values() if isinstance(v, str))])
    return f"{name} = {op}" if name else op


def _rows(nodes):
    """Rows of vertices, the output's first, and `above`: vertex -> the vertices in the next row with an arrow to it.

    A vertex is a node, or `(node, row)`, the place in a row of the trunk that a node's longer arrows have in common.
    """
    level, above = {nodes[0]: 0}, {}
    for node in sorted(nodes, key=lambda n: n.serial, reverse=True):
        for p in filter(None, node.parents):
            level[p] = max(level.get(p, 0), level[node] + 1)
    rows = [[] for _ in range(max(level.values()) + 1)]
    for node in nodes:
        above[node] = []
        for p in filter(None, node.parents):
            tail = p
            for i in range(level[p] - 1, level[node], -1):
                above[p, i], level[p, i], tail = [tail], i, (p, i)
            above[node].append(tail)
    for v in above:
        rows[level[v]].append(v)
    return rows, above


def _order(rows, above):
    """Sort the rows in place. The last sweep goes up, so that leaves stand where they are used."""
    below = defaultdict(list)
    for b in above:
        for a in above[b]:
            below[a].append(b)
    place = {v: (i + 0.5) / len(row) for row in rows for i, v in enumerate(row)}
    for near, todo in [(above, rows[::-1]), (below, rows)] * (SWEEPS // 2):
        for row in todo:
            row.sort(key=lambda v: np.mean([place[u] for u in near[v] or [v]]))
            place.update((v, (i + 0.5) / len(row)) for i, v in enumerate(row))


def _places(rows, above, width):
    """x of each vertex. A slant costs most in trunks, least at leaves; some more if those at a vertex do not cancel."""
    from scipy.optimize import linprog
    from scipy.sparse import block_array, csr_array, diags_array, eye_array, vstack

    index = {v: i for i, v in enumerate(v for row in rows for v in row)}
    pick = lambda vs: csr_array((np.ones(len(vs)), (range(len(vs)), [index[v] for v in vs])), (len(vs), len(index)))
    arrows = [(a, b) for b in above for a in dict.fromkeys(above[b])]
    pairs = [pair for row in rows for pair in pairwise(row)]
    tails, heads, lefts, rights = (pick([e[i] for e in ends]) for ends in (arrows, pairs) for i in (0, 1))
    stiffness = lambda v: 0.5 if isinstance(v, Leaf) else 2.0 if isinstance(v, Node) else 4.0
    weights = diags_array([stiffness(a) * stiffness(b) for a, b in arrows])
    slants = vstack([weights, 0.1 * tails.T, 0.1 * heads.T]) @ (tails - heads)
    gaps = [GAP + (width[u] + width[v]) / 2 for u, v in pairs]
    n, unit = slants.shape[0], eye_array(slants.shape[0])
    # minimise sum(t) over x and t, where -t <= slants @ x <= t and (rights - lefts) @ x >= gaps
    fit = linprog(np.repeat([0, 1], [len(index), n]),
                  block_array([[slants, -unit], [-slants, -unit], [lefts - rights, None]]),
                  np.concatenate([np.zeros(2 * n), -np.array(gaps)]))
    return dict(zip(index, fit.x))
