"""The variants in numbers: a step of each beside the same model in PyTorch, eager; what each of them brings.

Each function takes the number of rounds and the `medians` of the report, and returns rows: what, value, target, detail.
Those of SLOW train for many minutes, say what they find after each model, and run only when they are named.
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
from minivae.vae import AAE, IWAE, VAE, VAEGAN, VQVAE, FlowVAE, LadderVAE, PixelCNN, StackedVAE, VampVAE
from minivae.vae.codebook import nearest, perplexity
from minivae.vae.convolutional import Decoder, Encoder
from minivae.vae.ladder_vae import LEAST, ONE


def our_step(model, x):
    rng, optimizer = np.random.default_rng(0), optim.Adam(model.parameters(), 1e-3)

    def step():
        loss, _ = model.loss(x, rng)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return step


def torch_step(loss, *nets):
    """A step of Adam on `loss()` for the parameters of `nets`."""
    import torch
    optimizer = torch.optim.Adam([p for net in nets for p in net.parameters()], 1e-3)

    def step():
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()
    return step


def torch_mlp(*sizes):
    from torch import nn
    layers = [layer for i, o in zip(sizes, sizes[1:]) for layer in (nn.Linear(i, o), nn.ReLU())]
    return nn.Sequential(*layers[:-1])


def torch_losses(x):
    """By name, the nets and the loss of each model as a PyTorch user would write it."""
    import torch
    from torch.nn.functional import binary_cross_entropy_with_logits, softplus
    x = torch.from_numpy(x)
    nll = lambda logits, x: binary_cross_entropy_with_logits(logits, x, reduction="none").sum(-1)
    draw = lambda mu, logvar: mu + torch.exp(0.5 * logvar) * torch.randn_like(mu)
    each = lambda z, mu, logvar: -0.5 * (math.log(2 * math.pi) + logvar + (z - mu) ** 2 * torch.exp(-logvar))
    log_normal = lambda z, mu, logvar: each(z, mu, logvar).sum(-1)
    zero, found = torch.zeros(()), {}

    def of_level(h):
        mu, raw = h.chunk(2, dim=1)
        return mu, torch.log(softplus(raw + ONE) + LEAST)

    encoder, decoder = torch_mlp(784, 200, 200, 100), torch_mlp(50, 200, 200, 784)

    def iwae(k=50):
        mu, logvar = encoder(x).chunk(2, dim=1)
        z = draw(mu.expand(k, -1, -1), logvar)
        log_w = -nll(decoder(z), x.expand(k, -1, -1)) + log_normal(z, zero, zero) - log_normal(z, mu, logvar)
        return -(torch.logsumexp(log_w, dim=0) - math.log(k)).mean()
    found["IWAE, k = 50"] = iwae, encoder, decoder

    encoder2, decoder2 = torch_mlp(784, 200, 200, 100), torch_mlp(50, 200, 200, 784)
    pseudo = torch.nn.Embedding(500, 784)

    def vamp():
        mu, logvar = encoder2(x).chunk(2, dim=1)
        z = draw(mu, logvar)
        means, logvars = encoder2(torch.sigmoid(pseudo.weight)).chunk(2, dim=1)
        log_p = torch.logsumexp(log_normal(z[:, None], means, logvars), dim=1) - math.log(500)
        return (nll(decoder2(z), x) + log_normal(z, mu, logvar) - log_p).mean()
    found["VampVAE, 500 pseudo-inputs"] = vamp, encoder2, decoder2, pseudo

    q1, q2, p1 = torch_mlp(784, 400, 100), torch_mlp(50, 200, 50), torch_mlp(25, 200, 100)
    decoder3 = torch_mlp(50, 400, 784)

    def stacked():
        one = of_level(q1(x))
        z1 = draw(*one)
        two = of_level(q2(z1))
        z2 = draw(*two)
        kl = log_normal(z1, *one) - log_normal(z1, *of_level(p1(z2))) + log_normal(z2, *two) - log_normal(
            z2, zero, zero)
        return (nll(decoder3(z1), x) + kl).mean()
    found["StackedVAE, 784-50-25"] = stacked, q1, q2, p1, decoder3

    up1, up2, hint1, hint2 = torch_mlp(784, 400), torch_mlp(400, 200), torch_mlp(400, 100), torch_mlp(200, 50)
    above, decoder4 = torch_mlp(25, 200, 100), torch_mlp(50, 400, 784)

    def ladder():
        h1 = torch.relu(up1(x))
        mu1, logvar1 = of_level(hint1(h1))
        mu2, logvar2 = of_level(hint2(torch.relu(up2(h1))))
        m, v = of_level(above(draw(mu2, logvar2)))
        share = torch.sigmoid(v - logvar1)
        mu, logvar = m + share * (mu1 - m), logvar1 - softplus(logvar1 - v)
        kl = 0.5 * ((mu2 ** 2 + torch.exp(logvar2) - 1 - logvar2).sum(1)
                    + ((mu - m) ** 2 * torch.exp(-v) + torch.exp(logvar - v) - 1 - logvar + v).sum(1))
        return (nll(decoder4(draw(mu, logvar)), x) + kl).mean()
    found["LadderVAE, 784-50-25"] = ladder, up1, up2, hint1, hint2, above, decoder4
    return found


def bound_steps(rounds, medians):
    """A step of the IWAE, the VampVAE and the two hierarchies, batch 128."""
    rng, rows, sizes = np.random.default_rng(0), [], dict(latent_dim=50, hidden=(200, 200))
    x = (rng.random((128, 784)) < 0.13).astype(np.float32)
    theirs = torch_losses(x)
    for name, model in zip(theirs, (IWAE(784, rng=rng, **sizes), VampVAE(784, rng=rng, **sizes),
                                    StackedVAE(784, rng=rng), LadderVAE(784, rng=rng))):
        times = medians({"ours": our_step(model, x), "theirs": torch_step(*theirs[name])}, rounds)
        rows.append((f"train step of {name}: ours / PyTorch eager", times["ours"] / times["theirs"], 0.6,
                     f"{times['ours'] * 1e3:.3g} / {times['theirs'] * 1e3:.3g} ms"))
    return rows


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


def iwae_bound(rounds, medians, epochs=4, seeds=3):
    """-ln p(x) of the IWAE below that of the VAE; seven minutes on a core.

    The plain VAE is the one beside it. Part of the gain are latents that it switches off: with a warm-up of the KL over
    938 steps, two of the four epochs, seed 0 ends at 111.4 nats for 116.0, still above the IWAE's 109.1.
    """
    less, detail = beside_vae(IWAE, epochs, seeds)
    return [("-ln p(x) of IWAE, k = 50, less the VAE's, nats", less, -1.0, detail)]


def hierarchies(rounds, medians, epochs=20, seeds=3, warmup=2000, batch_norm=True, **options):
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


def quantisation(rounds, medians):
    """The search for the nearest codes of 6272 vectors beside an array of all distances; and a step of the VQ-VAE."""
    rng, rows = np.random.default_rng(0), []

    def distances(z, e):
        return np.argmin(np.sum(z * z, axis=1)[:, None] - 2 * z @ e.T + np.sum(e * e, axis=1), axis=1)
    for K, d in ((512, 64), (512, 16), (128, 16)):
        z, e = rng.standard_normal((6272, d), np.float32), rng.standard_normal((K, d), np.float32)
        times = medians({"ours": lambda: nearest(z, e), "theirs": lambda: distances(z, e)}, rounds)
        rows.append((f"nearest of {K} codes of length {d} / a distance matrix", times["ours"] / times["theirs"],
                     0.5 if K == 512 else 1.0, f"{times['ours'] * 1e3:.3g} / {times['theirs'] * 1e3:.3g} ms"))
    x = rng.random((128, 784), np.float32)
    model = VQVAE(rng=rng)
    optimizer = optim.Adam(model.parameters(), 1e-3)

    def step():
        for _, loss, _ in model.objectives(x, rng):
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    times = medians({"ours": step, "theirs": torch_vq_step(x)}, rounds)
    return rows + [("train step of VQVAE, 7 x 7 of 128: ours / PyTorch eager", times["ours"] / times["theirs"], 0.6,
                    f"{times['ours'] * 1e3:.3g} / {times['theirs'] * 1e3:.3g} ms")]


def torch_vq_step(x, K=128, d=16, beta=0.25, decay=0.99):
    """`VQVAE()` as a PyTorch user would write it; nothing is restarted.

    Where the C library gives the memory of large arrays back to the system after each step, and PyTorch takes it anew,
    the step takes twice as long. A heap that once was larger keeps it, so this is PyTorch at its best.
    """
    import torch
    from torch import nn
    from torch.nn.functional import binary_cross_entropy_with_logits, one_hot
    x = torch.from_numpy(x).reshape(-1, 1, 28, 28)
    encoder = nn.Sequential(nn.Conv2d(1, 32, 3, 2, 1), nn.ReLU(), nn.Conv2d(32, 64, 3, 2, 1), nn.ReLU(),
                            nn.Conv2d(64, d, 3, padding=1))
    decoder = nn.Sequential(nn.Conv2d(d, 64, 3, padding=1), nn.ReLU(), nn.Upsample(scale_factor=2),
                            nn.Conv2d(64, 32, 3, padding=1), nn.ReLU(), nn.Upsample(scale_factor=2),
                            nn.Conv2d(32, 1, 3, padding=1))
    e, uses, sums = torch.randn(K, d), torch.ones(K), torch.randn(K, d)
    large = [torch.zeros(6_400_000) for _ in range(3)]
    del large

    def loss():
        z_e = encoder(x).permute(0, 2, 3, 1)
        z = z_e.detach().reshape(-1, d)
        k = torch.argmin((z * z).sum(1, keepdim=True) - 2 * z @ e.T + (e * e).sum(1), dim=1)
        z_q = e[k].reshape(z_e.shape)
        of = one_hot(k, K).float()
        uses.mul_(decay).add_((1 - decay) * of.sum(0))
        sums.mul_(decay).add_((1 - decay) * of.T @ z)
        e.copy_(sums / uses.clamp_min(1e-5)[:, None])
        logits = decoder((z_e + (z_q - z_e).detach()).permute(0, 3, 1, 2))
        nll = binary_cross_entropy_with_logits(logits, x, reduction="sum")
        return (nll + beta * ((z_e - z_q) ** 2).sum()) / len(x)
    return torch_step(loss, encoder, decoder)


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


def vq_words(rounds, medians, epochs=5):
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


def torch_planar():
    """The nets and the map of eight planar layers as a PyTorch user would write it: z to z', and ln |det|."""
    import torch
    from torch.nn.functional import softplus
    nets = [torch.nn.Linear(64, 101) for _ in range(8)]

    def push(z, h):
        total = 0
        for net in nets:
            u, w, b = net(h).split([50, 50, 1], dim=1)
            wu = (w * u).sum(1, keepdim=True)
            c = softplus(wu + math.log(math.e - 1)) - 1
            u = u + (c - wu) * w / (w * w).sum(1, keepdim=True)
            t = torch.tanh((w * z).sum(1, keepdim=True) + b)
            z, total = z + u * t, total + torch.log1p(c * (1 - t * t))[:, 0]
        return z, total
    return nets, push


