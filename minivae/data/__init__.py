"""Data: MNIST (shipped with the package) and minibatches of any arrays."""
from .batches import Batches, binarise
from .mnist import mnist
