"""How fast the linear models are: PPCA's closed form, its EM, its EM over missing values, factor analysis; and how well
PPCA fills in half of a digit.

Each takes the number of rounds and the `medians` of the report, and returns rows: what, value, target, detail.
"""
import warnings

import numpy as np

from minivae.data import mnist
from minivae.linear import PPCA, FactorAnalysis
from minivae.linear.missing import Incomplete
from minivae.linear.ppca import Complete

from ..minivae.linear.test_missing import em_by_rows


def digits():
    return mnist("train").images.reshape(60_000, 784).astype(np.float64)


def ratio(what, times, peer, target):
    """A row that compares the median of "ours" with a peer's."""
    return what, times["ours"] / times[peer], target, f"{times['ours'] * 1e3:.4g} / {times[peer] * 1e3:.4g} ms"


def ppca_eigen(rounds, medians):
    try:
        from sklearn.decomposition import PCA
    except ImportError:
        print("  without scikit-learn")
        return []
    X = digits()
    times = medians({"ours": lambda: PPCA(50).fit(X),
                     "scikit-learn": lambda: PCA(50, svd_solver="covariance_eigh").fit(X)}, rounds)
    return [ratio("PPCA eigen, MNIST, q = 50: ours / scikit-learn's PCA", times, "scikit-learn", 1.0)]


def em_iteration(rounds, medians):
    X = digits()
    data, mean = Complete(X), X.mean(axis=0)
    W, centred = np.random.default_rng(0).standard_normal((784, 50)), X - mean
    times = medians({"ours": lambda: data.maximise(data.expect(W, mean, 1000.0)[0]),
                     "GEMMs": lambda: centred.T @ (centred @ W)}, rounds)
    return [ratio("an EM iteration, MNIST, q = 50: ours / its two GEMMs", times, "GEMMs", 1.3)]


def missing_em(rounds, medians):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((10_000, 20)) @ rng.standard_normal((20, 784)) + rng.standard_normal((10_000, 784))
    X[rng.random(X.shape) < 0.2] = np.nan
    data, W = Incomplete(X), rng.standard_normal((784, 20))
    times = medians({"ours": lambda: data.maximise(data.expect(W, data.mean, 1.0)[0]),
                     "loop": lambda: em_by_rows(X, W, data.mean, 1.0)}, min(rounds, 3))
    return [ratio("EM, 10,000 x 784, 20 % missing: ours / loop over rows", times, "loop", 0.1)]


def factor_analysis(rounds, medians):
    """To the likelihood at which scikit-learn's stops."""
    try:
        from sklearn.datasets import load_digits
        from sklearn.decomposition import FactorAnalysis as Peer
    except ImportError:
        print("  without scikit-learn")
        return []
    data = {"digits 1,797 x 64": load_digits().data,
            "MNIST 10,000 x 784": mnist("train").images[:10_000].reshape(-1, 784) / 255}
    rows = []
    for name, x in data.items():
        likelihood = Peer(10, random_state=0).fit(x).score(x)
        trace = np.array(FactorAnalysis(10).fit(x).loglik_trace_)
        if not trace[-1] >= likelihood:
            raise RuntimeError(f"on {name} the climb ends at {trace[-1]:.6f}, below scikit-learn's {likelihood:.6f}")
        steps = max(int(np.argmax(trace >= likelihood)), 1)

        def ours():
            with warnings.catch_warnings():                        # that it is stopped early
                warnings.simplefilter("ignore", RuntimeWarning)
                FactorAnalysis(10, max_iter=steps).fit(x)

        times = medians({"ours": ours, "scikit-learn": lambda: Peer(10, random_state=0).fit(x)}, rounds)
        rows.append((f"FactorAnalysis, {name}, q = 10: ours / scikit-learn", times["ours"] / times["scikit-learn"], 1.0,
                     f"{times['ours'] * 1e3:.3g} / {times['scikit-learn'] * 1e3:.3g} ms to {likelihood:.3f} nats, "
                     f"{steps} iterations; ours at its end {trace[-1]:.3f}"))
    return rows


def imputation(rounds, medians):
    rng = np.random.default_rng(0)
    X, X_test = digits()[:10_000] / 255, mnist("test").images[:2000].reshape(2000, 784) / 255
    holes, holes_test = (np.where(rng.random(x.shape) < 0.5, np.nan, x) for x in (X, X_test))
    model, gone = PPCA(40, method="em", rng=rng, tol=0.1).fit(holes), np.isnan(holes_test)
    rmse = [np.sqrt(np.mean((x - X_test)[gone] ** 2)) for x in (model.impute(holes_test), model.mean_)]
    return [("MNIST, 50 % missing: RMSE of PPCA's imputation / mean's", rmse[0] / rmse[1], 0.6,
             f"{rmse[0]:.4f} / {rmse[1]:.4f}, unseen digits")]


BENCHES = (ppca_eigen, em_iteration, missing_em, factor_analysis, imputation)
