"""The denoisers of minivae.diffusion elsewhere: PyTorch, eager, and JAX. Nothing of ours is
imported here, where a peer's memory is measured.

A network takes x_t (B, ...) and t (B,), from 1, and returns the noise in x_t. Adam trains it on |eps - net(x_t, t)|^2,
summed over an example, for a schedule alpha_bar (T,). What trains, or samples, is a function of nothing.
"""
import math


def torch_unet():
    """`minivae.diffusion.UNet((1, 28, 28), channels=32, multipliers=(1, 2, 2))` in PyTorch: images (B, C, H, W)."""
    import torch
    from torch import nn
    from torch.nn.functional import interpolate, scaled_dot_product_attention, silu

    class Block(nn.Module):
        def __init__(self, c_in, c_out):
            super().__init__()
            self.norm1, self.conv1 = nn.GroupNorm(8, c_in), nn.Conv2d(c_in, c_out, 3, padding=1)
            self.time = nn.Linear(128, c_out)
            self.norm2, self.conv2 = nn.GroupNorm(8, c_out), nn.Conv2d(c_out, c_out, 3, padding=1)
            self.skip = nn.Conv2d(c_in, c_out, 1) if c_in != c_out else nn.Identity()

        def forward(self, x, time):
            h = self.conv1(silu(self.norm1(x))) + self.time(time)[:, :, None, None]
            return self.conv2(silu(self.norm2(h))) + self.skip(x)

    class Attention(nn.Module):
        def __init__(self, c):
            super().__init__()
            self.norm, self.qkv, self.out = nn.GroupNorm(8, c), nn.Linear(c, 3 * c), nn.Linear(c, c)

        def forward(self, x):
            q, k, v = self.qkv(self.norm(x).flatten(2).transpose(1, 2)).chunk(3, dim=2)
            return x + self.out(scaled_dot_product_attention(q, k, v)).transpose(1, 2).reshape(x.shape)

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.time = nn.Sequential(nn.Linear(32, 128), nn.SiLU(), nn.Linear(128, 128), nn.SiLU())
            self.first = nn.Conv2d(1, 32, 3, padding=1)
            self.down = nn.ModuleList([Block(32, 32), Block(32, 64)])
            self.halve = nn.ModuleList(nn.Conv2d(c, c, 3, stride=2, padding=1) for c in (32, 64))
            self.before, self.attention, self.after = Block(64, 64), Attention(64), Block(64, 64)
            self.up = nn.ModuleList([Block(128, 64), Block(96, 32)])
            self.norm, self.last = nn.GroupNorm(8, 32), nn.Conv2d(32, 1, 3, padding=1)

        def forward(self, x, t):
            time, x, skips = self.time(torch_embedding(t)), self.first(x), []
            for block, halve in zip(self.down, self.halve):
                skips.append(x := block(x, time))
                x = halve(x)
            x = self.after(self.attention(self.before(x, time)), time)
            for block in self.up:
                x = block(torch.cat([interpolate(x, scale_factor=2), skips.pop()], dim=1), time)
            return self.last(silu(self.norm(x)))

    torch.manual_seed(0)
    net = Net()
    assert sum(p.numel() for p in net.parameters()) == 509_857
    return net


def torch_mlp(hidden=(128, 128, 128)):
    """`minivae.diffusion.MLPDenoiser(2, hidden)` in PyTorch: points (B, 2)."""
    import torch
    from torch import nn

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            sizes = (2 + 32, *hidden)
            layers = [layer for i, o in zip(sizes, hidden) for layer in (nn.Linear(i, o), nn.ReLU())]
            self.layers = nn.Sequential(*layers, nn.Linear(hidden[-1], 2))

        def forward(self, x, t):
            return self.layers(torch.cat([x, torch_embedding(t)], dim=1))

    torch.manual_seed(0)
    return Net()


