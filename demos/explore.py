"""The latent explorer: sliders over z, the decoded image beside them; click on the map of codes to decode there.

python -m demos explore DIR looks into a run of `python -m minivae train`; without DIR, into a small VAE of digits.
"""
# %% Setup
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.backend_bases import MouseEvent

from autograd import optim
from demos import options
from minivae import plots, runs
from minivae.data import Batches, binarise, mnist
from minivae.data.batches import as_floats
from minivae.explorer import Explorer
from minivae.train import fit

TIME = "under 1 min"
EPOCHS, CODES, DIGITS = 10, 3000, 60_000
args = options("explore", run=dict(type=Path, nargs="?", metavar="DIR", help="folder of a run (default: train one)"))
rng = np.random.default_rng(args.seed)
if args.quick:
    EPOCHS, DIGITS = 3, 10_000
    plt.switch_backend("agg")                                      # no window: the picture is written, and that is all

# %% A run, or a VAE of two latents trained now; and the codes of some images that it was not trained on
try:
    if args.run:
        run = runs.load(args.run)
    else:
        config = {"model": "vae", "settings": runs.DEFAULTS | {"latent_dim": 2, "binarise": True}, "shape": [1, 28, 28]}
        run = runs.Run(runs.build(config, rng), config)
        batches = Batches(mnist("train").images[:DIGITS], 128, binarise=True)
        print(f"training {run.model.describe()}, as no run was named")
        fit(run.model, batches, epochs=EPOCHS, optimizer=optim.Adam(run.model.parameters(), 2e-3), rng=rng)
    x, *labels = (a[:CODES] for a in run.data("test"))
except ValueError as error:
    sys.exit(f"error: {error}")
if run.config["settings"]["data"] == "mnist":
    x, labels = binarise(x, rng) if run.config["settings"]["binarise"] else x, [mnist("test").labels[:CODES]]
x = as_floats(x, np.float32).reshape(len(x), -1)
explorer = Explorer(plt.figure(figsize=(11, 4.6)), run, x, labels[0] if labels else None, rng)

# %% The demo judges itself: a click on the map decodes there
where = (1.0, -1.0)
click = MouseEvent("button_press_event", explorer.figure.canvas, *explorer.map.transData.transform(where), button=1)
explorer.figure.canvas.callbacks.process("button_press_event", click)
assert np.allclose([explorer.u[i] for i in explorer.on_map], where), f"a click went to {explorer.u}"
assert np.array_equal(explorer.image.get_array(), explorer.decode()), "the image is not that of u"
print("wrote", plots.save(explorer.figure, args.out / "explorer.png"))
if plt.get_backend().lower() == "agg":
    print("no window here: on a screen, without --quick, one opens")
else:
    plt.show()
