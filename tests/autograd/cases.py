"""One table of cases for the tests that walk every op: the function, the same in PyTorch, and the inputs.

A case is named after the op that it exercises, with what is special about it after a colon. An op without a case fails
`test_every_op_has_a_gradient_case`.
"""
from typing import Callable, NamedTuple
from zlib import crc32

import numpy as np

from autograd import OPS, Tensor, losses, ops, pooling
from autograd.linear import ACTIVATIONS, linear
from autograd.norm import group_norm as our_group_norm
from autograd.conv import conv2d
from minivae.diffusion.vlb import erfcx, log_ndtr
from minivae.flows.planar import planar
from minivae.vae.beta_tcvae import log_weights, total_correlation
from minivae.vae.vamp_vae import mixture_log_prob


class Case(NamedTuple):
    name: str
    f: Callable                              # of Tensors, or of ndarrays
    peer: Callable                           # of the module torch and of torch tensors
    inputs: tuple
    analytic: bool                           # the complex step applies
    smooth: bool                             # differentiable at the inputs

    def random(self, stream=1):
        """A generator whose draws are not the inputs, lest a test take one for the other, nor another stream's."""
        return np.random.default_rng([crc32(self.name.encode()), stream])

    def cotangent(self):
        return self.random(2).standard_normal(np.shape(self.f(*self.inputs)))

    def tensors(self, dtype=np.float64):
        return [Tensor(x, requires_grad=True, dtype=dtype) for x in self.inputs]

    def gradients(self):
        xs = self.tensors()
        self.f(*xs).backward(self.cotangent())
        return [x.grad for x in xs]


CASES = {}


def case(name, f, peer, *inputs, positive=False, analytic=True, smooth=True):
    """Enter a case. An input is a shape, to be drawn from N(0, 1) or U(0.5, 2), or an ndarray. `peer` may be a name."""
    assert name not in CASES, name
    rng = np.random.default_rng(crc32(name.encode()))
    draw = (lambda shape: rng.uniform(0.5, 2, shape)) if positive else rng.standard_normal
    inputs = tuple(x if isinstance(x, np.ndarray) else np.asarray(draw(x)) for x in inputs)
    call = (lambda torch, *xs: getattr(torch, peer)(*xs)) if isinstance(peer, str) else peer
    CASES[name] = Case(name, f, call, inputs, analytic and smooth, smooth)


def directional(f, x, v, h=3e-4):
    """The derivative of f at x along v, by central differences of sixth order: exact to about 1e-11."""
    at = lambda s: np.asarray(f(*[a + s * h * b for a, b in zip(x, v)]))
    return (45 * (at(1) - at(-1)) - 9 * (at(2) - at(-2)) + at(3) - at(-3)) / (60 * h)


def well_conditioned(*shape):
    return np.random.default_rng(len(shape)).standard_normal(shape) + 4 * np.eye(shape[-1])


M, V = (3, 4), (4,)
TIES = np.array([[1.0, 3.0, 3.0, 2.0], [5.0, 5.0, 5.0, 5.0], [0.0, -1.0, -2.0, 0.0]])
A = np.array

# Arithmetic
for name in ("add", "subtract", "multiply", "maximum", "minimum"):
    case(name, getattr(ops, name), name, M, M, analytic=name[0] not in "mM" or name == "multiply")
    case(f"{name}: broadcast", getattr(ops, name), name, (3, 1), (1, 4), analytic=name[0] != "m" or name == "multiply")
    case(f"{name}: a scalar", getattr(ops, name), name, (), M, analytic=name[0] != "m" or name == "multiply")
case("divide", ops.divide, "divide", M, M, positive=True)
case("divide: broadcast", ops.divide, "divide", (4,), (3, 1), positive=True)
case("divide: number", lambda x: 2 / x, lambda torch, x: 2 / x, M, positive=True)
case("subtract: number", lambda x: 1 - x, lambda torch, x: 1 - x, M)
case("negative", ops.negative, "negative", M)
case("positive", ops.positive, "positive", M)

