"""The Gray–Scott equations on a periodic cube: seven-point Laplacian, classical Runge–Kutta of order four.

u' = r_u ∇²u − uv² + f(1 − u), v' = r_v ∇²v + uv² − (f + k)v: P. Gray, S. K. Scott, Chem. Eng. Sci. 38, 29 (1983);
J. E. Pearson, Science 261, 189 (1993). The scheme in numba for a core, and in torch for a GPU.

On a core, one step is one pass over the domain. The four stages follow each other plane by plane: stage s is at
plane t − s while the first is at t, so that all that they read is in the cache. The stages 2 to 4 begin one plane
later each and end as much later, on planes that they left out at first: nothing is computed twice.
"""

from typing import Any, NamedTuple

import numpy as np
from numba import njit

# "contract" allows fused multiply-adds and nothing else.
JIT = {"cache": True, "error_model": "numpy", "fastmath": {"contract"}}
FIRST = 4  # planes of a stage that are kept until the wave comes round; the others take turns in as many
LEFT = np.uint64(16)  # cells before a row: it begins with a cache line
ONE = np.uint64(1)  # indices are unsigned: one that might be negative stops vectors
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
def _moved(u, v, u0, v0, near_u, near_v, rates):
    """(u0, v0) + h · (u', v') of a cell from the sums over its neighbours, h in the `rates`; (1, 0) rests exactly."""
    across_u, across_v, feed, own_v, h, one, six = rates
    reaction = (h * u) * (v * v)
    return (
        u0 + across_u * (near_u - six * u) + feed * (one - u) - reaction,
        v0 + across_v * near_v - own_v * v + reaction,
    )


@njit(**JIT)
def _rows(y, size, pitch):
    """The first cells of row y and of the rows before and after it."""
    before, after = (y - 1 if y else size - 1), (y + 1 if y + 1 < size else 0)
    return np.uint64(y) * pitch + LEFT, np.uint64(before) * pitch + LEFT, np.uint64(after) * pitch + LEFT


@njit(**JIT)
def _stage(low, mid, high, base, out, size, pitch, rates):
    """out = base + h · rate(mid), planes (field, cell) with the planes `low` and `high` beside `mid`."""
    u, u_low, u_high, base_u, out_u = mid[0], low[0], high[0], base[0], out[0]
    v, v_low, v_high, base_v, out_v = mid[1], low[1], high[1], base[1], out[1]
    for y in range(size):
        row, before, after = _rows(y, size, pitch)
        for x in range(size):
            i, j, k = row + np.uint64(x), before + np.uint64(x), after + np.uint64(x)
            near_u = (u[i - ONE] + u[i + ONE]) + (u[j] + u[k]) + (u_low[i] + u_high[i])
            near_v = (v[i - ONE] + v[i + ONE]) + (v[j] + v[k]) + (v_low[i] + v_high[i])
            out_u[i], out_v[i] = _moved(u[i], v[i], base_u[i], base_v[i], near_u, near_v, rates)
        _close(out_u, row, size)
        _close(out_v, row, size)


@njit(**JIT)
def _finish(low, mid, high, second, third, base, size, pitch, rates, weights):
    """The last stage, in place of `base`. The slopes before it are in the differences of the stages: none is kept."""
    u, u_low, u_high, base_u = mid[0], low[0], high[0], base[0]
    v, v_low, v_high, base_v = mid[1], low[1], high[1], base[1]
    u_2, v_2, u_3, v_3 = second[0], second[1], third[0], third[1]
    one_third, two = weights
    for y in range(size):
        row, before, after = _rows(y, size, pitch)
        for x in range(size):
            i, j, k = row + np.uint64(x), before + np.uint64(x), after + np.uint64(x)
            near_u = (u[i - ONE] + u[i + ONE]) + (u[j] + u[k]) + (u_low[i] + u_high[i])
            near_v = (v[i - ONE] + v[i + ONE]) + (v[j] + v[k]) + (v_low[i] + v_high[i])
            u0, v0 = base_u[i], base_v[i]
            past_u = ((u_2[i] - u0) + (u[i] - u0)) + two * (u_3[i] - u0)
            past_v = ((v_2[i] - v0) + (v[i] - v0)) + two * (v_3[i] - v0)
            past_u, past_v = u0 + one_third * past_u, v0 + one_third * past_v
            base_u[i], base_v[i] = _moved(u[i], v[i], past_u, past_v, near_u, near_v, rates)
        _close(base_u, row, size)
        _close(base_v, row, size)


