"""MADE in numbers: the test digits, bit by bit, by one masked hidden layer. Four minutes: it runs only when named."""
import contextlib
import io

import numpy as np

from autograd import optim
from minivae.data import Batches, binarise, mnist
from minivae.paradigms import MADE
from minivae.train import fit


def made(contest, epochs=50, width=2000, checkpoint=None):
    """-ln p(x) of the test digits, binarised once, and the minutes of training, on digits binarised anew each epoch.

    Germain et al. 2015 report 88.04 nats with 8,000 units and 32 masks, on another binarisation. With the path of a
    checkpoint the training is kept there, and goes on from it.
    """
    rng, x = np.random.default_rng(0), binarise(mnist("test").images, np.random.default_rng(1))
    model, batches = MADE(784, (width,), order="random", rng=rng), Batches(mnist("train").images, 128, binarise=True)
    optimizer = optim.Adam(model.parameters(), optim.warmup_cosine(1e-3, 200, epochs * len(batches)))
    with contextlib.redirect_stdout(io.StringIO()):
        rows = fit(model, batches, epochs=epochs, optimizer=optimizer, rng=rng, checkpoint=checkpoint, resume=True)
    nll = np.concatenate([-model.log_prob(part).data for part in np.array_split(x, 20)])
    seconds, error = sum(row["seconds"] for row in rows), nll.std() / len(nll) ** 0.5
    return [("MADE, one hidden layer: -ln p(x) of the test digits", float(nll.mean()), 92.0,
             f"nats, +- {error:.2f}; {epochs} epochs, {width:,} units"),
            ("minutes of that training, over 15", seconds / 900, 1.0, f"{seconds:.0f} s of steps")]


SLOW = (made,)
