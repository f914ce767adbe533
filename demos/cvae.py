"""The conditional VAE: digits on demand, every digit in one handwriting, and images completed from a part.

The label in every term of the ELBO; then a part of the image in its place, beside a network without latents.
"""
# %% Setup
import numpy as np

from autograd import optim
from demos import options
from minivae import plots
from minivae.data import Batches, binarise, mnist
from minivae.metrics.classifier import digit_classifier
from minivae.train import fit
from minivae.vae import CVAE, VAE, FeedForward

TIME = "2 to 3 min"
EPOCHS, COMPLETION, SIZE = 10, 3, dict(latent_dim=4, hidden=(400, 400))
args = options("cvae")
rng = np.random.default_rng(args.seed)
train, test, bounds = mnist("train"), mnist("test"), (0.97, 0.7, 1.0)
digits, labels, shown = train.images, train.labels, slice(2000)
if args.quick:
    EPOCHS, COMPLETION, shown, bounds = 8, 1, slice(300), (0.6, 0, 0)
    digits, labels = digits[:10_000], labels[:10_000]


def trained(model, epochs, *data, **options):
    print(f"training {model.describe()}")
    optimizer = optim.Adam(model.parameters(), optim.warmup_cosine(1e-3, 50, epochs * -(-len(data[0]) // 128)))
    fit(model, Batches(data[0], 128, labels=data[1] if data[1:] else None, **options), epochs=epochs, rng=rng,
        optimizer=optimizer)
    return model


# %% The label says something of the image: by how much does it raise its likelihood?
vae = trained(VAE(784, rng=rng, **SIZE), EPOCHS, digits, binarise=True)
cvae = trained(CVAE(784, 10, prior_hidden=(100,), rng=rng, **SIZE), EPOCHS, digits, labels, binarise=True)
x, y = binarise(test.images[shown], np.random.default_rng(1)), test.labels[shown]
gain = cvae.log_likelihood(x, y, 50, rng) - vae.log_likelihood(x, 50, rng)
error = gain.std() / len(gain) ** 0.5
print(f"ln p(x | y) - ln p(x): {gain.mean():.2f} +- {error:.2f} nats a digit")

# %% Digits on demand, and, with one z a row, every digit in the handwriting of the first
wanted = np.arange(2000) % 10
right = np.mean(digit_classifier().predict(cvae.sample(wanted, rng)) == wanted)
print(f"a classifier that never saw them reads {right:.1%} of 2,000 samples as what was asked for")
first = [np.flatnonzero(y == c)[0] for c in range(10)]
p, q = cvae.prior(np.arange(10)), cvae.encode(x[first], y[first])
style = (q.mu.data - p.mu.data) / np.exp(p.logvar.data / 2)        # how the first digits differ from their class's mean
z = p.mu.data + np.exp(p.logvar.data / 2) * style[:, None]         # (10 styles, 10 classes, d)
copies = cvae.decode(z.reshape(100, -1), np.tile(np.arange(10), 10)).mean.data.reshape(10, 10, 784)
figures = {"samples": plots.image_grid(cvae.sample(np.arange(100) % 10, rng), 10, "E[x | z, y], z ~ p(z | y)"),
           "styles": plots.image_grid(np.concatenate([x[first][:, None], copies], axis=1).reshape(-1, 784), 11,
                                      "left: a digit; right: its style in every class")}

# %% A part of the image in place of the label: one, two and three quadrants, grey pixels
half, corner = np.arange(28) < 14, np.arange(784).reshape(28, 28)
quadrants = [corner[~half][:, half], corner[half][:, half], corner[half][:, ~half]]
better, grids = [], []
for n in (1, 2, 3):
    seen = np.concatenate([part.ravel() for part in quadrants[:n]])
    rest = np.setdiff1d(np.arange(784), seen)
    images, unknown = (a.reshape(-1, 784) / np.float32(255) for a in (digits, test.images[shown]))
    data = images[:, rest], images[:, seen]
    model = trained(CVAE(len(rest), len(seen), 50, (500, 500), prior_hidden=(500, 500), rng=rng), COMPLETION, *data)
    plain = trained(FeedForward(len(rest), len(seen), rng=rng), COMPLETION, *data)
    log_p = model.log_likelihood(unknown[:, rest], unknown[:, seen], 20, rng)
    baseline = plain.predict(unknown[:, seen]).log_prob(unknown[:, rest]).data
    better.append(np.mean(log_p - baseline))
    print(f"{n} of 4 quadrants given: -ln p(rest) <= {-log_p.mean():.1f}, without latents {-baseline.mean():.1f} nats")
    row = [np.where(np.isin(np.arange(784), seen), unknown[:10], 0.35), unknown[:10].copy()]
    y = unknown[:10, seen]
    for fill in (plain.predict(y).mean.data, model.sample(y, rng), model.sample(y, rng)):
        row.append(unknown[:10].copy())
        row[-1][:, rest] = fill
    grids += row
names = [label for n in ("one quarter", "two quarters", "three")
         for label in (f"given {n}", "digit", "no latents", "CVAE", "again")]
figures["completion"] = plots.image_grid(np.concatenate(grids), 10, "the rest of a digit, given a part", labels=names)

for name, figure in figures.items():
    print("wrote", plots.save(figure, args.out / f"{name}.png"))

# %% The demo judges itself
assert right >= bounds[0], f"only {right:.1%} of the samples are read as what was asked for"
assert gain.mean() - 5 * error > bounds[1], f"the label brings {gain.mean():.2f} nats only"
assert min(better) > bounds[2], f"latents bring {min(better):.2f} nats only"
