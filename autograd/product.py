"""The product of two matrices, on all cores: y = φ(a b + c), where BLAS takes longer than a layer can bear.

    (1)  y[m, n] = φ(c[n] + Σ_k a[m, k] b[k, n]),  φ the identity or relu                    [product.product]

BLAS is made for large matrices: it copies both into blocks that fit the caches, and its threads take 10 to 20 µs to
come. A layer's matrices are small enough to do without. Two vectors of columns of b are multiplied by ROWS rows of a at
a time, with the sums in registers (see vectors.py), wherever a lies, so aᵀ costs no copy; of bᵀ each such panel is
turned on the way. A thread takes so many rows that they stay in the cache. On two cores, float32, in µs (NumPy's
OpenBLAS in brackets):

    (128, 784) (784, 400): 166 (202)        (20, 784) (784, 200): 18 (41)         (256, 128) (128, 128): 19 (21)
    (128, 784) (400, 784)ᵀ: 178 (242)       (20, 784) (200, 784)ᵀ: 24 (61)        (784, 20) (20, 200): 17 (18)

The sums run over k in order, or over its halves, whatever the number of cores, so results are the same bit for bit.
Where `product` does not pay, and without the compiler, it is NumPy's. Goto and van de Geijn, Anatomy of
high-performance matrix multiplication, 2008, tell what else there is to do for large ones.
"""
import numpy as np

from .jit import COMPILES, kernel
from .tensor import FLOATS
from .threads import CREW, crew, parts_of, share, shared, span
from .vectors import BYTES, ROWS, contract, turn

BLOCK = 2 ** 16                              # numbers of `a` in a part, which stay in the cache for all of b
SMALLEST, LARGEST = 2e5, 2e9                 # multiplications below which NumPy is quicker, beyond which BLAS is
LONGEST = 2048                               # the k beyond which the cache does not hold a panel: it is halved


def product(a, b, c=None, relu=False):
    """(1): a (M, K), b (K, N), c (N,) or None, all float32 or all float64. Returns a new (M, N)."""
    (M, K), N, dtype = a.shape, b.shape[1], a.dtype
    ours = (COMPILES and BYTES // a.itemsize <= N and SMALLEST <= M * N * K <= LARGEST and b.dtype == dtype
            and dtype in FLOATS and len(b) == K and (c is None or c.dtype == dtype and c.shape == (N,)))
    if not ours or K > LONGEST:
        if ours:
            y = product(a[:, :K // 2], b[:K // 2], c)
            y += product(a[:, K // 2:], b[K // 2:])
        else:
            y = a @ b if c is None else a @ b + c
        return np.maximum(y, 0, out=y) if relu else y
    y = np.empty((M, N), dtype)
    (a, turned_a), (b, turned_b) = _whole(a), _whole(b)
    blocks = max(1, M * K // (BLOCK * CREW))                       # for each thread
    across = turned_b and blocks == 1 or 2 * M * (BYTES // a.itemsize) < N * ROWS
    _product(crew(), parts_of(M * N * K, blocks), a, b, np.zeros(N, dtype) if c is None else c, y, turned_a, turned_b,
             across, relu)
    return y                                                                               # (1)


def _whole(a):
    """a, or aᵀ if that is what lies in memory row by row; and whether it is aᵀ."""
    if a.flags.carray:
        return a, False
    return (a.T, True) if a.T.flags.carray else (a.copy(), False)


@kernel(nogil=True)
def _product(crew, parts, *arguments):
    share(crew, parts, _part, arguments)


@shared
def _part(part, parts, a, b, c, y, turned_a, turned_b, across, relu):
    """A part of the columns of y, if `across`, or of its rows."""
    (M, N), lanes, least = y.shape, BYTES // y.itemsize, y.dtype.type(0 if relu else -np.inf)
    K, step, stride = (a.shape[0], 1, a.shape[1]) if turned_a else (a.shape[1], a.shape[1], 1)
    m, m_end, n, n_end = 0, M, 0, N
    if across:
        begin, end = span(part, parts, (N + lanes - 1) // lanes)
        n, n_end = begin * lanes, min(N, end * lanes)
    else:
        begin, end = span(part, parts, (M + ROWS - 1) // ROWS)
        m, m_end = begin * ROWS, min(M, end * ROWS)
    rows, flat_a, flat_y = np.arange(m, m_end), a.reshape(-1), y.reshape(-1)
    panel = np.empty((K if turned_b else 0, 2 * lanes), y.dtype)
    right = (panel if turned_b else b)
    right = right.reshape((1, right.shape[0], right.shape[1]))
    while n < n_end:
        width = 2 * lanes if n + lanes < n_end and 2 * lanes <= N else lanes
        at = min(n, N - width)                                     # the last vector may do some columns again
        first = 0 if turned_b else at
        if turned_b:
            _turned(b, at, width, panel)
        contract(flat_a, rows * step, 0, stride, right[:, :, first:first + width], flat_y[at:], rows * N,
                 c[at:at + width], least)
        n += width


@kernel
def _turned(b, n, width, panel):
    """panel[:, :width] ← b[n:n + width]ᵀ, width whole vectors."""
    K, lanes, stride = b.shape[1], BYTES // b.itemsize, panel.shape[1]
    if K < lanes:
        for l in range(width):
            for k in range(K):
                panel[k, l] = b[n + l, k]
        return
    flat, out = b.reshape(-1), panel.reshape(-1)
    for start in range(0, K, lanes):
        k = min(start, K - lanes)
        for l in range(0, width, lanes):
            turn(flat, (n + l) * K + k, K, out, k * stride + l, stride)
