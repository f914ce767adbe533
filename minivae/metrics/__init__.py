"""What a model learned, in numbers: of the codes it gives, and of the samples it draws."""
from .disentanglement import DCI, beta_vae_score, dci, factor_vae_score, mig, sap
from .rate import linear_rate_distortion, rate_distortion
from .samples import accuracy, frechet_digits, frechet_distance, mmd, to_unit