def torch_triangular():
    """The same of a triangular layer: a matrix of each example, and no volume changes."""
    import torch
    net = torch.nn.Linear(64, 2500)
    return [net], lambda z, h: (z + torch.bmm(net(h).view(-1, 50, 50).tril(-1), z[:, :, None])[:, :, 0], 0)


def torch_flow(x, nets, push):
    """The nets and the loss of a FlowVAE, as in `torch_losses`."""
    import torch
    from torch.nn.functional import binary_cross_entropy_with_logits
    x = torch.from_numpy(x)
    encoder, decoder = torch_mlp(784, 200, 200, 164), torch_mlp(50, 200, 200, 784)

    def loss():
        mu, logvar, h = encoder(x).split([50, 50, 64], dim=1)
        z0 = mu + torch.exp(0.5 * logvar) * torch.randn_like(mu)
        z, logdet = push(z0, h)
        kl = 0.5 * ((mu * mu + logvar.exp() - 1 - logvar).sum(1) + (z * z - z0 * z0).sum(1)) - logdet
        return (binary_cross_entropy_with_logits(decoder(z), x, reduction="none").sum(1) + kl).mean()
    return loss, encoder, decoder, *nets


def flow_step(rounds, medians):
    """A step of the FlowVAE, batch 128, with its triangular layer, and with planar ones."""
    rng, rows = np.random.default_rng(0), []
    x = (rng.random((128, 784)) < 0.13).astype(np.float32)
    for name, flow, theirs in (("a triangular layer", None, torch_triangular()),
                               ("8 planar layers", Flow([Planar(50, 64, rng=rng) for _ in range(8)]), torch_planar())):
        model = FlowVAE(784, latent_dim=50, hidden=(200, 200), flow=flow, rng=rng)
        times = medians({"ours": our_step(model, x), "theirs": torch_step(*torch_flow(x, *theirs))}, rounds)
        rows.append((f"train step of FlowVAE, {name}: ours / PyTorch eager", times["ours"] / times["theirs"], 0.6,
                     f"{times['ours'] * 1e3:.3g} / {times['theirs'] * 1e3:.3g} ms"))
    return rows


