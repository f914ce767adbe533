"""The VQ-VAE: quantisation by brute force, its loss and gradients by hand, and PixelCNN by enumeration."""
import tracemalloc
from itertools import product

import numpy as np
import pytest
from scipy import special, stats

from autograd import Tensor, no_grad, optim
from autograd.conv import conv2d
from autograd.pooling import upsample
from minivae.data import Batches
from minivae.train import evaluate, fit
from minivae.vae import VQVAE, PixelCNN
from minivae.vae.codebook import Codebook, nearest, perplexity
from minivae.vae.convolutional import Doubling
from minivae.vae.pixel_cnn import MaskedConv2d


def model_of(seed=0, **options):
    """Images of 8 x 8 on a grid of 4 x 4, 6 codes."""
    return VQVAE(64, 3, (5,), **{"codes": 6} | options, rng=np.random.default_rng(seed))


def images(n=12, seed=1):
    return np.random.default_rng(seed).integers(0, 256, (n, 64), np.uint8)


def spread_out(**options):
    """A float64 model whose codes are all in use, eight images x, and z_e and k as rows."""
    model, x = model_of(**options).astype(np.float64), images(8) / 255
    z = model.encode(x).z_e.data
    model.codebook.e.assign(z.reshape(-1, 3)[::20][:6] + 0.01)
    k = model.encode(x).k
    assert len(np.unique(k)) == 6
    return model, x, z.reshape(-1, 3), k.reshape(-1)


def train(model, data, epochs=1, **options):
    return fit(model, Batches(data, 4, **options), epochs=epochs, rng=np.random.default_rng(3),
               optimizer=optim.Adam(model.parameters(), 2e-3))


# Quantisation

@pytest.mark.equation("vq.nearest", "|z - e_k|^2 = min_j |z - e_j|^2", bound=1e-10)
@pytest.mark.parametrize("N, K, d", [(1, 1, 1), (256, 7, 2), (700, 40, 16)])
def test_no_code_is_nearer_than_the_nearest(measure, rng, N, K, d):
    z, e = rng.standard_normal((N, d)), rng.standard_normal((K, d))
    distances = np.sum((z[:, None] - e) ** 2, axis=2)
    measure(distances[np.arange(N), nearest(z, e)] - distances.min(axis=1))


def test_vectors_far_from_the_origin_are_told_apart_in_float32(rng):
    z, e = (100 + 0.01 * rng.standard_normal((n, 8)).astype(np.float32) for n in (300, 20))
    assert (nearest(z, e) == np.argmin(np.sum((z[:, None] - e) ** 2, axis=2), axis=1)).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("which, far", [("one code", 1e3), ("one code", 1e5), ("one code", 1e10),
                                        ("half of the codes and vectors", 1e3), ("half of the codes and vectors", 1e5)])
def test_distant_codes_do_not_blur_the_others(which, far, dtype, rng):
    z, e = rng.standard_normal((700, 8)).astype(dtype), rng.standard_normal((40, 8)).astype(dtype)
    if which == "one code":
        e[7] = far
    else:
        z[::2], e[::2] = z[::2] + dtype(far), e[::2] + dtype(far)
    distances = np.sum((z[:, None].astype(np.longdouble) - e) ** 2, axis=2)
    found = distances[np.arange(700), nearest(z, e)]
    np.testing.assert_allclose(found.astype(float), distances.min(axis=1).astype(float), rtol=1e-4)


def test_the_code_of_a_vector_does_not_depend_on_the_others(rng):
    z, e = rng.standard_normal((300, 8), np.float32), rng.standard_normal((40, 8), np.float32)
    k = nearest(z, e)
    for value in (1e5, 1e30, np.nan, np.inf):
        other = z.copy()
        other[::3] = value
        with np.errstate(invalid="ignore"):
            np.testing.assert_array_equal(np.delete(nearest(other, e), np.s_[::3]), np.delete(k, np.s_[::3]))
    np.testing.assert_array_equal([nearest(row[None], e)[0] for row in z], k)


