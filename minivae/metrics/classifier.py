"""Which digit is it? A small classifier of MNIST, trained on the project's own engine, to judge any model's samples.

    (1)  h = φ(φ(x W₁ + b₁) W₂ + b₂),  φ = relu;   p(y | x) = softmax(h W₃ + b₃)             [classifier.probabilities]
    (2)  trained on x̃: x moved by s, uniform on {−1, 0, 1}², and, one time in two,
         then drawn from Bernoulli(x̃), so that E x̃ = the mean of x over s                    [classifier.augmentation]
    (3)  error = mean of 1[argmax_y p(y | x) ≠ label]                                        [classifier.error]

x (N, 784) pixels in [0, 1], h (N, 128) features, p (N, 10). A model's samples are bits, or grey, such as E[x | z], and
not always in the middle: hence (2). The weights are shipped, as float16; this trains them again, in half a minute:

    python -m minivae.metrics.classifier

The training digits alone are used for that; of the test digits the file says how many are read right.
"""
from functools import cache
from pathlib import Path

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from autograd import Tensor, no_grad, ops, optim
from autograd.nn import Dropout, Linear, Sequential, check_state

from ..data import Batches, binarise, mnist
from ..data.batches import as_floats, check_data
from ..data.mnist import Digits
from ..distributions import Categorical
from ..files import atomic, read_npz, reading
from ..train import Model, fit

FILE = Path(__file__).with_name("classifier.npz")
HIDDEN, DROPOUT, SHIFT = (512, 128), 0.2, 1
EPOCHS, BATCH, LR = 30, 128, 2e-3
ROWS = 1000                                  # images that are read at once


class DigitClassifier(Model):
    """An MLP 784-512-128-10. Images are (N, 784) or (N, 28, 28): bytes, bits (bool), or floats in [0, 1].

    right   how many of the 10,000 test digits it reads right, as grey images and as bits: what its file claims

    Raises ValueError for images of another shape or dtype, none at all, or any that are not finite and in [0, 1].
    """

    def __init__(self, *, rng: np.random.Generator):
        wide, h = HIDDEN
        self.body = Sequential(Linear(784, wide, "relu", rng=rng), Dropout(DROPOUT),
                               Linear(wide, h, "relu", rng=rng), Dropout(DROPOUT))
        self.head = Linear(h, 10, rng=rng)
        self.right = np.zeros(2, np.int64)

    def loss(self, batch: tuple, rng: np.random.Generator) -> tuple[Tensor, dict[str, float]]:
        x, labels = batch
        x = augment(x, rng) if self.training else x
        p = Categorical(self.head(self.body(x, rng)))
        nll = -p.log_prob(labels).mean()
        return nll, {"nll": nll.item(), "percent_right": 100 * np.mean(p.logits.data.argmax(axis=1) == labels)}

    @no_grad()
    def features(self, x: np.ndarray) -> np.ndarray:
        """h, the last hidden layer, (N, 128), none negative."""
        self.check(x)
        parts = (as_floats(x[i:i + ROWS], self.head.w.dtype).reshape(-1, 784) for i in range(0, len(x), ROWS))
        return np.concatenate([np.asarray(self.body(part)) for part in parts])             # (1)

    @no_grad()
    def probabilities(self, x: np.ndarray) -> np.ndarray:
        """p(y | x), (N, 10)."""
        return np.asarray(ops.softmax(self.head(self.features(x))))                        # (1)

    def predict(self, x: np.ndarray) -> np.ndarray:
        """The likeliest digit of each image, (N,)."""
        return self.probabilities(x).argmax(axis=1)

    def check(self, x):
        check_data(x, bounds=(0, 1))
        if x.shape[1:] not in ((784,), (28, 28)):
            raise ValueError(f"digits have shape (N, 784) or (N, 28, 28), not {x.shape}")
        if x.dtype == np.uint8 and x.max() == 1:
            raise ValueError("bytes go from 0 to 255, and these look like bits, all but black: give them as bool")


def augment(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Images x (B, 784), each moved by up to a pixel, and one in two binarised."""
    padded = np.pad(x.reshape(-1, 28, 28), ((0, 0), (SHIFT, SHIFT), (SHIFT, SHIFT)))
    down, right = rng.integers(0, 2 * SHIFT + 1, (2, len(x)))
    moved = sliding_window_view(padded, (28, 28), axis=(1, 2))[np.arange(len(x)), down, right].reshape(x.shape)
    bits = rng.random(x.shape, x.dtype) < moved
    return np.where(rng.random((len(x), 1)) < 0.5, bits, moved)                            # (2)


def score(model: DigitClassifier) -> np.ndarray:
    """How many of the 10,000 test digits `model` reads right: grey, and as the published draw of bits."""
    images, labels = mnist("test")
    bits = binarise(images, np.random.default_rng(1))
    return np.array([np.sum(model.predict(x) == labels) for x in (images, bits)])          # (3)


def train(digits: Digits, epochs: int, rng: np.random.Generator) -> DigitClassifier:
    """A classifier of these digits, its weights rounded to float16, and what it claims measured."""
    model, batches = DigitClassifier(rng=rng), Batches(digits.images, BATCH, labels=digits.labels)
    rate = optim.warmup_cosine(LR, len(batches) // 2, epochs * len(batches))
    fit(model, batches, epochs=epochs, optimizer=optim.Adam(model.parameters(), rate), rng=rng)
    for p in model.parameters():
        p.assign(p.data.astype(np.float16))
    model.right = score(model.eval())
    return model


def _rounded(model):
    """The state of `model` as its file holds it."""
    return {name: a.astype(np.float16) if a.dtype.kind == "f" else a for name, a in model.state().items()}


def save(path: str | Path, model: DigitClassifier):
    """Write `model`, rounded to float16."""
    with atomic(path) as file:
        np.savez_compressed(file, **_rounded(model))


def load(path: str | Path) -> DigitClassifier:
    """The classifier in a file, ready to judge. Raises ValueError, naming the file, if anything in it is not right."""
    model, arrays = DigitClassifier(rng=np.random.default_rng(0)), read_npz(path)
    with reading(path):
        check_state(_rounded(model), arrays, "a DigitClassifier")
        bad = [name for name, a in arrays.items() if not np.isfinite(a).all()]
        if bad:
            raise ValueError(f"{bad[0]} is not finite")
    model.load_state({name: arrays[name].astype(a.dtype) for name, a in model.state().items()})
    return model.eval()


@cache
def digit_classifier() -> DigitClassifier:
    """The classifier that is shipped. Raises ValueError if its file is missing or damaged."""
    return load(FILE)


def main(path: Path = FILE, digits: Digits | None = None, epochs: int = EPOCHS):
    """Train on the 60,000 training digits, or on `digits`, with seed 0, and write the file."""
    model = train(digits or mnist("train"), epochs, np.random.default_rng(0))
    save(path, model)
    grey, bits = model.right / 100
    print(f"of the 10,000 test digits {grey:.2f} % are read right, of their binarised draw {bits:.2f} %: wrote {path}")


if __name__ == "__main__":
    main()
