"""A training step of each variant of the VAE beside the same model in PyTorch, eager; and the search for codes.

The benches take a Contest, and return rows: what, value, target, detail. The other functions return what is timed.
"""
import numpy as np

from minivae.flows import Flow, Planar
from minivae.vae import AAE, VAEGAN, VQVAE, FlowVAE, LadderVAE, StackedVAE, VampVAE

from .contest import contender
from .ours import digits, players, trainer


def vamp():
    return trainer(VampVAE(784, latent_dim=50, hidden=(200, 200), rng=np.random.default_rng(0)), digits(784, 128))


def stacked():
    return trainer(StackedVAE(784, rng=np.random.default_rng(0)), digits(784, 128))


def ladder():
    return trainer(LadderVAE(784, rng=np.random.default_rng(0)), digits(784, 128))


def flow(layers):
    """A FlowVAE with its own triangular layer, or with eight planar ones."""
    rng = np.random.default_rng(0)
    chain = Flow([Planar(50, 64, rng=rng) for _ in range(8)]) if layers == "planar" else None
    return trainer(FlowVAE(784, latent_dim=50, hidden=(200, 200), flow=chain, rng=rng), digits(784, 128))


def images():
    return np.random.default_rng(0).random((128, 784), np.float32)


def aae():
    return players(AAE(784, rng=np.random.default_rng(0)), images())


def vae_gan():
    return players(VAEGAN(784, rng=np.random.default_rng(0)), images())


def quantised():
    return players(VQVAE(rng=np.random.default_rng(0)), images())


def codes(K, d):
    """6272 vectors, and the codes among which the nearest is sought."""
    rng = np.random.default_rng(0)
    return rng.standard_normal((6272, d), np.float32), rng.standard_normal((K, d), np.float32)


def search(K, d):
    from minivae.vae.codebook import nearest
    z, e = codes(K, d)

    def step():
        nearest(z, e)
    return step


def distances(K, d):
    """The same by an array of all distances."""
    z, e = codes(K, d)

    def step():
        np.argmin(np.sum(z * z, axis=1)[:, None] - 2 * z @ e.T + np.sum(e * e, axis=1), axis=1)
    return step


def beside_torch(contest, what, maker, *arguments):
    return contest.compare(f"train step of {what}", {
        "ours": contender(f"variant_steps:{maker}", *arguments),
        "PyTorch eager": contender(f"torch_variants:{maker}", *arguments)}, [("ours", "PyTorch eager", 0.6)])


def bound_steps(contest):
    """A step of the VampVAE and the two hierarchies, batch 128."""
    return [*beside_torch(contest, "VampVAE, 500 pseudo-inputs", "vamp"),
            *beside_torch(contest, "StackedVAE, 784-50-25", "stacked"),
            *beside_torch(contest, "LadderVAE, 784-50-25", "ladder")]


def quantisation(contest):
    """The search for the nearest codes of 6272 vectors beside an array of all distances; and a step of the VQ-VAE."""
    rows = []
    for K, d in ((512, 64), (512, 16), (128, 16)):
        rows += contest.compare(f"nearest of {K} codes of length {d}", {
            "ours": contender("variant_steps:search", K, d),
            "a distance matrix": contender("variant_steps:distances", K, d)},
            [("ours", "a distance matrix", 0.5 if K == 512 else 1.0)])
    return rows + beside_torch(contest, "VQVAE, 7 x 7 of 128", "quantised")


def flow_step(contest):
    """A step of the FlowVAE, batch 128, with its triangular layer, and with planar ones."""
    return [*beside_torch(contest, "FlowVAE, a triangular layer", "flow", "triangular"),
            *beside_torch(contest, "FlowVAE, 8 planar layers", "flow", "planar")]


def game_steps(contest):
    """A step of all players of the AAE and of the VAE-GAN, 784-400-20, batch 128."""
    return [*beside_torch(contest, "AAE", "aae"), *beside_torch(contest, "VAEGAN", "vae_gan")]


BENCHES = bound_steps, quantisation, flow_step, game_steps
