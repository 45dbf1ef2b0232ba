"""Multiple shooting: it removes the bias of least squares on noisy states, and its algebra is the dense one."""

from itertools import pairwise

import pytest
import torch
from torch import Tensor

from physiglot import shooting

torch.set_num_threads(1)
TRUE = torch.tensor([[0.02, 0.0], [-0.05, 0.3], [-0.3, -0.05], [0.0, 0.06], [0.05, 0.0], [0.0, -0.04]])


def monomials(x: Tensor) -> Tensor:
    a, b = x.unbind(-1)
    return torch.stack([torch.ones_like(a), a, b, a * a, a * b, b * b], -1)


def rolled(weight: Tensor, start: Tensor, times: int) -> Tensor:
    """(segment, time, field) of the map x + f(x) W."""
    states = [start]
    for _ in range(times - 1):
        states.append(states[-1] + monomials(states[-1]) @ weight)
    return torch.stack(states, 1)


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def least_squares(series: Tensor) -> Tensor:
    """W by one-step regression of the increments."""
    x, delta = series[:, :-1].flatten(0, 1), series.diff(dim=1).flatten(0, 1)
    return torch.linalg.lstsq(monomials(x), delta).solution


@pytest.fixture(scope="module")
def noisy() -> tuple[Tensor, Tensor]:
    """A spiralling quadratic map, and what is seen of it with a noise of 0.03."""
    clean = rolled(TRUE.double(), 0.5 * random(128, 2), 32)
    return clean, clean + 0.03 * random(*clean.shape, seed=1)


def problem(segments: int = 3, times: int = 5) -> tuple[Tensor, ...]:
    """A weight off the truth, observations, first guesses and unequal precisions."""
    clean = rolled(TRUE.double(), 0.5 * random(segments, 2, seed=2), times)
    observed = clean + 0.05 * random(*clean.shape, seed=3)
    weight = TRUE.double() + 0.02 * random(6, 2, seed=4)
    return weight, observed, observed[:, 0], random(*clean.shape, seed=5).square() + 0.5


def residuals(weight: Tensor, start: Tensor, observed: Tensor, precision: Tensor) -> Tensor:
    return ((observed - rolled(weight, start, observed.shape[1])) * precision.sqrt()).flatten()


# --- what it is for -----------------------------------------------------------------------------


def test_recovers_the_coefficients_that_least_squares_misses(noisy):
    clean, observed = noisy
    biased, precision = least_squares(observed), torch.full_like(observed, 0.03**-2)
    found = shooting.refine(monomials, biased, observed, observed, precision, [8, 16, 32])
    error, before = (found - TRUE).abs().max(), (biased - TRUE).abs().max()
    assert error < 0.005 and error < before / 5
    assert (least_squares(clean) - TRUE).abs().max() < 1e-9


def test_cost_never_rises_and_ends_at_the_noise(noisy):
    _, observed = noisy
    precision = torch.full_like(observed, 0.03**-2)
    far = TRUE.double() + 0.02 * random(6, 2, seed=7)
    _, _, costs = shooting.fit(monomials, far, observed, observed[:, 0], precision, iterations=8)
    assert len(costs) > 2 and all(b < a for a, b in pairwise(costs))
    unknowns = 2 * len(observed) + TRUE.numel()
    assert costs[-1] == pytest.approx(1 - unknowns / observed.numel(), rel=0.05)


def test_a_start_that_no_step_improves_is_left_alone(noisy):
    clean, _ = noisy
    weight, _, costs = shooting.fit(monomials, TRUE.double(), clean, clean[:, 0], torch.ones_like(clean))
    assert torch.allclose(weight, TRUE.double(), atol=1e-12) and costs[-1] <= costs[0]


def test_chunks_change_nothing():
    weight, observed, start, precision = problem(segments=7)
    whole, parts = (
        shooting.fit(monomials, weight, observed, start, precision, iterations=2, chunk=chunk) for chunk in (100, 3)
    )
    assert torch.allclose(whole[0], parts[0], atol=1e-10) and torch.allclose(whole[1], parts[1], atol=1e-10)


