"""The figures of a forecast of fields: truth, prediction and error beside each other, still and moving.

A field in two dimensions with the components ux and uy is shown as vorticity, any other by its last field; one in
three dimensions by its slice in the middle and by isosurfaces half-way between its lowest and its highest values.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from . import drawing, fields, isosurface
from .animation import Animation

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.figure import Figure

    from .tasks.field_forecast import Params

ROWS = ("truth", "prediction", "error")
COLUMNS = 5
GAINS = (1, 3, 10, 30, 100, 300, 1000)


class Pair:
    """What there is to see of one rollout: its truth, its prediction, and the series that are drawn."""

    def __init__(self, truth: xr.Dataset, prediction: xr.Dataset, params: Params):
        self.truth, self.prediction, self.params = truth, prediction, params
        self.names = [str(f) for f in truth["field"].values]
        steps = min(truth.sizes["time"], prediction.sizes["time"])
        self.time = np.asarray(truth["time"].values[:steps], float)
        self.dims = fields.dims(truth["state"])
        self.axes = {
            d: np.asarray(truth[d].values, float) if d in truth else np.arange(truth.sizes[d]) for d in self.dims
        }

    @cached_property
    def chosen(self) -> list[int]:
        """The series drawn: the lowest and the highest parameter of a family; in three dimensions the first alone."""
        members = self.truth.sizes["member"]
        if len(self.dims) == 3 or members == 1:
            return [0]
        if "parameters" not in self.truth:
            return [0, 1]
        order = np.argsort(self.truth["parameters"].values[:, 0], kind="stable")
        return [int(order[-1]), int(order[0])]

    def name(self, member: int) -> str:
        """The series by its parameters: `Re 150` of a wake, `nu 0.0133`, or by its number."""
        if "parameters" not in self.truth:
            return f"test series {member + 1}"
        values = self.truth["parameters"].isel(member=member)
        if self.params.wake:
            return f"Re {2 / float(values.sel(parameter='nu')):.0f}"
        return ", ".join(f"{p} {float(v):.3g}" for p, v in zip(values["parameter"].values, values.values, strict=True))

    @cached_property
    def scores(self) -> fields.Scores:
        return fields.scores(self.truth, self.prediction, self.params.blow_up)

    @cached_property
    def masked(self) -> np.ndarray:
        return fields.mask(self.truth["state"])

    def series(self, member: int) -> tuple[np.ndarray, np.ndarray]:
        """Truth and confined prediction (time, field, …) of one series."""
        true = fields.series(self.truth["state"], member, len(self.time))
        run = fields.series(self.prediction["prediction"], member, len(self.time))
        return true, fields.confined(run, true, self.params.blow_up)[0]

    @property
    def flow(self) -> bool:
        return len(self.dims) == 2 and {"ux", "uy"} <= set(self.names)

    @property
    def quantity(self) -> str:
        return "vorticity" if self.flow else self.names[-1]

    def seen(self, state: np.ndarray) -> np.ndarray:
        """The picture (rows, columns) of a state (field, …): vorticity, or the last field, through the middle."""
        if self.flow:
            picture = fields.vorticity(state[[self.names.index("ux"), self.names.index("uy")]], *self._xy())
        else:
            picture = state[-1] if len(self.dims) < 3 else state[-1, len(state[-1]) // 2]
        masked = self.masked if self.masked.ndim == picture.ndim else self.masked[len(self.masked) // 2]
        return np.where(masked, np.nan, picture)

    def _xy(self) -> tuple[np.ndarray, np.ndarray]:
        return self.axes[self.dims[-1]], self.axes[self.dims[-2]]

    @property
    def extent(self) -> tuple[float, float, float, float]:
        x, y = self._xy()
        return float(x[0]), float(x[-1]), float(y[0]), float(y[-1])

    def shown(self, count: int) -> np.ndarray:
        """Steps at equal distances, the last one included, the given state left out."""
        last = len(self.time) - 1
        return np.unique(np.linspace(last / count, last, count).round().astype(int))


def _scale(truth: np.ndarray) -> dict[str, Any]:
    """Colours of a quantity: diverging about zero if it has both signs, else sequential."""
    low, high = np.nanpercentile(truth, [0.5, 99.5])
    if low < 0 < high:
        return {"cmap": "RdBu_r", "vmin": -max(-low, high), "vmax": max(-low, high)}
    return {"cmap": "viridis", "vmin": low, "vmax": max(high, low + 1e-12)}


def _gain(error: np.ndarray, width: float) -> int:
    """How many times the error is magnified, so that it shows in colours of the same width."""
    size = float(np.nanpercentile(np.abs(error), 99))
    return max((g for g in GAINS if 0 < g * size <= width), default=1)


def _picture(axis: Any, values: np.ndarray, extent: Any, **look: Any) -> Any:
    axis.set(xticks=[], yticks=[])
    for spine in axis.spines.values():
        spine.set_visible(False)
    axis.set_facecolor("#bdbdbd")
    return axis.imshow(values, origin="lower", extent=extent, interpolation="bilinear", **look)


def states(pair: Pair) -> Figure:
    """Rows of truth, prediction and error, columns of times, for each series drawn."""
    steps = pair.shown(COLUMNS)
    rows = [(m, k) for m in pair.chosen for k in range(3)]
    x0, x1, y0, y1 = pair.extent
    height = max(0.7, 1.9 * (y1 - y0) / (x1 - x0))
    figure, axes = drawing.panels(len(rows), len(steps), 1.9 * len(steps) + 1.4, (height + 0.12) * len(rows) + 0.7)
    for i, member in enumerate(pair.chosen):
        true, run = (np.stack([pair.seen(s[t]) for t in steps]) for s in pair.series(member))
        look = _scale(true)
        width = (look["vmax"] - look["vmin"]) / 2
        gain = _gain(run - true, width)
        error = {"cmap": "PuOr_r", "vmin": -width, "vmax": width}
        for k, values in enumerate((true, run, gain * (run - true))):
            for axis, value in zip(axes[3 * i + k], values, strict=True):
                image = _picture(axis, value, pair.extent, **(error if k == 2 else look))
            name = ROWS[k] if k < 2 or gain == 1 else f"error × {gain}"
            axes[3 * i + k, 0].set_ylabel(name)
            if k:
                label = pair.quantity if k == 1 else f"{pair.quantity}{'' if gain == 1 else f' × {gain}'}"
                figure.colorbar(image, ax=list(axes[3 * i + k]), label=label, aspect=12, pad=0.01)
        for axis, t in zip(axes[3 * i], pair.time[steps], strict=True):
            axis.set_title(f"{pair.name(member)}, t = {t:g}" if axis is axes[3 * i, 0] else f"t = {t:g}", fontsize=8.5)
    return figure


def _surface(axis: Any, volume: np.ndarray, level: float, size: int) -> Any:
    reach = isosurface.reach(volume.shape)
    for edge in isosurface.edges(volume.shape):
        axis.plot(*edge.T, color="#9a9a9a", linewidth=0.6, zorder=1)
    image = _picture(axis, isosurface.shaded(volume, level, size)[::-1], (-reach, reach, -reach, reach), **SURFACE)
    axis.set_facecolor("none")
    return image


SURFACE: dict[str, Any] = {"cmap": "copper", "vmin": 0, "vmax": 1, "zorder": 2}


def _level(truth: np.ndarray) -> float:
    """Half-way between the lowest and the highest values (time, …) of the last half of the time."""
    return float(np.percentile(truth[len(truth) // 2 :], [5, 95]).mean())


def structure(pair: Pair) -> Figure:
    """Isosurfaces over time in three dimensions; in two, the first field along the middle line against time."""
    if len(pair.dims) == 3:
        return _surfaces(pair)
    name = "uy" if "uy" in pair.names else pair.names[-1]
    index, (x, y) = pair.names.index(name), pair._xy()
    member = pair.chosen[0]
    figure, axes = drawing.panels(1, 3, 10.5, 3.6, sharex=True, sharey=True)
    middle = int(np.abs(y - y.mean()).argmin())
    true, run = (s[:, index, middle] for s in pair.series(member))
    look = _scale(true)
    width = (look["vmax"] - look["vmin"]) / 2
    for axis, title, values in zip(axes[0], ROWS, (true, run, run - true), strict=True):
        scale = {"cmap": "PuOr_r", "vmin": -width, "vmax": width} if title == "error" else look
        image = axis.imshow(
            values, origin="lower", aspect="auto", extent=(x[0], x[-1], pair.time[0], pair.time[-1]), **scale
        )
        axis.set(title=title, xlabel=pair.dims[-1])
        axis.grid(False)
        figure.colorbar(image, ax=axis, label=name, aspect=30)
    axes[0, 0].set_ylabel("time")
    figure.suptitle(f"{pair.name(member)}: {name} along {pair.dims[-2]} = {y[middle]:.2g}", fontsize=9.5)
    return figure


def _surfaces(pair: Pair) -> Figure:
    steps = pair.shown(COLUMNS)
    true, run = (s[:, -1] for s in pair.series(pair.chosen[0]))
    level = _level(true)
    figure, axes = drawing.panels(2, len(steps), 2.1 * len(steps) + 0.4, 4.6)
    for row, values in enumerate((true, run)):
        for axis, step in zip(axes[row], steps, strict=True):
            _surface(axis, values[step], level, 200)
        axes[row, 0].set_ylabel(ROWS[row])
    for axis, t in zip(axes[0], pair.time[steps], strict=True):
        axis.set_title(f"t = {t:g}", fontsize=8.5)
    figure.suptitle(f"{pair.name(pair.chosen[0])}: surfaces where {pair.names[-1]} = {level:.3g}", fontsize=9.5)
    return figure


def error(pair: Pair) -> Figure:
    """Relative MSE and correlation against time, a colour per field, thin lines for the single series."""
    figure, axes = drawing.panels(1, 2, 9, 3.6)
    single = pair.scores.error / np.maximum(pair.scores.power, fields.TINY)
    for i, name in enumerate(pair.names):
        colour = drawing.PALETTE[i % len(drawing.PALETTE)]
        axes[0, 0].plot(
            pair.time, np.where(single[..., i] > 0, single[..., i], np.nan).T, color=colour, linewidth=0.4, alpha=0.5
        )
        thin: dict[str, Any] = {"color": colour, "linewidth": 0.4, "alpha": 0.5}
        pooled = pair.scores.relative()[:, i]
        axes[0, 0].plot(pair.time, np.where(pooled > 0, pooled, np.nan), color=colour, linewidth=2.2, label=name)
        axes[0, 1].plot(pair.time, pair.scores.correlation[..., i].T, **thin)
        axes[0, 1].plot(pair.time, pair.scores.correlation[..., i].mean(0), color=colour, linewidth=2.2, label=name)
    axes[0, 1].axhline(pair.params.correlation, **drawing.EXACT)
    axes[0, 0].set(xlabel="time", ylabel="relative MSE", yscale="log")
    axes[0, 1].set(xlabel="time", ylabel="correlation with the truth", ylim=(min(0.0, axes[0, 1].get_ylim()[0]), 1.03))
    axes[0, 0].legend(title="all series; thin: each", ncols=len(pair.names))
    return figure


def spectra(pair: Pair) -> Figure:
    """Power of truth and prediction by octave of the wavenumber, over the last half of the time."""
    true, run = fields.spectra(pair.truth, pair.prediction, pair.params.blow_up, pair.params.wake)
    waves = 2.0 ** np.arange(true.shape[1])
    figure, axes = drawing.panels(1, len(pair.names), 3.2 * len(pair.names) + 0.6, 3.2, sharex=True)
    for i, (name, axis) in enumerate(zip(pair.names, axes[0], strict=True)):
        axis.plot(waves, np.maximum(true[i], 1e-300), "o-", color=drawing.TRUTH, label="truth")
        axis.plot(waves, np.maximum(run[i], 1e-300), "s--", color=drawing.MODEL, label="prediction")
        axis.set(title=name, xlabel=_waves(pair.params), xscale="log", yscale="log")
        axis.set_xticks(waves, [f"{k:g}" for k in waves])
        axis.minorticks_off()
    axes[0, 0].set_ylabel("power in [k, 2k)")
    axes[0, 0].legend()
    return figure


def _waves(params: Params) -> str:
    return "waves k in the line behind the cylinder" if params.wake else "waves k in the box"


def animation(pair: Pair) -> Animation:
    """Truth beside prediction, from the given state to the end."""
    steps = np.unique(np.linspace(0, len(pair.time) - 1, pair.params.frames).round().astype(int))
    return _moving_surfaces(pair, steps) if len(pair.dims) == 3 else _moving_pictures(pair, steps)


def _moving_pictures(pair: Pair, steps: np.ndarray) -> Animation:
    x0, x1, y0, y1 = pair.extent
    members = pair.chosen
    height = max(0.9, 3.1 * (y1 - y0) / (x1 - x0))
    figure, axes = drawing.panels(len(members), 2, 6.6, (height + 0.25) * len(members) + 0.3)
    stacks = [np.stack([[pair.seen(s[t]) for t in steps] for s in pair.series(m)]) for m in members]
    looks = [_scale(stack[0]) for stack in stacks]
    images = [
        _picture(axes[i, k], stack[k, -1], pair.extent, **look)
        for i, (stack, look) in enumerate(zip(stacks, looks, strict=True))
        for k in range(2)
    ]
    for i, member in enumerate(members):
        for k in range(2):
            axes[i, k].set_title(f"{pair.name(member)}: {ROWS[k]}", fontsize=9)
    clock = figure.supxlabel("t = 0", fontsize=9)

    def update(frame: int) -> None:
        for n, image in enumerate(images):
            image.set_data(stacks[n // 2][n % 2, frame])
        clock.set_text(f"{pair.quantity}, t = {pair.time[steps[frame]]:g}")

    return Animation(figure, [*images, clock], update, len(steps))


def _moving_surfaces(pair: Pair, steps: np.ndarray) -> Animation:
    both = [s[:, -1] for s in pair.series(pair.chosen[0])]
    level = _level(both[0])
    figure, axes = drawing.panels(1, 2, 6.4, 3.5)
    images = [_surface(axis, values[-1], level, 220) for axis, values in zip(axes[0], both, strict=True)]
    for axis, name in zip(axes[0], ROWS[:2], strict=True):
        axis.set_title(name, fontsize=9)
    clock = figure.supxlabel("t = 0", fontsize=9)

    def update(frame: int) -> None:
        for image, values in zip(images, both, strict=True):
            image.set_data(isosurface.shaded(values[steps[frame]], level, 220)[::-1])
        clock.set_text(f"{pair.names[-1]} = {level:.3g}, t = {pair.time[steps[frame]]:g}")

    return Animation(figure, [*images, clock], update, len(steps))
