"""A window on a trained VAE: sliders over its latents, the image that they decode to, and a map of the codes of images.

    z = m + s u,  where p(z), or p(z | y) of a CVAE, is N(m, s²), so that u ~ N(0, I), whatever the label

What is moved is u: with u held, another label y shows the same style in another class. A prior that is no Gaussian
leaves u = z. It is a matplotlib figure with widgets: it needs a canvas that has events, and lives while it is kept.
"""
import numpy as np
from matplotlib.figure import Figure
from matplotlib.widgets import Button, Slider

from autograd import no_grad

from .distributions import Normal
from .runs import Run
from .vae import CVAE

SLIDERS, REACH = 10, 4.0


class Explorer:
    """In `figure`, the codes of images x (N, D) and their `labels` (N,), if there are any; and what a code decodes to.

    u (d,), y  the code, and of a CVAE its label in a list, that are shown now: `move` changes them
    sliders    by latent, of those that tell the images apart; on_map, the two of them that the map has as axes
    """

    @no_grad()
    def __init__(self, figure: Figure, run: Run, x: np.ndarray, labels: np.ndarray | None, rng: np.random.Generator):
        self.figure, self.model, self.picture = figure, run.model, run.picture
        self.y = [0] if isinstance(run.model, CVAE) else None
        q = self.model.encode(x, *self.given(labels))
        m, s = self.prior(labels)
        z = q.push(q.base.mean)[0] if hasattr(q, "push") else q.mean                       # through a flow, if any
        codes = (np.asarray(z) - m) / s
        order = np.argsort(-codes.var(axis=0))[:SLIDERS]           # the latents that tell images apart come first
        i, j = self.on_map = order[0], order[min(1, len(order) - 1)]                       # of one latent, that twice
        self.u = np.zeros(codes.shape[1], codes.dtype)
        self.map, image = (figure.add_axes((left, 0.11, wide, 0.8)) for left, wide in ((0.05, 0.36), (0.72, 0.27)))
        colours = None if labels is None else "tab10"
        self.map.scatter(codes[:, i], codes[:, j], 5, labels, cmap=colours, alpha=0.6, linewidths=0)
        self.cross, = self.map.plot(0, 0, "k+", ms=18, mew=2)
        self.map.set(title="codes of images: click, or drag", xlabel=f"u{i}", ylabel=f"u{j}", aspect="equal",
                     xlim=(-REACH, REACH), ylim=(-REACH, REACH))
        low, high = (0, 1) if self.model.likelihood == "bernoulli" else (x.min(), x.max())
        self.image = image.imshow(self.decode(), "gray_r" if run.ink else "gray", vmin=low, vmax=high)
        image.set(title="E[x | z]", xticks=[], yticks=[])
        rows = (figure.add_axes((0.47, 0.86 - 0.066 * k, 0.16, 0.045)) for k in range(len(order) + 2))
        self.sliders = {i: Slider(next(rows), f"u{i}", -REACH, REACH, valinit=0, valfmt="%+.1f") for i in order}
        for i, slider in self.sliders.items():
            slider.on_changed(lambda value, i=i: self.move({i: value}))
        self.button = Button(next(rows), "u ~ N(0, I)")
        self.button.on_clicked(lambda event: self.move(dict(enumerate(self.model.draw(1, rng)[0]))))
        if self.y:
            self.label = Slider(next(rows), "y", 0, self.model.condition_dim - 1, valinit=0, valstep=1)
            self.label.on_changed(lambda value: self.move({}, int(value)))
        for event in ("button_press_event", "motion_notify_event"):
            figure.canvas.mpl_connect(event, self.point)

    def given(self, y):
        return () if self.y is None else (np.asarray(y),)

    def prior(self, y):
        """m and s; 0 and 1 of a prior that is no Gaussian, where u is z."""
        p = self.model.prior(*self.given(y))
        return (np.asarray(p.mean), np.exp(np.asarray(p.logvar) / 2)) if isinstance(p, Normal) else (0, 1)

    @no_grad()
    def decode(self) -> np.ndarray:
        """The mean of p(x | z), (h, w), at z = m + s u."""
        m, s = self.prior(self.y)
        p = self.model.decode((m + s * self.u).reshape(1, -1), *self.given(self.y))
        return np.asarray(p.mean).reshape(self.picture)

    def point(self, event):
        """The mouse is on the map, its button down: decode there, the other latents as they are."""
        if event.inaxes is self.map and event.button == 1 and not self.figure.canvas.widgetlock.locked():
            self.move(dict(zip(self.on_map, (event.xdata, event.ydata))))

    def move(self, values: dict[int, float], label: int | None = None):
        """Some latents, or the label, have new values: show what that decodes to, on sliders and map too."""
        self.y = self.y if label is None else [label]
        for i, value in values.items():
            self.u[i] = value = float(np.clip(value, -REACH, REACH))
            if i in self.sliders and self.sliders[i].val != value:
                self.sliders[i].set_val(value)
        self.cross.set_data(*([self.u[i]] for i in self.on_map))
        self.image.set_data(self.decode())
        self.figure.canvas.draw_idle()
