"""XY model H = −J Σ_<ij> cos(θ_i − θ_j) on the square lattice, J = k_B = 1, as time series of Monte Carlo steps.

The data of J. Ding, H.-K. Tang, W. C. Yu, SciPost Phys. 13, 057 (2022): hot start, random-site Metropolis with a fresh
uniform angle as proposal, the first steps recorded. Transition of Berezinskii, Kosterlitz and Thouless near T = 0.8929.
"""

from typing import Literal

import numpy as np
import xarray as xr
from pydantic import Field

from ..montecarlo import chains, lattices, xy
from ..montecarlo.run import Run

PAPER_WINDOWS = [[0.0, 0.05], [1.5, 2.0]]
OBSERVABLES = ("energy", "magnetisation", "bond", "current", "flips")


class Params(Run):
    size: int = Field(32, ge=2, le=1024, description="linear size L (Ding 2022: 256)")
    dynamics: Literal["metropolis_random_site", "metropolis_checkerboard", "heat_bath", "wolff"] = Field(
        "metropolis_random_site",
        description="Markov chain (Ding 2022: random-site Metropolis); metropolis_checkerboard turns by small angles, "
        "16 chains at once; a sweep of wolff is one cluster",
    )
    over_relaxation: int = Field(
        0, ge=0, description="sweeps of reflections after each sweep of metropolis_checkerboard"
    )
    start: Literal["hot", "ordered"] = Field("hot", description="every angle at random, or all 0 (Ding 2022: hot)")
    store: Literal["full", "sites", "none"] = Field(
        "full", description="angles kept: of all sites, of `sites` of them, or energy and magnetisation in their stead"
    )
    sites: int = Field(1024, ge=1, description="sites kept with `store: sites`: drawn once, the same in every block")


def simulate(params: Params, members: int, rng: np.random.Generator) -> xr.Dataset:
    """`state` (member, time, field) uint16: the angle of a site in units of 2π/65536; a field is named by its site.

    `parameters` (member, parameter) has the temperature. (member, time): `energy` and `magnetisation` |m| per site,
    `bond` and `current` for the helicity modulus ⟨bond⟩ − ⟨current⟩/T, `flips`, the fraction of angles that changed,
    and with wolff `cluster`, the share of sites in the last cluster.
    """
    temperatures = params.drawn(members, rng, PAPER_WINDOWS)
    keep = chains.kept(params.store, lattices.sites("square", params.size), params.sites)
    trajectory = xy.evolve(
        params.size,
        temperatures,
        chains.seed(rng),
        params.steps,
        dynamics=params.dynamics,
        start=params.start,
        sweeps=params.sweeps,
        thermalisation=params.thermalisation,
        keep=keep,
        over_relaxation=params.over_relaxation,
    )
    names = [*OBSERVABLES, *["cluster"] * (params.dynamics == "wolff")]
    observables = {name: getattr(trajectory, name) for name in names}
    attributes = params.model_dump(include={"size", "dynamics", "over_relaxation", "start", "sweeps", "thermalisation"})
    fields = [str(site) for site in keep]
    return chains.dataset(
        trajectory.states,
        fields,
        temperatures,
        observables,
        params,
        {"system": "xy", "lattice": "square", **attributes},
    )
