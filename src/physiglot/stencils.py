"""The Gray–Scott equations on a periodic cube: seven-point Laplacian, classical Runge–Kutta of order four.

u' = r_u ∇²u − uv² + f(1 − u), v' = r_v ∇²v + uv² − (f + k)v: P. Gray, S. K. Scott, Chem. Eng. Sci. 38, 29 (1983);
J. E. Pearson, Science 261, 189 (1993). The scheme in numba for a core, and in torch for a GPU.

On a core, one step is one pass over the domain. The four stages follow each other plane by plane: stage s is at
plane t − s while the first is at t, so that all that they read is in the cache. The stages 2 to 4 begin one plane
later each and end as much later, on planes that they left out at first: nothing is computed twice. A row is walked in
whole vectors, those before, at and after a cell in registers; what the last of them has beyond the row is not used.
"""

from typing import Any, NamedTuple

import numpy as np
from numba import njit

from .lanes import beside, load, store, width

# "contract" allows fused multiply-adds and nothing else.
JIT = {"cache": True, "error_model": "numpy", "fastmath": {"contract"}}
FIRST = 4  # planes of a stage that are kept until the wave comes round; the others take turns in as many
LINE = 64  # bytes of a vector and of a cache line, with which a row begins
LEFT = 16  # cells before a row
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
    return y * pitch + LEFT, before * pitch + LEFT, after * pitch + LEFT


@njit(**JIT)
def _near(plane, field, low, high, places, left, here, right):
    """The sum over the neighbours of `here`, cell i of the plane; j and k are before and after it in y."""
    i, j, k = places
    x_before, x_after = beside(left, here, right)
    y, z = load(plane, field, j) + load(plane, field, k), load(low, field, i) + load(high, field, i)
    return (x_before + x_after) + y + z


@njit(**JIT)
def _stage(low, mid, high, base, out, size, pitch, rates):
    """out = base + h · rate(mid), planes (field, cell) with the planes `low` and `high` beside `mid`."""
    lanes = width(mid)
    for y in range(size):
        row, before, after = _rows(y, size, pitch)
        left_u, left_v = load(mid, 0, row - lanes), load(mid, 1, row - lanes)
        u, v = load(mid, 0, row), load(mid, 1, row)
        for x in range(0, size, lanes):
            i = row + x
            places = i, before + x, after + x
            right_u, right_v = load(mid, 0, i + lanes), load(mid, 1, i + lanes)
            near_u = _near(mid, 0, low, high, places, left_u, u, right_u)
            near_v = _near(mid, 1, low, high, places, left_v, v, right_v)
            new_u, new_v = _moved(u, v, load(base, 0, i), load(base, 1, i), near_u, near_v, rates)
            store(new_u, out, 0, i)
            store(new_v, out, 1, i)
            left_u, u, left_v, v = u, right_u, v, right_v
        _close(out, row, size)


@njit(**JIT)
def _finish(low, mid, high, second, third, base, size, pitch, rates, weights):
    """The last stage, in place of `base`. The slopes before it are in the differences of the stages: none is kept."""
    lanes = width(mid)
    one_third, two = weights
    for y in range(size):
        row, before, after = _rows(y, size, pitch)
        left_u, left_v = load(mid, 0, row - lanes), load(mid, 1, row - lanes)
        u, v = load(mid, 0, row), load(mid, 1, row)
        for x in range(0, size, lanes):
            i = row + x
            places = i, before + x, after + x
            right_u, right_v = load(mid, 0, i + lanes), load(mid, 1, i + lanes)
            near_u = _near(mid, 0, low, high, places, left_u, u, right_u)
            near_v = _near(mid, 1, low, high, places, left_v, v, right_v)
            u0, v0 = load(base, 0, i), load(base, 1, i)
            past_u = ((load(second, 0, i) - u0) + (u - u0)) + two * (load(third, 0, i) - u0)
            past_v = ((load(second, 1, i) - v0) + (v - v0)) + two * (load(third, 1, i) - v0)
            past_u, past_v = u0 + one_third * past_u, v0 + one_third * past_v
            new_u, new_v = _moved(u, v, past_u, past_v, near_u, near_v, rates)
            store(new_u, base, 0, i)
            store(new_v, base, 1, i)
            left_u, u, left_v, v = u, right_u, v, right_v
        _close(base, row, size)


@njit(**JIT)
def _close(plane, row, size):
    """The ghosts at both ends of a row: it goes on periodically."""
    row, end, one = np.uint64(row), np.uint64(row + size), np.uint64(1)
    for cells in (plane[0], plane[1]):
        cells[row - one] = cells[end - one]
        cells[end] = cells[row]


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
        for y in range(size):
            row = y * pitch + LEFT
            for field in range(2):
                state[z, field, row : row + size] = start[field, z, y]
            _close(state[z], row, size)


@njit(**JIT)
def _save(state, frame, pitch, share):
    """Average cubes of cells into `frame` (field, z, y, x)."""
    size, grid = state.shape[0], frame.shape[1]
    cube, line = size // grid, np.empty(size, frame.dtype)
    for z in range(grid):
        for field in range(2):
            for y in range(grid):
                to = frame[field, z, y]
                if cube == 1:
                    to[:] = state[z, field, y * pitch + LEFT :][:size]
                    continue
                to[:], line[:] = 0, 0
                for k in range(cube * cube):
                    row = (y * cube + k % cube) * pitch + LEFT
                    cells = state[z * cube + k // cube, field, row : row + size]
                    for x in range(size):
                        line[x] += cells[x]
                for x in range(grid):
                    for i in range(cube):
                        to[x] += share * line[x * cube + i]


@njit(**JIT)
def _series(start, frames, state, stages, substeps, rates, weights, share, least):
    """Fill `frames` (time, field, z, y, x) of a member; returns how it ended."""
    pitch = state.shape[2] // state.shape[0]
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


@njit(**{**JIT, "fastmath": {"reassoc"}})  # one sum after the other would cost more than a step
def _mean(field):
    total = 0.0
    for z in range(field.shape[0]):
        for y in range(field.shape[1]):
            for x in range(field.shape[2]):
                total += field[z, y, x]
    return total / field.size


def _aligned(shape: tuple[int, ...], kind: Any) -> np.ndarray:
    """Zeros that begin with a cache line: vectors across two lines are slower."""
    count, size = int(np.prod(shape)), np.dtype(kind).itemsize
    memory = np.zeros(count + LINE // size, kind)
    first = -memory.ctypes.data % LINE // size
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
    plane = size * (-(-size // 16) * 16 + LEFT) + LEFT
    state, stages = _aligned((size, 2, plane), kind), _aligned((3, 2 * FIRST, 2, plane), kind)
    rates, weights = tuple(_of_step(reaction, part * h, kind) for part in (1 / 2, 1, 1 / 6)), (kind(1 / 3), kind(2))
    share = kind((frames.shape[-1] / size) ** 3)
    start = np.ascontiguousarray(start, kind)
    return _series(start, frames, state, stages, substeps, rates, weights, share, least)
