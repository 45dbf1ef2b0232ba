"""The Gray–Scott equations on a periodic cube: seven-point Laplacian, classical Runge–Kutta of order four.

u' = r_u ∇²u − uv² + f(1 − u), v' = r_v ∇²v + uv² − (f + k)v: P. Gray, S. K. Scott, Chem. Eng. Sci. 38, 29 (1983);
J. E. Pearson, Science 261, 189 (1993). The scheme in numba for a core, and in torch for a GPU.

On a core one step is one pass over the domain. The four stages follow each other plane by plane: stage s is at
plane t − s while the first is at t, so that all that they read is in the cache. The stages 2 to 4 begin one plane
later each and end as much later, on planes that they left out at first: nothing is computed twice.
"""

from typing import NamedTuple

import numpy as np
from numba import njit

JIT = {"cache": True, "error_model": "numpy"}
FIRST = 4  # planes of a stage that are kept until the wave comes round; the others take turns in as many
SMALLEST = 4  # cells along an edge
ALIVE, DEAD, LOST = range(3)


class Reaction(NamedTuple):
    """The constants of the discrete system, in the units of length and time of the diffusivities."""

    diffusion_u: float = 0.2
    diffusion_v: float = 0.1
    feed: float = 0.025
    kill: float = 0.055
    dx: float = 1.0

    def scaled(self) -> tuple[float, float, float, float]:
        """r_u/dx², r_v/dx², f, f + k."""
        return self.diffusion_u / self.dx**2, self.diffusion_v / self.dx**2, self.feed, self.feed + self.kill


@njit(**JIT)
def _around(low, mid, high, field, row):
    """The cells of a plane and their six neighbours: views, as an index that might be negative stops vectors."""
    a, b = row, mid.shape[1] - row
    cells = mid[field]
    near = cells[a - 1 : b - 1], cells[a + 1 : b + 1], cells[: b - row], cells[a + row :]
    return cells[a:b], near, low[field, a:b], high[field, a:b]


@njit(**JIT)
def _rate(u, v, near_u, near_v, rates):
    """The right-hand side (u', v') of a cell from the sums over its neighbours."""
    across_u, across_v, feed, loss, one, six = rates
    reaction = u * v * v
    return (
        across_u * (near_u - six * u) + (feed * (one - u) - reaction),
        across_v * (near_v - six * v) + (reaction - loss * v),
    )


@njit(**JIT)
def _stage(low, mid, high, base, out, h, row, rates):
    """out = base + h · rate(mid): planes (field, cell) of rows with a ghost at both ends; `low`, `high` beside mid."""
    u, (u1, u2, u3, u4), u5, u6 = _around(low, mid, high, 0, row)
    v, (v1, v2, v3, v4), v5, v6 = _around(low, mid, high, 1, row)
    base_u, base_v, out_u, out_v = base[0, row:], base[1, row:], out[0, row:], out[1, row:]
    for i in range(len(u)):
        near_u = (u1[i] + u2[i]) + (u3[i] + u4[i]) + (u5[i] + u6[i])
        near_v = (v1[i] + v2[i]) + (v3[i] + v4[i]) + (v5[i] + v6[i])
        slope_u, slope_v = _rate(u[i], v[i], near_u, near_v, rates)
        out_u[i] = base_u[i] + h * slope_u
        out_v[i] = base_v[i] + h * slope_v
    _wrap(out, row)


@njit(**JIT)
def _finish(low, mid, high, second, third, base, h, row, rates, weights):
    """The last stage, in place of `base`. The slopes before it are in the differences of the stages: none is kept."""
    u, (u1, u2, u3, u4), u5, u6 = _around(low, mid, high, 0, row)
    v, (v1, v2, v3, v4), v5, v6 = _around(low, mid, high, 1, row)
    base_u, base_v = base[0, row:], base[1, row:]
    u_2, v_2, u_3, v_3 = second[0, row:], second[1, row:], third[0, row:], third[1, row:]
    one_third, two, sixth = weights
    for i in range(len(u)):
        near_u = (u1[i] + u2[i]) + (u3[i] + u4[i]) + (u5[i] + u6[i])
        near_v = (v1[i] + v2[i]) + (v3[i] + v4[i]) + (v5[i] + v6[i])
        slope_u, slope_v = _rate(u[i], v[i], near_u, near_v, rates)
        u0, v0 = base_u[i], base_v[i]
        past_u = (u_2[i] - u0) + two * (u_3[i] - u0) + (u[i] - u0)
        past_v = (v_2[i] - v0) + two * (v_3[i] - v0) + (v[i] - v0)
        base_u[i] = u0 + (one_third * past_u + sixth * h * slope_u)
        base_v[i] = v0 + (one_third * past_v + sixth * h * slope_v)
    _wrap(base, row)


