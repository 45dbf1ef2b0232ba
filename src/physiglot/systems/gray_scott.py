"""Gray–Scott in three dimensions, periodic: u' = r_u ∇²u − uv² + f(1 − u), v' = r_v ∇²v + uv² − (f + k)v.

P. Gray, S. K. Scott, Chem. Eng. Sci. 38, 29 (1983); dimensionless. The data set of N. Geneva and N. Zabaras, Neural
Networks 146, 272 (2022), whose eq. 19 prints vu² in the second equation, where the reaction U + 2V → 3V gives uv².
They start from u = 1, v = 0 with three perturbations and store 32³ cells, but give neither the size of the
perturbations nor the spacing of the grid. Both are inferred here from the mean and the standard deviation of their
training data (see docs/gray_scott.md): 64³ cells with dx = 1, cubes of 13³ cells, averaged over 2³ cells.

Seven-point Laplacian, classical fourth-order Runge–Kutta. With dx = 1 the fronts are barely resolved: what is learnt
from these data is the discrete system.
"""

from typing import Literal

import numpy as np
import xarray as xr
from pydantic import Field, model_validator

from .. import stencils
from ..strict import Strict

FIELDS = ("u", "v")
UNITS = {"state": "1", "time": "1"}
STABLE = 2.785  # −λh on the negative real axis up to which classical Runge–Kutta is stable
TRIALS = 100


class Params(Strict):
    diffusion_u: float = Field(0.2, gt=0, le=1e6, description="diffusivity r_u (Geneva 2022)")
    diffusion_v: float = Field(0.1, gt=0, le=1e6, description="diffusivity r_v (Geneva 2022)")
    feed: float = Field(0.025, ge=0, le=1, description="feed rate f (Geneva 2022)")
    kill: float = Field(0.055, ge=0, le=1, description="kill rate k (Geneva 2022)")
    grid: int = Field(32, ge=4, le=1024, description="stored cells along an edge (Geneva 2022)")
    average: int = Field(2, ge=1, le=16, description="simulated cells along the edge of a stored one (inferred)")
    dx: float = Field(1.0, gt=0, le=1e6, description="edge of a simulated cell (inferred)")
    cubes: int = Field(3, ge=1, le=1000, description="perturbed cubes of the initial state (Geneva 2022)")
    cube: int = Field(13, ge=1, le=1024, description="simulated cells along the edge of a perturbed cube (inferred)")
    cube_u: float = Field(0.5, ge=0, le=1, description="u in the cubes; it is 1 elsewhere")
    cube_v: float = Field(0.25, ge=0, le=1, description="v in the cubes; it is 0 elsewhere")
    dt: float = Field(5.0, gt=0, le=1e6, description="time between saved states (Geneva 2022)")
    steps: int = Field(200, ge=1, description="saved states, the first is the initial state (Geneva 2022)")
    substeps: int = Field(5, ge=1, description="Runge–Kutta steps per saved step")
    extinct: float = Field(1e-3, ge=0, le=1, description="a series whose mean v falls below this is drawn anew")
    precision: Literal["float32", "float64"] = Field("float32", description="type of the states")
    solver: Literal["numba", "torch"] = Field("numba", description="one core, or torch: on a GPU where there is one")

    @model_validator(mode="after")
    def _possible(self) -> "Params":
        size, h = self.grid * self.average, self.dt / self.substeps
        largest = STABLE / (12 * max(self.diffusion_u, self.diffusion_v) / self.dx**2)
        if self.cube > size:
            raise ValueError(f"cube: {self.cube}: larger than the box of {size} cells")
        if h > largest:
            raise ValueError(f"substeps: {self.substeps}: the step dt/substeps = {h:g} must be at most {largest:.3g}")
        return self

    def imported(self) -> dict:
        """What a series of an HDF5 file looks like (see `layouts`)."""
        cell = self.dx * self.average
        return {"axes": {a: [cell / 2, cell * (self.grid - 0.5), self.grid] for a in "zyx"}, "dtype": self.precision}


def simulate(params: Params, members: int, rng: np.random.Generator) -> xr.Dataset:
    """`state` (member, time, field, z, y, x), and `redrawn` (member): how often a series was drawn anew, as it died."""
    state, redrawn = ensemble(params, members, rng)
    spacing = params.dx * params.average
    centres = {a: (a, spacing * (np.arange(params.grid) + 0.5), {"units": "1"}) for a in ("z", "y", "x")}
    return xr.Dataset(
        {
            "state": (("member", "time", "field", "z", "y", "x"), state, {"units": UNITS["state"]}),
            "redrawn": (("member",), redrawn, {"units": "1"}),
        },
        coords={
            "time": ("time", params.dt * np.arange(params.steps), {"units": UNITS["time"]}),
            "field": ("field", list(FIELDS)),
            **centres,
        },
        attrs={
            "system": "gray_scott",
            "boundary": "periodic",
            "scheme": "7-point, RK4",
            **params.model_dump(exclude={"steps"}),
        },
    )


def starts(params: Params, members: int, rng: np.random.Generator) -> np.ndarray:
    """Initial states (member, field, z, y, x) on the simulated grid: cubes anywhere, over the edges and each other."""
    size = params.grid * params.average
    state = np.zeros((members, 2, size, size, size), params.precision)
    state[:, 0] = 1
    for member in state:
        for corner in rng.integers(size, size=(params.cubes, 3)):
            cells = np.ix_(*((c + np.arange(params.cube)) % size for c in corner))
            member[0][cells], member[1][cells] = params.cube_u, params.cube_v
    return state


def ensemble(params: Params, members: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Series (member, time, field, z, y, x) that live, and how often each was drawn anew."""
    state = np.empty((members, params.steps, 2, *[params.grid] * 3), params.precision)
    redrawn = np.zeros(members)
    waiting = np.arange(members)
    while len(waiting):
        ended = np.array([_run(params, starts(params, 1, rng)[0], state[i]) for i in waiting])
        if (ended == stencils.LOST).any():
            raise FloatingPointError(
                f"gray_scott: {np.sum(ended == stencils.LOST)} of {len(waiting)} series are not finite with the "
                f"Runge–Kutta step {params.dt / params.substeps:g}: choose more substeps"
            )
        waiting = waiting[ended == stencils.DEAD]
        redrawn[waiting] += 1
        if redrawn.max() >= TRIALS:
            raise FloatingPointError(
                f"gray_scott: {TRIALS} initial states in a row died out (mean v below {params.extinct:g}): "
                "choose larger or more cubes, or other rates"
            )
    return state, redrawn


def reaction(params: Params) -> stencils.Reaction:
    return stencils.Reaction(params.diffusion_u, params.diffusion_v, params.feed, params.kill, params.dx)


def _run(params: Params, start: np.ndarray, frames: np.ndarray) -> int:
    """Fill the frames (time, field, z, y, x) of a series from its start; returns how it ended."""
    h, rates = params.dt / params.substeps, reaction(params)
    if params.solver == "numba":
        return stencils.integrate(start, frames, h, params.substeps, rates, params.extinct)
    import torch

    from .. import device
    from ..reaction import frames as roll

    first = torch.from_numpy(start[None]).to(device.best())
    found = roll(first, len(frames), h, params.substeps, rates, params.average)
    frames[:] = found[0].cpu().numpy()
    means = frames.mean((2, 3, 4), dtype=np.float64)
    if not np.isfinite(means).all():
        return stencils.LOST
    return stencils.DEAD if means[:, 1].min() < params.extinct else stencils.ALIVE
