"""Ising model H = −J Σ_<ij> s_i s_j on periodic lattices, J = k_B = 1, as time series of Monte Carlo steps.

The data of J. Ding, H.-K. Tang, W. C. Yu, SciPost Phys. 13, 057 (2022): hot start, random-site Metropolis, the first
steps recorded. One step is `sweeps` sweeps of as many attempts as there are sites. Critical temperatures: square
2/ln(1+√2), triangular 4/ln 3, honeycomb 2/ln(2+√3); the chain has none. With `beta` the system is also the target of
generative models, with J of either sign.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
import xarray as xr
from pydantic import Field, model_validator

from ..montecarlo import chains, ising, lattices, potts
from ..montecarlo.run import Run

if TYPE_CHECKING:
    from ..targets.spins import Lattice

PAPER_WINDOWS = [[0.0, 1.0], [4.0, 5.0]]
TARGET = ("lattice", "size", "beta", "coupling")


class Params(Run):
    lattice: Literal["square", "honeycomb", "triangular", "chain"] = Field(
        "square", description="periodic lattice; honeycomb has two sites a cell, chain is a ring of `size` sites"
    )
    size: int = Field(64, ge=2, le=4096, description="linear size L in cells (Ding 2022: 256)")
    dynamics: Literal[
        "metropolis_random_site",
        "metropolis_sequential",
        "metropolis_checkerboard",
        "heat_bath",
        "multispin",
        "swendsen_wang",
        "wolff",
    ] = Field(
        "metropolis_random_site",
        description="Markov chain (Ding 2022: random-site Metropolis); multispin is checkerboard Metropolis, "
        "512 chains at once; a sweep of wolff is one cluster",
    )
    start: Literal["hot", "ordered"] = Field("hot", description="every spin at random, or all up (Ding 2022: hot)")
    store: Literal["full", "none"] = Field(
        "full", description="full: spins as bits; none: energy and magnetisation stand in for the state"
    )
    beta: float | None = Field(
        None,
        gt=0,
        allow_inf_nan=False,
        description="one inverse temperature instead of windows and temperatures; that of the target",
    )
    coupling: Literal["ferromagnetic", "antiferromagnetic"] = Field(
        "ferromagnetic", description="J = 1, or J = −1, which only the target has"
    )

    @model_validator(mode="after")
    def _one_temperature(self) -> Params:
        if self.beta is not None and (self.windows is not None or self.temperatures is not None):
            raise ValueError(f"beta {self.beta}: give it, or windows, or temperatures: one of them")
        return self


def simulate(params: Params, members: int, rng: np.random.Generator) -> xr.Dataset:
    """`state` (member, time, field) uint8: byte k has the sites 8k … 8k+7, lowest bit first, set for spin up.

    `chains.unpack` gives ±1. `parameters` (member, parameter) has the temperature; `energy`, `magnetisation` (per
    site) and `flips`, the fraction of spins that differ from the step before, are (member, time); with cluster
    dynamics, also `cluster`, the share of sites in the Wolff cluster or Σ |C|²/N² of Swendsen–Wang.
    """
    if params.coupling != "ferromagnetic":
        raise ValueError(
            f"coupling {params.coupling!r}: the Markov chains have J = 1; only the target may have J = −1."
        )
    cold = None if params.beta is None else np.full(members, 1 / params.beta)
    temperatures = params.drawn(members, rng, PAPER_WINDOWS) if cold is None else cold
    full, sites = params.store == "full", lattices.sites(params.lattice, params.size)
    trajectory = ising.evolve(
        params.lattice,
        params.size,
        temperatures,
        chains.seed(rng),
        params.steps,
        dynamics=params.dynamics,
        start=params.start,
        sweeps=params.sweeps,
        thermalisation=params.thermalisation,
        keep=full,
    )
    names = ["energy", "magnetisation", "flips"] + ["cluster"] * (params.dynamics in potts.CLUSTER)
    observables = {name: getattr(trajectory, name) for name in names}
    attributes = params.model_dump(include={"lattice", "size", "dynamics", "start", "sweeps", "thermalisation"})
    attributes = {"system": "ising", "sites": sites, **attributes}
    fields = [f"byte{i}" for i in range(trajectory.states.shape[2])] if full else []
    return chains.dataset(trajectory.states, fields, temperatures, observables, params, attributes)


def target(params: Params) -> Lattice:
    """The Boltzmann distribution at `beta`."""
    from ..targets.spins import Lattice

    if params.beta is None:
        raise ValueError("beta: the target of the Ising model needs one; allowed: numbers above 0")
    return Lattice(params.lattice, params.size, params.beta, 1 if params.coupling == "ferromagnetic" else -1)
