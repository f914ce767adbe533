"""Hierarchies of latents: what each level encodes, inferred from below in a stacked VAE and from above in a ladder.

Five levels above digits, inferred upwards and downwards, with the same prior; the KL of every latent, level by level.
"""
# %% Setup
import numpy as np

from autograd import no_grad, optim
from demos import options
from minivae import plots
from minivae.data import Batches, binarise, mnist
from minivae.train import fit
from minivae.vae import LadderVAE, StackedVAE

TIME = "1 to 2 min"
EPOCHS, WARMUP, WORST, SIZES = 10, 1200, 103, dict(latent_dims=(64, 32, 16, 8, 4), hidden=(512, 256, 128, 64, 64))
args = options("hierarchical")
rng = np.random.default_rng(args.seed)
digits, test = mnist("train").images, mnist("test")
if args.quick:
    EPOCHS, WARMUP, WORST, digits = 3, 50, 200, digits[:10_000]
x = binarise(test.images, np.random.default_rng(1))

# %% The same prior, and two ways to infer: from below, and from above
models, kl, bound = {}, {}, {}
for name, cls in {"stacked": StackedVAE, "ladder": LadderVAE}.items():
    model = cls(784, batch_norm=True, activation="leaky_relu", kl_warmup=WARMUP, rng=rng, **SIZES)
    batches = Batches(digits, 256, binarise=True)
    print("training", model.describe(), flush=True)
    fit(model, batches, epochs=EPOCHS, rng=rng,
        optimizer=optim.Adam(model.parameters(), optim.warmup_cosine(3e-3, 50, EPOCHS * len(batches))))
    models[name] = model.eval()                                    # from here on, the running means of training
    with no_grad():
        bound[name] = -model.elbo(x, rng).value.data.mean()
    active = model.active_units(x, rng)
    for i, nats in enumerate(model.kl_per_latent(x, rng)):
        kl[f"{name}, z{'₁₂₃₄₅'[i]}"] = nats
        print(f"  level {i + 1}: {active[i]} of {len(nats)} latents are active, with {nats.sum():.1f} nats")
    print(f"  -ELBO {bound[name]:.2f}, -ln p(x) <= {-model.log_likelihood(x[:1000], 100, rng).mean():.2f} nats")

# %% What a level encodes: keep it and those above from a digit, and draw those below from the prior
first = np.array([np.flatnonzero(test.labels == c)[0] for c in range(10)])
figures = {"kl_per_latent": plots.kl_per_latent(kl)}
for name, model in models.items():
    rows = [x[first], *(model.redraw(x[first], kept, rng) for kept in range(5, -1, -1))]
    figures[f"levels_{name}"] = plots.image_grid(
        np.concatenate(rows), 10, f"{name}: what is kept of the code, the rest drawn from p",
        labels=["x", "all", "z₂…z₅", "z₃…z₅", "z₄ z₅", "z₅", "nothing"])

for name, figure in figures.items():
    print("wrote", plots.save(figure, args.out / f"{name}.png"))

# %% The demo judges itself
assert max(bound.values()) < WORST, f"-ELBO of {bound} nats"
assert args.quick or bound["ladder"] < bound["stacked"], f"the ladder is no better: {bound}"
top = {name: np.sum(kl[f"{name}, z₅"] > 0.01) for name in models}
assert args.quick or top["ladder"] > top["stacked"], f"the top of the ladder is no more in use: {top}"
