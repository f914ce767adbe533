"""The sampler: its mechanics exactly, its moments against known ones, its diagnostics where the answer is known."""
import pickle

import numpy as np
import pytest

from autograd import Tensor, grad, jacobian, ops
from minivae.inference import effective_sample_size, hmc, split_rhat
from minivae.inference.hmc import DualAveraging, leapfrog, transition

from ..test_distributions import z_score

MEAN, COV = np.array([1.0, -2.0, 0.5]), np.array([[1.0, 1.2, 0.0], [1.2, 4.0, -0.02], [0.0, -0.02, 0.01]])


def gaussian(z):
    e = z - MEAN
    return -0.5 * ops.sum(e @ np.linalg.inv(COV) * e, axis=1)


def quartic(z):
    """ln p of one z (d,), not a Gaussian."""
    return -0.25 * ops.sum(z ** 4) - 0.5 * ops.square(z[0] - z[1])


@pytest.mark.equation("hmc.leapfrog", "leapfrog, turned round, leapfrog: back at the start", bound=1e-10)
def test_leapfrog_runs_backwards(measure, rng):
    z, r = rng.standard_normal((2, 2))
    there, s = leapfrog(grad(quartic), z, r, 0.2, 12)
    back, t = leapfrog(grad(quartic), there, -s, 0.2, 12)
    measure(back - z)
    measure(t + r)
    assert np.abs(there - z).max() > 0.1


@pytest.mark.equation("hmc.leapfrog", "|det d(z', r') / d(z, r)| = 1", bound=1e-10)
@pytest.mark.parametrize("step", [0.05, 0.4])
def test_leapfrog_keeps_volume(measure, rng, step):
    def flow(v):
        return ops.concatenate(leapfrog(grad(quartic), v[:2], v[2:], step, 6))
    j = jacobian(flow)(rng.standard_normal(4))
    measure(np.linalg.det(j) - 1)
    assert np.abs(j - np.eye(4)).max() > 0.1


@pytest.mark.equation("hmc.energy", "the energy error of a trajectory of fixed length falls as h^2", bound=1e-3,
                      kind="Q")
def test_the_energy_error_is_of_second_order(measure, rng):
    z, r = rng.standard_normal((2, 2))
    energy = lambda z, r: 0.5 * r @ r - quartic(z)
    steps = np.array([4, 8, 16, 32, 64, 128])
    errors = [abs(energy(*leapfrog(grad(quartic), z, r, 1 / n, n)) - energy(z, r)) for n in steps * 4]
    slope = -np.diff(np.log(errors)) / np.diff(np.log(steps))
    measure(slope[-1] - 2)


@pytest.mark.equation("hmc.invariance", "draws of p are still draws of p after a transition, at any step size", bound=5,
                      kind="S")
@pytest.mark.parametrize("step", [0.3, 1.5])
def test_a_transition_leaves_the_density_as_it_is(measure, rng, step):
    z = rng.standard_normal((40_000, 2))
    new, alpha, _ = transition(lambda z: -0.5 * ops.sum(z * z, axis=1), z, step, 3, rng)
    assert 0.1 < alpha.mean() < 0.999 and np.abs(new - z).mean() > 0.1
    for power, moment in (1, 0), (2, 1), (4, 3):
        measure(z_score(new ** power, moment))


@pytest.mark.equation("hmc.invariance", "mean and covariance of N(m, C), correlated and badly scaled", bound=5,
                      kind="S")
def test_the_moments_of_a_gaussian_are_found(measure, rng):
    found = hmc(gaussian, 3, rng=rng)
    z = found.z - MEAN
    products = z[..., :, None] * z[..., None, :] - COV
    for x in z, products:
        measure(x.mean(axis=(0, 1)) / (x.std(axis=(0, 1)) / np.sqrt(effective_sample_size(x))))
    assert (split_rhat(found.z) < 1.02).all() and (abs(found.acceptance - 0.8) < 0.1).all()
    assert (effective_sample_size(found.z) > 1000).all() and found.divergences == 0


@pytest.mark.equation("hmc.invariance", "moments of a gamma, a beta and a Dirichlet, by way of transforms", bound=5,
                      kind="S")
def test_the_moments_of_constrained_densities_are_found(measure, rng):
    def log_joint(rate, share, parts):
        return 2 * ops.log(rate) - 2 * rate + ops.log(share) + 3 * ops.log(1 - share) \
            + ops.sum(np.array([0.5, 1.0, 2.0]) * ops.log(parts), axis=1)
    found = hmc(log_joint, {"rate": "positive", "share": "unit", "parts": ((3,), "simplex")}, rng=rng,
                draws=800, warmup=300)
    a = np.array([1.5, 2.0, 3.0])
    moments = {"rate": (3 / 2, 3 / 4), "share": (2 / 6, 2 * 4 / (36 * 7)),
               "parts": (a / 6.5, a * (6.5 - a) / (6.5 ** 2 * 7.5))}
    for name, (mean, variance) in moments.items():
        x = found.samples[name] - mean
        assert x.shape == (800, 4, *np.shape(mean))
        for x in x, x * x - variance:
            measure(x.mean(axis=(0, 1)) / (x.std(axis=(0, 1)) / np.sqrt(effective_sample_size(x))))


@pytest.mark.parametrize("a", [0.9, 0.5, 0.0, -0.5])
def test_the_effective_sample_size_of_an_autoregression_is_its_closed_form(rng, a):
    x = np.empty((20_000, 4))
    x[0], noise = rng.standard_normal(4), np.sqrt(1 - a * a) * rng.standard_normal(x.shape)
    for t in range(1, len(x)):
        x[t] = a * x[t - 1] + noise[t]
    np.testing.assert_allclose(effective_sample_size(x), x.size * (1 - a) / (1 + a), rtol=0.1)


