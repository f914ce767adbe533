"""The losses of a diffusion model, against their definitions and against data whose best denoiser is known."""
import warnings

import numpy as np
import pytest

from autograd import Tensor, ops, optim
from autograd.nn import Module, Parameter
from minivae.data import Batches
from minivae.diffusion import DDPM, MixtureDenoiser, MLPDenoiser, Schedule, UNet
from minivae.diffusion.vlb import step_terms
from minivae.train import fit

from .test_score import MEANS, VARIANCES
from .test_vlb import Fixed

S = Schedule.cosine(10)


class Constant(Module):
    """A denoiser that returns its one parameter, (1, width), whatever x."""

    def __init__(self, width, dim=2, rng=None):
        self.shape, self.num_classes, self.seen = (dim,), 3, []
        self.w = Parameter((rng or np.random.default_rng(1)).standard_normal((1, width)), np.float64)

    def forward(self, x, t, y=None):
        self.seen.append((x, t, y))
        return ops.broadcast_to(self.w, (len(x), self.w.shape[1]))


def gradient(model, x, seed=0):
    """The gradient of the loss in the parameter of a Constant, and the terms."""
    w = model.denoiser.w
    w.grad = None
    loss, terms = model.loss(x, np.random.default_rng(seed))
    loss.backward()
    return w.grad[0], terms


# Simple

@pytest.mark.equation("diffusion.simple", "min over f of E|eps - f|^2 = E|eps - E[eps | x_t]|^2", bound=0.05, kind="O")
def test_a_trained_mlp_comes_within_5_percent_of_the_bayes_error(measure):
    rng, s = np.random.default_rng(0), Schedule.cosine(20)
    draw = lambda n: (MEANS[(k := rng.integers(0, 3, n))] + VARIANCES[k] ** 0.5 * rng.standard_normal((n, 2))
                      ).astype(np.float32)
    model, bayes = (DDPM(f, s) for f in (MLPDenoiser(2, (64, 64), rng=rng), MixtureDenoiser(s, MEANS, VARIANCES)))
    steps = 2500
    optimizer = optim.Adam(model.parameters(), optim.warmup_cosine(5e-3, 50, steps))
    for _ in range(steps):
        loss, _ = model.loss(draw(256), rng)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    x = draw(20_000)
    error = [m.loss(x.astype(m.dtype), np.random.default_rng(1))[1]["simple"] for m in (model, bayes)]
    measure(error[0] / error[1] - 1)


@pytest.mark.equation("diffusion.simple", "mean over the batch of sum |f* - f|^2, f* = eps, x0, v", bound=1e-10)
def test_the_simple_loss_sums_over_features_and_averages_over_the_batch(measure, rng):
    x, t, eps = rng.standard_normal((10, 2)), np.arange(1, 11), np.full((10, 2), 0.7)
    a, n = S.alpha_bar[:, None] ** 0.5, (1 - S.alpha_bar[:, None]) ** 0.5
    for form, target in {"eps": eps, "x0": x, "v": a * eps - n * x}.items():
        model = DDPM(Constant(2), S, predict=form)
        loss, terms = model.loss(x, Fixed(0.7))
        measure(loss.item() - np.sum((target - model.denoiser.w.data) ** 2) / 10)
        assert terms == {"simple": loss.item()}
        seen, times, _ = model.denoiser.seen[0]
        measure(seen - (a * x + n * eps))
        np.testing.assert_array_equal(times, t)


@pytest.mark.equation("diffusion.min-snr", "w |eps - f|^2, w |x0 - f|^2, w |v - f|^2 are one loss", bound=1e-10)
@pytest.mark.parametrize("gamma", [0.5, 5.0])
def test_min_snr_weights_make_the_three_forms_one_loss(measure, rng, gamma):
    x = rng.standard_normal((100, 2))
    losses = [DDPM(MixtureDenoiser(S, MEANS, VARIANCES, predict=form), S, predict=form, min_snr=gamma).loss(
        x, np.random.default_rng(2))[0].item() for form in ("eps", "x0", "v")]
    measure(np.divide(losses, losses[1]) - 1)
    model = DDPM(Constant(2), S, predict="x0", min_snr=gamma)      # for x_0, the weight is min(SNR, gamma) itself
    got = model.loss(x[:10], Fixed(0.7))[0].item()
    errors = np.sum((x[:10] - model.denoiser.w.data) ** 2, axis=1)
    measure(got / (np.minimum(S.alpha_bar / (1 - S.alpha_bar), gamma) @ errors / 10) - 1)


