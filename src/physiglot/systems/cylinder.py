"""The wake of a circular cylinder in two dimensions: incompressible Navier–Stokes flow past radius 1 at speed 1.

Data set of N. Geneva and N. Zabaras, Neural Networks 146, 272 (2022): velocity and kinematic pressure on the window
x ∈ [−2, 14], y ∈ [−4, 4]. Length in radii, velocity in units of the free stream, so Re = U d/ν = 2/ν.
The solver is our own (`physiglot.wake`): vorticity and stream function on a body-fitted polar grid.

The flow starts impulsively and is mirror-symmetric for `symmetric` time units. Then a vorticity source
A sin²(π(t + 2)/2) exp(−[(x − 2.5)² + y²]/(2·0.5²)), the same at every Re, acts for −2 ≤ t < 0; frame 0 is at t = 0.
So the perturbation is part of the first frame, and what follows is determined by it. Above Re ≈ 190 a real wake is
three-dimensional.
"""

import math
from typing import Any, Literal

import numpy as np
import xarray as xr
from pydantic import Field, model_validator

from ..strict import Strict

FIELDS = ("ux", "uy", "p")
UNITS = {"state": "U, U, U²", "time": "radius/U", "space": "radius"}
KICK = 2.0


class Params(Strict):
    reynolds_min: float = Field(100.0, ge=1, le=2000, description="lowest Reynolds number U d/ν (Geneva 2022: 100)")
    reynolds_max: float = Field(300.0, ge=1, le=2000, description="highest Reynolds number (Geneva 2022: 750)")
    stratified: bool = Field(
        False, description="one member of a block in each of equal ranges of Re, instead of independent draws"
    )
    reynolds: list[float] | None = Field(None, description="Reynolds numbers of the members of a block, not drawn")
    dt: float = Field(0.5, gt=0, le=10, description="time between saved frames, radius/U (Geneva 2022: 0.5)")
    steps: int = Field(160, ge=1, description="saved frames, the first at the end of the kick (Geneva 2022: 400)")
    substeps: int = Field(50, ge=1, description="solver steps per saved frame; dt/substeps · angles must be ≤ 1.3")
    radial: int = Field(96, ge=32, description="grid points in ln r")
    angles: int = Field(96, ge=32, multiple_of=8, description="grid points in θ; two thirds of the modes are kept")
    r_out: float = Field(60.0, ge=30, le=1000, description="outer radius; vorticity is damped in its outer half")
    symmetric: float = Field(20.0, ge=0, le=1000, description="time of mirror-symmetric flow before the kick, radius/U")
    kick: float = Field(0.2, ge=-10, le=10, description="strength A of the vorticity source, U²/radius²")
    width: int = Field(64, ge=8, description="points of the window along x (Geneva 2022: 128)")
    height: int = Field(32, ge=8, description="points of the window along y (Geneva 2022: 64)")
    backend: Literal["numba", "torch"] = Field(
        "numba", description="numba on a CPU, or torch, on a GPU if there is one"
    )

    @model_validator(mode="after")
    def _stable_step_and_range(self) -> "Params":
        if self.dt / self.substeps * self.angles > 1.3:
            least = math.ceil(self.dt * self.angles / 1.3)
            raise ValueError(f"substeps {self.substeps}: too long a step for {self.angles} angles; allowed: ≥ {least}")
        if self.reynolds_min > self.reynolds_max:
            raise ValueError(f"reynolds_min {self.reynolds_min:g} must not be above reynolds_max {self.reynolds_max:g}")
        if self.reynolds is not None and not all(1 <= re <= 2000 for re in self.reynolds):
            raise ValueError(f"reynolds {self.reynolds}: allowed: numbers from 1 to 2000")
        return self

    def imported(self) -> dict:
        """What a series of an HDF5 file looks like (see `layouts`)."""
        axes = {"y": [-4.0, 4.0, self.height], "x": [-2.0, 14.0, self.width]}
        return {"axes": axes, "dtype": "float32", "parameters": ["nu"]}


