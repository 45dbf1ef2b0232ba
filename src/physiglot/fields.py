"""What is right of predicted fields (time, field, [z,] y, x): errors, correlations and spectra, one member at a time.

A series is read, measured and forgotten, so that memory holds one of them whatever the size of the ensemble.
Cells that are exactly zero in all of the truth, such as those inside an obstacle, are masked: they count in no sum.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import xarray as xr

Array = np.ndarray
TINY = np.finfo(float).tiny


def dims(data: xr.DataArray) -> tuple[str, ...]:
    """The spatial dimensions, in the order of the array."""
    return tuple(str(d) for d in data.dims if d not in ("member", "time", "field"))


def check_grid(data: xr.DataArray) -> None:
    """Raises ValueError for states that are no fields in a plane or in space."""
    if len(dims(data)) not in (2, 3):
        raise ValueError(
            f"the states have the dimensions {', '.join(map(str, data.dims))}; expected [z,] y, x with them"
        )


def series(data: xr.DataArray, member: int, steps: int) -> Array:
    """The first steps of one member (time, field, …) in double precision; nothing else is read."""
    return np.asarray(data.isel(member=member, time=slice(steps)).values, dtype=np.float64)


def mask(state: xr.DataArray) -> Array:
    """Where all members, times and fields are exactly zero (…): read until no such cell is left."""
    masked = np.ones(state.shape[3:], bool)
    for member in range(len(state)):
        masked &= ~np.any(state.isel(member=member).values, axis=(0, 1))
        if not masked.any():
            break
    return masked


def confined(prediction: Array, truth: Array, blow_up: float) -> tuple[Array, bool]:
    """A series moved into a box `blow_up` times as wide as its truth, per field, and whether it had left it.

    A NaN goes to the upper wall: a failure stays finite and large. A constant truth counts as wide as it is large.
    """
    axes = (0, *range(2, truth.ndim))
    low, high = truth.min(axes, keepdims=True), truth.max(axes, keepdims=True)
    width = np.where(high > low, high - low, np.maximum(np.abs(high), 1.0))
    margin = (blow_up - 1) / 2 * width
    low, high = low - margin, high + margin
    failed = not bool(((prediction >= low) & (prediction <= high)).all())
    return (np.where(np.isnan(prediction), high, np.clip(prediction, low, high)) if failed else prediction), failed


@dataclass(frozen=True)
class Member:
    """One series and its prediction (time, field, …) over their common time, the prediction confined."""

    truth: Array
    prediction: Array
    failed: bool


def members(truth: xr.Dataset, prediction: xr.Dataset, blow_up: float) -> Iterator[Member]:
    """The series of a rollout one after the other. Raises ValueError where truth and prediction do not fit."""
    state, run = truth["state"], prediction["prediction"]
    if state.shape[:1] + state.shape[2:] != run.shape[:1] + run.shape[2:]:
        raise ValueError(f"the truth is {state.shape} (member, time, field, …), the prediction {run.shape}")
    steps = min(state.shape[1], run.shape[1])
    for member in range(len(state)):
        true = series(state, member, steps)
        yield Member(true, *confined(series(run, member, steps), true, blow_up))


@dataclass(frozen=True)
class Scores:
    """Sums over the unmasked cells, each (member, time, field), and which members left their box."""

    error: Array
    power: Array
    variance: Array
    correlation: Array
    failed: Array
    cells: int

    def relative(self) -> Array:
        """e(t) = Σ(x̂−x)² / Σx² over members and cells, un-centred: (time, field)."""
        return self.error.sum(0) / np.maximum(self.power.sum(0), TINY)

    def vrmse(self, epsilon: float) -> Array:
        """√(⟨(x̂−x)²⟩ / (Var x + ε)) of each frame, (member, time, field); 1 is predicting the mean of the frame.

        R. Ohana et al., The Well, arXiv 2412.00568.
        """
        return np.sqrt(self.error / self.cells / (self.variance + epsilon))


def _product(a: Array, b: Array) -> Array:
    """Σab over the cells (time, field, cell): (time, field)."""
    return np.einsum("tfc,tfc->tf", a, b)


def _correlation(true: Array, run: Array) -> Array:
    """Pearson's correlation over the cells; of two constant frames 1 if they are equal, else 0."""
    a, b = true - true.mean(-1, keepdims=True), run - run.mean(-1, keepdims=True)
    scale = np.sqrt(_product(a, a) * _product(b, b))
    return np.where(scale > TINY, _product(a, b) / np.maximum(scale, TINY), (true == run).all(-1))