def test_there_is_no_array_of_all_distances(rng):
    z, e = rng.standard_normal((20_000, 4), np.float32), rng.standard_normal((512, 4), np.float32)
    tracemalloc.start()
    nearest(z, e)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20_000 * 512 * 4 / 10


@pytest.mark.equation("vq.gradient", "d/de_j sum |sg(z) - e_k|^2 = 2 n_j (e_j - mean z_j)", bound=1e-10)
def test_a_code_is_pulled_to_the_mean_of_what_it_codes_and_by_nothing_else(measure):
    model, x, z, k = spread_out(codebook="gradient")
    model.loss(x, None)[0].backward()
    e = model.codebook.e
    for j in range(6):
        measure(len(x) * e.grad[j] - 2 * np.sum(k == j) * (e.data[j] - z[k == j].mean(axis=0)))


@pytest.mark.equation("vq.ema", "decay 0: e_j = mean of the z coded by j, a Lloyd step", bound=1e-10)
def test_a_moving_average_without_memory_is_a_step_of_lloyds_algorithm(measure, rng):
    book = Codebook(6, 2, decay=0, restart=0, rng=rng).astype(np.float64)
    z = rng.standard_normal((80, 2)) + 3 * rng.integers(0, 2, (80, 1))
    book.e.assign(np.append(z[:5], [[99, 99]], axis=0))
    last = np.inf
    for _ in range(6):
        k = nearest(z, book.e.data)
        book.follow(z, k, rng)
        for j in range(5):
            measure(book.e.data[j] - z[k == j].mean(axis=0))
        distortion = np.sum((z - book.e.data[k]) ** 2)
        assert distortion <= last
        last = distortion
    np.testing.assert_array_equal(book.e.data[5], 99)              # nearest to nothing


@pytest.mark.equation("vq.ema", "N_j, m_j decayed sums over batches, e_j = m_j / N_j", bound=1e-10)
def test_a_moving_average_weighs_a_batch_by_its_age(measure, rng):
    book = Codebook(3, 2, decay=0.8, restart=0, rng=rng).astype(np.float64)
    batches = [(rng.standard_normal((20, 2)), rng.integers(0, 3, 20)) for _ in range(4)]
    for z, k in batches:
        book.follow(z, k, rng)
    for j in range(3):
        n = sum(0.8 ** (3 - t) * np.sum(k == j) for t, (z, k) in enumerate(batches))
        m = sum(0.8 ** (3 - t) * z[k == j].sum(axis=0) for t, (z, k) in enumerate(batches))
        measure(book.e.data[j] - m / n)


@pytest.mark.equation("vq.perplexity", "exp(entropy of use): 1 for one code, K for all alike, between otherwise",
                      bound=1e-10)
def test_perplexity_is_from_one_to_the_number_of_codes(measure, rng):
    measure(perplexity(np.full((5, 7, 7), 3), 9) - 1)
    measure(perplexity(np.arange(36).reshape(4, 3, 3) % 9, 9) - 9)
    k = rng.integers(0, 9, 50) * rng.integers(0, 2, 50)
    measure(perplexity(k, 9) - np.exp(stats.entropy(np.bincount(k))))
    assert 1 < perplexity(k, 9) < 9


@pytest.mark.parametrize("learning", ["ema", "gradient"])
def test_a_code_that_nothing_uses_begins_anew_as_one_of_the_batch_and_the_others_do_not(rng, learning):
    z = rng.standard_normal((30, 2))
    book = Codebook(4, 2, learning, decay=0.5, restart=0.1, rng=rng).astype(np.float64)
    book.follow(z, np.arange(30) % 4, rng)
    used = book.e.data.copy()
    for step in range(9):
        book.follow(z, np.arange(30) % 3, rng)
        if not np.array_equal(book.e.data[3], used[3]):
            break
    assert 2 <= step <= 5 and (book.e.data[3] == z).all(axis=1).any()
    np.testing.assert_allclose(book.sums[3], book.uses[3] * book.e.data[3])
    np.testing.assert_allclose(book.e.data[:3], [z[j::3].mean(0) if learning == "ema" else used[j] for j in range(3)],
                               atol=0.5 if learning == "ema" else 0)
    assert book.uses[3] == pytest.approx(book.uses[:3].mean(), rel=0.5)