# Elementwise
for name in ("exp", "expm1", "square", "sin", "cos", "tanh", "erf"):
    case(name, getattr(ops, name), name, M)
for name in ("log", "log1p", "sqrt"):
    case(name, getattr(ops, name), name, M, positive=True)
for name in ("sign", "abs", "sigmoid"):
    case(name, getattr(ops, name), name, M, analytic=False)
for name in ("softplus", "relu", "leaky_relu", "silu", "gelu"):
    case(name, getattr(ops, name), lambda torch, x, name=name: getattr(torch.nn.functional, name)(x), M, analytic=False)
case("leaky_relu: slope", lambda x: ops.leaky_relu(x, slope=0.3),
     lambda torch, x: torch.nn.functional.leaky_relu(x, 0.3), M, analytic=False)
for name in ("relu", "leaky_relu"):
    case(f"{name}: 0", getattr(ops, name), lambda torch, x, name=name: getattr(torch.nn.functional, name)(x),
         A([-1.0, 0.0, -0.0, 2.0]), smooth=False)
case("abs: 0", ops.abs, "abs", A([-1.0, 0.0, -0.0, 2.0]), smooth=False)
case("sign: 0", ops.sign, "sign", A([-1.0, 0.0, 2.0]), smooth=False)
case("sqrt: 0", ops.sqrt, "sqrt", A([0.0, 4.0]), smooth=False)
case("maximum: tie", ops.maximum, "maximum", A([1.0, 2.0, 3.0]), A([1.0, 3.0, 2.0]), smooth=False)
case("minimum: tie", ops.minimum, "minimum", A([1.0, 2.0, 3.0]), A([1.0, 3.0, 2.0]), smooth=False)
case("maximum: number", lambda x: ops.maximum(x, 0.1), lambda torch, x: torch.clamp(x, min=0.1), M, analytic=False)
MASK = A([[True, False, True, True], [False] * 4, [True] * 4])
case("where", lambda a, b: ops.where(MASK, a, b), lambda torch, a, b: torch.where(torch.tensor(MASK), a, b), M, M)
case("where: broadcast", lambda a, b: ops.where(MASK, a, b), lambda torch, a, b: torch.where(torch.tensor(MASK), a, b),
     (3, 1), ())
case("clip", lambda x: ops.clip(x, -0.5, 0.5), lambda torch, x: torch.clamp(x, -0.5, 0.5), M, analytic=False)
case("clip: bounds", lambda x: ops.clip(x, -1, 1), lambda torch, x: torch.clamp(x, -1, 1),
     A([-2.0, -1.0, 0.0, 1.0, 2.0]), smooth=False)
case("clip: below only", lambda x: ops.clip(x, 0.2), lambda torch, x: torch.clamp(x, 0.2), M, analytic=False)
case("clip: above only", lambda x: ops.clip(x, None, 0.2),
     lambda torch, x: torch.clamp(x, None, 0.2), M, analytic=False)
case("power", ops.power, "pow", M, M, positive=True)
case("power: broadcast", ops.power, "pow", (3, 1), V, positive=True)
case("power: number to a tensor", lambda x: 2.5 ** x, lambda torch, x: 2.5 ** x, M)
case("power: exponents of a negative base", lambda x: ops.power(x, np.arange(4).astype(x.dtype)),
     lambda torch, x: x ** torch.tensor([0.0, 1.0, 2.0, 3.0]), M)
case("power: 0", ops.power, "pow", A([0.0, 0.0, 0.0, 0.0, 2.0]), A([0.0, 1.0, 2.0, 0.5, 0.0]), smooth=False)
case("power: 0 to a negative power", lambda b: ops.power(A([0.0, 2.0], b.dtype), b),
     lambda torch, b: torch.pow(torch.tensor([0.0, 2.0]), b), A([-1.0, -1.0]), smooth=False)
for n in (2, 3, -1, -2.0, 0.5, 0, 1):
    case(f"power_n: {n}", lambda x, n=n: ops.power(x, n), lambda torch, x, n=n: torch.pow(x, n), M, positive=True)
