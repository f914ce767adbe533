"""What the variants of the VAE bring. These benches train for many minutes, and run only when they are named.

Each function takes a Contest, and returns rows: what, value, target, detail. It prints what it finds of each model.
"""
import contextlib
import io
import math

import numpy as np

from autograd import no_grad, optim
from minivae.data import Batches, binarise, mnist
from minivae.distributions import Normal
from minivae.flows import Flow, Planar
from minivae.flows.energies import ENERGIES, energy_kl, fit_energy
from minivae.train import fit
from minivae.vae import IWAE, VAE, VQVAE, FlowVAE, LadderVAE, PixelCNN, StackedVAE
from minivae.vae.codebook import perplexity
from minivae.vae.convolutional import Decoder, Encoder


def trained(model, epochs, lr=1e-3, seed=0, rows=128):
    """The model after so many epochs of dynamically binarised training digits, `rows` at a time; to be evaluated."""
    batches = Batches(mnist("train").images, rows, binarise=True)
    with contextlib.redirect_stdout(io.StringIO()):
        fit(model, batches, epochs=epochs, rng=np.random.default_rng(seed),
            optimizer=optim.Adam(model.parameters(), optim.warmup_cosine(lr, 50, epochs * len(batches))))
    return model.eval()


def beside_vae(cls, epochs, seeds, **options):
    """How far -ln p(x) of the test digits is from the VAE's, 784-200-200-50, trained alike: the mean; and all of it."""
    x, found = binarise(mnist("test").images, np.random.default_rng(1)), {VAE: [], cls: []}
    for seed in range(seeds):
        for each, values in found.items():
            rng = np.random.default_rng(seed)
            model = trained(each(784, latent_dim=50, hidden=(200, 200), rng=rng, **options), epochs, 2e-3, seed)
            values.append(-model.log_likelihood(x[:2000], 1000, rng).mean())
            print(f"  {each.__name__}, seed {seed}: {values[-1]:.2f} nats", flush=True)
    less = np.subtract(found[cls], found[VAE])
    detail = "; ".join(f"{each.__name__} " + ", ".join(f"{v:.2f}" for v in values) for each, values in found.items())
    return less.mean(), f"{detail}; +- {less.std(ddof=1) / seeds ** 0.5:.2f}"


def iwae_bound(contest, epochs=4, seeds=3):
    """-ln p(x) of the IWAE below that of the VAE; seven minutes on a core.

    The plain VAE is the one beside it. Part of the gain are latents that it switches off: with a warm-up of the KL over
    938 steps, two of the four epochs, seed 0 ends at 111.4 nats for 116.0, still above the IWAE's 109.1.
    """
    less, detail = beside_vae(IWAE, epochs, seeds)
    return [("-ln p(x) of IWAE, k = 50, less the VAE's, nats", less, -1.0, detail)]


def hierarchies(contest, epochs=20, seeds=3, warmup=2000, batch_norm=True, **options):
    """The ladder beside the plain stacked VAE, trained alike: active units at the top, and the ELBO; 15 minutes.

    Five levels, batch normalisation and batches of 256 as in the paper, at a hundredth of its epochs. For the first
    `warmup` steps the weight of the KL rises. `options` are those of both models. Without `batch_norm` the stacked
    model gains, the ladder loses, and the order is the other one.
    """
    x, found = binarise(mnist("test").images, np.random.default_rng(1)), {"stacked": [], "ladder": []}
    options = dict(latent_dims=(64, 32, 16, 8, 4), hidden=(512, 256, 128, 64, 64), activation="leaky_relu",
                   kl_warmup=warmup, batch_norm=batch_norm) | options
    for seed in range(seeds):
        for name, cls in (("stacked", StackedVAE), ("ladder", LadderVAE)):
            rng = np.random.default_rng(seed)
            model = trained(cls(784, rng=rng, **options), epochs, 3e-3, seed, 256)
            with no_grad():
                found[name].append((-model.elbo(x, rng).value.data.mean(), *model.active_units(x, rng)))
            nats = ", ".join(f"{kl.sum():.2f}" for kl in model.kl_per_latent(x, rng))
            print(f"  {name}, seed {seed}: {found[name][-1][0]:.2f} nats; active units, the lowest level first, "
                  f"{found[name][-1][1:]}, of {nats} nats", flush=True)
    stacked, ladder = (np.mean(found[name], axis=0) for name in ("stacked", "ladder"))
    detail = "; ".join(f"{name} " + ", ".join(f"{e:.2f}: {'+'.join(map(str, units))}" for e, *units in values)
                       for name, values in found.items())
    return [("-ELBO of the ladder less that of the stacked VAE", ladder[0] - stacked[0], 0.0, detail),
            ("active units in its top layer, less those of the ladder", stacked[-1] - ladder[-1], -1.0, detail)]


