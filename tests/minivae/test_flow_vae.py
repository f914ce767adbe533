"""The VAE with a flow posterior: its ELBO and its weights against models whose evidence is known."""
import numpy as np
import pytest
from scipy import stats

from autograd import optim
from minivae.data import Batches
from minivae.distributions import Normal
from minivae.flows import IAF, MAF, Coupling, Flow, Planar, Radial, Triangular
from minivae.train import fit
from minivae.vae import VAE, FlowVAE
from minivae.vae.flow_vae import FlowPosterior
from minivae.vae.gaps import exact_log_likelihood, grid, inference_gaps, log_joint

from .test_distributions import z_score

FLOWS = {"planar": lambda rng: [Planar(2, 3, rng=rng), Planar(2, 3, rng=rng)],
         "radial, one for all": lambda rng: [Radial(2, rng=rng), Radial(2, rng=rng)],
         "coupling": lambda rng: [Coupling(2, (8,), 3, rng=rng), Coupling(2, (8,), 3, flip=True, rng=rng)],
         "iaf": lambda rng: [IAF(2, (8,), 3, rng=rng), IAF(2, (8,), 3, flip=True, rng=rng)],
         "triangular": lambda rng: [Triangular(2, 3, rng=rng)],
         "maf": lambda rng: [MAF(2, (8,), 3, rng=rng)]}
ALL = pytest.mark.parametrize("kind", FLOWS)


def small(kind, seed=0, spread=0.15, **options):
    """A FlowVAE with two latents on six bits, its flow far from the identity, and data."""
    rng = np.random.default_rng(seed)
    flow = Flow(FLOWS[kind](rng))
    model = FlowVAE(6, 2, (8,), flow=flow, activation="tanh", rng=rng, **options).astype(np.float64)
    for p in flow.parameters():
        p.assign(p.data + spread * rng.standard_normal(p.shape))
    return model, (rng.random((1, 6)) < 0.5).astype(float)


def linear(rng, **options):
    return FlowVAE(5, 2, (), likelihood="gaussian", rng=rng, **options).astype(np.float64)


@pytest.mark.equation("flowvae.elbo", "E ELBO = ln p(x) - KL(q || p(z|x)), by quadrature over z_K", bound=5, kind="S")
@ALL
@pytest.mark.parametrize("kl", ["analytic", "monte-carlo"])
def test_one_sample_of_the_elbo_is_unbiased(measure, rng, kind, kl):
    model, x = small(kind, kl=kl)
    z, weight = grid(2, 401, 12)
    q = model.encode(np.repeat(x, len(z), axis=0))
    log_q = q.log_prob(z).data
    exact = np.exp(log_q) * weight @ (log_joint(model, x, z)[0] - log_q)
    elbo = model.elbo(np.repeat(x, 20_000, axis=0), rng)
    measure(z_score(elbo.value.data, exact))
    assert np.exp(log_q).sum() * weight == pytest.approx(1, abs=1e-5)
    assert exact < exact_log_likelihood(model, x)[0]


@pytest.mark.equation("flowvae.elbo", "layers that are the identity: the ELBO is the VAE's, term by term", bound=1e-10)
@pytest.mark.parametrize("kl", ["analytic", "monte-carlo"])
def test_before_its_flow_does_anything_it_is_the_vae(measure, rng, kl):
    model, vae = (cls(6, 3, (8,), kl=kl, rng=np.random.default_rng(0)).astype(np.float64) for cls in (FlowVAE, VAE))
    state, d = model.state(), 3
    last = {"encoder.layers.1.w": np.s_[:, :2 * d], "encoder.layers.1.b": np.s_[:2 * d]}
    vae.load_state({name: state[name][last.get(name, ...)] for name in vae.state()})
    x = rng.random((7, 6))
    mine, its = (m.elbo(x, np.random.default_rng(1)) for m in (model, vae))
    measure(mine.recon.data - its.recon.data)
    measure(mine.kl.data - its.kl.data)
    measure(model.reconstruct(x) - vae.reconstruct(x))


@pytest.mark.equation("flowvae.log-likelihood", "E 1/k sum w_i = p(x), w = p(x|z_K) p(z_K) / q(z_K|x)", bound=5,
                      kind="S")
