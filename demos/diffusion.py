"""Diffusion in the plane: data dissolve into noise, and a network that has learned the score re-forms them.

A film of it, the learned score beside the true one, and what fewer steps cost, with noise in each and without.
"""
# %% Setup
import numpy as np

from autograd import optim
from demos import options
from minivae import plots
from minivae.data import Batches
from minivae.data.toys import eight_gaussians, spirals
from minivae.diffusion import DDPM, MixtureDenoiser, MLPDenoiser, Schedule
from minivae.metrics.samples import mmd
from minivae.train import fit

TIME = "1 to 2 min"
T, HIDDEN, EPOCHS, POINTS, BOUND = 200, (128, 128, 128, 128), 150, 5000, 1.5
args = options("diffusion")
rng = np.random.default_rng(args.seed)
if args.quick:
    EPOCHS, POINTS, BOUND = 8, 500, 20
schedule = Schedule.cosine(T)


def trained(toy, epochs):
    model = DDPM(MLPDenoiser(2, HIDDEN, rng=rng), schedule, clip=2.5)
    batches = Batches(toy(50_000, rng), 256)
    optimizer = optim.Adam(model.parameters(), optim.warmup_cosine(3e-3, 100, epochs * len(batches)))
    average = optim.EMA(model.parameters(), 0.995)
    fit(model, batches, epochs=epochs, optimizer=optimizer, ema=average, rng=rng)
    average.apply()
    return model


# %% There and back: each step of the forward process, and of the sampler
model, back = trained(spirals, EPOCHS), {}
back[0] = model.sample(POINTS, rng, on_step=lambda t, x, x0_hat: back.update({t: x}))
x0, eps = spirals(POINTS, rng), rng.standard_normal((POINTS, 2), np.float32)
there = {0: x0} | {t: schedule.q_sample(x0, t, eps) for t in back if t}
shown = [T * k // 20 for k in (0, 1, 2, 4, 8, 20)]
rows = {"data dissolve": [there[t] for t in shown], "noise takes form": [back[t] for t in shown]}
print("wrote", plots.save(plots.clouds(rows, [f"t = {t}" for t in shown]), args.out / "there_and_back.png"))
times = sorted(back, reverse=True)
print("wrote", plots.film(args.out / "film.gif", [back[t][:2000] for t in times], [f"t = {t:3}" for t in times]))

# %% How few steps will do? Samples beside data, on the scale of two sets of data beside each other
data, curves = spirals(POINTS, rng), {"DDIM, η = 0": {}, "DDIM, η = 1": {}}
floor, ratio = mmd(x0, data).ratio, mmd(back[0], data).ratio
print(f"MMD from the data of {POINTS} samples: {ratio:.2f} of what chance brings; of as many data {floor:.2f}")
for steps in (5, 10, 20, 50, 100):
    for eta, curve in enumerate(curves.values()):
        curve[steps] = mmd(model.sample(POINTS, rng, steps=steps, eta=float(eta)), data).ratio
for name, curve in curves.items():
    print(f"{name}: " + ", ".join(f"{steps} steps {distance:.1f}" for steps, distance in curve.items()))
curves["ancestral"] = {T: ratio}
figure = plots.quality_by_steps(curves, floor, "MMD / what chance brings")
print("wrote", plots.save(figure, args.out / "steps.png"))

# %% The learned score over the true one, where that is known
model, panels, errors = trained(eight_gaussians, EPOCHS // 3), {}, []
truth = MixtureDenoiser(schedule, eight_gaussians.means, eight_gaussians.std ** 2, predict="score")
at = np.stack(np.meshgrid(*[np.linspace(-2.2, 2.2, 12, dtype=np.float32)] * 2), axis=-1).reshape(-1, 2)
for t in (T // 10, T // 4, T // 2):
    xt = schedule.q_sample(eight_gaussians(POINTS, rng), t, rng.standard_normal((POINTS, 2), np.float32))
    errors.append(np.sum((model.score(xt, t) - truth(xt, t)) ** 2) / np.sum(truth(xt, t) ** 2))
    panels[f"t = {t}: error {errors[-1]:.1%} of |score|²"] = truth(at, t), model.score(at, t), xt[:2000]
print("wrote", plots.save(plots.score_fields(at, panels, 2.5), args.out / "score.png"))

# %% The demo judges itself
assert ratio < BOUND, f"the samples are {ratio:.2f} times as far from the data as other data"
assert max(errors) < 0.1 * BOUND, f"the score is wrong by {max(errors):.1%}"
