"""Every figure: functions from arrays to a matplotlib Figure, and `save`.

Figures are made without pyplot: no window, no global state, and the same picture on every machine.
"""
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from scipy.special import ndtri

from .files import atomic

def save(figure: Figure, path: str | Path, dpi: int = 120) -> Path:
    """Write the figure as a PNG."""
    with atomic(path) as file:
        figure.savefig(file, format="png", dpi=dpi)
    return Path(path)


def mosaic(images: np.ndarray, columns: int, gap: int = 2) -> np.ndarray:
    """Images (N, h, w) set row by row in one picture, `gap` pixels apart; the gaps are NaN."""
    n, h, w = images.shape
    rows = -(-n // columns)
    picture = np.full((rows * (h + gap) - gap, columns * (w + gap) - gap), np.nan)
    for i, image in enumerate(images):
        y, x = i // columns * (h + gap), i % columns * (w + gap)
        picture[y:y + h, x:x + w] = image
    return picture


def image_grid(images: np.ndarray, columns: int, title: str = "", shape: tuple = (28, 28), gap: int = 2,
               labels: list[str] = (), ink: bool = True, limits: tuple | None = (0, 1)) -> Figure:
    """Images (N, D) in a grid, `labels` beside its rows; with `ink` large values are dark; `limits` None: their own."""
    picture = mosaic(np.asarray(images, float).reshape(-1, *shape), columns, gap)
    scale = 6.5 / picture.shape[1]
    figure = Figure((6.5 + (1.1 if labels else 0), picture.shape[0] * scale + 0.45), layout="constrained")
    ax = figure.add_subplot(title=title)
    low, high = limits or (np.nanmin(picture), np.nanmax(picture))
    ax.imshow(picture, cmap="gray_r" if ink else "gray", vmin=low, vmax=high, interpolation="nearest")
    ax.set_xticks([])
    ax.set_yticks([i * (shape[0] + gap) + shape[0] / 2 for i in range(len(labels))], labels)
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    return figure


def learning_curves(rows: list[dict]) -> Figure:
    """The terms of the ELBO over the epochs, from the rows that `train.fit` returns; columns test_* are dashed."""
    epochs = [row["epoch"] for row in rows]
    figure = Figure((8, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    for ax, names in ((left, ("elbo", "recon")), (right, ("kl",))):
        for i, name in enumerate(names):
            for column, style in ((name, "-"), (f"test_{name}", "--")):
                if column in rows[0]:
                    ax.plot(epochs, [row[column] for row in rows], style, color=f"C{i + 2 * (ax is right)}",
                            label=column.replace("_", " "), marker=".")
        ax.set(xlabel="epoch", ylabel="nats per image")
        ax.grid(alpha=0.3)
        ax.legend(frameon=False)
    left.set_title("ELBO = recon − KL")
    right.set_title("KL(q(z|x) ‖ p(z))")
    figure.supxlabel("training: mean over the epoch, while the weights still move · test: at its end", fontsize="small")
    return figure


def reconstructions(x: np.ndarray, again: np.ndarray, shape: tuple = (28, 28)) -> Figure:
    """Each image of `x` (N, D) above its reconstruction."""
    return image_grid(np.concatenate([x, again]), len(x), "reconstructions", shape, labels=["x", "E[x | μ(x)]"])


def interpolation(model, starts: np.ndarray, ends: np.ndarray, steps: int = 12, shape: tuple = (28, 28)) -> Figure:
    """One row a pair: decoded points on the straight line between the two posterior means."""
    a, b = (np.asarray(model.encode(x).mean)[:, None] for x in (starts, ends))
    t = np.linspace(0, 1, steps, dtype=a.dtype)[:, None]
    z = ((1 - t) * a + t * b).reshape(-1, a.shape[-1])
    title = "from one reconstruction to another, on a straight line in z"
    return image_grid(np.asarray(model.decode(z).mean), steps, title, shape)


def manifold(model, side: int = 20, shape: tuple = (28, 28)) -> Figure:
    """What two latents decode to, at equal steps of prior probability (Kingma and Welling, fig. 4)."""
    u = ndtri((np.arange(side) + 0.5) / side).astype(model.logvar.dtype)
    z = np.stack(np.meshgrid(u, u[::-1]), axis=-1).reshape(-1, 2)
    return image_grid(np.asarray(model.decode(z).mean), side, "the learned manifold", shape, gap=0)


def latent_scatter(codes: np.ndarray, labels: np.ndarray) -> Figure:
    """Codes (N, 2), coloured by integer label, with the prior's one- and two-sigma circles."""
    figure = Figure((6.5, 6), layout="constrained")
    ax = figure.add_subplot(xlabel="z₁", ylabel="z₂", aspect="equal")
    ax.set_title("test digits at μ(x), and the prior's 1σ and 2σ")
    dots = ax.scatter(*codes.T, c=labels, cmap="tab10", s=3, alpha=0.6, linewidths=0, rasterized=True)
    angle = np.linspace(0, 2 * np.pi, 200)
    for sigma in (1, 2):
        ax.plot(sigma * np.cos(angle), sigma * np.sin(angle), "k--", lw=0.8, alpha=0.5)
    classes = np.unique(labels)
    ax.legend([Line2D([], [], ls="", marker="o", color=dots.to_rgba(c)) for c in classes], classes, frameon=False,
              loc="center left", bbox_to_anchor=(1, 0.5))
    return figure
