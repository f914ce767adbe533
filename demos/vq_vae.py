"""The VQ-VAE: a digit in 49 words from a dictionary of 128, and a language model of such digits that writes new ones.

First the dictionary, trained as if all words were equally likely; then, over the words, a PixelCNN.
"""
# %% Setup
import numpy as np

from autograd import no_grad, optim
from demos import options
from minivae import plots
from minivae.data import Batches, mnist
from minivae.metrics import frechet_digits
from minivae.train import fit
from minivae.vae import VQVAE, PixelCNN
from minivae.vae.codebook import perplexity

TIME = "1 to 2 min"
EPOCHS, PRIOR_EPOCHS, CODES, DRAWS, bounds = 3, 2, 128, 1000, (64, 0.006, 0.75, 0.5)
args = options("vq_vae")
rng = np.random.default_rng(args.seed)
digits = mnist("train").images
if args.quick:
    EPOCHS, PRIOR_EPOCHS, DRAWS, bounds, digits = 2, 4, 200, (32, 0.03, 1.0, 1.0), digits[:6000]


def trained(model, data, epochs, lr):
    print(f"training {model.describe()}")
    batches = Batches(data, 64)
    fit(model, batches, epochs=epochs, rng=rng,
        optimizer=optim.Adam(model.parameters(), optim.warmup_cosine(lr, 50, epochs * len(batches))))
    return model


# %% The words: are they all in use, and how much of a digit do they keep?
model = trained(VQVAE(784, codes=CODES, rng=rng), digits, EPOCHS, 2e-3)
x = mnist("test").images.reshape(-1, 784)[:2000] / np.float32(255)
again, k = model.reconstruct(x), model.codes(x)
used, mse = perplexity(k, CODES), np.mean((again - x) ** 2)
print(f"perplexity {used:.1f} of {CODES}; squared error of a pixel {mse:.4f}, at 49 log2 {CODES} = "
      f"{49 * np.log2(CODES):.0f} bits a digit, {np.log2(CODES) / 16:.3f} a pixel")
figures = {"reconstructions": plots.reconstructions(x[:10], again[:10])}

# %% The language: what it takes to say a digit, to someone who knows which words follow which
uniform = model.sample(DRAWS, rng)
words = model.codes(digits.reshape(-1, 784) / np.float32(255)).reshape(-1, 49)
prior = trained(PixelCNN(CODES, model.grid, rng=rng), words.astype(np.float32), PRIOR_EPOCHS, 3e-3)
model.use(prior)
with no_grad():
    bits = -prior.predict(k).log_prob(k).data.mean(axis=0) / np.log(2)
print(f"{bits.sum():.0f} bits a digit by the prior: {bits.mean():.2f} a word, {bits.sum() / 784:.3f} a pixel")
figures["codes"] = plots.code_use(np.bincount(k.reshape(-1), minlength=CODES) / k.size, bits)

# %% New digits: words drawn one after the other; and, for comparison, all at random
samples = model.sample(DRAWS, rng)
distances = [frechet_digits(np.clip(images, 0, 1)) for images in (samples, uniform)]
print(f"Fréchet distance to the test digits: {distances[0]:.0f}, and {distances[1]:.0f} of words at random")
figures["samples"] = plots.image_grid(np.concatenate([uniform[:20], samples[:80]]), 10, "words at random; by the prior",
                                      labels=["random"] * 2 + ["PixelCNN"] * 8)

for name, figure in figures.items():
    print("wrote", plots.save(figure, args.out / f"{name}.png"))

# %% The demo judges itself
assert used >= bounds[0], f"{used:.1f} words of {CODES} are in use"
assert mse <= bounds[1], f"the squared error of a pixel is {mse:.4f}"
assert bits.sum() <= bounds[2] * 49 * np.log2(CODES), f"the prior takes {bits.sum():.0f} bits a digit"
assert distances[0] <= bounds[3] * distances[1], f"samples are as far from digits as {distances}"
