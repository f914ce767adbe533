"""The U-Net: a denoiser for images, which sees them at several resolutions and returns one of the same shape.

    (1)  block:      h = W₁ ∗ φ(norm(x)) + V φ(τ);   y = x + W₂ ∗ φ(norm(h))                 [unet.block]
    (2)  time:       τ = MLP(sines and cosines of t) + e_y                                   [unet.time]
    (3)  attention:  y = x + attention(norm(x)), over the positions of the lowest level      [unet.attention]
    (4)  way up:     x = block([upsample(x), s]),  s what the way down had at that size      [unet.skip]

φ = SiLU, ∗ a 3 x 3 convolution, norm a group norm. On the way down each level has a block and a convolution of stride
2; the lowest has block, attention, block; on the way up each level has a block once more. Where a block changes the
number of channels, its x is passed through a 1 x 1 convolution before it is added. e_y is learned, one for each class
and one for "no class", which guidance needs. Inside, images are (B, H, W, C), as `autograd.conv` explains.

Ronneberger et al. 2015, "U-Net"; Ho et al. 2020, "Denoising diffusion probabilistic models", appendix B, made small.
"""
import numpy as np

from autograd import ops
from autograd.nn import Conv2d, Embedding, GroupNorm, Linear, Module, SelfAttention, check_rng, time_embedding
from autograd.pooling import upsample

from ..checks import check_classes, check_count, check_times


class Block(Module):
    """(1): x (B, H, W, c_in) and φ(τ) (B, d) to (B, H, W, c_out)."""

    def __init__(self, c_in: int, c_out: int, d: int, groups: int, *, rng: np.random.Generator):
        self.norm1, self.conv1 = GroupNorm(groups, c_in, silu=True), Conv2d(c_in, c_out, rng=rng)
        self.time = Linear(d, c_out, rng=rng)
        self.norm2, self.conv2 = GroupNorm(groups, c_out, silu=True), Conv2d(c_out, c_out, rng=rng)
        self.skip = Linear(c_in, c_out, rng=rng) if c_in != c_out else None

    def forward(self, x, tau):
        h = self.conv1(self.norm1(x)) + self.time(tau)[:, None, None]                      # (1)
        return (self.skip(x) if self.skip else x) + self.conv2(self.norm2(h))              # (1)


class Attention(Module):
    """(3): (B, H, W, c) to the same."""

    def __init__(self, c: int, groups: int, *, rng: np.random.Generator):
        self.norm, self.attention = GroupNorm(groups, c), SelfAttention(c, rng=rng)

    def forward(self, x):
        return x + self.attention(self.norm(x))                                            # (3)


class UNet(Module):
    """A denoiser of images: `unet(x, t, y)` takes (B, C, H, W), times in 1..T and classes, and returns (B, C, H, W).

    shape             (C, H, W) of an image; H and W can be halved once for each multiplier but the last
    channels          those of the first level, even; level i has `channels` times `multipliers[i]`
    num_classes       classes y in 0..num_classes - 1; num_classes itself, or y None, stands for "no class"
    learned_variance  return twice the channels: (B, 2 C, H, W), the second half for the variance
    groups            of every group norm; must divide every level's channels

    Raises ValueError for a shape that cannot be halved, or x, t and y that do not fit it or one another.
    """

    def __init__(self, shape: tuple[int, int, int], channels: int = 32, multipliers: tuple[int, ...] = (1, 2, 2),
                 num_classes: int | None = None, learned_variance: bool = False, groups: int = 8, *,
                 rng: np.random.Generator):
        check_rng(rng)
        if not all(isinstance(v, (tuple, list)) for v in (shape, multipliers)) or len(shape) != 3 or not multipliers:
            raise ValueError(f"a UNet needs a shape (C, H, W) and some multipliers, not {shape} and {multipliers}")
        C, H, W = (check_count(n, "each of (C, H, W)") for n in shape)
        widths = [check_count(channels, "channels") * check_count(m, "each multiplier") for m in multipliers]
        least = 2 ** (len(widths) - 1)
        if H % least or W % least:
            raise ValueError(f"images of {H} x {W} cannot be halved {len(widths) - 1} times: "
                             f"height and width must be multiples of {least}")
        if any(c % check_count(groups, "groups") for c in [channels, *widths]):
            raise ValueError(f"the channels of each level must be a multiple of groups = {groups}, not {widths}")
        if channels % 2:
            raise ValueError(f"channels must be even, for as many sines and cosines of t, not {channels}")
        self.shape, self.channels, self.num_classes = (C, H, W), channels, num_classes
        self.learned_variance = bool(learned_variance)
        d = 4 * channels
        block = lambda c_in, c_out: Block(c_in, c_out, d, groups, rng=rng)
        self.time = [Linear(channels, d, "silu", rng=rng), Linear(d, d, rng=rng)]
        classes = None if num_classes is None else check_count(num_classes, "num_classes") + 1
        self.classes = classes and Embedding(classes, d, rng=rng)
        self.stem = Conv2d(C, channels, rng=rng)
        *upper, lowest = widths
        self.down = [block(c_in, c_out) for c_in, c_out in zip([channels, *upper], upper)]
        self.halve = [Conv2d(c, c, stride=2, rng=rng) for c in upper]
        self.middle = [block([channels, *upper][-1], lowest), Attention(lowest, groups, rng=rng), block(lowest, lowest)]
        self.up = [block(c_in + c, c) for c_in, c in zip(widths[:0:-1], upper[::-1])]
        self.norm = GroupNorm(groups, widths[0], silu=True)
        self.head = Conv2d(widths[0], C * (1 + self.learned_variance), rng=rng)

    def forward(self, x, t, y=None):
        if np.shape(x)[1:] != self.shape or not np.shape(t) == np.shape(x)[:1] == np.shape(t if y is None else y):
            raise ValueError(f"this UNet takes x (B, {', '.join(map(str, self.shape))}) and t and y (B,), not "
                             f"{np.shape(x)}, {np.shape(t)} and {np.shape(y)}")
        tau = self.embed(check_times(t, len(x)), y)
        x, skips = self.stem(np.transpose(x, (0, 2, 3, 1))), []
        for block, halve in zip(self.down, self.halve):
            x = block(x, tau)
            skips.append(x)
            x = halve(x)
        first, attention, last = self.middle
        x = last(attention(first(x, tau)), tau)
        for block in self.up:
            x = block(ops.concatenate([upsample(x), skips.pop()], axis=-1), tau)           # (4)
        return np.transpose(self.head(self.norm(x)), (0, 3, 1, 2))

    def embed(self, t, y):
        """φ(τ), (B, d), of times and classes (B,)."""
        first, second = self.time
        tau = second(first(time_embedding(t, self.channels, dtype=first.w.dtype)))
        if (y := check_classes(y, len(t), self.num_classes)) is not None:
            tau = tau + self.classes(y)                                                    # (2)
        return ops.silu(tau)