for n in (0, 1, 2, 3, 1.5):
    case(f"power_n: 0 to the {n}", lambda x, n=n: ops.power(x, n), lambda torch, x, n=n: torch.pow(x, n),
         A([0.0, 1.0]), smooth=False)
case("power_n: negative base", lambda x: ops.power(x, 3), lambda torch, x: torch.pow(x, 3), M)

# Shapes and sums
for axis in (None, 0, -1, (0, 2), (-1, 1)):
    for keep in (False, True):
        case(f"sum: axis {axis}, keepdims {keep}", lambda x, axis=axis, keep=keep: ops.sum(x, axis, keep),
             lambda torch, x, axis=axis, keep=keep: torch.sum(x, (0, 1, 2) if axis is None else axis, keepdim=keep),
             (2, 3, 4))
case("sum: 0-d", ops.sum, "sum", ())
case("broadcast_to", lambda x: ops.broadcast_to(x, (2, 3, 4)),
     lambda torch, x: torch.broadcast_to(x, (2, 3, 4)), (3, 1))
case("cumsum: axis 0", lambda x: ops.cumsum(x, 0), lambda torch, x: torch.cumsum(x, 0), M)
case("cumsum: axis -1", lambda x: ops.cumsum(x, -1), lambda torch, x: torch.cumsum(x, -1), M)
case("cumsum: axis None", ops.cumsum, lambda torch, x: torch.cumsum(x.reshape(-1), 0), M)
case("reshape", lambda x: ops.reshape(x, (2, -1)), lambda torch, x: x.reshape(2, -1), M)
case("reshape: 0-d", lambda x: ops.reshape(x, ()), lambda torch, x: x.reshape(()), (1, 1))
case("transpose", ops.transpose, lambda torch, x: x.permute(2, 1, 0), (2, 3, 4))
case("transpose: axes", lambda x: ops.transpose(x, (2, 0, 1)), lambda torch, x: x.permute(2, 0, 1), (2, 3, 4))
case("transpose: negative axes", lambda x: ops.transpose(x, (-1, 0, 1)),
     lambda torch, x: x.permute(-1, 0, 1), (3, 3, 3))
case("swapaxes", lambda x: ops.swapaxes(x, 0, -1), lambda torch, x: torch.swapaxes(x, 0, -1), (2, 3, 4))
case("flip: all", ops.flip, lambda torch, x: torch.flip(x, (0, 1)), M)
case("flip: axis", lambda x: ops.flip(x, -1), lambda torch, x: torch.flip(x, (-1,)), M)
case("flip: axes", lambda x: ops.flip(x, (0, 2)), lambda torch, x: torch.flip(x, (0, 2)), (2, 3, 4))
case("tril", ops.tril, "tril", (2, 3, 3))
case("tril: k", lambda x: ops.tril(x, -1), lambda torch, x: torch.tril(x, -1), M)
INDICES = {"integer": 1, "negative": -1, "slice": slice(1, None), "slice of a step": (slice(None), slice(0, 4, 2)),
           "ellipsis": (..., 1), "new axis": (None, slice(None), 1, None), "integers": ([2, 0],),
           "repeated": ([0, 0, 2, 0], [1, 1, 3, 1]), "boolean": A([True, False, True]), "mask": MASK,
           "list of booleans": [False, True, True], "rows and a slice": ([1, 1], slice(0, 2)),
           "NumPy integer": np.int64(2), "outer": ([[0], [2]], [1, 1]), "nothing": [],
           "true": True, "false": (False, ..., 1), "true, not 1": (1, True), "row and columns": (1, [2, 2, 0]),
           "one element": (2, 3), "integer arrays": A([[0, 1], [1, 1]])}


def peer_index(torch, i):
    """NumPy's index i as PyTorch's."""
    is_array = isinstance(i, (list, np.ndarray, np.generic))
    return torch.as_tensor(i, dtype=None if np.size(i) else torch.long) if is_array else i


for name, index in INDICES.items():
    case(f"getitem: {name}", lambda x, index=index: ops.getitem(x, index), lambda torch, x, index=index: x[tuple(
        peer_index(torch, i) for i in (index if isinstance(index, tuple) else (index,)))], M)
