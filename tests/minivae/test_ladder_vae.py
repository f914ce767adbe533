"""Hierarchies of one latent a level against quadrature; linear ones against closed forms; what is wired to what."""
import contextlib
import io

import numpy as np
import pytest
from scipy import stats

from autograd import Tensor, optim
from minivae.data import Batches
from minivae.distributions import Normal
from minivae.train import fit
from minivae.vae import LadderVAE, StackedVAE
from minivae.vae.batch_norm import BatchNorm
from minivae.vae.gaps import exact_log_likelihood, grid
from minivae.vae.ladder_vae import LEAST, ONE, merge

from .test_distributions import z_score

BOTH = pytest.mark.parametrize("cls", [StackedVAE, LadderVAE])
STANDARD = Normal(np.zeros(1), np.zeros(1))


class Given(np.random.Generator):
    """A generator whose normal draws are those that it was given."""

    def __init__(self, *draws):
        super().__init__(np.random.PCG64())
        self.draws = list(draws)

    def standard_normal(self, size, dtype):
        return self.draws.pop(0).reshape(size)


def setup(cls, rng, dims=(1, 1), **options):
    """A model with levels that depend strongly on each other, and five examples of six bits."""
    model = cls(6, dims, (5,) * len(dims), activation="tanh", rng=rng, **options).astype(np.float64)
    for p in model.parameters():
        p.assign(2 * p.data)
    return model, (rng.random((5, 6)) < 0.5).astype(float)


def column(a):
    return np.asarray(a).reshape(-1, 1)


def raw(variance):
    """What a network says for this variance."""
    return np.log(np.expm1(variance - LEAST)) - ONE


def spread(model, x, inferred):
    """The Levels of one x at nodes of quadrature in the noise, and their weights. `inferred` is the order of draws."""
    eps, weight = grid(2)
    said = [Normal(*(np.tile(v.data, (len(eps), 1)) for v in (n.mu, n.logvar))) for n in model.bottom_up(x)]
    levels = model.infer(said, Given(*(eps[:, i] for i in inferred)))
    return levels, np.exp(stats.norm.logpdf(eps).sum(axis=1)) * weight


def ladder_density(model, x, z):
    """ln q(z | x) of two levels by formula (3), at z (G, 2)."""
    low, top = model.bottom_up(x)
    above = model.top_down.next([column(z[:, 1])], len(z))
    precision = np.exp(-low.logvar.data) + np.exp(-above.logvar.data)
    mean = (low.mu.data * np.exp(-low.logvar.data) + above.mu.data * np.exp(-above.logvar.data)) / precision
    return top.log_prob(column(z[:, 1])).data + stats.norm(mean, precision ** -0.5).logpdf(z[:, :1])[:, 0]


def stacked_density(model, x, z):
    """ln q(z | x) of two levels by formula (2), at z (G, 2)."""
    h = model.encoder[1](column(z[:, 0])).data
    second = stats.norm(h[:, :1], np.sqrt(np.logaddexp(0, h[:, 1:] + ONE) + LEAST)).logpdf(z[:, 1:])[:, 0]
    return model.bottom_up(x)[0].log_prob(column(z[:, 0])).data + second


@pytest.mark.equation("ladder.merge", "N(z; a) N(z; b) / merge(a, b)(z) = N(m_a; m_b, v_a + v_b), any z", bound=1e-10)
@pytest.mark.parametrize("scale", [1.0, 5.0])
def test_the_merge_is_the_normalised_product(measure, rng, scale):
    a, b = (Normal(rng.standard_normal((6, 1)), scale * rng.standard_normal((6, 1))) for _ in range(2))
    product = merge(a, b)
    for r in (-2, 0, 1, 3):
        z = product.mu + r * np.exp(product.logvar / 2)
        found = a.log_prob(z) + b.log_prob(z) - product.log_prob(z)
        truth = stats.norm(b.mu, np.sqrt(np.exp(a.logvar) + np.exp(b.logvar))).logpdf(a.mu)[:, 0]
        measure((found - truth) / np.maximum(1, np.abs(truth)))
    measure(np.exp(-product.logvar) / (np.exp(-a.logvar) + np.exp(-b.logvar)) - 1)


