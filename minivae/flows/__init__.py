"""Normalising flows: densities made by pushing a simple one through invertible maps, one file an idea."""
from .autoregressive import IAF, MAF, MaskedMLP
from .coupling import Coupling
from .flow import Flow, Layer
from .planar import Planar
from .radial import Radial
from .triangular import Triangular
