"""Training steps in JAX, compiled as a whole, with the buffers of parameters and optimizer donated.

Each function takes sizes, and returns a function of nothing that makes CALLS steps. JAX computes while Python already
prepares the next step, so the function waits only for the last of them.
"""
import math

import jax
import jax.numpy as jnp
import numpy as np

CALLS = 10


def layers(*sizes):
    """Weights and biases drawn as PyTorch draws them."""
    found = []
    for i, (rows, columns) in enumerate(zip(sizes, sizes[1:])):
        k1, k2 = jax.random.split(jax.random.key(i))
        uniform = lambda key, shape: jax.random.uniform(key, shape, minval=-rows ** -0.5, maxval=rows ** -0.5)
        found.append((uniform(k1, (rows, columns)), uniform(k2, (columns,))))
    return found


def mlp(layers, h):
    for w, b in layers[:-1]:
        h = jax.nn.relu(h @ w + b)
    w, b = layers[-1]
    return h @ w + b


def trainer(loss, params, x):
    """Steps of Adam on loss(params, x, key)."""
    def update(state, x):
        params, m, v, t, key = state
        key, draw = jax.random.split(key)
        value, g = jax.value_and_grad(loss)(params, x, draw)
        m = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, m, g)
        v = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, v, g)
        params = jax.tree.map(lambda p, m, v: p - 1e-3 * (m / (1 - 0.9 ** t)) / (jnp.sqrt(v / (1 - 0.999 ** t)) + 1e-8),
                              params, m, v)
        return (params, m, v, t + 1, key), value

    zeros = lambda: jax.tree.map(jnp.zeros_like, params)
    state, x = (params, zeros(), zeros(), jnp.float32(1), jax.random.key(1)), jnp.array(x)
    jitted = jax.jit(update, donate_argnums=0)

    def step():
        nonlocal state
        losses = []
        for _ in range(CALLS):
            state, value = jitted(state, x)
            losses.append(value)
        return jax.block_until_ready(losses)[0]
    step.calls, step.parameters = CALLS, sum(p.size for p in jax.tree.leaves(params))
    return step


def negative_log_likelihood(logits, x):
    return jnp.sum(jax.nn.softplus(logits) - x * logits, axis=-1)


def digits(D, batch):
    return (np.random.default_rng(0).random((batch, D)) < 0.13).astype(np.float32)


def vae(D, h, d, batch):
    def loss(params, x, key):
        mu, logvar = jnp.split(mlp(params[0], x), 2, axis=1)
        z = mu + jnp.exp(0.5 * logvar) * jax.random.normal(key, mu.shape)
        kl = 0.5 * jnp.sum(mu * mu + jnp.exp(logvar) - 1 - logvar)
        return (jnp.sum(negative_log_likelihood(mlp(params[1], z), x)) + kl) / len(x)
    return trainer(loss, (layers(D, h, 2 * d), layers(d, h, D)), digits(D, batch))


def iwae(D, h, d, batch, k):
    """Two hidden layers of h in the encoder and in the decoder."""
    def loss(params, x, key):
        mu, logvar = jnp.split(mlp(params[0], x), 2, axis=1)
        eps = jax.random.normal(key, (k, *mu.shape))
        z = mu + jnp.exp(0.5 * logvar) * eps
        log_q = -0.5 * jnp.sum(math.log(2 * math.pi) + logvar + eps * eps, axis=-1)
        log_p = -0.5 * jnp.sum(math.log(2 * math.pi) + z * z, axis=-1)
        log_w = log_p - log_q - negative_log_likelihood(mlp(params[1], z), x)
        return -jnp.mean(jax.nn.logsumexp(log_w, axis=0) - math.log(k))
    return trainer(loss, (layers(D, h, h, 2 * d), layers(d, h, h, D)), digits(D, batch))


def mlp_denoiser(x, alpha_bar, hidden):
    """A step of `MLPDenoiser(2, hidden)`, on points x and a schedule alpha_bar, both lists."""
    x, alpha_bar = np.array(x, np.float32), jnp.array(alpha_bar, jnp.float32)
    frequency = jnp.exp(jnp.arange(16) * (-math.log(10_000) / 16))

    def loss(params, x, key):
        k1, k2 = jax.random.split(key)
        t, eps = jax.random.randint(k1, len(x), 0, len(alpha_bar)), jax.random.normal(k2, x.shape)
        a, angle = alpha_bar[t][:, None], (t + 1)[:, None] * frequency
        xt = jnp.sqrt(a) * x + jnp.sqrt(1 - a) * eps
        return jnp.sum((eps - mlp(params, jnp.concatenate([xt, jnp.sin(angle), jnp.cos(angle)], axis=1))) ** 2) / len(x)
    return trainer(loss, layers(2 + 32, *hidden, 2), x)