class GridVAE(VAE):
    """The networks of VQVAE() around Gaussian latents, `depth` at each place of the grid."""

    def __init__(self, depth, **options):
        self.depth = depth
        super().__init__(784, 49 * depth, (32, 64), **options)

    def networks(self, hidden, activation, rng):
        return Encoder(28, hidden, 2 * self.depth, activation, rng), Decoder(hidden, self.depth, activation, rng)

    def encode(self, x):
        h = self.encoder(self.check(x))
        return Normal(*(part.reshape(len(x), -1) for part in (h[..., :self.depth], h[..., self.depth:])))

    def decode(self, z):
        return super().decode(z.reshape(-1, 7, 7, self.depth))


def vq_words(contest, epochs=5):
    """Codes in use, and the squared error of the test digits, beside VAEs of the same length of code; ten minutes.

    A code of the VQ-VAE takes -log2 p(k) bits by its prior: 49 log2 K by the uniform one, fewer by a PixelCNN. That of
    a VAE is its KL, what it takes to send a draw of z ~ q(z | x), so its images are decoded from such draws. Variances
    are chosen for a KL about as large. By the PixelCNN's bits the VQ-VAE has half the error of a VAE of the same
    networks. By the uniform prior's the two are alike: 0.0030 to 0.0032 at 349 to 356 bits in three runs, the VQ-VAE
    0.0031 at 343.
    """
    rng, x = np.random.default_rng(0), mnist("test").images[:2000].reshape(-1, 784) / np.float32(255)
    images = mnist("train").images

    def trained_alike(model, data=images, epochs=epochs, lr=2e-3):
        batches = Batches(data, 64)
        with contextlib.redirect_stdout(io.StringIO()):
            fit(model, batches, epochs=epochs, rng=rng,
                optimizer=optim.Adam(model.parameters(), optim.warmup_cosine(lr, 50, epochs * len(batches))))
        return model

    def judged(name, model, z):
        """The mean squared error, and the bits of a code."""
        with no_grad():
            found = (np.mean((model.decode(z).mean.data - x) ** 2),
                     model.elbo(x, rng).kl.data.mean() / math.log(2))
        print(f"  {name}: {found[0]:.5f} at {found[1]:.0f} bits", flush=True)
        return found

    ours = trained_alike(VQVAE(rng=rng))
    q = ours.encode(x)
    uniform = judged("VQVAE, uniform prior", ours, q.mean)
    words = ours.codes(images.reshape(-1, 784) / np.float32(255)).reshape(-1, 49).astype(np.float32)
    ours.use(trained_alike(PixelCNN(128, ours.grid, rng=rng), words, 2, 3e-3))
    learned, used = judged("VQVAE, PixelCNN", ours, q.mean), perplexity(q.k, 128)
    rows = [("half of the codes / perplexity", 64 / used, 1.0, f"{used:.1f} of 128")]
    for name, mine, make in (
            ("a VAE of the same networks, PixelCNN", learned, lambda **o: GridVAE(4, variance=0.022, **o)),
            ("a VAE, 784-400-64, uniform prior", uniform, lambda **o: VAE(784, 64, (400,), variance=0.001, **o)),
            ("a VAE of the same networks, uniform prior", uniform, lambda **o: GridVAE(4, variance=0.0022, **o))):
        other = trained_alike(make(likelihood="gaussian", rng=rng))
        with no_grad():
            theirs = judged(name, other, other.encode(x).sample(rng))
        rows.append((f"error of VQVAE / {name}", mine[0] / theirs[0], 1.0,
                     f"{mine[0]:.5f} at {mine[1]:.0f} / {theirs[0]:.5f} at {theirs[1]:.0f} bits"))
    return rows


def flow_energies(contest, seeds=3):
    """KL, by quadrature, of 32 planar layers to each of the four energies; a minute."""
    rows = []
    for name, energy in ENERGIES.items():
        found = []
        for rng in map(np.random.default_rng, range(seeds)):
            flow = fit_energy(Flow([Planar(2, rng=rng) for _ in range(32)]), energy, rng)
            found.append(energy_kl(flow, energy))
            print(f"  {name}: {found[-1]:.3f} nats", flush=True)
        rows.append((f"32 planar layers: KL to {name}, the worst seed, nats", max(found), 0.15,
                     ", ".join(f"{v:.3f}" for v in found)))
    return rows


def flow_posteriors(contest, epochs=20, seeds=3, warmup=2000):
    """-ln p(x) with a flow posterior below that with a diagonal one; four minutes on a core.

    For `warmup` steps the weight of the KL rises, for both. Without, both switch off latents that they would have had a
    use for: the diagonal one ends 5 nats above, and which latents are left counts for more than the shape of q.
    """
    less, detail = beside_vae(FlowVAE, epochs, seeds, kl_warmup=warmup)
    return [("-ln p(x) with a flow posterior, less the diagonal one's, nats", less, -0.5, detail)]


SLOW = iwae_bound, hierarchies, vq_words, flow_energies, flow_posteriors
