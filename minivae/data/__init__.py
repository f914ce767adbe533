"""Data: MNIST, shipped with the package; the user's own files; minibatches of either."""
from .arrays import load
from .batches import Batches, binarise
from .mnist import mnist
from .sprites import sprites
