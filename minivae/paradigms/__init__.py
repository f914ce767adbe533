"""Paradigms: one small model of each kind. RealNVP is in flows, the VAE in vae, DDPM in diffusion."""
from .gan import GAN
from .made import MADE
from .score_model import ScoreModel, implicit_loss, noise_levels