@pytest.mark.equation("ladder.linear", "ln w = ln p(x) for every z: two linear levels, W'W diagonal", bound=1e-10)
def test_the_ladder_of_a_linear_model_is_its_posterior(measure, rng):
    D, s2, lam = 6, 1.0, np.array([0.5, 1.0, 2.0])
    model = LadderVAE(D, (3, 2), (), likelihood="gaussian", rng=rng).astype(np.float64)
    W = stats.ortho_group.rvs(D, random_state=0)[:, :3] * [2.0, 1.0, 0.7]
    A = np.array([[1.5, 0], [0, -0.8], [0, 0.6]])                  # p(z1 | z2) = N(A z2, lam): A' diag(.) A is diagonal
    b, left = rng.standard_normal(D), np.linalg.pinv(W)
    to_z1 = np.diag(1 / (lam + s2 / np.diag(W.T @ W)))             # precision of W⁺(x − b) given z2
    precision = np.eye(2) + A.T @ to_z1 @ A
    upper = np.linalg.solve(precision, A.T @ to_z1 @ left)
    for net, mean, var in ((model.encoder[0], left, s2 / np.diag(W.T @ W)),
                           (model.encoder[1], upper, 1 / np.diag(precision))):
        layer = net.layers[0]
        layer.w.assign(np.hstack([mean.T, np.zeros_like(mean.T)]))
        layer.b.assign(np.concatenate([-mean @ b, raw(var)]))
    above = model.top_down.nets[0].layers[0]
    above.w.assign(np.hstack([A.T, np.zeros((2, 3))]))
    above.b.assign(np.concatenate([np.zeros(3), raw(lam)]))
    model.decoder.layers[0].w.assign(W.T)
    model.decoder.layers[0].b.assign(b)
    x = rng.standard_normal((7, D)) * 2
    exact = stats.multivariate_normal(b, W @ (np.diag(lam) + A @ A.T) @ W.T + s2 * np.eye(D)).logpdf(x)
    for k in (1, 3):
        measure(model.log_likelihood(x, k, rng) - exact)
    above.b.assign(above.b.data + 0.1)                             # another prior, and there is a gap
    assert np.std(model.log_likelihood(np.repeat(x[:1], 50, axis=0), 1, rng)) > 1e-3


@pytest.mark.equation("ladder.chain-rule", "KL(q(z|x) || p(z)) = sum_i E_q ln q(z_i|.)/p(z_i|z_i+1)", bound=1e-8,
                      kind="Q")
@pytest.mark.parametrize("cls, density, inferred", [(StackedVAE, stacked_density, (0, 1)),
                                                    (LadderVAE, ladder_density, (1, 0))])
def test_the_kl_of_the_levels_adds_up_to_that_of_the_hierarchy(measure, rng, cls, density, inferred):
    model, x = setup(cls, rng)
    z, weight = grid(2, nodes=401, reach=24)
    for row in x[:2, None]:
        log_q, log_p = density(model, row, z), model.prior().log_prob(z).data
        levels, noise = spread(model, row, inferred)
        measure(np.sum(np.exp(log_q)) * weight - 1)
        measure(np.sum(np.exp(log_q) * (log_q - log_p)) * weight - noise @ levels.kl_terms().data.sum(axis=1))
        measure(levels.kl().data - levels.kl_terms().data.sum(axis=1))


@pytest.mark.equation("ladder.closed-form", "E_q KL(q(z_i|x,z_i+1) || p(z_i|z_i+1)) = E_q ln q/p, of each level",
                      bound=1e-8, kind="Q")
