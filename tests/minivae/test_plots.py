"""Figures show the numbers that they were given."""
import numpy as np
import pytest

from minivae import plots
from minivae.vae import VAE


@pytest.fixture
def model(rng):
    return VAE(16, 2, (8,), rng=rng)


def test_a_mosaic_puts_images_in_reading_order():
    picture = plots.mosaic(np.arange(5)[:, None, None] * np.ones((5, 2, 3)), columns=3, gap=1)
    assert picture.shape == (5, 11)
    assert picture[0, [0, 4, 8]].tolist() == [0, 1, 2] and picture[3, [0, 4]].tolist() == [3, 4]
    assert np.isnan(picture[3, 8]) and np.isnan(picture[2]).all()


def test_learning_curves_draw_every_column():
    rows = [{"epoch": e, "elbo": -e, "recon": -2 * e, "kl": e, "test_elbo": -3 * e} for e in (1, 2)]
    lines = {line.get_label(): list(line.get_ydata()) for ax in plots.learning_curves(rows).axes for line in ax.lines}
    assert lines == {"elbo": [-1, -2], "recon": [-2, -4], "kl": [1, 2], "test elbo": [-3, -6]}


def test_the_manifold_lays_the_prior_out_with_z2_upwards(model):
    picture = plots.manifold(model, side=3, shape=(4, 4)).axes[0].images[0].get_array()
    low = np.array([[-0.9674, -0.9674]], np.float32)               # the 1/6 quantile in both latents: bottom left
    np.testing.assert_allclose(picture[-4:, :4], model.decode(low).mean.data.reshape(4, 4), atol=1e-4)


def test_an_interpolation_starts_and_ends_at_its_two_images(model, rng):
    a, b = rng.random((2, 3, 16), np.float32)
    picture = plots.interpolation(model, a, b, steps=5, shape=(4, 4)).axes[0].images[0].get_array()
    np.testing.assert_allclose(picture[:4, :4].ravel(), model.reconstruct(a)[0], atol=1e-6)
    np.testing.assert_allclose(picture[-4:, -4:].ravel(), model.reconstruct(b)[2], atol=1e-6)


def test_kinds_of_models_stand_side_by_side_with_what_they_have(rng):
    x, density = rng.standard_normal((30, 2)), np.arange(16.0).reshape(4, 4)
    cells = [dict(points=x, caption="draws"), dict(points=x, caption="p", density=density),
             dict(points=x, caption="s", arrows=(x[:5], -x[:5]))]
    digits = [dict(points=rng.random((30, 3, 3)), caption=c) for c in "abc"]
    figure = plots.paradigms(["none", "exact", "score"], {"two_moons": cells, "digits": digits}, 2.5)
    none, exact, score, *images = figure.axes
    assert [ax.get_xlabel() for ax in figure.axes] == ["draws", "p", "s", "a", "b", "c"]
    assert [ax.get_title() for ax in (none, exact, score)] == ["none", "exact", "score"]
    assert none.get_ylabel() == "two moons" and not none.images and len(none.collections) == 1
    np.testing.assert_allclose(exact.images[0].get_array(), density.T ** 0.5)
    assert [len(ax.collections) for ax in (exact, score)] == [1, 2]
    np.testing.assert_array_equal(none.collections[0].get_offsets(), x)
    np.testing.assert_array_equal(images[0].images[0].get_array()[:3, :3], digits[0]["points"][0])


def test_saved_figures_are_pngs_and_nothing_else_is_left(tmp_path, model, rng):
    figures = {"scatter": plots.latent_scatter(rng.random((50, 2)), np.arange(50) % 10),
               "reconstructions": plots.reconstructions(rng.random((4, 784)), rng.random((4, 784)))}
    for name, figure in figures.items():
        path = plots.save(figure, tmp_path / "new" / f"{name}.png")
        assert path.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert len(list((tmp_path / "new").iterdir())) == 2


def test_a_density_stands_upright_with_the_lines_of_the_other_over_it():
    at = np.linspace(-1, 1, 21)
    density = np.exp(-((at[:, None] - 0.5) ** 2 + at ** 2) / 0.02)               # a peak at z₁ = 0.5, z₂ = 0
    left, right = plots.densities({"a row": [("p", density, None), ("q", density, density.T)]}, 1).axes
    y, x = np.unravel_index(np.argmax(left.images[0].get_array()), density.shape)
    assert (at[x], at[y]) == pytest.approx((0.5, 0)) and left.images[0].get_extent() == [-1, 1, -1, 1]
    lines = np.concatenate([path.vertices for path in right.collections[0].get_paths()])
    np.testing.assert_allclose(lines.mean(axis=0), [0, 0.5], atol=0.05)
    assert not left.collections and left.get_ylabel() == "a row"