# --- the algebra --------------------------------------------------------------------------------


@torch.no_grad()
def test_features_and_their_slopes():
    x = random(4, 2)
    value, slope = shooting._features_and_slope(monomials, x)
    jacobian = torch.func.vmap(torch.func.jacrev(monomials))(x)
    assert torch.allclose(value, monomials(x)) and torch.allclose(slope, jacobian)


def test_schur_step_is_the_dense_gauss_newton_step():
    """Without damping: least squares over W and all initial states together, by automatic differentiation."""
    weight, observed, start, precision = problem()
    with torch.no_grad():
        parts = [shooting._normal(monomials, s, weight, o, p) for s, o, p in split(start, observed, precision)]
        move, moves = shooting._step(parts, weight, damping=0.0)

    def whole(unknowns: Tensor) -> Tensor:
        w, s = unknowns[: weight.numel()].view_as(weight), unknowns[weight.numel() :].view_as(start)
        return residuals(w, s, observed, precision)

    unknowns = torch.cat([weight.flatten(), start.flatten()])
    slope = torch.func.jacrev(whole)(unknowns)
    dense = torch.linalg.solve(slope.T @ slope, -slope.T @ whole(unknowns))
    assert torch.allclose(torch.cat([move.flatten(), torch.cat(moves).flatten()]), dense, atol=1e-9)


def split(*tensors: Tensor) -> list[tuple[Tensor, ...]]:
    """Two chunks of unequal length."""
    return list(zip(*(t.split(2) for t in tensors), strict=True))


@torch.no_grad()
def test_cost_is_the_weighted_sum_of_squares():
    weight, observed, start, precision = problem()
    wanted = residuals(weight, start, observed, precision).square().view(3, -1).sum(1)
    assert torch.allclose(shooting._normal(monomials, start, weight, observed, precision).cost, wanted)
    assert torch.allclose(shooting._cost(monomials, start, weight, observed, precision), wanted)


# --- the analysis -------------------------------------------------------------------------------


def test_analysis_finds_better_starts_and_never_worse_ones(noisy):
    clean, observed = noisy
    precision = torch.full_like(observed, 0.03**-2)
    found = shooting.analyse(monomials, TRUE.double(), observed, observed[:, 0], precision)
    before, after = ((x - clean[:, 0]).square().mean().sqrt() for x in (observed[:, 0], found))
    assert after < before / 1.5
    kept = shooting.analyse(monomials, TRUE.double(), clean, clean[:, 0], precision)
    assert torch.allclose(kept, clean[:, 0], atol=1e-12)


# --- the noise ----------------------------------------------------------------------------------


def test_levels_of_relative_and_of_additive_noise_are_recovered():
    """One field with additive, one with relative noise, from residuals against the clean states."""
    clean = 3 * random(200, 100, 2, seed=8)
    deviation = torch.stack([torch.full_like(clean[..., 0], 0.2), 0.05 * clean[..., 1].abs()], -1)
    noise = shooting.noise_of(clean + deviation * random(*clean.shape, seed=9), clean)
    assert noise[0, 0].sqrt() == pytest.approx(0.2, rel=0.05) and noise[0, 1].abs() < 0.02 * noise[0, 0]
    assert noise[1, 1].sqrt() == pytest.approx(0.05, rel=0.05) and noise[1, 0].abs() < 0.1 * noise[1, 1]
    precision = shooting.precision_of(noise, clean)
    assert torch.allclose(precision[..., 0], torch.tensor(25.0).double(), rtol=0.1)
    large = clean[..., 1].abs() > 2
    assert torch.allclose(precision[..., 1][large], deviation[..., 1][large] ** -2, rtol=0.1)
    assert precision[..., 1].max() <= 1 / noise[1, 2]