@njit(**JIT)
def _close(cells, row, size):
    """The ghosts at both ends of a row: it goes on periodically."""
    n = np.uint64(size)
    cells[row - ONE] = cells[row + n - ONE]
    cells[row + n] = cells[row]


@njit(**JIT)
def _slot(plane):
    return plane if plane < FIRST else FIRST + plane % FIRST


@njit(**JIT)
def _step(state, stages, pitch, rates, weights):
    """One Runge–Kutta step of `state` (plane, field, cell); `stages` (stage, slot, field, cell) is memory for it."""
    half, whole, sixth = rates
    size = state.shape[0]
    second, third, fourth = stages[0], stages[1], stages[2]
    for t in range(size + 6):
        if t < size:
            low, high = state[(t - 1) % size], state[(t + 1) % size]
            _stage(low, state[t], high, state[t], second[_slot(t)], size, pitch, half)
        if 2 <= t <= size + 1:
            p, low, high = (t - 1) % size, second[_slot((t - 2) % size)], second[_slot(t % size)]
            _stage(low, second[_slot(p)], high, state[p], third[_slot(p)], size, pitch, half)
        if 4 <= t <= size + 3:
            p, low, high = (t - 2) % size, third[_slot((t - 3) % size)], third[_slot((t - 1) % size)]
            _stage(low, third[_slot(p)], high, state[p], fourth[_slot(p)], size, pitch, whole)
        if t >= 6:
            p, low, high = (t - 3) % size, fourth[_slot((t - 4) % size)], fourth[_slot((t - 2) % size)]
            y2, y3, y4 = second[_slot(p)], third[_slot(p)], fourth[_slot(p)]
            _finish(low, y4, high, y2, y3, state[p], size, pitch, sixth, weights)


@njit(**JIT)
def _pad(start, state, pitch):
    """Copy `start` (field, z, y, x) into planes with ghosts."""
    size = start.shape[1]
    for z in range(size):
        for field in range(2):
            for y in range(size):
                row = np.uint64(y) * pitch + LEFT
                for x in range(size):
                    state[z, field, row + np.uint64(x)] = start[field, z, y, x]
                _close(state[z, field], row, size)


@njit(**JIT)
def _save(state, frame, pitch, share):
    """Average cubes of cells into `frame` (field, z, y, x)."""
    frame[:] = 0
    cube = state.shape[0] // frame.shape[1]
    for z in range(state.shape[0]):
        for field in range(2):
            for y in range(state.shape[0]):
                to, cells = frame[field, z // cube, y // cube], state[z, field, np.uint64(y) * pitch + LEFT :]
                for x in range(frame.shape[1]):
                    for i in range(cube):
                        to[x] += cells[x * cube + i]
    if cube > 1:
        frame *= share


@njit(**JIT)
def _series(start, frames, state, stages, substeps, rates, weights, share, least):
    """Fill `frames` (time, field, z, y, x) of a member; returns how it ended."""
    pitch = np.uint64(state.shape[2] // state.shape[0])
    _pad(start, state, pitch)
    for t in range(frames.shape[0]):
        if t > 0:
            for _ in range(substeps):
                _step(state, stages, pitch, rates, weights)
        _save(state, frames[t], pitch, share)
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


def _aligned(shape: tuple[int, ...], kind: Any) -> np.ndarray:
    """Zeros that begin with a cache line: vectors across two lines are slower."""
    count, size = int(np.prod(shape)), np.dtype(kind).itemsize
    memory = np.zeros(count + 64 // size, kind)
    first = -memory.ctypes.data % 64 // size
    return memory[first : first + count].reshape(shape)


def _of_step(reaction: Reaction, h: float, kind: Any) -> tuple:
    """The constants of `_moved` for a step `h`."""
    across_u, across_v, feed, loss = reaction.scaled()
    of_h = tuple(kind(h * x) for x in (across_u, across_v, feed, 6 * across_v + loss, 1))
    return (*of_h, kind(1), kind(6))


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
    plane = size * (-(-size // 16) * 16 + 16) + 16
    state, stages = _aligned((size, 2, plane), kind), _aligned((3, 2 * FIRST, 2, plane), kind)
    rates, weights = tuple(_of_step(reaction, part * h, kind) for part in (1 / 2, 1, 1 / 6)), (kind(1 / 3), kind(2))
    share = kind((frames.shape[-1] / size) ** 3)
    start = np.ascontiguousarray(start, kind)
    return _series(start, frames, state, stages, substeps, rates, weights, share, least)
