"""An export is the state dict of the same model in PyTorch, whose outputs are then the same to 1e-5."""
import numpy as np
import pytest

from autograd import no_grad
from autograd.nn import MLP, GroupNorm, Linear, Module, SelfAttention, Sequential
from minivae import runs
from minivae.__main__ import main
from minivae.diffusion import MLPDenoiser, UNet
from minivae.export import export, state_dict
from minivae.files import read_npz
from minivae.flows.autoregressive import MaskedMLP
from minivae.vae import CVAE, VAE, VQVAE, BetaVAE, PixelCNN, VampVAE
from minivae.vae.batch_norm import NormedMLP
from minivae.vae.pixel_cnn import MaskedConv2d


def loaded(torch, net, path):
    """`net` with the arrays of a file, by the lines of export.py's docstring, every name and shape asked for."""
    arrays = np.load(path)
    net.load_state_dict({name: torch.from_numpy(arrays[name]) for name in arrays})
    return net.eval()


def agree(ours, theirs):
    """Whether two arrays are the same to 1e-5 of the largest."""
    ours, theirs = np.asarray(ours), theirs.detach().numpy()
    return ours.shape == theirs.shape and np.abs(ours - theirs).max() < 1e-5 * max(1, np.abs(theirs).max())


def moved(model, rng):
    """The model with weights that are nowhere as they begin, so that no zero or one hides a mistake."""
    for p in model.parameters():
        p.assign(p.data + 0.1 * rng.standard_normal(p.shape, np.float32))
    return model


def torch_mlp(nn, *sizes, activation="ReLU"):
    layers = [layer for i, o in zip(sizes, sizes[1:]) for layer in (nn.Linear(i, o), getattr(nn, activation)())]
    return nn.Sequential(*layers[:-1])


def torch_vae(torch, D, d, *hidden, C=0, prior=None):
    """A VAE, or, of C numbers y beside x and z, a CVAE with a learned prior: a PyTorch user's own module."""
    nn = torch.nn

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder = torch_mlp(nn, D + C, *hidden, 2 * d)
            self.decoder = torch_mlp(nn, d + C, *hidden[::-1], D)
            self.register_buffer("logvar", torch.zeros(1))
            if prior is not None:
                self.prior_net = torch_mlp(nn, C, *prior, 2 * d)
    return Net()


@pytest.mark.oracle
@pytest.mark.parametrize("cls", [VAE, BetaVAE])
def test_a_vae_goes_on_in_pytorch(rng, oracle, tmp_path, cls):
    torch = oracle("torch")
    model, x = moved(cls(12, latent_dim=3, hidden=(8, 7), rng=rng), rng), rng.random((5, 12), np.float32)
    export(model, tmp_path / "vae.npz")
    net = loaded(torch, torch_vae(torch, 12, 3, 8, 7), tmp_path / "vae.npz")
    mu, logvar = net.encoder(torch.tensor(x)).chunk(2, dim=1)
    q = model.encode(x)
    assert agree(q.mu.data, mu) and agree(q.logvar.data, logvar)
    assert agree(model.decode(q.mu.data).mean, torch.sigmoid(net.decoder(mu)))


@pytest.mark.oracle
def test_a_cvae_goes_on_in_pytorch(rng, oracle, tmp_path):
    torch = oracle("torch")
    model = moved(CVAE(12, 4, 3, (8,), prior_hidden=(6,), rng=rng), rng)
    x, y, z = rng.random((5, 12), np.float32), rng.random((5, 4), np.float32), rng.standard_normal((5, 3), np.float32)
    export(model, tmp_path / "cvae.npz")
    net = loaded(torch, torch_vae(torch, 12, 3, 8, C=4, prior=(6,)), tmp_path / "cvae.npz")
    both = lambda a: torch.tensor(np.concatenate([a, y], axis=1))
    assert agree(model.encode(x, y).mu.data, net.encoder(both(x))[:, :3])
    assert agree(model.decode(z, y).mean.data, torch.sigmoid(net.decoder(both(z))))
    assert agree(model.prior(y).logvar.data, net.prior_net(torch.tensor(y))[:, 3:])


