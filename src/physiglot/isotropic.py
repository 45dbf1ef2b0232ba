"""Fields on a periodic cubic grid: what a cell sees of its neighbours, and the symmetries of the cube."""

import itertools

import torch
from torch import Tensor

from .ranks import normal

AXES = (-3, -2, -1)
PERMUTATIONS = tuple(itertools.permutations(range(3)))


def _pair(x: Tensor, axis: int) -> Tensor:
    return x.roll(1, axis) + x.roll(-1, axis)


def neighbours(x: Tensor) -> Tensor:
    """Three discrete Laplacians of x (…, field, z, y, x): the mean over the 6 face, 12 edge and 8 corner neighbours
    minus the cell, (…, 3 field, z, y, x). They span all 3³ stencils that no symmetry of the cube changes."""
    a, b, c = (_pair(x, axis) for axis in AXES)
    ab, ac, bc = _pair(a, -2), _pair(a, -1), _pair(b, -1)
    means = (a + b + c) / 6, (ab + ac + bc) / 12, _pair(ab, -1) / 8
    return torch.cat([mean - x for mean in means], -4)


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
