"""Variational inference: what the ELBO is where everything is exact, ways to climb it, and how to tell how far one got.

Reading order: elbo, cavi, bbvi, transforms, advi, psis, hmc, importance.
"""
from .advi import advi
from .bbvi import bbvi, elbo_gradients, expectation_gradients
from .cavi import BayesianMixture, NormalGamma, cavi_gaussian, cavi_gaussian_mixture, cavi_normal_gamma
from .elbo import Gaussian, LinearGaussian, Terms, bonnet_price, fit_forward, fit_reverse, terms_on_grid
from .hmc import effective_sample_size, hmc, split_rhat
from .importance import importance_bound, iw_elbo, log_weights, snr
from .psis import pareto_k, psis
