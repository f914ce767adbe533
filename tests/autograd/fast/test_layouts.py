"""No layout of memory changes a result: each function gives for a strange array what it gives for a fresh copy of it.

The arrays of `strange` lie in memory that is NaN around and between them, so a function that reads what is not its own
shows it. What reads or writes a little beyond an array is caught in a process of its own, where arrays end, or begin,
at a page that nobody may touch.

The loops that models compile get their arrays without a check: they index by the strides that NumPy gives them, so no
layout can mislead them. That their indices stay within bounds shows if this file runs with NUMBA_BOUNDSCHECK=1 and a
NUMBA_CACHE_DIR of its own, which takes two minutes.
"""
import os
import subprocess
import sys

import numpy as np
import pytest

from autograd import OPS, Tensor, floors, optim
from autograd.conv import conv2d
from autograd.linear import ACTIVATIONS, linear
from autograd.losses import bernoulli_nll
from autograd.norm import group_norm
from minivae.data.sprites import sprites
from minivae.metrics import disentanglement

from ..cases import CASES
from ..test_conv import both_gradients, plain

SIZES = (0, 1, 3, 4, 5, 7, 8, 9, 15, 16, 17, 33)                   # of vectors of 16, 32 and 64 bytes, and one off
SOLVERS = ("inv", "solve", "logdet", "cholesky")                   # a matrix of equal rows is not for these
both_dtypes = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def room(shape, dtype):
    """Memory that is NaN, or a large number."""
    return np.full(shape, np.nan if np.dtype(dtype).kind == "f" else 7 * 10 ** 6, dtype)


def _slice(x):
    inner = room([n + 2 for n in x.shape], x.dtype)[(..., *[slice(1, n + 1) for n in x.shape])]
    inner[...] = x
    return inner


def _every_second(x):
    wide = room([2 * n for n in x.shape], x.dtype)[(..., *x.ndim * [slice(None, None, 2)])]
    wide[...] = x
    return wide


def _misaligned(x):
    memory = np.zeros(x.nbytes + 2 * x.itemsize, np.uint8)
    memory.fill(255)                                               # these bits are NaN, too
    out = memory[x.itemsize + 1:x.itemsize + 1 + x.nbytes].view(x.dtype).reshape(x.shape)
    out[...] = x
    return out


def _read_only(x):
    x = x.copy()
    x.flags.writeable = False
    return x


STRANGE = {"fortran": lambda x: x.copy(order="F"), "reversed": lambda x: np.flip(np.flip(x).copy()), "slice": _slice,
           "every second": _every_second, "misaligned": _misaligned, "read-only": _read_only,
           "broadcast": lambda x: np.broadcast_to(x[:1], x.shape) if x.ndim else x,
           "broadcast columns": lambda x: np.broadcast_to(x[..., :1], x.shape) if x.ndim else x}
every_layout = pytest.mark.parametrize("layout", STRANGE)


def memory_of(x):
    while isinstance(x.base, np.ndarray):
        x = x.base
    return x


def same(f, arrays, *, rtol=None, **options):
    """Whether f of these arrays is f of fresh copies of them, up to rounding, and changes none of them."""
    before = [memory_of(a).tobytes() for a in arrays]
    got = f(*arrays, **options)
    want = f(*[np.array(a, order="C") for a in arrays], **options)
    assert [memory_of(a).tobytes() for a in arrays] == before, "an input was changed"
    for a, b in zip(got, want, strict=True):
        assert np.shape(a) == np.shape(b) and np.asarray(a).dtype == np.asarray(b).dtype
        tolerance = rtol or (1e-5 if np.asarray(b).dtype == np.float32 else 1e-12)
        scale = np.max(np.abs(b), initial=1, where=np.isfinite(b))
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance * scale)


def with_gradients(f):
    """f of arrays: its value at these ndarrays, then value and gradients at Tensors that hold them as they are."""
    def values(u, *arrays):
        leaves = [Tensor(a, requires_grad=True) for a in arrays]
        for leaf, a in zip(leaves, arrays):
            leaf.data = a                                          # a Tensor proper has a contiguous copy
        y = f(*leaves)
        y.backward(u)
        return [f(*arrays), y.data, *[leaf.grad for leaf in leaves]]
    return values