@ALL
def test_importance_weights_average_to_the_evidence(measure, rng, kind):
    model, x = small(kind, spread=0.1)
    exact = exact_log_likelihood(model, x)
    for k in (1, 7):
        estimates = model.log_likelihood(np.repeat(x, 20_000 // k, axis=0), k, rng)
        measure(z_score(np.exp(estimates - exact), 1.0))


@pytest.mark.equation("flowvae.log-likelihood", "ln q(z_K|x) of the draws = that through the inverse", bound=1e-10)
@ALL
def test_the_density_of_a_draw_is_that_of_the_posterior(measure, rng, kind):
    model, _ = small(kind)
    x = (rng.random((4, 6)) < 0.5).astype(float)
    q = model.encode(x)
    z, log_q = model._propose(q, 3, rng)
    many = FlowPosterior(Normal(*(np.repeat(v.data, 3, axis=0) for v in (q.base.mu, q.base.logvar))), q.flow,
                         None if q.h is None else np.repeat(q.h.data, 3, axis=0))
    measure(many.log_prob(z.data).data - log_q.data)


@pytest.mark.equation("flowvae.gap", "an affine autoregressive q: ELBO = ln p(x) of a correlated Gaussian posterior",
                      bound=1e-4, kind="O")
def test_one_affine_autoregressive_layer_closes_the_gap_of_a_linear_model(measure, rng):
    model = linear(rng, flow=Flow([IAF(2, (), rng=rng)]), kl="monte-carlo")
    W, b = (p.data for p in model.decoder.layers[0].parameters())
    W[:] = 1 + 0.5 * rng.standard_normal(W.shape)                 # two latents that explain each other away
    vae = VAE(5, 2, (), likelihood="gaussian", rng=rng).astype(np.float64)
    vae.decoder.load_state(model.decoder.state())
    x = rng.standard_normal((4, 5))
    evidence = stats.multivariate_normal(b, W.T @ W + np.eye(5)).logpdf(x)
    assert inference_gaps(vae, x).approximation.min() > 0.05       # what no diagonal q can close
    batch, mine = np.tile(x, (25, 1)), [*model.encoder.parameters(), *model.flow.parameters()]
    optimizer = optim.Adam(mine, optim.warmup_cosine(0.05, 20, 1501))
    for _ in range(1500):
        loss, _ = model.loss(batch, rng)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    gap = np.tile(evidence, 1000) - model.elbo(np.tile(x, (1000, 1)), rng).value.data
    measure(gap.mean())
    assert gap.std() < 0.05                                        # for q = p(z | x) every sample says ln p(x)


def test_the_encoder_speaks_to_the_flow_through_the_context(rng):
    model, x = small("iaf")
    model.loss(x, rng)[0].backward()
    last = model.encoder.layers[-1].w.grad
    assert last.shape[1] == 2 * 2 + 3 and (np.abs(last[:, 4:]).max(axis=0) > 0).all()
    assert model.encode(np.eye(6)).log_prob(np.zeros((6, 2))).data.std() > 0


def test_a_posterior_draws_what_the_elbo_decodes(rng):
    model, x = small("planar")
    q = model.encode(x)
    z0, z = q.base.sample(np.random.default_rng(2)), q.sample(np.random.default_rng(2))
    np.testing.assert_allclose(z, model.flow.forward(z0, q.h.data)[0].data)
    elbo = model.elbo(x, np.random.default_rng(2))
    np.testing.assert_allclose(elbo.recon.data, model.decode(z).log_prob(x).data)
    assert isinstance(z, np.ndarray)
    middle = model.flow.forward(q.base.mu.data, q.h.data)[0].data
    np.testing.assert_allclose(model.reconstruct(x), model.decode(middle).mean.data)


def test_by_default_the_posterior_is_a_gaussian_with_correlations_that_depend_on_x(rng):
    model, x = FlowVAE(6, 3, (8,), rng=rng).astype(np.float64), np.eye(6)[:2]
    for p in model.flow.parameters():
        p.assign(p.data + 0.3 * rng.standard_normal(p.shape))
    one, other = (np.corrcoef(model.encode(np.repeat(row[None], 10_000, axis=0)).sample(rng).T) for row in x)
    least = 4 / np.sqrt(10_000)                                    # four standard errors of a correlation of 0
    assert np.abs(one[np.tril_indices(3, -1)]).min() > least and np.abs(one - other).max() > least


def test_it_learns_and_keeps_its_dtype(rng):
    data = np.repeat(rng.integers(0, 2, (200, 3)), 4, axis=1).astype(np.uint8) * 255       # three bits, in four pixels
    model = FlowVAE(12, 2, (16,), rng=rng)
    batches, before = Batches(data, 50), model.elbo(np.float32(data / 255), rng).value.data.mean()
    rows = fit(model, batches, epochs=60, optimizer=optim.Adam(model.parameters(), 0.01), rng=rng)
    assert rows[-1]["elbo"] > before + 3
    x = np.float32(data[:9] / 255)
    assert model.reconstruct(x).dtype == model.sample(9, rng).dtype == np.float32
    assert model.reconstruct(x).shape == model.sample(9, rng).shape == (9, 12)
    assert model.log_likelihood(x, 5, rng).shape == (9,)
    assert all(p.grad.dtype == np.float32 for p in model.parameters())


@pytest.mark.parametrize("flow", [None, lambda rng: [Planar(3, 4, rng=rng) for _ in range(4)]])
def test_no_seed_gives_a_nan(flow):
    for seed in range(20):
        rng = np.random.default_rng(seed)
        model = FlowVAE(10, 3, (8,), rng=rng, flow=flow and Flow(flow(rng)))
        x = (rng.random((16, 10)) < 0.5).astype(np.float32)
        optimizer = optim.Adam(model.parameters(), 0.01)
        for _ in range(10):
            loss, _ = model.loss(x, rng)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        assert np.isfinite(loss.item()) and np.isfinite(model.log_likelihood(x, 3, rng)).all()
        assert all(np.isfinite(p.data).all() for p in model.parameters())


@pytest.mark.parametrize("make, message", [
    (lambda rng: FlowVAE(6, 3, flow=Flow([Planar(2, rng=rng)]), rng=rng), r"flow must be a Flow of dim 3.*Flow\(2\)"),
    (lambda rng: FlowVAE(6, 3, flow=[Planar(3, rng=rng)], rng=rng), "flow must be a Flow of dim 3"),
    (lambda rng: FlowVAE(6, 3, free_bits=0.5, rng=rng), "no free bits for each, 0.5 or other"),
    (lambda rng: FlowVAE(6, 0, rng=rng), "dim must be a positive integer, not 0"),
    (lambda rng: FlowVAE(6, 3, rng=0), "rng must be a numpy.random.Generator"),
    (lambda rng: FlowVAE(6, 3, rng=rng).loss(np.zeros((2, 5), np.float32), rng), r"x must have shape \(batch, 6\)"),
])
def test_what_does_not_fit_is_refused(rng, make, message):
    with pytest.raises(ValueError, match=message):
        make(rng)
