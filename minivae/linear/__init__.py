"""Linear latent variable models: everything that the other models approximate is exact here."""
from .factor_analysis import FactorAnalysis
from .gaussian_mixture import GaussianMixture
from .mixture_ppca import MixturePPCA
from .pca import PCA
from .ppca import PPCA, choose_n_components