def simulate(params: Params, members: int, rng: np.random.Generator) -> xr.Dataset:
    """`state` (member, time, field, y, x) float32, `parameters` (ν), and `drag` and `lift`, coefficients at the wall.

    Raises FloatingPointError if a flow diverges, ValueError if `reynolds` has not one value for each member.
    """
    nu = 2 / reynolds(params, members, rng)
    state, forces, (x, y) = film(params, nu)
    coordinates = {"x": x, "y": y, "time": params.dt * np.arange(params.steps)}
    series = ("member", "time")
    return xr.Dataset(
        {
            "state": ((*series, "field", "y", "x"), state, {"units": UNITS["state"]}),
            "parameters": (("member", "parameter"), nu[:, None], {"units": "U radius"}),
            "drag": (series, forces[..., 0], {"units": "1"}),
            "lift": (series, forces[..., 1], {"units": "1"}),
        },
        coords={
            **{k: (k, v, {"units": "radius/U" if k == "time" else "radius"}) for k, v in coordinates.items()},
            "field": ("field", list(FIELDS)),
            "parameter": ("parameter", ["nu"]),
        },
        attrs={"system": "cylinder", "solver": "SBDF2, Fourier modes in θ, second order in ln r", **_physics(params)},
    )


def _physics(params: Params) -> dict:
    names = ("radial", "angles", "r_out", "symmetric", "kick", "substeps", "dt")
    return {name: getattr(params, name) for name in names}


def reynolds(params: Params, members: int, rng: np.random.Generator) -> np.ndarray:
    """The Reynolds numbers of a block."""
    if params.reynolds is not None:
        if len(params.reynolds) != members:
            raise ValueError(
                f"cylinder: reynolds has {len(params.reynolds)} values, but a block has {members} members: "
                "allowed: one value for each member of a block"
            )
        return np.array(params.reynolds, float)
    drawn = rng.uniform(size=members)
    if params.stratified:
        drawn = (np.arange(members) + drawn) / members
    return params.reynolds_min + (params.reynolds_max - params.reynolds_min) * drawn


def film(params: Params, nu: np.ndarray) -> tuple[np.ndarray, np.ndarray, tuple[np.ndarray, np.ndarray]]:
    """Frames (member, time, field, y, x), force coefficients (member, time, 2), and x and y, at viscosities `nu`."""
    from ..wake import frames, scheme

    grid, step = scheme.Grid(params.radial, params.angles, params.r_out), params.dt / params.substeps
    camera = frames.Camera(grid, params.width, params.height)
    flow = _flow(params.backend)(grid, nu, step)
    start_up(flow, params)
    state = np.empty((len(nu), params.steps, len(FIELDS), params.height, params.width), np.float32)
    forces = np.empty((len(nu), params.steps, 2))
    for t in range(params.steps):
        if t > 0:
            flow.advance(np.zeros(params.substeps))
        state[:, t], forces[:, t] = camera.frame(flow.vorticity, flow.stream, nu)
        if not np.isfinite(forces[:, t]).all():
            lost = ", ".join(f"{2 / n:.0f}" for n in nu[~np.isfinite(forces[:, t]).all(1)])
            raise FloatingPointError(
                f"cylinder: the flow at Re = {lost} is not finite at time {params.dt * t:g} with the step {step:g}: "
                "choose more substeps."
            )
    return state, forces, (camera.x, camera.y)


def start_up(flow: Any, params: Params) -> None:
    """From rest to the end of the kick."""
    flow.advance(np.zeros(round(params.symmetric / flow.step)))
    ends = KICK * np.arange(1, round(KICK / flow.step) + 1) / round(KICK / flow.step)
    flow.advance(params.kick * np.sin(np.pi * ends / 2) ** 2)


def _flow(backend: str) -> Any:
    if backend == "torch":
        from ..wake import tensors

        return tensors.Flow
    from ..wake import stepper

    return stepper.Flow
