"""Measures of samples are what they estimate where that is known, and see what they are there to see."""
import subprocess
import sys

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.linalg import sqrtm
from scipy.ndimage import gaussian_filter
from scipy.spatial.distance import pdist
from scipy.stats import norm, ortho_group

from minivae.data import mnist
from minivae.data.toys import eight_gaussians
from minivae.metrics import accuracy, frechet_digits, frechet_distance, mmd, samples, to_unit
from minivae.metrics.classifier import digit_classifier

IMAGES, LABELS = (a[:4000] for a in mnist("train"))


def features(mean, root, rng, n=50):
    """n rows whose very mean is `mean` and whose very covariance is root rootᵀ."""
    x = rng.standard_normal((n, root.shape[1]))
    return mean + np.linalg.qr(x - x.mean(axis=0))[0] @ root.T * (n - 1) ** 0.5


@pytest.mark.equation("samples.frechet", "d^2 = |mu_a - mu_b|^2 + tr(S_a + S_b - 2 (S_a S_b)^1/2), relatively",
                      bound=1e-10)
def test_the_distance_of_features_is_that_of_their_moments(measure, rng):
    a, b = rng.standard_normal((40, 6)) @ rng.standard_normal((6, 6)), rng.exponential(size=(70, 6))
    S_a, S_b = np.cov(a.T), np.cov(b.T)
    expected = np.sum((a.mean(axis=0) - b.mean(axis=0)) ** 2) + np.trace(S_a + S_b - 2 * sqrtm(S_a @ S_b).real)
    measure(frechet_distance(a, b) / expected - 1)
    measure(frechet_distance(a.astype(np.float32), a.astype(np.float32)) / np.trace(S_a))


@pytest.mark.equation("samples.frechet", "commuting covariances: d^2 = |mu_a - mu_b|^2 + sum (s_a - s_b)^2",
                      bound=1e-10)
def test_gaussians_of_the_same_axes_are_as_far_apart_as_their_standard_deviations(measure, rng):
    axes, s_a, s_b = ortho_group.rvs(6, random_state=0), rng.exponential(size=6), rng.exponential(size=6)
    a, b = features(1.0, axes * s_a, rng), features(3.0, axes * s_b, rng, n=80)
    measure(frechet_distance(a, b) / (6 * 4 + np.sum((s_a - s_b) ** 2)) - 1)


@pytest.mark.equation("samples.frechet", "d^2 = W2^2 = int (Q_a(u) - Q_b(u))^2 du, quantiles of two Gaussians",
                      bound=1e-7, kind="Q")
def test_in_one_dimension_it_is_what_it_takes_to_move_one_gaussian_onto_the_other(measure, rng):
    a, b = features(0.3, np.array([[2.0]]), rng), features(-1.0, np.array([[0.7]]), rng)
    moved = quad(lambda u: (norm.ppf(u, 0.3, 2.0) - norm.ppf(u, -1.0, 0.7)) ** 2, 0, 1)[0]
    measure(frechet_distance(a, b) - moved)


@pytest.mark.equation("samples.trace", "tr (S_a S_b)^1/2 within a subspace = that in its coordinates; 0 if S_a S_b = 0",
                      bound=1e-10)
def test_singular_covariances_lose_no_digits(measure, rng):
    a, b = rng.standard_normal((30, 3)), 2 * rng.standard_normal((30, 3)) + 1
    within = ortho_group.rvs(9, random_state=0)[:3]
    measure(frechet_distance(a @ within, b @ within) / frechet_distance(a, b) - 1)
    few = rng.standard_normal((5, 40))                             # fewer rows than features
    measure(frechet_distance(few, few + 2) / (40 * 4) - 1)
    left, right = np.pad(a, ((0, 0), (0, 3))), np.pad(b, ((0, 0), (3, 0)))
    apart = np.sum(np.var(left, axis=0, ddof=1) + np.var(right, axis=0, ddof=1)
                   + (left.mean(axis=0) - right.mean(axis=0)) ** 2)
    measure(frechet_distance(left, right) / apart - 1)


def test_frechet_distance_does_not_depend_on_the_frame_and_scales_as_a_square(rng):
    a, b, turn = rng.standard_normal((40, 5)), rng.exponential(size=(60, 5)), ortho_group.rvs(5, random_state=0)
    d2 = frechet_distance(a, b)
    for other in (frechet_distance(b, a), frechet_distance(a @ turn + 7, b @ turn + 7), frechet_distance(a[::-1], b),
                  frechet_distance(3 * a, 3 * b) / 9):
        assert other == pytest.approx(d2, rel=1e-12)
    assert d2 > 0.5 and 0 <= frechet_distance(a, a) < 1e-12