def flow_energies(rounds, medians, seeds=3):
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


def flow_posteriors(rounds, medians, epochs=20, seeds=3, warmup=2000):
    """-ln p(x) with a flow posterior below that with a diagonal one; four minutes on a core.

    For `warmup` steps the weight of the KL rises, for both. Without, both switch off latents that they would have had a
    use for: the diagonal one ends 5 nats above, and which latents are left counts for more than the shape of q.
    """
    less, detail = beside_vae(FlowVAE, epochs, seeds, kl_warmup=warmup)
    return [("-ln p(x) with a flow posterior, less the diagonal one's, nats", less, -0.5, detail)]


def torch_aae(x, gamma=10.0):
    """A step of `AAE(784)` as a PyTorch user would write it."""
    import torch
    from torch.nn.functional import binary_cross_entropy_with_logits, softplus
    x, encoder, decoder = torch.from_numpy(x), torch_mlp(784, 400, 40), torch_mlp(20, 400, 784)
    critic = torch_mlp(20, 256, 256, 1)
    vae = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], 1e-3)
    other = torch.optim.Adam(critic.parameters(), 1e-3, betas=(0.5, 0.9))

    def step():
        mu, logvar = encoder(x).chunk(2, dim=1)
        z = mu + torch.exp(0.5 * logvar) * torch.randn_like(mu)
        nll = binary_cross_entropy_with_logits(decoder(z), x, reduction="sum") / len(x)
        vae.zero_grad()
        (nll - gamma * critic(z).mean()).backward()
        vae.step()
        other.zero_grad()
        (softplus(-critic(torch.randn_like(mu))).mean() + softplus(critic(z.detach())).mean()).backward()
        other.step()
    return step