@both_dtypes
@every_layout
@pytest.mark.filterwarnings("ignore:divide by zero", "ignore:invalid value")
def test_no_op_knows_the_layout_of_its_arrays(layout, dtype):
    wrong = {}
    for name, case in CASES.items():
        if layout.startswith("broadcast") and name.startswith(SOLVERS):
            continue
        arrays = [STRANGE[layout](np.asarray(x, dtype)) for x in (case.cotangent(), *case.inputs)]
        try:
            same(with_gradients(case.f), arrays)
        except Exception as error:
            wrong[name] = f"{type(error).__name__}: {error}"
    assert not wrong


def test_a_bias_that_is_not_contiguous_is_added_as_it_is(rng):
    x, w, wide = rng.standard_normal((5, 3)), rng.standard_normal((3, 4)), rng.standard_normal(10)
    for b in (wide[::2][:4], wide[3::-1], np.broadcast_to(wide[:1], 4), wide[1:5], STRANGE["misaligned"](wide[:4])):
        for activation in ACTIVATIONS:
            want = x @ w + b
            want = {None: want, "relu": np.maximum(want, 0), "tanh": np.tanh(want), "sigmoid": 1 / (1 + np.exp(-want))}
            np.testing.assert_allclose(linear(x, w, b, activation), want[activation], rtol=1e-12)
            t = Tensor(x, requires_grad=True)
            np.testing.assert_allclose(linear(t, w, b, activation).data, want[activation], rtol=1e-12)


# Sizes around those of vectors, and nothing

def forms(n, dtype, rng):
    """(name, f, arrays) of each fast form with n channels, and then of n rows."""
    def draw(*shape):
        return rng.standard_normal(shape).astype(dtype)
    for B, D in ((3, n), (n, 3)):
        yield f"linear {B, D}", linear, (draw(B, D), draw(D, 5), draw(5))
        yield f"linear to {n}", lambda *xs: linear(*xs, activation="tanh"), (draw(3, 5), draw(5, n), draw(n))
        yield f"bernoulli_nll {B, D}", bernoulli_nll, (draw(B, D), rng.random((B, D)).astype(dtype))
        yield f"planar {B, D}", OPS_OF_MODELS["planar"], (draw(B, D), draw(B, 2 * D + 1))
        if D:
            yield f"group_norm {B, D}", lambda *xs: group_norm(*xs, silu=True), (draw(B, 2, D), draw(D), draw(D))
            yield f"conv2d {B, D}", lambda *xs: conv2d(*xs, padding=1), (draw(B, 3, 4, D), draw(3, 3, D, 5), draw(5))
            yield f"conv2d to {n}", lambda *xs: conv2d(*xs, stride=2), (draw(2, 3, 4, 16), draw(2, 3, 16, D), draw(D))
            yield f"mixture {B, D}", OPS_OF_MODELS["mixture"], (draw(B, 3), draw(D, 3), draw(D, 3))
        if B and D:
            yield f"total correlation {B, D}", OPS_OF_MODELS["total_correlation"], [draw(B, D) for _ in range(3)]
    yield f"group_norm of {n} pixels", group_norm, (draw(2, n, 4), draw(4), draw(4))


def _total_correlation(*xs):
    from minivae.vae.beta_tcvae import total_correlation
    return total_correlation(*xs, np.zeros((len(xs[0]),) * 2))


OPS_OF_MODELS = {"planar": CASES["planar: one for all"].f, "mixture": CASES["mixture_log_prob"].f,
                 "total_correlation": _total_correlation}


def value_and_gradients(f, arrays):
    leaves = [Tensor(a, requires_grad=True) for a in arrays]
    y = f(*leaves)
    y.backward(np.linspace(-1, 1, y.size).astype(y.dtype).reshape(y.shape))
    return [y.data, *[leaf.grad for leaf in leaves]]


@both_dtypes
@pytest.mark.parametrize("n", SIZES)
@pytest.mark.filterwarnings("ignore:invalid value", "ignore:divide by zero", "ignore:Mean of empty")
def test_a_fast_form_is_its_plain_form_in_sizes_around_that_of_a_vector(n, dtype, rng, monkeypatch):
    got = [(name, f, arrays, value_and_gradients(f, arrays)) for name, f, arrays in forms(n, dtype, rng)]
    for name, op in OPS.items():
        if op.twin:
            plain_everywhere(op, monkeypatch)
    for name, f, arrays, values in got:
        if name.startswith("conv2d"):
            continue                                               # its plain form has a test of its own, below
        want = value_and_gradients(f, [a.astype(np.float64) for a in arrays])
        for a, b in zip(values, want, strict=True):
            tolerance = (2e-5 if dtype == np.float32 else 1e-10) * max(1, np.max(np.abs(b), initial=0))
            np.testing.assert_allclose(a, b, rtol=0, atol=tolerance, err_msg=name)


