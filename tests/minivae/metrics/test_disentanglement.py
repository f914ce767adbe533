"""Disentanglement scores of codes whose scores are known: the factors themselves, turned, copied, bent, lost."""
import math
from itertools import combinations

import numpy as np
import pytest
from scipy.stats import entropy

from autograd import Tensor
from minivae.data.sprites import sprites
from minivae.metrics import beta_vae_score, dci, factor_vae_score, mig, sap
from minivae.metrics.disentanglement import _best_cuts, _bins, _encode, _entropy, _tree, concentration

SIZES = 3, 4, 8
SCORES = beta_vae_score, factor_vae_score


class Grid:
    """Data whose images are their factors, as floats."""

    def __init__(self, *sizes):
        self.factor_sizes = sizes

    def index(self, factors):
        return np.ravel_multi_index(tuple(factors.T), self.factor_sizes)

    def __getitem__(self, rows):
        return np.stack(np.unravel_index(rows, self.factor_sizes), axis=1).astype(float)


def grid(*sizes, times=10):
    """Every combination of factors, `times` over: factors that are independent, exactly."""
    return np.tile(Grid(*sizes)[np.arange(math.prod(sizes))].astype(int), (times, 1))


def draw(rng, n=4000, sizes=SIZES):
    return rng.integers(sizes, size=(n, len(sizes)))


def turned(factors):
    """The first two of the factors turned by 45 degrees, times the square root of 2, and so in integers."""
    u, v = factors.T[:2]
    return np.stack([u + v, u - v], axis=1)


@pytest.mark.equation("disentanglement.mig", "codes that are the factors: MIG = 1", bound=1e-10)
@pytest.mark.parametrize("codes", [lambda v: v, lambda v: 5.0 - 3 * v, lambda v: v[:, ::-1], lambda v: np.exp(3.0 * v)])
def test_mig_of_the_factors_themselves_is_one_in_any_order_and_on_any_scale(measure, codes):
    factors = grid(*SIZES, times=50)
    measure(mig(codes(factors), factors) - 1)


@pytest.mark.equation("disentanglement.mig", "codes (u + v, u - v): MIG = 0; codes (u, u, v, v): MIG = 0", bound=1e-10)
def test_mig_of_turned_and_of_copied_codes_is_zero(measure):
    factors = grid(8, 8)
    measure(mig(turned(factors), factors))
    measure(mig(np.hstack([factors, factors]), factors))


@pytest.mark.equation("disentanglement.mig", "a code of half the bits, I = H/2 but for the corrections: MIG = I / H",
                      bound=1e-10)
