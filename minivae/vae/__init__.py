"""The variational autoencoder and its family: one file a model, each a small change to the one before."""
from .beta_tcvae import BetaTCVAE
from .beta_vae import AnnealedVAE, BetaVAE
from .cvae import CVAE
from .dip_vae import DIPVAE
from .factor_vae import FactorVAE
from .feed_forward import FeedForward
from .vae import VAE, Elbo