def plain_everywhere(op, monkeypatch):
    for module in list(sys.modules.values()):
        for key, value in list(vars(module).items()):
            if value is op:
                monkeypatch.setattr(module, key, op.twin)


@both_dtypes
@pytest.mark.parametrize("n", SIZES[1:])
def test_a_convolution_of_any_number_of_channels_is_the_sum_over_windows(n, dtype, rng):
    tolerance = 2e-5 if dtype == np.float32 else 1e-10
    for C, N, stride, padding in ((n, 16, 1, 1), (16, n, 1, 2), (n, 3, 2, 1), (3, n, 1, 0)):
        x, w, b = (rng.standard_normal(shape).astype(dtype) for shape in ((2, 5, 4, C), (3, 3, C, N), (N,)))
        y = plain(*(v.astype(float) for v in (x, w, b)), stride, padding)
        g = rng.standard_normal(y.shape).astype(dtype)
        for layout in ("fortran", "reversed", "slice", "misaligned"):
            X, W, B, G = (STRANGE[layout](v) for v in (x, w, b, g))
            np.testing.assert_allclose(conv2d(X, W, B, stride=stride, padding=padding), y, rtol=0,
                                       atol=tolerance * np.abs(y).max())
            for got, want in zip(both_gradients(X, W, G, stride, padding), both_gradients(x, w, g, stride, padding)):
                if floors.FAST:
                    np.testing.assert_array_equal(got, want)
                else:                                              # BLAS adds up in another order for another layout
                    np.testing.assert_allclose(got, want, rtol=0, atol=tolerance * np.abs(want).max())


# Adam changes its arrays in place

@both_dtypes
@every_layout
@pytest.mark.parametrize("n", [0, 1, 7, 17])
def test_a_step_of_adam_is_the_same_in_every_layout(layout, n, dtype, rng):
    def step(p, g, m, v):
        optim.adam_step(p, g, m, v, 3, 0.1, (0.9, 0.99), 1e-8)
        return p, m, v
    p, g, m, v = (rng.standard_normal((n, 3)).astype(dtype) for _ in range(4))
    v = v * v
    strange = STRANGE[layout](g)
    before = memory_of(strange).tobytes()
    want = step(p.copy(), np.array(strange, order="C"), m.copy(), v.copy())
    for a, b in zip(step(p.copy(), strange, m.copy(), v.copy()), want):
        np.testing.assert_array_equal(a, b)
    assert memory_of(strange).tobytes() == before
    if layout in ("fortran", "reversed", "slice", "every second", "misaligned"):
        for arrays in ([STRANGE[layout](p), g, m.copy(), v.copy()], [p.copy(), g, STRANGE[layout](m), v.copy()],
                       [STRANGE[layout](a) for a in (p, g, m, v)]):
            want = step(p.copy(), g, m.copy(), v.copy())
            for a, b in zip(step(*arrays), want):
                np.testing.assert_allclose(a, b, rtol=1e-5 if dtype == np.float32 else 1e-12, atol=1e-7)


def test_adam_takes_a_gradient_that_is_the_parameter_itself():
    steps = []
    for copies in (False, True):
        p = Tensor(np.arange(5.0), requires_grad=True)
        optimizer = optim.Adam([p], lr=0.1)
        p.grad = p.data.copy() if copies else p.data
        optimizer.step()
        steps.append(p.data.copy())
    np.testing.assert_array_equal(*steps)


# The loops of models that take integers

@pytest.mark.parametrize("layout", ["fortran", "slice", "misaligned", "read-only"])
def test_the_loops_of_a_tree_and_of_sprites_do_not_know_the_layout(layout, rng):
    codes, labels = rng.standard_normal((40, 3)), rng.integers(4, size=40)
    xlogx = np.arange(41.0) * np.log(np.maximum(1, np.arange(41.0)))
    arrays = codes, labels, np.argsort(codes, axis=0).T.copy(), np.bincount(labels, minlength=4), xlogx
    same(disentanglement._best_cuts, [STRANGE[layout](a) for a in arrays])
    data = sprites(32, scales=2, orientations=3, xs=2, ys=2)
    same(lambda rows: [data[rows]], [STRANGE[layout](rng.integers(len(data), size=9))])