def test_mig_is_divided_by_the_entropy_of_the_factor_not_of_its_number_of_values(measure):
    v, n = np.repeat(np.arange(4), 100)[:, None], 400
    corrected = [math.log(values) + (values - 1) / (2 * n) for values in (2, 4)]
    measure(mig(v // 2, v) - corrected[0] / corrected[1])
    rare = np.repeat(np.arange(4), [500, 300, 100, 30])[:, None]
    measure(mig(rare, rare) - 1)


def test_mig_does_not_cap_a_factor_of_many_values(rng):
    """ln 20 / ln 50 = 0.77 is what 20 bins would show of it."""
    factors = rng.permutation(np.repeat(np.arange(50), 400))[:, None]
    assert mig(factors, factors) == pytest.approx(1, abs=1e-12)
    assert mig(factors + 0.05 * rng.standard_normal(factors.shape), factors) > 0.999


def test_mig_sees_a_factor_that_goes_up_and_down_with_its_code():
    codes = np.repeat(np.arange(10), 400)[:, None]
    assert mig(codes, codes % 2) == pytest.approx(1, abs=1e-12)


def test_noise_beside_the_factors_costs_nothing_and_alone_scores_nothing(rng):
    factors = draw(rng)
    noise = rng.standard_normal((4000, 7))
    beside = np.hstack([factors, noise])
    assert mig(beside, factors) > 0.99 and mig(noise, factors) < 0.01
    assert sap(beside, factors) > 0.99 and sap(noise, factors) < 0.01
    assert dci(beside, factors) == pytest.approx((1, 1, 1), abs=1e-12)
    assert dci(noise, factors) == (0, 0, 0)


def test_means_show_mig_a_leak_that_their_noise_would_hide(rng):
    factors = draw(rng)
    leaky = factors + 0.05 * factors[:, [1, 2, 0]] / np.array(SIZES)
    assert mig(leaky, factors) < 0.6
    assert mig(leaky + 0.1 * rng.standard_normal(leaky.shape), factors) > 0.95


@pytest.mark.oracle
@pytest.mark.equation("disentanglement.mig", "I(z; v) = scikit-learn's of the bins, and Miller's correction",
                      bound=1e-10)
def test_mutual_information_is_scikit_learns(measure, oracle, rng):
    v = rng.integers(5, size=2000)
    z = v + rng.standard_normal(2000)
    bins = _bins(z, 80)
    plug_in = oracle("sklearn.metrics").mutual_info_score(bins, v)
    joint = len(np.unique(np.stack([bins, v]), axis=1).T)
    correction = (len(np.unique(bins)) - 1 + 4 - (joint - 1)) / 4000
    measure(_entropy(bins) + _entropy(v) - _entropy(5 * bins + v) - plug_in - correction)


@pytest.mark.parametrize("z", [np.arange(100.0), np.repeat([1.0, 2, 5], [20, 20, 60]), np.zeros(100)])
def test_bins_keep_the_order_and_equal_codes_together(z):
    bins = _bins(z, 10)
    assert (np.diff(bins) >= 0).all() and not (np.diff(bins)[np.diff(z) == 0]).any()
    assert np.bincount(bins).max() <= max(20, np.unique(z, return_counts=True)[1].max())


@pytest.mark.equation("disentanglement.sap", "codes that are the factors: SAP = 1", bound=1e-10)
@pytest.mark.parametrize("categorical", [(), (1,), (0, 1, 2)])
def test_sap_of_the_factors_themselves_is_one(measure, categorical):
    factors = grid(*SIZES)
    measure(sap(np.hstack([2 - factors, np.full((len(factors), 1), 0.1)]), factors, categorical) - 1)


@pytest.mark.equation("disentanglement.sap", "codes (u + v, u - v): SAP = 0; codes (u, u, v, v): SAP = 0", bound=1e-10)
@pytest.mark.parametrize("categorical", [(), (0, 1)])
def test_sap_of_turned_and_of_copied_codes_is_zero(measure, categorical):
    factors = grid(8, 8)
    measure(sap(turned(factors), factors, categorical))
    measure(sap(np.hstack([factors, factors]), factors, categorical))


@pytest.mark.equation("disentanglement.sap", "S = R^2 of the least-squares line", bound=1e-10)
def test_sap_of_one_code_is_the_fit_of_the_line(measure, rng):
    v = rng.integers(6, size=(500, 1))
    z = v + rng.standard_normal((500, 1))
    residual = np.linalg.lstsq(np.hstack([z, np.ones_like(z)]), v[:, 0], rcond=None)[1][0]
    measure(sap(z, v) - 1 + residual / (500 * v.var()))


@pytest.mark.equation("disentanglement.sap", "S of a categorical factor = mean of 2 balanced accuracy - 1, any two "
                      "thresholds tried", bound=1e-10)
def test_sap_of_a_categorical_factor_is_that_of_the_best_thresholds(measure, rng):
    v = np.repeat([0, 4, 7], [12, 15, 20])[:, None]
    z = np.round(v + 4 * rng.standard_normal(v.shape))             # with ties
    best = []
    for value in (0, 4, 7):
        is_it, edges = v == value, np.append(np.unique(z), np.inf)
        rate = [np.mean(((z >= a) & (z < b))[is_it]) - np.mean(((z >= a) & (z < b))[~is_it])
                for a, b in combinations(edges, 2)]
        best.append(np.max(np.abs(rate)))
    measure(sap(z, v, categorical=[0]) - np.mean(best))


def test_a_curved_code_is_perfect_to_all_but_the_line_of_sap(rng):
    factors = draw(rng)
    codes = np.exp(2.0 * factors)
    assert mig(codes, factors) > 0.99
    assert dci(codes, factors) == pytest.approx((1, 1, 1), abs=1e-12)
    assert sap(codes, factors, (0, 1, 2)) > 0.9 > 0.7 > sap(codes, factors)


def test_values_without_order_are_lost_to_the_line_of_sap_and_found_by_thresholds():
    factors = grid(3, 4)
    codes = np.stack([np.array([0, 2, 1])[factors[:, 0]], factors[:, 1]], axis=1)
    assert sap(codes, factors) == pytest.approx((0.25 + 1) / 2)
    assert sap(codes, factors, categorical=[0]) == pytest.approx(1)


@pytest.mark.equation("disentanglement.dci", "a factor split equally over two of ten codes: C = 1 - ln 2 / ln 10",
                      bound=1e-10)
def test_completeness_of_a_split_factor(measure):
    importance = np.zeros((10, 2))
    importance[[3, 7], 0] = 0.4
    importance[1, 1] = 0.9
    disentanglement, completeness = concentration(importance)
    measure(disentanglement - 1)
    measure(completeness - (1 - math.log(2) / math.log(10) + 1) / 2)


@pytest.mark.equation("disentanglement.dci", "D = sum rho (1 - H(R_j)/ln K): identity 1, uniform 0, transpose: C of R'",
                      bound=1e-10)
def test_disentanglement_weighs_codes_by_their_importance(measure, rng):
    measure(np.subtract(concentration(np.eye(4)), 1))
    measure(concentration(np.ones((5, 3))))
    measure(concentration(np.zeros((5, 3))))
    R = rng.random((5, 3))
    measure(concentration(R)[0] - R.sum(axis=1) @ (1 - entropy(R, axis=1, base=3)) / R.sum())
    measure(concentration(R)[1] - np.mean(1 - entropy(R, axis=0, base=5)))
    lost = np.diag([1.0, 1.0, 0.0])                                # no code tells of the last factor
    measure(np.subtract(concentration(lost), (1, 2 / 3)))


@pytest.mark.equation("disentanglement.dci", "codes that are the factors: D = C = I = 1; twice: C = 1 - ln 2 / ln d",
                      bound=1e-10)
def test_dci_of_the_factors_themselves_is_one_and_a_copy_costs_completeness(measure, rng):
    factors = draw(rng)
    measure(np.subtract(dci(factors, factors), 1))
    measure(np.subtract(dci(np.hstack([factors, -factors]), factors), (1, 1 - math.log(2) / math.log(6), 1)))
    one = factors[:, :1]
    measure(np.subtract(dci(one, one), 1))


def test_dci_of_turned_codes_is_informative_and_neither_disentangled_nor_complete():
    factors = grid(8, 8, times=40)
    scores = dci(turned(factors), factors)
    assert scores.disentanglement < 0.05 and scores.completeness < 0.05 and scores.informativeness > 0.8


def test_a_code_of_two_factors_is_complete_for_both_and_not_disentangled():
    factors = grid(4, 4, times=40)
    scores = dci(np.stack([4 * factors[:, 0] + factors[:, 1], np.zeros(len(factors))], axis=1), factors)
    assert scores.completeness > 0.99 and scores.disentanglement < 0.05 and scores.informativeness == 1


@pytest.mark.equation("disentanglement.tree", "the best cut brings max over thresholds of n H - n1 H1 - n2 H2",
                      bound=1e-10)
def test_the_best_cut_is_that_of_all_thresholds(measure, rng):
    labels = rng.integers(4, size=60)
    codes = np.round(labels[:, None] + 2 * rng.standard_normal((60, 3)), 1)
    order, counts = np.argsort(codes, axis=0).T, np.bincount(labels)
    n = np.arange(61.0)
    nats, cut = _best_cuts(codes, labels, order, counts, n * np.log(np.maximum(n, 1)))
    h = lambda part: len(part) * entropy(np.bincount(part))
    gain = lambda z, t: h(labels) - h(labels[z <= t]) - h(labels[z > t])
    for j, z in enumerate(codes.T):
        measure(nats[j] / max(gain(z, t) for t in np.unique(z)[:-1]) - 1)
        measure(nats[j] / gain(z, cut[j]) - 1)


@pytest.mark.equation("disentanglement.tree", "a code that determines the factor brings its whole entropy", bound=1e-10)
def test_a_tree_finds_what_there_is_and_nothing_else(measure, rng):
    labels = rng.integers(8, size=1000)
    held = rng.permutation(1000) % 5 == 0
    codes = np.stack([labels + 0.1 * rng.random(1000), rng.random(1000), np.zeros(1000)], axis=1)
    share, right, guessed = _tree(codes, labels, np.argsort(codes, axis=0).T, held)
    measure(share - [1, 0, 0])
    assert right == held.sum() and guessed == np.sum(labels[held] == np.argmax(np.bincount(labels[~held])))


@pytest.mark.equation("disentanglement.beta-vae", "codes that are the factors: accuracy 1", bound=1e-10)
def test_beta_vae_score_of_the_factors_themselves_is_one(measure, rng):
    measure(beta_vae_score(lambda x: -3 * x, Grid(*SIZES), rng) - 1)


@pytest.mark.equation("disentanglement.beta-vae", "codes of chance, and no codes: accuracy 1 / K", bound=5, kind="S")
@pytest.mark.parametrize("encode", [lambda x: np.random.default_rng(1).random((len(x), 5)), np.zeros_like])
def test_beta_vae_score_of_noise_is_chance(measure, rng, encode):
    measure((beta_vae_score(encode, Grid(5, 5, 5, 5), rng) - 1 / 4) / math.sqrt(3 / 16 / 500))


@pytest.mark.equation("disentanglement.factor-vae", "codes that are the factors: accuracy 1", bound=1e-10)
def test_factor_vae_score_of_the_factors_themselves_is_one(measure, rng):
    with_a_constant = lambda x: np.hstack([np.full((len(x), 1), 0.1), -3 * x])
    measure(factor_vae_score(with_a_constant, Grid(*SIZES), rng) - 1)


@pytest.mark.equation("disentanglement.factor-vae", "codes of chance, and no codes: accuracy 1 / K", bound=5, kind="S")
@pytest.mark.parametrize("encode", [lambda x: np.random.default_rng(1).random((len(x), 5)), np.zeros_like])
def test_factor_vae_score_of_noise_is_chance(measure, rng, encode):
    measure((factor_vae_score(encode, Grid(5, 5, 5, 5), rng) - 1 / 4) / math.sqrt(3 / 16 / 500))


@pytest.mark.parametrize("score", SCORES)
def test_scores_of_fixed_factors_see_copies_as_they_see_one_and_confuse_what_is_turned(rng, score):
    assert score(lambda x: np.hstack([x, x]), Grid(*SIZES), rng) == 1
    assert score(lambda x: turned(x.astype(int)).astype(float), Grid(8, 8), rng) < 0.65


def test_beta_vae_score_overlooks_one_lost_factor_and_factor_vae_score_does_not(rng):
    lose_the_last = lambda x: x[:, :-1]
    assert beta_vae_score(lose_the_last, Grid(*SIZES), rng) == 1
    assert factor_vae_score(lose_the_last, Grid(*SIZES), rng, np.int64(1000)) < 0.8


def test_codes_of_different_scales_vote_alike(rng):
    blurred = lambda x: x + 0.2 * np.sin(1e4 * x[:, ::-1])
    assert factor_vae_score(lambda x: blurred(x) * [1e-6, 1, 1e6], Grid(*SIZES), rng) == 1


def test_each_image_is_encoded_once_and_tensors_will_do(rng):
    seen = []
    encode = lambda x: seen.append(x) or Tensor(x)
    factors = rng.integers(SIZES, size=(7, 300, 3))
    z = _encode(encode, Grid(*SIZES), factors)
    assert sum(map(len, seen)) == len(np.unique(factors.reshape(-1, 3), axis=0))
    np.testing.assert_allclose(np.diff(z[..., 2].ravel()) * np.concatenate(seen)[:, 2].std(),
                               np.diff(factors[..., 2].ravel()), atol=1e-12)


@pytest.mark.parametrize("score", SCORES)
def test_sprites_are_such_data(rng, score):
    data = sprites(32, shapes=("square",), scales=3, orientations=1, xs=8, ys=8)

    def encode(x):                                                 # how much is white, and where its middle is
        x = x.reshape(-1, 32, 32)
        mass, place = x.sum(axis=(1, 2)), np.arange(32)
        return np.stack([mass, x.sum(axis=1) @ place / mass, x.sum(axis=2) @ place / mass], axis=1)
    assert score(encode, data, rng) == 1


@pytest.mark.parametrize("score", [mig, sap, lambda c, v: dci(c, v).completeness])
def test_constant_codes_tell_nothing_and_constant_factors_are_left_out(rng, score):
    factors = draw(rng)
    constant = np.full((4000, 1), 0.1)
    assert score(constant, factors) == 0
    assert score(np.hstack([constant, factors]), np.hstack([np.ones((4000, 1), int), factors])) > 0.99
    assert score(factors[:, :1], factors[:, :1]) == pytest.approx(1, abs=1e-12)
    with pytest.raises(ValueError, match="no factor varies among these 4000"):
        score(factors, np.ones((4000, 2), int))


def test_the_columns_that_are_categorical_are_those_given_not_those_that_vary():
    factors = grid(3, 4)
    codes = np.stack([factors[:, 0], np.array([0, 2, 1, 3])[factors[:, 1]]], axis=1)
    fixed = np.hstack([np.zeros((len(factors), 1), int), factors])
    assert sap(codes, fixed, categorical=[2]) == sap(codes, factors, categorical=[1]) == pytest.approx(1)


@pytest.mark.parametrize("score", [mig, sap, dci])
def test_what_is_no_code_or_no_factor_is_refused(rng, score):
    factors = draw(rng, 400)
    codes = factors + 0.5
    for bad, match in [((codes[:-1], factors), r"shapes \(399, 3\) and \(400, 3\)"),
                       ((codes[:, 0], factors), r"\(N, d\)"), ((codes[:, :0], factors), r"\(N, d\)"),
                       ((codes, factors[:, 0]), r"\(N, K\)"),
                       ((codes, codes), "integers.* not float64"), ((codes * np.nan, factors), "finite.*NaN"),
                       ((codes.astype(str), factors), "finite numbers"), ((codes[:19], factors[:19]), "at least 20"),
                       ((codes[:0], factors[:0]), r"\(N, d\)"), ((codes, factors[:, :0]), "no factor varies")]:
        with pytest.raises(ValueError, match=match):
            score(*bad)


def test_mig_wants_four_times_as_many_examples_of_a_value_as_there_are_values(rng):
    v = np.repeat(np.arange(20), 79)[:, None]
    with pytest.warns(RuntimeWarning, match="factor 0 has 20 values, one of them in 79 of the 1580 examples"):
        assert mig(v, v) == pytest.approx(1)
    assert sap(v, v) == pytest.approx(1)


@pytest.mark.parametrize("score", SCORES)
def test_data_and_encoders_that_make_no_score_are_refused(rng, score):
    same, data = lambda x: x, Grid(4, 4)
    for bad, match in [((same, Grid(4), rng), "two or more factors"), ((same, Grid(4, 1), rng), r"\(4, 1\)"),
                       ((same, data, 0), "Generator"), ((same, data, rng, 10), "points"),
                       ((lambda x: x[:, 0], data, rng), r"shape \(16,\)"),
                       ((lambda x: x * np.nan, data, rng), "without NaN or inf"),
                       ((lambda x: x[1:], data, rng), r"shape \(15, 2\)")]:
        with pytest.raises(ValueError, match=match):
            score(*bad)
    for columns in ([2], 0):
        with pytest.raises(ValueError, match="categorical must name columns of factors, 0 to 1, not "):
            sap(np.zeros((100, 2)), grid(2, 2, times=25), categorical=columns)
    for bad, match in [(-np.ones((2, 2)), "importance must be >= 0, and goes down to -1"), (np.ones(2), "shape"),
                       (np.full((2, 2), np.nan), "finite")]:
        with pytest.raises(ValueError, match=match):
            concentration(bad)
    with pytest.raises(ValueError, match="Generator"):
        dci(np.zeros((100, 2)), grid(2, 2, times=25), 0)


def test_scores_depend_on_nothing_but_their_arguments(rng):
    factors = draw(rng)
    codes = (factors + 0.5 * rng.standard_normal(factors.shape)).astype(np.float32)
    codes.flags.writeable = factors.flags.writeable = False
    for score in (mig, sap, dci):
        assert score(codes, factors) == score(codes, factors)
    assert dci(codes, factors, np.random.default_rng(3)) != dci(codes, factors)
    for score in SCORES:
        once, again = (score(lambda x: np.sin(x @ np.ones((3, 2))), Grid(*SIZES), np.random.default_rng(3))
                       for _ in range(2))
        assert once == again < 1


def test_few_examples_of_a_value_are_enough_for_a_rough_score_and_a_warning(rng):
    for metric, n in ((mig, 2000), (sap, 300), (lambda codes, factors: dci(codes, factors)[1], 300)):
        factors = np.stack([rng.integers(0, values, n) for values in (3, 40)], axis=1)
        with pytest.warns(RuntimeWarning, match="factor 1 has 40 values, .* the score is rough"):
            assert 0.5 < metric(factors + 0.01 * rng.standard_normal(factors.shape), factors) <= 1
