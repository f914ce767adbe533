"""Diffusion: noise is added to data in many small steps, and a network learns to take it away again."""
from .ddpm import DDPM
from .mlp import MLPDenoiser
from .schedule import Schedule
from .score import MixtureDenoiser, from_x0, to_x0
from .unet import UNet
from .vlb import VLB
