"""Probabilistic principal component analysis: what a linear Gaussian model of k latents can say of Gaussian data.

M. E. Tipping, C. M. Bishop, J. R. Stat. Soc. B 61, 611 (1999). A linear variational autoencoder reaches it exactly, for
its posterior can be rotated to a diagonal one (J. Lucas et al., NeurIPS 2019, arXiv 1911.02469).
"""

import numpy as np


def log_likelihood(covariance: np.ndarray, latents: int) -> float:
    """The largest ⟨ln q⟩, nats per configuration, of q = N(0, WWᵀ + σ²), W of rank `latents`, over N(0, `covariance`).

    The k largest eigenvalues are met, σ² is the mean of the others. With latents ≥ sites − 1 it is minus the entropy.
    """
    covariance = np.asarray(covariance, dtype=np.float64)
    if covariance.ndim != 2 or len(set(covariance.shape)) > 1 or not np.allclose(covariance, covariance.T):
        raise ValueError(f"covariance {covariance.shape}: it must be a symmetric matrix")
    if latents < 0:
        raise ValueError(f"latents {latents}: it must be 0 or more")
    values = np.linalg.eigvalsh(covariance)[::-1]
    if values[-1] <= 0:
        raise ValueError(f"covariance: its smallest eigenvalue is {values[-1]:.3g}, and must be above 0")
    met, rest = values[:latents], values[latents:]
    log_det = np.log(met).sum() + (len(rest) * np.log(rest.mean()) if len(rest) else 0.0)
    return float(-0.5 * (len(values) * (np.log(2 * np.pi) + 1) + log_det))
