"""beta-VAE: what a dearer code gives up and what it gains, on images whose factors are known.

Shapes of six sizes at 16 x 16 places; the codes of VAE, beta-VAE and beta-TCVAE, by their mutual information gap.
"""
# %% Setup
import numpy as np

from autograd import optim
from demos import options
from minivae import plots
from minivae.data import Batches, sprites
from minivae.metrics import linear_rate_distortion, mig, rate_distortion
from minivae.vae import BetaTCVAE, BetaVAE

TIME = "2 to 3 min"
STEPS, SEEDS, LATENTS, HIDDEN, LR = 3000, 2, 10, (400, 400), 2e-3
args = options("beta_vae")
rng = np.random.default_rng(args.seed)
if args.quick:
    STEPS, SEEDS = 250, 2
data = sprites(32, orientations=1, xs=16, ys=16)                   # 3 x 6 x 16 x 16 images, drawn as they are needed
x, factors = data[:].reshape(len(data), -1) / np.float32(255), data.factors(slice(None))
MODELS = {"VAE, β = 1": (BetaVAE, {"beta": 1.0}), "β-VAE, 4": (BetaVAE, {"beta": 4.0}),
          "β-VAE, 12": (BetaVAE, {"beta": 12.0}), "β-TCVAE, 6": (BetaTCVAE, {"beta": 6.0, "data_size": len(data)})}


def trained(model, steps, lr=LR):
    batches, t = Batches(x, 128), 0
    optimizer = optim.Adam(model.parameters(), optim.warmup_cosine(lr, 50, steps + len(batches)))
    while t < steps:
        for batch in batches(rng):
            model.on_step(t := t + 1)
            loss, terms = model.loss(batch, rng)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    print(f"{model.describe()}, {t} steps: recon {terms['recon']:.1f}, kl {terms['kl']:.1f} nats", flush=True)
    return model


# %% Train each model from several seeds; look at rate, distortion and disentanglement
points, gaps, used, best = {}, {}, {}, (-1, None)
for name, (cls, settings) in MODELS.items():
    points[name], gaps[name] = [], []
    for _ in range(SEEDS):
        model = trained(cls(1024, latent_dim=LATENTS, hidden=HIDDEN, rng=rng, **settings), STEPS)
        some = rng.choice(len(x), 1000, replace=False)
        point, q = rate_distortion(model, x[some], rng), model.encode(x)
        gap = mig(q.sample(rng), factors)
        points[name].append((point.rate, point.distortion))
        gaps[name].append(gap)
        used[name] = q.kl_terms().data.mean(axis=0)
        best = max(best, (gap, model), key=lambda pair: pair[0])
        print(f"  {name}: MIG {gap:.3f}; R = {point.rate:.1f} = I {point.mutual_information:.1f} + "
              f"TC {point.total_correlation:.1f} + marginals {point.dimension_kl.sum():.1f} nats")
figures = {"tradeoff": plots.tradeoff({name: (-np.array(points[name])[:, 1], gaps[name]) for name in MODELS}),
           "kl_per_latent": plots.kl_per_latent(used)}

# %% The code of the most disentangled of them, one latent at a time
q = best[1].encode(x[len(x) // 2:len(x) // 2 + 1])
order = np.argsort(-best[1].encode(x).kl_terms().data.mean(axis=0))[:5]
figures["traversals"] = plots.traversals(best[1], q.mu.data[0], order, (32, 32))

# %% With a linear decoder the whole (R, D) curve is known: reverse water-filling
VARIANCE, eigenvalues = 0.1, np.linalg.eigvalsh(np.cov(x.T, bias=True)).clip(0)
linear, off = [], []
for beta in (1.0, 4.0, 16.0):
    model = BetaVAE(1024, beta=beta, latent_dim=60, hidden=(), likelihood="gaussian", variance=VARIANCE, rng=rng)
    point = rate_distortion(trained(model, max(STEPS // 2, 500), 3e-3), x[some], rng)
    exact = linear_rate_distortion(eigenvalues, beta, VARIANCE)
    linear.append((f"β = {beta:g}", (point.rate, point.distortion), (exact.rate, exact.distortion)))
    off.append((point.distortion + beta * point.rate) - (exact.distortion + beta * exact.rate))
curve = linear_rate_distortion(eigenvalues, np.geomspace(0.8, 25, 50), VARIANCE)
figures["rate_distortion"] = plots.rate_distortion(points, linear, (curve.rate, curve.distortion))

for name, figure in figures.items():
    print("wrote", plots.save(figure, args.out / f"{name}.png"))

# %% The demo judges itself
rates = [np.mean(points[name], axis=0)[0] for name in ("VAE, β = 1", "β-VAE, 4", "β-VAE, 12")]
assert rates[0] > rates[1] > rates[2], f"a dearer code is not a shorter one: {rates} nats"
mean = {name: np.mean(found) for name, found in gaps.items()}
assert args.quick or max(mean.values()) > mean["VAE, β = 1"] + 0.05, f"no disentanglement gained: {mean}"
assert args.quick or max(off) < 15, f"linear models are {max(off):.1f} nats above their optimum"
