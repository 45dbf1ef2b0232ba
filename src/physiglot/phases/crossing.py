"""Where P(T) crosses one half: the paper's tanh fit, a logistic and an isotonic one, with bootstrap errors.

No function here is told where a transition is. A fit that fails is data: NaN, with a status that says why.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

STATUS = ("crossed", "not converged", "no crossing", "flat")
CROSSED, NOT_CONVERGED, NO_CROSSING, FLAT = range(4)
FEWEST = 4
LEAST = 0.2  # a curve whose means span less tells nothing apart: that it passes ½ is noise
TOLERANCE = 1e-12


@dataclass(frozen=True)
class Crossing:
    """The temperature at which P = ½, the distance from P = ¼ to P = ¾ (both NaN without one), and what happened."""

    temperature: float
    width: float
    status: int
    parameters: tuple[float, ...] = ()


def lost(status: int) -> Crossing:
    return Crossing(np.nan, np.nan, status)


def curve(temperature: np.ndarray, probability: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Distinct temperatures, the mean of P at each, and how many values that mean has.

    Least squares on all values is least squares on these means with these weights.
    """
    levels, where, count = np.unique(temperature, return_inverse=True, return_counts=True)
    if len(levels) < FEWEST:
        raise ValueError(f"{len(levels)} distinct temperatures: a fit needs at least {FEWEST}")
    return levels, np.bincount(where, probability) / count, count.astype(float)


