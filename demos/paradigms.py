"""Exact densities, bounds, an implicit model, scores, diffusion: the same data, what each draws, and what it costs."""
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
NAMES, SIDE, REACH, POINTS, DRAWN, STEPS, UNET_STEPS = ("eight_gaussians", "two_moons"), 81, 2.5, 2000, 100, 3000, 1200
args = options("paradigms")
rng, lines, far, rows = np.random.default_rng(args.seed), [], {}, {}
digits, test, bounds, MEAN, STD = mnist("train").images, mnist("test").images[:500], (4, 300), *np.float32([0.13, 0.31])
if args.quick:
    SIDE, POINTS, DRAWN, STEPS, UNET_STEPS, digits, test, bounds = 21, 200, 9, 40, 4, digits[:512], test[:9], (1e3, 1e4)
CAN = {"RealNVP": "1 pass     exact   gradient  z", "MADE": "D passes   exact   -         -",
       "VAE": "1 pass     bound   -         q(z | x)", "GAN": "1 pass     -       -         -",
       "Langevin": "5 T passes -       learned   -", "DDPM": "T passes   bound   learned   -"}
LOG_P = {**dict.fromkeys(("RealNVP", "MADE"), lambda model, x: model.log_prob(x).data), "VAE": lambda model, x:
         model.log_likelihood(x, 200, rng), "DDPM": lambda model, x: -sum(model.vlb(x, rng).nats for _ in range(4)) / 4}


def trained(model, batches, steps, lr):
    """The seconds that it took; the model has the average of its weights."""
    print("training", model.describe(), flush=True)
    start, epochs, average = time.perf_counter(), -(-steps // len(batches)), optim.EMA(model.parameters(), 0.99)
    slow, fast = (optim.warmup_cosine(rate, 20, epochs * len(batches) + 21) for rate in (lr, 3 * lr))
    optimizer = model.optimizer(slow, fast) if isinstance(model, GAN) else optim.Adam(model.parameters(), slow)
    fit(model, batches, epochs=epochs, optimizer=optimizer, ema=average, rng=rng)
    average.apply()
    return time.perf_counter() - start


def compared(data, models, draw, distance, test):
    """A cell of the figure for each of {kind: (model, batches, steps, lr)}, trained, and a line of the table."""
    for kind, (model, *how) in models.items():
        seconds, start, x = trained(model, *how) if how else 0, time.perf_counter(), draw(model)
        each, far[data, kind] = 1e3 * (time.perf_counter() - start) / len(x), distance(x)
        nll = f"{-LOG_P[kind](model, test).mean():.2f}" if kind in LOG_P and (kind != "DDPM" or data in NAMES) else "-"
        line = f"{data:16} {kind:9}{CAN[kind]:40}{sum(p.size for p in model.parameters()):10,}{seconds:9.1f}{each:9.3f}"
        lines.append(f"{line}{nll:>10}{far[data, kind]:9.1f}")
        yield dict(points=x, caption=f"{kind}: {far[data, kind]:.3g}", **({"density": np.exp(
            LOG_P[kind](model, plane)).reshape(SIDE, SIDE)} if kind in LOG_P and data in NAMES else {}))


# %% Points in the plane
plane, coarse = (grid(2, side, reach)[0].astype(np.float32) for side, reach in ((SIDE, REACH), (13, 2.2)))
for name in NAMES:
    batches, (some, other) = Batches(TOYS[name](16 * STEPS, rng), 256), (TOYS[name](POINTS, rng) for _ in range(2))
    vae = VAE(2, 2, (128, 128), likelihood="gaussian", variance=0.01, rng=rng)
    score = ScoreModel(MLPDenoiser(2, 3 * (128,), rng=rng), noise_levels(np.geomspace(0.02, 5, 60)))
    flow = Flow([Coupling(2, (64, 64), flip=k % 2 == 1, rng=rng) for k in range(8)])
    models = {"RealNVP": (flow, batches, STEPS, 3e-3), "VAE": (vae, batches, STEPS, 2e-3),
              "GAN": (GAN(2, 2, 3 * (128,), noise=0.2, rng=rng), batches, STEPS, 3e-4),
              "Langevin": (score, batches, 3 * STEPS, 3e-3), "DDPM": (DDPM(score.denoiser, score.schedule),)}
    cells = compared(name, models, lambda model: model.sample(POINTS, rng, **{"noise": True} if model is vae else {}),
                     lambda x: mmd(x, other).ratio, other)
    rows[name] = [dict(points=some, caption=f"MMD / chance: {mmd(some, other).ratio:.3g}"), *cells]
    rows[name][4]["arrows"] = coarse, score.score(coarse, 20).data

# %% Digits: bits for MADE and the VAE, grey levels for the others, for the score with mean 0 and variance 1
bits, plain = Batches(digits, 128, binarise=True), Batches(digits, 64)
grey = Batches((digits[:32 * UNET_STEPS].reshape(-1, 784) / np.float32(255) - MEAN) / STD, 32)
score = ScoreModel(UNet((1, 28, 28), channels=16, rng=rng), noise_levels(np.geomspace(0.05, 10, 50)))
models = {"MADE": (MADE(784, (500,), order="random", rng=rng), bits, STEPS, 2e-3),
          "VAE": (VAE(784, 20, (400,), rng=rng), bits, STEPS, 1e-3),
          "GAN": (GAN(784, 64, 2 * (256,), 2 * (256,), pixels=True, penalty=1.0, rng=rng), plain, STEPS, 1.5e-3),
          "Langevin": (score, grey, UNET_STEPS, 2e-3),
          "DDPM": (DDPM(score.denoiser, score.schedule, images=False, clip=3),)}
to_unit = lambda x: np.clip(x * STD + MEAN, 0, 1) if x.ndim == 4 else x
draw = lambda model: to_unit(model.sample(DRAWN, rng)).reshape(-1, 28, 28)
rows["MNIST"] = [dict(points=digits[:DRAWN] / 255, caption=f"Fréchet: {frechet_digits(digits[:DRAWN]):.3g}"),
                 *compared("MNIST", models, draw, frechet_digits, binarise(test, np.random.default_rng(1)))]
print(f"\n{'':26}draws in   ln p(x) score     code      parameters  seconds  ms/draw  -ln p(x) distance")
print(*lines, sep="\n")
figure = plots.paradigms(["data", "exact", "bound", "implicit", "score", "score and bound"], rows, REACH)
print("wrote", plots.save(figure, args.out / "paradigms.png"))

# %% The demo judges itself, by MMD and the Fréchet distance of digits
assert all(d < bounds[key[0] == "MNIST"] for key, d in far.items()), f"far from the data: {far}"