def test_the_kl_of_a_rung_is_taken_to_the_prior_that_comes_from_above(measure, rng):
    model, x = setup(LadderVAE, rng)
    for row in x[:2, None]:
        levels, noise = spread(model, row, (1, 0))
        closed = noise @ levels.kl_terms().data
        measure(closed - noise @ (_log_density(levels.z, levels.q) - _log_density(levels.z, levels.p)))
        to_standard = noise @ levels.q.kl_terms().data             # the KL to N(0, I): right for the top level only
        low, _ = model.bottom_up(row)
        to_encoder = noise @ levels.q.kl_terms(Normal(low.mu, low.logvar)).data[:, 0]
        measure(to_standard[1] - closed[1])
        assert abs(to_standard[0] - closed[0]) > 0.01 and abs(to_encoder - closed[0]) > 0.01


def _log_density(z, n):
    return stats.norm(n.mu.data, np.exp(n.logvar.data / 2)).logpdf(z.data)


def test_a_stacked_model_has_no_closed_form_below_its_top(rng):
    """There z2 depends on z1, and the KL at fixed z2 is not the mean over z1."""
    model, x = setup(StackedVAE, rng)
    levels, noise = spread(model, x[:1], (0, 1))
    wrong = noise @ levels.q.kl_terms(levels.p).data - noise @ levels.kl_terms().data
    assert abs(wrong[0]) > 0.01 and abs(wrong[1]) < 1e-8


@pytest.mark.equation("ladder.stacked", "ln q(z|x) = ln q(z_1|x) + ln q(z_2|z_1)", bound=1e-10)
def test_a_stacked_model_infers_each_level_from_the_one_below(measure, rng):
    model, x = setup(StackedVAE, rng)
    levels = model.infer(model.bottom_up(x), rng)
    found = np.concatenate([stacked_density(model, x[n:n + 1], levels.z.data[n:n + 1]) for n in range(5)])
    measure(levels.q.log_prob(levels.z).data - found)
    measure(levels.p.log_prob(levels.z).data - model.prior().log_prob(levels.z).data)


@pytest.mark.equation("ladder.model", "E 1/k sum_i p(x, z_i)/q(z_i|x) = p(x) by quadrature", bound=5, kind="S")
@BOTH
@pytest.mark.parametrize("k", [1, 7])
def test_importance_weights_average_to_the_evidence(measure, rng, cls, k):
    model, x = setup(cls, rng)
    exact = exact_log_likelihood(model, x[:1])
    measure(z_score(np.exp(model.log_likelihood(np.repeat(x[:1], 3000, axis=0), k, rng) - exact), 1.0))


@pytest.mark.equation("ladder.model", "the ELBO is below ln p(x) by KL(q || p(z|x)), by quadrature", bound=5, kind="S")
@pytest.mark.parametrize("cls, density", [(StackedVAE, stacked_density), (LadderVAE, ladder_density)])
def test_one_sample_of_the_elbo_is_unbiased(measure, rng, cls, density):
    model, x = setup(cls, rng)
    z, weight = grid(2)
    log_q = density(model, x[:1], z)
    log_joint = model.decode(z).log_prob(np.repeat(x[:1], len(z), axis=0)).data + model.prior().log_prob(z).data
    truth = np.sum(np.exp(log_q) * (log_joint - log_q)) * weight
    measure(z_score(model.elbo(np.repeat(x[:1], 20_000, axis=0), rng).value.data, truth))
    assert truth < exact_log_likelihood(model, x[:1])


@pytest.mark.equation("ladder.model", "draws of z have the moments that quadrature gives p(z)", bound=5, kind="S")
def test_draws_of_the_prior_come_from_the_top_down(measure, rng):
    model, _ = setup(LadderVAE, rng)
    z, weight = grid(2)
    density = np.exp(model.prior().log_prob(z).data) * weight
    draws = model.draw(40_000, rng)
    for power in (1, 2):
        measure(z_score(draws ** power, density @ z ** power))
    measure(z_score(draws.prod(axis=1), density @ z.prod(axis=1)))