@pytest.mark.equation("samples.mmd", "MMD^2 = mean k(x, x') + mean k(y, y') - 2 mean k(x, y), over the pairs",
                      bound=1e-10)
def test_both_estimates_are_means_over_pairs(measure, rng, monkeypatch):
    x, y, widths = rng.standard_normal((9, 3)), rng.standard_normal((6, 3)) + 0.5, (0.5, 2.0)
    kernel = lambda u, v: np.mean([np.exp(-np.sum((u - v) ** 2) / (2 * h ** 2)) for h in widths])
    gram = lambda a, b: np.array([[kernel(u, v) for v in b] for u in a])
    off = lambda k: k[~np.eye(len(k), dtype=bool)].mean()
    for pairs in (samples.PAIRS, 20):                              # all at once; a few rows at a time
        monkeypatch.setattr(samples, "PAIRS", pairs)
        found = mmd(x, y, widths)
        measure(found.biased - (gram(x, x).mean() + gram(y, y).mean() - 2 * gram(x, y).mean()))
        measure(found.unbiased - (off(gram(x, x)) + off(gram(y, y)) - 2 * gram(x, y).mean()))
        assert found.ratio ** 2 == pytest.approx(found.biased / ((1 / 9 + 1 / 6) * (1 - off(gram(y, y)))))


@pytest.mark.equation("samples.mmd", "Gaussians: E k(x, y) = |I + C / h^2|^-1/2 exp(-m' (C + h^2 I)^-1 m / 2)", bound=5,
                      kind="S")
def test_the_unbiased_estimate_has_the_mean_that_gaussians_have_in_closed_form(measure, rng):
    mean, var_x, var_y, widths = np.array([1.0, 0.5, 0.0]), np.array([1.0, 2.0, 0.5]), 1.5, (0.7, 3.0)

    def expected(m, C):                                            # x - y ~ N(m, C), C diagonal
        return np.mean([np.prod(1 + C / h ** 2) ** -0.5 * np.exp(-0.5 * np.sum(m ** 2 / (C + h ** 2)))
                        for h in widths])
    truth = expected(0 * mean, 2 * var_x) + expected(0 * mean, 0 * mean + 2 * var_y) - 2 * expected(mean, var_x + var_y)
    draw = lambda n, m, var: m + var ** 0.5 * rng.standard_normal((n, 3))
    found = [mmd(draw(30, 0, var_x), draw(20, mean, var_y), widths) for _ in range(400)]
    unbiased = np.array([m.unbiased for m in found])
    measure((unbiased.mean() - truth) / (unbiased.std() / 400 ** 0.5))
    assert np.mean([m.biased for m in found]) > truth + 0.02


@pytest.mark.equation("samples.ratio", "E ratio^2 = 1 between two sets of data, of sizes n and m", bound=5, kind="S")
@pytest.mark.parametrize("bandwidth", [None, 0.2])
def test_the_ratio_of_good_samples_is_one(measure, rng, bandwidth):
    squares = np.array([mmd(eight_gaussians(150, rng), eight_gaussians(300, rng), bandwidth).ratio ** 2
                        for _ in range(200)])
    measure((squares.mean() - 1) / (squares.std() / 200 ** 0.5))
    assert squares.std() < 1


@pytest.mark.parametrize("wrong", ["moved", "a mode less", "too wide", "one mode twice as likely"])
def test_every_measure_of_points_sees_that_samples_are_wrong(rng, wrong):
    data, x = eight_gaussians(2000, rng), eight_gaussians(2000, rng)
    nearest = np.argmin(np.linalg.norm(x[:, None] - eight_gaussians.means, axis=2), axis=1)
    bad = {"moved": x + 0.2, "a mode less": x[nearest != 3], "too wide": 1.2 * x,
           "one mode twice as likely": np.concatenate([x, x[nearest == 0]])}[wrong]
    good = mmd(x, data).ratio, frechet_distance(x, data)
    assert good[0] < 1.5 < 2 < mmd(bad, data).ratio
    assert frechet_distance(bad, data) > 3 * good[1]


def test_mmd_does_not_depend_on_order_and_is_symmetric_for_a_given_kernel(rng):
    x, y = rng.standard_normal((60, 2)), rng.standard_normal((50, 2))
    before, found = x.copy(), mmd(x, y)
    np.testing.assert_allclose(mmd(x[::-1], rng.permutation(y)), found, rtol=1e-9)
    np.testing.assert_allclose(mmd(10 * x, 10 * y), found, rtol=1e-9)              # the kernel's width is the data's
    np.testing.assert_allclose(mmd(x.astype(np.float32), y), found, atol=1e-6)
    np.testing.assert_allclose(mmd(x, y, 0.5)[:2], mmd(y, x, 0.5)[:2], rtol=1e-9)
    h = np.median(pdist(y))
    np.testing.assert_allclose(mmd(x, y, (h, h / 4, h / 16)), found, rtol=1e-9)
    assert mmd(x, x).biased == mmd(x, x).ratio == 0 and mmd(x, x).unbiased < 0 and (x == before).all()


