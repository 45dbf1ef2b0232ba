"""Lorenz-63: x' = σ(y − x), y' = x(ρ − z) − y, z' = xy − βz.

E. N. Lorenz, J. Atmos. Sci. 20, 130 (1963); dimensionless. Data set of N. Geneva and N. Zabaras,
Neural Networks 146, 272 (2022): uniform initial conditions, no spin-up, so that the transients towards the
attractor are in the data. Integrated by the classical fourth-order Runge–Kutta method in float64.
"""

import numpy as np
import xarray as xr
from numba import njit, types
from numba.extending import intrinsic
from pydantic import Field

from ..lanes import load, store
from ..strict import Strict

FIELDS = ("x", "y", "z")
UNITS = {"state": "1", "time": "1"}
LOWER = (-20.0, -20.0, 10.0)
UPPER = (20.0, 20.0, 40.0)
WIDTH = 8  # lanes of a vector
LANES = 4 * WIDTH
CACHE_LINE = 64

# "contract" allows fused multiply-adds and nothing else: no reassociation, so (x, y) -> (-x, -y) stays exact.
JIT = {"cache": True, "error_model": "numpy", "fastmath": {"contract"}}


class Params(Strict):
    sigma: float = Field(10.0, gt=0, allow_inf_nan=False, description="Prandtl number σ (Lorenz 1963)")
    rho: float = Field(28.0, ge=0, allow_inf_nan=False, description="relative Rayleigh number ρ (Lorenz 1963)")
    beta: float = Field(8 / 3, gt=0, allow_inf_nan=False, description="aspect ratio factor β (Lorenz 1963)")
    dt: float = Field(
        0.01, gt=0, allow_inf_nan=False, description="time between saved states, dimensionless (Geneva 2022)"
    )
    steps: int = Field(256, ge=1, description="saved states, the first is the initial condition (Geneva 2022)")
    substeps: int = Field(10, ge=1, description="Runge–Kutta steps per saved step")


def simulate(params: Params, members: int, rng: np.random.Generator) -> xr.Dataset:
    """Trajectories from x, y ~ U(−20, 20), z ~ U(10, 40): `state` (member, time, field), float64."""
    start = rng.uniform(LOWER, UPPER, (members, len(FIELDS)))
    physics = params.model_dump(exclude={"steps"})
    state = trajectories(start, params.steps, **physics)
    return xr.Dataset(
        {"state": (("member", "time", "field"), state, {"units": UNITS["state"]})},
        coords={
            "time": ("time", params.dt * np.arange(params.steps), {"units": UNITS["time"]}),
            "field": ("field", list(FIELDS)),
        },
        attrs={"system": "lorenz", "solver": "RK4", **physics},
    )


def trajectories(
    start: np.ndarray,
    steps: int,
    dt: float = 0.01,
    substeps: int = 10,
    sigma: float = 10.0,
    rho: float = 28.0,
    beta: float = 8 / 3,
) -> np.ndarray:
    """States (member, steps, 3) from `start` (member, 3), the first saved; RK4 of step dt/substeps.

    The result of a member is bitwise the same whatever its companions.
    """
    start = np.ascontiguousarray(start, dtype=np.float64)
    states = np.empty((len(start), steps, len(FIELDS)))
    h = dt / substeps
    lost = _integrate(start, states, _block(), substeps, h, float(sigma), float(rho), float(beta))
    if lost:
        raise FloatingPointError(
            f"lorenz: {lost} of {len(states)} trajectories are not finite at time {dt * (steps - 1):g} "
            f"with the Runge–Kutta step {h:g}: choose a smaller dt or more substeps."
        )
    return states


