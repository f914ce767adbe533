"""The latent explorer is driven as by hand: what is clicked, dragged or slid is what is decoded and shown."""
import runpy
import sys

import numpy as np
import pytest
from matplotlib.backend_bases import MouseEvent
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from autograd import no_grad
from demos import FOLDER
from minivae import runs
from minivae.__main__ import main
from minivae.explorer import REACH, SLIDERS, Explorer


@pytest.fixture
def explore(rng):
    """`explore(model, option=...)`: an untrained one on images of 5 x 4, with an Explorer of 40 of them."""
    def make(model, **settings):
        settings = runs.DEFAULTS | {"hidden": [8]} | settings
        config = {"model": model, "shape": [40, 5, 4], "classes": 3, "settings": settings}
        run = runs.Run(runs.build(config, rng), config)
        for p in run.model.parameters():                           # so that a CVAE's prior is one for each label
            p.assign(p.data + 0.3 * rng.standard_normal(p.shape, np.float32))
        figure = Figure((11, 4.6))
        FigureCanvasAgg(figure)
        x = rng.random((40, 20), np.float32)
        explorer = Explorer(figure, run, x, np.arange(40) % 3, rng)
        explorer.run, explorer.x = run, x
        figure.canvas.draw()
        return explorer
    return make


def mouse(explorer, ax, where, name="button_press_event", button=1):
    """The event of a mouse at `where` of an axes' data."""
    canvas = explorer.figure.canvas
    event = MouseEvent(name, canvas, *ax.transData.transform(where), button=button)
    canvas.callbacks.process(name, event)


def decoded(explorer, u, *y):
    """What a CVAE's, or a VAE's, latents u stand for, from the model itself."""
    model, y = explorer.model, [np.array(y)] if y else []
    with no_grad():
        p = model.prior(*y)
        z = np.asarray(p.mean) + np.exp(np.asarray(p.logvar) / 2) * u
        return np.asarray(model.decode(z.reshape(1, -1).astype(np.float32), *y).mean).reshape(5, 4)


def shown(explorer):
    return explorer.image.get_array()


@pytest.mark.parametrize("model, settings", [("vae", {}), ("beta-vae", {"beta": 2.0}), ("flow-vae", {})])
def test_a_click_on_the_map_decodes_there_and_moves_the_sliders(explore, model, settings):
    explorer = explore(model, latent_dim=3, **settings)
    np.testing.assert_allclose(shown(explorer), decoded(explorer, np.zeros(3)), atol=1e-6)
    i, j = explorer.on_map
    mouse(explorer, explorer.map, (1.5, -0.5))
    u = np.zeros(3)
    u[i], u[j] = 1.5, -0.5
    np.testing.assert_allclose(explorer.u, u, atol=1e-6)
    np.testing.assert_allclose(shown(explorer), decoded(explorer, u), atol=1e-6)
    assert [explorer.sliders[k].val for k in (i, j)] == pytest.approx([1.5, -0.5])
    np.testing.assert_allclose(np.ravel(explorer.cross.get_data()), [1.5, -0.5], atol=1e-6)


def test_a_drag_follows_the_mouse_and_a_mouse_that_only_passes_does_not(explore):
    explorer = explore("vae", latent_dim=2)
    mouse(explorer, explorer.map, (2, 2), "motion_notify_event", button=None)
    mouse(explorer, explorer.map, (2, 2), button=3)
    mouse(explorer, explorer.image.axes, (2, 2))
    assert not explorer.u.any()
    mouse(explorer, explorer.map, (2, 2), "motion_notify_event")
    assert explorer.u[explorer.on_map[0]] == pytest.approx(2)


def test_while_the_toolbar_zooms_a_click_is_its_own(explore):
    explorer = explore("vae", latent_dim=2)
    explorer.figure.canvas.widgetlock(explorer)
    mouse(explorer, explorer.map, (2, 2))
    assert not explorer.u.any()


def test_a_slider_is_one_latent_and_the_cross_goes_with_it(explore):
    explorer = explore("vae", latent_dim=3)
    k = next(k for k in explorer.sliders if k not in explorer.on_map)
    mouse(explorer, explorer.sliders[k].ax, (1.0, 0.5))
    u = np.where(np.arange(3) == k, explorer.sliders[k].val, 0)
    assert explorer.sliders[k].val == pytest.approx(1.0, abs=0.05)
    np.testing.assert_allclose(shown(explorer), decoded(explorer, u), atol=1e-6)
    explorer.sliders[explorer.on_map[1]].set_val(-2.0)
    np.testing.assert_allclose(np.ravel(explorer.cross.get_data()), [0, -2])
    explorer.move({explorer.on_map[0]: 3 * REACH})                 # no further than a slider goes
    assert explorer.u[explorer.on_map[0]] == REACH


