"""The Heisenberg ring H = J1 Σ S_i·S_{i+1} + J2 Σ S_i·S_{i+2} of spins ½; J2 > 0 frustrates it.

With `rotated`, every second spin is turned by π about z (W. Marshall, Proc. R. Soc. A 232, 48 (1955)): the same
spectrum, and for J2 ≤ 0 < J1 a ground state without signs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field, model_validator

from ..strict import Strict

if TYPE_CHECKING:
    import xarray as xr

    from ..quantum.chains import Heisenberg

QUANTUM = True  # the target is a Hamiltonian


class Params(Strict):
    sites: int = Field(10, ge=4, description="spins N on the ring")
    j1: float = Field(1.0, ge=-1e3, le=1e3, description="coupling J1 of neighbours; positive is antiferromagnetic")
    j2: float = Field(0.0, ge=-1e3, le=1e3, description="coupling J2 of second neighbours, in the units of J1")
    rotated: bool = Field(True, description="in the basis in which Marshall's sign rule removes all signs; even N")
    steps: int = Field(1, ge=1, description="independent measurements of each member of a data set")

    @model_validator(mode="after")
    def _two_sublattices(self) -> Params:
        if self.rotated and self.sites % 2:
            raise ValueError(f"sites {self.sites} must be even where rotated is true")
        return self


def simulate(params: Params, members: int, rng: np.random.Generator) -> xr.Dataset:
    """`state` (member, time, field) int8, ±1: independent measurements of all 2Sᶻ in the ground state, N ≤ 14."""
    from ..exact import chains
    from ..quantum.measured import measurements

    energy, state = chains.ground_state(chains.heisenberg_matrix(params.sites, params.j1, params.j2))
    return measurements(state, energy, members, params.steps, rng, params.model_dump(include={"j1", "j2"}))


def target(params: Params) -> Heisenberg:
    """The Hamiltonian, for a variational model."""
    from ..quantum.chains import Heisenberg

    return Heisenberg(params.sites, params.j1, params.j2, params.rotated)
