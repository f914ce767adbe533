"""The fast floor: for some functions of the plain engine, the same function in fewer passes over memory.

This file is the door. `FORMS` says which functions have a fast form; autograd/floors.py puts them in the place of the
plain ones. Nothing else on the plain floor imports from here, and a reader who skips this folder misses no idea.

    file            plain form                                  held equal by
    fused.py        linear.py, losses.py, norm.py               tests/autograd/fast/test_fused.py
    convolution.py  conv.py                                     tests/autograd/fast/test_convolution.py
    winograd.py     conv.py, for 3 x 3 kernels                  tests/autograd/fast/test_convolution.py
    loops.py        the loops of fused.py and optim.py          tests/autograd/fast/test_loops.py
    vectors.py      the NumPy function in each docstring        tests/autograd/fast/test_vectors.py
    threads.py      one loop, by one thread                     tests/autograd/fast/test_threads.py
    jit.py          how a Python loop is compiled and kept on disk
    memory.py       nothing: a setting of the C library, made only if the user asks for it
"""
from . import convolution, fused, loops, memory, threads
from .jit import COMPILES, kernel
from .loops import exp_minus

FORMS = {
    "_linear": fused.linear,
    "bernoulli_nll": fused.bernoulli_nll,
    "_group_norm": fused.group_norm,
    "adam_step": fused.adam_step,
    "convolve": convolution.convolve,
    "input_gradient": convolution.input_gradient,
    "kernel_gradient": convolution.kernel_gradient,
}
