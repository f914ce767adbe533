"""The VAE's family: a step of each variant; what the label and a part of an image bring; what β disentangles.

Each function takes a Contest, and returns rows: what, value, target, detail. Those of SLOW train for many minutes, and
run only when they are named.
"""
import contextlib
import io
import time

import numpy as np

from autograd import no_grad, optim
from minivae.data import Batches, binarise, mnist, sprites
from minivae.metrics import mig
from minivae.metrics.classifier import digit_classifier
from minivae.train import fit
from minivae.vae import CVAE, DIPVAE, VAE, BetaTCVAE, BetaVAE, FactorVAE, FeedForward

from .contest import contender
from .ours import digits, players


VARIANTS = {"VAE": (VAE, {}), "CVAE": (CVAE, {"condition_dim": 10}), "BetaVAE": (BetaVAE, {}),
            "BetaTCVAE": (BetaTCVAE, {"data_size": 60_000}), "DIPVAE": (DIPVAE, {}), "FactorVAE": (FactorVAE, {})}


def variant(name, D, d):
    """A training step of one of VARIANTS, batch 128."""
    cls, options = VARIANTS[name]
    x, y = digits(D, 128), np.random.default_rng(0).integers(0, 10, 128)
    return players(cls(D, latent_dim=d, hidden=(400,), rng=np.random.default_rng(0), **options),
                   (x, y) if cls is CVAE else x)


def variants(contest):
    """A step of the CVAE on digits, and of those that weigh the KL otherwise on sprites, beside the VAE's."""
    rows = []
    for D, d, names in ((784, 20, ("CVAE",)), (1024, 10, ("BetaVAE", "BetaTCVAE", "DIPVAE", "FactorVAE"))):
        rows += contest.compare(f"train step, {D}-400-{d}", {
            name: contender("family:variant", name, D, d) for name in ("VAE", *names)},
            [(name, "VAE", 2.0 if name == "FactorVAE" else 1.15) for name in names])
    return rows


def trained(model, batches, epochs):
    optimizer = optim.Adam(model.parameters(), optim.warmup_cosine(1e-3, 50, epochs * len(batches)))
    with contextlib.redirect_stdout(io.StringIO()):
        fit(model, batches, epochs=epochs, optimizer=optimizer, rng=np.random.default_rng(1))
    return model


def conditional(contest):
    """What the label brings, and whether samples are what was asked for: the demo's model and schedule."""
    train, test, sizes = mnist("train"), mnist("test"), dict(latent_dim=4, hidden=(400, 400))
    rng, x = np.random.default_rng(0), binarise(test.images, np.random.default_rng(1))
    vae = trained(VAE(784, rng=rng, **sizes), Batches(train.images, 128, binarise=True), 10)
    cvae = trained(CVAE(784, 10, prior_hidden=(100,), rng=rng, **sizes),
                   Batches(train.images, 128, binarise=True, labels=train.labels), 10)
    gain = cvae.log_likelihood(x, test.labels, 100, rng) - vae.log_likelihood(x, 100, rng)
    wanted = np.arange(2000) % 10
    wrong = np.mean(digit_classifier().predict(cvae.sample(wanted, rng)) != wanted)
    return [("conditional samples read as another class", wrong, 0.03, "of 2,000"),
            ("ln p(x) - ln p(x | y), nats a test digit", -gain.mean(), -0.7,
             f"+- {gain.std() / len(gain) ** 0.5:.2f}")]


def completion(contest):
    """-ELBO of the quadrants that are not given, scored once, at the epoch where held-out training digits were best.

    The task is that of Sohn, Lee and Yan 2015, the targets are the figures of Pyro's example, pyro.ai/examples/cvae.
    """
    corner, half = np.arange(784).reshape(28, 28), np.arange(28) < 14
    quadrants, rows = [corner[~half][:, half], corner[half][:, half], corner[half][:, ~half]], []
    for n, target, baseline_target in ((1, 71.8, 100.4), (2, 51.0, 61.9), (3, 24.2, 25.4)):
        seen = np.concatenate([part.ravel() for part in quadrants[:n]])
        rest = np.setdiff1d(np.arange(784), seen)
        fitted, held, test = (tuple(mnist(split).images.reshape(-1, 784)[:, part] / np.float32(255)
                                    for part in (rest, seen)) for split in ("fit", "validation", "test"))
        rng = np.random.default_rng(0)
        cvae = CVAE(len(rest), len(seen), 200, (500, 500), prior_hidden=(500, 500), rng=rng)
        plain = FeedForward(len(rest), len(seen), (500, 500), rng=rng)
        found = [early_stopped(model, fitted, held, test) for model in (cvae, plain)]
        rows.append((f"{n} of 4 quadrants given: -ELBO of the rest, test digits", found[0], target,
                     f"nats; without latents {found[1]:.1f}, in Pyro's example {baseline_target}"))
    return rows


def early_stopped(model, fitted, held, test, patience=3, most=40):
    """The test loss at the epoch whose validation loss is least; Adam at 1e-3."""
    batches, rng, best = Batches(fitted[0], 128, labels=fitted[1]), np.random.default_rng(1), (np.inf, None, 0)
    optimizer = optim.Adam(model.parameters(), 1e-3)

    @no_grad()
    def loss(data):
        parts = [(data[0][i:i + 1000], data[1][i:i + 1000]) for i in range(0, len(data[0]), 1000)]
        return np.mean([model.loss(part, np.random.default_rng(i))[0].item() for i, part in enumerate(parts)])
    for epoch in range(most):
        with contextlib.redirect_stdout(io.StringIO()):
            fit(model, batches, epochs=1, optimizer=optimizer, rng=rng)
        now = loss(held)
        if now < best[0]:
            best = now, model.state(), epoch
        if epoch - best[2] >= patience:
            break
    model.load_state(best[1])
    return loss(test)


def untangling(contest, seconds=180, seeds=5):
    """The mutual information gap of three models on sprites, `seconds` of training each."""
    data = sprites(32, orientations=1, xs=16, ys=16)
    x, factors, gaps = data[:].reshape(len(data), -1) / np.float32(255), data.factors(slice(None)), {}
    for name, (cls, options) in {"beta-TCVAE, 6": (BetaTCVAE, {"beta": 6.0, "data_size": len(data)}),
                                 "beta-VAE, 4": (BetaVAE, {"beta": 4.0}), "VAE": (VAE, {})}.items():
        for seed in range(seeds):
            rng = np.random.default_rng(seed)
            model = cls(1024, latent_dim=10, hidden=(400, 400), rng=rng, **options)
            batches, optimizer = Batches(x, 128), optim.Adam(model.parameters(), 2e-3)
            end = time.perf_counter() + seconds
            with contextlib.redirect_stdout(io.StringIO()):
                while time.perf_counter() < end:
                    fit(model, batches, epochs=1, optimizer=optimizer, rng=rng)
            gaps.setdefault(name, []).append(mig(model.encode(x).sample(rng), factors))
    report = {name: (np.mean(v), np.std(v, ddof=1) / len(v) ** 0.5) for name, v in gaps.items()}
    detail = "; ".join(f"{name}: {mean:.3f} +- {error:.3f}" for name, (mean, error) in report.items())
    return [("1 - MIG of beta-TCVAE on sprites", 1 - report["beta-TCVAE, 6"][0], 0.7, detail)]


BENCHES = (variants,)
SLOW = conditional, completion, untangling
