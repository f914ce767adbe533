"""python -m tests.mutants [NAME ...] [--list]: plant bugs, one at a time, and see which test notices.

Each mutant is one line as people really get it wrong: a variance for a standard deviation, a sum for a mean, a sign, a
gradient that goes where it should not. It is planted in a scratch copy of the project, never in the project itself;
there the test that should notice is run. A mutant that survives, or whose line is gone, makes the exit status 1.
"""
import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from .ledger import PACKAGES, ROOT

TOGETHER, PATIENCE = 2, 300                  # mutants at a time; seconds after which a test counts as stuck


class Mutant(NamedTuple):
    """The `mistake` that makes `old`, which `file` has once, into `new`; and the `test`, in tests/, that notices."""
    name: str
    file: str
    mistake: str
    old: str
    new: str
    test: str


MUTANTS = [Mutant(*row) for row in (
    # the engine
    ("expm1", "autograd/ops.py", "the derivative of another function",
     "lambda g, y: g * (y + 1))",
     "lambda g, y: g * y)",
     "autograd/test_ops.py::test_every_analytic_vjp_is_the_complex_step"),
    ("subtract", "autograd/ops.py", "a sign",
     "np.subtract, lambda g: g, lambda g: -g)",
     "np.subtract, lambda g: g, lambda g: g)",
     "autograd/test_ops.py::test_every_vjp_is_the_central_difference"),
    ("inverse", "autograd/ops.py", "transposes are missing",
     "-_t(y) @ g @ _t(y)",
     "-y @ g @ y",
     "autograd/test_ops.py::test_inverse_and_determinant_follow_from_their_definitions"),
    ("softmax", "autograd/ops.py", "a factor is lost in a sum",
     "y * (g - np.sum(g * y, axis",
     "y * (g - np.sum(g, axis",
     "autograd/test_ops.py::test_every_vjp_is_the_central_difference"),
    ("cumsum", "autograd/ops.py", "the adjoint runs forwards",
     "np.flip(np.cumsum(np.flip(g, axis), axis), axis)",
     "np.cumsum(g, axis)",
     "autograd/test_ops.py::test_the_gradient_of_a_linear_op_is_its_adjoint"),
    ("scatter", "autograd/ops.py", "of equal indices the last one wins",
     "np.add.at(y, index, x)",
     "y[index] = x",
     "autograd/test_nn.py::test_an_embedding_looks_up_and_adds_up_gradients"),
    ("dropout", "autograd/nn.py", "what is left is not scaled up",
     ".astype(x.dtype) / x.dtype.type(1 - self.p))",
     ".astype(x.dtype))",
     "autograd/test_nn.py::test_dropout_keeps_the_mean"),
    ("attention", "autograd/nn.py", "a root is forgotten",
     "(q * d ** -0.5)",
     "(q / d)",
     "autograd/test_images.py::test_attention_is_a_mean_of_values_weighted_by_what_queries_find_in_keys"),
    ("conv-turn", "autograd/fast/convolution.py", "the kernel is not turned round",
     "w.swapaxes(2, 3)[::-1, ::-1])",
     "w.swapaxes(2, 3))",
     "autograd/test_conv.py::test_both_gradients_are_adjoints_of_the_convolution"),
    ("conv-offset", "autograd/fast/convolution.py", "off by one",
     "(rows + padding) // stride + top + 1",
     "(rows + padding) // stride + top",
     "autograd/test_conv.py::test_both_gradients_are_adjoints_of_the_convolution"),
    ("pool-adjoint", "autograd/pooling.py", "a mean for a sum",
     "avg_pool(g, factor) * factor ** 2)",
     "avg_pool(g, factor))",
     "autograd/test_pooling.py::test_upsampling_and_average_pooling_are_adjoint"),
    ("adam-bias", "autograd/fast/fused.py", "no correction of the bias",
     "lr / (1 - betas[0] ** t)",
     "lr",
     "autograd/test_optim.py::test_adam_is_its_formula"),
    ("ema", "autograd/optim.py", "decay and what is left of it swapped",
     "a += (1 - self.decay) * p.data",
     "a += self.decay * p.data",
     "autograd/test_optim.py::test_the_ema_is_a_geometric_sum"),
    # distributions, and the VAE
    ("rsample", "minivae/distributions.py", "variance for standard deviation",
     "ops.exp(0.5 * self.logvar) * eps",
     "ops.exp(self.logvar) * eps",
     "minivae/test_distributions.py::test_samples_have_the_mean_and_variance"),
    ("entropy", "minivae/distributions.py", "logvar taken for ln σ",
     "LOG_2PI + 1 + logvar",
     "LOG_2PI + 1 + 2 * logvar",
     "minivae/test_distributions.py::test_normal_entropy_is_scipys"),
    ("kl-sign", "minivae/distributions.py", "a sign in the KL",
     "ops.expm1(logvar) - logvar)",
     "ops.expm1(logvar) + logvar)",
     "minivae/test_distributions.py::test_kl_terms_sum_to_the_kl"),
    ("kl-scale", "minivae/distributions.py", "a distance in the wrong unit",
     "(mu - p.mu) * ops.exp(-0.5 * p.logvar)",
     "(mu - p.mu)",
     "minivae/test_distributions.py::test_normal_kl_is_its_integral"),
    ("free-bits", "minivae/vae/vae.py", "a mean for a sum over latents",
     "ops.sum(ops.maximum(q.kl_terms().mean(axis=0)",
     "ops.mean(ops.maximum(q.kl_terms().mean(axis=0)",
     "minivae/test_vae.py::test_free_bits_charge_only_what_exceeds_them"),
    ("warm-up", "minivae/vae/vae.py", "off by one",
     "min(1.0, t / self.kl_warmup)",
     "min(1.0, (t - 1) / self.kl_warmup)",
     "minivae/test_vae.py::test_the_kl_weight_rises_to_one_over_the_warm_up"),
    ("likelihood-mean", "minivae/vae/vae.py", "a sum for a mean of weights",
     "return log_sum - math.log(k)",
     "return log_sum",
     "minivae/test_vae.py::test_exactly_k_samples_are_averaged"),
    ("linear-variance", "minivae/vae/vae.py", "variance for its logarithm",
     "np.full(1, math.log(variance), np.float32)",
     "np.full(1, variance, np.float32)",
     "minivae/test_vae.py::test_importance_weights_average_to_the_exact_evidence_of_a_linear_model"),
    # its variants
    ("iwae-log", "minivae/vae/iwae.py", "the mean of logarithms for the logarithm of the mean",
     "bound = importance_bound(log_w).mean()",
     "bound = log_w.mean()",
     "minivae/test_iwae.py::test_the_loss_is_the_bound_computed_by_hand"),
    ("tc-weights", "minivae/vae/beta_tcvae.py", "1/N in a column, not on the diagonal",
     "log_W[i, i] = -math.log(N)",
     "log_W[:, 0] = -math.log(N)",
     "minivae/test_beta_tcvae.py::test_one_over_n_stands_on_the_diagonal_and_not_in_a_column"),
    ("tc-kernel", "minivae/vae/beta_tcvae.py", "a chain rule stops early",
     "to_mu[j, m] = rate[j, m] * sum_gr",
     "to_mu[j, m] = sum_gr",
     "minivae/test_beta_tcvae.py::test_the_op_is_its_twin"),
    ("capacity", "minivae/vae/beta_vae.py", "a distance without its bars",
     "self.gamma * abs(super().penalty(q, z, kl) - self.target)",
     "self.gamma * (super().penalty(q, z, kl) - self.target)",
     "minivae/test_beta_vae.py::test_kl_costs_gamma_above_the_target_and_is_wanted_below_it"),
    ("cvae-prior", "minivae/vae/cvae.py", "half of the KL taken to N(0, I)",
     "q.logvar - p.logvar)",
     "q.logvar)",
     "minivae/test_cvae.py::test_the_elbo_is_the_conditional_evidence_less_the_kl_to_the_posterior"),
    ("dip", "minivae/vae/dip_vae.py", "1/N is forgotten",
     "centred.T @ centred / len(q.mu)",
     "centred.T @ centred",
     "minivae/test_dip_vae.py::test_the_covariance_is_that_of_samples"),
    ("permute", "minivae/vae/factor_vae.py", "latents permuted together",
     "rng.permuted(z, axis=0)",
     "rng.permutation(z, axis=0)",
     "minivae/test_factor_vae.py::test_permuted_codes_have_the_same_marginals_and_no_correlation"),
    ("aae-sign", "minivae/vae/aae.py", "the wrong player is paid",
     "return -self.gamma * ops.mean(self.critic(z))",
     "return self.gamma * ops.mean(self.critic(z))",
     "minivae/test_aae.py::test_the_loss_is_the_distortion_less_the_mean_logit"),
    ("flow-vae", "minivae/vae/flow_vae.py", "the sign of a log-determinant",
     "ops.sum(z * z - z0 * z0, axis=1) - logdet",
     "ops.sum(z * z - z0 * z0, axis=1) + logdet",
     "minivae/test_flow_vae.py::test_one_sample_of_the_elbo_is_unbiased"),
    ("merge", "minivae/vae/ladder_vae.py", "variance for precision",
     "ops.sigmoid(b.logvar - a.logvar)",
     "ops.sigmoid(a.logvar - b.logvar)",
     "minivae/test_ladder_vae.py::test_the_merge_is_the_normalised_product"),
    ("ladder-kl", "minivae/vae/ladder_vae.py", "the KL of a rung to N(0, I)",
     "return self.q.kl_terms(self.p)",
     "return self.q.kl_terms()",
     "minivae/test_ladder_vae.py::test_the_kl_of_a_rung_is_taken_to_the_prior_that_comes_from_above"),
    ("batch-norm", "minivae/vae/batch_norm.py", "a biased variance is remembered",
     "var(axis=0, ddof=1)",
     "var(axis=0)",
     "minivae/test_batch_norm.py::test_evaluation_uses_the_running_statistics_of_training"),
    ("vamp", "minivae/vae/vamp_vae.py", "a mixture whose weights sum to K",
     "return log_p - math.log(len(logvar.T)), ",
     "return log_p, ",
     "minivae/test_vamp_vae.py::test_the_prior_integrates_to_one"),
    ("straight-through", "minivae/vae/vq_vae.py", "no gradient gets through",
     "z_e + (e[k] - z_e.data)",
     "0 * z_e + e[k]",
     "minivae/test_vq_vae.py::test_the_encoder_gets_the_gradient_of_the_decoders_input"),
    ("commitment", "minivae/vae/vq_vae.py", "a detach is forgotten",
     "ops.square(q.z_e - e.data[q.k])",
     "ops.square(q.z_e - e[q.k])",
     "minivae/test_vq_vae.py::test_commitment_moves_the_encoder_alone"),
    ("codebook-ema", "minivae/vae/codebook.py", "decay and what is left of it swapped",
     "self.decay * self.sums + (1 - self.decay)",
     "(1 - self.decay) * self.sums + self.decay",
     "minivae/test_vq_vae.py::test_a_moving_average_weighs_a_batch_by_its_age"),
    ("pixel-mask", "minivae/vae/pixel_cnn.py", "a pixel sees itself",
     "kernel ** 2 // 2 + middle",
     "kernel ** 2 // 2 + 1",
     "minivae/test_vq_vae.py::test_a_code_is_predicted_from_those_before_it_alone"),
    # flows
    ("gan-penalty", "minivae/paradigms/gan.py", "a sum for a mean",
     "0.5 * self.penalty / len(x) * ops.sum(slope * slope)",
     "0.5 * self.penalty * ops.sum(slope * slope)",
     "minivae/paradigms/test_gan.py::test_the_critic_pays_for_its_slope_at_the_data"),
    ("made-mask", "minivae/flows/autoregressive.py", "a mask shifted by one",
     "degrees[-1][:, None] < np.tile",
     "degrees[-1][:, None] <= np.tile",
     "minivae/test_flows.py::test_a_masked_network_sees_what_is_before_and_nothing_else"),
    ("coupling-inverse", "minivae/flows/coupling.py", "the log-determinant of the other direction",
     "(b - t) * ops.exp(-s)), -ops.sum(s, axis=1)",
     "(b - t) * ops.exp(-s)), ops.sum(s, axis=1)",
     "minivae/test_flows.py::test_the_inverse_undoes_a_layer_and_its_log_determinant"),
    ("planar-kernel", "minivae/flows/planar.py", "off by one",
     "k = (rise - one - wu) / max(norm, tiny)",
     "k = (rise - wu) / max(norm, tiny)",
     "minivae/test_flows.py::test_the_planar_op_is_its_composed_twin"),
    ("radial", "minivae/flows/radial.py", "d for d - 1",
     "(self.dim - 1) * ops.log(rise + r)",
     "self.dim * ops.log(rise + r)",
     "minivae/test_flows.py::test_the_log_determinant_of_a_radial_layer_is_that_of_its_jacobian"),
    ("triangular", "minivae/flows/triangular.py", "a diagonal that is not 1",
     "np.float32), -1)",
     "np.float32))",
     "minivae/test_flows.py::test_the_log_determinant_of_a_triangular_layer_is_zero"),
    # inference
    ("iw-mean", "minivae/inference/importance.py", "a sum for a mean of weights",
     "ops.logsumexp(log_w, axis=0) - math.log(len(log_w))",
     "ops.logsumexp(log_w, axis=0)",
     "minivae/inference/test_importance.py::test_the_bound_is_the_logarithm_of_the_mean_weight"),
    ("stl", "minivae/inference/importance.py", "a detach is forgotten",
     "q = Normal(plain(q.mu), plain(q.logvar))",
     "q = Normal(q.mu, q.logvar)",
     "minivae/inference/test_importance.py::test_sticking_the_landing_leaves_out_the_density_of_q"),
    ("dreg", "minivae/inference/importance.py", "weights not squared",
     "z = still + w[..., None] * (z - still)",
     "z = still + (z - still)",
     "minivae/inference/test_importance.py::test_dreg_weighs_the_path_derivatives_by_squared_weights"),
    ("control-variate", "minivae/inference/bbvi.py", "a baseline that knows the draw",
     "others = lambda x: x.sum(axis=0) - x",
     "others = lambda x: x.sum(axis=0)",
     "minivae/inference/test_bbvi.py::test_the_control_variate_of_a_draw_is_made_of_the_others"),
    ("jacobian", "minivae/inference/transforms.py", "the sign of a log-determinant",
     "return check_density(log_p, z) + log_det",
     "return check_density(log_p, z) - log_det",
     "minivae/inference/test_advi.py::test_a_density_remains_one_without_its_constraint"),
    ("leapfrog", "minivae/inference/hmc.py", "no half step at the end",
     "(step if i < n - 1 else 0.5 * step)",
     "step",
     "minivae/inference/test_hmc.py::test_leapfrog_runs_backwards"),
    ("mean-field", "minivae/inference/cavi.py", "marginal for conditional variance",
     "mu[i] - others / diagonal[i], 1 / diagonal[i]",
     "mu[i] - others / diagonal[i], np.linalg.inv(precision)[i, i]",
     "minivae/inference/test_cavi.py::test_mean_field_has_the_mean_and_the_conditional_variances"),
    ("normal-gamma", "minivae/inference/cavi.py", "off by a half",
     "a = a0 + (len(x) + 1) / 2",
     "a = a0 + len(x) / 2",
     "minivae/inference/test_cavi.py::test_mean_field_has_the_exact_means_of_mu_and_tau"),
    # linear models
    ("whiten", "minivae/linear/pca.py", "variance for standard deviation",
     "return Y / np.sqrt(self.explained_variance_)",
     "return Y / self.explained_variance_",
     "minivae/linear/test_pca.py::test_whitened_coordinates_have_unit_covariance"),
    ("log-density", "minivae/linear/pca.py", "q dimensions counted twice",
     "logdet += (D - q) * math.log(noise)",
     "logdet += D * math.log(noise)",
     "minivae/linear/test_ppca.py::test_the_density_is_that_of_the_dense_gaussian"),
    ("ppca-noise", "minivae/linear/ppca.py", "loadings that contain the noise",
     "found.variances - found.noise, 0)",
     "found.variances, 0)",
     "minivae/linear/test_ppca.py::test_the_gradient_at_the_closed_form_is_zero"),
    ("impute-std", "minivae/linear/missing.py", "variance for standard deviation",
     "= np.sqrt(variance)[missing]",
     "= variance[missing]",
     "minivae/linear/test_missing.py::test_an_imputation_is_the_conditional_mean_with_its_deviation"),
    ("factor-posterior", "minivae/linear/factor_analysis.py", "noise is forgotten",
     "G = inv(np.eye(P.shape[1]) + self.W_.T @ P)",
     "G = inv(np.eye(P.shape[1]) + self.W_.T @ self.W_)",
     "minivae/linear/test_factor_analysis.py::test_the_posterior_is_the_joint_gaussian_conditioned"),
    ("mixture-covariance", "minivae/linear/gaussian_mixture.py", "1/N for 1/Nₖ",
     "raised(scatter / counts[k], floor)",
     "raised(scatter / len(X), floor)",
     "minivae/linear/test_gaussian_mixture.py::test_the_m_steps_covariances_are_weighted_moments"),
    # diffusion
    ("noise-scale", "minivae/diffusion/schedule.py", "variance for standard deviation",
     "self.alpha_bar ** 0.5, rest ** 0.5,",
     "self.alpha_bar ** 0.5, rest,",
     "minivae/test_schedule.py::test_t_steps_of_noising_are_one_draw_from_the_forward_kernel"),
    ("beta-tilde", "minivae/diffusion/schedule.py", "beta for beta-tilde",
     "self.beta_tilde = beta * rest_prev / rest",
     "self.beta_tilde = beta",
     "minivae/test_schedule.py::test_the_posterior_is_bayes_rule"),
    ("last-t", "minivae/diffusion/ddpm.py", "T is never trained",
     "rng.integers(1, s.T, B, endpoint=True)",
     "rng.integers(1, s.T, B)",
     "minivae/test_ddpm.py::test_training_draws_every_time_from_1_to_T_equally_often"),
    ("simple-mean", "minivae/diffusion/ddpm.py", "a mean for a sum over features",
     "return ops.sum(error) / len(x0)",
     "return ops.mean(error)",
     "minivae/test_ddpm.py::test_the_simple_loss_sums_over_features_and_averages_over_the_batch"),
    ("hybrid", "minivae/diffusion/ddpm.py", "a detach is forgotten",
     "plain(f) if parts else f",
     "f",
     "minivae/test_ddpm.py::test_the_bound_in_the_hybrid_loss_does_not_move_the_mean"),
    ("last-noise", "minivae/diffusion/sampling.py", "noise in the last step",
     "np.exp(logvar) * (after > 0 or noise)",
     "np.exp(logvar)",
     "minivae/test_sampling.py::test_last_ddpm_step_adds_no_noise"),
    ("guidance", "minivae/diffusion/sampling.py", "w for w - 1",
     "none + guidance * (f - none)",
     "f + guidance * (f - none)",
     "minivae/test_sampling.py::test_guidance_tilts_the_score_towards_the_class"),
    ("ddim", "minivae/diffusion/sampling.py", "ᾱ_t for its ratio",
     "(1 - alpha_bar[t] / alpha_bar[s])",
     "(1 - alpha_bar[t])",
     "minivae/test_sampling.py::test_a_ddim_step_is_the_published_one"),
    ("score", "minivae/diffusion/score.py", "a square is forgotten",
     "(signal * x0 - xt) / noise ** 2",
     "(signal * x0 - xt) / noise",
     "minivae/test_score.py::test_noise_origin_v_and_score_convert_into_each_other"),
    ("bits", "minivae/diffusion/vlb.py", "bits of an image for bits of a pixel",
     "self.nats / (self.dim * math.log(2))",
     "self.nats / math.log(2)",
     "minivae/test_vlb.py::test_bits_are_nats_by_ln_2_a_dimension"),
    ("edge-bins", "minivae/diffusion/vlb.py", "the last bin ends",
     "np.where(x > 1 - h, far, h)",
     "h",
     "minivae/test_vlb.py::test_the_discretised_likelihood_sums_to_1"),
    # metrics, data, training
    ("information", "minivae/metrics/rate.py", "1/N is forgotten",
     "return total / n + math.log(n)",
     "return total / n",
     "minivae/metrics/test_rate.py::test_information_is_all_of_ln_n_for_sharp_codes_and_nothing_for_collapsed_ones"),
    ("frechet", "minivae/metrics/samples.py", "a factor of two",
     "- 2 * trace",
     "- trace",
     "minivae/test_samples.py::test_gaussians_of_the_same_axes_are_as_far_apart_as_their_standard_deviations"),
    ("mmd", "minivae/metrics/samples.py", "points compared with themselves",
     "(n * xx - 1) / (n - 1), (m",
     "xx, (m",
     "minivae/test_samples.py::test_both_estimates_are_means_over_pairs"),
    ("mig", "minivae/metrics/disentanglement.py", "nats for a share",
     "np.mean(_gap(information) / entropy)",
     "np.mean(_gap(information))",
     "minivae/metrics/test_disentanglement.py::test_mig_sees_a_factor_that_goes_up_and_down_with_its_code"),
    ("binarise", "minivae/data/batches.py", "black pixels that are not",
     "np.uint8) < x)",
     "np.uint8) <= x)",
     "minivae/test_data.py::test_dynamic_binarisation_has_exactly_the_right_probability"),
    ("order", "minivae/data/batches.py", "drawn with replacement",
     "rng.permutation(len(self.data))",
     "rng.integers(len(self.data), size=len(self.data))",
     "minivae/test_data.py::test_an_epoch_visits_every_example_once_in_a_new_order"),
    ("last-batch", "minivae/train.py", "a mean of means",
     "weights=list(map(len, parts))",
     "weights=None",
     "minivae/test_train.py::test_evaluate_weighs_every_example_alike"),
    ("zero-grad", "minivae/train.py", "gradients pile up",
     "        turn.zero_grad()",
     "        pass",
     "minivae/test_train.py::test_training_learns"),
    ("resume", "minivae/train.py", "a resumed epoch in another order",
     "now, rng.bit_generator.state = rng.bit_generator.state, self.start",
     "now = rng.bit_generator.state",
     "minivae/test_checkpoint.py::test_a_resumed_run_ends_like_one_that_never_stopped"),
)]