# The bound as a loss

@pytest.mark.equation("diffusion.vlb-loss", "L_T + T E_t L_{t-1} = the bound", bound=1e-10)
@pytest.mark.parametrize("variance", ["beta", "beta_tilde", "learned"])
def test_the_vlb_loss_is_the_bound(measure, rng, variance):
    model = DDPM(Constant(4 if variance == "learned" else 2), S, loss="vlb", variance=variance, clip=np.inf)
    for x in rng.standard_normal((3, 1, 2)):
        loss, terms = model.loss(np.repeat(x, 10, axis=0), Fixed(0.7))     # t = 1..10, once each
        measure(loss.item() / model.vlb(x, Fixed(0.7)).nats[0] - 1)
        assert terms == {"vlb": loss.item()}


@pytest.mark.equation("diffusion.learned", "s^2 = exp(u ln beta + (1 - u) ln betatilde)", bound=1e-10)
def test_a_learned_variance_lies_between_the_two_fixed_ones_in_logarithm(measure, rng):
    x = rng.standard_normal((10, 2))
    learned, t = DDPM(Constant(4), S, loss="hybrid", variance="learned"), np.arange(1, 11)
    tilde = np.append(S.beta_tilde[1], S.beta_tilde[1:])
    for u in (0.0, 1.0, 0.3, np.array([0.2, 1.5])):
        learned.denoiser.w.assign(np.append([0.4, -0.1], u * np.ones(2))[None])
        variance = np.exp(learned.denoise(x, t)[1])
        measure(variance / (S.beta[:, None] ** u * tilde[:, None] ** (1 - u)) - 1)
        assert variance.shape == (10, 2)
    for u, name in ((0.0, "beta_tilde"), (1.0, "beta")):
        fixed = DDPM(Constant(2), S, variance=name)
        fixed.denoiser.w.assign(np.array([[0.4, -0.1]]))
        learned.denoiser.w.assign(np.array([[0.4, -0.1, u, u]]))
        for noise in (False, True):
            a, b = (m.sample(3, np.random.default_rng(0), noise=noise) for m in (learned, fixed))
            measure(a - b)


@pytest.mark.equation("diffusion.hybrid", "grad hybrid = grad simple for f, 0.001 grad vlb for u", bound=1e-10)
@pytest.mark.parametrize("predict", ["eps", "x0", "v"])
def test_the_bound_in_the_hybrid_loss_does_not_move_the_mean(measure, rng, predict):
    x = rng.standard_normal((20, 2))
    make = lambda width, **options: DDPM(Constant(width), S, predict=predict, **options)
    hybrid, both = gradient(make(4, loss="hybrid", variance="learned"), x)
    vlb, bound = gradient(make(4, loss="vlb", variance="learned"), x)
    simple = make(2)
    simple.denoiser.w.assign(make(4, loss="vlb", variance="learned").denoiser.w.data[:, :2])
    simple, alone = gradient(simple, x)
    measure(hybrid[:2] / simple - 1)
    measure(hybrid[2:] / (0.001 * vlb[2:]) - 1)
    assert np.abs(vlb[:2]).min() > 0.1                             # which it would have moved
    measure([both["simple"] / alone["simple"] - 1, both["vlb"] / bound["vlb"] - 1])


