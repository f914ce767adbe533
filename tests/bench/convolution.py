"""How fast convolution is beside PyTorch's, on images as its user has them: (B, C, H, W), contiguous.

Takes the number of rounds and the `medians` of the report, and returns rows: what, value, target, detail.
"""
import numpy as np

from autograd import Tensor
from autograd.conv import conv2d

# C_in, C_out, image, stride, and the targets of forward + gradients and of forward alone
SHAPES = [(32, 32, 28, 1, 1.0, np.inf), (64, 64, 14, 1, 1.0, np.inf), (64, 64, 7, 1, np.inf, np.inf),
          (96, 32, 28, 1, np.inf, np.inf), (128, 64, 14, 1, np.inf, np.inf), (32, 64, 28, 2, np.inf, np.inf),
          (64, 64, 14, 2, np.inf, np.inf), (1, 32, 28, 1, np.inf, np.inf), (32, 1, 28, 1, np.inf, np.inf)]


def contenders(c_in, c_out, size, stride, batch=64):
    """Forward, and forward with both gradients and the bias's: of ours, and of PyTorch in both of its layouts."""
    rng = np.random.default_rng(0)
    shapes = (batch, size, size, c_in), (3, 3, c_in, c_out), (c_out,)
    x, w, b = (rng.standard_normal(shape).astype(np.float32) for shape in shapes)
    g = rng.standard_normal(conv2d(x, w, b, stride=stride, padding=1).shape).astype(np.float32)
    leaves = [Tensor(v, requires_grad=True) for v in (x, w, b)]

    def ours():
        for leaf in leaves:
            leaf.grad = None
        conv2d(*leaves, stride=stride, padding=1).backward(g)
    found = {"ours": (lambda: conv2d(x, w, b, stride=stride, padding=1), ours)}
    try:
        import torch
    except ImportError:
        print("  without PyTorch")
        return found
    for name, layout in (("PyTorch", torch.contiguous_format), ("channels last", torch.channels_last)):
        leaf, kernel, cotangent = (torch.tensor(v).permute(*axes).contiguous(memory_format=layout).requires_grad_(r)
                                   for v, axes, r in ((x, (0, 3, 1, 2), True), (w, (3, 2, 0, 1), True),
                                                      (g, (0, 3, 1, 2), False)))
        bias = torch.tensor(b, requires_grad=True)

        def forward(leaf=leaf, kernel=kernel, bias=bias):
            with torch.no_grad():
                torch.nn.functional.conv2d(leaf, kernel, bias, stride, 1)

        def both(leaf=leaf, kernel=kernel, bias=bias, cotangent=cotangent):
            leaf.grad = kernel.grad = bias.grad = None
            torch.nn.functional.conv2d(leaf, kernel, bias, stride, 1).backward(cotangent)
        found[name] = forward, both
    return found


def conv(rounds, medians):
    """3 x 3 convolutions, padded by 1, of 64 images: forward, and forward with the gradients."""
    rows = []
    for c_in, c_out, size, stride, *targets in SHAPES:
        found = contenders(c_in, c_out, size, stride)
        for part, target in (1, targets[0]), (0, targets[1]):
            times = medians({name: pair[part] for name, pair in found.items()}, rounds)
            if "PyTorch" in times:
                what = f"conv {c_in} -> {c_out} at {size}{f', stride {stride}' * (stride > 1)}, {'+ gradients' * part}"
                last = f", channels last {times['channels last'] * 1e3:.3g}"
                rows.append((f"{what or ''}: ours / PyTorch".replace(", :", ":"), times["ours"] / times["PyTorch"],
                             target, f"{times['ours'] * 1e3:.3g} / {times['PyTorch'] * 1e3:.3g} ms{last}"))
    return rows


BENCHES = (conv,)
