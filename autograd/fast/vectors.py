"""Inner loops written vector by vector, since from a plain loop the compiler does not keep sums in registers.

    contract:   c[m, n] = Σ_{p, q} a[m, p, q] b[p, q, n]                                     [vectors.contract]
    along:      y[k, e] = Σ_l M[k, l] x[l, e], a constant M                                  [vectors.along]

`contract` is the product of matrices, but for its rows of `a`, which may lie anywhere, and overlap: so a convolution
needs no copies of its windows. It computes tiles of ROWS x 2 vectors, whose sums stay in registers while p and q run;
each number of `a` is multiplied by two vectors of `b`; at the edges tiles are half as high, half as wide, or both.
`along` is for M so small that its zeros are worth leaving out. Without the compiler both are NumPy. Goto and van de
Geijn, Anatomy of high-performance matrix multiplication, 2008.
"""
import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic, overload

from .jit import VECTOR_BYTES

# Bytes of a vector, and rows of a tile. ROWS x 2 sums, 2 vectors of b and a number of a stay in registers: there are 32
# registers of 64 bytes, and 16 of 32 or 16 bytes. Those of 16 bytes need one more, for a product that is not yet added.
BYTES, ROWS = VECTOR_BYTES, 8 if VECTOR_BYTES == 64 else 6
INT = ir.IntType(64)