def test_no_more_than_a_share_of_the_effective_sample_size_is_believed(rng):
    """Draws that alternate have means far better than independent ones, but tau cannot be estimated so near 0."""
    x = np.where(np.arange(1000) % 2, 1, -1)[:, None] + 1e-3 * rng.standard_normal((1000, 4))
    assert effective_sample_size(x) == pytest.approx(4000 * np.log10(4000))


def test_diagnoses_take_lists(rng):
    x = rng.standard_normal((9, 2))
    for diagnose in effective_sample_size, split_rhat:
        assert diagnose(x.tolist()) == diagnose(x)


def test_dual_averaging_is_its_recursion(rng):
    """Hoffman and Gelman, (6): t0 = 10 so that the first draws do not throw the step, gamma = 0.05, kappa = 0.75."""
    tune, excess, average = DualAveraging(0.1, 0.8), 0.0, 0.0
    for t, alpha in enumerate(rng.random(20), 1):
        tune.update(alpha)
        excess = (1 - 1 / (t + 10)) * excess + (0.8 - alpha) / (t + 10)
        log_step = np.log(10 * 0.1) - np.sqrt(t) / 0.05 * excess
        average = t ** -0.75 * log_step + (1 - t ** -0.75) * average
        np.testing.assert_allclose([tune.step, tune.mean], np.exp([log_step, average]), rtol=1e-10)


def test_draws_can_be_stored(rng):
    found = hmc(lambda s: ops.log(s) - s, {"s": "positive"}, rng=rng, draws=5, warmup=4)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(found)).samples["s"], found.samples["s"])


@pytest.mark.equation("hmc.diagnosis", "R-hat^2 = (n-1)/n + (variance of means) / (variance within), of half chains",
                      bound=1e-10)
def test_split_rhat_is_its_definition_and_sees_chains_that_disagree(measure, rng):
    x = rng.standard_normal((100, 3, 2))
    halves = np.concatenate([x[:50], x[50:]], axis=1)
    within = np.mean(np.var(halves, axis=0, ddof=1), axis=0)
    measure(split_rhat(x) ** 2 - 49 / 50 - np.var(halves.mean(axis=0), axis=0, ddof=1) / within)
    assert (split_rhat(x) < 1.05).all()
    assert (split_rhat(x + np.arange(3)[:, None]) > 1.2).all()                             # apart
    assert (split_rhat(x + np.linspace(0, 3, 100)[:, None, None]) > 1.2).all()             # adrift
    assert (effective_sample_size(x + 3 * np.arange(3)[:, None]) < 10).all()


def test_chains_are_a_matter_of_the_generator_and_begin_where_they_are_told():
    def run(**options):
        return hmc(gaussian, 3, rng=np.random.default_rng(2), draws=5, warmup=4, chains=2, **options).z
    np.testing.assert_array_equal(run(), run())
    start = np.tile(MEAN, (2, 1))
    assert not np.array_equal(run(), run(start=start))
    np.testing.assert_array_equal(start, np.tile(MEAN, (2, 1)))


def test_a_trajectory_that_leaves_the_support_is_rejected(rng):
    """ln p = ln z - z on z > 0, and not a number beyond."""
    def gamma(z):
        return ops.sum(ops.log(z) - z, axis=1)
    found = hmc(gamma, 1, rng=rng, start=np.ones((4, 1)))
    assert (found.z > 0).all() and found.divergences > 0
    x = found.z - 2
    assert abs(x.mean()) < 5 * x.std() / effective_sample_size(x)[0] ** 0.5


@pytest.mark.parametrize("log_joint, options, message", [
    (lambda z: ops.sum(z), {}, r"shape \(4,\) for 4 draws, not \(\)"),
    (lambda z: 0.0, {}, "must return a Tensor, not float"),
    (lambda z: Tensor(np.zeros(len(z))), {}, "constant"),
    (lambda z: np.sum(np.asarray(z), axis=1), {}, "cannot become an array"),
    (lambda z: ops.sum(z * np.nan, axis=1), {}, "log_joint is nan at the start"),
    (lambda z: ops.sum(ops.log(ops.relu(z)), axis=1), {}, "log_joint is -inf at the start"),
    (gaussian, dict(chains=0), "chains must be a positive integer, not 0"),
    (gaussian, dict(draws=2.5), "draws must be"),
    (gaussian, dict(warmup=1), "warmup must be an integer >= 2, not 1"),
    (gaussian, dict(accept=1), r"accept must be a number in \(0, 1\), not 1"),
    (gaussian, dict(accept="x"), r"accept must be a number in \(0, 1\), not 'x'"),
    (gaussian, dict(rng=None), "rng must be"),
    (gaussian, dict(start=np.zeros(3)), r"a draw for each of 4 chains, not of shape \(\)"),
    (gaussian, dict(start=np.full((4, 3), np.inf)), "z must be finite")])
def test_bad_input_is_refused(rng, log_joint, options, message):
    with np.errstate(all="ignore"), pytest.raises(ValueError, match=message):
        hmc(log_joint, 3, **dict(rng=rng) | options)


@pytest.mark.parametrize("diagnose", [effective_sample_size, split_rhat])
@pytest.mark.parametrize("x, message", [(np.zeros((10, 2)), "vary within"), (np.zeros((3, 2)), "n >= 4"),
                                        (np.full((10, 2), np.nan), "finite"), (np.zeros(10), "n >= 4")])
def test_draws_that_do_not_vary_have_no_diagnosis(diagnose, x, message):
    with pytest.raises(ValueError, match=message):
        diagnose(x)
