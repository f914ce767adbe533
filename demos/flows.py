"""Normalising flows: four densities that no Gaussian fits, moons learned from points, and better posteriors.

A flow is trained in either direction: towards a density that one can evaluate, or on points that one was given.
"""
# %% Setup
import numpy as np
from scipy.stats import multivariate_normal

from autograd import optim
from demos import options
from minivae import plots
from minivae.data import TOYS
from minivae.flows import IAF, MAF, Coupling, Flow, Planar
from minivae.flows.energies import ENERGIES, energy_kl, fit_energy
from minivae.vae import VAE, FlowVAE
from minivae.vae.gaps import exact_log_likelihood, grid, log_joint

TIME = "1 to 2 min"
STEPS, LAYERS, SIDE, TOY = 2500, (2, 8, 32), 151, "two_moons"
args = options("flows")
rng = np.random.default_rng(args.seed)
if args.quick:
    STEPS, LAYERS = 150, (2, 8)


def minimise(model, loss, lr):
    optimizer = optim.Adam(model.parameters(), optim.warmup_cosine(lr, 50, STEPS + 1))
    for _ in range(STEPS):
        value = loss()
        optimizer.zero_grad()
        value.backward()
        optimizer.step()


# %% Towards a density: planar layers push a Gaussian onto e^-U; what is left of the KL, by quadrature
square = lambda log_density: np.exp(np.asarray(log_density, float)).reshape(SIDE, SIDE)
plane, rows, kl = grid(2, SIDE, 4)[0], {}, {}
for name, energy in ENERGIES.items():
    rows[name] = [("e^-U", square(-energy(plane)), None)]
    for K in LAYERS:
        flow = fit_energy(Flow([Planar(2, rng=rng) for _ in range(K)]), energy, rng, steps=STEPS)
        kl[name, K] = energy_kl(flow, energy)
        density = square(flow.log_prob(plane.astype(flow.dtype)).data)
        rows[name].append((f"K = {K}: KL {kl[name, K]:.2f}", density, None))
    print(name, *(f"K = {K}: KL {kl[name, K]:.3f} nats" for K in LAYERS), flush=True)
figures = {"energies": plots.densities(rows, 4)}

# %% From points: maximum likelihood, for which the inverse has to be cheap
toy, gain = TOYS[TOY], {}
some, test = toy(20_000, rng), toy(5000, rng)
gauss = multivariate_normal(some.mean(axis=0), np.cov(some.T)).logpdf(test).mean()
rows = [("points", np.histogram2d(*some.T, SIDE // 2, [[-2.5, 2.5]] * 2)[0], None)]
for name, cls in {"coupling": Coupling, "MAF": MAF}.items():
    flow = Flow([cls(2, (64,), flip=k % 2 == 1, rng=rng) for k in range(6)])
    minimise(flow, lambda: -flow.log_prob(toy(256, rng)).mean(), 5e-3)
    gain[name] = flow.log_prob(test).data.mean() - gauss
    rows.append((f"{name}: {gain[name]:+.2f} nats", square(flow.log_prob(np.float32(plane * 2.5 / 4)).data), None))
    print(f"{TOY}: ln q of new points is {gain[name]:.3f} nats above a Gaussian's with 6 layers of {name}", flush=True)
figures["samples"] = plots.densities({TOY: rows}, 2.5)

# %% As q(z | x): of x = z₁² + z₂ + noise the posterior is a crescent; how far is the ELBO from ln p(x)?
decoder = lambda z: z[:, :1] ** 2 + z[:, 1:]
draw = lambda n: decoder(rng.standard_normal((n, 2))) + 0.1 ** 0.5 * rng.standard_normal((n, 1))
flows = {"planar": [Planar(2, 16, rng=rng) for _ in range(8)],
         "IAF": [IAF(2, (32,), 16, flip=k % 2 == 1, rng=rng) for k in range(2)]}
sizes, x, gap, rows = dict(latent_dim=2, hidden=(64,), likelihood="gaussian", variance=0.1, rng=rng), draw(200), {}, {}
models = {"Gaussian": VAE(1, **sizes)} | {name: FlowVAE(1, flow=Flow(f), **sizes) for name, f in flows.items()}
for name, model in models.items():
    model.decoder = decoder
    minimise(model.astype(np.float64), lambda: model.loss(draw(256), rng)[0], 5e-3)
    elbo = model.elbo(np.repeat(x, 100, axis=0), rng).value.data.mean()
    gap[name] = exact_log_likelihood(model, x).mean() - elbo
    print(f"q(z | x) {name}: ELBO {elbo:.3f}, ln p(x) - ELBO {gap[name]:.3f} nats", flush=True)
for value in (-1.0, 1.0, 3.0):
    posterior = log_joint(model, np.array([[value]]), plane)[0]
    q = lambda model: square(model.encode(np.full((len(plane), 1), value)).log_prob(plane).data)
    rows[f"p(z | x = {value:g})"] = [(f"q {name}: mean gap {gap[name]:.2f}", square(posterior), q(model))
                                     for name, model in models.items()]
figures["posteriors"] = plots.densities(rows, 4)
for name, figure in figures.items():
    print("wrote", plots.save(figure, args.out / f"{name}.png"))

# %% The demo judges itself
assert all(kl[name, LAYERS[-1]] < 0.7 * kl[name, 2] for name in ENERGIES), f"more layers do not help: {kl}"
assert args.quick or max(kl[name, 32] for name in ENERGIES) < 0.15, f"32 planar layers are far from an energy: {kl}"
assert args.quick or min(gain.values()) > 0.5, f"flows are no better than a Gaussian: {gain}"
assert args.quick or max(gap["planar"], gap["IAF"]) < 0.5 * gap["Gaussian"], f"flows close no gap: {gap}"