def _block() -> np.ndarray:
    """Memory for one block of states (3, LANES), aligned: vectors across two cache lines halve the speed."""
    memory = np.zeros(len(FIELDS) * LANES + CACHE_LINE // 8)
    first = -memory.ctypes.data % CACHE_LINE // 8
    return memory[first : first + len(FIELDS) * LANES].reshape(len(FIELDS), LANES)


@intrinsic
def _wide_vectors(context):
    """Lets LLVM use 512-bit vectors where there are any; on Intel it stops at 256 by default, 1.4× slower."""

    def codegen(context, builder, signature, arguments):
        # llvmlite's own `add` refuses the attributes that are strings.
        set.add(builder.function.attributes, '"prefer-vector-width"="512"')
        return context.get_dummy_value()

    return types.none(), codegen


@njit(**JIT)
def _slope(x, y, z, rho):
    """The right-hand side for x/√β, y/√β and z, in units of σ, 1 and β: every product is part of a fused operation."""
    return y - x, x * (rho - z) - y, x * y - z


@njit(**JIT)
def _step(x, y, z, h, sigma, rho, beta):
    """One classical Runge–Kutta step of length `h` of x/√β, y/√β and z.

    Doubling by a sum: processors that add and multiply in separate pipes then have as much to do in either.
    """
    half, sixth = 0.5 * h, h / 6.0
    p1, q1, r1 = _slope(x, y, z, rho)
    p2, q2, r2 = _slope(x + half * sigma * p1, y + half * q1, z + half * beta * r1, rho)
    p3, q3, r3 = _slope(x + half * sigma * p2, y + half * q2, z + half * beta * r2, rho)
    p4, q4, r4 = _slope(x + h * sigma * p3, y + h * q3, z + h * beta * r3, rho)
    p, q, r = p2 + p3, q2 + q3, r2 + r3
    return (
        x + sixth * sigma * ((p1 + p4) + (p + p)),
        y + sixth * ((q1 + q4) + (q + q)),
        z + sixth * beta * ((r1 + r4) + (r + r)),
    )


@njit(**JIT)
def _read(block, first):
    return load(block, 0, first), load(block, 1, first), load(block, 2, first)


@njit(**JIT)
def _write(block, first, state):
    for field in range(3):
        store(state[field], block, field, first)


@njit(**JIT)
def _advance(block, substeps, h, sigma, rho, beta):
    """`substeps` steps of a block. Its four vectors stay in registers, and each fills the time that another waits."""
    _wide_vectors()
    x0, y0, z0 = _read(block, 0)
    x1, y1, z1 = _read(block, WIDTH)
    x2, y2, z2 = _read(block, 2 * WIDTH)
    x3, y3, z3 = _read(block, 3 * WIDTH)
    for _ in range(substeps):
        x0, y0, z0 = _step(x0, y0, z0, h, sigma, rho, beta)
        x1, y1, z1 = _step(x1, y1, z1, h, sigma, rho, beta)
        x2, y2, z2 = _step(x2, y2, z2, h, sigma, rho, beta)
        x3, y3, z3 = _step(x3, y3, z3, h, sigma, rho, beta)
    _write(block, 0, (x0, y0, z0))
    _write(block, WIDTH, (x1, y1, z1))
    _write(block, 2 * WIDTH, (x2, y2, z2))
    _write(block, 3 * WIDTH, (x3, y3, z3))


@njit(**JIT)
def _integrate(start, states, block, substeps, h, sigma, rho, beta):
    """Fills `states` (member, time, 3) from `start` (member, 3); returns how many members end in inf or NaN.

    A block lives in L1 as structure of arrays.
    The last block is as wide as the others (idle lanes rest at the origin): no scalar remainder loop.
    Infinity and NaN never become finite again under RK4, so the last state tells of the whole path.
    """
    _wide_vectors()
    x, y, z = block[0], block[1], block[2]
    members, steps = states.shape[0], states.shape[1]
    unit = np.sqrt(beta)
    inverse = 1.0 / unit
    lost = 0
    for first in range(0, members, LANES):
        lanes = min(LANES, members - first)
        block[:] = 0.0
        for i in range(lanes):
            states[first + i, 0] = start[first + i]
            x[i], y[i], z[i] = start[first + i, 0] * inverse, start[first + i, 1] * inverse, start[first + i, 2]
        for t in range(1, steps):
            _advance(block, substeps, h, sigma, rho, beta)
            for i in range(lanes):
                states[first + i, t, 0] = unit * x[i]
                states[first + i, t, 1] = unit * y[i]
                states[first + i, t, 2] = z[i]
            for i in range(LANES):  # from what is saved, as if it were a start
                x[i], y[i] = (unit * x[i]) * inverse, (unit * y[i]) * inverse
        for i in range(lanes):
            lost += not (np.isfinite(x[i]) and np.isfinite(y[i]) and np.isfinite(z[i]))
    return lost
