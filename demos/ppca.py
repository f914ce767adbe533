"""Latent variable models: PCA as the limit of probabilistic PCA, EM's climb, digits completed, a mixture on digits.

Every likelihood here is exact: what EM climbs to is known in closed form, and what it fills in has error bars.
"""
# %% Setup
import numpy as np

from demos import options
from minivae import plots
from minivae.data import mnist
from minivae.linear import PCA, PPCA, MixturePPCA

TIME = "under 1 min"
DIGITS, MISSING, COMPONENTS, TOLERANCE, CLUSTERS = 10_000, 0.5, 40, 0.1, 10
args = options("ppca")
rng = np.random.default_rng(args.seed)
if args.quick:
    DIGITS, TOLERANCE = 2000, 1.0
train, test = mnist("train"), mnist("test")
X, X_test = train.images[:DIGITS].reshape(DIGITS, -1) / 255, test.images[:1000].reshape(1000, -1) / 255

# %% As the noise vanishes, the posterior mean of z becomes the PCA projection
points = rng.standard_normal((150, 1)) @ [[1.2, 0.8]] + 0.8 * rng.standard_normal((150, 2))
model, pca = PPCA(1).fit(points), PCA(1).fit(points)
variance, noises = np.square(model.W_).sum() + model.noise_variance_, model.noise_variance_ * 0.2 ** np.arange(11)
axis, target, shown = model.components_.T, pca.inverse_transform(pca.transform(points)), {}
for noise in noises:
    model.W_, model.noise_variance_ = axis * np.sqrt(variance - noise), noise              # the best W for this noise
    shown[noise] = model.inverse_transform(model.transform(points))
distance = [np.abs(projected - target).max() for projected in shown.values()]
figures = {"noise_vanishes": plots.noise_vanishes(points, target, shown, distance)}

# %% EM climbs to the likelihood of the closed form
best = PPCA(10).fit(X).score(X)
climbs = {name: PPCA(10, method="em", expand=expand, rng=rng, tol=1e-4).fit(X).loglik_trace_
          for name, expand in (("EM, 1999", False), ("EM, 1999, another start", False), ("EM, expanded", True))}
short = best - min(trace[-1] for trace in climbs.values())
print(f"closed form: ln p = {best:.3f} nats a digit; EM ends at most {short:.1e} below, after "
      f"{', '.join(str(len(trace) - 1) for trace in climbs.values())} steps")
figures["em_climb"] = plots.climb(climbs, best, "the closed form")

# %% Half of the pixels of every digit are removed; learn from what is left, and complete unseen digits
holes, holes_test = (np.where(rng.random(x.shape) < MISSING, np.nan, x) for x in (X, X_test))
model = PPCA(COMPONENTS, method="em", rng=rng, tol=TOLERANCE).fit(holes)
filled, std = model.impute(holes_test, return_std=True)
gone = np.isnan(holes_test)
dull = np.where(gone, model.mean_, X_test)
rmse, plain = (np.sqrt(np.mean((x - X_test)[gone] ** 2)) for x in (filled, dull))
print(f"missing pixels: RMSE {rmse:.4f}, {rmse / plain:.2f} of the mean image's {plain:.4f}; "
      f"{np.mean((np.abs(filled - X_test) < 2 * std)[gone]):.0%} are within two standard deviations of the truth")
rows = {"digit": X_test, "half of it": np.where(gone, 0.35, X_test), "holes at μ": dull, "E[x | half]": filled.clip(0)}
figures["completed"] = plots.image_grid(np.concatenate([x[:14] for x in rows.values()]), 14, labels=list(rows),
                                        title=f"PPCA, q = {COMPONENTS}, that has never seen a whole digit")

# %% Ten planes instead of one: a mixture of PPCA
mixture = MixturePPCA(CLUSTERS, 10, rng=rng, tol=0.2).fit(X)
one = PPCA(10).fit(X)
gain = mixture.score(X_test) - one.score(X_test)
print(f"mixture of {CLUSTERS}: {gain:.1f} nats a test digit more than one PPCA of as many dimensions")
figures["mixture"] = plots.mixture_of_planes(mixture.means_, mixture.W_)

for name, figure in figures.items():
    print("wrote", plots.save(figure, args.out / f"{name}.png"))

# %% The demo judges itself
assert distance[-1] < 1e-6 * distance[0], f"PPCA is still {distance[-1]:.1e} from PCA"
assert 0 <= short + 1e-9 and short < 0.1, f"EM ended {short:.3f} nats below the closed form"
assert rmse < 0.6 * plain, f"RMSE {rmse:.4f} > 0.6 times that of the mean, {plain:.4f}"
assert gain > 0, f"the mixture is {-gain:.1f} nats worse than PPCA"
