"""MADE: an autoencoder that may not look at what it predicts is a distribution, and an exact one.

    (1)  ln p(x) = Σᵢ ln p(xᵢ | those before xᵢ in some order),  so that  Σ p(x) = 1 over {0, 1}ᴰ    [made.chain-rule]
    (2)  p(xᵢ = 1 | those before) = σ(yᵢ),  y = b + (V ⊙ M) φ(c + (W ⊙ M′) x),  with masks M, M′ that cut
         every way from xⱼ to yᵢ unless j is before i:  ∂yᵢ/∂xⱼ = 0 exactly                  [made.autoregressive]
    (3)  xᵢ ~ Bernoulli(σ(yᵢ)), bit by bit in that order, is a draw from p                   [made.sampling]

x (B, D), bits; y (B, D), all factors of (1) from one pass; a draw takes D. The masks are those of
flows/autoregressive.py, equation (1), where the same network makes a flow of numbers. Nothing is latent and nothing
approximate: the loss is −ln p(x) itself. Germain, Gregor, Murray and Larochelle, arXiv:1502.03509, sections 3 and 4,
with one order and one set of masks, where the paper also samples both anew at every step.
"""
import numpy as np

from autograd import no_grad, ops
from autograd.nn import check_rng
from autograd.tensor import Tensor, plain

from ..checks import check_choice, check_count
from ..distributions import Bernoulli
from ..flows import MaskedMLP
from ..train import Model


class MADE(Model):
    """p(x) over `data_dim` bits, by one masked network with `hidden` layers.

    order  "natural", as the bits come; "random", drawn once; or the place of each bit, (D,), a permutation of 0..D−1
    """

    def __init__(self, data_dim: int, hidden: tuple = (500,), *, order: str | np.ndarray = "natural",
                 activation: str = "relu", rng: np.random.Generator):
        check_rng(rng)
        self.data_dim = check_count(data_dim, "data_dim")
        if isinstance(order, str):
            check_choice(order, "order", ("natural", "random"))
            order = np.arange(data_dim) if order == "natural" else rng.permutation(data_dim)
        self.order = np.asarray(order)                             # a buffer, as the masks are
        self.net = MaskedMLP(data_dim, hidden, order=self.order, activation=activation, rng=rng)

    dtype = property(lambda self: self.net.layers[0].w.dtype)

    def predict(self, x) -> Bernoulli:
        """p(xᵢ | those before it) for every i, (B, D), from x (B, D)."""
        return Bernoulli(self.net(x)[:, 0])                                                # (2)

    def log_prob(self, x) -> Tensor:
        """ln p(x), (B,) nats, for x (B, D) of 0 and 1."""
        x = self.check(x)
        return self.predict(x).log_prob(x)                                                 # (1)

    def loss(self, x, rng: np.random.Generator) -> tuple[Tensor, dict[str, float]]:
        """−ln p(x) in nats, averaged over x (B, D)."""
        nll = -ops.mean(self.log_prob(x))
        return nll, {"nll": nll.item()}

    @no_grad()
    def sample(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """n draws of x, (n, D), 0 and 1."""
        check_rng(rng)
        x = np.zeros((check_count(n, "n"), self.data_dim), self.dtype)
        for i in np.argsort(self.order):
            x[:, i] = rng.random(n) < plain(self.predict(x).mean)[:, i]                    # (3)
        return x

    def check(self, x):
        """x, or a ValueError that says what is wrong with it."""
        if not isinstance(x, (np.ndarray, Tensor)) or x.dtype != self.dtype:
            raise ValueError(f"x must be an array of {self.dtype}, as the model is, "
                             f"not {getattr(x, 'dtype', type(x).__name__)}")
        if x.ndim != 2 or x.shape[1] != self.data_dim or len(x) == 0:
            raise ValueError(f"x must have shape (batch, {self.data_dim}) with at least one row, not {np.shape(x)}")
        data = plain(x)
        if not np.array_equal(data, data * data):                  # only 0 and 1 are their own squares
            raise ValueError(f"x must be 0 and 1, for it is bits that have these probabilities; it goes from "
                             f"{data.min()} to {data.max()}: draw bits with minivae.data.binarise")
        return x

    def describe(self):
        return f"MADE({self.data_dim} bits)"