@pytest.mark.oracle
def test_the_convolutions_of_a_vqvae_go_on_in_pytorch(rng, oracle, tmp_path):
    torch = oracle("torch")
    nn, model = torch.nn, moved(VQVAE(64, 5, (4, 6), codes=9, rng=rng), rng)
    net = nn.Module()
    net.encoder, net.decoder, net.codebook = nn.Module(), nn.Module(), nn.Module()
    net.encoder.halve = nn.ModuleList([nn.Conv2d(1, 4, 3, 2, 1), nn.Conv2d(4, 6, 3, 2, 1)])
    net.encoder.last, net.decoder.first = nn.Conv2d(6, 5, 3, padding=1), nn.Conv2d(5, 6, 3, padding=1)
    net.decoder.grow = nn.ModuleList([nn.Conv2d(6, 4, 3, padding=1), nn.Conv2d(4, 1, 3, padding=1)])
    for name, shape in (("e", (9, 5)), ("uses", 9), ("sums", (9, 5))):
        net.codebook.register_buffer(name, torch.zeros(shape))
    net.register_buffer("logvar", torch.zeros(1))
    export(model, tmp_path / "vq.npz")
    loaded(torch, net, tmp_path / "vq.npz")
    x = rng.random((3, 64), np.float32)
    h = torch.tensor(x).reshape(3, 1, 8, 8)
    for layer in net.encoder.halve:
        h = torch.relu(layer(h))
    z_e, q = net.encoder.last(h).permute(0, 2, 3, 1), model.encode(x)
    k = torch.cdist(z_e.reshape(-1, 5), net.codebook.e).argmin(dim=1)
    assert agree(q.z_e.data, z_e) and np.array_equal(q.k.ravel(), k)
    h = net.decoder.first(net.codebook.e[k].reshape(3, 2, 2, 5).permute(0, 3, 1, 2))
    for layer in net.decoder.grow:
        h = layer(nn.functional.interpolate(torch.relu(h), scale_factor=2))
    assert agree(model.reconstruct(x), torch.sigmoid(h.reshape(3, 64)))


def peers_name(name, names):
    """A name of ours, as the network of tests/bench has it."""
    for ours, theirs in names.items():
        if name.startswith(ours + "."):
            return theirs + name[len(ours):]
    return name


@pytest.mark.oracle
def test_the_unet_goes_on_in_pytorch(rng, oracle):
    torch = oracle("torch")
    from tests.bench import denoisers
    unet, net = moved(UNet((1, 28, 28), channels=32, multipliers=(1, 2, 2), rng=rng), rng), denoisers.UNet()
    names = {"stem": "first", "middle.0": "before", "middle.1.norm": "attention.norm", "head": "last",
             "middle.1.attention": "attention", "middle.2": "after", "time.1": "time.2"}
    state = {peers_name(name, names): torch.from_numpy(a) for name, a in state_dict(unet).items()}
    for name in state:
        if name.endswith("skip.weight"):                           # a Linear over channels: a 1 x 1 convolution
            state[name] = state[name][:, :, None, None]
    net.load_state_dict(state)
    x, t = rng.standard_normal((2, 1, 28, 28), np.float32), np.array([1, 777])
    with no_grad():
        assert agree(unet(x, t), net(torch.tensor(x), torch.tensor(t)))


@pytest.mark.oracle
def test_the_denoiser_of_points_goes_on_in_pytorch(rng, oracle):
    torch = oracle("torch")
    from tests.bench import denoisers
    model, net = moved(MLPDenoiser(2, rng=rng), rng), denoisers.MLPDenoiser((128, 128, 128))
    net.load_state_dict({peers_name(name, {"net": "layers"}): torch.from_numpy(a)
                         for name, a in state_dict(model).items()})
    x, t = rng.standard_normal((4, 2), np.float32), np.array([1, 20, 3, 150])
    assert agree(model(x, t), net(torch.tensor(x), torch.tensor(t)))


@pytest.mark.oracle
def test_a_masked_layer_is_a_plain_one_whose_weights_have_the_zeros(rng, oracle):
    torch = oracle("torch")
    mlp, x = moved(MaskedMLP(5, (7, 6), 2, rng=rng), rng), rng.standard_normal((3, 5), np.float32)
    net = torch_mlp(torch.nn, 5, 7, 6, 10, activation="Tanh")
    net.load_state_dict({name: torch.from_numpy(a) for name, a in state_dict(mlp).items()})
    assert agree(np.asarray(mlp(x)).reshape(3, 10), net(torch.tensor(x)))
    conv, x = moved(MaskedConv2d(4, 5, middle=False, rng=rng), rng), rng.standard_normal((2, 6, 6, 4), np.float32)
    net = torch.nn.Conv2d(4, 4, 5, padding=2)
    net.load_state_dict({name: torch.from_numpy(a) for name, a in state_dict(conv).items()})
    assert agree(np.asarray(conv(x)).transpose(0, 3, 1, 2), net(torch.tensor(x).permute(0, 3, 1, 2)))


@pytest.mark.oracle
def test_batch_normalisation_goes_on_with_its_running_averages(rng, oracle, tmp_path):
    torch = oracle("torch")
    nn, ours = torch.nn, moved(NormedMLP(4, 6, 6, 2, rng=rng), rng)
    for _ in range(5):
        ours(3 + 2 * rng.standard_normal((20, 4), np.float32))
    export(ours.eval(), tmp_path / "mlp.npz")
    net = loaded(torch, nn.Sequential(nn.Linear(4, 6, bias=False), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(
        6, 6, bias=False), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 2)), tmp_path / "mlp.npz")
    x = rng.standard_normal((3, 4), np.float32)
    assert agree(ours(x), net(torch.tensor(x)))