case("getitem: slice backwards", lambda x: ops.getitem(x, slice(None, None, -2)),
     lambda torch, x: torch.flip(x, (0,))[::2], M)
case("scatter_add", lambda x: ops.scatter_add(x, A([0, 2, 0, 4]), (5, 3)),
     lambda torch, x: torch.zeros(5, 3).index_add(0, torch.tensor([0, 2, 0, 4]), x), (4, 3))
case("scatter_add: slice", lambda x: ops.scatter_add(x, slice(1, 3), (5, 3)),
     lambda torch, x: torch.nn.functional.pad(x, (0, 0, 1, 2)), (2, 3))
case("concatenate", lambda a, b: ops.concatenate([a, b]), lambda torch, a, b: torch.cat([a, b]), M, (2, 4))
case("concatenate: axis", lambda a, b, c: ops.concatenate([a, b, c], axis=-1),
     lambda torch, a, b, c: torch.cat([a, b, c], dim=-1), M, (3, 1), (3, 2))
case("concatenate: a constant", lambda a: ops.concatenate([a, np.ones((1, 4), a.dtype), a]),
     lambda torch, a: torch.cat([a, torch.ones(1, 4), a]), M)
case("pad", lambda x: ops.pad(x, ((1, 2), (0, 3))), lambda torch, x: torch.nn.functional.pad(x, (0, 3, 1, 2)), M)
case("pad: one width", lambda x: ops.pad(x, 2), lambda torch, x: torch.nn.functional.pad(x, (2, 2, 2, 2)), M)
case("pad: value", lambda x: ops.pad(x, (1, 2), 7.0),
     lambda torch, x: torch.nn.functional.pad(x, (1, 2, 1, 2), value=7.0), M)
case("stack", lambda a, b: ops.stack([a, b]), lambda torch, a, b: torch.stack([a, b]), M, M)
case("stack: axis", lambda a, b: ops.stack([a, b], axis=-1), lambda torch, a, b: torch.stack([a, b], -1), M, M)
case("split", lambda x: ops.split(x, 2, axis=1)[1], lambda torch, x: torch.tensor_split(x, 2, 1)[1], M)
case("split: cuts", lambda x: ops.split(x, [1, 3], axis=-1)[1], lambda torch, x: x[:, 1:3], M)
case("expand_dims", lambda x: ops.expand_dims(x, 1), lambda torch, x: x[:, None], M)
case("expand_dims: last", lambda x: ops.expand_dims(x, -1), lambda torch, x: x[..., None], M)
case("diag: of a matrix", ops.diag, "diag", M)
case("diag: tall", ops.diag, "diag", (4, 3))
case("diag: of a vector", ops.diag, "diag", V)
case("trace", ops.trace, "trace", (3, 3))

# Reductions
for name, peer in (("max", "amax"), ("min", "amin")):
    for axis in (None, 0, -1, (0, 2)):
        case(f"{name}: axis {axis}", lambda x, name=name, axis=axis: getattr(ops, name)(x, axis),
             lambda torch, x, peer=peer, axis=axis: getattr(torch, peer)(x, () if axis is None else axis),
             (2, 3, 4), analytic=False)
    case(f"{name}: keepdims", lambda x, name=name: getattr(ops, name)(x, 1, keepdims=True),
         lambda torch, x, peer=peer: getattr(torch, peer)(x, 1, keepdim=True), M, analytic=False)
    for axis in (None, 0, 1):
        case(f"{name}: ties, axis {axis}", lambda x, name=name, axis=axis: getattr(ops, name)(x, axis),
             lambda torch, x, peer=peer, axis=axis: getattr(torch, peer)(x, () if axis is None else axis),
             TIES, smooth=False)