def test_codes_begin_anew_as_different_vectors_if_there_are_enough(rng):
    book, z = Codebook(12, 2, rng=rng).astype(np.float64), rng.standard_normal((12, 2))
    book.follow(z, np.zeros(12, int), rng)                         # 11 codes are nearest to nothing
    assert len(np.unique(book.e.data[1:], axis=0)) == 11


def test_the_first_step_puts_the_codebook_where_the_data_are():
    for learning in ("ema", "gradient"):
        model = model_of(codebook=learning, codes=20)
        train(model, images(4))
        assert perplexity(model.codes(np.float32(images(40) / 255)), 20) > 5


# The model

@pytest.mark.equation("convolutional.doubling", "one convolution with sums of w's parts = conv(upsample(x), w)",
                      bound=1e-10)
@pytest.mark.parametrize("size, C, N", [((3, 4), 2, 5), ((1, 1), 1, 1)])
def test_doubling_is_a_convolution_of_repeated_pixels_with_the_same_gradients(measure, rng, size, C, N):
    layer, found = Doubling(C, N, rng=rng).astype(np.float64), []
    x = Tensor(rng.standard_normal((2, *size, C)), requires_grad=True)
    g = rng.standard_normal((2, 2 * size[0], 2 * size[1], N))
    for f in (layer, lambda x: conv2d(upsample(x), layer.w, layer.b, padding=1)):
        for v in (x, layer.w, layer.b):
            v.grad = None
        y = f(x)
        (y * g).sum().backward()
        found.append([y.data, x.grad, layer.w.grad, layer.b.grad])
    for one, other in zip(*found):
        measure(one - other)


def test_between_convolutions_there_is_a_nonlinearity(rng):
    model = VQVAE(64, 3, (5, 4), codes=6, activation="tanh", rng=rng).astype(np.float64)
    x, z = rng.random((2, 64)), rng.standard_normal((2, 2, 2, 3))
    one, two, last = (lambda v, layer=layer, s=s: conv2d(v, layer.w.data, layer.b.data, stride=s, padding=1)
                      for layer, s in zip((*model.encoder.halve, model.encoder.last), (2, 2, 1)))
    np.testing.assert_allclose(model.encode(x).z_e.data, last(np.tanh(two(np.tanh(one(x.reshape(2, 8, 8, 1)))))))
    first, two, one = (lambda v, layer=layer: conv2d(v, layer.w.data, layer.b.data, padding=1)
                       for layer in (model.decoder.first, *model.decoder.grow))
    again = one(upsample(np.tanh(two(upsample(np.tanh(first(z)))))))
    np.testing.assert_allclose(model.decode(z).logits.data, again.reshape(2, 64), atol=1e-12)


@pytest.mark.equation("vq.straight-through", "dL/dz_e = dL/dz_q", bound=1e-10)
@pytest.mark.parametrize("codebook", ["ema", "gradient"])
def test_the_encoder_gets_the_gradient_of_the_decoders_input(measure, codebook):
    model, x, z, k = spread_out(commitment=0.0, codebook=codebook)
    z_e = Tensor(z.reshape(8, 4, 4, 3), requires_grad=True)
    z_q = Tensor(model.codebook.e.data[k].reshape(8, 4, 4, 3), requires_grad=True)
    model.encoder = lambda x: z_e
    model.loss(x, None)[0].backward()
    (-model.decode(z_q).log_prob(x).mean()).backward()
    measure((z_e.grad - z_q.grad) / np.abs(z_q.grad).max())
    measure(model.encode(x).mean.data - z_q.data)
    assert np.abs(z_q.grad).min() > 0


@pytest.mark.equation("vq.objective", "loss = -ln p(x|z_q) + beta |z_e - e_k|^2, and, by gradient, + |z_e - e_k|^2",
                      bound=1e-10)