def test_the_gradient_of_the_bound_is_right_for_points_and_for_images(rng):
    x = np.round((np.tanh(rng.standard_normal((10, 2))) + 1) * 127.5) / 127.5 - 1
    for images in (False, True):
        model = DDPM(Constant(4), S, loss="vlb", variance="learned", images=images)
        w, h = model.denoiser.w, 1e-6
        start = np.array([[0.3, -0.2, 0.4, 0.8]])
        w.assign(start)
        got, value = gradient(model, x)[0], lambda: model.loss(x, np.random.default_rng(0))[0].item()
        for i in range(4):
            step = h * np.eye(4)[i]
            w.assign(start + step)
            up = value()
            w.assign(start - step)
            np.testing.assert_allclose(got[i], (up - value()) / (2 * h), rtol=1e-5)


def test_a_step_term_at_t_1_is_a_likelihood_even_among_others(rng):
    x0, t = rng.standard_normal((3, 2)), np.array([4, 1, 7])
    xt, guess, logvar = S.q_sample(x0, t, x0), x0 + 0.1, np.full((3, 1), -1.0)
    mixed = step_terms(S, x0, xt, t, guess, logvar, False)
    for i in range(3):
        np.testing.assert_allclose(mixed[i], step_terms(S, x0, xt, np.full(3, t[i]), guess, logvar, False)[i])


# Time and classes

def test_training_draws_every_time_from_1_to_T_equally_often(rng):
    model = DDPM(Constant(2), S)
    model.loss(rng.standard_normal((20_000, 2)), rng)
    counts = np.bincount(model.denoiser.seen[0][1])
    assert counts[0] == 0 and len(counts) == 11
    np.testing.assert_allclose(counts[1:], 2000, atol=220)


@pytest.mark.parametrize("p_drop", [0.0, 0.1, 1.0])
def test_classes_are_dropped_at_their_rate(rng, p_drop):
    model, y = DDPM(Constant(2), S, p_drop=p_drop), rng.integers(0, 3, 10_000)
    model.loss((rng.standard_normal((10_000, 2)), y), rng)
    seen = model.denoiser.seen[0][2]
    dropped = seen == 3
    assert abs(dropped.mean() - p_drop) < 0.015 and (seen[~dropped] == y[~dropped]).all()
    model.loss(np.zeros((5, 2)), rng)
    assert (model.denoiser.seen[1][2] == 3).all()                  # no classes given


def test_a_conditional_model_learns_its_classes():
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((512, 2)) * 0.1, rng.integers(0, 2, 512)
    x[:, 0] += 2 * y - 1
    model = DDPM(MLPDenoiser(2, (32, 32), num_classes=2, rng=rng), Schedule.cosine(20), variance="beta_tilde")
    batches, optimizer = Batches(x.astype(np.float32), 64, labels=y), optim.Adam(model.parameters(), 5e-3)
    fit(model, batches, epochs=40, optimizer=optimizer, rng=rng)
    draws = model.sample(200, rng, y=np.repeat([0, 1], 100))
    assert (np.sign(draws[:, 0]) == np.repeat([-1, 1], 100)).mean() > 0.97
    free = model.sample(200, rng)
    assert 0.3 < (free[:, 0] > 0).mean() < 0.7


# Shapes and dtypes

@pytest.mark.parametrize("options", [{}, {"predict": "v", "min_snr": 5.0}, {"loss": "vlb"},
                                     {"loss": "hybrid", "variance": "learned"}], ids=str)
def test_float32_stays_float32(rng, options):
    learned = options.get("variance") == "learned"
    model = DDPM(MLPDenoiser(3, (8,), learned_variance=learned, rng=rng), S, **options)
    loss, terms = model.loss(rng.standard_normal((4, 3), np.float32), rng)
    loss.backward()
    assert loss.dtype == np.float32 and all(p.grad.dtype == np.float32 for p in model.parameters())
    assert all(isinstance(v, float) for v in terms.values())
    assert model.denoise(rng.standard_normal((4, 3), np.float32), 3)[0].dtype == np.float32


def test_images_may_come_flattened_and_are_not_changed(rng):
    class Image(Constant):
        def forward(self, x, t, y=None):
            return ops.broadcast_to(self.w.sum(), x.shape)

    denoiser = Image(1)
    denoiser.shape = (1, 2, 3)
    model, x = DDPM(denoiser, S), rng.uniform(-1, 1, (4, 1, 2, 3))
    before = x.copy()
    a, b = (model.loss(v, np.random.default_rng(0))[0].item() for v in (x, x.reshape(4, 6)))
    assert a == b and (x == before).all() and model.images and model.clip == 1
    assert model.sample(2, rng).shape == (2, 1, 2, 3)