for axis in (None, 0, -1, (0, 2)):
    dims = (0, 1, 2) if axis is None else axis
    case(f"logsumexp: axis {axis}", lambda x, axis=axis: ops.logsumexp(x, axis),
         lambda torch, x, dims=dims: torch.logsumexp(x, dims), (2, 3, 4))
    case(f"mean: axis {axis}", lambda x, axis=axis: ops.mean(x, axis), lambda torch, x, dims=dims: torch.mean(x, dims),
         (2, 3, 4))
    case(f"var: axis {axis}", lambda x, axis=axis: ops.var(x, axis),
         lambda torch, x, dims=dims: torch.var(x, dims, correction=0), (2, 3, 4))
case("logsumexp: keepdims", lambda x: ops.logsumexp(x, 1, keepdims=True),
     lambda torch, x: torch.logsumexp(x, 1, keepdim=True), M)
case("logsumexp: -inf", lambda x: ops.logsumexp(x, 1), lambda torch, x: torch.logsumexp(x, 1),
     A([[0.0, -np.inf, 1.0], [-np.inf, 2.0, -np.inf], [800.0, 801.0, -800.0]]), smooth=False)
case("mean: keepdims", lambda x: ops.mean(x, 0, keepdims=True), lambda torch, x: torch.mean(x, 0, keepdim=True), M)
case("var: ddof", lambda x: ops.var(x, 0, ddof=1), lambda torch, x: torch.var(x, 0, correction=1), M)
case("var: keepdims", lambda x: ops.var(x, keepdims=True),
     lambda torch, x: torch.var(x, (0, 1), correction=0, keepdim=True), M)
for name in ("softmax", "log_softmax"):
    case(name, getattr(ops, name), lambda torch, x, name=name: getattr(torch, name)(x, -1), (2, 3, 4))
    case(f"{name}: axis", lambda x, name=name: getattr(ops, name)(x, axis=1),
         lambda torch, x, name=name: getattr(torch, name)(x, 1), (2, 3, 4))
    case(f"{name}: large", getattr(ops, name), lambda torch, x, name=name: getattr(torch, name)(x, -1),
         A([[1000.0, 1001.0, -1000.0]]), smooth=False)
for axis in (None, 0, 1, -1):
    case(f"prod: axis {axis}", lambda x, axis=axis: ops.prod(x, axis),
         lambda torch, x, axis=axis: torch.prod(x) if axis is None else torch.prod(x, axis), (3, 5))
for zeros in (1, 2):
    case(f"prod: {zeros} zeros", ops.prod, "prod", A([0.0, 2.0, 0.0 if zeros == 2 else 3.0, 4.0, 5.0]))
case("prod: zeros along an axis", lambda x: ops.prod(x, 1, keepdims=True),
     lambda torch, x: torch.prod(x, 1, keepdim=True),
     A([[0.0, 2.0, 3.0], [0.0, 0.0, 3.0], [1.0, 2.0, 3.0]]))
case("prod: nothing", lambda x: ops.prod(x, 0), lambda torch, x: torch.prod(x, 0), np.zeros((0, 3)))

# Matrices
for a, b in (((3, 4), (4, 2)), ((4,), (4,)), ((4,), (4, 2)), ((3, 4), (4,)), ((2, 3, 4), (4, 5)),
             ((2, 3, 4), (2, 4, 5)), ((3, 4), (2, 4, 5)), ((2, 1, 3, 4), (5, 4, 2)), ((2, 3, 4), (4,)),
             ((4,), (2, 4, 5)), ((2, 1, 3, 4), (4, 2))):
    case(f"matmul: {a} @ {b}", ops.matmul, "matmul", a, b)
case("inv", ops.inv, lambda torch, x: torch.linalg.inv(x), well_conditioned(3, 3))
case("inv: batch", ops.inv, lambda torch, x: torch.linalg.inv(x), well_conditioned(2, 3, 3))
case("solve", ops.solve, lambda torch, a, b: torch.linalg.solve(a, b), well_conditioned(3, 3), (3, 2))
case("solve: vector", ops.solve, lambda torch, a, b: torch.linalg.solve(a, b), well_conditioned(3, 3), (3,))
case("solve: batch", ops.solve, lambda torch, a, b: torch.linalg.solve(a, b), well_conditioned(2, 3, 3), (2, 3, 2))
case("solve: broadcast", ops.solve, lambda torch, a, b: torch.linalg.solve(a, b), well_conditioned(2, 3, 3), (3, 2))
case("solve: batch and a vector", ops.solve, lambda torch, a, b: torch.linalg.solve(a, b.expand(2, 3)),
     well_conditioned(2, 3, 3), (3,))
