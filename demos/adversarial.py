"""Adversaries: a critic that reads ln p/q off samples, for codes; and one that says which images are alike.

An AAE's codes beside a VAE's, and what its critic knows; a VAE-GAN's samples beside a VAE's, and how the game went.
"""
# %% Setup
import numpy as np

from autograd import optim
from demos import options
from minivae import plots
from minivae.data import Batches, mnist
from minivae.metrics.samples import frechet_digits
from minivae.train import fit
from minivae.vae import AAE, VAE, VAEGAN
from minivae.vae.factor_vae import critic_loss
from minivae.vae.vamp_vae import Mixture

TIME = "1 to 2 min"
CODES, SAMPLES, READING, REACH = 6, 9, 1500, 3.2
args = options("adversarial")
rng = np.random.default_rng(args.seed)
digits, test, bounds = mnist("train").images, mnist("test"), (0.8, 0.1)
if args.quick:
    CODES, SAMPLES, READING, digits, bounds = 4, 2, 300, digits[:10_000], (0.5, 0.5)
batches = Batches(digits, 128)                                     # in grey: a critic knows bits from their means


def trained(model, epochs, *rates):
    print(f"training {model.describe()}")
    schedule = [optim.warmup_cosine(lr, 50, epochs * len(batches)) for lr in rates]
    optimizer = optim.Adam(model.parameters(), *schedule) if type(model) is VAE else model.optimizer(*schedule)
    return model, fit(model, batches, epochs=epochs, optimizer=optimizer, rng=rng)


# %% Two latents: a VAE pays for each code's distance from the prior, an AAE for that of all together
vae, _ = trained(VAE(784, 2, (400,), rng=rng), CODES, 1e-3)
aae, _ = trained(AAE(784, latent_dim=2, hidden=(400,), rng=rng), CODES, 1e-3, 1e-3)
some, x = (images.reshape(-1, 784) / np.float32(255) for images in (digits[:20_000], test.images))
codes = {type(model).__name__: model.encode(x).sample(rng) for model in (vae, aae)}
figures = {"codes": plots.codes(codes, test.labels, REACH)}

# %% What a critic can know: hold a code and let a new critic look on. Its mean logit reads KL(q̄ ‖ p) off the samples;
# the VAE's posteriors are wide enough for their mixture to be the density q̄, which the critic never sees
read = {}
for model in (aae, vae):
    q, critic, name = model.encode(some), AAE(784, latent_dim=2, rng=rng).critic, type(model).__name__
    optimizer = optim.Adam(critic.parameters(), optim.warmup_cosine(2e-3, 50, READING))
    for _ in range(READING):
        loss = critic_loss(critic(model.draw(500, rng)), critic(q.sample(rng)[rng.integers(len(some), size=500)]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    z = q.sample(rng)[::20]
    logit = critic(z).data[:, 0]
    read[name] = -logit.mean()
    print(f"{name}: a critic reads KL(q̄ ‖ p) = {read[name]:.2f} nats")
axis, aggregate = np.linspace(-REACH, REACH, 60, dtype=np.float32), Mixture(q.mu.data, q.logvar.data)
grid = np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1).reshape(-1, 2)
exact, on_grid = (np.concatenate([vae.prior().log_prob(part) - aggregate.log_prob(part)
                                  for part in np.array_split(points, 50)]) for points in (z, grid))
agreement = np.corrcoef(exact, logit)[0, 1]
print(f"VAE: in truth {-exact.mean():.2f}; the logit and ln p/q̄ agree by {agreement:.3f}")
figures["log_ratio"] = plots.log_ratio(on_grid, critic(grid).data[:, 0], exact, logit, REACH)

# %% Twenty latents: likeness in pixels, and in what a critic sees
plain, _ = trained(VAE(784, 20, (400,), rng=rng), SAMPLES, 1e-3)
gan, rows = trained(VAEGAN(784, latent_dim=20, hidden=(400,), rng=rng), SAMPLES, 1e-3, 3e-4)
distance = {name: frechet_digits(model.sample(5000, rng)) for name, model in (("VAE", plain), ("VAE-GAN", gan))}
print("Fréchet distance from the test digits, samples of", *(f"{name}: {d:.0f} " for name, d in distance.items()))
shown = [x[:12], plain.reconstruct(x[:12]), gan.reconstruct(x[:12]), plain.sample(36, rng), gan.sample(36, rng)]
names = ["digits", "VAE", "VAE-GAN", *3 * ["VAE, z ~ p"], *3 * ["VAE-GAN, z ~ p"]]
figures["samples"] = plots.image_grid(np.concatenate(shown), 12, "likeness in pixels, and to a critic", labels=names)
figures["game"] = plots.game(rows)

for name, figure in figures.items():
    print("wrote", plots.save(figure, args.out / f"{name}.png"))

# %% The demo judges itself
assert agreement > bounds[0], f"a critic's logit and the log ratio agree by {agreement:.2f} only"
assert abs(read["VAE"] + exact.mean()) < bounds[1], f"a critic misreads KL(q̄ ‖ p): {read}, truly {-exact.mean():.2f}"
assert read["AAE"] < read["VAE"], f"the AAE's codes are no more like the prior: {read}"
assert args.quick or distance["VAE-GAN"] < distance["VAE"], f"a VAE-GAN's samples are no better: {distance}"
