"""Data: MNIST, shipped with the package; sprites and points, drawn; the user's own files; minibatches of any."""
from .arrays import load, load_labels
from .batches import Batches, binarise
from .mnist import mnist
from .sprites import sprites
from .toys import TOYS
