"""Fit a map x⁺ = x + f(x) W to noisy series by multiple shooting: W and the initial state of every segment together.

One-step least squares on noisy states is biased: the noise is in the regressors as well (errors in variables). Here
only the initial states of the segments and W are unknown, and the residuals are those of whole segments, so every
observation counts with its own noise alone (Bock 1983; Timmer, Rust, Horbelt & Voss, Phys. Lett. A 274 (2000) 123).
Gauss-Newton with Levenberg's damping; the initial states are eliminated segment by segment (Schur complement).
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

Features = Callable[[Tensor], Tensor]


class Normal(NamedTuple):
    """The normal equations of a chunk of segments, the initial states eliminated."""

    cost: Tensor
    hessian: Tensor
    gradient: Tensor
    inner: Tensor
    mixed: Tensor
    inner_gradient: Tensor


def _features_and_slope(features: Features, x: Tensor) -> tuple[Tensor, Tensor]:
    """f (segment, feature) and its derivative (segment, feature, field) by forward differentiation."""
    slopes = []
    for i in range(x.shape[-1]):
        tangent = torch.zeros_like(x)
        tangent[:, i] = 1
        value, slope, *_ = torch.func.jvp(features, (x,), (tangent,))
        slopes.append(slope)
    return value, torch.stack(slopes, -1)


def _normal(
    features: Features, start: Tensor, weight: Tensor, observed: Tensor, precision: Tensor, learn: bool = True
) -> Normal:
    """Roll the segments (segment, field) along `observed` (segment, time, field) with their sensitivities.

    Without `learn`, W is given and only the initial states are unknown.
    """
    segments, times, fields = observed.shape
    unknowns = weight.numel() if learn else 0
    state, identity = start, torch.eye(fields, dtype=start.dtype)
    by_start = identity.expand(segments, fields, fields)
    by_weight = state.new_zeros(segments, fields, unknowns)
    inner, mixed = state.new_zeros(segments, fields, fields), state.new_zeros(segments, fields, unknowns)
    hessian, gradient, cost = state.new_zeros(unknowns, unknowns), state.new_zeros(unknowns), state.new_zeros(segments)
    inner_gradient = state.new_zeros(segments, fields)
    for t in range(times):
        root = precision[:, t].sqrt()[..., None]
        residual = (observed[:, t] - state)[..., None] * root
        a, b = by_start * root, by_weight * root
        cost += residual.square().sum((1, 2))
        inner += a.mT @ a
        inner_gradient += (a.mT @ residual)[..., 0]
        value, slope = _features_and_slope(features, state)
        step = identity + torch.einsum("scj,ci->sij", slope, weight)
        by_start = step @ by_start
        if learn:
            flat = b.reshape(-1, unknowns)
            mixed += a.mT @ b
            hessian += flat.T @ flat
            gradient += flat.T @ residual.reshape(-1)
            by_weight = step @ by_weight
            by_weight.view(segments, fields, -1, fields).diagonal(dim1=1, dim2=3).add_(value[..., None])
        state = state + value @ weight
    if learn:
        solved = torch.linalg.solve(inner, torch.cat([mixed, inner_gradient[..., None]], -1))
        hessian -= torch.einsum("sip,siq->pq", mixed, solved[..., :-1])
        gradient -= torch.einsum("sip,si->p", mixed, solved[..., -1])
    return Normal(cost, hessian, gradient, inner, mixed, inner_gradient)


def _cost(features: Features, start: Tensor, weight: Tensor, observed: Tensor, precision: Tensor) -> Tensor:
    """The cost of every segment."""
    state, cost = start, start.new_zeros(len(start))
    for t in range(observed.shape[1]):
        cost = cost + (precision[:, t] * (observed[:, t] - state).square()).sum(1)
        state = state + features(state) @ weight
    return cost


def _total(features: Features, starts: list[Tensor], weight: Tensor, pieces: list[tuple[Tensor, Tensor]]) -> float:
    return sum(float(_cost(features, s, weight, o, p).sum()) for s, (o, p) in zip(starts, pieces, strict=True))


def _step(parts: list[Normal], weight: Tensor, damping: float) -> tuple[Tensor, list[Tensor]]:
    """Damped Gauss-Newton steps of W and of the initial states of every chunk."""
    hessian = torch.stack([p.hessian for p in parts]).sum(0)
    gradient = torch.stack([p.gradient for p in parts]).sum(0)
    hessian = hessian + damping * torch.diag(hessian.diagonal())
    move = torch.linalg.solve(hessian, gradient)
    starts = [torch.linalg.solve(p.inner, p.inner_gradient - p.mixed @ move) for p in parts]
    return move.view(weight.shape), starts


@torch.no_grad()
def fit(
    features: Features,
    weight: Tensor,
    observed: Tensor,
    start: Tensor,
    precision: Tensor,
    iterations: int = 5,
    chunk: int = 2048,
) -> tuple[Tensor, Tensor, list[float]]:
    """W (feature, field), the initial states, and the mean cost after each accepted step.

    `observed` (segment, time, field) with the inverse variances `precision` of its noise, `start` (segment, field) a
    first guess of the initial states (smoothed data), `weight` one of W. All float64.
    """
    pieces = list(zip(observed.split(chunk), precision.split(chunk), strict=True))
    starts, damping = list(start.split(chunk)), 1e-6
    costs: list[float] = []
    for _ in range(iterations):
        parts = [_normal(features, s, weight, o, p) for s, (o, p) in zip(starts, pieces, strict=True)]
        cost = sum(float(p.cost.sum()) for p in parts)
        costs = costs or [cost / observed.numel()]
        while damping < 1e4:
            move, moves = _step(parts, weight, damping)
            tried = [s + m for s, m in zip(starts, moves, strict=True)]
            new = _total(features, tried, weight + move, pieces)
            if new < cost:
                break
            damping *= 10
        else:
            break
        weight, starts, damping = weight + move, tried, max(damping / 10, 1e-9)
        costs.append(new / observed.numel())
        if cost - new < 1e-6 * cost:
            break
    return weight, torch.cat(starts), costs


@torch.no_grad()
def analyse(
    features: Features, weight: Tensor, observed: Tensor, start: Tensor, precision: Tensor, iterations: int = 2
) -> Tensor:
    """The initial states (segment, field) that fit `observed` (segment, time, field) best under a given W.

    What data assimilation calls the analysis (4D-Var). A segment keeps its first guess where the fit does not help.
    """
    given = _cost(features, start, weight, observed, precision)
    found = start
    for _ in range(iterations):
        normal = _normal(features, found, weight, observed, precision, learn=False)
        found = found + torch.linalg.solve(normal.inner, normal.inner_gradient)
    better = _cost(features, found, weight, observed, precision) < given
    return torch.where(better[:, None], found, start)


def noise_of(observed: Tensor, smooth: Tensor) -> Tensor:
    """(field, 3): a, b and floor of the noise variance a + b x², from the residuals of `smooth` (member, time, field).

    Additive noise has b = 0, noise relative to the value has a = 0; the floor keeps values near zero from ruling.
    """
    found = []
    for x, y in zip(smooth.unbind(-1), observed.unbind(-1), strict=True):
        squares = (y - x).square().flatten()
        terms = torch.stack([torch.ones_like(squares), x.square().flatten()], 1)
        a, b = torch.linalg.lstsq(terms, squares[:, None]).solution.flatten()
        found.append(torch.stack([a, b, 0.03 * squares.mean()]))
    return torch.stack(found)


def precision_of(noise: Tensor, x: Tensor) -> Tensor:
    """The inverse variance of the noise of states x (…, field)."""
    return 1 / (noise[:, 0] + noise[:, 1] * x.square()).clamp(min=noise[:, 2])


def _segments(series: Tensor, horizon: int) -> Tensor:
    """(member, time, field) -> (member, segment, horizon, field), what is left over dropped."""
    count = series.shape[1] // horizon
    return series[:, : count * horizon].unflatten(1, (count, horizon))


def refine(
    features: Features,
    weight: Tensor,
    observed: Tensor,
    smooth: Tensor,
    precision: Tensor,
    horizons: list[int],
) -> Tensor:
    """W fitted on segments of growing length: each multiple of the one before, whose initial states it starts from."""
    starts, before = _segments(smooth, horizons[0])[:, :, 0], horizons[0]
    for horizon in horizons:
        targets = _segments(observed, horizon)
        starts = starts[:, :: horizon // before][:, : targets.shape[1]]
        weight, found, costs = fit(
            features,
            weight,
            targets.flatten(0, 1),
            starts.flatten(0, 1),
            _segments(precision, horizon).flatten(0, 1),
        )
        starts, before = found.unflatten(0, starts.shape[:2]), horizon
        print(
            f"shooting over {horizon} steps: cost {costs[0]:.5g} -> {costs[-1]:.5g} in {len(costs) - 1} steps",
            flush=True,
        )
    return weight