@njit(**JIT)
def _wrap(plane, row):
    """Fill the ghosts of a plane: its rows and columns go on periodically."""
    last = plane.shape[1] - 2 * row
    for field in range(2):
        cells = plane[field]
        for start in range(row, last + row, row):
            cells[start] = cells[start + row - 2]
            cells[start + row - 1] = cells[start + 1]
        for i in range(row):
            cells[i] = cells[last + i]
            cells[last + row + i] = cells[row + i]


@njit(**JIT)
def _slot(plane):
    return plane if plane < FIRST else FIRST + plane % FIRST


@njit(**JIT)
def _step(state, stages, row, steps, rates, weights):
    """One Runge–Kutta step of `state` (plane, field, cell); `stages` (stage, slot, field, cell) is memory for it."""
    half, h = steps
    size = state.shape[0]
    second, third, fourth = stages[0], stages[1], stages[2]
    for t in range(size + 6):
        if t < size:
            low, high = state[(t - 1) % size], state[(t + 1) % size]
            _stage(low, state[t], high, state[t], second[_slot(t)], half, row, rates)
        if 2 <= t <= size + 1:
            p, low, high = (t - 1) % size, second[_slot((t - 2) % size)], second[_slot(t % size)]
            _stage(low, second[_slot(p)], high, state[p], third[_slot(p)], half, row, rates)
        if 4 <= t <= size + 3:
            p, low, high = (t - 2) % size, third[_slot((t - 3) % size)], third[_slot((t - 1) % size)]
            _stage(low, third[_slot(p)], high, state[p], fourth[_slot(p)], h, row, rates)
        if t >= 6:
            p, low, high = (t - 3) % size, fourth[_slot((t - 4) % size)], fourth[_slot((t - 2) % size)]
            y2, y3, y4 = second[_slot(p)], third[_slot(p)], fourth[_slot(p)]
            _finish(low, y4, high, y2, y3, state[p], h, row, rates, weights)


@njit(**JIT)
def _pad(start, state, row):
    """Copy `start` (field, z, y, x) into planes with ghosts."""
    size = start.shape[1]
    for z in range(size):
        for field in range(2):
            for y in range(size):
                for x in range(size):
                    state[z, field, (y + 1) * row + x + 1] = start[field, z, y, x]
        _wrap(state[z], row)


@njit(**JIT)
def _save(state, frame, row, share):
    """Average cubes of cells into `frame` (field, z, y, x)."""
    frame[:] = 0
    cube = state.shape[0] // frame.shape[1]
    for z in range(state.shape[0]):
        for field in range(2):
            for y in range(state.shape[0]):
                to, cells = frame[field, z // cube, y // cube], state[z, field, (y + 1) * row + 1 : (y + 2) * row - 1]
                for x in range(frame.shape[1]):
                    for i in range(cube):
                        to[x] += cells[x * cube + i]
    if cube > 1:
        frame *= share


@njit(**JIT)
def _series(start, frames, state, stages, substeps, steps, rates, weights, share, least):
    """Fill `frames` (time, field, z, y, x) of a member; returns how it ended."""
    row = start.shape[1] + 2
    _pad(start, state, row)
    for t in range(frames.shape[0]):
        if t > 0:
            for _ in range(substeps):
                _step(state, stages, row, steps, rates, weights)
        _save(state, frames[t], row, share)
        u, v = _mean(frames[t, 0]), _mean(frames[t, 1])
        if not np.isfinite(u + v):
            return LOST
        if v < least:
            return DEAD
    return ALIVE


@njit(**JIT)
def _mean(field):
    total = 0.0
    for value in field.flat:
        total += value
    return total / field.size


def integrate(
    start: np.ndarray, frames: np.ndarray, h: float, substeps: int, reaction: Reaction, least: float = 0.0
) -> int:
    """Fill `frames` (time, field, z, y, x) from `start` (field, z, y, x) by steps of `h`: ALIVE, DEAD or LOST.

    The grid of a frame may be coarser by a whole factor: then it holds block averages. A series is DEAD, and left
    there, at the first frame whose mean v is below `least`; LOST where it is not finite. The type is that of `frames`.
    """
    kind, size = frames.dtype.type, start.shape[-1]
    if size < SMALLEST or size % frames.shape[-1] or start.shape != (2, size, size, size):
        raise ValueError(
            f"stencils: a start {start.shape} with frames {frames.shape}: allowed: cubes of 4³ or more "
            "cells, a whole number of them to each cell of a frame"
        )
    state = np.zeros((size, 2, (size + 2) ** 2), kind)
    stages = np.zeros((3, 2 * FIRST, 2, (size + 2) ** 2), kind)
    rates = tuple(kind(x) for x in (*reaction.scaled(), 1, 6))
    steps, weights = (kind(h / 2), kind(h)), (kind(1 / 3), kind(2), kind(1 / 6))
    share = kind((frames.shape[-1] / size) ** 3)
    start = np.ascontiguousarray(start, kind)
    return _series(start, frames, state, stages, substeps, steps, rates, weights, share, least)
