"""The VAE paper's table: Burda, Grosse and Salakhutdinov (2015), VAE and IWAE with 1, 5 and 50 samples.

Their models of one stochastic layer, 784-200-200-50 and back, tanh, and -ln p(x) of the test set, from 5,000 importance
samples, after the first `--fraction` of their 3,280 passes. Stop it at will: the same command goes on where it stopped,
and a larger fraction where a smaller one ended. arXiv:1509.00519, section 5; what it leaves open is as in their code:
- data: the first 59,600 training images, binarised anew whenever they are seen; the test images, binarised once;
- stages i = 0..7, of 3^i passes at the learning rate 0.001 * 10^(-i/7): one hundredth is 33 passes and ends in stage 3;
- Adam's epsilon, 1e-4, is for gradients summed over the batch of 20: for our means it is a twentieth of that;
- weights start as Glorot's, biases at 0, those of the output at the logits of the mean image;
- the VAE's KL is that of the samples: with k = 1, VAE and IWAE are one model, which is trained once and printed twice.
Not the code's: shuffled passes, ln s^2 for ln s, exact rates, Adam's start at 0 and betas (0.9, 0.999), as in the text.
"""
# %% Setup
import numpy as np

from autograd import optim
from demos import options
from minivae import plots
from minivae.data import Batches, binarise, mnist
from minivae.inference.importance import log_weights, model_log_joint
from minivae.train import Progress, fit, write_csv
from minivae.vae import IWAE

TIME = "50 to 60 min"
PUBLISHED = {"vae-1": 86.76, "vae-5": 86.47, "iwae-5": 85.54, "vae-50": 86.35, "iwae-50": 84.78}    # cheap ones first
args = options("reproduce", models=dict(default=",".join(PUBLISHED), help="which ones to train (default: all)"),
               fraction=dict(type=float, default=0.01, help="of the 3,280 passes (default: %(default)s)"))
chosen = [name for name in PUBLISHED if name in args.models.split(",")]
if len(chosen) < len(args.models.split(",")) or not 0 < args.fraction <= 1:
    raise SystemExit(f"--models are some of {','.join(PUBLISHED)} (iwae-1 is vae-1), and --fraction is in (0, 1]")
digits, x_test = mnist("train").images[:59_600], binarise(mnist("test").images, np.random.default_rng(1))
passes, tag, SAMPLES, bound = int(np.ceil(args.fraction * 3280 - 1e-6)), args.seed, 5000, 93.5     # nats, if 33 passes
if args.quick:
    passes, tag, SAMPLES, bound, digits, x_test = 1, f"quick_{tag}", 50, 200.0, digits[:5000], x_test[:200]
batches, mean = Batches(digits, 20, binarise=True), np.clip(digits.reshape(-1, 784).mean(axis=0) / 255, 0.001, 0.999)
ends = np.cumsum(3 ** np.arange(8)) * len(batches)                 # the last step of each stage
rate = lambda t: 1e-3 * 10 ** (-np.searchsorted(ends, t) / 7)


class SampledVAE(IWAE):
    """The VAE with k samples: the mean of k ELBOs, where the IWAE takes the logarithm of the mean weight."""

    def loss(self, x, rng):
        elbo = log_weights(model_log_joint(self, x), self.encode(x), self.k, rng).mean()
        return -elbo, {"elbo": elbo.item()}


# %% Train and measure, one after the other: what is done is in files, from which the same command goes on
table, samples = [], []
for name in chosen:
    rng, path = np.random.default_rng(args.seed), args.out / f"{name}_{tag}.npz"
    model = (IWAE if name.startswith("iwae") else SampledVAE)(784, k=int(name.split("-")[1]), latent_dim=50,
                                                              hidden=(200, 200), activation="tanh", rng=rng)
    for layer in model.encoder.layers + model.decoder.layers:
        n, m = layer.w.shape                                       # of m = 100, mu and ln s^2 are 50 each
        layer.w.assign(rng.uniform(-1, 1, (n, m)) * (6 / (n + (m if m != 100 else 50))) ** 0.5)
        layer.b.assign(np.log(mean / (1 - mean)) if m == 784 else np.zeros(m))
    print(f"{name}: {passes} passes over {len(digits):,} digits", flush=True)
    rows = fit(model, batches, epochs=passes, optimizer=optim.Adam(model.parameters(), rate, eps=1e-4 / 20), rng=rng,
               checkpoint=path, resume=True)
    measured = path.with_suffix(".npy")
    if not measured.exists() or measured.stat().st_mtime < path.stat().st_mtime:
        progress, nll = Progress(len(x_test)), []
        for i in range(0, len(x_test), 100):
            nll.extend(-model.log_likelihood(x_test[i:i + 100], SAMPLES, rng))
            progress.show(i + 100, f"{name}, {SAMPLES:,} samples:", {"-ln p(x)": np.mean(nll)})
        progress.close()
        np.save(measured, nll)
    nll, pace = np.load(measured), np.median([row["seconds"] for row in rows])
    used = int(np.sum(np.asarray(model.encode(x_test).mean).var(axis=0) > 0.01))           # their criterion
    table.append({"model": name, "passes": len(rows), "nll": nll.mean(), "error": nll.std() / len(nll) ** 0.5,
                  "published": PUBLISHED[name], "active units": used, "seconds a pass": pace})
    samples.append(model.sample(20, rng))
    print(f"{name}: -ln p(x) <= {nll.mean():.2f} nats from {SAMPLES:,} samples", flush=True)

# %% The table, and what all 3,280 passes would take
print("\nmodel      passes   -ln p(x), nats   published   active units   seconds a pass")
for name, *row in map(dict.values, table):
    for alias in ("vae-1", "iwae-1") if name == "vae-1" else (name,):
        print("{:10}{:7}{:11.2f} +- {:.2f}{:12.2f}{:15}{:17.1f}".format(alias, *row))
hours = sum(row["seconds a pass"] for row in table) * 3280 / 3600
print(f"all 3,280 passes over {len(digits):,} digits: {hours:.1f} hours at this pace, for {', '.join(chosen)}")
write_csv(args.out / "table.csv", table)
figure = plots.image_grid(np.concatenate(samples), 20, "E[x | z], z drawn from the prior", labels=chosen)
print("wrote", plots.save(figure, args.out / "samples.png"))

# %% The demo judges itself
nll = {name: row["nll"] for name, row in zip(chosen, table)}
assert max(nll.values()) <= bound or not args.quick and passes < 33, f"-ln p(x) is above {bound} nats: {nll}"
assert args.quick or not {"vae-1", "iwae-5"} <= set(nll) or nll["iwae-5"] < nll["vae-1"], f"IWAE is no better: {nll}"
