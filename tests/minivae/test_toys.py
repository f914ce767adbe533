"""The sets of points lie where they should, at the scale they should, as densely as they say."""
import numpy as np
import pytest
from scipy.integrate import trapezoid
from scipy.spatial import cKDTree
from scipy.stats import multivariate_normal

from autograd import grad, ops
from minivae.data import TOYS, toys
from minivae.data.toys import NOISE, Mixture, eight_gaussians, grid

N, LEVELS = 20_000, (1.0, 0.5, 0.01)
CURVES = {                                   # t in [0, 1], and what tells its parts apart, to a curve about 0
    "two_moons": (lambda t, sign: sign * (np.exp(1j * np.pi * t) - 1 / 2 - 1j / 4), (-1, 1)),
    "rings": (lambda t, radius: radius * np.exp(2j * np.pi * t), (1, 2, 3)),
    "spirals": (lambda t, sign: sign * t * np.exp(3j * np.pi * t), (-1, 1))}


@pytest.mark.equation("toys.scale", "E x = 0, E |x|^2 = 2", bound=5, kind="S")
@pytest.mark.parametrize("noise", [NOISE, 0.5])
@pytest.mark.parametrize("name", TOYS)
def test_every_set_has_mean_zero_and_mean_square_two(measure, rng, monkeypatch, name, noise):
    monkeypatch.setattr(toys, "NOISE", noise)
    x = TOYS[name](25 * N, rng).astype(np.float64)
    square = np.sum(x ** 2, axis=1)
    measure(x.mean(axis=0) / (x.std(axis=0) / len(x) ** 0.5))
    measure((square.mean() - 2) / (square.std() / len(x) ** 0.5))


@pytest.mark.parametrize("name", CURVES)
def test_points_lie_all_along_their_curve_and_as_far_from_it_as_noise(rng, name):
    x, (curve, parts) = TOYS[name](N, rng), CURVES[name]
    points = np.concatenate([curve(np.linspace(0, 1, 3000), part) for part in parts])
    points = np.stack([points.real, points.imag], axis=1)
    scales = np.linspace(0.9, 1.1, 101) * np.linalg.norm(x, axis=1).max() / np.linalg.norm(points, axis=1).max()
    rms, scale = min((np.mean(cKDTree(c * points).query(x[:2000])[0] ** 2) ** 0.5, c) for c in scales)
    assert rms == pytest.approx(NOISE, rel=0.1)
    assert cKDTree(scale * points).query(x)[0].max() < 5 * NOISE and cKDTree(x).query(scale * points)[0].max() < NOISE


def test_rings_are_as_dense_as_each_other(rng):
    radius = np.linalg.norm(TOYS["rings"](N, rng), axis=1)
    counts = np.bincount(np.rint(radius * 3 ** 0.5).astype(int), minlength=4)
    share = np.arange(4) / 6
    assert (np.abs(counts - N * share) <= 5 * (N * share) ** 0.5).all()


@pytest.mark.equation("toys.checkerboard", "p(x) = 1 / 8a^2 on the dark squares, 0 elsewhere", bound=5, kind="S")
def test_the_checkerboard_is_even_where_it_is_dark_and_empty_where_it_is_not(measure, rng):
    x = TOYS["checkerboard"](N, rng)
    counts = np.histogram2d(*x.T, bins=[np.linspace(-2, 2, 17) * 3 ** 0.5 / 2] * 2)[0]             # 4 x 4 in a square
    dark = np.kron(np.eye(2)[[0, 1, 0, 1]][:, [0, 1, 0, 1]], np.ones((4, 4))) == 1
    measure((counts[dark] - N / 128) / (N / 128) ** 0.5)
    assert counts[~dark].sum() == 0 and counts.sum() == N


@pytest.mark.equation("toys.density", "q(x_t) = 1/K sum_k N(x_t; sqrt(abar) m_k, (abar s^2 + 1 - abar) I)", bound=1e-10)
@pytest.mark.parametrize("alpha_bar", LEVELS)
@pytest.mark.parametrize("mixture", [eight_gaussians, grid])
def test_the_density_of_a_mixture_is_the_mean_of_its_gaussians_and_integrates_to_one(measure, rng, mixture, alpha_bar):
    x = mixture(100, rng).astype(np.float64)
    cov = alpha_bar * mixture.std ** 2 + 1 - alpha_bar
    p = np.mean([multivariate_normal(alpha_bar ** 0.5 * m, cov).pdf(x) for m in mixture.means], axis=0)
    measure(mixture.log_density(x, alpha_bar) - np.log(p))
    axis = np.linspace(-8, 8, 481)
    p = np.exp(mixture.log_density(np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2), alpha_bar))
    measure(trapezoid(trapezoid(p.reshape(481, 481), axis), axis) - 1)
    assert mixture.log_density(x.astype(np.float32)).dtype == mixture.score(x.astype(np.float32)).dtype == np.float32
    assert np.isfinite(mixture.log_density(1e6 * x)).all() and np.isfinite(mixture.score(1e6 * x)).all()