def plant(mutant: Mutant, root: Path):
    """Put the bug into the project at `root`. Raises ValueError unless its line is there, and only once."""
    path = root / mutant.file
    text = path.read_text()
    if (n := text.count(mutant.old)) != 1:
        raise ValueError(f"{mutant.file} has {mutant.old!r} {n} times, not once")
    path.write_text(text.replace(mutant.old, mutant.new))


def hunt(mutant: Mutant) -> tuple[bool, str]:
    """Whether its test notices the mutant, and what to say of it."""
    start = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="mutant-") as folder:
        for name in (*PACKAGES, "tests", "demos"):
            shutil.copytree(ROOT / name, Path(folder, name), ignore=shutil.ignore_patterns("*.pyc", "gallery"))
        shutil.copy(ROOT / "setup.cfg", folder)
        try:
            plant(mutant, Path(folder))
        except ValueError as error:
            return False, f"STALE: {error}"
        if "kernel" in (Path(folder) / mutant.file).read_text():   # Numba knows no callers: what they compiled is old
            for path in Path(folder).glob("**/*.nb[ci]"):
                path.unlink()
        command = [sys.executable, "-B", "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", f"tests/{mutant.test}"]
        one = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")
        try:
            done = subprocess.run(command, cwd=folder, env=os.environ | one | {"PYTHONPATH": folder},
                                  capture_output=True, text=True, timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            return False, f"STUCK: {mutant.test} had not ended after {PATIENCE} s"
    seconds = time.perf_counter() - start
    if done.returncode == 1:
        return True, f"caught by {mutant.test}  ({seconds:.1f} s)"
    if done.returncode == 0:
        return False, f"SURVIVED {mutant.test}"
    return False, f"BROKEN: pytest ended with {done.returncode}: {done.stdout[-300:]}{done.stderr[-300:]}"


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="which mutants (default: all)")
    parser.add_argument("--list", action="store_true", help="show the mutants, and plant none")
    args = parser.parse_args(argv)
    mutants = {m.name: m for m in MUTANTS}
    for name in args.names:
        if name not in mutants:
            parser.error(f"there is no mutant {name!r}: choose from {', '.join(mutants)}")
    chosen = [mutants[name] for name in args.names] or MUTANTS
    if args.list:
        for m in chosen:
            print(f"{m.name:18} {m.file}: {m.mistake}\n    - {m.old.strip()}\n    + {m.new.strip()}")
        return 0
    start, caught = time.perf_counter(), 0
    with ThreadPoolExecutor(TOGETHER) as pool:
        for m, (good, verdict) in zip(chosen, pool.map(hunt, chosen)):
            caught += good
            print(f"{m.name:18} {m.mistake:50} {verdict}", flush=True)
    print(f"{caught} of {len(chosen)} mutants caught in {time.perf_counter() - start:.0f} s")
    return 0 if caught == len(chosen) else 1


if __name__ == "__main__":
    sys.exit(main())