@pytest.mark.parametrize("codebook, weight", [("ema", 0.3), ("gradient", 1.3)])
def test_the_loss_is_what_it_should_be_by_hand(measure, codebook, weight):
    model, x, z, k = spread_out(codebook=codebook, commitment=0.3)
    logits = model.decoder(Tensor(model.codebook.e.data[k].reshape(8, 4, 4, 3))).data
    nll = np.sum(np.logaddexp(0, logits) - x * logits) / 8
    loss, terms = model.loss(x, None)
    measure(loss.data - nll - weight * np.sum((z - model.codebook.e.data[k]) ** 2) / 8)
    measure(terms["recon"] + nll)


def test_commitment_moves_the_encoder_alone():
    found = []
    for beta in (0.0, 0.5):
        model, x, z, k = spread_out(commitment=beta, codebook="gradient")
        model.loss(x, None)[0].backward()
        found.append(model)
    a, b = (m.encoder.last.b.grad for m in found)
    np.testing.assert_allclose(b - a, 2 * 0.5 * np.sum(z - model.codebook.e.data[k], axis=0) / 8)
    np.testing.assert_array_equal(*(m.codebook.e.grad for m in found))
    np.testing.assert_array_equal(*(m.decoder.first.w.grad for m in found))


@pytest.mark.equation("vq.kl", "KL = -ln p(k): n ln K with the uniform prior, -ln PixelCNN(k) with a learned one",
                      bound=1e-10)
def test_the_kl_is_the_length_of_the_code(measure, rng):
    model, x, _, k = spread_out()
    measure(model.elbo(x, rng).kl.data - 16 * np.log(6))
    model.use(PixelCNN(6, (4, 4), 4, 1, rng=rng).astype(np.float64))
    measure(model.elbo(x, rng).kl.data + model.code_prior.log_prob(k.reshape(8, 4, 4)).data)
    assert model.loss(x, rng)[1]["kl"] == pytest.approx(model.elbo(x, rng).kl.data.mean())


def test_its_likelihood_is_a_bound_on_the_sum_over_all_codes(rng):
    """A grid of one place, where that sum is K terms."""
    model = VQVAE(4, 2, (3,), codes=5, rng=rng).astype(np.float64)
    model.codebook.e.assign(rng.standard_normal((5, 2)))
    x = (rng.random((6, 4)) < 0.5).astype(float)
    joint = [model.decode(np.tile(e, (6, 1, 1, 1))).log_prob(x).data - np.log(5) for e in model.codebook.e.data]
    bound = model.log_likelihood(x, 10, rng)
    np.testing.assert_allclose(bound, np.array(joint)[model.encode(x).k.reshape(-1), np.arange(6)])
    assert (bound < special.logsumexp(joint, axis=0)).all()


def test_evaluation_changes_nothing():
    model = model_of()
    before = model.state()
    evaluate(model, np.float32(images() / 255), np.random.default_rng(0))
    assert all(np.array_equal(a, before[name]) for name, a in model.state().items())


@pytest.mark.parametrize("codebook", ["ema", "gradient"])
def test_it_learns_four_patterns_and_uses_many_codes(codebook):
    data = np.repeat(np.kron(np.eye(4, dtype=np.uint8), np.full((1, 16), 255, np.uint8)), 8, axis=0)
    model = model_of(codebook=codebook)
    rows = train(model, data, 40)
    assert rows[-1]["recon"] > -3 > rows[0]["recon"] and rows[-1]["perplexity"] > 2
    x = np.float32(data / 255)
    assert np.mean((model.reconstruct(x) - x) ** 2) < 0.01


def test_no_seed_gives_a_nan():
    x = np.random.default_rng(0).integers(0, 256, (24, 784), np.uint8)
    for seed in range(20):
        rng = np.random.default_rng(seed)
        model = VQVAE(rng=rng)
        rows = fit(model, Batches(x, 8), epochs=1, rng=rng, optimizer=optim.Adam(model.parameters(), 1e-2))
        assert np.isfinite([*rows[0].values()]).all() and all(np.isfinite(a).all() for a in model.state().values())
        assert np.isfinite(model.sample(2, rng)).all()


