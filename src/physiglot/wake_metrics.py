"""What is measured of a cylinder wake, from fields on the window alone: the same for truth and for prediction.

`fields` (time, [ux, uy, p], y, x) on the points `x` and `y` in radii, `dt` in radius/U between frames; the cylinder is
the disc r < 1, where fields are 0. Speeds in units of the free stream U, p kinematic in U², ν = 2/Re. Coefficients are
per length over ρU²/2 and the diameter, frequencies are Strouhal numbers f d/U. A wake that does not oscillate has the
Strouhal number 0; a value that is not finite makes what depends on it NaN.
"""

import numpy as np

PROBE = (4.0, 0.0)  # where uy tells of the vortices
CONTOUR = 4.0  # the control volume ends here, downstream


def measure(fields: np.ndarray, x: np.ndarray, y: np.ndarray, dt: float, nu: float) -> dict[str, float]:
    """The wake in numbers: `strouhal`, `onset` (time), `drag`, `drag_std`, `lift_rms` and `divergence`.

    Strouhal number and forces are those of the last half of the series; the force is a momentum balance.
    """
    signal = probe(fields, x, y)
    half = slice(len(fields) // 2, None)
    drag, lift = force(fields, x, y, dt, nu)
    return {
        "strouhal": 2 * frequency(signal[half], dt),
        "onset": onset(signal, dt),
        "drag": float(drag[half].mean()),
        "drag_std": float(drag[half].std()),
        "lift_rms": float(lift[half].std()),
        "divergence": divergence(fields, x, y),
    }


def probe(fields: np.ndarray, x: np.ndarray, y: np.ndarray, at: tuple[float, float] = PROBE) -> np.ndarray:
    """uy (time) at a point, linear between grid points."""
    i, j = (int(np.clip(np.searchsorted(axis, a) - 1, 0, len(axis) - 2)) for axis, a in zip((x, y), at, strict=True))
    s, t = (at[0] - x[i]) / (x[i + 1] - x[i]), (at[1] - y[j]) / (y[j + 1] - y[j])
    cell = np.asarray(fields[:, 1, j : j + 2, i : i + 2], float)
    return (1 - t) * ((1 - s) * cell[:, 0, 0] + s * cell[:, 0, 1]) + t * ((1 - s) * cell[:, 1, 0] + s * cell[:, 1, 1])


def crossings(series: np.ndarray, dt: float) -> np.ndarray:
    """Times at which the series rises through its mid-range, linear between samples."""
    centred = series - (series.max() + series.min()) / 2
    k = np.flatnonzero((centred[:-1] < 0) & (centred[1:] >= 0))
    return dt * (k + centred[k] / (centred[k] - centred[k + 1]))


def frequency(series: np.ndarray, dt: float) -> float:
    """Oscillations per time, from the first to the last rise through the mid-range; 0 if there are none."""
    if not np.isfinite(series).all():
        return float("nan")
    times = crossings(series, dt)
    return float((len(times) - 1) / (times[-1] - times[0])) if len(times) > 1 else 0.0


def amplitudes(series: np.ndarray, dt: float) -> tuple[np.ndarray, np.ndarray]:
    """Times and sizes |value| of the extrema of a series (a parabola through three samples)."""
    left, here, right = series[:-2], series[1:-1], series[2:]
    k = np.flatnonzero(((here - left) * (right - here) <= 0) & (here != left))
    bend = left[k] - 2 * here[k] + right[k]
    shift = np.where(bend == 0, 0.0, 0.5 * (left[k] - right[k]) / np.where(bend == 0, 1.0, bend))
    return dt * (k + 1 + shift), np.abs(here[k] - 0.25 * (left[k] - right[k]) * shift)


def onset(signal: np.ndarray, dt: float) -> float:
    """When the oscillation of `signal` (time) reaches half of its saturated amplitude, the median over the last half.

    The envelope is linear between the extrema. The last time, if there is no oscillation.
    """
    if not np.isfinite(signal).all():
        return float("nan")
    late = signal[len(signal) // 2 :]
    times, sizes = amplitudes(signal - (late.max() + late.min()) / 2, dt)
    end = dt * (len(signal) - 1)
    late = sizes[times >= end / 2]
    if len(late) == 0:
        return end
    level = np.median(late) / 2
    k = int(np.argmax(sizes >= level))
    if k == 0:
        return float(times[0])
    return float(np.interp(level, sizes[k - 1 : k + 1], times[k - 1 : k + 1]))


def force(fields: np.ndarray, x: np.ndarray, y: np.ndarray, dt: float, nu: float) -> tuple[np.ndarray, np.ndarray]:
    """Drag and lift coefficients (time) by the momentum balance of the box from the inlet to x = `CONTOUR`.

    F = −d/dt ∫u dA − ∮ u (u·n) ds + ∮ [−p n + ν(∇u + ∇uᵀ)·n] ds; at the ends of the series the derivative is one-sided.
    """
    end = int(np.searchsorted(x, CONTOUR)) + 1
    u, v, p = np.moveaxis(np.asarray(fields[..., :end], float), 1, 0)
    x = x[:end]
    (uy, ux), (vy, vx) = (np.gradient(f, y, x, axis=(1, 2), edge_order=2) for f in (u, v))
    flux_x = np.stack([-u * u - p + 2 * nu * ux, -u * v + nu * (uy + vx)])  # through a face whose normal is x
    flux_y = np.stack([-u * v + nu * (uy + vx), -v * v - p + 2 * nu * vy])
    faces = np.trapezoid(flux_x[..., -1] - flux_x[..., 0], y) + np.trapezoid(flux_y[..., -1, :] - flux_y[..., 0, :], x)
    momentum = np.trapezoid(np.trapezoid(np.stack([u, v]), x), y)
    drag, lift = faces - _rate(momentum, dt)
    return drag, lift


def _rate(series: np.ndarray, dt: float) -> np.ndarray:
    """Time derivative along the last axis, of fourth order inside."""
    if series.shape[-1] < 5:
        return np.gradient(series, dt, axis=-1) if series.shape[-1] > 1 else np.zeros_like(series)
    rate = np.gradient(series, dt, axis=-1, edge_order=2)
    rate[..., 2:-2] = (8 * (series[..., 3:-1] - series[..., 1:-3]) - (series[..., 4:] - series[..., :-4])) / (12 * dt)
    return rate


def divergence(fields: np.ndarray, x: np.ndarray, y: np.ndarray, beyond: float = 1.6) -> float:
    """Root mean square of ∂ux/∂x + ∂uy/∂y by central differences, r > `beyond`, in units of U/radius."""
    u, v = np.asarray(fields[:, 0], float), np.asarray(fields[:, 1], float)
    found = np.gradient(u, x, axis=2)[:, 1:-1, 1:-1] + np.gradient(v, y, axis=1)[:, 1:-1, 1:-1]
    return float(np.sqrt((found[:, _outside(x, y, beyond)[1:-1, 1:-1]] ** 2).mean()))


def _outside(x: np.ndarray, y: np.ndarray, radius: float) -> np.ndarray:
    return np.hypot(x, y[:, None]) > radius


def shifted_error(truth: np.ndarray, prediction: np.ndarray, x: np.ndarray, y: np.ndarray, dt: float) -> dict:
    """The relative mean square error of the last half, at the shift in time that is best for all fields together.

    The shift is at most one period of the truth, in quarters of `dt`, linear between frames of the truth. Returns
    `ux`, `uy`, `p` and `shift` (time, positive if the prediction is ahead). A wrong phase alone is no error.
    """
    half = len(truth) // 2
    rate = frequency(probe(truth, x, y)[half:], dt)
    reach = int(4 * min(1 / (rate * dt) if rate > 0 else 0.0, half))
    shifts = np.arange(-reach, reach + 1) / 4
    errors = _errors(truth, prediction, half, shifts)
    if not np.isfinite(errors).all():
        return {"ux": np.nan, "uy": np.nan, "p": np.nan, "shift": np.nan}
    best = int(errors.sum(1).argmin())
    return {**dict(zip(("ux", "uy", "p"), map(float, errors[best]), strict=True)), "shift": float(shifts[best] * dt)}


def _errors(truth: np.ndarray, prediction: np.ndarray, half: int, shifts: np.ndarray) -> np.ndarray:
    """Relative mean square errors (shift, field) of prediction(t) against truth(t + shift frames), t in the last half.

    All from scalar products of frames, so that a shift costs nothing.
    """
    wanted, given = (
        np.ascontiguousarray(np.swapaxes(f.reshape(*f.shape[:2], -1), 0, 1), float) for f in (truth, prediction[half:])
    )
    cross = given @ np.swapaxes(wanted, 1, 2)
    own, square = (given**2).sum(2), (wanted**2).sum(2)
    neighbour = (wanted[:, :-1] * wanted[:, 1:]).sum(2)
    last, found = len(truth) - 1, []
    for shift in shifts:
        t = np.arange(half, last + 1)
        t = t[(t + shift >= 0) & (t + shift <= last)]
        k = np.minimum((t + shift).astype(int), last - 1)
        part = t + shift - k
        norm = (1 - part) ** 2 * square[:, k] + 2 * part * (1 - part) * neighbour[:, k] + part**2 * square[:, k + 1]
        product = (1 - part) * cross[:, t - half, k] + part * cross[:, t - half, k + 1]
        found.append((own[:, t - half] - 2 * product + norm).sum(1) / norm.sum(1))
    return np.array(found)
