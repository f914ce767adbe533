"""Every sprite is the shape that its factors say, wherever it is drawn."""
import hashlib
import math
import tracemalloc

import numpy as np
import pytest

from minivae.data import Batches, sprites
from minivae.data.sprites import PERIODS, SHAPES

AREAS = {"square": 2, "ellipse": math.pi / 2, "heart": 180 * math.pi * (6 / 107) ** 2}       # of radius 1


def clip(points, axis, bound, keep):
    """The part of a polygon (n, 2) on one side of a line: above the bound if keep is 1, below it if −1."""
    d = keep * (points[:, axis, None] - bound)
    ahead = np.roll(d, -1, axis=0)
    with np.errstate(all="ignore"):
        crossing = points + (np.roll(points, -1, axis=0) - points) * d / (d - ahead)
    return np.stack([points, crossing], axis=1)[np.hstack([d >= 0, d * ahead < 0])]


def area_of(points):
    x, y = points.T
    return abs(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2


def outline(s, i):
    """The corners of sprite i, in floating point, (n, 2): columns and rows."""
    shape, scale, turn, x, y = (s.values[name][k] for name, k in zip(s.factor_names, s.factors(i)))
    z = (SHAPES[shape] @ [1, 1j]) * np.exp(1j * turn) * scale * 7 / 32
    return len(s[i]) * np.stack([x + z.real, y - z.imag], axis=1)


def moments(images):
    """Areas in pixels, and centroids from the left and from the top, of images (n, size, size)."""
    x = images / 255
    area, middle = x.sum(axis=(1, 2)), np.arange(x.shape[1]) + 0.5
    return area, x.sum(axis=1) @ middle / area, x.sum(axis=2) @ middle / area


@pytest.mark.equation("sprites.coverage", "pixel = 255 * area of the shape in it, to half a byte", bound=0.51)
@pytest.mark.parametrize("size", [32, 64])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_pixel_is_the_area_that_clipping_the_outline_to_it_leaves(measure, rng, shape, size):
    s = sprites(size)
    for turn in (0, 10, int(rng.integers(40))):
        i = s.index(np.array([list(SHAPES).index(shape), rng.integers(6), turn, rng.integers(32), rng.integers(32)]))
        expected = np.zeros((size, size))
        for row in range(size):
            band = clip(clip(outline(s, i), 1, row, 1), 1, row + 1, -1)
            for column in range(size) if len(band) else ():
                expected[row, column] = area_of(clip(clip(band, 0, column, 1), 0, column + 1, -1))
        assert expected.max() > 0.99
        measure(s[i] - 255 * expected)


@pytest.mark.equation("sprites.outline", "area = r^2 times 2, pi/2 or 180 pi (6/107)^2, relatively", bound=2e-3)
@pytest.mark.parametrize("size", [32, 64])
def test_the_area_of_a_sprite_is_that_of_its_shape_for_every_scale(measure, rng, size):
    s = sprites(size)
    rows = rng.integers(len(s), size=3000)
    shape, scale = s.factors(rows)[:, :2].T
    r = s.values["scale"][scale] * 7 / 32 * size
    area = moments(s[rows])[0]
    measure(area / (r ** 2 * np.array([AREAS[name] for name in s.values["shape"]])[shape]) - 1)
    means = [[area[(shape == k) & (scale == j)].mean() for j in range(6)] for k in range(3)]
    assert (np.diff(means) > 0).all()


@pytest.mark.equation("sprites.outline", "centroid = (x, y) for every scale and orientation, in pixels", bound=0.015)
@pytest.mark.parametrize("size", [32, 64])
def test_the_centroid_of_a_sprite_is_where_its_factors_say(measure, rng, size):
    s = sprites(size)
    rows = rng.integers(len(s), size=3000)
    x, y = s.factors(rows)[:, 3:].T
    _, across, down = moments(s[rows])
    measure(across - size * s.values["x"][x])
    measure(down - size * s.values["y"][y])


@pytest.mark.parametrize("size, n", [(64, 32), (32, 16)])
def test_a_step_of_a_pixel_moves_the_image_by_exactly_that(size, n, rng):
    s = sprites(size, xs=n, ys=n)
    factors = np.column_stack([rng.integers(k, size=300) for k in (3, 6, 40, n - 1, n - 1)])
    for axis, step in ((2, [0, 0, 0, 1, 0]), (1, [0, 0, 0, 0, 1])):
        moved = s[s.index(factors + step)]
        np.testing.assert_array_equal(moved, np.roll(s[s.index(factors)], 1, axis=axis))


@pytest.mark.equation("sprites.heart", "heart: area 180 pi (6/107)^2, centroid 0, tip at distance 1", bound=1e-10)
def test_the_heart_is_centred_and_fits_the_unit_disc(measure):
    x, y = SHAPES["heart"].T
    n = len(x)
    dx, dy = (np.fft.ifft(1j * np.fft.fftfreq(n, 1 / n) * np.fft.fft(v)).real for v in (x, y))
    measure(math.pi * np.mean(x * dy - y * dx) - AREAS["heart"])
    measure(np.mean(x * x * dy))
    measure(np.mean(y * y * dx))
    measure(np.hypot(x, y).max() - 1)
    measure(y.min() + 1)                                           # upright: the tip is below


def test_hearts_are_upright_and_alike_on_both_sides():
    image = sprites(64, ("heart",), scales=1, orientations=1, xs=1, ys=1)[0].astype(int)
    assert np.abs(image - image[:, ::-1]).max() <= 1
    width = (image > 127).sum(axis=1)
    shown = np.flatnonzero(width)
    assert width.argmax() < shown.mean() and width[shown[-1]] <= 2  # wide above, a tip below
    assert image[shown[0], 31] == 0 < image[shown[0]].max()         # and cleft


def test_orientations_are_anticlockwise():
    s = sprites(32, ("heart",), scales=1, orientations=4, xs=1, ys=1)
    for k in range(3):
        assert np.abs(np.rot90(s[k]).astype(int) - s[k + 1]).max() <= 1


def test_squares_repeat_after_a_quarter_turn_and_ellipses_after_half(rng):
    s = sprites(32)
    for shape, different in ((0, 10), (1, 20), (2, 40)):
        factors = np.array([[shape, 2, k, 5, 17] for k in range(40)])
        images = s[s.index(factors)]
        assert len(np.unique(images, axis=0)) == different
        np.testing.assert_array_equal(images, np.roll(images, different, axis=0))


@pytest.mark.parametrize("shapes", [("square",), ("ellipse",), ("square", "ellipse"), ("heart", "square")])
def test_orientations_cover_the_longest_period_of_the_shapes(shapes):
    s = sprites(64, shapes, scales=1, orientations=12, xs=1, ys=1)
    longest = max(shapes, key=PERIODS.get)
    images = s[shapes.index(longest) * 12 + np.arange(12)]
    assert len(np.unique(images, axis=0)) == 12
    np.testing.assert_allclose(s.values["orientation"], np.arange(12) * PERIODS[longest] / 12)


@pytest.mark.parametrize("size", [32, 64])
def test_no_sprite_reaches_the_border(size):
    s = sprites(size, scales=1, xs=1000, ys=1000)
    for x, y in ((0, 0), (0, 999), (999, 0), (999, 999)):
        images = s[s.index(np.array([[shape, k, x, y] for shape in range(3) for k in range(40)]))]
        assert (images[:, 1:-1, 1:-1] == 255).any(axis=(1, 2)).all()
        images[:, 1:-1, 1:-1] = 0
        assert not images.any()


@pytest.mark.equation("sprites.index", "i = (((shape S + scale) O + orientation) X + x) Y + y", bound=0)
def test_every_index_has_factors_of_its_own(measure):
    s = sprites(32, ("heart", "square"), scales=3, orientations=5, xs=4, ys=2)
    factors = s.factors(slice(None))
    assert len(np.unique(factors, axis=0)) == len(s) == 240 and (factors < s.factor_sizes).all()
    measure(s.index(factors) - np.arange(240))
    shape, scale, orientation, x, y = factors.T
    measure((((shape * 3 + scale) * 5 + orientation) * 4 + x) * 2 + y - np.arange(240))


def test_factors_of_one_value_are_left_out():
    s = sprites(32, ("heart",), orientations=1, xs=16, ys=16)
    assert s.factor_names == ("scale", "x", "y") and s.factor_sizes == (6, 16, 16) and len(s) == 6 * 256
    assert s.values["scale"][-1] == 1 and s.values["orientation"].tolist() == [0]
    np.testing.assert_array_equal(s.index(s.factors(slice(None))), np.arange(len(s)))
    one = sprites(32, ("heart",), 1, 1, 1, 1)
    assert one.factor_sizes == () and one.factors([0, 0]).shape == (2, 0) and one[0].max() == 255


def test_images_are_had_by_index_slice_and_rows():
    s = sprites(32)
    rows = np.array([5, 700_000, -1], np.int32)
    images = s[rows]
    assert images.shape == (3, 32, 32) and images.dtype == np.uint8 and s.shape == (len(s), 32, 32)
    for i, image in zip([5, 700_000, 737_279], images):
        np.testing.assert_array_equal(s[i], image)
    np.testing.assert_array_equal(s[4:9:2], s[[4, 6, 8]])
    np.testing.assert_array_equal(s[np.arange(6, dtype=np.uint8)], s[:6])
    assert s[[]].shape == (0, 32, 32) and s.factors(7).shape == (5,) and rows[2] == -1


def test_a_batch_is_what_its_generator_says():
    s = sprites(32)
    x, factors = s.batch(64, np.random.default_rng(3))
    again, _ = s.batch(64, np.random.default_rng(3))
    assert x.shape == (64, 1024) and x.dtype == np.float32 and factors.shape == (64, 5)
    assert x.min() == 0 and x.max() == 1 and (x == again).all()
    np.testing.assert_array_equal(x, s[s.index(factors)].reshape(64, -1) * np.float32(1 / 255))
    assert (s.batch(64, np.random.default_rng(4))[1] != factors).any()


@pytest.mark.equation("sprites.index", "every factor of a batch is uniform", bound=5, kind="S")
def test_every_value_of_a_factor_is_as_likely(measure, rng):
    s = sprites(32, xs=4, ys=8, orientations=5)
    factors = s.batch(4000, rng)[1]
    for column, n in zip(factors.T, s.factor_sizes):
        measure((np.bincount(column, minlength=n) / 4000 - 1 / n) / math.sqrt((1 - 1 / n) / n / 4000))


def test_sprites_are_data_for_batches(rng):
    s = sprites(32, xs=4, ys=4, orientations=1)
    pairs = list(Batches(s, 100, labels=s.factors(slice(None)))(rng))
    assert [len(x) for x, _ in pairs] == [100, 100, 88]
    for x, y in pairs:
        assert x.dtype == np.float32 and x.max() == 1
        np.testing.assert_array_equal(x, s[s.index(y)].reshape(len(y), -1) * np.float32(1 / 255))


def test_the_whole_is_never_made(rng):
    sprites(64).batch(1, rng)                                      # compiled before memory is counted
    tracemalloc.start()
    s = sprites(64)
    assert len(s) == 737_280
    s.batch(16, rng)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1_000_000                                        # the whole is 3.0 GB


def test_images_are_the_same_on_every_machine():
    digest = hashlib.sha256()
    for size in (32, 64):
        s = sprites(size)
        digest.update(s[::len(s) // 499].tobytes())
    assert digest.hexdigest() == "75db9553ca6ac3837fb4ce66086364fba0661100d7ba2b1c18158f338883f6ba"


def test_no_rounding_hangs_on_the_last_bits_of_a_sine():
    counts = range(1, 1001)
    turns = np.concatenate([np.arange(n) * period / n for n in counts for period in PERIODS.values()])
    positions = np.concatenate([1 / 4 + (np.arange(n) + 1 / 2) / (2 * n) for n in counts])
    scales = np.concatenate([np.linspace(1, 1 / 2, n) for n in counts]) * 7 / 32
    for values, one in ((np.cos(turns), 2**20), (np.sin(turns), 2**20), (positions, 2**21), (positions, 2**22),
                        (scales, 2**21), (scales, 2**22), (np.stack(list(SHAPES.values())), 2**20)):
        from_tie = np.abs(np.abs(values * one) % 1 - 1 / 2).min()
        assert from_tie > 1e-7


def test_counts_can_be_numpys():
    assert sprites(np.int64(32), xs=np.int32(4)).shape == sprites(32, xs=4).shape


@pytest.mark.parametrize("options, message", [
    ({"size": 28}, "32 or 64 pixels, not 28"), ({"size": 32.0}, "not 32.0"), ({"size": "64"}, "not '64'"),
    ({"shapes": ("circle",)}, "square, ellipse, heart, each once, not .*circle"), ({"shapes": "heart"}, "a tuple"),
    ({"shapes": ()}, "a tuple"), ({"shapes": None}, "not None"), ({"shapes": 3}, "not 3"), ({"shapes": [[1]]}, "not"),
    ({"shapes": ("heart", "heart")}, "each once"),
    ({"scales": 0}, "scales must be a positive integer, not 0"), ({"orientations": 1001}, "at most 1000"),
    ({"xs": 2.5}, "xs must"), ({"ys": True}, "ys must"), ({"scales": [0.5, 1]}, "scales must")])
def test_a_grid_that_cannot_be_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        sprites(**options)


def test_bad_indices_and_factors_are_refused(rng):
    s = sprites(32, ("heart",), xs=4, ys=4)                       # 6 scales, 40 orientations
    for index, message in ((3840, "there are 3840 rows, none of them number 3840"), (-3841, "-3841"),
                           ([0, 9999], "9999"), (1.5, "float64"), ("a", "<U1"), (None, "object"),
                           (np.ones(3839, bool), "bool of shape")):
        for take in (s.__getitem__, s.factors):
            with pytest.raises(IndexError, match=message):
                take(index)
    for factors, message in (([[0, 0, 0]], r"\(n, 4\) for \('scale', 'orientation', 'x', 'y'\), not int64 of shape"),
                             ([[0.0, 0, 0, 0]], "float64"), (3, "shape"), ([0, 40, 0, 0], r"not \[0, 40, 0, 0\]"),
                             ([[0, 0, 0, 0], [0, -1, 0, 0]], r"below \(6, 40, 4, 4\), not .*-1, 0, 0")):
        with pytest.raises(ValueError, match=message):
            s.index(factors)
    for n in (0, -1, 2.0, "3"):
        with pytest.raises(ValueError, match="n must be a positive integer"):
            s.batch(n, rng)
    with pytest.raises(ValueError, match="Generator"):
        s.batch(3, 0)


def test_a_pair_of_indices_is_refused_as_a_sprite_has_no_second():
    with pytest.raises(IndexError, match="one thing, such as a list, not by"):
        sprites(32)[0, 5]
