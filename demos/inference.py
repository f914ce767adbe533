"""Variational inference: the ELBO and its gap, both KLs, noisy gradients, and ADVI over HMC on MNIST digits."""
# %% Setup
import warnings

import numpy as np

from autograd import ops
from demos import options
from minivae import plots
from minivae.data import mnist
from minivae.inference import (Gaussian, advi, elbo_gradients, expectation_gradients, fit_forward, fit_reverse, hmc,
                               split_rhat, terms_on_grid)
from minivae.linear import PCA
from minivae.vae.gaps import grid

TIME = "under 1 min"
DIGITS, FEATURES, DRAWS, STEPS, GRADIENTS = 300, 6, 1000, 2000, 200_000
args = options("inference")
rng = np.random.default_rng(args.seed)
if args.quick:
    DRAWS, STEPS, GRADIENTS = 400, 1000, 20_000

# %% ln p(x) = ELBO(q) + KL(q || p(z | x)). We saw z² + noise, 1.4: z is near 1.2 or -1.2, q at one of them at best
line, weight = grid(1, nodes=401, reach=4)
log_joint = Gaussian([1.4], [[0.25]]).log_prob(line ** 2) + Gaussian([0], [[1]]).log_prob(line)
at, q_at = np.linspace(-1.7, 1.7, 171), lambda m: Gaussian([m], [[0.05]])
evidence, elbo, gap = np.transpose([terms_on_grid(log_joint, line, weight, q_at(m)) for m in at])
posterior, shown = np.exp(log_joint - evidence[0]), {m: np.exp(q_at(m).log_prob(line)) for m in (-1.1, 0.0, 0.6)}
figures = {"elbo_and_gap": plots.elbo_and_gap(at, elbo, evidence[0], line[:, 0], posterior, shown)}

# %% In two latents, still by quadrature: the least KL(q || p) finds a peak, or is too narrow; KL(p || q) covers all
plane, weight = grid(2, nodes=161, reach=4)
quadratic = lambda z, mean, cov: -0.5 * ops.sum((z - mean) @ np.linalg.inv(cov) * (z - mean), axis=-1)
peaks = lambda z: ops.logsumexp(ops.stack([quadratic(z, m, [[0.3, 0.1], [0.1, 0.3]]) for m in (-1.4, 1.4)]), axis=0)
ridge = lambda z: quadratic(z, 0, [[1, 0.9], [0.9, 1]])
panels, kl = {}, {}
for title, log_p, mean_field in (("two peaks, any Gaussian q", peaks, False), ("a ridge, q(z₁) q(z₂)", ridge, True)):
    kl[log_p] = (fit_reverse(log_p, Gaussian([-1, -1], 0.5 * np.eye(2)), mean_field),
                 fit_forward(log_p(plane), plane, weight, mean_field))
    ellipses = {f"least KL({name})": (q.mean, q.cov) for name, q in zip(("q ‖ p", "p ‖ q"), kl[log_p])}
    panels[title] = np.exp(log_p(plane)).reshape(161, 161), ellipses
figures["forward_and_reverse"] = plots.forward_and_reverse(panels, 4)

# %% Bayesian logistic regression, 3 against 8: its weights, N(0, 5²) beforehand, by HMC, which is exact, and by ADVI
train = mnist("fit")
rows = np.flatnonzero(np.isin(train.labels, (3, 8)))[:DIGITS]
features = PCA(FEATURES, whiten=True).fit_transform(train.images[rows].reshape(DIGITS, -1) / 255)
X, y, d = np.column_stack([np.ones(DIGITS), features]), train.labels[rows] == 8, FEATURES + 1


def log_posterior(w):
    a = w @ X.T                                                    # of draws of the weights, w (S, d)
    return ops.sum(a * y.astype(float) - ops.softplus(a), axis=1) - ops.sum(w * w, axis=1) / 50


chains = hmc(log_posterior, d, rng=rng, draws=DRAWS)
draws, rhat = chains.z.reshape(-1, d), split_rhat(chains.z).max()
with warnings.catch_warnings(action="ignore"):                     # that mean field is not to be trusted: we shall see
    fits = {name: advi(log_posterior, d, rng=rng, family=name, steps=STEPS) for name in ("mean-field", "full-rank")}
print(f"R-hat of HMC {rhat:.3f}; Pareto k of ADVI", *(f"{name} {fit.pareto_k:.2f}" for name, fit in fits.items()))
order = np.argsort(-np.triu(np.abs(np.corrcoef(draws.T)), 1), axis=None)                   # most correlated first
figures["posterior"] = plots.posterior_over_samples(
    draws, {f"ADVI, {name}": (fit.mean, fit.covariance) for name, fit in fits.items()},
    [divmod(i, d) for i in order[:2]], ["bias", *(f"w{i}" for i in range(1, d))])

# %% The noise of gradients: of E z², where its formula is known, and of the ELBO of the digits
mu, some = np.linspace(0, 3, 61), np.linspace(0, 3, 7)
theory = {"score": mu ** 4 + 14 * mu ** 2 + 15, "baseline": 8 * mu ** 2 + 10, "control-variate": 8 * mu ** 2 + 6,
          "pathwise": 4 + 0 * mu}
variance = lambda gradients, *args, **kwargs: gradients(*args, rng=rng, **kwargs)[1][:, 0].var(axis=0).sum()
square, o = lambda z: ops.sum(z * z, axis=1), np.zeros(1)
measured = {name: [variance(expectation_gradients, square, o + m, o, samples=GRADIENTS, estimator=name) for m in some]
            for name in theory}
q = fits["mean-field"].q
places = {"at N(0, I)": (np.zeros(d), np.zeros(d)), "at the mean-field fit": (q.mu, 2 * q.omega)}
bars = {place: {name: variance(elbo_gradients, log_posterior, *at, samples=2000, estimator=name) for name in theory}
        for place, at in places.items()}
figures["gradient_variance"] = plots.gradient_variance(mu, theory, some, measured, bars)
for name, figure in figures.items():
    print("wrote", plots.save(figure, args.out / f"{name}.png"))

# %% The demo judges itself
one, both = kl[peaks]
ratio = {name: np.sqrt(np.diag(fit.covariance)) / draws.std(axis=0) for name, fit in fits.items()}
assert np.ptp(elbo + gap) < 1e-9 < 0.5 < gap.min(), "the ELBO and the gap do not sum to one evidence"
assert one.mean.max() < -1.3 and abs(both.mean).max() < 1e-3, f"peaks: {one.mean}, {both.mean}"
assert np.allclose([np.diag(q.cov) for q in kl[ridge]], [[0.19], [1]], atol=1e-2), f"ridge: {kl[ridge]}"
assert all(np.allclose(measured[name], theory[name][::10], rtol=0.3) for name in theory), f"variances: {measured}"
assert all(v["pathwise"] < v["control-variate"] < v["score"] for v in bars.values()), f"variances: {bars}"
assert rhat < 1.05 and abs(ratio["full-rank"] - 1).max() < 0.25 and ratio["mean-field"].min() < 0.7, f"widths: {ratio}"
