"""The variational autoencoder and its family: one file a model, each a small change to the one before."""
from .vae import VAE, Elbo