for shape in ((3, 3), (2, 3, 3)):
    case(f"logdet: {shape}", lambda x: ops.slogdet(x)[1], lambda torch, x: torch.linalg.slogdet(x)[1],
         well_conditioned(*shape), analytic=False)
    case(f"cholesky: {shape}", lambda x: ops.cholesky(x @ ops.swapaxes(x, -1, -2)),
         lambda torch, x: torch.linalg.cholesky(x @ x.transpose(-1, -2)), well_conditioned(*shape), analytic=False)
case("logdet: negative", lambda x: ops.slogdet(x)[1], lambda torch, x: torch.linalg.slogdet(x)[1],
     -well_conditioned(3, 3), analytic=False)
case("cholesky: by itself", ops.cholesky, lambda torch, x: torch.linalg.cholesky(x),
     well_conditioned(3, 3) @ well_conditioned(3, 3).T, smooth=False)
for subscripts, a, b in (("ij,jk->ik", M, (4, 2)), ("bij,bjk->bik", (2, 3, 4), (2, 4, 5)), ("ij,ij->", M, M),
                         ("i,j->ij", (3,), (4,)), ("ij,jk->i", M, (4, 2)), ("ij,k->k", M, (2,)), ("ij,jk", M, (4, 2)),
                         ("bhqd,bhkd->bhqk", (2, 2, 3, 4), (2, 2, 5, 4)), ("ij,->ji", M, ()), ("i,i->i", (3,), (3,)),
                         ("ijk,il->lj", (2, 3, 4), (2, 5))):
    case(f"einsum: {subscripts}", lambda a, b, s=subscripts: ops.einsum(s, a, b),
         lambda torch, a, b, s=subscripts: torch.einsum(s, a, b), a, b)

# Layers and losses
for activation in ACTIVATIONS:
    def peer(torch, x, w, b, phi=activation):
        return (getattr(torch, phi) if phi else torch.clone)(x @ w + b)
    case(f"linear: {activation}", lambda x, w, b, phi=activation: linear(x, w, b, activation=phi), peer,
         (5, 3), (3, 4), V, analytic=False)
    case(f"linear: {activation}, transposed batches",
         lambda x, w, b, phi=activation: linear(ops.transpose(x, (1, 0, 2, 3)), w, b, activation=phi),
         lambda torch, x, w, b, peer=peer: peer(torch, x.transpose(0, 1), w, b),
         (2, 3, 2, 3), (3, 4), V, analytic=False)
case("linear: no bias", lambda x, w: linear(x, w, None, activation="tanh"),
     lambda torch, x, w: torch.tanh(x @ w), (5, 3), (3, 4))
case("linear: batch of batches", lambda x, w, b: linear(x, w, b), lambda torch, x, w, b: x @ w + b,
     (2, 5, 3), (3, 4), V, analytic=False)
case("linear: one example", lambda x, w, b: linear(x, w, b), lambda torch, x, w, b: x @ w + b,
     (3,), (3, 4), V, analytic=False)


def bce(torch, logits, x):
    logits, x = torch.broadcast_tensors(logits, x)
    return torch.nn.functional.binary_cross_entropy_with_logits(logits, x, reduction="none").sum(-1)


def gaussian(torch, x, mu, logvar):
    return -torch.distributions.Normal(mu, torch.exp(logvar / 2)).log_prob(x).sum(-1)


def kl(torch, mu, logvar):
    q = torch.distributions.Normal(mu, torch.exp(logvar / 2))
    return torch.distributions.kl_divergence(q, torch.distributions.Normal(0.0, 1.0)).sum(-1)