def test_a_run_that_was_stopped_ends_like_one_that_never_was(tmp_path):
    def run(epochs, seed=0, **options):
        model = model_of(seed)
        fit(model, Batches(images(), 4), epochs=epochs, rng=np.random.default_rng(seed),
            optimizer=optim.Adam(model.parameters()), **options)
        return model.state()
    whole = run(4)
    run(2, checkpoint=tmp_path / "run.npz")
    again = run(4, seed=9, checkpoint=tmp_path / "run.npz", resume=True)
    assert {"codebook.e", "codebook.uses", "codebook.sums"} <= set(whole)
    assert all(np.array_equal(whole[name], again[name]) for name in whole)


def test_the_contract(rng):
    model, x = VQVAE(rng=rng), rng.random((6, 784), np.float32)
    before, q = x.copy(), model.encode(x)
    assert q.k.shape == (6, 7, 7) and q.mean.shape == q.z_e.shape == (6, 7, 7, 16) and model.codes(x).shape == (6, 7, 7)
    loss, terms = model.loss(x, rng)
    loss.backward()
    assert set(terms) == {"elbo", "recon", "kl"} and terms["elbo"] == pytest.approx(terms["recon"] - terms["kl"])
    assert all(p.grad.dtype == np.float32 for p in model.parameters() if p is not model.codebook.e)
    assert model.sample(3, rng).shape == (3, 784) and set(np.unique(model.sample(3, rng, noise=True))) <= {0, 1}
    assert model.reconstruct(x).shape == (6, 784) and model.log_likelihood(x, 5, rng).shape == (6,)
    assert (x == before).all() and repr(model).startswith("VQVAE(784 -> 7 x 7 of 128 words, bernoulli)")
    assert VQVAE(1024, 4, (8, 8, 8), likelihood="gaussian", variance="learned", rng=rng).grid == (4, 4)


@pytest.mark.parametrize("call, message", [
    (lambda rng: VQVAE(783, rng=rng), r"halved for each: not \(32, 64\) and 783 pixels"),
    (lambda rng: VQVAE(36, rng=rng), "halved for each"), (lambda rng: VQVAE(hidden=(), rng=rng), "one width or more"),
    (lambda rng: VQVAE(codes=0, rng=rng), "codes must be a positive integer, not 0"),
    (lambda rng: VQVAE(codes=8.0, rng=rng), "codes must be a positive integer, not 8.0"),
    (lambda rng: VQVAE(codebook="kmeans", rng=rng), "codebook must be one of 'ema', 'gradient', not 'kmeans'"),
    (lambda rng: VQVAE(commitment=-1, rng=rng), "commitment must be a number >= 0, not -1"),
    (lambda rng: VQVAE(decay=1.0, rng=rng), "decay and restart must be less than 1, not 1.0 and 0.1"),
    (lambda rng: VQVAE(restart=np.nan, rng=rng), "restart must be a number >= 0, not nan"),
    (lambda rng: VQVAE(activation="step", rng=rng), "activation must be one of"),
    (lambda rng: VQVAE(latent_dim=0, rng=rng), "latent_dim"),
    (lambda rng: model_of().loss(np.zeros((2, 8, 8), np.float32), rng), r"shape \(batch, 64\)"),
    (lambda rng: model_of().loss(np.full((2, 64), np.nan, np.float32), rng), "finite"),
    (lambda rng: train(model_of(codes=65), images(4)), "of 65 is larger than its first batch, of 64 vectors"),
    (lambda rng: model_of().use(PixelCNN(7, (4, 4), rng=rng)), r"prior of 7 codes on a grid \(4, 4\) is not one of 6"),
    (lambda rng: model_of().use(PixelCNN(6, (7, 7), rng=rng)), r"on a grid \(7, 7\) is not one of 6 on \(4, 4\)"),
    (lambda rng: PixelCNN(3, 7, rng=rng), r"grid must be a height and a width, such as \(7, 7\), not 7"),
    (lambda rng: PixelCNN(3, rng=1), "rng must be a numpy.random.Generator"),
    (lambda rng: PixelCNN(0, rng=rng), "codes must be"), (lambda rng: PixelCNN(3, (0, 2), rng=rng), "each of grid"),
    (lambda rng: PixelCNN(3, (2, 2), rng=rng).log_prob(np.zeros((2, 3, 3), int)), r"\(batch, 2, 2\) .*not \(2, 3, 3\)"),
    (lambda rng: PixelCNN(3, (2, 2), rng=rng).log_prob(np.zeros((0, 2, 2), int)), "at least one row"),
    (lambda rng: PixelCNN(3, (2, 2), rng=rng).sample(2.5, rng), "n must be a positive integer, not 2.5"),
    (lambda rng: PixelCNN(3, (2, 2), rng=rng).sample(2, 0), "rng must be a numpy.random.Generator, .* not 0"),
    (lambda rng: model_of().codes(np.zeros((0, 64), np.float32)), "at least one row"),
    (lambda rng: model_of().use(None), "a prior of codes must be a PixelCNN, not None"),
    (lambda rng: PixelCNN(3, (2, 2), rng=rng).log_prob(np.full((1, 2, 2), 3)), "from 0 to 2, and these go from 3 to 3"),
    (lambda rng: PixelCNN(3, (2, 2), rng=rng).loss(np.full((1, 4), 0.5), rng), "whole numbers"),
    (lambda rng: PixelCNN(3, (2, 2), rng=rng).loss(np.full((1, 4), np.nan), rng), "whole numbers")])