@BOTH
def test_levels_that_are_kept_are_those_of_x_and_the_others_are_drawn(rng, cls):
    model, x = setup(cls, rng, dims=(3, 2, 2))
    z = model.infer(model.bottom_up(x), np.random.default_rng(8)).z.data
    all_kept, none = (model.redraw(x, kept, np.random.default_rng(8)) for kept in (3, 0))
    np.testing.assert_allclose(all_kept, model.decode(z).mean.data)
    np.testing.assert_allclose(none, model.redraw(1 - x, 0, np.random.default_rng(8)))
    same = np.random.default_rng(8)
    upper = model.top_down.split(model.infer(model.bottom_up(x), same).z.data)[1:]
    np.testing.assert_allclose(model.redraw(x, 2, np.random.default_rng(8)),
                               model.decode(model.top_down.sample(5, same, upper)).mean.data)
    kept = model.top_down.sample(5, rng, model.top_down.split(z)[1:])
    np.testing.assert_array_equal(kept[:, 3:], z[:, 3:])
    assert np.abs(kept[:, :3] - z[:, :3]).min() > 1e-6


def test_a_ladder_goes_up_without_samples_and_a_stacked_model_with_them(rng):
    for cls, same in ((StackedVAE, False), (LadderVAE, True)):
        model, x = setup(cls, rng, dims=(3, 2))
        tops = [model.infer(model.bottom_up(x), np.random.default_rng(seed)).q.mu.data[:, 3:] for seed in (0, 1)]
        assert np.array_equal(*tops) == same
        quiet = model.infer(model.bottom_up(x))
        np.testing.assert_array_equal(quiet.z.data, quiet.q.mu.data)


@BOTH
def test_free_bits_are_of_the_kl_to_the_prior_from_above(rng, cls):
    model, x = setup(cls, rng, dims=(3, 2), free_bits=0.2)
    levels = model.infer(model.bottom_up(x), np.random.default_rng(2))
    kl = levels.kl_terms().data.mean(axis=0)
    assert kl.min() < 0.2 < kl.max()
    loss, terms = model.loss(x, np.random.default_rng(2))
    assert loss.item() + terms["recon"] == pytest.approx(np.maximum(kl, 0.2).sum(), rel=1e-10)
    assert terms["kl"] == pytest.approx(kl.sum(), rel=1e-10)


@BOTH
def test_warm_up_weighs_the_kl_of_all_levels(rng, cls):
    model, x = setup(cls, rng, kl_warmup=4)
    for t, weight in ((1, 0.25), (4, 1), (9, 1)):
        model.on_step(t)
        loss, terms = model.loss(x, rng)
        assert loss.item() + terms["recon"] == pytest.approx(weight * terms["kl"], rel=1e-10)


@BOTH
def test_a_latent_that_no_one_uses_is_not_active(rng, cls):
    model, x = setup(cls, rng, dims=(3, 2))
    top = model.encoder[-1].layers[-1]                             # the second latent of the top: N(0, 1) whatever x
    top.w.assign(top.w.data * np.array([9, 0, 1, 0]))
    top.b.assign(np.array([0, 0, -1, 0]))
    kl = model.kl_per_latent(x, rng)
    assert [v.shape for v in kl] == [(3,), (2,)] and abs(kl[1][1]) < 1e-10 and kl[1][0] > 0.01
    assert model.active_units(x, rng)[1] == 1
    top.b.assign(np.array([0, 0.2, -1, 0]))                        # a mean of 0.2: 0.02 nats
    assert model.active_units(np.repeat(x, 2000, axis=0), rng)[1] == 2


