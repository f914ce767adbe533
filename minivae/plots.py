"""Every figure: functions from arrays to a matplotlib Figure, and `save`.

Figures are made without pyplot: no window, no global state, and the same picture on every machine.
"""
import tempfile
from pathlib import Path

import numpy as np
from matplotlib.animation import FuncAnimation, PillowWriter
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator
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
    _legend(ax, _by_label(ax, codes, labels, s=3, alpha=0.6), labels)
    return figure


def _by_label(ax, codes, labels, **options):
    """Codes (N, 2) coloured by integer label, with the prior's one- and two-sigma circles; returns the dots."""
    dots = ax.scatter(*codes.T, c=labels, cmap="tab10", linewidths=0, rasterized=True, **options)
    for sigma in (1, 2):
        ax.plot(*_ellipse((0, 0), np.eye(2), sigma), "k--", lw=0.8, alpha=0.5)
    return dots


def _legend(ax, dots, labels):
    """Beside the axes, which colour is which label."""
    classes = np.unique(labels)
    ax.legend([Line2D([], [], ls="", marker="o", color=dots.to_rgba(c)) for c in classes], classes, frameon=False,
              loc="center left", bbox_to_anchor=(1, 0.5))


def signal_to_noise(results: dict) -> Figure:
    """Signal-to-noise of gradients over k, from {estimator: Snr}; the decoder's is the same with every estimator."""
    figure = Figure((7.5, 4.2), layout="constrained")
    ax = figure.add_subplot(xscale="log", yscale="log", xlabel="k, importance samples", ylabel="|mean| / deviation")
    ax.set_title("signal-to-noise ratio of gradients")
    for name, r in results.items():
        ax.plot(r.k, r.encoder, "o-", ms=4, label=f"encoder, {name}")
    ax.plot(r.k, r.decoder, "ks--", ms=4, label="decoder")
    low, high = ax.get_ylim()
    low = min(low, r.floor / 2)
    ax.axhspan(low, r.floor, color="0.92", zorder=0, label="noise alone")
    k = np.array([min(r.k), max(r.k)])
    for slope, name in ((0.5, "slopes ±½"), (-0.5, None)):
        ax.plot(k, r.decoder[0] * (k / k[0]) ** slope / 2, ":", color="0.5", zorder=0, label=name)
    ax.set_ylim(low, high)
    ax.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def elbo_and_gap(at: np.ndarray, elbo: np.ndarray, log_evidence: float, z: np.ndarray, posterior: np.ndarray,
                 qs: dict[float, np.ndarray]) -> Figure:
    """As the mean of q goes through `at` (T,), the ELBO and the gap stacked: their sum stays.

    Above, on nodes z (G,), the posterior density, and by its mean that of some `qs`.
    """
    figure = Figure((8.5, 5), layout="constrained")
    top, ax = figure.subplots(2, 1, sharex=True, height_ratios=(2, 3))
    top.tick_params(labelbottom=True)
    top.fill_between(z, posterior, color="0.8", label="p(z | x)")
    floor = elbo.min()
    ax.fill_between(at, floor, elbo, color="C0", alpha=0.6, lw=0, label="ELBO(q), its floor arbitrary")
    ax.fill_between(at, elbo, log_evidence, color="C1", alpha=0.6, lw=0, label="gap = KL(q ‖ p(z | x))")
    ax.axhline(log_evidence, color="k", label="ln p(x), whatever q")
    for i, (mean, density) in enumerate(qs.items()):
        top.plot(z, density, color=f"C{i + 2}", label=f"q at {mean:g}")
        ax.axvline(mean, color=f"C{i + 2}", ls="--", lw=1)
        ax.plot(mean, np.interp(mean, at, elbo), "o", color=f"C{i + 2}", zorder=3)
    top.set(title="a Gaussian q moves over the posterior", xlabel="z", yticks=[], ylim=(0, None))
    ax.set(xlabel="the mean of q", ylabel="nats", xlim=(at[0], at[-1]), ylim=(floor, None))
    for axes in (top, ax):
        axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def forward_and_reverse(panels: dict[str, tuple], reach: float) -> Figure:
    """By title, a density (n, n) on [-reach, reach]², a row a z₁, and {label: (mean, cov)} of Gaussians, at 2σ."""
    figure = Figure((4.5 * len(panels), 5), layout="constrained")
    for ax, (title, (density, fits)) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels.items()):
        axis = np.linspace(-reach, reach, len(density))
        ax.contourf(axis, axis, density.T, levels=np.linspace(0.04, 1, 9) * density.max(), cmap="Greys", alpha=0.7)
        for i, (label, (mean, cov)) in enumerate(fits.items()):
            ax.plot(*_ellipse(mean, cov), color=f"C{i}", lw=2, label=f"{label}, at 2σ")
            ax.plot(*mean, "+x"[i % 2], color=f"C{i}", mew=2)
        ax.set(title=title, xlabel="z₁", ylabel="z₂", aspect="equal", xlim=(-reach, reach), ylim=(-reach, reach))
    figure.legend(*ax.get_legend_handles_labels(), frameon=False, loc="outside lower center", ncols=len(fits))
    return figure