def whole_vectors(x):
    """x, contiguous, with zeros at the end of its last axis that make this a whole number of vectors."""
    missing = -x.shape[-1] % (BYTES // x.itemsize)
    if not missing:
        return np.ascontiguousarray(x)
    padded = np.zeros((*x.shape[:-1], x.shape[-1] + missing), x.dtype)
    padded[..., :x.shape[-1]] = x
    return padded


class _Builder:
    """What LLVM's builder lacks for vectors of an array's dtype."""

    def __init__(self, context, builder, dtype):
        self.context, self.builder, self.bytes = context, builder, dtype.bitwidth // 8
        self.lanes = BYTES // self.bytes
        self.vector = ir.VectorType(context.get_value_type(dtype), self.lanes)

    def array(self, kind, value):
        return self.context.make_array(kind)(self.context, self.builder, value)

    def at(self, pointer, *offsets):
        for offset in offsets:
            pointer = self.builder.gep(pointer, [ir.Constant(INT, offset) if isinstance(offset, int) else offset])
        return pointer

    def load(self, pointer):
        return self.builder.load(self.builder.bitcast(pointer, self.vector.as_pointer()), align=self.bytes)

    def store(self, value, pointer):
        self.builder.store(value, self.builder.bitcast(pointer, self.vector.as_pointer()), align=self.bytes)

    def repeat(self, number):
        """The vector that holds `number` in each of its places."""
        nothing = ir.Constant(ir.VectorType(number.type, self.lanes), ir.Undefined)
        places = ir.VectorType(ir.IntType(32), self.lanes)
        one = self.builder.insert_element(nothing, number, ir.Constant(ir.IntType(32), 0))
        return self.builder.shuffle_vector(one, nothing, ir.Constant(places, None))

    def multiply_add(self, x, y, total):
        product = self.builder.fmul(x, y, flags=["contract"])      # one rounding instead of two, where the CPU can
        return self.builder.fadd(product, total, flags=["contract"])


def contract(a, starts, sp, sq, b, c, ends, bias):
    """c[ends[m] + n] ← Σ_{p, q} a[starts[m] + p sp + q sq] b[p, q, n], plus bias[n], or c's own value if bias is None.

    a and c are flat, b (P, Q, N) with N whole vectors, bias (N,).
    """
    P, Q, N = b.shape
    windows = a[starts[:, None, None] + sp * np.arange(P)[:, None] + sq * np.arange(Q)]
    at = ends[:, None] + np.arange(N)
    c[at] = (c[at] if bias is None else bias) + np.tensordot(windows, b, axes=2)


def _tile(height, width):
    """`contract` for `height` rows from m on, and `width` vectors of n from n on."""
    @intrinsic
    def tile(typing, a, starts, sp, sq, b, c, ends, bias, m, n):
        def build(context, builder, signature, args):
            B = _Builder(context, builder, a.dtype)
            sp, sq, m, n = args[2], args[3], args[8], args[9]
            begins, finishes, factor = B.array(starts, args[1]), B.array(ends, args[6]), B.array(b, args[4])
            (P, Q, _), strides = (cgutils.unpack_tuple(builder, v) for v in (factor.shape, factor.strides))
            bp, bq = (builder.sdiv(v, ir.Constant(INT, B.bytes)) for v in strides[:2])
            last, rows, outs, inside = builder.sub(begins.nitems, ir.Constant(INT, 1)), [], [], []
            for r in range(height):                                # the last tile repeats the last row, unstored
                i = builder.add(m, ir.Constant(INT, r))
                inside.append(builder.icmp_signed("<=", i, last))
                i = builder.select(inside[r], i, last)
                rows.append(B.at(B.array(a, args[0]).data, builder.load(B.at(begins.data, i))))
                outs.append(B.at(B.array(c, args[5]).data, builder.load(B.at(finishes.data, i)), n))
            sums = [[cgutils.alloca_once(builder, B.vector) for _ in range(width)] for _ in range(height)]
            for out, row in zip(outs, sums):
                first = out if isinstance(bias, types.NoneType) else B.at(B.array(bias, args[7]).data, n)
                for s, total in enumerate(row):
                    builder.store(B.load(B.at(first, s * B.lanes)), total)
            with cgutils.for_range(builder, P) as p, cgutils.for_range(builder, Q) as q:
                i = builder.add(builder.mul(p.index, sp), builder.mul(q.index, sq))
                j = builder.add(builder.mul(p.index, bp), builder.mul(q.index, bq))
                vectors = [B.load(B.at(factor.data, n, j, s * B.lanes)) for s in range(width)]
                for start, row in zip(rows, sums):
                    x = B.repeat(builder.load(B.at(start, i)))
                    for vector, total in zip(vectors, row):
                        builder.store(B.multiply_add(x, vector, builder.load(total)), total)
            for out, row, there in zip(outs, sums, inside):
                with builder.if_then(there):
                    for s, total in enumerate(row):
                        B.store(builder.load(total), B.at(out, s * B.lanes))
            return context.get_dummy_value()
        return types.void(a, starts, types.int64, types.int64, b, c, ends, bias, types.int64, types.int64), build
    return tile


_wide, _narrow, _low, _small = _tile(ROWS, 2), _tile(ROWS, 1), _tile(ROWS // 2, 2), _tile(ROWS // 2, 1)


@overload(contract, jit_options={"error_model": "numpy"})
def _contract(a, starts, sp, sq, b, c, ends, bias):
    lanes = BYTES // (a.dtype.bitwidth // 8)

    def compiled(a, starts, sp, sq, b, c, ends, bias):
        for n in range(0, b.shape[2], 2 * lanes):
            wide = n + lanes < b.shape[2]
            for m in range(0, len(starts), ROWS):
                high = m + ROWS // 2 < len(starts)
                if wide and high:
                    _wide(a, starts, sp, sq, b, c, ends, bias, m, n)
                elif wide:
                    _low(a, starts, sp, sq, b, c, ends, bias, m, n)
                elif high:
                    _narrow(a, starts, sp, sq, b, c, ends, bias, m, n)
                else:
                    _small(a, starts, sp, sq, b, c, ends, bias, m, n)
    return compiled


def along(matrix):
    """The function of flat arrays that multiplies by this small matrix of constants."""
    def multiply(x, i, step, y, j, stride, length):
        """y[j + k stride + e] ← Σ_l matrix[k, l] x[i + l step + e] for e < length, whole vectors."""
        (K, L), e = matrix.shape, np.arange(length)
        y[j + stride * np.arange(K)[:, None] + e] = matrix @ x[i + step * np.arange(L)[:, None] + e]

    @intrinsic
    def vectorised(typing, x, i, step, y, j, stride, length):
        def build(context, builder, signature, args):
            B = _Builder(context, builder, x.dtype)
            source, i, step, target, j, stride, length = args
            source, target = B.array(x, source).data, B.array(y, target).data
            pointers = [B.at(source, i, builder.mul(step, ir.Constant(INT, l))) for l in range(matrix.shape[1])]
            zero, lanes = ir.Constant(INT, 0), ir.Constant(INT, B.lanes)
            with cgutils.for_range_slice(builder, zero, length, lanes) as (e, _):
                values = [B.load(B.at(pointer, e)) for pointer in pointers]
                for k, row in enumerate(matrix):
                    total = ir.Constant(B.vector, None)
                    for l in np.flatnonzero(row):
                        factor = B.repeat(ir.Constant(B.vector.element, float(row[l])))
                        total = B.multiply_add(factor, values[l], total)
                    B.store(total, B.at(target, j, builder.mul(stride, ir.Constant(INT, k)), e))
            return context.get_dummy_value()
        return types.void(x, types.int64, types.int64, y, types.int64, types.int64, types.int64), build

    @overload(multiply, jit_options={"error_model": "numpy"})
    def _multiply(x, i, step, y, j, stride, length):
        return lambda x, i, step, y, j, stride, length: vectorised(x, i, step, y, j, stride, length)
    return multiply