@BOTH
@pytest.mark.parametrize("batch_norm", [False, True])
def test_gradients_of_the_loss_pass_finite_differences(rng, cls, batch_norm):
    model, x = setup(cls, rng, dims=(3, 2, 2), batch_norm=batch_norm)
    loss = lambda: model.loss(x, np.random.default_rng(3))[0]
    loss().backward()
    for p in model.parameters():
        i = np.unravel_index(np.argmax(np.abs(p.grad)), p.shape)
        at, values = p.data.copy(), []
        for h in (1e-6, -1e-6):
            p.data[i] = at[i] + h
            values.append(loss().item())
        p.data[i] = at[i]
        assert p.grad[i] == pytest.approx((values[0] - values[1]) / 2e-6, rel=1e-5)


@BOTH
def test_batch_normalisation_is_of_all_hidden_layers_and_ends_with_training(rng, cls):
    model, x = setup(cls, rng, dims=(3, 2, 2), batch_norm=True)
    widths = [len(m.gain) for m in model.modules() if isinstance(m, BatchNorm)]
    assert widths == [5] * 6                                       # three to q, two to p(z_i | z_i+1), one to x
    for training in (True, False):
        one, many = (model.train(training).encode(rows).mean.data[:2] for rows in (x[:2], x))
        assert np.allclose(one, many) != training


@BOTH
def test_the_contract(rng, cls):
    model = cls(784, rng=rng)
    x = rng.random((16, 784), np.float32)
    before = x.copy()
    loss, terms = model.loss(x, rng)
    loss.backward()
    assert isinstance(loss, Tensor) and loss.shape == () and set(terms) == {"elbo", "recon", "kl"}
    assert all(p.grad.dtype == np.float32 and p.grad.shape == p.shape for p in model.parameters())
    assert model.elbo(x, rng).value.shape == model.log_likelihood(x, 10, rng).shape == (16,)
    assert model.encode(x).mean.shape == model.draw(16, rng).shape == (16, 75)
    assert model.sample(4, rng).shape == (4, 784) and model.sample(4, rng).dtype == np.float32
    assert model.reconstruct(x).shape == x.shape and (x == before).all()
    assert repr(model).startswith(f"{cls.__name__}(784 -> 50 -> 25, bernoulli)")


@BOTH
def test_twenty_seeds_train_without_a_nan(cls):
    for seed in range(20):
        rng = np.random.default_rng(seed)
        model = cls(12, rng=rng)
        with contextlib.redirect_stdout(io.StringIO()):
            rows = fit(model, Batches(rng.integers(0, 256, (64, 12), np.uint8), 32, binarise=True), epochs=3, rng=rng,
                       optimizer=optim.Adam(model.parameters(), 1e-3))
        assert np.isfinite([row["elbo"] for row in rows]).all()


@pytest.mark.parametrize("options, message", [
    ({"latent_dims": 20}, "latent_dims must be a tuple of sizes, .* not 20"),
    ({"latent_dims": (20,)}, r"one for each of two levels or more, not \(20,\)"),
    ({"latent_dims": (20, 0)}, "each of latent_dims must be a positive integer, not 0"),
    ({"latent_dims": (3, 2), "hidden": (8,)}, r"hidden must be \(\), or a width for each of 2 levels, not \(8,\)"),
    ({"latent_dims": (3, 2), "hidden": 8}, "not 8"), ({"hidden": (8, 0)}, "a width in hidden must be"),
    ({"kl": "analytic"}, "a hierarchy takes no kl")])
@BOTH
def test_bad_options_are_refused(rng, cls, options, message):
    with pytest.raises(ValueError, match=message):
        cls(6, rng=rng, **options)


def test_bad_input_is_refused(rng):
    model, x = setup(LadderVAE, rng)
    for call in (lambda: model.loss(x[:, :3], rng), lambda: model.log_likelihood(x * np.nan, 2, rng),
                 lambda: model.redraw(x + 1, 1, rng)):
        with pytest.raises(ValueError, match="x must"):
            call()
    with pytest.raises(ValueError, match="kept must be at most 2, not 3"):
        model.redraw(x, 3, rng)