@pytest.mark.oracle
def test_attention_and_group_norm_are_those_of_pytorch(rng, oracle):
    torch = oracle("torch")
    nn, part = torch.nn, moved(Sequential(GroupNorm(2, 8, silu=True), SelfAttention(8, 4, rng=rng)), rng)
    state, x = state_dict(part), rng.standard_normal((3, 5, 8), np.float32)
    norm, attention = nn.GroupNorm(2, 8), nn.MultiheadAttention(8, 4, batch_first=True)
    norm.load_state_dict({name: torch.from_numpy(state[f"0.{name}"]) for name in ("weight", "bias")})
    names = {"in_proj_weight": "2.qkv.weight", "in_proj_bias": "2.qkv.bias", "out_proj.weight": "2.out.weight",
             "out_proj.bias": "2.out.bias"}
    attention.load_state_dict({theirs: torch.from_numpy(state[ours]) for theirs, ours in names.items()})
    h = nn.functional.silu(norm(torch.tensor(x).transpose(1, 2)).transpose(1, 2))
    assert agree(part(x), attention(h, h, h, need_weights=False)[0])


def test_everything_that_a_model_knows_is_in_its_export_once(rng):
    for model in (VampVAE(12, pseudo_inputs=3, latent_dim=2, hidden=(4,), rng=rng), PixelCNN(5, (2, 2), 8, rng=rng)):
        found, state = state_dict(model), model.state()
        masks = [name for name in state if name.endswith("mask")]
        assert len(found) == len(state) - len(masks)
        assert sum(a.size for a in found.values()) == sum(a.size for a in state.values()) - sum(
            state[name].size for name in masks)
        before = [a.copy() for a in state.values()]
        for a in found.values():
            a += 1                                                 # they are copies
        assert all(np.array_equal(a, b) for a, b in zip(model.state().values(), before))


def test_a_file_is_plain_arrays_and_dtypes_stay(rng, tmp_path):
    model = MLP(3, 4, 2, rng=rng).astype(np.float64)
    export(model, tmp_path / "new" / "mlp.npz")
    found = read_npz(tmp_path / "new" / "mlp.npz")                 # which refuses pickle
    assert [*found] == ["0.weight", "0.bias", "2.weight", "2.bias"] and found["0.weight"].shape == (4, 3)
    assert all(a.dtype == np.float64 for a in found.values())
    np.testing.assert_array_equal(found["2.weight"], model.layers[1].w.data.T)


def test_what_cannot_be_exported_is_one_clear_error_and_no_file(rng, tmp_path):
    with pytest.raises(ValueError, match="a Module can be exported.*not dict"):
        export({}, tmp_path / "x.npz")
    with pytest.raises(ValueError, match="an export is an .npz file, not .*x.pt"):
        export(MLP(2, 2, rng=rng), tmp_path / "x.pt")
    broken = MLP(2, 2, rng=rng)
    broken.layers[0].w.assign(np.full((2, 2), np.nan))
    with pytest.raises(FloatingPointError, match="0.weight is not finite"):
        export(broken, tmp_path / "x.npz")
    assert not any(tmp_path.iterdir())


@pytest.mark.oracle
def test_the_command_exports_a_run(rng, oracle, tmp_path, capsys):
    torch, out = oracle("torch"), tmp_path / "run"
    np.save(tmp_path / "x.npy", rng.random((20, 6), np.float32))
    assert main(["train", "vae", "--data", str(tmp_path / "x.npy"), "--out", str(out), "--epochs", "1", "--hidden", "5",
                 "--latent-dim", "2"]) == 0
    assert main(["export", str(out), "--out", str(tmp_path / "vae.npz")]) == 0
    assert "encoder.0.weight" in (text := capsys.readouterr().out) and "(5, 6)" in text
    net, model = loaded(torch, torch_vae(torch, 6, 2, 5), tmp_path / "vae.npz"), runs.load(out).model
    z = rng.standard_normal((3, 2), np.float32)
    assert agree(model.decode(z).mean, torch.sigmoid(net.decoder(torch.tensor(z))))
    assert main(["export", str(out), "--out", str(tmp_path / "vae.pt")]) == 1
    assert main(["export", str(tmp_path / "none"), "--out", str(tmp_path / "vae.npz")]) == 1
    assert capsys.readouterr().err.count("error: ") == 2


def test_what_pytorch_has_no_place_for_keeps_its_name(rng):
    class Thing(Module):
        def __init__(self):
            self.w, self.table = np.arange(6.0).reshape(2, 3), [Linear(2, 3, "relu", rng=rng), None, MLP(3, 2, rng=rng)]
    found = state_dict(Thing())                                    # in a list, an activation is no place of its own
    assert [*found] == ["w", "table.0.weight", "table.0.bias", "table.2.0.weight", "table.2.0.bias"]
    assert found["w"].shape == (2, 3)
