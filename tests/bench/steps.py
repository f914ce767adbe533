"""Training steps and single operations of this project beside those of PyTorch and JAX.

Each function takes a Contest, and returns rows: what, value, target, detail, unit.
"""
import numpy as np

from minivae.data import TOYS, sprites
from minivae.diffusion import Schedule

from .contest import PEER, contender

PLAIN = {"AUTOGRAD_PLAIN": "1"}              # without the compiled floor
SHAPES = [(32, 32, 28, 1), (64, 64, 14, 1), (64, 64, 7, 1), (96, 32, 28, 1), (128, 64, 14, 1), (32, 64, 28, 2),
          (64, 64, 14, 2), (1, 32, 28, 1), (32, 1, 28, 1)]         # C_in, C_out, image, stride
WITH_TARGET = SHAPES[:2]


def peers(kind, *sizes):
    """The same step in JAX, and in PyTorch, eager and compiled."""
    return {"JAX jit": contender(f"jax_peers:{kind}", *sizes),
            "PyTorch eager": contender(f"torch_peers:{kind}", *sizes),
            "torch.compile": contender(f"torch_peers:{kind}", *sizes, True)}


def step(contest):
    """The VAE's training step beside its peers, the bare matrix products, and our own plain floor."""
    sizes = 784, 400, 20, 128
    return contest.compare("VAE train step 784-400-20, batch 128", {
        "ours": contender("ours:vae", *sizes), "ours, plain floor": contender("ours:vae", *sizes, **PLAIN),
        "bare products": contender("bare:products", *sizes), **peers("vae", *sizes)},
        [("ours", PEER, 0.9), ("ours", "bare products", 1.3), ("ours, plain floor", "ours", 3.0)])


def small_step(contest):
    """The same of a smaller network and batch."""
    sizes = 784, 200, 50, 20
    return contest.compare("VAE train step 784-200-50, batch 20", {
        "ours": contender("ours:vae", *sizes), **peers("vae", *sizes)}, [("ours", PEER, 0.95)])


def iwae(contest):
    """The IWAE's training step, k = 50."""
    sizes = 784, 200, 50, 128, 50
    return contest.compare("IWAE train step, k = 50, 784-200-200-50, batch 128", {
        "ours": contender("ours:iwae", *sizes), **peers("iwae", *sizes)}, [("ours", PEER, 0.9)], seconds=0.5)


def unet(contest):
    """The U-Net's training step, 28 x 28, batch 64, channels 32, multipliers 1-2-2."""
    alpha_bar = Schedule.cosine(1000).alpha_bar.tolist()
    forms = {f"{name}{', channels last' * last}": contender("denoisers:unet_step", 64, alpha_bar, compiled, last)
             for last in (False, True) for name, compiled in (("PyTorch eager", False), ("torch.compile", True))}
    return contest.compare("U-Net train step, 28 x 28, batch 64", {"ours": contender("ours:unet", 64), **forms},
                           [("ours", PEER, 0.8)], seconds=0.6)


def mlp_step(contest):
    """The training step of the denoiser of points, three layers of 128, batch 256."""
    x, hidden = TOYS["spirals"](256, np.random.default_rng(0)).tolist(), (128, 128, 128)
    alpha_bar = Schedule.cosine(1000).alpha_bar.tolist()
    return contest.compare("MLP denoiser train step, 3 x 128, batch 256", {
        "ours": contender("ours:mlp_denoiser", x, 1000, hidden),
        "JAX jit": contender("jax_peers:mlp_denoiser", x, alpha_bar, hidden),
        "PyTorch eager": contender("denoisers:mlp_step", x, alpha_bar, hidden),
        "torch.compile": contender("denoisers:mlp_step", x, alpha_bar, hidden, True)}, [("ours", PEER, 0.9)])


def chain(contest):
    """One operation on one number, forward and backward: what recording it costs."""
    return contest.compare("one op, forward and backward", {
        "ours": contender("ours:chain", 5000), "ours, plain floor": contender("ours:chain", 5000, **PLAIN),
        "PyTorch": contender("torch_peers:chain", 5000), "bare NumPy": contender("bare:chain", 5000)},
        [("ours", PEER, 0.6), ("ours, plain floor", PEER, 1.1), ("ours", "bare NumPy", 2.5)], scale=1e6, unit="us")


def conv(contest):
    """3 x 3 convolutions of 64 images, forward, and forward with the gradients."""
    rows = []
    for shape in SHAPES:
        c_in, c_out, size, stride = shape
        for gradients in (True, False):
            what = (f"conv {c_in} -> {c_out} at {size}{f', stride {stride}' * (stride > 1)}"
                    f"{', with gradients' * gradients}")
            rows += contest.compare(what, {
                "ours": contender("ours:convolution", *shape, 64, gradients),
                "PyTorch": contender("torch_peers:convolution", *shape, 64, gradients, False),
                "PyTorch, channels last": contender("torch_peers:convolution", *shape, 64, gradients, True)},
                [("ours", PEER, 1.0 if shape in WITH_TARGET and gradients else np.inf)])
    return rows


def epochs(contest):
    """Ten epochs of the demo's training."""
    sizes = 784, 400, 20, 128
    return contest.compare("10 epochs of the demo's training", {
        "ours": contender("ours:epoch", *sizes), "PyTorch eager": contender("torch_peers:epoch", *sizes)},
        [("ours", "PyTorch eager", 0.5)], scale=10, unit="s", rounds=5)


def sampling(contest):
    """64 digits by 50 steps of DDIM."""
    alpha_bar = Schedule.cosine(1000).alpha_bar.tolist()
    return contest.compare("64 digits, 50 DDIM steps", {
        "ours": contender("ours:ddim", 64, 50), "PyTorch": contender("denoisers:ddim", 64, alpha_bar, 50),
        "PyTorch, channels last": contender("denoisers:ddim", 64, alpha_bar, 50, True)},
        [("ours", PEER, 1.0)], rounds=3)


def sprite():
    rng, data = np.random.default_rng(0), sprites(64)

    def step():
        data.batch(64, rng)
    step.calls = 64
    return step


def drawing(contest):
    """Sprites a second, in batches of 64."""
    each = contest.medians({"ours": contender("steps:sprite")})["ours"]
    return [("time to draw a sprite of 64 x 64, over 1/5,000 s", each * 5000, 1, f"{1 / each:,.0f} a second")]


CONDITIONAL = step, small_step, unet, iwae, mlp_step, chain        # those that every condition is for
BENCHES = *CONDITIONAL, conv, epochs, sampling, drawing