def torch_embedding(t, dim=32):
    import torch
    angle = t[:, None] * torch.exp(torch.arange(dim // 2) * (-2 * math.log(10_000) / dim))
    return torch.cat([angle.sin(), angle.cos()], dim=1)


def torch_step(net, x, alpha_bar):
    import torch
    x, alpha_bar = torch.from_numpy(x), torch.tensor(alpha_bar, dtype=torch.float32)
    optimizer = torch.optim.Adam(net.parameters(), 1e-3)

    def step():
        t, eps = torch.randint(len(alpha_bar), (len(x),)), torch.randn_like(x)
        a = alpha_bar[t].reshape(-1, *[1] * (x.ndim - 1))
        loss = torch.sum((eps - net(a.sqrt() * x + (1 - a).sqrt() * eps, t + 1)) ** 2) / len(x)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return step


def torch_ddim(net, shape, alpha_bar, steps):
    """Samples of that shape, x_0 clipped to [-1, 1], as DDIM makes them without noise."""
    import torch
    T = len(alpha_bar)
    alpha_bar = [1.0, *alpha_bar.tolist()]
    times = [-(-i * T // steps) for i in range(steps, -1, -1)]

    @torch.inference_mode()
    def sample():
        x = torch.randn(shape)
        for t, s in zip(times, times[1:]):
            a, b = alpha_bar[t], alpha_bar[s]
            eps = net(x, torch.full(shape[:1], t))
            x0 = ((x - (1 - a) ** 0.5 * eps) / a ** 0.5).clamp(-1, 1)
            x = b ** 0.5 * x0 + (1 - b) ** 0.5 * (x - a ** 0.5 * x0) / (1 - a) ** 0.5
        return x
    return sample


def jax_mlp_step(x, alpha_bar, hidden=(128, 128, 128)):
    """A step of `MLPDenoiser(2, hidden)` in JAX, compiled whole."""
    import jax
    import jax.numpy as jnp
    alpha_bar, frequency = jnp.array(alpha_bar, jnp.float32), jnp.exp(jnp.arange(16) * (-math.log(10_000) / 16))

    def loss(params, x, key):
        k1, k2 = jax.random.split(key)
        t, eps = jax.random.randint(k1, len(x), 0, len(alpha_bar)), jax.random.normal(k2, x.shape)
        a, angle = alpha_bar[t][:, None], (t + 1)[:, None] * frequency
        h = jnp.concatenate([jnp.sqrt(a) * x + jnp.sqrt(1 - a) * eps, jnp.sin(angle), jnp.cos(angle)], axis=1)
        for w, b in params[:-1]:
            h = jax.nn.relu(h @ w + b)
        return jnp.sum((eps - (h @ params[-1][0] + params[-1][1])) ** 2) / len(x)

    def update(params, m, v, n, key, x):
        key, draw = jax.random.split(key)
        g = jax.grad(loss)(params, x, draw)
        m = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, m, g)
        v = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, v, g)
        params = jax.tree.map(lambda p, m, v: p - 1e-3 * (m / (1 - 0.9 ** n)) / (jnp.sqrt(v / (1 - 0.999 ** n)) + 1e-8),
                              params, m, v)
        return params, m, v, n + 1, key

    keys, sizes = jax.random.split(jax.random.key(0), len(hidden) + 1), (2 + 32, *hidden, 2)
    params = [(jax.random.uniform(k, (i, o), minval=-i ** -0.5, maxval=i ** -0.5), jnp.zeros(o))
              for k, i, o in zip(keys, sizes, sizes[1:])]
    zeros = lambda: jax.tree.map(jnp.zeros_like, params)
    state, x = [params, zeros(), zeros(), jnp.float32(1), jax.random.key(1)], jnp.array(x)
    jitted = jax.jit(update, donate_argnums=(0, 1, 2))

    def step():
        state[:] = jitted(*state, x)
        jax.block_until_ready(state[0])
    return step
