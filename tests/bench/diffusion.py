"""How good the samples of diffusion are. These benches train for many minutes, and run only when they are named.

Each function takes a Contest, and returns rows: what, value, target, detail.
"""
import contextlib
import io

import numpy as np

from autograd import optim
from minivae.data import TOYS, Batches, mnist
from minivae.diffusion import DDPM, MLPDenoiser, Schedule, UNet
from minivae.metrics import accuracy, frechet_digits, mmd, to_unit
from minivae.train import fit
from minivae.vae import CVAE, VAE

from .family import trained

SCHEDULE, STEPS = Schedule.cosine(1000), 50  # of DDIM


def averaged(model, batches, epochs, rng, lr, decay, **options):
    """The model with the average of its weights, trained as the demos do."""
    optimizer = optim.Adam(model.parameters(), optim.warmup_cosine(lr, 90, epochs * len(batches)))
    average = optim.EMA(model.parameters(), decay)
    with contextlib.redirect_stdout(io.StringIO()):
        fit(model, batches, epochs=epochs, optimizer=optimizer, ema=average, rng=rng, **options)
    average.apply()
    return model


def toys(contest, epochs=150, n=5000):
    """How far the 2-D demo's samples are from data, as a multiple of what chance brings."""
    rows = []
    for name in ("spirals", "eight_gaussians"):
        toy, rng = TOYS[name], np.random.default_rng(0)
        model = averaged(DDPM(MLPDenoiser(2, 4 * (128,), rng=rng), Schedule.cosine(200), clip=2.5),
                         Batches(toy(50_000, rng), 256), epochs, rng, 3e-3, 0.995)
        with contextlib.redirect_stdout(io.StringIO()):
            x = model.sample(n, rng)
        data, more = toy(n, rng), toy(n, rng)
        rows.append((f"{name}: MMD of {n:,} samples from data / by chance", mmd(x, data).ratio, 1.5,
                     f"other data {mmd(more, data).ratio:.2f}"))
    return rows


def digits(contest, epochs=5, n=1000, checkpoint=None):
    """The demo's guided digits: are they what was asked for, and how far from the test digits, beside VAE and CVAE?

    With the path of a checkpoint, such as the demo's run.npz, the training is kept there, and goes on from it.
    """
    train, wanted, rng = mnist("train"), np.arange(n) % 10, np.random.default_rng(0)
    x = train.images[:, None] / np.float32(127.5) - 1
    ddpm = averaged(DDPM(UNet((1, 28, 28), channels=16, multipliers=(1, 2, 2), num_classes=10, rng=rng), SCHEDULE),
                    Batches(x, 64, labels=train.labels), epochs, rng, 2e-3, 0.999, checkpoint=checkpoint, resume=True)
    sizes = dict(latent_dim=4, hidden=(400, 400), rng=rng)
    vae = trained(VAE(784, **sizes), Batches(train.images, 128, binarise=True), 10)
    cvae = trained(CVAE(784, 10, prior_hidden=(100,), **sizes),
                   Batches(train.images, 128, binarise=True, labels=train.labels), 10)
    with contextlib.redirect_stdout(io.StringIO()):
        drawn = {"DDPM, guided": to_unit(ddpm.sample(n, rng, y=wanted, guidance=2.0, steps=STEPS)),
                 "DDPM": to_unit(ddpm.sample(n, rng, y=wanted, steps=STEPS)),
                 "VAE": vae.sample(n, rng), "CVAE": cvae.sample(wanted, rng)}
    d2 = {name: frechet_digits(images) for name, images in drawn.items()}
    return [("guided digits read as another class", 1 - accuracy(drawn["DDPM, guided"], wanted), 0.05,
             f"of {n:,}; without guidance {1 - accuracy(drawn['DDPM'], wanted):.3f}, "
             f"of CVAE's {1 - accuracy(drawn['CVAE'], wanted):.3f}"),
            ("Frechet distance of digits: DDPM / CVAE", d2["DDPM"] / d2["CVAE"], 1.0, ", ".join(
                f"{name} {v:.1f}" for name, v in d2.items()) + f"; digits {frechet_digits(train.images[:n]):.1f}")]


SLOW = toys, digits