LABELS = A([0, 2, 1, 2, 0])
for name, peer, count in (("bernoulli_nll", bce, 2), ("gaussian_kl", kl, 2), ("gaussian_nll", gaussian, 3)):
    def f(*xs, name=name):
        return getattr(losses, name)(*xs)
    case(name, f, peer, *[(5, 3)] * count, analytic=name != "bernoulli_nll")
    case(f"{name}: batches", f, peer, *[(2, 3, 4)] * count, analytic=name != "bernoulli_nll")
    for wide in range(count):
        for narrow in ((3,), (5, 1), (1,), ()):
            case(f"{name}: {narrow} but for argument {wide}", f, peer,
                 *[(5, 3) if i == wide else narrow for i in range(count)], analytic=name != "bernoulli_nll")
case("bernoulli_nll: large", lambda l, x: losses.bernoulli_nll(l, x), bce,
     A([[1000.0, -1000.0, 40.0, -40.0]]), A([[0.0, 1.0, 1.0, 0.25]]), smooth=False)
case("bernoulli_nll: logit 0", lambda l, x: losses.bernoulli_nll(l, x), bce, np.zeros((1, 2)), A([[0.0, 0.3]]),
     analytic=False)
case("softmax_cross_entropy", lambda x: losses.softmax_cross_entropy(x, LABELS),
     lambda torch, x: torch.nn.functional.cross_entropy(x, torch.tensor(LABELS), reduction="none"), (5, 3))
case("softmax_cross_entropy: batches", lambda x: losses.softmax_cross_entropy(x, A([[0, 1], [2, 3], [4, 0]])),
     lambda torch, x: -torch.log_softmax(x, -1).gather(-1, torch.tensor([[0, 1], [2, 3], [4, 0]])[..., None])[..., 0],
     (3, 2, 5))
case("softmax_cross_entropy: one example", lambda x: losses.softmax_cross_entropy(x, np.int64(1)),
     lambda torch, x: torch.nn.functional.cross_entropy(x, torch.tensor(1)), (3,))


def group_norm(torch, x, gain, shift, groups, silu):
    y = torch.nn.functional.group_norm(x.movedim(-1, 1), groups, gain, shift).movedim(1, -1)
    return torch.nn.functional.silu(y) if silu else y


# x is not drawn by the case, or it would equal the cotangent, whose gradient is 0 where a group is one channel.
for shape, groups in (((3, 2, 3, 4), 2), ((2, 5, 3), 1), ((2, 4, 3), 3), ((3, 6), 2)):
    for options in (dict(groups=groups, silu=False), dict(groups=groups, silu=True)):
        case(f"group_norm: {shape}, {options}", lambda *xs, options=options: our_group_norm(*xs, **options),
             lambda torch, *xs, options=options: group_norm(torch, *xs, **options),
             np.random.default_rng(1).standard_normal(shape), shape[-1:], shape[-1:], analytic=False)

# Convolution
def conv(torch, x, w, b=None, **options):
    return torch.nn.functional.conv2d(x.movedim(-1, 1), w.permute(3, 2, 0, 1), b, **options).movedim(1, -1)


def conv_input_gradient(torch, g, w, size, stride, padding):
    like = torch.zeros(len(g), w.shape[2], *size, requires_grad=True)
    y = torch.nn.functional.conv2d(like, w.permute(3, 2, 0, 1), stride=stride, padding=padding)
    return torch.autograd.grad(y, like, g.movedim(-1, 1), create_graph=True)[0].movedim(1, -1)


def conv_kernel_gradient(torch, x, g, size, stride, padding):
    like = torch.zeros(g.shape[3], x.shape[3], *size, requires_grad=True)
    y = torch.nn.functional.conv2d(x.movedim(-1, 1), like, stride=stride, padding=padding)
    return torch.autograd.grad(y, like, g.movedim(-1, 1), create_graph=True)[0].permute(2, 3, 1, 0)


