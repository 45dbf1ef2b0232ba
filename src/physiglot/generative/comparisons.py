"""The figures that compare the generative models of a paper."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from .. import drawing, targets
from ..study import Study as Line

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST = 4  # panels beside each other


@dataclass(frozen=True)
class Study(Line):
    """One line of the table, with all its seeds; what is undefined has its reason in the metrics."""

    PARTIAL: ClassVar[bool] = True

    @cached_property
    def attributes(self) -> dict[str, Any]:
        return next(iter(self.predictions[0].values())).attrs

    @cached_property
    def target(self) -> Any:
        return targets.build(json.loads(self.attributes["target"]))

    @cached_property
    def sites(self) -> int:
        """Degrees of freedom."""
        return int(np.prod(self.target.shape))

    @cached_property
    def module(self) -> str:
        return json.loads(self.attributes["target"])["module"]

    @cached_property
    def system(self) -> str:
        """The system and its size, whatever its temperature."""
        described = json.loads(self.attributes["target"])
        others = {
            k: v for k, v in described["params"].items() if k not in ("beta", "size", "sites", "count", "dimension")
        }
        told = ", ".join(f"{k} {v}" for k, v in others.items() if isinstance(v, str | int | float))
        size = " × ".join(map(str, self.target.shape))
        return f"{described['module']} {size}" + (f", {told}" if told else "")


def _grouped(studies: list[Study], key: Any) -> dict[Any, list[Study]]:
    found: dict[Any, list[Study]] = {}
    for study in studies:
        found.setdefault(key(study), []).append(study)
    return found


def _labels(studies: list[Study]) -> dict[str, drawing.Look]:
    return drawing.looks((s.label for s in studies), (s.label for s in studies if s.variant == "ours"))


def _curve(axis: Axes, group: list[Study]) -> None:
    """The exact F per site: a curve where it is cheap, else at the temperatures of the studies."""
    target, betas = group[0].target, sorted({s.target.beta for s in group})
    if getattr(target, "closed_form", False):
        betas = list(np.linspace(0.9 * betas[0], 1.05 * betas[-1], 80))
        exact = [target.exact_logZ(b) for b in betas]
    else:
        by_beta = {s.target.beta: s for s in group}
        exact = [(n[0] if (n := by_beta[b].number("lnZ_exact")) else None) for b in betas]
    known = [(b, -z / b / np.prod(target.shape)) for b, z in zip(betas, exact, strict=True) if z is not None]
    if known:
        axis.plot(*np.array(known).T, label="exact", marker="" if len(known) > 20 else "_", **drawing.EXACT)


def free_energy(studies: list[Study]) -> Figure:
    """F_q per site against beta with the exact curve, and the relative errors of F_q (full) and reweighted (open)."""
    groups = _grouped([s for s in studies if s.number("F_q")], lambda s: s.system)
    betas = {system: len({s.target.beta for s in group}) for system, group in groups.items()}
    several = [item for item in groups.items() if betas[item[0]] > 1]
    ordered = sorted(several or groups.items(), key=lambda item: -betas[item[0]])[:MOST]
    if not ordered:
        return drawing.placeholder("no study has a free energy")
    looks = _labels([s for _, group in ordered for s in group])
    with drawing.style():
        figure, axes = drawing.panels(2, len(ordered), 3.6 * len(ordered) + 0.6, 5.4, sharex="col")
        for (top, bottom), (system, group) in zip(axes.T, ordered, strict=True):
            _curve(top, group)
            for label, own in _grouped(group, lambda s: s.label).items():
                own = sorted(own, key=lambda s: s.target.beta)
                beta, colour = [s.target.beta for s in own], looks[label]["color"]
                sites = own[0].sites
                value, error = np.array([s.number("F_q") for s in own]).T / sites
                top.errorbar(beta, value, error, marker="o", markersize=4, linestyle="", color=colour, label=label)
                for metric, face in (("F_q_relative_error", colour), ("F_rw_relative_error", "white")):
                    known = [(s.target.beta, n[0]) for s in own if (n := s.number(metric))]
                    if known:
                        bottom.plot(
                            *np.array(known).T, "o-", color=colour, markersize=4, markerfacecolor=face, linewidth=0.8
                        )
            top.set(title=system, ylabel="F / N")
            top.legend(fontsize=7)
            bottom.set(xlabel="inverse temperature β", ylabel="relative error of F", yscale="log")
        axes[1, 0].plot([], [], "o", color=drawing.QUIET, markersize=4, label="F_q, variational")
        axes[1, 0].plot([], [], "o", color=drawing.QUIET, markersize=4, markerfacecolor="white", label="reweighted")
        axes[1, 0].legend(fontsize=7)
    return figure


def _anchor(study: Study) -> float | None:
    """What brackets are drawn about: the exact ln Z, else the acceptance ratio, else the reweighted estimate."""
    for metric in ("lnZ_exact", "bar", "lnZ_rw"):
        if (found := study.number(metric)) is not None:
            return found[0]
    return None


def brackets(studies: list[Study]) -> Figure:
    """A row a study: bounds of ln Z, reweighted estimate and acceptance ratio, per site, about the exact value."""
    rows = [(s, anchor) for s in studies if (anchor := _anchor(s)) is not None]
    if not rows:
        return drawing.placeholder("no study bounds ln Z")
    with drawing.style():
        figure, axes = drawing.panels(1, 1, 8.4, 0.27 * len(rows) + 1.5)
        axis = axes[0, 0]
        drawing.name_rows(axis, [f"{s.label}: {s.system}, β {s.target.beta:g}" for s, _ in rows])
        marks = {
            "lnZ_q": ("<", drawing.MODEL, "lower bound, ln Z_q"),
            "lnZ_upper": (">", drawing.PALETTE[1], "upper bound"),
            "lnZ_rw": ("o", drawing.TRUTH, "reweighted"),
            "bar": ("D", drawing.PALETTE[2], "acceptance ratio"),
        }
        for metric, (marker, colour, label) in marks.items():
            sites = [s.sites for s, _ in rows]
            numbers = [
                ((n[0] - anchor) / size, n[1] / size) if (n := s.number(metric)) else None
                for (s, anchor), size in zip(rows, sites, strict=True)
            ]
            drawing.dots(axis, numbers, 0.0, marker=marker, color=colour, label=label, markerfacecolor=colour)
        axis.axvline(0, **drawing.EXACT)
        axis.set_xscale("symlog", linthresh=1e-3)
        axis.set_xlabel("(estimate − ln Z) / N, nats")
        figure.legend(loc="outside upper center", ncols=4)
    return figure


def _sizes(axis: Axes, sizes: list[int]) -> None:
    """A logarithmic axis of numbers of degrees of freedom, which are its ticks."""
    from matplotlib.ticker import FixedLocator, NullLocator, ScalarFormatter

    axis.set_xscale("log")
    axis.xaxis.set_major_locator(FixedLocator(sorted(set(sizes))))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.xaxis.set_major_formatter(ScalarFormatter())


def quality(studies: list[Study]) -> Figure:
    """Effective sample size and acceptance against degrees of freedom: colours are models, shapes are systems.

    Where there are more models than colours, the marks of the others are open.
    """
    studies = [s for s in studies if s.number("ess") or s.number("acc")]
    marks: dict[str, drawing.Look] = {}
    for label, look in _labels(studies).items():
        taken = any(mark["color"] == look["color"] for mark in marks.values())
        marks[label] = {"color": look["color"], "markerfacecolor": "white" if taken else look["color"]}
    shapes: dict[str, str] = {}
    for study in studies:
        shapes.setdefault(study.module, drawing.MARKERS[len(shapes) % len(drawing.MARKERS)])
    with drawing.style():
        figure, axes = drawing.panels(1, 2, 10.0, 4.0, sharex=True)
        for axis, (metric, name) in zip(axes[0], QUALITY.items(), strict=True):
            known = [(s, n[0]) for s in studies if (n := s.number(metric))]
            for study, value in known:
                look = {**marks[study.label], "marker": shapes[study.module], "alpha": 0.8}
                axis.plot(study.sites, value, markersize=5, linestyle="", **look)
            axis.set(xlabel="degrees of freedom", ylabel=name, ylim=(-0.03, 1.05))
            if known:
                _sizes(axis, [s.sites for s, _ in known])
        models = [drawing.line(name, marker="o", linestyle="", **mark) for name, mark in marks.items()]
        systems = [drawing.line(n, color=drawing.QUIET, marker=m, linestyle="") for n, m in shapes.items()]
        figure.legend(handles=models + systems, loc="outside right upper", fontsize=7)
    return figure


QUALITY = {"ess": "effective sample size per sample", "acc": "acceptance"}
COLUMNS = {
    "gap_per_site": "gap ln Z − ln Z_q per site (nats)",
    "ess": "effective sample size",
    "acc": "acceptance",
    "train_cpu_seconds": "training (CPU s)",
}


def families(studies: list[Study]) -> Figure:
    """The models of each target side by side, for the targets that have most of them."""
    groups = _grouped(studies, lambda s: f"{s.system}, β {s.target.beta:g}")
    ordered = [item for item in sorted(groups.items(), key=lambda item: -len(item[1])) if len(item[1]) > 1][:3]
    if not ordered:
        return drawing.placeholder("no target has two models")
    looks = _labels([s for _, group in ordered for s in group])
    lines = [len(group) for _, group in ordered]
    height = 0.3 * sum(lines) + 0.6 * len(ordered) + 0.6
    with drawing.style():
        figure, axes = drawing.panels(len(ordered), len(COLUMNS), 11.5, height, height_ratios=lines, sharex="col")
        for k, (system, group) in enumerate(ordered):
            for axis, metric in zip(axes[k], COLUMNS, strict=True):
                drawing.name_rows(axis, [s.label if axis is axes[k, 0] else "" for s in group])
                for line, study in enumerate(group):
                    if (number := study.number(metric)) is not None and number[0] > 0:
                        axis.errorbar(number[0], line, xerr=number[1], marker="o", color=looks[study.label]["color"])
            axes[k, 0].set_title(system, loc="left")
        for axis, (metric, heading) in zip(axes[-1], COLUMNS.items(), strict=True):
            axis.set_xlabel(heading)
            if metric in QUALITY:
                axis.set_xlim(-0.03, 1.05)
            elif np.isfinite(axis.dataLim.intervalx).all():
                _decades(axis, [s.number(metric) for _, group in ordered for s in group])
    return figure


def _decades(axis: Axes, numbers: list[tuple[float, float] | None]) -> None:
    """A logarithmic axis over whole powers of ten around positive numbers."""
    from matplotlib.ticker import LogLocator, NullFormatter

    known = np.log10([n[0] for n in numbers if n is not None and n[0] > 0])
    axis.set_xscale("log")
    axis.set_xlim(10 ** np.floor(known.min() - 0.05), 10 ** np.ceil(known.max() + 0.05))
    axis.xaxis.set_major_locator(LogLocator(numticks=6))
    axis.xaxis.set_minor_formatter(NullFormatter())
