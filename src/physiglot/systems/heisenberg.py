"""Classical Heisenberg model H = −J Σ_<ij> s_i · s_j, |s| = 1, J = k_B = 1, as time series of Monte Carlo steps.

In two dimensions it has no transition at T > 0 (N. D. Mermin, H. Wagner, Phys. Rev. Lett. 17, 1133 (1966)).
"""

from typing import Literal

import numpy as np
import xarray as xr
from pydantic import Field

from ..montecarlo import chains, lattices, spins
from ..montecarlo.run import Run

WINDOWS = [[0.1, 0.3], [1.5, 2.0]]
OBSERVABLES = ("energy", "magnetisation", "flips")
SCALE = 32767


class Params(Run):
    lattice: Literal["square", "honeycomb", "triangular", "chain"] = Field(
        "square", description="periodic lattice; honeycomb has two sites a cell, chain is a ring of `size` sites"
    )
    size: int = Field(32, ge=2, le=1024, description="linear size L in cells")
    dynamics: Literal["metropolis_checkerboard", "heat_bath", "wolff"] = Field(
        "metropolis_checkerboard", description="Markov chain; a sweep of wolff is one cluster"
    )
    over_relaxation: int = Field(
        0, ge=0, description="sweeps of reflections after each sweep of metropolis_checkerboard"
    )
    start: Literal["hot", "ordered"] = Field("hot", description="every spin at random, or all along x")
    store: Literal["full", "sites", "none"] = Field(
        "full", description="spins kept: of all sites, of `sites` of them, or energy and magnetisation in their stead"
    )
    sites: int = Field(1024, ge=1, description="sites kept with `store: sites`: drawn once, the same in every block")


def simulate(params: Params, members: int, rng: np.random.Generator) -> xr.Dataset:
    """`state` (member, time, field) int16: the components x, y, z of a site, times 32767; fields like `17.x`.

    `parameters` (member, parameter) has the temperature. (member, time): `energy` and `magnetisation` |m| per site,
    `flips`, the fraction of spins that changed, and with wolff `cluster`, the share of sites in the last cluster.
    """
    temperatures = params.drawn(members, rng, WINDOWS)
    keep = chains.kept(params.store, lattices.sites(params.lattice, params.size), params.sites)
    trajectory = spins.evolve(
        params.lattice,
        params.size,
        3,
        temperatures,
        chains.seed(rng),
        params.steps,
        dynamics=params.dynamics,
        over_relaxation=params.over_relaxation,
        start=params.start,
        sweeps=params.sweeps,
        thermalisation=params.thermalisation,
        keep=keep,
    )
    names = [*OBSERVABLES, *["cluster"] * (params.dynamics == "wolff")]
    observables = {name: getattr(trajectory, name) for name in names}
    state = np.rint(SCALE * trajectory.states.reshape(members, params.steps, -1)).astype(np.int16)
    fields = [f"{site}.{axis}" for site in keep for axis in "xyz"]
    attributes = params.model_dump(exclude={"steps", "windows", "temperatures", "store", "sites"})
    return chains.dataset(state, fields, temperatures, observables, params, {"system": "heisenberg", **attributes})
