"""The drawing of a graph, read back from its boxes and arrows."""
import subprocess
import sys
from collections import Counter
from itertools import combinations

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.patches import ArrowStyle, FancyArrowPatch, FancyBboxPatch, PathPatch

from autograd import Tensor, losses, nn, ops
from autograd.graph import HALF, LIMIT, STEP, draw

plt.switch_backend("Agg")


def leaf(*shape):
    return Tensor(np.ones(shape), requires_grad=True)


def vae():
    """One step of a small VAE: a fork, a long way round for the KL, leaves in many rows."""
    rng = np.random.default_rng(0)
    encoder, decoder = nn.MLP(6, 5, 4, rng=rng), nn.MLP(2, 5, 6, rng=rng)
    x = rng.random((3, 6), np.float32)
    h = encoder(x)
    mu, logvar = h[:, :2], h[:, 2:]
    z = mu + np.exp(0.5 * logvar) * rng.standard_normal((3, 2), np.float32)
    loss = ops.sum(losses.bernoulli_nll(decoder(z), x) + losses.gaussian_kl(mu, logvar))
    return loss, nn.Sequential(encoder, decoder).named_parameters() | {"mu": mu, "logvar": logvar, "z": z}


def tangle():
    """Products of whatever came before: many crossings and long arrows, some factors used twice."""
    rng, ts = np.random.default_rng(1), [leaf() for _ in range(8)]
    names = {f"x{i}": t for i, t in enumerate(ts)}
    while len(ts) < 60:
        i, j = rng.integers(0, len(ts), 2)
        ts.append(ts[i] * ts[j])
    return sum(ts[-8:], ts[-9]), names


def unrolled():
    """A recurrent network: parameters that are used in many rows."""
    h, names = np.zeros((2, 3)), {"w": leaf(3, 3), "b": leaf(3)}
    for _ in range(5):
        h = np.tanh(h @ names["w"] + names["b"])
    return ops.sum(h), names


def gathered():
    """More arguments than there would be room for arrows above the op's name."""
    names = {f"x{i}": leaf(2, i) for i in range(20)}
    return np.concatenate(list(names.values()), 1), names


def lonely():
    x = leaf(2, 3)
    return x, {"x": x}


@pytest.fixture(scope="module", params=[vae, tangle, unrolled, gathered, lonely], ids=lambda make: make.__name__)
def drawn(request):
    """A graph, the names in it, and the Axes that it is drawn on."""
    y, names = request.param()
    yield y, names, draw(y, names)


@pytest.fixture(autouse=True, scope="module")
def no_figure_stays_open():
    yield
    plt.close("all")


def read_boxes(ax):
    """[(label, left, bottom, right, top)]"""
    found = [(p.get_label(), p.get_bbox()) for p in ax.patches if isinstance(p, FancyBboxPatch)]
    return [(label, *b.extents) for label, b in found]