def test_what_cannot_be_is_refused(rng, call, message):
    with pytest.raises(ValueError, match=message):
        call(rng)


# The prior of codes

def prior_of(rng, codes=3, grid=(2, 2)):
    """A PixelCNN with opinions."""
    prior = PixelCNN(codes, grid, 4, 2, rng=rng).astype(np.float64)
    for p in prior.parameters():
        p.assign(3 * p.data + 0.1)
    return prior


@pytest.mark.equation("pixelcnn.chain-rule", "sum over all K^n grids of p(k) = 1", bound=1e-10)
def test_the_probabilities_of_all_grids_sum_to_one(measure, rng):
    every = np.array([*product(range(3), repeat=4)]).reshape(-1, 2, 2)
    p = np.exp(prior_of(rng).log_prob(every).data)
    measure(p.sum() - 1)
    assert p.max() > 10 * p.min()


@pytest.mark.equation("pixelcnn.causal", "p(k_i | .) is the same whatever is at i and after it", bound=1e-10)
def test_a_code_is_predicted_from_those_before_it_alone(measure, rng):
    prior, k = prior_of(rng, 5, (4, 5)), rng.integers(0, 5, (1, 4, 5))
    before, seen = prior.predict(k).logits.data.reshape(20, 5), np.zeros((20, 20), bool)
    for j in range(20):
        other = k.copy()
        other.reshape(-1)[j] = (k.reshape(-1)[j] + 1) % 5
        change = prior.predict(other).logits.data.reshape(20, 5) - before
        measure(change[:j + 1])
        seen[:, j] = np.abs(change).max(axis=1) > 0
    assert seen[np.tril_indices(20, -1)].mean() > 0.9 and seen[1, 0] and seen[5, 0] and seen[5, 1]
    assert [layer.mask.sum() for layer in (prior.first, *prior.layers)] == [12, 5, 5]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("width, grid, layers", [(64, (7, 7), 3), (1, (3, 4), 2), (3, (5, 4), 1), (8, (4, 6), 2),
                                                 (16, (2, 9), 2), (17, (3, 3), 0), (32, (5, 5), 2)], ids=str)
