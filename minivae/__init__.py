"""Generative models, from scratch on NumPy. Start at vae/vae.py."""
