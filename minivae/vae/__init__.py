"""The variational autoencoder and its family: one file a model, each a small change to the one before."""
from .aae import AAE
from .beta_tcvae import BetaTCVAE
from .beta_vae import AnnealedVAE, BetaVAE
from .cvae import CVAE
from .dip_vae import DIPVAE
from .factor_vae import FactorVAE
from .feed_forward import FeedForward
from .flow_vae import FlowVAE
from .iwae import IWAE
from .ladder_vae import LadderVAE, StackedVAE
from .pixel_cnn import PixelCNN
from .vae import VAE, Elbo
from .vae_gan import VAEGAN
from .vamp_vae import VampVAE
from .vq_vae import VQVAE
