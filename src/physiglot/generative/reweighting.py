"""Estimates from weighted samples: log-weights lw = −u(x) − ln q(x) of samples x of q, all float64.

u = beta E is known up to the constant ln Z = ln E_q[e^lw]. The mean of lw over q is a lower bound on it, over the
target an upper one.
"""

import numpy as np
from scipy.optimize import brentq
from scipy.special import expit, logsumexp

PRIOR = 10  # exceedances for which the prior on the Pareto shape counts


def mean_error(values: np.ndarray) -> tuple[float, float]:
    """Mean of independent values and its standard error; −inf ± 0 with a value −inf among them."""
    if np.isneginf(values).any():
        return -np.inf, 0.0
    return float(np.mean(values)), float(np.std(values, ddof=1) / np.sqrt(len(values)))


def normalised(lw: np.ndarray) -> np.ndarray:
    """Weights with the sum 1."""
    return np.exp(lw - logsumexp(lw))


def ess(lw: np.ndarray) -> float:
    """Effective sample size per sample, (Σw)²/(M Σw²) in (0, 1]."""
    return float(np.exp(2 * logsumexp(lw) - logsumexp(2 * lw)) / len(lw))


def log_mean(lw: np.ndarray) -> float:
    """ln of the mean weight: the estimate of ln Z by reweighting."""
    return float(logsumexp(lw) - np.log(len(lw)))


def log_mean_error(lw: np.ndarray, rng: np.random.Generator, resamples: int = 200) -> float:
    """Bootstrap error of `log_mean`."""
    w = np.exp(lw - lw.max())
    means = np.array([w[rng.integers(len(w), size=len(w))].mean() for _ in range(resamples)])
    return float(np.std(np.log(np.maximum(means, np.finfo(float).tiny))))


def pareto_shape(x: np.ndarray) -> float:
    """Shape k of a generalised Pareto distribution by its exceedances x > 0, in ascending order.

    The weighted average over profile likelihoods of J. Zhang and M. A. Stephens, Technometrics 51, 316 (2009), drawn
    towards ½ as in A. Vehtari et al., arXiv 1507.02646, appendix C.
    """
    n = len(x)
    points = 30 + int(np.sqrt(n))
    quartile = x[max(0, int(n / 4 + 0.5) - 1)]
    theta = 1 / x[-1] + (1 - np.sqrt(points / (np.arange(1, points + 1) - 0.5))) / (3 * quartile)
    shape = np.log1p(-theta[:, None] * x).mean(1)
    likelihood = n * (np.log(-theta / shape) - shape - 1)
    mean = float(normalised(likelihood) @ theta)
    k = float(np.log1p(-mean * x).mean())
    return (n * k + 0.5 * PRIOR) / (n + PRIOR)


def khat(lw: np.ndarray) -> float:
    """Pareto shape of the largest weights (arXiv 1507.02646): above 0.7 averages with these weights are unreliable.

    −inf if the largest weights are all equal: then they have no tail.
    """
    count = int(min(0.2 * len(lw), 3 * np.sqrt(len(lw))))
    ordered = np.sort(lw)
    cut, top = ordered[-count - 1], ordered[-count:]
    top = top[top > cut]
    if not len(top):
        return -np.inf
    excess = np.exp(top - top[-1]) - np.exp(cut - top[-1])
    return pareto_shape(np.maximum(excess, 1e-300))


def reweighted(values: np.ndarray, lw: np.ndarray) -> tuple[float, float]:
    """Mean of `values` (sample) under the target by normalised weights, and its error (delta method)."""
    w = normalised(lw)
    w, values = w[w > 0], values[w > 0]
    mean = float(w @ values)
    return mean, float(np.sqrt(np.sum((w * (values - mean)) ** 2)))


def acceptance_ratio(own: np.ndarray, reference: np.ndarray, tau: float = 0.5) -> tuple[float, float]:
    """ln Z by the acceptance ratio (C. H. Bennett, J. Comput. Phys. 22, 245 (1976)) and its error.

    `own` and `reference` are lw of samples of q and of the target; the latter have the integrated time `tau`.
    """
    n, m = len(own), len(reference)
    shift = np.log(n / m)

    def excess(c: float) -> float:
        return float(expit(own - c - shift).sum() - expit(c - reference + shift).sum())

    known = np.concatenate([own, reference])
    known = known[np.isfinite(known)]
    c = float(brentq(excess, known.min() - abs(shift) - 40, known.max() + abs(shift) + 40, xtol=1e-12))
    f, g = expit(own - c - shift), expit(c - reference + shift)
    variance = f.var() / f.mean() ** 2 / n + 2 * tau * g.var() / g.mean() ** 2 / m
    return c, float(np.sqrt(variance))