def test_no_bit_of_a_code_reaches_its_own_logits_or_earlier_ones(width, grid, layers, dtype, rng):
    prior, k = PixelCNN(9, grid, width, layers, rng=rng).astype(dtype), rng.integers(0, 9, (2, *grid))
    n, logits = k[0].size, lambda k: prior.predict(k.reshape(2, *grid)).logits.data.reshape(2, -1, 9)
    before = logits(k)
    for i in {*range(0, n, n // 9), n - 1}:
        other = k.reshape(2, n).copy()
        other[:, i:] = (other[:, i:] + rng.integers(1, 9, other[:, i:].shape)) % 9         # every later code, and k_i
        np.testing.assert_array_equal(logits(other)[:, :i + 1], before[:, :i + 1])
        prior.place.grad = None
        prior.predict(k).logits.reshape(2, n, 9)[:, i].sum().backward()
        assert not prior.place.grad.reshape(n, width)[i + 1:].any()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("width", [1, 4, 7, 8, 16, 33, 64])
@pytest.mark.parametrize("kernel", [1, 3, 5, 7])
def test_no_bit_of_a_hidden_pixel_passes_a_masked_convolution(kernel, width, dtype, rng):
    for middle in (False, True):
        layer = MaskedConv2d(width, kernel, middle=middle, rng=rng).astype(dtype)
        x = rng.standard_normal((2, 5, 4, width)).astype(dtype)
        y = layer(x).data.reshape(2, 20, width)
        for i in (0, 1, 7, 19):
            for change in (100, 1e30):
                later = x.copy()
                later.reshape(2, 20, width)[:, i:] += dtype(change)
                unseen = slice(0, i + (not middle))
                np.testing.assert_array_equal(layer(later).data.reshape(y.shape)[:, unseen], y[:, unseen])


def test_a_place_has_something_to_say_there_and_thereafter(rng):
    prior, k = prior_of(rng, 3, (3, 3)), np.zeros((1, 3, 3), int)
    before = prior.predict(k).logits.data
    prior.place.assign(prior.place.data + np.eye(9)[4].reshape(3, 3, 1))                   # the middle
    change = np.abs(prior.predict(k).logits.data - before).max(axis=-1).reshape(9)
    assert (change[:4] == 0).all() and change[4] > 0.1 and change[5] > 0


@pytest.mark.equation("pixelcnn.chain-rule", "draws of k come as often as p(k) says", bound=5, kind="S")
def test_draws_follow_the_probabilities(measure, rng):
    prior = prior_of(rng, 2)
    every = np.array([*product(range(2), repeat=4)]).reshape(-1, 2, 2)
    p, k = np.exp(prior.log_prob(every).data), prior.sample(4000, rng)
    hits = (k[:, None] == every).all(axis=(2, 3))
    for j in range(16):
        measure((hits[:, j].mean() - p[j]) / np.sqrt(p[j] * (1 - p[j]) / 4000))


def test_a_prior_learns_which_codes_go_together(rng):
    """The first row is two fair bits, the second repeats it: 2 bits in 4 codes."""
    k = np.repeat(rng.integers(0, 2, (256, 1, 2)), 2, axis=1).reshape(256, 4)
    prior = PixelCNN(2, (2, 2), 8, 1, rng=rng)
    rows = fit(prior, Batches(np.float32(k), 32), epochs=15, rng=rng, optimizer=optim.Adam(prior.parameters(), 0.01))
    assert rows[0]["bits"] > 0.6 and rows[-1]["bits"] == pytest.approx(0.5, abs=0.03)
    draws = prior.sample(100, rng)
    assert (draws[:, 0] == draws[:, 1]).mean() > 0.95


def test_samples_of_the_model_are_decoded_draws_of_its_prior(rng):
    model = model_of()
    model.use(PixelCNN(6, (4, 4), 4, 0, rng=rng))
    k = model.code_prior.sample(5, np.random.default_rng(2))
    with no_grad():
        want = model.decode(model.codebook.e.data[k]).mean.data
    np.testing.assert_array_equal(model.sample(5, np.random.default_rng(2)), want)
    model.code_prior.head.b.assign(np.array([0, 0, 40, 0, 0, 0]))
    assert (model.draw(2, rng) == model.codebook.e.data[2]).all()


def test_no_codes_have_no_lengths():
    assert model_of().code_length(np.zeros((0, 4, 4), int)).shape == (0,)