def read_pieces(ax):
    """Of each piece of an arrow the points that it passes, and whether it ends in a head."""
    t = np.linspace(0, 1, 30)[:, None]
    bezier = np.hstack([(1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t * t * (1 - t), t ** 3])
    for p in (p for p in ax.patches if isinstance(p, FancyArrowPatch)):
        v, head = p.get_path().vertices, isinstance(p.get_arrowstyle(), ArrowStyle.CurveFilledB)
        yield np.vstack([bezier @ v[:4], v[3:4] if head else np.linspace(v[3], v[4], 9)]), head


def read_arrows(ax):
    """(parent, child) of each arrowhead, as boxes; trunks are followed from where they leave their box."""
    boxes = read_boxes(ax)
    exits = [(((b[1] + b[3]) / 2, b[2]), b) for b in boxes]
    for points, head in sorted(read_pieces(ax), key=lambda piece: -piece[0][0, 1]):
        parent, = {b for at, b in exits if np.allclose(at, points[0], atol=1e-3)}
        if head:
            (x, y), = points[-1:]
            child, = (b for b in boxes if b[1] < x < b[3] and abs(y - b[4]) < 2)
            yield parent, child
        else:
            exits.append((points[-1], parent))


def in_graph(y, names):
    """The labels of the graph's nodes, and of its edges, without the words that an op was told."""
    names = {t.node: name for name, t in names.items()}
    label = lambda n: names[n] if n.op is None else f"{names[n]} = {n.op.__name__}" if n in names else n.op.__name__
    nodes = [y.node]
    for n in nodes:
        nodes += {p: 0 for p in n.parents if p is not None and p not in nodes}
    return Counter(map(label, nodes)), Counter((label(p), label(n)) for n in nodes for p in n.parents if p is not None)


def test_every_node_is_drawn_once_and_every_edge_has_an_arrow(drawn):
    y, names, ax = drawn
    plain = lambda box: box[0].removesuffix(" relu")
    nodes, edges = in_graph(y, names)
    assert Counter(map(plain, read_boxes(ax))) == nodes
    assert Counter((plain(p), plain(c)) for p, c in read_arrows(ax)) == edges


def test_parents_stand_above_their_children(drawn):
    for (*_, bottom, _, _), (*_, top) in read_arrows(drawn[-1]):
        assert bottom > top


def test_boxes_do_not_overlap(drawn):
    for (_, *a), (_, *b) in combinations(read_boxes(drawn[-1]), 2):
        assert a[0] > b[2] + 10 or b[0] > a[2] + 10 or a[1] > b[3] + 10 or b[1] > a[3] + 10


def test_no_arrow_runs_through_a_box(drawn):
    ax = drawn[-1]
    for points, _ in read_pieces(ax):
        for _, left, bottom, right, top in read_boxes(ax):
            x, y = points.T
            assert not np.any((left < x) & (x < right) & (bottom + 0.1 < y) & (y < top - 0.1))


def test_text_stays_inside_its_box(drawn):
    ax = drawn[-1]
    texts = [p.get_path().get_extents() for p in ax.patches if isinstance(p, PathPatch)]
    for _, left, bottom, right, top in read_boxes(ax):
        inside = [t for t in texts if left + 5 < t.x0 and t.x1 < right - 5 and bottom + 2 < t.y0 and t.y1 < top - 2]
        assert len(inside) == 2


def test_nothing_is_clipped_and_a_point_is_a_point(drawn):
    ax = drawn[-1]
    assert np.allclose(ax.figure.get_size_inches() * 72, [np.ptp(ax.get_xlim()), np.ptp(ax.get_ylim())])
    ax.figure.set_dpi(50)
    ax.figure.canvas.draw()
    ink = np.asarray(ax.figure.canvas.buffer_rgba())[..., :3].min(axis=-1) < 250
    assert ink.any() and not (ink[:2].any() or ink[-2:].any() or ink[:, :2].any() or ink[:, -2:].any())


def test_leaves_stand_just_above_their_first_use(drawn):
    y, names, ax = drawn
    arrows = list(read_arrows(ax))
    leaves = {parent for parent, _ in arrows if parent[0] in names}
    assert all(min(leaf[2] - c[4] for p, c in arrows if p == leaf) == pytest.approx(STEP - 2 * HALF) for leaf in leaves)


def test_no_more_arrows_cross_than_must():
    def crossings(y):
        ends = [(*points[0], points[-1, 0]) for points, _ in read_pieces(draw(y))]
        return sum(low == row and (a - b) * (c - d) < 0 for (a, row, c), (b, low, d) in combinations(ends, 2))

    assert [crossings(make()[0]) for make in (vae, unrolled, gathered)] == [1, 0, 0]


def test_a_chain_is_drawn_straight():
    y = leaf(3)
    for _ in range(6):
        y = np.sin(y)
    assert len({round(left + right, 3) for _, left, _, right, _ in read_boxes(draw(y))}) == 1


def test_a_factor_used_twice_has_two_arrows():
    x = leaf(3)
    ax = draw(x * x + np.sin(x), {"x": x})
    arrows = [(p[0], c[0]) for p, c in read_arrows(ax)]
    assert Counter(arrows)["x", "multiply"] == 2 and len(arrows) == 5
    assert len({tuple(points[-1].round()) for points, head in read_pieces(ax) if head}) == 5


def test_labels_are_names_ops_and_the_words_that_ops_were_told():
    w, b = leaf(2, 4), leaf(3, 2)
    z = ops.einsum("ij,jk->ik", b, w)
    labels = [box[0] for box in read_boxes(draw(ops.sum(np.exp(z)), {"w": w, "z": z, "elsewhere": leaf(1)}))]
    assert sorted(labels) == ["exp", "leaf", "sum", "w", "z = einsum ij jk ik"]


def test_leaves_and_operations_differ_in_colour():
    x = leaf()
    colour = {p.get_label(): p.get_facecolor() for p in draw(np.sin(x), {"x": x}).patches
              if isinstance(p, FancyBboxPatch)}
    assert colour["x"] != colour["sin"]


def test_drawing_on_given_axes_opens_no_figure():
    ax, before = Figure().add_subplot(), plt.get_fignums()
    assert draw(np.sin(leaf()), ax=ax) is ax
    assert plt.get_fignums() == before


def test_drawing_leaves_the_graph_as_it_was():
    x = leaf(3)
    y = ops.sum(x * x)
    draw(y)
    y.backward()
    assert np.array_equal(x.grad, [2, 2, 2])


def test_the_same_graph_is_drawn_the_same():
    assert read_boxes(draw(*tangle())) == read_boxes(draw(*tangle()))


@pytest.mark.parametrize("constant", [Tensor(1.0), np.ones(2), 3.0])
def test_a_constant_has_no_graph(constant):
    with pytest.raises(ValueError, match="draw.. of a constant: nothing that it was computed from requires a gradient"):
        draw(constant)


def test_a_graph_that_backward_has_freed_cannot_be_drawn():
    y = ops.sum(np.sin(leaf(3)))
    y.backward()
    with pytest.raises(RuntimeError, match="run the forward pass again"):
        draw(y)


def test_a_graph_too_large_to_read_is_refused_and_needs_no_recursion():
    y = leaf()
    for _ in range(LIMIT - 1):
        y = np.sin(y)
    assert len(read_boxes(draw(y))) == LIMIT
    for _ in range(10_000 - LIMIT + 1):
        y = np.sin(y)
    with pytest.raises(ValueError, match="a graph of 10001 nodes is too large to read, 300 is the most: draw a sm"):
        draw(y)


def test_importing_the_engine_and_its_graphs_does_not_load_matplotlib():
    code = "import autograd.graph, sys; assert not {'matplotlib', 'scipy.optimize'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