for kh, kw, stride, padding in ((3, 3, 1, 1), (3, 3, 2, 1), (1, 1, 1, 0), (2, 3, 3, 2)):
    at, options = f"{kh} x {kw}, stride {stride}, padding {padding}", dict(stride=stride, padding=padding)
    H, W = (5 + 2 * padding - kh) // stride + 1, (4 + 2 * padding - kw) // stride + 1
    case(f"conv2d: {at}", lambda x, w, b, options=options: conv2d(x, w, b, **options),
         lambda torch, x, w, b, options=options: conv(torch, x, w, b, **options), (2, 5, 4, 2), (kh, kw, 2, 3), (3,),
         analytic=False)
    for name, like, size in (("conv_input_gradient", (kh, kw, 2, 3), (5, 4)),
                             ("conv_kernel_gradient", (2, H, W, 3), (kh, kw))):
        case(f"{name}: {at}", lambda a, b, name=name, size=size, options=options: OPS[name](a, b, size, **options),
             lambda torch, a, b, peer=globals()[name], size=size, options=options: peer(torch, a, b, size, **options),
             (2, H, W, 3) if name == "conv_input_gradient" else (2, 5, 4, 2), like, analytic=False)
case("conv2d: no bias", conv2d, conv, (1, 4, 5, 1), (3, 2, 1, 2), analytic=False)

# Pooling
for name, peer in (("upsample", lambda F, x, n: F.interpolate(x, scale_factor=n)),
                   ("avg_pool", lambda F, x, n: F.avg_pool2d(x, n)), ("max_pool", lambda F, x, n: F.max_pool2d(x, n))):
    for n in (1, 2, 3):
        case(f"{name}: {n}", lambda x, name=name, n=n: OPS[name](x, n),
             lambda torch, x, peer=peer, n=n: peer(torch.nn.functional, x.movedim(-1, 1), n).movedim(1, -1),
             (2, 2 * n, n, 3), analytic=name != "max_pool")
case("max_pool: ties", pooling.max_pool,
     lambda torch, x: torch.nn.functional.max_pool2d(x.movedim(-1, 1), 2).movedim(1, -1),
     np.arange(96.0).reshape(2, 4, 4, 3) // 7 % 3, smooth=False)

# Of models: an op is known wherever the module that makes it is imported
LOG_W = log_weights(5, 20, "stratified")


def estimate(torch, z, mu, logvar):
    log_q = torch.distributions.Normal(mu, torch.exp(logvar / 2)).log_prob(z[:, None])
    log_w = torch.tensor(LOG_W)
    marginals = torch.logsumexp(log_q + log_w[..., None], 1).sum(-1)
    return (torch.logsumexp(log_q.sum(-1) + log_w, 1) - marginals).mean()


case("total_correlation", lambda *xs: total_correlation(*xs, LOG_W), estimate, *[(5, 3)] * 3, analytic=False)


def bend(torch, z, theta):
    d = z.shape[1]
    u, w, b = theta[..., :d], theta[..., d:-1], theta[..., -1]
    wu = (w * u).sum(-1)
    m = torch.log1p((np.e - 1) * torch.exp(wu)) - 1
    u = u + ((m - wu) / (w * w).sum(-1))[..., None] * w
    t = torch.tanh((w * z).sum(-1) + b)
    logdet = torch.log1p((w * u).sum(-1) * (1 - t * t))
    return torch.cat([z + u * t[:, None], logdet[:, None]], dim=1)


case("planar: one for all", planar, bend, (4, 3), (7,), analytic=False)
case("planar: one for each example", planar, bend, (4, 3), (4, 7), analytic=False)


def mixture(torch, z, mu, logvar):
    log_q = torch.distributions.Normal(mu, torch.exp(logvar / 2)).log_prob(z[:, None]).sum(-1)
    return torch.logsumexp(log_q, 1) - np.log(len(mu))


case("mixture_log_prob", mixture_log_prob, mixture, (4, 3), (5, 3), (5, 3), analytic=False)
case("erfcx", erfcx, lambda torch, x: torch.special.erfcx(x), M, analytic=False)
case("log_ndtr", log_ndtr, lambda torch, x: torch.special.log_ndtr(x), M, analytic=False)
SMOOTH = [c for c in CASES.values() if c.smooth]
ANALYTIC = [c for c in CASES.values() if c.analytic]