def test_the_button_draws_a_code_from_the_prior(explore):
    explorer = explore("vae", latent_dim=12)
    assert len(explorer.sliders) == SLIDERS
    mouse(explorer, explorer.button.ax, (0.5, 0.5))
    mouse(explorer, explorer.button.ax, (0.5, 0.5), "button_release_event")
    assert np.all(explorer.u) and np.abs(explorer.u).max() < REACH
    np.testing.assert_allclose(shown(explorer), decoded(explorer, explorer.u), atol=1e-6)
    assert all(slider.val == pytest.approx(explorer.u[k]) for k, slider in explorer.sliders.items())


def test_another_label_shows_the_same_style_in_another_class(explore):
    explorer = explore("cvae", latent_dim=2)
    mouse(explorer, explorer.map, (1, 1))
    np.testing.assert_allclose(shown(explorer), decoded(explorer, np.ones(2), 0), atol=1e-6)
    explorer.label.set_val(2)
    np.testing.assert_allclose(shown(explorer), decoded(explorer, np.ones(2), 2), atol=1e-6)
    assert np.abs(decoded(explorer, np.ones(2), 2) - decoded(explorer, np.ones(2), 0)).max() > 1e-3


def test_a_cvaes_codes_are_mapped_as_the_prior_of_their_label_sees_them(explore):
    explorer = explore("cvae", latent_dim=2)
    x, y = np.random.default_rng(5).random((40, 20), np.float32), np.arange(40) % 3
    figure = Figure()
    FigureCanvasAgg(figure)
    other = Explorer(figure, explorer.run, x, y, np.random.default_rng(0))
    points = other.map.collections[0].get_offsets()
    with no_grad():
        q, p = explorer.model.encode(x, y), explorer.model.prior(y)
        u = (q.mu.data - p.mu.data) / np.exp(p.logvar.data / 2)
    assert np.ptp(p.mu.data, axis=0).min() > 0.01
    np.testing.assert_allclose(np.sort(points, axis=1), np.sort(u, axis=1), rtol=1e-5)


@pytest.mark.parametrize("model", ["vae", "flow-vae"])
def test_the_latents_that_tell_images_apart_come_first_and_are_the_axes_of_the_map(explore, model):
    explorer = explore(model, latent_dim=4)
    with no_grad():
        q = explorer.model.encode(explorer.x)
        z = np.asarray(q.mean if model == "vae" else q.push(q.base.mean)[0])
    order = [*np.argsort(-z.var(axis=0))]
    assert [*explorer.sliders] == order and [*explorer.on_map] == order[:2]
    np.testing.assert_allclose(explorer.map.collections[0].get_offsets(), z[:, order[:2]], rtol=1e-5)


def test_a_prior_that_is_no_gaussian_leaves_u_as_z(explore):
    explorer = explore("vamp-vae", latent_dim=2, pseudo_inputs=3)
    mouse(explorer, explorer.map, (1, -1))
    z = explorer.u.reshape(1, 2)
    np.testing.assert_allclose(shown(explorer).ravel(), explorer.model.decode(z).mean.data[0], atol=1e-6)
    explorer.button.ax.figure.canvas.draw()


def test_one_latent_has_a_map_too(explore):
    explorer = explore("vae", latent_dim=1)
    mouse(explorer, explorer.map, (1.0, 1.0))
    assert explorer.u == pytest.approx([1.0]) and len(explorer.sliders) == 1


@pytest.mark.parametrize("model", ["vae", "cvae", "beta-tcvae"])
def test_the_demo_looks_into_a_run(tmp_path, rng, monkeypatch, model):
    np.save(tmp_path / "x.npy", rng.integers(0, 256, (30, 5, 4), np.uint8))
    np.save(tmp_path / "y.npy", np.arange(30) % 3)
    labels = ["--labels", str(tmp_path / "y.npy")] if model == "cvae" else []
    assert main(["train", model, "--data", str(tmp_path / "x.npy"), *labels, "--out", str(tmp_path / "run"), "--epochs",
                 "1", "--latent-dim", "2", "--hidden", "8"]) == 0
    monkeypatch.setattr(sys, "argv", ["explore.py", str(tmp_path / "run"), "--quick", "--out", str(tmp_path / "out")])
    explorer = runpy.run_path(str(FOLDER / "explore.py"))["explorer"]
    assert (tmp_path / "out" / "explorer.png").exists() and explorer.picture == (5, 4)
    trained = runs.load(tmp_path / "run").model.state()
    assert all(np.array_equal(a, trained[name]) for name, a in explorer.model.state().items())


def test_a_folder_that_holds_no_run_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["explore.py", str(tmp_path), "--quick", "--out", str(tmp_path / "out")])
    with pytest.raises(SystemExit, match="^error: .*checkpoint.npz: No such file"):
        runpy.run_path(str(FOLDER / "explore.py"))
