"""The VAE objective: a Gaussian VAE on MNIST.

Trains 784-400-20 on all 60,000 binarised digits and looks at its ELBO, reconstructions and samples; then the same with
two latents, for a map of all digits.
"""
# %% Setup
import numpy as np

from autograd import optim
from demos import options
from minivae import plots
from minivae.data import Batches, binarise, mnist
from minivae.train import evaluate, fit
from minivae.vae import VAE

TIME = "1 to 3 min"
EPOCHS, BATCH, LR, HIDDEN, LATENTS, SAMPLES = 10, 128, 1e-3, (400,), 20, 100

args = options("vae")
rng = np.random.default_rng(args.seed)
train, test = mnist("train"), mnist("test")
x_test = binarise(test.images, np.random.default_rng(1))           # one fixed draw, so that results compare
digits, bounds = train.images, (103.0, 98.5)                       # nats: -ELBO, -log p(x)
if args.quick:
    EPOCHS, SAMPLES, digits, x_test, bounds = 3, 10, digits[:10_000], x_test[:1000], (155.0, 150.0)

# %% Train, reporting ELBO = recon - KL after each epoch


def train_vae(latent_dim):
    model = VAE(784, latent_dim, HIDDEN, rng=rng)

    def test_terms(epoch):
        return {f"test_{name}": value for name, value in evaluate(model, x_test, rng).items()}

    print(f"training {model.describe()} on {len(digits):,} digits; in nats per image, elbo = recon - kl:")
    rows = fit(model, Batches(digits, BATCH, binarise=True), epochs=EPOCHS, rng=rng, on_epoch=test_terms,
               optimizer=optim.Adam(model.parameters(), LR), history=args.out / f"history_{latent_dim}.csv")
    return model, rows


vae, rows = train_vae(LATENTS)

# %% How good is it? The ELBO is a bound; importance sampling comes closer to log p(x)
nll = -vae.log_likelihood(x_test, SAMPLES, rng)
error = nll.std() / len(nll) ** 0.5
print(f"test -ELBO {-rows[-1]['test_elbo']:.2f}, -log p(x) <= {nll.mean():.2f} +- {error:.2f} nats, k = {SAMPLES}")

# %% What did it learn?
figures = {
    "learning_curves": plots.learning_curves(rows),
    "reconstructions": plots.reconstructions(x_test[:12], vae.reconstruct(x_test[:12])),
    "samples": plots.image_grid(vae.sample(100, rng), 10, "E[x | z], z ~ p(z)"),
    "interpolation": plots.interpolation(vae, x_test[:8], x_test[8:16]),
}

# %% Two latents: a map of all digits (Kingma and Welling, fig. 4)
flat, _ = train_vae(2)
figures["manifold"] = plots.manifold(flat)
figures["latent_space"] = plots.latent_scatter(np.asarray(flat.encode(x_test).mean), test.labels[:len(x_test)])

for name, figure in figures.items():
    print("wrote", plots.save(figure, args.out / f"{name}.png"))

# %% The demo judges itself
assert -rows[-1]["test_elbo"] <= bounds[0], f"test -ELBO {-rows[-1]['test_elbo']:.2f} > {bounds[0]} nats"
assert nll.mean() <= bounds[1], f"-log p(x) {nll.mean():.2f} > {bounds[1]} nats"