def test_a_model_says_what_it_is(rng):
    said = repr(DDPM(MLPDenoiser(2, (8,), rng=rng), S))
    assert said.startswith("DDPM(Schedule(T = 10, beta from 0.028 to 1), eps, simple)")


# Bad input

@pytest.mark.parametrize("x, message", [
    (np.zeros((4, 3)), r"x must have shape \(batch, 2\), not \(4, 3\)"), (np.zeros((0, 2)), r"not \(0, 2\)"),
    (np.zeros(2), r"not \(2,\)"), (np.zeros((4, 2), np.float32), "x must be an array of float64.*not float32"),
    ([[0.0, 0.0]], "x must be an array of float64.*not list"), (Tensor(np.zeros((4, 2))), "not Tensor"),
    (np.full((4, 2), np.nan), r"finite and in \[-10, 10\].*nan"),
    (np.full((4, 2), np.inf), "finite and in"), (np.full((4, 2), 11.0), "from 11.0 to 11.0: scale data to a variance"),
    ((np.zeros((4, 2)), np.array([0, 1, 2, 3])), r"classes must be in \[0, 3\)"),
    ((np.zeros((4, 2)), np.array([0, 1, 2])), "y must be 4 whole numbers"),
    ((np.zeros((4, 2)), None, None), "a batch is x or a pair")], ids=str)
def test_bad_batches_are_refused(rng, x, message):
    with pytest.raises(ValueError, match=message):
        DDPM(Constant(2), S).loss(x, rng)


def test_images_that_were_not_scaled_are_refused(rng):
    model = DDPM(Constant(2), S, images=True)
    with pytest.raises(ValueError, match=r"in \[-1, 1\].*from 0.0 to 255.0: scale grey levels to x / 127.5 - 1"):
        model.loss(np.array([[0.0, 255.0]]), rng)
    model.loss(np.array([[-1.0 - 1e-7, 1.0 + 1e-7]]), rng)         # what rounding does is no mistake


def test_grey_levels_as_bytes_are_refused_with_what_to_do(rng):
    with pytest.raises(ValueError, match=r"as the denoiser is \(scale grey levels to x / 127.5 - 1\), not uint8"):
        DDPM(Constant(2), S, images=True).loss(np.array([[0, 255]], np.uint8), rng)


@pytest.mark.parametrize("x, images, warns", [
    ([[0.0, 1.0], [0.2, 0.3]], True, True), ([[0.0, 1.0], [0.2, 0.3]], False, False), ([[-1.0, 1.0]], True, False),
    ([[0.0, 0.0]], True, False), ([[-0.1, 0.3]], True, False)], ids=str)
def test_images_in_0_to_1_are_warned_of(rng, x, images, warns):
    model = DDPM(Constant(2), S, images=images)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.loss(np.array(x), rng)
    assert [str(w.message) for w in caught] == warns * [
        f"no pixel of these {len(x)} images is darker than the middle of [-1, 1]: scale grey levels to x / 127.5 - 1, "
        "or x in [0, 1] to 2 x - 1"]
    assert all(w.filename == __file__ for w in caught)             # it points to who gave them


@pytest.mark.parametrize("options, what", [
    ({"schedule": Schedule.sigmoid(10)}, "schedule"), ({"predict": "v"}, "prediction"),
    ({"variance": "beta_tilde"}, "variance"), ({"schedule": Schedule.cosine(11)}, r"has shape \(10,\), not \(11,\)")],
    ids=str)
