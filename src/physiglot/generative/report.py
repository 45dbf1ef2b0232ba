"""One report for every generative model: what its samples say about ln Z and the observables of a target.

Log-weights lw = −beta E(x) − ln q(x). Undefined entries are NaN, and `<entry>_reason` says why. Effective sample size
and reweighting cannot see a mode that q never visits; `converged` therefore wants a second witness.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import models
from ..montecarlo.autocorrelation import integrated_time, mean_error
from . import independence, reweighting

FEWEST, UNRELIABLE, SIGMAS, ROUNDING = 100, 0.7, 4.0, 1e-6
Entries = dict[str, Any]


@dataclass(frozen=True)
class Drawn:
    """What a model drew, and configurations of the target beside it (`reference`, in their order in the chains)."""

    x: Any  # tensor (sample, *shape)
    energy: np.ndarray  # (sample)
    log_prob: np.ndarray | None  # (sample)
    kind: str  # exact, lower_bound, unnormalised
    reference_energy: np.ndarray | None = None  # (member, time)
    reference_log_prob: np.ndarray | None = None  # (member, time)


def draw(model: Any, target: Any, n: int, generator: Any = None, x_target: Any = None) -> Drawn:
    """`n` samples of a model for a report, and what it says of `x_target`, independent configurations of the target."""
    import torch

    with torch.no_grad():
        found = models.draw(model, target, n, generator)
        beside = {}
        if x_target is not None:
            beside["reference_energy"] = target.energy(x_target.double()).numpy()[:, None]
            if model.log_prob_kind != "unnormalised":
                beside["reference_log_prob"] = model.log_prob(x_target).double().numpy()[:, None]
    log_prob = found["log_prob"].numpy() if "log_prob" in found else None
    return Drawn(found["x"], found["energy"].numpy(), log_prob, model.log_prob_kind, **beside)


def _entry(name: str, value: float, error: float | None = None) -> Entries:
    return {name: value} | ({} if error is None else {f"{name}_stderr": error})


def _undefined(reason: str, *names: str) -> Entries:
    return {key: value for name in names for key, value in ((name, float("nan")), (f"{name}_reason", reason))}


WEIGHTED = ("lnZ_q", "F_q", "lnZ_rw", "F_rw", "ess", "khat", "w_max", "acc", "tau_int_energy")
UPPER = ("lnZ_upper", "bracket_width", "bar", "relaxation")


def _free_energy(lw: np.ndarray, beta: float, rng: np.random.Generator) -> Entries:
    """The lower bound, the reweighted estimate, and how far it can be trusted."""
    lower, rw = reweighting.mean_error(lw), (reweighting.log_mean(lw), reweighting.log_mean_error(lw, rng))
    k = reweighting.khat(lw)
    if np.isfinite(lower[0]):
        found = _entry("lnZ_q", *lower) | _entry("F_q", -lower[0] / beta, lower[1] / beta)
    else:
        found = _undefined("some samples have no weight: their energy is +inf", "lnZ_q", "F_q")
    found |= _entry("lnZ_rw", *rw) | _entry("F_rw", -rw[0] / beta, rw[1] / beta) | _entry("ess", reweighting.ess(lw))
    if np.isneginf(k):
        found |= _undefined("the largest weights are all equal", "khat")
    else:
        found |= _entry("khat", k)
    found |= _entry("w_max", float(reweighting.normalised(lw).max()))
    return found | _entry("unreliable", float(k > UNRELIABLE))


def _upper(lw: np.ndarray, reference: np.ndarray, lower: float) -> Entries:
    """The upper bound by configurations of the target (member, time), and the acceptance ratio between the two.

    `relaxation`: the largest weight π/q that was seen, which the relaxation time of the Metropolis chain exceeds.
    """
    if not np.isfinite(reference).all():
        lost = f"the model has no density at {int((~np.isfinite(reference)).sum())} configurations of the target"
        found = _undefined(lost, "lnZ_upper", "bracket_width", "relaxation")
        return found | _entry("bar", *reweighting.acceptance_ratio(lw, reference.ravel()))
    tau = integrated_time(reference)
    upper, error = mean_error(reference)
    bar = reweighting.acceptance_ratio(lw, reference.ravel(), tau)
    slowest = float(np.exp(min(max(lw.max(), reference.max()) - bar[0], 700.0)))
    found = _entry("lnZ_upper", upper, error) | _entry("bracket_width", upper - lower) | _entry("bar", *bar)
    return found | _entry("relaxation", slowest)


def _exact(found: Entries, exact: float, beta: float, sites: int) -> Entries:
    """Distances from the exact ln Z; relative errors are those of F."""
    scale = abs(exact) or 1.0
    return {
        "lnZ_exact": exact,
        "F_exact": -exact / beta,
        "F_q_relative_error": abs(found["lnZ_q"] - exact) / scale,
        "F_rw_relative_error": abs(found["lnZ_rw"] - exact) / scale,
        "gap_per_site": (exact - found["lnZ_q"]) / sites,
        "lnZ_rw_z": (found["lnZ_rw"] - exact) / max(found["lnZ_rw_stderr"], ROUNDING * scale / SIGMAS),
    }


def _converged(found: Entries, width: float, sites: int) -> Entries:
    """Whether nothing speaks against it; undefined if there is neither a bracket nor an exact value."""
    checks = [found["unreliable"] == 0.0]
    if np.isfinite(found.get("bracket_width", np.nan)):
        checks.append(found["bracket_width"] <= width * sites)
    elif "no density" in found.get("bracket_width_reason", ""):
        checks.append(False)
    if "lnZ_rw_z" in found:
        checks.append(abs(found["lnZ_rw_z"]) <= SIGMAS)
    if len(checks) == 1:
        return _undefined("neither samples of the target nor an exact value", "converged")
    return _entry("converged", float(all(checks)))


def _z(name: str, mean: float, error: float, exact: float | None) -> Entries:
    return {} if exact is None or error == 0 else {f"{name}_z": (mean - exact) / error}


def _observable(name: str, values: np.ndarray, lw: np.ndarray | None, path: Any, exact: float | None) -> Entries:
    """An observable (sample) as drawn, reweighted, and along the Metropolis chain, beside its exact mean."""
    if np.isfinite(values).all():
        found = _entry(f"{name}_raw", *reweighting.mean_error(values))
    else:
        found = _undefined("of some samples it is not finite", f"{name}_raw")
    found |= {} if exact is None else {f"{name}_exact": exact}
    if lw is None:
        return found
    for way, estimate in (("rw", reweighting.reweighted(values, lw)), ("metropolis", mean_error(values[path]))):
        found |= _entry(f"{name}_{way}", *estimate) | _z(f"{name}_{way}", *estimate, exact)
    return found | _entry(f"tau_int_{name}", integrated_time(values[path]))


def _weights(drawn: Drawn, beta: float) -> tuple[np.ndarray | None, str]:
    """The log-weights, or why there are none."""
    if drawn.kind != "exact" or drawn.log_prob is None:
        return None, f"the log-probability of the model is {drawn.kind.replace('_', ' ')}, not exact"
    lw = -beta * drawn.energy - drawn.log_prob
    if np.isnan(lw).any():
        raise ValueError(f"{int(np.isnan(lw).sum())} of {len(lw)} samples have a weight that is not a number")
    return (lw, "") if np.isfinite(lw).any() else (None, "all weights are zero")


def report(drawn: Drawn, target: Any, *, beta: float | None = None, width: float = 0.05, seed: int = 0) -> Entries:
    """All entries by name; errors are `<name>_stderr`. Fewer than 100 samples are a ValueError.

    `width` is the widest bracket, per degree of freedom, of a model that has `converged`.
    """
    if len(drawn.energy) < FEWEST:
        raise ValueError(f"a report of {len(drawn.energy)} samples: allowed are {FEWEST} or more")
    beta, rng = target.beta if beta is None else beta, np.random.default_rng(seed)
    sites, exact = int(np.prod(target.shape)), target.exact_logZ(beta)
    lw, reason = _weights(drawn, beta)
    found: Entries = {}
    path = None
    if lw is None:
        found |= _undefined(reason, *WEIGHTED, *UPPER, "converged")
    else:
        found |= _free_energy(lw, beta, rng)
        path, accepted = independence.chain(lw, rng)
        found |= _entry("acc", accepted)
        if drawn.reference_log_prob is None or drawn.reference_energy is None:
            found |= _undefined("no samples of the target", *UPPER)
        else:
            found |= _upper(lw, -beta * drawn.reference_energy - drawn.reference_log_prob, found["lnZ_q"])
        found |= {} if exact is None else _exact(found, exact, beta, sites)
        found |= _converged(found, width, sites)
    means = target.exact_observables(beta)
    values = {"energy": drawn.energy} | {
        name: function(drawn.x.double()).double().numpy() for name, function in target.observables.items()
    }
    for name, value in values.items():
        found |= _observable(name, value, lw, path, means.get(name))
    return found
