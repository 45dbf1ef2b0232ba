"""Free-energy differences between two free fields by a map: bounds, works and the acceptance ratio."""

import numpy as np
import pytest
import torch
from test_velocity import rough

from physiglot.generative import targeted
from physiglot.systems import gff
from physiglot.velocity import lattice, paths

A, B = gff.Params(size=4, mass2=1.0), gff.Params(size=4, mass2=3.0, beta=0.5)
EXACT = gff.target(B).exact_logZ() - gff.target(A).exact_logZ()


def draws(params: gff.Params, count: int, seed: int) -> torch.Tensor:
    return torch.as_tensor(gff.draws(params, (count,), np.random.default_rng(seed))[0])


class Scaling(torch.nn.Module):
    """The exact map between free fields of different temperature: d ln φ/dt = ln κ."""

    def __init__(self, factor: float):
        super().__init__()
        self.rate = float(np.log(factor))

    def forward(self, x, t):
        return self.rate * x, x.new_full((len(x),), self.rate * x[0].numel())


def test_the_exact_map_has_constant_works():
    """Scaling φ by √(β/β') carries one temperature into another: every single work is the difference."""
    cold = gff.Params(size=4, beta=4.0)
    forward, reverse = targeted.works(
        Scaling(0.5), gff.target(A), gff.target(cold), draws(A, 50, 0), draws(cold, 50, 1), steps=32
    )
    exact = gff.target(cold).exact_logZ() - gff.target(A).exact_logZ()
    assert np.allclose(-forward, exact, atol=1e-5) and np.allclose(reverse, exact, atol=1e-5)
    assert exact == pytest.approx(-8 * np.log(4))


@pytest.mark.parametrize("size", [0.0, 0.02])
def test_bounds_hold_for_any_map(size):
    """Without a map, which is free-energy perturbation, and with a map at random."""
    field = rough(lattice.Field(4, times=3, frequencies=2, highest=2.0), size)
    found = targeted.difference(
        *targeted.works(field, gff.target(A), gff.target(B), draws(A, 4000, 2), draws(B, 4000, 3))
    )
    assert found.lower[0] - 4 * found.lower[1] < EXACT < found.upper[0] + 4 * found.upper[1]
    assert abs(found.bar[0] - EXACT) < 4 * found.bar[1]


def test_a_learnt_map_closes_the_bracket():
    torch.manual_seed(0)
    x, y = draws(A, 8000, 4), draws(B, 8000, 5)
    field = lattice.Field(4, times=4, frequencies=0, highest=1.0)
    optimizer = torch.optim.Adam(field.parameters(), lr=0.02)
    for _ in range(150):
        chosen = torch.randint(8000, (2, 128))
        z, one = x[chosen[0]].float(), y[chosen[1]].float()
        loss = paths.residuals(field, paths.paired(z, one, "ot"), one, paths.times(128, one), "linear").mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    given = (gff.target(A), gff.target(B), draws(A, 4000, 6), draws(B, 4000, 7))
    found = targeted.difference(*targeted.works(field.double(), *given))
    untrained = targeted.difference(
        *targeted.works(lattice.Field(4, times=1, frequencies=0, highest=1.0).double(), *given)
    )
    width, before = (d.upper[0] - d.lower[0] for d in (found, untrained))
    assert width < 0.3 * before
    assert found.lower[0] - 4 * found.lower[1] < EXACT < found.upper[0] + 4 * found.upper[1]
    assert abs(found.bar[0] - EXACT) < 4 * found.bar[1] and found.bar[1] < untrained.bar[1]
    assert abs(found.perturbation - EXACT) < 0.1