def test_the_distance_of_digits_sees_what_is_wrong_with_them(rng):
    good = frechet_digits(IMAGES)
    grey = IMAGES / np.float32(255)
    bits, blurred = rng.random(grey.shape) < grey, gaussian_filter(grey, (0, 1, 1))
    assert good < frechet_digits(bits) < 10 < 20 < frechet_digits(IMAGES[LABELS != 1]) < frechet_digits(blurred)
    assert frechet_digits(blurred) < frechet_digits(rng.random(grey.shape)) and frechet_digits(IMAGES, IMAGES) < 1e-9
    for same in (grey, grey[:, None], grey.reshape(-1, 784)):
        assert frechet_digits(same) == pytest.approx(good, rel=1e-4)
    assert frechet_digits(IMAGES[:1000]) > good                    # biased: few samples look further away


@pytest.mark.equation("samples.accuracy", "share of images read as wanted = 1 - the classifier's error", bound=3e-4)
def test_digits_are_as_wanted_as_often_as_the_classifier_is_right(measure):
    images, labels = mnist("test")
    measure(accuracy(images[:, None], labels) - digit_classifier().right[0] / 10_000)
    assert accuracy(images, (labels + 1) % 10) < 0.01


def test_pixels_of_diffusion_become_pixels_of_digits():
    x = np.array([[-3, -1, -0.5, 0, 1, 1.2]], np.float32)
    before, unit = x.copy(), to_unit(x)
    assert unit.tolist() == [[0, 0, 0.25, 0.5, 1, 1]] and unit.dtype == np.float32 and (x == before).all()


@pytest.mark.parametrize("x, message", [
    (np.array([[0, 255]], np.uint8), "not uint8: grey levels are from 0 to 1 after x / 255"),
    (np.array([[True]]), "not bool"), (np.array([[0.0, 255.0]]), "not values from 0 to 255"),
    (np.array([[0.0, np.nan]]), "not values from nan")], ids=str)
def test_what_cannot_be_pixels_of_diffusion_is_refused(x, message):
    with pytest.raises(ValueError, match=f"to_unit takes floats from -1 to 1, {message}"):
        to_unit(x)


@pytest.mark.parametrize("bad, message", [
    (np.zeros((1, 3)), "two rows or more"), (np.zeros((5, 2)), r"not \(5, 2\) and \(9, 3\)"),
    (np.full((5, 3), np.nan), "finite"), (np.zeros(5), "shape"), (np.zeros((0, 3)), "shape"),
    (np.zeros((5, 3), complex), "real")])
def test_bad_features_are_refused(rng, bad, message):
    good = rng.standard_normal((9, 3))
    for measure_ in (frechet_distance, mmd):
        with pytest.raises(ValueError, match=message):
            measure_(bad, good)
        with pytest.raises(ValueError, match="a and b|x and y"):
            measure_(good, bad)


@pytest.mark.parametrize("y, bandwidth, message", [
    (np.ones((9, 3)), None, "must be > 0, not .0. 0. 0..: by default the median"), (np.eye(3), -1, "> 0"),
    (np.ones((9, 3)), 1.0, "all rows of y are alike"), (np.eye(3), 1e9, "alike"), (np.eye(3), 1e-200, "must be > 0"),
    (np.eye(3), (1.0, np.nan), "bandwidth must be finite"), (np.eye(3), "median", "real numbers"),
    (np.eye(3), (), "shape")])
def test_a_kernel_that_tells_nothing_apart_is_refused(y, bandwidth, message):
    with pytest.raises(ValueError, match=message):
        mmd(np.eye(3), y, bandwidth)


def test_what_is_not_a_digit_or_not_a_class_is_refused():
    for judge in (frechet_digits, lambda x: accuracy(x, np.zeros(len(x), int))):
        for bad, message in ((2 * IMAGES[:5] / 255 - 1, r"outside \[0, 1\]"), (np.zeros((5, 3, 28, 28)), "shape")):
            with pytest.raises(ValueError, match=message):
                judge(bad)
    for wanted in (LABELS[:4], LABELS[:5] / 2, LABELS[:5] + 10, None):
        with pytest.raises(ValueError, match="integers from 0 to 9"):
            accuracy(IMAGES[:5], wanted)
    with pytest.raises(ValueError, match="two rows"):
        frechet_digits(IMAGES[:1])


def test_judging_points_does_not_load_the_classifier():
    code = "import sys, minivae.metrics; print('minivae.metrics.classifier' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"