def test_a_checkpoint_of_another_schedule_prediction_or_variance_is_refused_as_it_is(tmp_path, options, what):
    def run(seed, **options):
        rng = np.random.default_rng(seed)
        model = DDPM(**{"denoiser": MLPDenoiser(2, (4,), rng=rng), "schedule": S, **options})
        optimizer, batches = optim.Adam(model.parameters(), 1e-3), Batches(rng.standard_normal((8, 2), np.float32), 4)
        return dict(model=model, batches=batches, optimizer=optimizer, rng=rng, epochs=1, resume=True,
                    checkpoint=tmp_path / "run.npz")
    first, other = run(0), run(1, **options)
    fit(**first)
    everything = lambda run: [*run["model"].state().values(), *run["optimizer"].state().values(),
                              str(run["rng"].bit_generator.state)]
    before = everything(other)
    with pytest.raises(ValueError, match=f"not the state of .*DDPM.*{what}"):
        fit(**other)
    assert all(np.array_equal(a, b) for a, b in zip(everything(other), before))
    same = run(2)
    fit(**same)                                                    # but its own is taken
    assert all(np.array_equal(a, b) for a, b in zip(everything(same), everything(first)))


def test_a_model_converted_to_float64_takes_the_state_of_one_that_was_built_so():
    make = lambda: MLPDenoiser(2, (4,), rng=np.random.default_rng(0))
    built, converted = DDPM(make().astype(np.float64), S), DDPM(make(), S).astype(np.float64)
    assert not np.array_equal(built.logvar, converted.logvar)
    converted.load_state(built.state())
    assert np.array_equal(built.logvar, converted.logvar)


@pytest.mark.parametrize("options, message", [
    ({"predict": "score"}, "predict must be one of 'eps', 'x0', 'v', not 'score'"),
    ({"loss": "mse"}, "loss must be one of"),
    ({"variance": "small"}, "variance must be one of"), ({"variance": np.ones(3)}, r"variance must have shape \(10,\)"),
    ({"variance": np.zeros(10)}, "each variance must be > 0"), ({"variance": "learned"}, "'simple' does not go with"),
    ({"loss": "hybrid"}, "'hybrid' does not go with variance 'beta'"), ({"min_snr": 0}, "min_snr must be a number > 0"),
    ({"min_snr": 5.0, "loss": "vlb"}, "min_snr weighs the simple loss"), ({"p_drop": 1.1}, "p_drop is a probability"),
    ({"p_drop": -0.1}, "p_drop must be a number >= 0"), ({"clip": 0}, "clip must be > 0"),
    ({"clip": 2, "images": True}, "1 for images"), ({"schedule": 1000}, "needs a denoiser.*and a Schedule"),
    ({"denoiser": len}, "needs a denoiser")], ids=str)
def test_bad_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        DDPM(**{"denoiser": Constant(2), "schedule": S, **options})


def test_a_denoiser_whose_output_does_not_fit_is_refused(rng):
    for width, options in ((4, {}), (2, {"variance": "learned", "loss": "hybrid"}), (3, {})):
        with pytest.raises(ValueError, match="its learned_variance must be"):
            DDPM(Constant(width), S, **options).loss(np.zeros((5, 2)), rng)


def test_infinite_data_are_refused_even_if_nothing_is_clipped():
    model = DDPM(MLPDenoiser(2, (8,), rng=np.random.default_rng(0)), Schedule.cosine(10), clip=np.inf)
    with pytest.raises(ValueError, match="must be finite"):
        model.loss(np.array([[np.inf, 0]], np.float32), np.random.default_rng(0))


def test_a_denoiser_that_says_what_it_predicts_is_believed():
    schedule = Schedule.cosine(10)
    with pytest.raises(ValueError, match="predicts 'x0', not 'eps'"):
        DDPM(MixtureDenoiser(schedule, np.zeros((1, 2)), 1.0, predict="x0"), schedule)
    with pytest.raises(ValueError, match=r"is for Schedule\(T = 10.*not Schedule\(T = 9"):
        DDPM(MixtureDenoiser(schedule, np.zeros((1, 2)), 1.0), Schedule.cosine(9))
    rng = np.random.default_rng(0)
    for denoiser in (MLPDenoiser(2, rng=rng), UNet((1, 4, 4), 8, (1,), rng=rng)):
        with pytest.raises(ValueError, match="learned_variance is False, and this DDPM's variance learned"):
            DDPM(denoiser, schedule, variance="learned", loss="hybrid")
