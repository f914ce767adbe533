"""The layers of a U-Net: what they compute, how they begin, and what they refuse."""
import numpy as np
import pytest
from scipy import special

from autograd import Tensor, grad, gradcheck, nn, ops
from autograd.conv import conv2d
from autograd.nn import Conv2d, GroupNorm, SelfAttention, time_embedding
from autograd.norm import group_norm


# Convolution

@pytest.mark.equation("nn.conv-init", "w and b ~ U(-1/sqrt(in), 1/sqrt(in)), in = k^2 c_in: mean 0, variance 1/(3 in)",
                      bound=5, kind="S")
def test_a_convolution_starts_uniform(measure):
    layer = Conv2d(7, 3000, rng=np.random.default_rng(0))
    assert layer.w.shape == (3, 3, 7, 3000) and layer.w.dtype == layer.b.dtype == np.float32
    for x in (layer.w.data.astype(float).ravel() * 63 ** 0.5, layer.b.data.astype(float) * 63 ** 0.5):
        assert 0.99 < np.abs(x).max() <= 1 + 1e-6
        measure(x.mean() / (1 / (3 * x.size)) ** 0.5)
        measure((np.mean(x ** 2) - 1 / 3) / (4 / 45 / x.size) ** 0.5)


@pytest.mark.parametrize("kernel, stride, padding, bias", [(3, 1, None, True), (3, 2, None, False), (1, 1, None, True),
                                                           (5, 1, 0, True)])