def _guess(t: np.ndarray, p: np.ndarray) -> np.ndarray:
    """Starting values of a, b, c, d from the plateaus and where the curve is half-way between them."""
    low, high = p.min(), p.max()
    amplitude = max(0.5 * (high - low), 1e-3)
    rising = p[len(p) // 2 :].mean() >= p[: len(p) // 2].mean()
    middle = t[np.argmin(np.abs(p - 0.5 * (low + high)))]
    inside = np.abs(p - 0.5 * (low + high)) < 0.8 * amplitude
    width = max(np.ptp(t[inside]) if inside.any() else 0.0, np.ptp(t) / len(t))
    slope = 2.0 / width * (1 if rising else -1)
    return np.array([amplitude, slope, -slope * middle, 0.5 * (low + high)])


def tanh_fit(t: np.ndarray, p: np.ndarray, weight: np.ndarray, most: int = 200) -> Crossing:
    """P = a tanh(bT + c) + d by least squares (Levenberg–Marquardt), T = (artanh((½ − d)/a) − c)/b."""
    x, damping, scale = _guess(t, p), 1e-3, np.sqrt(weight / weight.sum())

    def residual(x: np.ndarray) -> np.ndarray:
        return scale * (x[0] * np.tanh(x[1] * t + x[2]) + x[3] - p)

    error = residual(x)
    cost, converged = error @ error, False
    for _ in range(most):
        tanh = np.tanh(x[1] * t + x[2])
        inner = x[0] * (1 - tanh**2)
        jacobian = scale[:, None] * np.stack([tanh, inner * t, inner, np.ones_like(t)], axis=1)
        normal, gradient = jacobian.T @ jacobian, jacobian.T @ error
        try:
            step = np.linalg.solve(normal + damping * np.diag(normal.diagonal() + TOLERANCE), gradient)
        except np.linalg.LinAlgError:
            break
        trial = residual(x - step)
        if trial @ trial <= cost:
            converged = cost - trial @ trial < TOLERANCE * (cost + TOLERANCE) or np.abs(step).max() < 1e-9
            x, error, cost, damping = x - step, trial, trial @ trial, max(damping / 5, 1e-12)
            if converged:
                break
        elif damping > 1e12:
            converged = True
            break
        else:
            damping *= 4
    a, b, c, d = x
    if not converged or not np.isfinite(x).all() or a == 0 or b == 0:
        return lost(NOT_CONVERGED)
    return _of_tanh(a, b, c, d, t)


def _of_tanh(a: float, b: float, c: float, d: float, t: np.ndarray) -> Crossing:
    if abs((0.5 - d) / a) >= 1:
        return lost(NO_CROSSING)
    temperature = (np.arctanh((0.5 - d) / a) - c) / b
    if not t[0] <= temperature <= t[-1]:
        return lost(NO_CROSSING)
    ends = [(level - d) / a for level in (0.25, 0.75)]
    width = abs(np.arctanh(ends[1]) - np.arctanh(ends[0])) / abs(b) if max(map(abs, ends)) < 1 else np.nan
    return Crossing(float(temperature), float(width), CROSSED, (float(a), float(b), float(c), float(d)))


def logistic_fit(t: np.ndarray, p: np.ndarray, weight: np.ndarray, most: int = 100) -> Crossing:
    """Maximum likelihood of P = 1/(1 + e^(−(uT + v))) for the fractions p; T = −v/u, the width 2 ln 3/|u|."""
    centre, spread = t.mean(), t.std()
    features = np.stack([(t - centre) / spread, np.ones_like(t)], axis=1)
    w, x = weight / weight.sum(), np.zeros(2)
    for _ in range(most):
        q = 1 / (1 + np.exp(-np.clip(features @ x, -500, 500)))
        hessian = features.T @ ((w * q * (1 - q) + TOLERANCE)[:, None] * features)
        step = np.linalg.solve(hessian, features.T @ (w * (q - p)))
        x = x - step * min(1.0, 5 / np.abs(step).max()) if np.abs(step).max() > 0 else x
        if np.abs(step).max() < 1e-9:
            break
    else:
        return lost(NOT_CONVERGED)
    slope = x[0] / spread
    temperature = centre - x[1] / slope if slope else np.nan
    if not t[0] <= temperature <= t[-1]:
        return lost(NO_CROSSING)
    return Crossing(float(temperature), float(2 * np.log(3) / abs(slope)), CROSSED, (slope, x[1] - slope * centre))


def isotonic(p: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """The nearest non-decreasing sequence in the weighted squares: neighbours that disagree are pooled."""
    value, mass, length = [], [], []
    for level, w in zip(p, weight, strict=True):
        value.append(level)
        mass.append(w)
        length.append(1)
        while len(value) > 1 and value[-2] >= value[-1]:
            total = mass[-2] + mass[-1]
            value[-2:] = [(value[-2] * mass[-2] + value[-1] * mass[-1]) / total]
            mass[-2:], length[-2:] = [total], [length[-2] + length[-1]]
    return np.repeat(value, length)


def isotonic_fit(t: np.ndarray, p: np.ndarray, weight: np.ndarray) -> Crossing:
    """Where the isotonic regression passes ½, linear between temperatures; a falling P is turned round."""
    q = isotonic(p, weight) if (t - t.mean()) @ p >= 0 else 1 - isotonic(1 - p, weight)
    low, high = np.minimum(q[0], q[-1]), np.maximum(q[0], q[-1])
    if not low < 0.5 < high:
        return lost(NO_CROSSING)
    ordered = q if q[-1] > q[0] else 1 - q
    quarter, half, three = (np.interp(level, *_knots(ordered, t)) for level in (0.25, 0.5, 0.75))
    return Crossing(float(half), float(three - quarter), CROSSED)


def _knots(q: np.ndarray, t: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each level once, at the middle of the temperatures that share it."""
    levels, where, count = np.unique(q, return_inverse=True, return_counts=True)
    return levels, np.bincount(where, t) / count


FITS = {"tanh": tanh_fit, "logistic": logistic_fit, "isotonic": isotonic_fit}


def fit(estimator: str, temperature: np.ndarray, probability: np.ndarray) -> Crossing:
    """The crossing of P (sample) or P (sample, draw) by `tanh`, `logistic` or `isotonic`."""
    mean = probability.reshape(len(temperature), -1).mean(1)
    return _fitted(estimator, *curve(temperature, mean))


def _fitted(estimator: str, levels: np.ndarray, means: np.ndarray, count: np.ndarray) -> Crossing:
    return lost(FLAT) if np.ptp(means) < LEAST else FITS[estimator](levels, means, count)


def resampled(temperature: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """How often each chain (member) is drawn, as many draws at each temperature as it has chains."""
    _, where, count = np.unique(temperature, return_inverse=True, return_counts=True)
    drawn = np.empty(len(temperature))
    drawn[np.argsort(where, kind="stable")] = np.concatenate([_multinomial(rng, n) for n in count])
    return drawn


def bootstrap(
    estimators: list[str], temperature: np.ndarray, probability: np.ndarray, resamples: int, seed: int = 0
) -> dict[str, np.ndarray]:
    """Crossings (resample) of resampled chains, within each temperature, and resampled draws of sites; NaN kept."""
    p = probability.reshape(len(temperature), -1)
    levels, where, count = np.unique(temperature, return_inverse=True, return_counts=True)
    rng = np.random.default_rng(seed)
    found: dict[str, list[float]] = {name: [] for name in estimators}
    for _ in range(resamples):
        draws = np.bincount(rng.integers(p.shape[1], size=p.shape[1]), minlength=p.shape[1]) / p.shape[1]
        means = np.bincount(where, (p @ draws) * resampled(temperature, rng)) / count
        for name in estimators:
            found[name].append(_fitted(name, levels, means, count.astype(float)).temperature)
    return {name: np.array(values) for name, values in found.items()}


def _multinomial(rng: np.random.Generator, n: int) -> np.ndarray:
    """How often each of n chains is drawn in n draws."""
    return np.bincount(rng.integers(n, size=n), minlength=n)
