"""q-state Potts model H = −J Σ_<ij> δ(c_i, c_j) on periodic lattices, J = k_B = 1, as time series of Monte Carlo steps.

The square lattice orders below T_c = 1/ln(1 + √q) (F. Y. Wu, Rev. Mod. Phys. 54, 235 (1982)), continuously for q ≤ 4.
"""

from typing import Literal

import numpy as np
import xarray as xr
from pydantic import Field

from ..montecarlo import chains, lattices, potts
from ..montecarlo.run import Run

WINDOWS = [[0.1, 0.5], [1.5, 2.0]]
OBSERVABLES = ("energy", "magnetisation", "flips")


class Params(Run):
    q: int = Field(3, ge=2, le=255, description="number of colours")
    lattice: Literal["square", "honeycomb", "triangular", "chain"] = Field(
        "square", description="periodic lattice; honeycomb has two sites a cell, chain is a ring of `size` sites"
    )
    size: int = Field(32, ge=2, le=4096, description="linear size L in cells")
    dynamics: Literal[
        "metropolis_random_site",
        "metropolis_sequential",
        "metropolis_checkerboard",
        "heat_bath",
        "swendsen_wang",
        "wolff",
    ] = Field("heat_bath", description="Markov chain; a sweep of wolff is one cluster")
    start: Literal["hot", "ordered"] = Field("hot", description="every colour at random, or all the last colour")
    store: Literal["full", "sites", "none"] = Field(
        "full", description="colours kept: of all sites, of `sites` of them, or energy and magnetisation in their stead"
    )
    sites: int = Field(1024, ge=1, description="sites kept with `store: sites`: drawn once, the same in every block")


def simulate(params: Params, members: int, rng: np.random.Generator) -> xr.Dataset:
    """`state` (member, time, field) uint8: the colours 0 … q − 1; a field is named by its site.

    `parameters` (member, parameter) has the temperature. (member, time): `energy` per site, `magnetisation`
    (q n_max/N − 1)/(q − 1) with n_max sites of the most frequent colour, `flips`, the fraction of colours that changed,
    and with cluster dynamics `cluster`, the share of sites in the Wolff cluster or Σ |C|²/N² of Swendsen–Wang.
    """
    temperatures = params.drawn(members, rng, WINDOWS)
    keep = chains.kept(params.store, lattices.sites(params.lattice, params.size), params.sites)
    trajectory = potts.evolve(
        params.lattice,
        params.size,
        temperatures,
        chains.seed(rng),
        params.steps,
        q=params.q,
        dynamics=params.dynamics,
        start=params.start,
        sweeps=params.sweeps,
        thermalisation=params.thermalisation,
        keep=keep,
    )
    names = [*OBSERVABLES, *["cluster"] * (params.dynamics in potts.CLUSTER)]
    observables = {name: getattr(trajectory, name) for name in names}
    attributes = params.model_dump(include={"q", "lattice", "size", "dynamics", "start", "sweeps", "thermalisation"})
    fields = [str(site) for site in keep]
    return chains.dataset(
        trajectory.states, fields, temperatures, observables, params, {"system": "potts", **attributes}
    )
