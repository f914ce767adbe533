"""Kinds of generative model on the same data: what each draws, what it can do, and what it costs.

Explicit and exact (RealNVP; for digits, as bits, MADE), explicit with a bound (VAE), implicit (GAN), and the score,
which two samplers follow back to data: annealed Langevin steps and, with the same network, a DDPM.
"""
# %% Setup
import time

import numpy as np

from autograd import optim
from demos import options
from minivae import plots
from minivae.data import TOYS, Batches, binarise, mnist
from minivae.diffusion import DDPM, MLPDenoiser, UNet
from minivae.flows import Coupling, Flow
from minivae.metrics import frechet_digits, mmd
from minivae.paradigms import GAN, MADE, ScoreModel, noise_levels
from minivae.train import fit
from minivae.vae import VAE
from minivae.vae.gaps import grid

TIME = "3 to 4 min"
NAMES, SIDE, REACH, POINTS, DRAWN, STEPS, UNET_STEPS = ("eight_gaussians", "two_moons"), 81, 2.5, 2000, 100, 3000, 1400
args = options("paradigms")
rng, lines, far = np.random.default_rng(args.seed), [], {}
digits, test, bounds = mnist("train").images, mnist("test").images[:500], (4, 300)
if args.quick:
    SIDE, POINTS, DRAWN, STEPS, UNET_STEPS, digits, test, bounds = 21, 200, 9, 40, 4, digits[:512], test[:9], (1e3, 1e4)
CAN = {"RealNVP": "1 pass     exact   gradient  z", "MADE": "D passes   exact   -         -",
       "VAE": "1 pass     bound   -         q(z | x)", "GAN": "1 pass     -       -         -",
       "Langevin": "5 T passes -       learned   -", "DDPM": "T passes   bound   learned   -"}
LOG_P = {**dict.fromkeys(("RealNVP", "MADE"), lambda model, x: model.log_prob(x).data),
         "VAE": lambda model, x: model.log_likelihood(x, 200, rng),
         "DDPM": lambda model, x: -np.mean([model.vlb(x, rng).nats for _ in range(4)], axis=0)}


def trained(model, batches, steps, lr):
    """The model with the average of its weights, and the seconds that it took."""
    print("training", model.describe(), flush=True)
    start, epochs, average = time.perf_counter(), -(-steps // len(batches)), optim.EMA(model.parameters(), 0.99)
    slow, fast = (optim.warmup_cosine(rate, 20, epochs * len(batches) + 21) for rate in (lr, 3 * lr))
    optimizer = model.optimizer(slow, fast) if isinstance(model, GAN) else optim.Adam(model.parameters(), slow)
    fit(model, batches, epochs=epochs, optimizer=optimizer, ema=average, rng=rng)
    average.apply()
    return model, time.perf_counter() - start


def compared(data, models, draw, distance, test, word="MMD"):
    """A cell of the figure for each of `models`, {kind: (model, seconds)}, and a line of the table."""
    cells = []
    for kind, (model, seconds) in models.items():
        start, x = time.perf_counter(), draw(model)
        each, far[data, kind] = 1e3 * (time.perf_counter() - start) / len(x), distance(x)
        nll = f"{-LOG_P[kind](model, test).mean():.2f}" if kind in LOG_P and (kind != "DDPM" or data in NAMES) else "-"
        line = f"{data:16} {kind:9}{CAN[kind]:40}{sum(p.size for p in model.parameters()):10,}{seconds:9.1f}{each:9.2f}"
        lines.append(f"{line}{nll:>10}{far[data, kind]:9.1f}")
        cells.append(dict(points=x, caption=f"{kind}: {word} {far[data, kind]:.{data in NAMES}f}"))
        if kind in LOG_P and data in NAMES:
            cells[-1]["density"] = np.exp(LOG_P[kind](model, plane)).reshape(SIDE, SIDE)
    return cells


# %% Points in the plane
plane, coarse = (grid(2, side, reach)[0].astype(np.float32) for side, reach in ((SIDE, REACH), (13, 2.2)))
levels, rows = noise_levels(np.geomspace(0.02, 5, 60)), {}
for name in NAMES:
    batches, (some, other) = Batches(TOYS[name](50_000, rng), 256), (TOYS[name](POINTS, rng) for _ in range(2))
    flow = Flow([Coupling(2, (64, 64), flip=k % 2 == 1, rng=rng) for k in range(8)])
    vae = VAE(2, 2, (128, 128), likelihood="gaussian", variance=0.01, rng=rng)
    gan, score = GAN(2, 2, 3 * (128,), noise=0.2, rng=rng), ScoreModel(MLPDenoiser(2, 3 * (128,), rng=rng), levels)
    rates = {"RealNVP": (flow, 3e-3), "VAE": (vae, 2e-3), "GAN": (gan, 3e-4), "Langevin": (score, 3e-3)}
    models = {kind: trained(model, batches, STEPS, lr) for kind, (model, lr) in rates.items()}
    models["DDPM"] = DDPM(score.denoiser, levels), 0
    draw = lambda model: model.sample(POINTS, rng, **{"noise": True} if isinstance(model, VAE) else {})
    rows[name] = [dict(points=some, caption=f"MMD {mmd(some, other).ratio:.1f}, by chance 1"),
                  *compared(name, models, draw, lambda x: mmd(x, other).ratio, other)]
    rows[name][4]["arrows"] = coarse, score.score(coarse, 20).data

# %% Digits: bits for MADE and the VAE, grey levels for the others, for the score with mean 0 and variance 1
bits, mean, std = Batches(digits, 128, binarise=True), np.float32(0.1307), np.float32(0.3081)
grey = Batches((digits[:32 * UNET_STEPS].reshape(-1, 784) / np.float32(255) - mean) / std, 32)
score = ScoreModel(UNet((1, 28, 28), channels=16, rng=rng), noise_levels(np.geomspace(0.05, 10, 50)))
gan = GAN(784, 32, (256, 256), (256, 256), pixels=True, noise=0.3, rng=rng)
models = {"MADE": trained(MADE(784, (500,), order="random", rng=rng), bits, STEPS, 2e-3),
          "VAE": trained(VAE(784, 20, (400,), rng=rng), bits, STEPS, 1e-3),
          "GAN": trained(gan, Batches(digits, 128), STEPS, 3e-4), "Langevin": trained(score, grey, UNET_STEPS, 2e-3),
          "DDPM": (DDPM(score.denoiser, score.schedule, images=False, clip=3), 0)}
to_unit = lambda x: np.clip(x * std + mean, 0, 1) if x.ndim == 4 else x
rows["MNIST"] = [dict(points=digits[:DRAWN] / 255, caption=f"Fréchet {frechet_digits(digits[:DRAWN]):.0f}"),
                 *compared("MNIST", models, lambda model: to_unit(model.sample(DRAWN, rng)).reshape(-1, 28, 28),
                           frechet_digits, binarise(test, np.random.default_rng(1)), "Fréchet")]
print(f"\n{'':26}draws in   ln p(x) score     code      parameters  seconds  ms/draw  -ln p(x) distance", *lines, sep="\n")
figure = plots.paradigms(["data", "exact", "bound", "implicit", "score", "score and bound"], rows, REACH)
print("wrote", plots.save(figure, args.out / "paradigms.png"))

# %% The demo judges itself, by MMD, by chance about 1, and the Fréchet distance of digits
assert all(d < bounds[data == "MNIST"] for (data, _), d in far.items()), f"some draws are far from the data: {far}"
