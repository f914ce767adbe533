"""The NumPy calls that a step cannot do without. They show what the rest of the step costs."""
import numpy as np


def products(D, h, d, batch):
    """The eleven matrix products of a VAE's step, of the same shapes and layouts, and nothing else."""
    rng = np.random.default_rng(0)
    array = lambda *shape: rng.standard_normal(shape, np.float32)
    x = (rng.random((batch, D)) < 0.13).astype(np.float32)
    w = [array(D, h), array(h, 2 * d), array(d, h), array(h, D)]
    a, c, z, b = array(batch, h), array(batch, 2 * d), array(batch, d), array(batch, h)
    ga, gx = array(batch, h), array(batch, D)

    def step():
        x @ w[0], a @ w[1], z @ w[2], b @ w[3]
        b.T @ gx, gx @ w[3].T, z.T @ ga, ga @ w[2].T, a.T @ c, c @ w[1].T, x.T @ ga
    return step


def chain(n):
    """The calls of n operations on one float32, forward and backward."""
    def step():
        y = x = np.array([0.5], np.float32)
        tape = []
        for _ in range(n // 4):
            a = np.tanh(y)
            b = np.multiply(a, 0.9)
            c = np.add(b, x)
            y = np.sin(c)
            tape.append((a, c))
        g, gx = np.ones(1, np.float32), np.zeros(1, np.float32)
        for a, c in reversed(tape):
            g = np.multiply(g, np.cos(c))
            gx = np.add(gx, g)
            g = np.multiply(g, 0.9)
            g = np.multiply(g, np.subtract(1, np.multiply(a, a)))
    step.calls = n
    return step
