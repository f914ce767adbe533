"""The variants of the VAE on one page: the same digits, five epochs (the VQ-VAE: two), the same measures.

A table of what each brings and costs, and twenty samples of each: the means of p(x | z), z drawn from its prior.
"""
# %% Setup
import time

import numpy as np

from autograd import no_grad, optim
from demos import options
from minivae import plots
from minivae.data import Batches, binarise, mnist
from minivae.metrics import frechet_digits
from minivae.train import fit
from minivae.vae import AAE, IWAE, VAE, VAEGAN, VQVAE, FlowVAE, LadderVAE, PixelCNN, VampVAE

TIME = "4 to 6 min"
EPOCHS, VQ_EPOCHS, K, SHOWN, DRAWN = 5, 2, 100, 500, 1000
args = options("variants")
rng = np.random.default_rng(args.seed)
digits, test = mnist("train").images, mnist("test").images
if args.quick:
    EPOCHS, VQ_EPOCHS, K, SHOWN, DRAWN, digits = 1, 1, 5, 100, 100, digits[:2000]
x = binarise(test[:SHOWN], np.random.default_rng(1))
size = dict(latent_dim=20, hidden=(400,), rng=rng)
MODELS = {"VAE": VAE(784, **size), "IWAE, k = 5": IWAE(784, k=5, **size), "flow posterior": FlowVAE(784, **size),
          "VampPrior": VampVAE(784, pseudo_inputs=200, **size),
          "ladder": LadderVAE(784, (20, 10), (400, 200), kl_warmup=EPOCHS * len(digits) // 256, rng=rng),
          "AAE": AAE(784, **size), "VAE-GAN": VAEGAN(784, **size), "VQ-VAE": VQVAE(784, codes=128, rng=rng)}


def active(model):
    """How many latents tell digits apart: Var E[z | x] > 0.01 (Burda et al. 2015). A VQ-VAE's words are no numbers."""
    if isinstance(model, VQVAE):
        return "-"
    q = model.encode(x)
    return int(np.sum(np.var(np.asarray(getattr(q, "base", q).mean), axis=0) > 0.01))


# %% Each of them trained alike, but for the games, which have an optimizer for each player
table, samples = {}, []
for name, model in MODELS.items():
    print("training", model.describe(), flush=True)
    start, batches = time.perf_counter(), Batches(digits, 128, binarise=True)
    epochs = VQ_EPOCHS if name == "VQ-VAE" else EPOCHS             # whose convolutions take longer
    rate = optim.warmup_cosine(1e-3, len(batches) // 10, epochs * len(batches))
    optimizer = model.optimizer(rate) if hasattr(model, "optimizer") else optim.Adam(model.parameters(), rate)
    fit(model, batches, epochs=epochs, optimizer=optimizer, rng=rng)
    if name == "VQ-VAE":                                           # its prior is learned afterwards, from its words
        words = model.codes(digits.reshape(-1, 784) / np.float32(255)).reshape(-1, 49)
        prior = PixelCNN(128, model.grid, rng=rng)
        fit(prior, Batches(words.astype(np.float32), 64), epochs=1, rng=rng,
            optimizer=optim.Adam(prior.parameters(), 3e-3))
        model.use(prior)
    seconds = time.perf_counter() - start
    with no_grad():
        elbo = model.elbo(x, rng)
    images = np.clip(model.sample(DRAWN, rng), 0, 1)
    table[name] = (-elbo.value.data.mean(), -model.log_likelihood(x, K, rng).mean(), np.mean(np.asarray(elbo.kl)),
                   active(model), frechet_digits(images), seconds)
    samples.append(images[:20])

# %% What each brings
print(f"\n{'':16}{'-ELBO':>9}{'-ln p(x)':>10}{'KL':>8}{'active':>8}{'Frechet':>9}{'seconds':>9}")
for name, (bound, nll, kl, units, distance, seconds) in table.items():
    print(f"{name:16}{bound:9.1f}{nll:10.1f}{kl:8.1f}{units:>8}{distance:9.0f}{seconds:9.0f}")
figure = plots.image_grid(np.concatenate(samples), 20, "samples: E[x | z], z drawn from the prior", labels=list(MODELS))
print("wrote", plots.save(figure, args.out / "samples.png"))

# %% The demo judges itself: more samples bring a tighter bound, and all are finite
assert all(np.isfinite(v).all() for row in table.values() for v in [row[:3]])
assert args.quick or table["IWAE, k = 5"][1] < table["VAE"][1], "IWAE is no better than the VAE"
