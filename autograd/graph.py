"""Draw the graph behind a Tensor: the operations that made it, and the leaves that they started from.

A blue box is an operation, with the shape of its output; an ochre box is a leaf: a parameter, or an input that requires
a gradient. Constants are not drawn, for a graph does not remember them. Arrows run down to the output, the way of the
computation; `backward` goes against them. Three steps find the places:

    rows    a node stands as many rows above the output as its longest way there has arrows, so above its children
    order   sweeps down and up sort each row by the mean place of its neighbours; the order with the fewest crossings wins
    places  a linear program makes arrows as upright as boxes that must not overlap allow, and symmetric where it can

An arrow that skips rows holds a place in each, so none runs through a box; a node's long arrows share a trunk.

K. Sugiyama, S. Tagawa and M. Toda, Methods for visual understanding of hierarchical system structures, IEEE Trans.
Systems, Man, and Cybernetics 1981, for rows and order; E. Gansner et al., A technique for drawing directed graphs, IEEE
Trans. Software Engineering 1993, section 4, for places.
"""
from collections import defaultdict
from itertools import pairwise

import numpy as np

from .tensor import Leaf, Tensor, _by_serial

LIMIT, SWEEPS = 300, 24                                      # nodes that can still be read; sorts of each row
HALF, STEP, PAD, GAP, PORT = 17, 62, 10, 16, 10              # points: half a box, row to row, in and between boxes, arrows
STYLE = {False: ("#2c4f7c", "#e6eef8"), True: ("#9a5b13", "#fdf0dc")}              # ink and paper of operations, of leaves


def draw(y: Tensor, names: dict[str, Tensor] | None = None, ax=None):
    """Draw the graph of y on `ax`, by default on a new pyplot figure of the size it needs; returns the matplotlib Axes.

    `names` labels leaves, or any Tensors of the graph: `model.named_parameters()`, `{"x": x, "z": z}`. Raises ValueError
    for a constant or more than 300 nodes, RuntimeError if `backward` has freed the graph.
    """
    import matplotlib.pyplot as plt
    from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, PathPatch
    from matplotlib.path import Path
    from matplotlib.textpath import TextPath

    nodes, names = _nodes(y), {t.node: name for name, t in (names or {}).items()}
    titles = {n: _title(n, names.get(n)) for n in nodes}
    texts = {n: [TextPath((0, 0), titles[n], 10), TextPath((0, 0), str(n.shape), 8)] for n in nodes}
    width = {n: 2 * PAD + max(t.get_extents().width for t in texts[n]) for n in nodes}
    rows, above = _rows(nodes)
    _order(rows, above)
    x, y = _places(rows, above, width), {v: STEP * i for i, row in enumerate(rows) for v in row}

    left, right = min(x[v] - width.get(v, 0) / 2 for v in x) - PAD, max(x[v] + width.get(v, 0) / 2 for v in x) + PAD
    low, high = -HALF - PAD, STEP * (len(rows) - 1) + HALF + PAD
    if ax is None:
        ax = plt.figure(figsize=((right - left) / 72, (high - low) / 72)).add_axes((0, 0, 1, 1))
    ax.set(xlim=(left, right), ylim=(low, high), aspect="equal")
    ax.axis("off")
    for b, tails in above.items():
        for port, a in enumerate(sorted(tails, key=x.get)):
            end, mid = x[b] + PORT * (port - (len(tails) - 1) / 2), (y[a] + y[b]) / 2
            path = [(x[a], y[a] - HALF), (x[a], mid), (end, mid), (end, y[b] + HALF)] + [(end, y[b] - HALF)] * (b not in width)
            path = Path(path, [Path.MOVETO, *[Path.CURVE4] * 3, Path.LINETO][:len(path)])
            ax.add_patch(FancyArrowPatch(path=path, arrowstyle="-|>" if b in width else "-", mutation_scale=10,
                                         shrinkA=0, shrinkB=0, color="#777777", zorder=1))
    for n in nodes:
        ink, paper = STYLE[isinstance(n, Leaf)]
        ax.add_patch(FancyBboxPatch((x[n] - width[n] / 2, y[n] - HALF), width[n], 2 * HALF, label=titles[n], zorder=2,
                                    boxstyle="round,pad=0,rounding_size=6", facecolor=paper, edgecolor=ink))
        for text, color, base in zip(texts[n], (ink, "#555555"), (3, -11)):
            corner = x[n] - text.get_extents().x0 - text.get_extents().width / 2, y[n] + base
            ax.add_patch(PathPatch(Path(text.vertices + corner, text.codes), facecolor=color, linewidth=0, zorder=3))
    return ax


