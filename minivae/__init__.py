"""Generative models from PCA to diffusion, from scratch on NumPy. Start at vae/vae.py."""
