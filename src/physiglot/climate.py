"""Statistics of a chaotic flow: how long a prediction holds, and what is right of it once that is over.

Arrays are (member, time, field) in float64; time is counted in steps; `std` is the standard deviation of the
training split per field. Nothing here knows of one system: bounds, lengths and units come in as arguments.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import xarray as xr

Array = np.ndarray


@dataclass(frozen=True)
class Run:
    """One rollout: the truth, what was predicted from its first states, and what they are measured by."""

    truth: Array
    raw: Array
    std: Array
    fields: list[str]
    dt: float
    units: str
    blow_up: float

    @classmethod
    def of(cls, truth: xr.Dataset, prediction: xr.Dataset, blow_up: float) -> Run:
        """Of `truth.state` and `prediction.prediction`; the training data's std is `truth.attrs["std"]`."""
        state, raw = (
            data.transpose("member", "time", "field").to_numpy().astype(np.float64)
            for data in (truth["state"], prediction["prediction"])
        )
        if len(state) != len(raw):
            raise ValueError(f"the truth has {len(state)} members, the prediction {len(raw)}")
        step = float(truth["time"][1] - truth["time"][0])
        fields = [str(name) for name in truth["field"].to_numpy()]
        units = str(truth["state"].attrs.get("units", "1"))
        return cls(state, raw, np.asarray(truth.attrs["std"], float), fields, step, units, blow_up)

    @property
    def names(self) -> list[str]:
        """The fields with their units, for axes."""
        units = "dimensionless" if self.units == "1" else self.units
        return [f"{field} ({units})" for field in self.fields]

    @cached_property
    def box(self) -> tuple[Array, Array]:
        return walls(self.truth, self.blow_up)

    @cached_property
    def prediction(self) -> Array:
        return confine(self.raw, self.box)

    @cached_property
    def failed(self) -> Array:
        return escaped(self.raw, self.box)

    @property
    def common(self) -> tuple[Array, Array]:
        """Truth and prediction over the steps that both have."""
        steps = min(self.truth.shape[1], self.raw.shape[1])
        return self.truth[:, :steps], self.prediction[:, :steps]


def walls(reference: Array, factor: float) -> tuple[Array, Array]:
    """The box, `factor` times as wide as the reference, that a run must not leave: lower, upper (field,)."""
    low, high = reference.min((0, 1)), reference.max((0, 1))
    centre, half = (low + high) / 2, (high - low) / 2
    return centre - factor * half, centre + factor * half


def escaped(run: Array, box: tuple[Array, Array]) -> Array:
    """Which members became non-finite or left the box at any time: bool (member,)."""
    inside = (run >= box[0]) & (run <= box[1])
    return np.asarray(~inside.all((1, 2)))


def confine(run: Array, box: tuple[Array, Array]) -> Array:
    """The run with every value moved into the box, a NaN to its upper wall: failures stay finite."""
    return np.where(np.isnan(run), box[1], np.clip(run, *box))


def separation(pair: Array, twin: Array, std: Array) -> Array:
    """Root mean square difference over the fields, in std units: (member, time)."""
    with np.errstate(invalid="ignore", over="ignore"):
        return np.sqrt((((twin - pair) / std) ** 2).mean(-1))


def first(condition: Array) -> Array:
    """The first step at which each member meets a condition (member, time); the last step if none does."""
    return np.where(condition.any(1), condition.argmax(1), condition.shape[1] - 1)


def relative_error(truth: Array, prediction: Array) -> tuple[Array, Array]:
    """Numerator Σ(x̂−x)² and denominator Σx² of relative MSE, summed over fields: both (member, time)."""
    return ((prediction - truth) ** 2).sum(-1), np.maximum((truth**2).sum(-1), np.finfo(float).tiny)


def bootstrap(error: Array, power: Array, resamples: int) -> float:
    """Standard error over members of the time mean of Σerror/Σpower, both (member, time); a fixed seed."""
    members = len(error)
    rng = np.random.default_rng(0)
    weight = rng.multinomial(members, np.full(members, 1 / members), size=resamples).astype(float)
    return float(((weight @ error) / (weight @ power)).mean(1).std(ddof=1))


