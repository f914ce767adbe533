"""Diffusion in numbers: steps, memory and samples beside PyTorch's and JAX's; and how good the samples are.

Each function takes the number of rounds and the `medians` of the report, and returns rows: what, value, target, detail.
The slow ones, `toys` and `digits`, run only when they are named.
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

from . import denoisers
from .family import trained

SCHEDULE = Schedule.cosine(1000)
IMAGES = np.random.default_rng(0).uniform(-1, 1, (64, 1, 28, 28)).astype(np.float32)
STEPS = 50                                   # of DDIM

# Processes that print their peak before the model is made, and after five steps.
MEMORY = {
    "ours": ("import numpy as np; from autograd import optim; from minivae.diffusion import DDPM, Schedule, UNet\n",
             "rng = np.random.default_rng(0); x = rng.uniform(-1, 1, (64, 1, 28, 28)).astype(np.float32)\n"
             "model = DDPM(UNet((1, 28, 28), channels=32, multipliers=(1, 2, 2), rng=rng), Schedule.cosine(1000))\n"
             "optimizer = optim.Adam(model.parameters(), 1e-3)\n"
             "for _ in range(5):\n"
             "    loss, _ = model.loss(x, rng); optimizer.zero_grad(); loss.backward(); optimizer.step()\n"),
    "PyTorch": ("import numpy as np, torch; from tests.bench.denoisers import torch_step, torch_unet\n",
                "x = np.random.default_rng(0).uniform(-1, 1, (64, 1, 28, 28)).astype(np.float32)\n"
                "step = torch_step(torch_unet(), x, np.linspace(1, 0, 1002)[1:-1])\n"
                "for _ in range(5): step()\n")}


def unet():
    return DDPM(UNet((1, 28, 28), channels=32, multipliers=(1, 2, 2), rng=np.random.default_rng(0)), SCHEDULE)


def ours(model, x):
    """A step of training."""
    rng, optimizer = np.random.default_rng(0), optim.Adam(model.parameters(), 1e-3)

    def step():
        loss, _ = model.loss(x, rng)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return step


def compared(what, makers, targets, rounds, medians):
    """Rows of ratios: `makers` by name, of which those whose package is missing are left out."""
    found = {}
    for name, make in makers.items():
        try:
            found[name] = make()
        except ImportError as error:
            print(f"  without {name}: {error}")
    times = medians(found, rounds)
    return [(f"{what}: ours / {peer}", times["ours"] / times[peer], target,
             f"{times['ours'] * 1e3:.3g} / {times[peer] * 1e3:.3g} ms")
            for peer, target in targets.items() if peer in times]


def unet_step(rounds, medians):
    """28 x 28, batch 64, channels 32, multipliers 1-2-2."""
    return compared("U-Net train step, 28x28, batch 64", {
        "ours": lambda: ours(unet(), IMAGES),
        "PyTorch eager": lambda: denoisers.torch_step(denoisers.torch_unet(), IMAGES, SCHEDULE.alpha_bar)},
        {"PyTorch eager": 0.8}, min(rounds, 5), medians)


def mlp_step(rounds, medians):
    x = TOYS["spirals"](256, np.random.default_rng(0))
    return compared("MLP denoiser train step, 3 x 128, batch 256", {
        "ours": lambda: ours(DDPM(MLPDenoiser(2, (128, 128, 128), rng=np.random.default_rng(0)), SCHEDULE), x),
        "JAX jit": lambda: denoisers.jax_mlp_step(x, SCHEDULE.alpha_bar),
        "PyTorch eager": lambda: denoisers.torch_step(denoisers.torch_mlp(), x, SCHEDULE.alpha_bar)},
        {"JAX jit": 1.0, "PyTorch eager": 0.4}, rounds, medians)


def sampling(rounds, medians):
    def quietly():
        model, rng = unet(), np.random.default_rng(0)

        def sample():
            with contextlib.redirect_stdout(io.StringIO()):
                model.sample(64, rng, steps=STEPS, eta=0.0)
        return sample
    return compared("64 digits, 50 DDIM steps", {
        "ours": quietly,
        "PyTorch": lambda: denoisers.torch_ddim(denoisers.torch_unet(), (64, 1, 28, 28), SCHEDULE.alpha_bar, STEPS)},
        {"PyTorch": 1.0}, min(rounds, 3), medians)


def unet_memory(rounds, medians):
    from .__main__ import PEAK, child                              # here, for it is the one that imports this module
    peaks = {}
    for name, (imports, steps) in MEMORY.items():
        try:
            peaks[name] = child(f"{imports}{PEAK}\n{steps}{PEAK}")
        except RuntimeError as error:
            print(f"  without {name}: {error}")
    (before, after), (peer_before, peer_after) = peaks["ours"], peaks.get("PyTorch", [np.nan] * 2)
    return [("U-Net train step, peak memory: ours / PyTorch", after / peer_after, 1.0,
             f"{after:.0f} / {peer_after:.0f} MB, "
             f"without the imports {after - before:.0f} / {peer_after - peer_before:.0f}")]


def averaged(model, batches, epochs, rng, lr, decay, **options):
    """The model with the average of its weights, trained as the demos do."""
    optimizer = optim.Adam(model.parameters(), optim.warmup_cosine(lr, 90, epochs * len(batches)))
    average = optim.EMA(model.parameters(), decay)
    with contextlib.redirect_stdout(io.StringIO()):
        fit(model, batches, epochs=epochs, optimizer=optimizer, ema=average, rng=rng, **options)
    average.apply()
    return model


def toys(rounds, medians, epochs=150, n=5000):
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


def digits(rounds, medians, epochs=5, n=1000, checkpoint=None):
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


BENCHES = unet_step, mlp_step, sampling, unet_memory
