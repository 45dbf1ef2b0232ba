"""Fields on a periodic cubic grid: the neighbours of a cell, a finer grid below, the symmetries of the cube."""

import itertools
from math import pi

import torch
from torch import Tensor
from torch.nn import functional

from .ranks import normal

AXES = (-3, -2, -1)
PERMUTATIONS = tuple(itertools.permutations(range(3)))


def _pair(x: Tensor, axis: int) -> Tensor:
    return x.roll(1, axis) + x.roll(-1, axis)


def neighbours(x: Tensor, stencils: int = 3) -> Tensor:
    """Discrete Laplacians of x (…, field, z, y, x): the mean over the 6 face, 12 edge and 8 corner neighbours minus the
    cell, (…, stencils field, z, y, x). All three span the 3³ stencils that no symmetry of the cube changes."""
    a, b, c = (_pair(x, axis) for axis in AXES)
    means = [(a + b + c) / 6]
    if stencils > 1:
        ab = _pair(a, -2)
        means.append((ab + _pair(a, -1) + _pair(b, -1)) / 12)
    if stencils > 2:
        means.append(_pair(ab, -1) / 8)
    return torch.cat([mean - x for mean in means], -4)


def refinement(size: int, parts: int) -> Tensor:
    """(parts size, size): from means over `parts` cells of a periodic line to its cells.

    The band-limited line that has these means, at the cells' centres: a mode is divided by its mean over a stored cell.
    """
    inside = (torch.arange(parts, dtype=torch.float64) - (parts - 1) / 2) / parts
    waves = 2 * pi * torch.fft.fftfreq(size, dtype=torch.float64)
    apart = (torch.arange(size)[:, None] + inside).reshape(-1, 1) - torch.arange(size)
    kept = (waves[:, None] * inside).cos().mean(1)
    return torch.einsum("nij,n->ij", (waves[:, None, None] * apart).cos(), 1 / (size * kept))


def refined(x: Tensor, parts: int) -> Tensor:
    """x (…, z, y, x) on a grid of parts³ cells for each one, whose means are x again."""
    if parts == 1:
        return x
    for axis in AXES:
        lines = x.movedim(axis, -1)
        x = (lines @ refinement(lines.shape[-1], parts).to(x).T).movedim(-1, axis)
    return x


def averaged(x: Tensor, parts: int) -> Tensor:
    """The means of x (…, z, y, x) over blocks of parts³ cells."""
    if parts == 1:
        return x
    means = functional.avg_pool3d(x.flatten(0, -4), parts)
    return means.view(*x.shape[:-3], *means.shape[-3:])


def moved(x: Tensor, order: tuple[int, ...], flips: list[int], shifts: list[int]) -> Tensor:
    """x (…, z, y, x) after a permutation and reflections of its axes and a periodic shift."""
    turned = x.permute(*range(x.ndim - 3), *(x.ndim - 3 + i for i in order))
    return turned.flip(flips).roll(shifts, AXES)


def augmented(series: Tensor) -> Tensor:
    """Each of `series` (batch, time, field, z, y, x) after a symmetry of the cube and a shift of its own, at random."""
    drawn = torch.special.ndtr(normal(series[:, :1, 0, 0, 0, 0].expand(-1, 7)))
    picked = []
    for x, r in zip(series, drawn.tolist(), strict=True):
        flips = [axis for axis, p in zip(AXES, r[1:4], strict=True) if p < 0.5]
        shifts = [int(p * size) for p, size in zip(r[4:], x.shape[-3:], strict=True)]
        picked.append(moved(x, PERMUTATIONS[min(int(6 * r[0]), 5)], flips, shifts))
    return torch.stack(picked)