def test_a_tree_of_few_examples_stays_within_its_arrays(rng):
    for n in (1, 2, 3):
        codes, labels = rng.standard_normal((n, 2)), np.zeros(n, int)
        nats, cut = disentanglement._best_cuts(codes, labels, np.argsort(codes, axis=0).T.copy(), np.bincount(labels),
                                               np.zeros(n + 1))
        assert not nats.any() and not cut.any()


# Pages that nobody may touch

GUARDED = """
import ctypes, faulthandler, itertools, mmap, sys
faulthandler.enable()
import numpy as np
from tests.autograd.fast.test_layouts import *
from autograd.fast import convolution, fused, threads, vectors, winograd
from autograd.fast.jit import kernel
from minivae.flows import planar as planar_file
from minivae.vae import beta_tcvae, vamp_vae
PAGE, NOTHING = mmap.PAGESIZE, 0
libc, at_end, kept = ctypes.CDLL(None), True, []

def guarded(shape, dtype=float):
    "Memory that ends, or begins, at a page that nobody may touch."
    dtype, shape = np.dtype(dtype), (shape,) if np.isscalar(shape) else tuple(shape)
    size = int(np.prod(shape)) * dtype.itemsize
    pages = -(-size // PAGE) * PAGE or PAGE
    memory = mmap.mmap(-1, pages + 2 * PAGE)
    start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    for page in (start, start + PAGE + pages):
        assert libc.mprotect(ctypes.c_void_p(page), ctypes.c_size_t(PAGE), NOTHING) == 0
    kept.append(memory)
    offset = PAGE + (pages - size if at_end else 0)
    return np.frombuffer(memory, dtype, int(np.prod(shape)), offset).reshape(shape)

def guard(x):
    out = guarded(x.shape, x.dtype)
    out[...] = x
    return out

class Guarded:
    "NumPy, but for new arrays, which are guarded."
    def __getattr__(self, name):
        return getattr(np, name)
    def empty(self, shape, dtype=float):
        return guarded(shape, dtype)
    def zeros(self, shape, dtype=float):
        return guard(np.zeros(shape, dtype))
    def empty_like(self, x):
        return guarded(x.shape, x.dtype)
    def zeros_like(self, x):
        return guard(np.zeros_like(x))
    def ascontiguousarray(self, x, dtype=None):
        return guard(np.ascontiguousarray(x, dtype))
    def require(self, x, dtype, requirements):
        return guard(np.require(x, dtype, requirements))
    def pad(self, *args):
        return guard(np.pad(*args))

@kernel
def beyond(x):
    return x[x.size]

if sys.argv[1:] == ["beyond"]:
    beyond(guarded(3))
rng, modules = np.random.default_rng(0), (convolution, fused, vectors, winograd, planar_file, beta_tcvae, vamp_vae)
beyond(np.zeros(3))
for worth in (threads.WORTH, 1):
    threads.WORTH = worth
    for n, dtype in itertools.product((1, 5, 8, 16, 17), (np.float32, np.float64)):
        for name, f, arrays in forms(n, dtype, rng):
            want = value_and_gradients(f, arrays)                  # compiles with the NumPy that there is
            for at_end in (True, False):
                for module in modules:
                    module.np = Guarded()
                leaves = [Tensor(a, requires_grad=True) for a in arrays]
                for leaf in leaves:
                    leaf.data = guard(leaf.data)
                y = f(*leaves)
                y.backward(guard(np.linspace(-1, 1, y.size).astype(y.dtype).reshape(y.shape)))
                for module in modules:
                    module.np = np
                for a, b in zip([y.data, *[leaf.grad for leaf in leaves]], want, strict=True):
                    np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)
            kept.clear()
        for at_end in (True, False):
            optim.adam_step(*[guard(np.ones(n, dtype)) for _ in range(4)], 1, 0.1, (0.9, 0.99), 1e-8)
print("nothing beyond")
"""


@pytest.mark.skipif(sys.platform != "linux" or not floors.FAST, reason="needs Linux and the fast floor")
def test_no_kernel_reads_or_writes_beyond_its_arrays(tmp_path):
    from .test_threads import ROOT
    (tmp_path / "program.py").write_text(GUARDED)
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    for argument, code, says in ((["beyond"], -11, ""), ([], 0, "nothing beyond\n")):
        done = subprocess.run([sys.executable, tmp_path / "program.py", *argument], env=env, capture_output=True,
                              text=True, timeout=300)
        assert (done.returncode, done.stdout) == (code, says), done.stderr[-4000:]