def gradient_variance(mu: np.ndarray, theory: dict, some: np.ndarray, measured: dict, bars: dict) -> Figure:
    """Variances by estimator: left, `theory` at mu, `measured` at `some`; right, bars {where: {estimator: value}}."""
    figure = Figure((10, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    for i, name in enumerate(theory):
        left.plot(mu, theory[name], color=f"C{i}", label=name)
        left.plot(some, measured[name], "o", color=f"C{i}", ms=5)
    left.set(yscale="log", xlabel="μ", ylabel="variance of one draw's gradient in μ",
             title="f = z², z ~ N(μ, 1): formula (line), measured (dots)")
    left.legend(frameon=False)
    width = 0.8 / len(bars)
    for i, (where, values) in enumerate(bars.items()):
        places = np.arange(len(values)) + (i - (len(bars) - 1) / 2) * width
        drawn = right.bar(places, values.values(), width, label=where, color=("0.75", "0.35")[i % 2])
        right.bar_label(drawn, [f"$10^{{{np.log10(v):.1f}}}$" for v in values.values()], fontsize="small")
    right.set(yscale="log", ylabel="variance, summed over the weights", title="ELBO of logistic regression on digits")
    right.set_xticks(range(len(values)), values)
    right.margins(y=0.12)
    right.legend(frameon=False)
    return figure


def posterior_over_samples(samples: np.ndarray, fits: dict, pairs: list[tuple], names: list[str]) -> Figure:
    """Draws (n, d) of a posterior, and {label: (mean, cov)} of Gaussians at 2σ over them, in pairs of coordinates.

    Last, of each coordinate, the Gaussian's standard deviation over that of the draws.
    """
    figure = Figure((4 * len(pairs) + 4, 4.4), layout="constrained")
    *axes, last = figure.subplots(1, len(pairs) + 1)
    for ax, pair in zip(axes, map(list, pairs)):
        ax.plot(*samples[:, pair].T, ".", color="0.6", ms=2, alpha=0.5, label="HMC draws", rasterized=True)
        for i, (label, (mean, cov)) in enumerate(fits.items()):
            ax.plot(*_ellipse(mean[pair], cov[np.ix_(pair, pair)]), color=f"C{i}", lw=2, label=f"{label}, 2σ")
        ax.set(xlabel=names[pair[0]], ylabel=names[pair[1]])
    for i, (label, (_, cov)) in enumerate(fits.items()):
        last.plot(np.sqrt(np.diag(cov)) / samples.std(axis=0), names, "o", color=f"C{i}")
    last.axvline(1, color="0.6")
    last.set(xlim=(0, 1.2), xlabel="σ of the fit / σ of the draws")
    last.invert_yaxis()
    last.grid(axis="y", alpha=0.3)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, frameon=False, loc="outside lower center", ncols=len(labels), markerscale=5)
    return figure


def _ellipse(mean, cov, sigma=2):
    """The points (2, 200) at `sigma` standard deviations of a Gaussian in the plane."""
    angle = np.linspace(0, 2 * np.pi, 200)
    return np.asarray(mean)[:, None] + sigma * np.linalg.cholesky(cov) @ [np.cos(angle), np.sin(angle)]


def noise_vanishes(points: np.ndarray, target: np.ndarray, shown: dict[float, np.ndarray],
                   distance: list[float]) -> Figure:
    """Points (N, 2), and for three noise variances where PPCA puts them, against PCA's `target`; last, how far off."""
    figure = Figure((12, 3.2), layout="constrained")
    *axes, last = figure.subplots(1, 4)
    for ax, (noise, projected) in zip(axes, shown.items()):
        ax.add_collection(LineCollection(np.stack([points, projected], axis=1), color="0.8", lw=0.7, zorder=0))
        ax.plot(*points.T, ".", color="0.6", ms=3, label="x")
        ax.plot(*target.T, "o", color="C0", ms=5, mfc="none", mew=0.6, alpha=0.6, label="PCA")
        ax.plot(*projected.T, ".", color="C1", ms=3, label="W E[z | x] + μ")
        ax.set(title=f"s² = {noise:.2g}", xticks=[], yticks=[])
        ax.set_aspect("equal", adjustable="datalim")
    axes[0].legend(frameon=False, markerscale=1.5, loc="upper left", fontsize="small")
    last.loglog(list(shown), distance, "o-", ms=4)
    last.set(xlabel="s²", title="largest distance from PCA")
    last.invert_xaxis()
    last.grid(alpha=0.3)
    return figure


def climb(traces: dict[str, list[float]], best: float, name: str) -> Figure:
    """Likelihoods by iteration of EM, by title, and how far each is below the `best`, which is called `name`."""
    figure = Figure((8.5, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    for (label, trace), dash in zip(traces.items(), ("-", "--", "-", "--")):
        left.plot(trace, dash, label=label)
        right.semilogy(np.maximum(best - np.array(trace), 1e-12), dash)
    left.axhline(best, color="k", ls="--", lw=1, label=name)
    longest = max(traces.values(), key=len)
    low = longest[len(longest) // 40]                              # the first steps, hundreds of nats, are on the right
    left.set(title="mean ln p(x), nats", xlabel="iteration", ylim=(low, best + 0.1 * (best - low)))
    left.legend(frameon=False, loc="lower right")
    right.set(title=f"nats below {name}", xlabel="iteration")
    right.grid(alpha=0.3)
    return figure


def mixture_of_planes(means: np.ndarray, W: np.ndarray, shape: tuple = (28, 28)) -> Figure:
    """A row for each component: its mean (K, D), and one σ to either side along two of its directions W (K, D, q)."""
    figure = Figure((5.2, 0.82 * len(means)), layout="constrained")
    headings = ["mean", "− w₁", "+ w₁", "− w₂", "+ w₂"]
    for k, row in enumerate(figure.subplots(len(means), 5, squeeze=False)):
        steps = means[k] + np.outer([0, -1, 1, 0, 0], W[k, :, 0]) + np.outer([0, 0, 0, -1, 1], W[k, :, 1])
        for ax, image, heading in zip(row, steps, headings):
            ax.imshow(image.reshape(shape), cmap="gray_r", vmin=0, vmax=1, interpolation="nearest")
            ax.set(xticks=[], yticks=[], title=heading if k == 0 else "")
            ax.spines[:].set_visible(False)
    return figure


def traversals(model, z: np.ndarray, latents: np.ndarray, shape: tuple, steps: int = 7) -> Figure:
    """What becomes of the code z (d,) when one of its `latents`, a row each, goes from -2.5 to 2.5."""
    rows = np.tile(z, (len(latents), steps, 1))
    for row, j in zip(rows, latents):
        row[:, j] = np.linspace(-2.5, 2.5, steps)
    images = np.asarray(model.decode(rows.reshape(-1, len(z))).mean)
    labels = [f"z{j + 1}" for j in latents]
    figure = image_grid(images, steps, "one latent a row, from −2.5 to 2.5", shape, labels=labels)
    figure.axes[0].set_facecolor("0.8")                            # between white images: where in them is something?
    return figure


def kl_per_latent(kl: dict[str, np.ndarray]) -> Figure:
    """Nats that each latent uses, (d,), largest first, by model; more than five models take two rows."""
    rows = 1 if len(kl) <= 5 else 2
    columns = -(-len(kl) // rows)
    figure = Figure((2.6 * columns, 2.8 * rows), layout="constrained")
    for ax, (name, values) in zip(figure.subplots(rows, columns, sharey=True, squeeze=False).flat, kl.items()):
        ax.bar(range(1, len(values) + 1), np.sort(values)[::-1])
        ax.set(title=f"{name}: {values.sum():.1f} nats", xlabel="latent, by KL", xticks=[1, len(values)])
    for ax in figure.axes[::columns]:
        ax.set_ylabel("KL, nats")
    return figure


def tradeoff(points: dict[str, tuple]) -> Figure:
    """Reconstruction against disentanglement: by model, two arrays (seeds,), drawn as means with standard errors."""
    figure = Figure((6.5, 4.2), layout="constrained")
    ax = figure.add_subplot(xlabel="E ln p(x | z), nats an image", ylabel="MIG, mutual information gap")
    for i, (name, (recon, gap)) in enumerate(points.items()):
        x, y = (np.mean(v) for v in (recon, gap))
        dx, dy = (np.std(v, ddof=1) / len(v) ** 0.5 for v in (recon, gap))
        ax.errorbar(x, y, dy, dx, "o", color=f"C{i}", capsize=3, label=name)
        ax.plot(recon, gap, ".", color=f"C{i}", alpha=0.4)
    ax.set_title("what β buys, and what it costs: means ± standard errors over seeds")
    ax.grid(alpha=0.3)
    ax.legend(frameon=False)
    return figure


def rate_distortion(models: dict[str, list], linear: list, curve: tuple) -> Figure:
    """(R, D) of `models`, a list of points by label; of `linear` ones, beside their optima on the `curve` (R, D)."""
    figure = Figure((10, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    for i, (name, found) in enumerate(models.items()):
        left.plot(*np.transpose(found), "o", color=f"C{i}", label=name)
    left.set(title="sprites, an MLP decoder: points of single runs")
    right.plot(*curve, "k-", lw=1, label="reverse water-filling")
    for i, (name, point, exact) in enumerate(linear):
        right.plot(*point, "o", color=f"C{i + 4}", label=name)
        right.plot(*exact, "o", color=f"C{i + 4}", mfc="none", ms=11)
    right.plot([], [], "o", color="0.5", mfc="none", ms=11, label="their optima")
    right.set(title="sprites, a linear decoder with Gaussian noise")
    for ax in (left, right):
        ax.set(xlabel="rate R, nats", ylabel="distortion D, nats")
        ax.grid(alpha=0.3)
        ax.legend(frameon=False)
    return figure


def _cloud(ax, points, reach, **options):
    """Points (N, 2) in a square without ticks."""
    dots = ax.scatter(*np.asarray(points).T, **{"s": 2, "lw": 0, "alpha": 0.5, "color": "C0"} | options)
    ax.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal", xticks=[], yticks=[])
    return dots


def clouds(rows: dict[str, np.ndarray], titles: list[str], reach: float = 2.6) -> Figure:
    """By the label of its row, a series of clouds (P, N, 2), one for each of the P titles."""
    figure = Figure((1.6 * len(titles), 1.65 * len(rows) + 0.25), layout="constrained")
    axes = figure.subplots(len(rows), len(titles), squeeze=False)
    for row, (label, series) in zip(axes, rows.items()):
        row[0].set_ylabel(label)
        for ax, points in zip(row, series):
            _cloud(ax, points, reach)
    for ax, title in zip(axes[0], titles):
        ax.set_title(title, fontsize=9)
    return figure


def film(path: str | Path, series: np.ndarray, titles: list[str], reach: float = 2.6, seconds: float = 6) -> Path:
    """Write clouds (F, N, 2) as an animated GIF, a frame each, which holds on the last."""
    figure = Figure((3.2, 3.4), layout="constrained")
    ax = figure.add_subplot()
    dots, rate = _cloud(ax, series[0], reach), len(series) / seconds
    frames = [*range(len(series)), *[len(series) - 1] * int(rate)]

    def draw(i):
        dots.set_offsets(series[i])
        ax.set_title(titles[i], fontsize=9, family="monospace")
        return dots,
    with tempfile.TemporaryDirectory() as folder, atomic(path) as file:
        FuncAnimation(figure, draw, frames).save(f"{folder}/film.gif", writer=PillowWriter(fps=rate), dpi=90)
        file.write(Path(folder, "film.gif").read_bytes())
    return Path(path)


def score_fields(at: np.ndarray, panels: dict[str, tuple], reach: float) -> Figure:
    """Arrows (M, 2) at the points `at`: by title, the true ones, the learned ones over them, and points (N, 2)."""
    figure = Figure((3.6 * len(panels), 4.4), layout="constrained")
    for ax, (title, (true, learned, points)) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels.items()):
        _cloud(ax, points, reach, color="0.75")
        length = np.linalg.norm(true, axis=1, keepdims=True)
        for arrows, color, width, label in ((true, "0.2", 0.011, "true"), (learned, "C1", 0.005, "learned")):
            arrows = arrows / np.sqrt(length * np.quantile(length, 0.9))           # long ones are shortened, both alike
            ax.quiver(*at.T, *arrows.T, color=color, width=width, scale=16, label=label)
        ax.set_title(title, fontsize=10)
    figure.legend(*ax.get_legend_handles_labels(), frameon=False, loc="outside lower center", ncols=2)
    return figure


def quality_by_steps(curves: dict[str, dict[int, float]], floor: float, name: str) -> Figure:
    """By sampler, {steps: distance of its samples from data}, and the `floor`: that between two sets of data."""
    figure = Figure((5.2, 3.4), layout="constrained")
    ax = figure.add_subplot(xlabel="network evaluations a sample", ylabel=name, xscale="log", yscale="log")
    for label, curve in curves.items():
        ax.plot(list(curve), list(curve.values()), ".-", label=label)
    ax.axhline(floor, color="0.6", ls="--", label="data and other data")
    for axis in (ax.xaxis, ax.yaxis):                              # 5, 10, 20, not 5 x 10^0
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter("{x:g}")
        axis.set_minor_formatter("")
    ax.legend(frameon=False)
    return figure


def densities(rows: dict[str, list], reach: float) -> Figure:
    """By label, a row of (title, density, lines), both (n, n) on [-reach, reach]², a row a z₁; lines may be None."""
    columns = max(map(len, rows.values()))
    figure = Figure((2.1 * columns, 2.25 * len(rows)), layout="constrained")
    for axes, (label, panels) in zip(figure.subplots(len(rows), columns, squeeze=False), rows.items()):
        axes[0].set_ylabel(label)
        for ax, (title, density, lines) in zip(axes, panels):
            ax.imshow(density.T, cmap="Greys", origin="lower", extent=[-reach, reach] * 2)
            if lines is not None:
                axis, levels = np.linspace(-reach, reach, len(lines)), lines.max() * np.array([0.05, 0.3, 0.7])
                ax.contour(axis, axis, lines.T, levels=levels, colors="C1", linewidths=1)
            ax.set_title(title, fontsize=9)
            ax.set(xticks=[], yticks=[])
    return figure


def code_use(shares: np.ndarray, bits: np.ndarray) -> Figure:
    """How often each of K codes is used, `shares` (K,), commonest first; and the bits that each place costs, (h, w)."""
    figure = Figure((8, 3.1), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1.6, 1))
    left.bar(range(1, len(shares) + 1), np.sort(shares)[::-1], width=1.0)
    left.axhline(1 / len(shares), color="k", ls="--", lw=1, label=f"all {len(shares)} alike")
    left.set(xlabel="code, by use", ylabel="share of use", title="the codes in use")
    left.legend(frameon=False)
    image = right.imshow(bits, cmap="viridis", vmin=0, vmax=np.log2(len(shares)))
    right.set(title=f"bits by the prior: {bits.sum():.0f} in all", xticks=[], yticks=[])
    figure.colorbar(image, ax=right, label=f"bits a code, of log₂ {len(shares)}")
    return figure


def codes(models: dict[str, np.ndarray], labels: np.ndarray, reach: float) -> Figure:
    """By model, codes (N, 2) coloured by integer label, with the prior's one- and two-sigma circles."""
    figure = Figure((4.2 * len(models) + 0.8, 4.4), layout="constrained")
    for ax, (name, z) in zip(figure.subplots(1, len(models), squeeze=False)[0], models.items()):
        dots = _by_label(ax, z, labels, s=2, alpha=0.5)
        ax.set(title=f"{name}: z ~ q(z | x)", xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal")
    _legend(ax, dots, labels)
    return figure


def log_ratio(truth: np.ndarray, read: np.ndarray, exact: np.ndarray, logit: np.ndarray, reach: float) -> Figure:
    """ln p/q̄ and a critic's logit on a square grid (n², ), a row a z₁, in [-reach, reach]²; and at codes, (N,)."""
    figure = Figure((11.5, 3.6), layout="constrained")
    *maps, last = figure.subplots(1, 3)
    for ax, title, values in zip(maps, ("ln p(z)/q̄(z)", "the critic's logit"), (truth, read)):
        side = round(len(values) ** 0.5)
        shown = ax.imshow(values.reshape(side, side).T, extent=(-reach, reach, -reach, reach), origin="lower",
                          cmap="RdBu", vmin=-3, vmax=3)
        ax.set(title=title, xlabel="z₁", ylabel="z₂")
    figure.colorbar(shown, ax=maps, extend="both", label="codes  ←  nats  →  prior")
    low, high = np.quantile(exact, [0.005, 0.995])
    last.plot(exact, logit, ".", ms=2, alpha=0.4, rasterized=True)
    last.plot([low, high], [low, high], "k--", lw=1)
    last.set(title="at the codes", xlabel="ln p(z)/q̄(z)", ylabel="logit", xlim=(low, high))
    return figure


def game(rows: list[dict]) -> Figure:
    """What the players of a VAE-GAN lose over the epochs, from the rows that `train.fit` returns."""
    figure = Figure((11, 3), layout="constrained")
    axes, epochs = figure.subplots(1, 3), [row["epoch"] for row in rows]
    panels = ("the critic, and the decoder that would fool it", "the encoder: −ln p(f | z)", "the encoder: KL")
    for ax, title, names in zip(axes, panels, (("critic", "fooling"), ("unlikeness",), ("kl",))):
        for name in names:
            ax.plot(epochs, [row[name] for row in rows], ".-", label=name)
        ax.set(title=title, xlabel="epoch", ylabel="nats an image")
        ax.grid(alpha=0.3)
    axes[0].axhline(2 * np.log(2), color="C0", ls="--", lw=1, label="a critic that knows nothing")
    axes[0].legend(frameon=False, loc="center right")
    return figure


def paradigms(columns: list[str], rows: dict[str, list[dict]], reach: float) -> Figure:
    """By data set a row, by kind of model a column: what it draws, over its density or its score if it has one.

    A cell has points (N, 2), or images (N, h, w), of which the first 25 are shown, and a caption; perhaps a density
    (n, n) on [-reach, reach]², a row an x₁, or arrows, both (M, 2): where, and what the score is there.
    """
    figure = Figure((2.0 * len(columns), 2.25 * len(rows) + 0.25), layout="constrained")
    grid = figure.subplots(len(rows), len(columns), squeeze=False)
    for axes, (label, cells) in zip(grid, rows.items()):
        axes[0].set_ylabel(label.replace("_", " "))
        for ax, cell in zip(axes, cells):
            ax.set_xlabel(cell["caption"], fontsize=8)
            if np.ndim(cell["points"]) == 3:
                ax.imshow(mosaic(cell["points"][:25], 5, gap=1), cmap="gray_r", vmin=0, vmax=1)
                ax.set(xticks=[], yticks=[])
                continue
            if "density" in cell:                                  # its root: faint bridges are what one looks for
                shade = cell["density"].T ** 0.5
                ax.imshow(shade, cmap="Blues", origin="lower", extent=[-reach, reach] * 2, vmin=0,
                          vmax=np.quantile(shade, 0.995))          # one estimate far too high would blank the rest
            if "arrows" in cell:
                at, arrows = cell["arrows"]
                arrows = arrows / np.sqrt(np.linalg.norm(arrows, axis=1, keepdims=True) + 1e-9)
                ax.quiver(*at.T, *arrows.T, color="C0", alpha=0.6, width=0.008, scale=20 * np.abs(arrows).max())
            _cloud(ax, cell["points"], reach, color="0.1", s=1.2, alpha=0.5)
    for ax, title in zip(grid[0], columns):
        ax.set_title(title, fontsize=11)
    return figure