def test_a_convolution_layer_is_conv2d_of_its_parameters(kernel, stride, padding, bias, rng):
    layer = Conv2d(2, 3, kernel, stride=stride, padding=padding, bias=bias, rng=rng)
    x = rng.standard_normal((2, 6, 8, 2)).astype(np.float32)
    y = layer(x)
    want = conv2d(x, layer.w, layer.b, stride=stride, padding=kernel // 2 if padding is None else padding)
    np.testing.assert_array_equal(y.data, want.data)
    assert y.shape == {None: (2, 6 // stride, 8 // stride, 3), 0: (2, 2, 4, 3)}[padding]
    assert list(layer.named_parameters()) == ["w", "b"][:1 + bias]


@pytest.mark.oracle
def test_a_convolution_layer_is_that_of_torch(torch, rng):
    layer, peer = Conv2d(2, 3, stride=2, rng=rng).astype(np.float64), torch.nn.Conv2d(2, 3, 3, stride=2, padding=1)
    with torch.no_grad():
        peer.weight.copy_(torch.tensor(layer.w.data.transpose(3, 2, 0, 1)))
        peer.bias.copy_(torch.tensor(layer.b.data))
    x = rng.standard_normal((2, 6, 8, 2))
    want = peer(torch.tensor(x.transpose(0, 3, 1, 2))).detach().numpy().transpose(0, 2, 3, 1)
    np.testing.assert_allclose(layer(x).data, want, rtol=1e-12, atol=1e-14)


# Group norm

@pytest.mark.equation("norm.group-norm", "y = (x - mu) / sqrt(s^2 + eps) has mean 0, variance s^2 / (s^2 + eps)",
                      bound=1e-10)
@pytest.mark.parametrize("groups", [1, 2, 6])
def test_each_group_of_each_image_has_mean_0_and_variance_1(groups, measure, rng):
    x = rng.uniform(1, 5, (3, 1, 1, 6)) * rng.standard_normal((3, 5, 4, 6)) + 10 * rng.standard_normal((3, 1, 1, 6))
    parts = lambda x: x.reshape(3, 20, groups, -1).swapaxes(1, 2).reshape(3, groups, -1)
    y, variance = group_norm(x, np.ones(6), np.zeros(6), groups), parts(x).var(axis=-1)
    measure(parts(y).mean(axis=-1))
    measure(parts(y).var(axis=-1) - variance / (variance + 1e-5))


def test_a_group_norm_starts_without_gain_or_shift_and_applies_both_before_silu(rng):
    norm, x = GroupNorm(2, 6, silu=True), rng.standard_normal((3, 4, 5, 6)).astype(np.float32)
    plain = group_norm(x, np.ones(6, np.float32), np.zeros(6, np.float32), 2)
    np.testing.assert_allclose(norm(x).data, plain * special.expit(plain), rtol=1e-5, atol=1e-6)
    norm.gain.assign(np.arange(6))
    norm.shift.assign(np.ones(6))
    z = plain * np.arange(6, dtype=np.float32) + 1
    np.testing.assert_allclose(norm(x).data, z * special.expit(z), rtol=1e-5, atol=1e-6)
    assert norm(x).dtype == np.float32 and sum(p.size for p in GroupNorm(8, 64).parameters()) == 128


def test_group_norm_in_float32_keeps_its_digits_far_from_zero(rng):
    x = (1000 + rng.standard_normal((2, 16, 16, 8))).astype(np.float32)
    got = group_norm(x, np.ones(8, np.float32), np.zeros(8, np.float32), 2)
    want = group_norm(x.astype(np.float64), np.ones(8), np.zeros(8), 2)
    np.testing.assert_allclose(got, want, atol=5e-4)               # float32 numbers near 1000 are 6e-5 apart


def test_group_norm_of_a_constant_is_the_shift(rng):
    x = Tensor(np.full((2, 3, 4), 7.0), requires_grad=True)
    y = group_norm(x, np.ones(4), np.arange(4.0), 2)
    np.testing.assert_array_equal(y.data, np.broadcast_to(np.arange(4.0), (2, 3, 4)))
    y.backward(rng.standard_normal(y.shape))
    assert np.isfinite(x.grad).all()


def test_silu_after_group_norm_is_finite_far_out():
    x, gain = np.array([[-1.0], [1.0]])[None], np.array([1e4])
    for dtype in (np.float32, np.float64):
        inputs = [Tensor(v, requires_grad=True, dtype=dtype) for v in (x, gain, 0 * gain)]
        y = group_norm(*inputs, silu=True)
        y.backward(np.ones(y.shape))
        np.testing.assert_allclose(y.data.ravel(), [0, 1e4], rtol=1e-4, atol=1e-30)
        assert all(np.isfinite(v.grad).all() for v in inputs)


def test_group_norm_of_no_images_is_no_images():
    x = Tensor(np.zeros((0, 3, 3, 4)), requires_grad=True)
    group_norm(x, np.ones(4), np.zeros(4), 2).backward(np.zeros((0, 3, 3, 4)))
    assert x.grad.shape == (0, 3, 3, 4)


def test_a_nan_in_one_image_does_not_reach_another(rng):
    x = rng.standard_normal((2, 3, 4))
    x[0, 1, 1] = np.nan
    y = group_norm(x, np.ones(4), np.zeros(4), 2, silu=True)
    assert np.isnan(y[0, :, :2]).all() and np.isfinite(y[0, :, 2:]).all() and np.isfinite(y[1]).all()


# Attention

@pytest.mark.equation("nn.attention", "softmax(q k' / sqrt(d)) v, by loops over images, heads and positions",
                      bound=1e-10)
@pytest.mark.parametrize("heads", [1, 2, 4])
def test_attention_is_a_mean_of_values_weighted_by_what_queries_find_in_keys(heads, measure, rng):
    layer, x = SelfAttention(8, heads, rng=rng).astype(np.float64), rng.standard_normal((2, 3, 2, 8))
    q, k, v = np.split(x.reshape(2, 6, 8) @ layer.qkv.w.data + layer.qkv.b.data, 3, axis=-1)
    d, y = 8 // heads, np.empty((2, 6, 8))
    for b in range(2):
        for h in range(heads):
            part = slice(h * d, (h + 1) * d)
            for i in range(6):
                weight = np.exp([q[b, i, part] @ k[b, j, part] / d ** 0.5 for j in range(6)])
                y[b, i, part] = weight @ v[b, :, part] / weight.sum()
    measure(layer(x).data - (y @ layer.out.w.data + layer.out.b.data).reshape(x.shape))


@pytest.mark.equation("nn.attention", "attention(P x) = P attention(x) for every permutation P of the positions",
                      bound=1e-10)
def test_attention_does_not_know_the_order_of_the_positions(measure, rng):
    layer, x = SelfAttention(8, 2, rng=rng).astype(np.float64), rng.standard_normal((2, 7, 8))
    order = rng.permutation(7)
    measure(layer(x[:, order]).data - layer(x).data[:, order])
    measure(layer(x[:, :6].reshape(2, 3, 2, 8)).data.reshape(2, 6, 8) - layer(x[:, :6]).data)


@pytest.mark.oracle
@pytest.mark.parametrize("heads", [1, 4])
def test_attention_and_its_gradients_are_those_of_torch(heads, torch, rng):
    layer, x, g = SelfAttention(8, heads, rng=rng).astype(np.float64), *rng.standard_normal((2, 3, 5, 8))
    peer = torch.nn.MultiheadAttention(8, heads, batch_first=True)
    pairs = [(layer.qkv.w, peer.in_proj_weight), (layer.qkv.b, peer.in_proj_bias),
             (layer.out.w, peer.out_proj.weight), (layer.out.b, peer.out_proj.bias)]
    with torch.no_grad():
        for ours, theirs in pairs:
            theirs.copy_(torch.tensor(ours.data.T))
    a, b = Tensor(x, requires_grad=True), torch.tensor(x, requires_grad=True)
    y, z = layer(a), peer(b, b, b)[0]
    np.testing.assert_allclose(y.data, z.detach().numpy(), rtol=1e-10, atol=1e-12)
    y.backward(g)
    z.backward(torch.tensor(g))
    for ours, theirs in [(a, b), *pairs]:
        np.testing.assert_allclose(ours.grad, theirs.grad.numpy().T if ours.ndim < 3 else theirs.grad, atol=1e-12)


def test_attention_has_derivatives_of_first_and_second_order(rng):
    layer, x = SelfAttention(4, 2, rng=rng).astype(np.float64), rng.standard_normal((2, 3, 4))
    assert gradcheck(layer, x).error < 1e-6
    assert gradcheck(grad(lambda x: ops.sum(layer(x) ** 2)), x).error < 1e-6


def test_attention_is_float32_and_has_the_parameters_of_two_linear_layers(rng):
    layer = SelfAttention(64, rng=rng)
    assert [sum(p.size for p in part.parameters()) for part in (layer.qkv, layer.out)] == [12_480, 4_160]
    assert layer(rng.standard_normal((2, 3, 64)).astype(np.float32)).dtype == np.float32


# Time

@pytest.mark.equation("nn.time-embedding", "<e(t), e(t')> = sum_i cos w_i (t - t'), w_i = period^(-2 (i - 1) / dim)",
                      bound=1e-10)
@pytest.mark.parametrize("dim, period", [(2, 10_000), (32, 10_000), (6, 100)])
def test_the_inner_product_of_two_times_depends_on_their_distance_only(dim, period, measure, rng):
    t, s = rng.integers(1, 1000, (2, 50))
    e = lambda t: time_embedding(t, dim, period, np.float64)
    w = period ** (-2 * np.arange(dim // 2) / dim)
    measure(np.sum(e(t) * e(s), axis=1) - np.cos(w * (t - s)[:, None]).sum(axis=1))
    measure(e(t) @ e(s).T - e(t + 7) @ e(s + 7).T)


def test_a_time_embedding_is_sines_then_cosines_in_float32():
    e = time_embedding([0, 1, 1000], 8)
    assert e.shape == (3, 8) and e.dtype == np.float32
    np.testing.assert_array_equal(e[0], [0] * 4 + [1] * 4)
    np.testing.assert_allclose(e[:, 0], np.sin([0, 1, 1000]), rtol=1e-6)
    np.testing.assert_allclose(e[:, 5], np.cos([0, 0.1, 100]), rtol=1e-6)


def test_every_time_has_an_embedding_of_its_own():
    e = time_embedding(np.arange(1, 1001), 32)
    distance = np.linalg.norm(e[:, None] - e[None], axis=-1) + 9 * np.eye(1000)
    assert distance.min() > 0.3


# Bad input

@pytest.mark.parametrize("make, message", [
    (lambda rng: Conv2d(0, 3, rng=rng), "at least 1, not 0, 3 and 3"),
    (lambda rng: Conv2d(1, 3, 0, rng=rng), "at least 1, not 1, 3 and 0"),
    (lambda rng: Conv2d(1, 3, rng=0), "numpy.random.Generator"),
    (lambda rng: GroupNorm(4, 6), "multiple of groups, not 6 and 4"),
    (lambda rng: Conv2d(2.0, 3, rng=rng), "at least 1, not 2.0, 3 and 3"),
    (lambda rng: Conv2d(1, 3, stride=0, rng=rng), "integers stride >= 1 and padding >= 0, not 0 and 1"),
    (lambda rng: Conv2d(1, 3, stride=2.0, rng=rng), "stride >= 1 and padding >= 0, not 2.0 and 1"),
    (lambda rng: Conv2d(1, 3, padding=-1, rng=rng), "not 1 and -1"),
    (lambda rng: GroupNorm(0, 6), "multiple of groups, not 6 and 0"),
    (lambda rng: GroupNorm(1.5, 3), "multiple of groups, not 3 and 1.5"),
    (lambda rng: SelfAttention(6.0, 2, rng=rng), "multiple of heads, not 6.0 and 2"),
    (lambda rng: SelfAttention(6, 4, rng=rng), "multiple of heads, not 6 and 4"),
    (lambda rng: SelfAttention(6, 0, rng=rng), "multiple of heads, not 6 and 0")])
def test_layers_that_cannot_be_are_refused(make, message, rng):
    with pytest.raises(ValueError, match=message):
        make(rng)


@pytest.mark.parametrize("shape, groups, size, message", [
    ((2, 3, 6), 4, 6, r"multiple of groups, not \(2, 3, 6\) and 4"), ((2, 3, 6), 0, 6, "and 0"),
    ((2, 3, 6), 2.0, 6, r"and 2\.0"), ((6,), 2, 6, r"not \(6,\)"), ((2, 3, 6), 2, 3, r"\(6,\), not \(3,\) and \(3,\)")])
def test_group_norm_refuses_what_does_not_fit(shape, groups, size, message):
    with pytest.raises(ValueError, match=message):
        group_norm(np.zeros(shape), np.ones(size), np.zeros(size), groups)


@pytest.mark.parametrize("eps", [0, -1e-5, np.nan])
def test_group_norm_refuses_an_eps_that_lets_it_divide_by_0(eps):
    with pytest.raises(ValueError, match="group_norm needs eps > 0"):
        group_norm(np.zeros((2, 3, 6)), np.ones(6), np.zeros(6), 2, eps=eps)


def test_sizes_may_be_numpys_integers(rng):
    one, two, x = np.int64(1), np.int64(2), rng.standard_normal((2, 4, 4, 2))
    w = rng.standard_normal((3, 3, 2, 4))
    np.testing.assert_array_equal(conv2d(x, w, stride=two, padding=one), conv2d(x, w, stride=2, padding=1))
    layer = Conv2d(two, two, np.int64(3), stride=two, padding=one, rng=rng).astype(np.float64)
    assert layer(x).shape == (2, 2, 2, 2) and "stride 2" in repr(layer)
    assert GroupNorm(two, np.int64(4)).astype(np.float64)(rng.standard_normal((2, 3, 4))).shape == (2, 3, 4)
    np.testing.assert_array_equal(time_embedding([3], np.int64(4)), time_embedding([3], 4))


@pytest.mark.parametrize("t, dim", [([1], 3), ([1], 0), ([1], 4.0), (1, 4), ([[1]], 4)])
def test_a_time_embedding_of_an_odd_width_or_no_list_of_times_is_refused(t, dim):
    with pytest.raises(ValueError, match=r"t \(B,\) and an even dim >= 2"):
        time_embedding(t, dim)


def test_layers_say_what_they_are(rng):
    net = nn.Sequential(Conv2d(2, 8, stride=2, rng=rng), GroupNorm(4, 8, silu=True), SelfAttention(8, 2, rng=rng))
    for line in ("Conv2d(2 -> 8, 3 x 3, stride 2)", "GroupNorm(4 groups of 2, silu)", "SelfAttention(8, 2 heads)"):
        assert line in repr(net)
