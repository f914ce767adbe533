"""The same VAE training step elsewhere: PyTorch, eager and compiled; JAX; and the bare GEMMs that none can do without.

Each function takes the sizes and one batch, and returns a function of nothing that makes one step. The model, the loss
and Adam are those of `minivae.vae.VAE(D, latent_dim=d, hidden=(h,))` with dynamic noise; parameters are float32.
"""
import numpy as np

from autograd import optim
from minivae.vae import VAE


def ours(D, h, d, x):
    rng = np.random.default_rng(0)
    model = VAE(D, d, (h,), rng=rng)
    optimizer = optim.Adam(model.parameters(), 1e-3)

    def step(x=x):
        loss, _ = model.loss(x, rng)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return step


def gemms(D, h, d, x):
    """The eleven matrix products of a step, of the same shapes and layouts, and nothing else."""
    rng, B = np.random.default_rng(0), len(x)
    array = lambda *shape: rng.standard_normal(shape, np.float32)
    w = [array(D, h), array(h, 2 * d), array(d, h), array(h, D)]
    a, c, z, b = array(B, h), array(B, 2 * d), array(B, d), array(B, h)
    ga, gx = array(B, h), array(B, D)

    def step():
        x @ w[0], a @ w[1], z @ w[2], b @ w[3]
        b.T @ gx, gx @ w[3].T, z.T @ ga, ga @ w[2].T, a.T @ c, c @ w[1].T, x.T @ ga
    return step


def torch(D, h, d, x, compiled=False):
    import torch
    from torch.nn.functional import binary_cross_entropy_with_logits

    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            sizes = [(D, h), (h, 2 * d), (d, h), (h, D)]
            self.layers = torch.nn.ModuleList(torch.nn.Linear(i, o) for i, o in sizes)

        def forward(self, x):
            e1, e2, d1, d2 = self.layers
            mu, logvar = e2(torch.relu(e1(x))).chunk(2, dim=1)
            z = mu + torch.exp(0.5 * logvar) * torch.randn_like(mu)
            nll = binary_cross_entropy_with_logits(d2(torch.relu(d1(z))), x, reduction="sum")
            return (nll + 0.5 * torch.sum(mu * mu + logvar.exp() - 1 - logvar)) / len(x)

    torch.manual_seed(0)
    net = Net()
    loss_of = torch.compile(net) if compiled else net
    optimizer = torch.optim.Adam(net.parameters(), 1e-3)

    def step(x=x):
        optimizer.zero_grad()
        loss_of(torch.from_numpy(x)).backward()
        optimizer.step()
    return step


def compiled(D, h, d, x):
    return torch(D, h, d, x, compiled=True)


def jax(D, h, d, x):
    import jax
    import jax.numpy as jnp

    def layer(key, i, o):
        bound = i ** -0.5
        k1, k2 = jax.random.split(key)
        return jax.random.uniform(k1, (i, o), minval=-bound, maxval=bound), jax.random.uniform(k2, (o,))

    def loss(params, x, key):
        e1, e2, d1, d2 = params
        code = jax.nn.relu(x @ e1[0] + e1[1]) @ e2[0] + e2[1]
        mu, logvar = code[:, :d], code[:, d:]
        z = mu + jnp.exp(0.5 * logvar) * jax.random.normal(key, mu.shape)
        logits = jax.nn.relu(z @ d1[0] + d1[1]) @ d2[0] + d2[1]
        kl = 0.5 * jnp.sum(mu * mu + jnp.exp(logvar) - 1 - logvar)
        return (jnp.sum(jax.nn.softplus(logits) - x * logits) + kl) / len(x)

    def update(params, m, v, t, key, x):
        key, draw = jax.random.split(key)
        g = jax.grad(loss)(params, x, draw)
        m = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, m, g)
        v = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, v, g)
        params = jax.tree.map(lambda p, m, v: p - 1e-3 * (m / (1 - 0.9 ** t)) / (jnp.sqrt(v / (1 - 0.999 ** t)) + 1e-8),
                              params, m, v)
        return params, m, v, t + 1, key

    keys = jax.random.split(jax.random.key(0), 4)
    params = tuple(layer(k, i, o) for k, (i, o) in zip(keys, [(D, h), (h, 2 * d), (d, h), (h, D)]))
    zeros = lambda: jax.tree.map(jnp.zeros_like, params)
    state, x = [params, zeros(), zeros(), jnp.float32(1), jax.random.key(1)], jnp.array(x)
    jitted = jax.jit(update, donate_argnums=(0, 1, 2))

    def step():
        state[:] = jitted(*state, x)
        jax.block_until_ready(state[0])
    return step


def chain(n=5000):
    """Forward and backward through n ops on one float32: ours, PyTorch's, and the NumPy calls that it comes down to."""
    from autograd import Tensor, ops

    def ours():
        y = x = Tensor(np.array([0.5], np.float32), requires_grad=True)
        for _ in range(n // 4):
            y = ops.sin(ops.tanh(y) * 0.9 + x)
        y.backward()

    def bare():
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

    def torch():
        import torch
        y = x = torch.tensor([0.5], requires_grad=True)
        for _ in range(n // 4):
            y = torch.sin(torch.tanh(y) * 0.9 + x)
        y.backward()

    return {"ours": ours, "bare NumPy": bare, "PyTorch": torch}