def valid_steps(truth: Array, prediction: Array, std: Array, threshold: float) -> tuple[Array, Array]:
    """First step with √mean((x̂−x)²/σ²) above the threshold, else the last; whether there is one."""
    above = separation(truth, prediction, std) > threshold
    return first(above), np.asarray(above.any(1))


def halves(run: Array) -> tuple[Array, Array]:
    """Two disjoint parts of a run: half of its members each, or half of its time if it has one member."""
    one, other = np.array_split(run, 2, axis=0 if len(run) > 1 else 1)
    return one, other


def block_mean(values: Array, block: int) -> tuple[float, float]:
    """Mean of (member, time) and its standard error from blocks of time longer than its memory."""
    steps = values.shape[1]
    block = max(1, min(block, steps // 2))
    count = steps // block
    means = values[:, : count * block].reshape(-1, block).mean(1)
    return float(values.mean()), float(means.std(ddof=1) / np.sqrt(len(means)))


def moments(run: Array, fields: list[str], names: list[str], block: int) -> dict[str, tuple[float, float]]:
    """Mean and standard error of products of fields, `"x y"` for ⟨xy⟩, if the fields are there."""
    found = {}
    for factors in (name.split() for name in names):
        if set(factors) <= set(fields):
            product = run[..., [fields.index(factor) for factor in factors]].prod(-1)
            found["_".join(["moment", *factors])] = block_mean(product, block)
    return found


def wasserstein(first: Array, second: Array, std: Array, levels: int = 10_000) -> float:
    """Wasserstein-1 distance ∫|F⁻¹ − G⁻¹| du of the marginals in std units, mean over fields."""
    grid = (np.arange(levels) + 0.5) / levels
    distance = 0.0
    for field, scale in enumerate(std):
        ordered = [np.sort(run[..., field], axis=None) for run in (first, second)]
        marginals = [np.interp(grid * (len(v) - 1), np.arange(len(v)), v) for v in ordered]
        distance += np.abs(np.subtract(*marginals)).mean() / scale
    return float(distance / len(std))


def spectrum(run: Array, segment: int) -> Array:
    """Welch power spectrum (frequency, field), pooled over members: Hann, half overlap, total power 1.

    Zero frequency is dropped. A run without any motion has zeros, at Hellinger distance 1 from everything.
    """
    window = np.hanning(segment + 1)[:-1, None]
    power = np.zeros((segment // 2 + 1, run.shape[-1]))
    for start in range(0, run.shape[1] - segment + 1, segment - segment // 2):
        part = run[:, start : start + segment]
        power += np.square(np.abs(np.fft.rfft(window * (part - part.mean(1, keepdims=True)), axis=1))).sum(0)
    power = power[1:]
    total = power.sum(0)
    return power / np.where(total > 0, total, 1.0)


def hellinger(first: Array, second: Array, segment: int) -> float:
    """Hellinger distance √(1 − Σ√(PQ)) of two runs' power spectra, mean over fields: 0 equal, 1 disjoint."""
    segment = min(segment, first.shape[1], second.shape[1])
    overlap = np.sqrt(spectrum(first, segment) * spectrum(second, segment)).sum(0)
    return float(np.sqrt(np.clip(1 - overlap, 0, None)).mean())


def lorenz_map(values: Array) -> Array:
    """Pairs (pair, 2) of successive maxima of one field (member, time), by a parabola through 3 samples.

    E. N. Lorenz, J. Atmos. Sci. 20 (1963) 130, fig. 4. A member with fewer than two maxima counts as the
    fixed point it ends in.
    """
    left, middle, right = values[:, :-2], values[:, 1:-1], values[:, 2:]
    member, step = np.nonzero((middle > left) & (middle >= right))
    left, middle, right = left[member, step], middle[member, step], right[member, step]
    peak = middle + (right - left) ** 2 / (8 * (2 * middle - left - right))
    same = member[1:] == member[:-1]
    resting = values[np.bincount(member, minlength=len(values)) < 2, -1]
    return np.concatenate([np.stack([peak[:-1], peak[1:]], 1)[same], np.stack([resting, resting], 1)])


def map_curve(pairs: Array, points: int = 20_000) -> Array:
    """The curve (point, 2) through pairs in order of their first maximum, at equal steps of arc length."""
    pairs = pairs[np.lexsort(pairs.T[::-1])]
    length = np.concatenate([[0.0], np.hypot(*np.diff(pairs, axis=0).T).cumsum()])
    grid = np.linspace(0, length[-1], points)
    return np.stack([np.interp(grid, length, column) for column in pairs.T], 1)


def map_distance(pairs: Array, reference: Array) -> tuple[float, float]:
    """Mean Euclidean distance of pairs to the reference's curve, and the share of them beyond its range."""
    from scipy.spatial import cKDTree

    distance = cKDTree(map_curve(reference)).query(pairs)[0]
    outside = (pairs < reference.min(0)) | (pairs > reference.max(0))
    return float(distance.mean()), float(outside.any(1).mean())


def distances(run: Array, reference: Array, std: Array, segment: int, field: int | None) -> dict[str, float]:
    """How far a run's climate is from the reference's; the Lorenz map, of `field` in std, if there is one."""
    found = {"wasserstein": wasserstein(run, reference, std), "hellinger": hellinger(run, reference, segment)}
    if field is not None:
        maps = [lorenz_map(states[..., field] / std[field]) for states in (run, reference)]
        found["lorenz_map_distance"], found["lorenz_map_outside"] = map_distance(*maps)
    return found


def correlation_dimension(run: Array, std: Array, points: int = 4_000) -> float:
    """Slope of log C(r) for r of 0.05 to 0.5 std (P. Grassberger, I. Procaccia, Physica D 9 (1983) 189).

    C(r) is the share of pairs closer than r among states drawn evenly over members and time. Lorenz-63: about
    2.05. A run that has shrunk to points has dimension 0.
    """
    from scipy.spatial import cKDTree

    states = (run / std).reshape(-1, run.shape[-1])
    tree = cKDTree(states[:: max(1, len(states) // points)])
    radii = np.geomspace(0.05, 0.5, 8)
    close = np.maximum(tree.count_neighbors(tree, radii) - tree.n, 1)
    return float(np.polyfit(np.log(radii), np.log(close), 1)[0])


def lyapunov(pair: Array, twin: Array, std: Array, low: float = 1e-5, high: float = 0.1) -> tuple[float, float] | None:
    """Largest Lyapunov exponent per step, and its standard error over members, from pairs of trajectories.

    Each pair's log separation is followed from its first passage of `low` to that of `high` (both in std),
    and the exponent is all growth over all time: E. Aurell et al., J. Phys. A 30 (1997) 1. A straight-line
    fit over one window common to all pairs reads 6 % low on Lorenz-63: the window closes with the fastest
    pair, when many still linger near an unstable fixed point. A pair that never grows to `low` counts from
    its start, until it ends or vanishes in rounding; a failed one as grown to `high`. None if the separation
    is above `high` from the start.
    """
    rounding = 1e-14
    gap = np.clip(np.fmin(separation(pair, twin, std), high), rounding, None)
    end = first((gap >= high) | (gap <= rounding))
    begin = first(gap >= max(low, 10 * gap[:, 0].max()))
    begin = np.where(begin < end, begin, 0)
    if not end.any():
        return None
    member, log = np.arange(len(gap)), np.log(gap)
    growth, steps = log[member, end] - log[member, begin], end - begin
    exponent = growth.sum() / steps.sum()
    scatter = growth - exponent * steps
    return float(exponent), float(np.sqrt((scatter**2).sum()) / steps.sum())
