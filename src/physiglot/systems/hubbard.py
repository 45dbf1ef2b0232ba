"""Half-filled repulsive Hubbard model, t = 1, as time series of Green's functions along determinant Monte Carlo.

The data of J. Ding, H.-K. Tang, W. C. Yu, SciPost Phys. 13, 057 (2022): honeycomb, random field at the start. One
step is a pass through all slices of imaginary time, and entries of the equal-time G_↑ at the middle slice are recorded.
On the honeycomb the semimetal becomes an antiferromagnet at U_c = 3.85(2) (M. Otsuka, S. Yunoki, S. Sorella 2016).
"""

from typing import Literal

import numpy as np
import xarray as xr
from pydantic import Field, model_validator

from ..montecarlo import chains, hubbard
from ..montecarlo.run import Grid, check_source, drawn
from ..strict import Strict

PAPER_WINDOWS = [[0.0, 2.0], [6.0, 8.0]]


class Params(Strict):
    lattice: Literal["honeycomb", "square", "chain"] = Field(
        "honeycomb", description="periodic lattice; honeycomb has two sites a cell, chain is a ring of `size` sites"
    )
    size: int = Field(3, ge=2, le=24, description="linear size L in cells; square and chain: even (Ding 2022: 12)")
    steps: int = Field(10, ge=1, description="saved passes; index 0 is the state after the first, not the start")
    thermalisation: int = Field(0, ge=0, description="passes before the first saved one")
    windows: list[list[float]] | None = Field(
        None, description="[low, high] each: members alternate over the windows and draw U uniformly within"
    )
    interactions: Grid | list[float] | None = Field(
        None, description="instead of windows: n values of U in units of t; member i of a block has number i mod n"
    )
    beta: float | None = Field(None, gt=0, allow_inf_nan=False, description="inverse temperature, units of 1/t")
    projection: float | None = Field(
        None,
        gt=0,
        allow_inf_nan=False,
        description="instead of beta: Θ in units of 1/t, e^{−ΘH} acts on both trial states (without either: 4)",
    )
    dtau: float = Field(0.1, gt=0, le=0.5, description="Δτ in units of 1/t; Δτ U is at most 1")
    site_flips: int = Field(
        0,
        ge=0,
        description="sites a pass whose field is tried reversed in all slices at once: for equilibrium at low T",
    )
    store: Literal["full", "entries"] = Field("full", description="entries of G_↑ kept: all, or `entries` of them")
    entries: int = Field(1024, ge=1, description="entries kept with `store: entries`: the same in every block")

    @model_validator(mode="after")
    def _consistent(self) -> "Params":
        check_source(self.windows, self.interactions, "interactions")
        if self.lattice != "honeycomb" and self.size % 2:
            raise ValueError(f"size {self.size}: the {self.lattice} lattice is bipartite only if the size is even")
        if self.beta is not None and self.projection is not None:
            raise ValueError(f"beta {self.beta} and projection {self.projection}: give one of them")
        return self


def simulate(params: Params, members: int, rng: np.random.Generator) -> xr.Dataset:
    """`state` (member, time, field) float32: entries of G_↑ = ⟨c_i c†_j⟩, named "i,j", at the middle slice.

    `parameters` (member, parameter) has the interaction. (member, time), per site: `double_occupancy`, `kinetic`
    energy and `staggered` = Σ ε_i ε_j ⟨S^z_i S^z_j⟩/N². (member): `wrap_error`, the largest |G wrapped − G rebuilt|,
    and `particle_hole_error` of G_↓: if it is none, the weight is a square and has no sign.
    """
    interactions = drawn(params.windows or PAPER_WINDOWS, params.interactions, members, rng, "interactions")
    projection = params.projection or (4.0 if params.beta is None else None)
    sites = len(hubbard.sublattices(params.lattice, params.size))
    entries = kept(params, sites)
    found = hubbard.evolve(
        params.lattice,
        params.size,
        interactions,
        chains.seed(rng),
        params.steps,
        beta=params.beta,
        projection=projection,
        dtau=params.dtau,
        thermalisation=params.thermalisation,
        site_flips=params.site_flips,
        entries=entries,
    )
    series = {name: getattr(found, name) for name in ("double_occupancy", "kinetic", "staggered")}
    errors = {name: getattr(found, name) for name in ("wrap_error", "particle_hole_error")}
    length = {"beta": params.beta} if params.beta is not None else {"projection": projection}
    state = "none" if params.beta is not None else hubbard.trial(params.lattice, params.size)[1]
    return xr.Dataset(
        {
            "state": (("member", "time", "field"), found.green.astype(np.float32), {"units": "1"}),
            "parameters": (("member", "parameter"), interactions[:, None], {"units": "t"}),
            **{name: (("member", "time"), values) for name, values in series.items()},
            **{name: ("member", values) for name, values in errors.items()},
        },
        coords={
            "time": ("time", params.thermalisation + np.arange(1, params.steps + 1), {"units": "passes"}),
            "field": ("field", [f"{k // sites},{k % sites}" for k in entries]),
            "parameter": ("parameter", ["interaction"]),
        },
        attrs={
            "system": "hubbard",
            "sites": sites,
            "trial": state,
            **length,
            **params.model_dump(include={"lattice", "size", "dtau", "thermalisation", "site_flips"}),
        },
    )


def kept(params: Params, sites: int) -> np.ndarray:
    """Numbers i·N + j of the entries that are stored."""
    if params.store == "full":
        return np.arange(sites**2)
    if params.entries > sites**2:
        raise ValueError(f"entries {params.entries}: G of {sites} sites has {sites**2}; allowed: up to that.")
    return np.sort(np.random.default_rng(sites).choice(sites**2, params.entries, replace=False))