@pytest.mark.equation("toys.density", "counts of noised draws in cells = their number times the integral of q", bound=5,
                      kind="S")
@pytest.mark.parametrize("alpha_bar", LEVELS)
@pytest.mark.parametrize("mixture", [eight_gaussians, grid])
def test_a_mixture_is_drawn_from_its_density(measure, rng, mixture, alpha_bar):
    x = alpha_bar ** 0.5 * mixture(5 * N, rng) + (1 - alpha_bar) ** 0.5 * rng.standard_normal((5 * N, 2))
    edges, fine = np.linspace(-2.4, 2.4, 49), (np.arange(480) + 0.5) / 100 - 2.4
    counts = np.histogram2d(*x.T, bins=[edges] * 2)[0]
    plane = np.stack(np.meshgrid(fine, fine, indexing="ij"), axis=-1).reshape(-1, 2)
    q = np.exp(mixture.log_density(plane, alpha_bar)).reshape(48, 10, 48, 10)
    expected = 5 * N * q.sum(axis=(1, 3)) / 100 ** 2
    measure(((counts - expected) / expected ** 0.5)[expected > 50])
    assert counts[expected < 1e-3].sum() <= 3


@pytest.mark.equation("toys.score", "score = the gradient of ln q", bound=1e-10)
@pytest.mark.parametrize("alpha_bar", [*LEVELS, 0.0])
def test_the_score_of_a_mixture_is_the_gradient_of_its_log_density(measure, rng, alpha_bar):
    x, v = eight_gaussians(100, rng).astype(np.float64), alpha_bar * eight_gaussians.std ** 2 + 1 - alpha_bar
    distances = lambda x: ops.sum((alpha_bar ** 0.5 * eight_gaussians.means - ops.expand_dims(x, 1)) ** 2, axis=2)
    gradient = grad(lambda x: ops.sum(ops.logsumexp(-distances(x) / (2 * v), axis=1)))(x)
    measure((eight_gaussians.score(x, alpha_bar) - gradient) / np.abs(gradient).max())


@pytest.mark.parametrize("name", TOYS)
def test_points_are_drawn_one_by_one_from_the_generator_in_no_order(name):
    draw, (one, again, other) = TOYS[name], map(np.random.default_rng, (1, 1, 2))
    x = draw(1000, one)
    assert x.shape == (1000, 2) and x.dtype == np.float32 and draw(1, one).shape == (1, 2)
    assert (x == draw(1000, again)).all() and (x != draw(1000, other)).any() and len(np.unique(x, axis=0)) == 1000
    neighbours = np.corrcoef(np.hstack([x[1:], x[:-1]]).T)[:2, 2:]
    assert np.abs(neighbours).max() < 5 / 1000 ** 0.5


@pytest.mark.parametrize("name", TOYS)
def test_bad_numbers_of_points_and_generators_are_refused(name):
    for n in (0, -1, 2.5, True, None, "9"):
        with pytest.raises(ValueError, match="n must be a positive integer"):
            TOYS[name](n, np.random.default_rng(0))
    with pytest.raises(ValueError, match="numpy.random.Generator"):
        TOYS[name](5, 0)


@pytest.mark.parametrize("means, std, message", [
    (np.zeros((3, 3)), 1, r"means must have shape \(any, 2\)"), (np.zeros((3, 2)), 0, "std must be a number > 0"),
    (np.full((3, 2), np.nan), 1, "means must be finite"), (np.eye(2), 1, "mean of means must be 0")])
def test_bad_mixtures_are_refused(means, std, message):
    with pytest.raises(ValueError, match=message):
        Mixture(means, std)
    with pytest.raises(ValueError, match=r"x must have shape \(any, 2\)"):
        grid.log_density(np.zeros((5, 3)))
    for alpha_bar in (-0.1, 1.1, np.nan):
        with pytest.raises(ValueError, match=r"alpha_bar must be in \[0, 1\]"):
            grid.score(np.zeros((5, 2)), alpha_bar)
