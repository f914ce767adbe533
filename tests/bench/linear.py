"""How fast the linear models are: PPCA's closed form, its EM, its EM over missing values, factor analysis; and how well
PPCA fills in half of a digit.

The benches take a Contest, and return rows: what, value, target, detail. The other functions return what is timed.
"""
import warnings

import numpy as np

from minivae.data import mnist
from minivae.linear import PPCA, FactorAnalysis

from .contest import contender


def digits():
    return mnist("train").images.reshape(60_000, 784).astype(np.float64)


def ours_eigen():
    X = digits()

    def fit():
        PPCA(50).fit(X)
    return fit


def theirs_eigen():
    from sklearn.decomposition import PCA
    X = digits()

    def fit():
        PCA(50, svd_solver="covariance_eigh").fit(X)
    return fit


def ppca_eigen(contest):
    """The closed form of PPCA beside scikit-learn's PCA."""
    return contest.compare("PPCA eigen, MNIST, q = 50", {
        "ours": contender("linear:ours_eigen"), "scikit-learn's PCA": contender("linear:theirs_eigen")},
        [("ours", "scikit-learn's PCA", 1.0)])


def ours_em():
    from minivae.linear.ppca import Complete
    X = digits()
    data, mean, W = Complete(X), X.mean(axis=0), np.random.default_rng(0).standard_normal((784, 50))

    def step():
        data.maximise(data.expect(W, mean, 1000.0)[0])
    return step


def em_products():
    X = digits()
    W, centred = np.random.default_rng(0).standard_normal((784, 50)), X - X.mean(axis=0)

    def step():
        centred.T @ (centred @ W)
    return step


def em_iteration(contest):
    """An EM iteration beside the matrix products that it is made of."""
    return contest.compare("an EM iteration, MNIST, q = 50", {
        "ours": contender("linear:ours_em"), "its two products": contender("linear:em_products")},
        [("ours", "its two products", 1.3)])


def with_holes():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((10_000, 20)) @ rng.standard_normal((20, 784)) + rng.standard_normal((10_000, 784))
    X[rng.random(X.shape) < 0.2] = np.nan
    return X, rng.standard_normal((784, 20))


def ours_missing():
    from minivae.linear.missing import Incomplete
    X, W = with_holes()
    data = Incomplete(X)

    def step():
        data.maximise(data.expect(W, data.mean, 1.0)[0])
    return step


def missing_by_rows():
    from ..minivae.linear.test_missing import em_by_rows
    X, W = with_holes()
    mean = np.nanmean(X, axis=0)

    def step():
        em_by_rows(X, W, mean, 1.0)
    return step


def missing_em(contest):
    """An EM iteration with a fifth of the values missing, beside a loop over the rows."""
    return contest.compare("EM, 10,000 x 784, 20 % missing", {
        "ours": contender("linear:ours_missing"), "loop over rows": contender("linear:missing_by_rows")},
        [("ours", "loop over rows", 0.1)], rounds=3)


def some(name):
    """The digits of scikit-learn, or 10,000 of MNIST's."""
    if name == "digits 1,797 x 64":
        from sklearn.datasets import load_digits
        return load_digits().data
    return mnist("train").images[:10_000].reshape(-1, 784) / 255


def ours_factors(name, steps):
    x = some(name)

    def fit():
        with warnings.catch_warnings():                            # that it is stopped early
            warnings.simplefilter("ignore", RuntimeWarning)
            FactorAnalysis(10, max_iter=steps).fit(x)
    return fit


def theirs_factors(name):
    from sklearn.decomposition import FactorAnalysis as Peer
    x = some(name)

    def fit():
        Peer(10, random_state=0).fit(x)
    return fit


def factor_analysis(contest):
    """To the likelihood at which scikit-learn's stops."""
    try:
        from sklearn.decomposition import FactorAnalysis as Peer
    except ImportError:
        print("  without scikit-learn")
        return []
    rows = []
    for name in ("digits 1,797 x 64", "MNIST 10,000 x 784"):
        x = some(name)
        likelihood = Peer(10, random_state=0).fit(x).score(x)
        trace = np.array(FactorAnalysis(10).fit(x).loglik_trace_)
        if not trace[-1] >= likelihood:
            raise RuntimeError(f"on {name} EM ends at {trace[-1]:.6f}, below scikit-learn's {likelihood:.6f}")
        steps = max(int(np.argmax(trace >= likelihood)), 1)
        print(f"  to {likelihood:.3f} nats in {steps} iterations; ours ends at {trace[-1]:.3f}")
        rows += contest.compare(f"FactorAnalysis, {name}, q = 10", {
            "ours": contender("linear:ours_factors", name, steps),
            "scikit-learn": contender("linear:theirs_factors", name)}, [("ours", "scikit-learn", 1.0)])
    return rows


def imputation(contest):
    """The error of values that PPCA imputes, beside that of the mean."""
    rng = np.random.default_rng(0)
    X, X_test = digits()[:10_000] / 255, mnist("test").images[:2000].reshape(2000, 784) / 255
    holes, holes_test = (np.where(rng.random(x.shape) < 0.5, np.nan, x) for x in (X, X_test))
    model, gone = PPCA(40, method="em", rng=rng, tol=0.1).fit(holes), np.isnan(holes_test)
    rmse = [np.sqrt(np.mean((x - X_test)[gone] ** 2)) for x in (model.impute(holes_test), model.mean_)]
    return [("MNIST, 50 % missing: RMSE of PPCA's imputation / mean's", rmse[0] / rmse[1], 0.6,
             f"{rmse[0]:.4f} / {rmse[1]:.4f}, unseen digits")]


def linear(contest):
    """All of the linear models."""
    return [row for bench in (ppca_eigen, em_iteration, missing_em, factor_analysis, imputation)
            for row in bench(contest)]


BENCHES = (linear,)