def _cells(member: Member, seen: Array) -> tuple[Array, Array]:
    """Truth and prediction (time, field, cell) of the cells that are `seen`."""
    if seen.all():
        return member.truth.reshape(*member.truth.shape[:2], -1), member.prediction.reshape(*member.truth.shape[:2], -1)
    return member.truth[..., seen], member.prediction[..., seen]


def score(member: Member, seen: Array) -> tuple[Array, Array, Array, Array]:
    """Σ(x̂−x)², Σx², Var x and the correlation over the cells that are `seen`: each (time, field)."""
    true, run = _cells(member, seen)
    difference = run - true
    return _product(difference, difference), _product(true, true), true.var(-1), _correlation(true, run)


def scores(truth: xr.Dataset, prediction: xr.Dataset, blow_up: float) -> Scores:
    """Of all members of a rollout; see `Scores`."""
    seen = ~mask(truth["state"])
    found, failed = [], []
    for member in members(truth, prediction, blow_up):
        found.append(score(member, seen))
        failed.append(member.failed)
    error, power, variance, correlation = (np.stack(part) for part in zip(*found, strict=True))
    return Scores(error, power, variance, correlation, np.array(failed), int(seen.sum()))


def growth(truth: xr.Dataset, prediction: xr.Dataset, blow_up: float) -> Array:
    """The relative MSE of `Scores` alone (time, field)."""
    seen, error, power = ~mask(truth["state"]), np.zeros(1), np.zeros(1)
    for member in members(truth, prediction, blow_up):
        true, run = _cells(member, seen)
        difference = run - true
        error, power = error + _product(difference, difference), power + _product(true, true)
    return error / np.maximum(power, TINY)


def lasting(correlation: Array, threshold: float) -> tuple[Array, Array]:
    """First step with a correlation (member, time, field) below a threshold, else the last; whether there is one."""
    below = correlation < threshold
    ended = np.asarray(below.any(1))
    return np.where(ended, below.argmax(1), correlation.shape[1] - 1), ended


def octaves(power: Array, wavenumber: Array, most: float) -> Array:
    """Power (…, mode) summed over the bands [1, 2), [2, 4), … up to `most`, in waves per length of the box."""
    edges = 2.0 ** np.arange(int(np.log2(most)) + 1)
    bands = [(wavenumber >= low) & (wavenumber < min(2 * low, most + 0.5)) for low in edges]
    return np.stack([power[..., band].sum(-1) for band in bands], -1)


def isotropic(frames: Array) -> Array:
    """Power of periodic fields (frame, field, …) by octave of |k|, up to the Nyquist wavenumber: (field, octave)."""
    grid = frames.shape[2:]
    axes = tuple(range(2, frames.ndim))
    power = np.square(np.abs(np.fft.fftn(frames, axes=axes))).sum(0) / np.prod(grid) ** 2
    waves = np.meshgrid(*(np.fft.fftfreq(n, 1 / n) for n in grid), indexing="ij")
    wavenumber = np.sqrt(sum(k**2 for k in waves)).ravel()
    return octaves(power.reshape(len(power), -1), wavenumber, min(grid) / 2)


def along(frames: Array) -> Array:
    """Power of lines (frame, field, x), Hann window, by octave of the wavenumber: (field, octave)."""
    size = frames.shape[-1]
    lines = (frames - frames.mean(-1, keepdims=True)) * np.hanning(size + 1)[:-1]
    power = np.square(np.abs(np.fft.rfft(lines, axis=-1))).sum(0) / size**2
    return octaves(power, np.arange(power.shape[-1]), size / 2)


def wake_line(fields: Array, x: Array, y: Array) -> Array:
    """(…, y, x) along the axis of the wake, downstream of a cylinder of radius 1 at the origin: (…, x)."""
    rows = np.flatnonzero(np.abs(y) <= np.abs(y).min() + 1e-9)
    return fields[..., rows, :][..., x > 1.5].mean(-2)


def vorticity(velocity: Array, x: Array, y: Array) -> Array:
    """∂v/∂x − ∂u/∂y of (2, y, x) by central differences: (y, x)."""
    return np.gradient(velocity[1], x, axis=1) - np.gradient(velocity[0], y, axis=0)


def spectra(truth: xr.Dataset, prediction: xr.Dataset, blow_up: float, wake: bool) -> tuple[Array, Array]:
    """Power of truth and prediction by octave over all members and the last half of the time: (field, octave) each."""
    total: list[Array] = []
    for member in members(truth, prediction, blow_up):
        both = [values[len(values) // 2 :] for values in (member.truth, member.prediction)]
        if wake:
            x, y = truth["x"].values, truth["y"].values
            powers = [along(wake_line(values, x, y)) for values in both]
        else:
            powers = [isotropic(values) for values in both]
        total = [a + b for a, b in zip(total, powers, strict=True)] if total else powers
    return total[0], total[1]