def _nodes(y):
    """The nodes behind y, the first argument of each and what is behind it before the second."""
    if getattr(y, "node", None) is None:
        raise ValueError("draw() of a constant: nothing that it was computed from requires a gradient")
    seen, stack = {}, [y.node]
    while stack:
        node = stack.pop()
        if node.op and node.saved is None:
            raise RuntimeError("a backward pass has freed this graph: draw it before, or run the forward pass again")
        seen[node] = True
        stack += [p for p in reversed(node.parents) if p is not None and p not in seen]
    if len(seen) > LIMIT:
        raise ValueError(f"a graph of {len(seen)} nodes is too large to read, {LIMIT} is the most: draw a smaller model, "
                         "fewer steps, or a Tensor from the middle of the computation")
    return list(seen)


def _title(node, name):
    """A leaf's name; an operation with its name, if any, and the words that it was told, as `linear relu`."""
    if node.op is None:
        return name or "leaf"
    static = node.saved[-1] if isinstance(node.saved[-1], dict) else {}
    words = " ".join([node.op.__name__, *(v for v in static.values() if isinstance(v, str))])
    return f"{name} = {words}" if name else words


def _rows(nodes):
    """Rows of vertices, the output's first, and `above`: for each vertex, those in the row above that it has arrows from.

    A vertex is a node, or `(node, row)` where the trunk of that node's long arrows holds a place.
    """
    level = {nodes[0]: 0}
    for node in sorted(nodes, key=_by_serial, reverse=True):
        for p in filter(None, node.parents):
            level[p] = max(level.get(p, 0), level[node] + 1)
    rows, above = [{} for _ in range(max(level.values()) + 1)], defaultdict(list)
    for node in nodes:
        rows[level[node]][node] = True
        for p in filter(None, node.parents):
            way = [p, *((p, i) for i in range(level[p] - 1, level[node], -1)), node]
            for a, b in pairwise(way):
                if b is node:
                    above[b].append(a)
                else:
                    rows[b[1]][b] = True
                    above[b] = [a]
    return [list(row) for row in rows], above


def _order(rows, above):
    """Sort the vertices of each row so that few arrows cross."""
    below, place = defaultdict(list), {v: i for row in rows for i, v in enumerate(row)}
    for b, tails in above.items():
        for a in tails:
            below[a].append(b)

    def crossings(row):
        ends = np.array([(place[a], place[b]) for b in row for a in above[b]]).reshape(-1, 2)
        return np.sum(np.prod(ends[:, None] - ends, axis=-1) < 0) // 2

    best, fewest = None, np.inf
    for sweep in range(SWEEPS):
        total = sum(map(crossings, rows))
        if total < fewest:
            best, fewest = [list(row) for row in rows], total
        near = (above, below)[sweep % 2]
        for row in (rows[::-1], rows)[sweep % 2]:
            row.sort(key=lambda v: np.mean([place[u] for u in near[v] or [v]]))
            place.update((v, i) for i, v in enumerate(row))
    rows[:] = best
    print("crossings", fewest)


def _places(rows, above, width):
    """x of each vertex."""
    from scipy.optimize import linprog
    from scipy.sparse import block_array, csr_array, diags_array, eye_array, vstack

    index = {v: i for i, v in enumerate(v for row in rows for v in row)}
    pick = lambda vs: csr_array((np.ones(len(vs)), (range(len(vs)), [index[v] for v in vs])), (len(vs), len(index)))
    ends = [(a, b) for b in above for a in dict.fromkeys(above[b])]
    worth = lambda v: 4 if v not in width else .5 if isinstance(v, Leaf) else 2
    tail, head = pick([a for a, _ in ends]), pick([b for _, b in ends])
    w = diags_array([1.0 * worth(a) * worth(b) for a, b in ends]) 
    slant = vstack([w, .1 * tail.T, .1 * head.T]) @ (tail - head)
    pairs = [p for row in rows for p in pairwise(row)]
    gap = [GAP + (width.get(u, 0) + width.get(v, 0)) / 2 for u, v in pairs]
    step = pick([u for u, _ in pairs]) - pick([v for _, v in pairs])
    k = slant.shape[0]
    I = eye_array(k)
    fit = linprog(np.repeat([0, 1], [len(index), k]), block_array([[slant, -I], [-slant, -I], [step, None]]), np.concatenate([np.zeros(2*k), -np.array(gap)]))
    return {v: fit.x[i] for v, i in index.items()}
