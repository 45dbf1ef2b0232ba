"""The figures of one generative model: its samples beside those of Monte Carlo, and the distribution of its weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from .. import drawing
from .reweighting import normalised

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SHOWN = 6  # samples side by side
POINTS = 400  # samples of particles that are laid over each other


def _configurations(truth: xr.Dataset | None, target: Any) -> np.ndarray | None:
    """Configurations of the target (n, *shape), from all over the series of Monte Carlo."""
    import torch

    if truth is None:
        return None
    x = target.configurations(torch.as_tensor(truth["state"].values, dtype=torch.float32)).numpy()
    return x[np.linspace(0, len(x) - 1, min(POINTS, len(x))).round().astype(int)]


def _lattices(axes: Any, x: np.ndarray, target: Any, largest: float) -> None:
    for axis, one in zip(axes, x, strict=False):
        axis.imshow(one, cmap="gray" if target.support == "spin" else "RdBu_r", vmin=-largest, vmax=largest)
        axis.set(xticks=[], yticks=[])
        axis.grid(visible=False)
        axis.spines[:].set_visible(True)


def _rows(axis: Axes, x: np.ndarray, title: str) -> None:
    """One configuration a row."""
    shown = x.reshape(len(x), -1)[:40]
    axis.imshow(shown, cmap="gray", aspect="auto", interpolation="nearest")
    axis.set(title=title, xlabel="site", ylabel="sample")
    axis.grid(visible=False)


def _cloud(axis: Axes, x: np.ndarray, title: str, colour: str) -> None:
    """All particles of many configurations in their first two coordinates."""
    points = x[:POINTS].reshape(-1, x.shape[-1])
    if points.shape[1] == 1:
        axis.hist(points[:, 0], 60, color=colour, density=True)
        axis.set(title=title, xlabel="x")
        return
    axis.plot(points[:, 0], points[:, 1], ".", color=colour, markersize=1.2, alpha=0.4, rasterized=True)
    axis.set(title=title, xlabel="x", ylabel="y", aspect="equal")


def samples(truth: xr.Dataset | None, data: xr.Dataset, target: Any) -> Figure:
    """Some samples of the model, and, where the study has data, some of Monte Carlo below or beside them."""
    found = {"model": data["x"].values.astype(float)}
    if (reference := _configurations(truth, target)) is not None:
        found["Monte Carlo"] = reference.astype(float)
    with drawing.style():
        if found["model"].ndim == 3 and not target.particles:
            figure, axes = drawing.panels(len(found), SHOWN, 1.3 * SHOWN, 1.4 * len(found) + 0.2)
            largest = float(np.abs(found["model"][:SHOWN]).max())
            for row, (name, x) in zip(axes, found.items(), strict=True):
                _lattices(row, x[:: max(1, len(x) // SHOWN)][:SHOWN], target, largest)
                row[0].set_ylabel(name)
            return figure
        figure, axes = drawing.panels(1, len(found), 3.6 * len(found), 3.4, sharex=True, sharey=True)
        for axis, (name, x) in zip(axes[0], found.items(), strict=True):
            if target.support == "spin":
                _rows(axis, x, name)
            else:
                _cloud(axis, x, name, drawing.MODEL if name == "model" else drawing.TRUTH)
        return figure


def _log_weights(data: xr.Dataset, beta: float) -> dict[str, np.ndarray]:
    """ln e^(−u)/q of samples of the model and of the target."""
    if data.attrs["log_prob_kind"] != "exact":
        return {}
    names = {"model": "", "Monte Carlo": "reference_"}
    return {
        label: (-beta * data[f"{prefix}energy"].values - data[f"{prefix}log_prob"].values).ravel()
        for label, prefix in names.items()
        if f"{prefix}log_prob" in data
    }


LOOK: dict[str, dict] = {
    "model": {"color": drawing.MODEL, "alpha": 0.55},
    "model, reweighted": {"color": drawing.PALETTE[1], "histtype": "step", "linewidth": 1.6},
    "Monte Carlo": {"color": drawing.TRUTH, "histtype": "step", "linewidth": 1.6},
}


def _histograms(axis: Axes, values: dict[str, np.ndarray], weights: dict[str, np.ndarray] | None = None) -> None:
    kept = {name: v[np.isfinite(v)] for name, v in values.items()}
    pooled = np.concatenate(list(kept.values()))
    low, high = np.quantile(pooled, [0.001, 0.999])
    edges = np.linspace(low, high, 50)
    if edges[-1] - edges[0] < 1e-9:
        edges = edges[0] + np.linspace(-0.5, 0.5, 51)
    for name, v in kept.items():
        axis.hist(v, list(edges), density=True, weights=(weights or {}).get(name), label=name, **LOOK[name])


def _marks(axis: Axes, metrics: dict[str, Any]) -> None:
    """The bounds and estimates of ln Z as lines."""
    colours = {"lnZ_q": drawing.MODEL, "lnZ_upper": drawing.QUIET, "bar": drawing.PALETTE[2]}
    names = {"lnZ_q": "lower bound", "lnZ_upper": "upper bound", "bar": "acceptance ratio"}
    for key, colour in colours.items():
        if metrics.get(key) is not None:
            axis.axvline(metrics[key], color=colour, linewidth=1.2, linestyle=":", label=names[key])
    if metrics.get("lnZ_exact") is not None:
        axis.axvline(metrics["lnZ_exact"], label="ln Z, exact", **drawing.EXACT)


def weights(data: xr.Dataset, target: Any, metrics: dict[str, Any]) -> Figure:
    """Log-weights of both kinds of samples, which cross at ln Z, and their energies."""
    lw, energy = _log_weights(data, target.beta), {"model": data["energy"].values}
    share = None
    if "model" in lw:
        energy["model, reweighted"] = energy["model"]
        share = {"model, reweighted": normalised(lw["model"])[np.isfinite(energy["model"])]}
    if "reference_energy" in data:
        energy["Monte Carlo"] = data["reference_energy"].values.ravel()
    with drawing.style():
        figure, axes = drawing.panels(1, 2, 9.0, 3.4)
        if lw:
            _histograms(axes[0, 0], lw)
            _marks(axes[0, 0], metrics)
            axes[0, 0].legend(fontsize=7.5)
            axes[0, 0].set(xlabel="log-weight −βE − ln q (nats)", ylabel="density", title="weights cross at ln Z")
        else:
            axes[0, 0].set_axis_off()
            axes[0, 0].text(
                0.5, 0.5, metrics.get("ess_reason", ""), ha="center", transform=axes[0, 0].transAxes, wrap=True
            )
        _histograms(axes[0, 1], energy, share)
        axes[0, 1].set(xlabel="E", ylabel="density", title="energies")
        axes[0, 1].legend(fontsize=7.5)
    return figure
