"""Targets of Ising spins ±1: nearest neighbours on a periodic lattice, or any symmetric couplings."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from ..exact import enumerate as enumeration
from ..exact import patterns as exact_patterns
from ..exact import torus
from ..montecarlo import lattices
from . import Target

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor


def checked(x: Tensor, shape: tuple[int, ...]) -> Tensor:
    """x (batch, *shape) as floats ±1, flattened to (batch, site)."""
    if tuple(x.shape[1:]) != shape:
        raise ValueError(f"x of shape {tuple(x.shape)}: expected (batch, {', '.join(map(str, shape))})")
    if not x.is_floating_point():
        raise ValueError(f"x of type {x.dtype}: expected floating-point spins ±1")
    if not bool((x.abs() == 1).all()):
        raise ValueError("x: a spin is neither +1 nor −1")
    return x.flatten(1)


def flip(x: Tensor) -> Tensor:
    return -x


def magnetisation(x: Tensor) -> Tensor:
    """|m| of each configuration."""
    return x.flatten(1).mean(1).abs()


def square(x: Tensor) -> Tensor:
    """m² of each configuration."""
    return x.flatten(1).mean(1) ** 2


class Lattice(Target):
    """E = −J Σ_<ij> s_i s_j on a periodic lattice of shape (rows, columns); J = ±1."""

    support = "spin"

    def __init__(self, lattice: str, size: int, beta: float, coupling: int = 1):
        self.lattice, self.size, self.beta, self.coupling = lattice, size, beta, coupling
        self.shape = lattices.shape(lattice, size)
        self.bonds = lattices.bonds(lattice, size)
        self.closed_form = lattice == "chain" or (lattice == "square" and (coupling > 0 or size % 2 == 0))

    def configurations(self, state: Tensor) -> Tensor:
        """±1 of states (…, site) or, as the chains store them, (…, byte) with the sites as bits, lowest first."""
        sites, fields = int(np.prod(self.shape)), state.shape[-1]
        if fields == sites:
            return state.reshape(-1, *self.shape)
        if fields != -(-sites // 8):
            raise ValueError(
                f"state with {fields} fields: {sites} spins are that many fields, or {-(-sites // 8)} bytes"
            )
        bits = state.long()[..., None].bitwise_right_shift(state.new_tensor(range(8)).long()) & 1
        return (2 * bits.flatten(-2)[..., :sites] - 1).to(state.dtype).reshape(-1, *self.shape)

    def energy(self, x: Tensor) -> Tensor:
        one, other = (self.bonds[:, end].tolist() for end in (0, 1))
        s = checked(x, self.shape)
        return -self.coupling * (s[:, one] * s[:, other]).sum(1)

    def exact_logZ(self, beta: float | None = None) -> float | None:
        found = torus.solve(self.lattice, self.size, self.coupling * (self.beta if beta is None else beta))
        return found and found[0]

    @property
    def symmetries(self) -> dict[str, Callable[[Tensor], Tensor]]:
        along = 2 if self.lattice == "honeycomb" else 1
        down: dict[str, Callable[[Tensor], Tensor]] = {"down": lambda x: x.roll(1, -2)} if self.shape[0] > 1 else {}
        return {
            "flip": flip,
            "right": lambda x: x.roll(along, -1),
            "half turn": lambda x: x.flip(-1, -2),
            **down,
        }

    @property
    def observables(self) -> dict[str, Callable[[Tensor], Tensor]]:
        """Energy per site, |m| and m²."""
        sites = int(np.prod(self.shape))
        return {"energy": lambda x: self.energy(x) / sites, "|m|": magnetisation, "m²": square}

    def exact_observables(self, beta: float | None = None) -> dict[str, float]:
        beta, sites = self.beta if beta is None else beta, int(np.prod(self.shape))
        if sites <= enumeration.LIMIT - 2:
            found = enumeration.pairwise(self.matrix, beta)
            return {"energy": found.energy / sites, "|m|": found.absolute, "m²": float(found.correlation.mean())}
        solved = torus.solve(self.lattice, self.size, self.coupling * beta)
        return {} if solved is None else {"energy": -self.coupling * solved[1] / sites}

    @cached_property
    def matrix(self) -> np.ndarray:
        """The couplings (site, site); a pair with two bonds has both."""
        sites = int(np.prod(self.shape))
        J = np.zeros((sites, sites))
        np.add.at(J, tuple(self.bonds.T), self.coupling)
        return J + J.T


class Couplings(Target):
    """E = −½ sᵀ J s with any symmetric J; exact values by enumeration, up to 22 spins."""

    support = "spin"

    def __init__(self, couplings: np.ndarray, beta: float):
        self.couplings, self.beta = enumeration.checked(couplings), beta
        self.shape = (len(self.couplings),)
        self._known: dict[float, enumeration.Pairwise] = {}

    def energy(self, x: Tensor) -> Tensor:
        s = checked(x, self.shape)
        return -0.5 * ((s @ s.new_tensor(self.couplings)) * s).sum(1)

    def enumerated(self, beta: float | None = None) -> enumeration.Pairwise | None:
        """All pair correlations and more, exactly; None above 22 spins."""
        beta = self.beta if beta is None else beta
        if beta not in self._known and len(self.couplings) <= enumeration.LIMIT:
            self._known[beta] = enumeration.pairwise(self.couplings, beta)
        return self._known.get(beta)

    def exact_logZ(self, beta: float | None = None) -> float | None:
        found = self.enumerated(beta)
        return found and found.log_z

    @property
    def symmetries(self) -> dict[str, Callable[[Tensor], Tensor]]:
        return {"flip": flip}

    @property
    def observables(self) -> dict[str, Callable[[Tensor], Tensor]]:
        """Energy per spin."""
        return {"energy": lambda x: self.energy(x) / len(self.couplings)}

    def exact_observables(self, beta: float | None = None) -> dict[str, float]:
        found = self.enumerated(beta)
        return {} if found is None else {"energy": found.energy / len(self.couplings)}


class Hopfield(Couplings):
    """Hebb's couplings of patterns (pattern, site) of ±1: J = ξᵀξ/N without its diagonal. Exact for a few patterns."""

    def __init__(self, patterns: np.ndarray, beta: float):
        J = patterns.T @ patterns / patterns.shape[1]
        np.fill_diagonal(J, 0)
        super().__init__(J, beta)
        self.patterns = patterns

    def exact_logZ(self, beta: float | None = None) -> float | None:
        found = exact_patterns.hebb(self.patterns, self.beta if beta is None else beta)
        return super().exact_logZ(beta) if found is None else found.log_z

    @property
    def observables(self) -> dict[str, Callable[[Tensor], Tensor]]:
        """Energy per spin and the largest overlap |ξ · s|/N with a pattern."""
        return super().observables | {"overlap": self._overlap}

    def _overlap(self, x: Tensor) -> Tensor:
        return (x @ x.new_tensor(self.patterns).T).abs().amax(1) / len(self.couplings)

    def exact_observables(self, beta: float | None = None) -> dict[str, float]:
        found = exact_patterns.hebb(self.patterns, self.beta if beta is None else beta)
        if found is None:
            return super().exact_observables(beta)
        return {"energy": found.energy / len(self.couplings), "overlap": found.overlap}
