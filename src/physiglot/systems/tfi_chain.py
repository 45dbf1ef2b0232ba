"""The transverse-field Ising chain H = −Σ σᶻ_i σᶻ_{i+1} − h Σ σˣ_i on a ring; its ground state changes at h = 1."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from ..strict import Strict

if TYPE_CHECKING:
    import xarray as xr

    from ..quantum.chains import Tfi

QUANTUM = True  # the target is a Hamiltonian


class Params(Strict):
    sites: int = Field(10, ge=2, description="spins N on the ring")
    field: float = Field(1.0, ge=0, le=1e3, description="transverse field h in units of the coupling")
    steps: int = Field(1, ge=1, description="independent measurements of each member of a data set")


def simulate(params: Params, members: int, rng: np.random.Generator) -> xr.Dataset:
    """`state` (member, time, field) int8, ±1: independent measurements of all σᶻ in the ground state, N ≤ 14."""
    from ..exact import chains
    from ..quantum.measured import measurements

    energy, state = chains.ground_state(chains.tfi_matrix(params.sites, params.field))
    return measurements(state, energy, members, params.steps, rng, params.model_dump(include={"field"}))


def target(params: Params) -> Tfi:
    """The Hamiltonian, for a variational model."""
    from ..quantum.chains import Tfi

    return Tfi(params.sites, params.field)