def torch_vae_gan(x, gamma=0.1, noise=0.3):
    """A step of `VAEGAN(784)`, turn by turn, as a PyTorch user would write it: a turn drops gradients not its own."""
    import torch
    from torch.nn.functional import softplus
    x, encoder, decoder = torch.from_numpy(x), torch_mlp(784, 400, 40), torch_mlp(20, 400, 784)
    hidden, last = torch.nn.Sequential(torch.nn.Linear(784, 400), torch.nn.ReLU()), torch.nn.Linear(400, 1)
    players = [torch.optim.Adam(encoder.parameters(), 1e-3),
               torch.optim.Adam(decoder.parameters(), 1e-3, betas=(0.5, 0.999)),
               torch.optim.Adam([*hidden.parameters(), *last.parameters()], 3e-4, betas=(0.5, 0.999))]

    def move(player, loss):
        players[player].zero_grad()
        loss.backward()
        players[player].step()

    def step():
        mu, logvar = encoder(x).chunk(2, dim=1)
        z = mu + torch.exp(0.5 * logvar) * torch.randn_like(mu)
        with torch.no_grad():
            seen = hidden(x)
            s = seen.square().mean().sqrt()
        unlike = lambda again: 0.5 * (((again - seen) / s) ** 2).sum(1).mean()
        kl = 0.5 * (mu ** 2 + torch.exp(logvar) - 1 - logvar).sum(1).mean()
        move(0, kl + unlike(hidden(torch.sigmoid(decoder(z)))))
        fakes = torch.sigmoid(decoder(torch.cat([z.detach(), torch.randn_like(z)])))
        again = hidden(fakes)
        move(1, gamma * unlike(again[:len(x)]) + softplus(-last(again)).mean())
        eps = noise * torch.randn_like(x)
        real, fake = (last(hidden(images)) for images in (x + eps, fakes.detach() + eps.repeat(2, 1)))
        move(2, softplus(-real).mean() + softplus(fake).mean())
    return step


def game_steps(rounds, medians):
    """A step of all players of the AAE and of the VAE-GAN, 784-400-20, batch 128."""
    rng, rows = np.random.default_rng(0), []
    x = rng.random((128, 784), np.float32)
    for cls, theirs in ((AAE, torch_aae(x)), (VAEGAN, torch_vae_gan(x))):
        model = cls(784, rng=rng)
        players = model.optimizer()

        def step():
            for player, loss, _ in model.objectives(x, rng):
                players[player].zero_grad()
                loss.backward()
                players[player].step()
        times = medians({"ours": step, "theirs": theirs}, rounds)
        rows.append((f"train step of {cls.__name__}: ours / PyTorch eager", times["ours"] / times["theirs"], 0.6,
                     f"{times['ours'] * 1e3:.3g} / {times['theirs'] * 1e3:.3g} ms"))
    return rows


BENCHES = bound_steps, quantisation, flow_step, game_steps
SLOW = iwae_bound, hierarchies, vq_words, flow_energies, flow_posteriors
