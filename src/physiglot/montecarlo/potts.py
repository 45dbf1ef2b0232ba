"""Potts chains H = −J Σ δ(c_i, c_j) with q colours, J = k_B = 1: many chains, a temperature each."""

from typing import NamedTuple

import numpy as np

from . import chains, colours, lattices

DYNAMICS = {
    "metropolis_random_site": colours.RANDOM_SITE,
    "metropolis_sequential": colours.IN_ORDER,
    "metropolis_checkerboard": colours.IN_ORDER,
    "heat_bath": colours.HEAT_BATH,
    "swendsen_wang": colours.SWENDSEN_WANG,
    "wolff": colours.WOLFF,
}
CLUSTER = ("swendsen_wang", "wolff")


class Trajectory(NamedTuple):
    """Colours (chain, step, kept site) uint8 and, per site, observables (chain, step).

    `magnetisation` is (q · n_max/N − 1)/(q − 1), with n_max sites of the most frequent colour; `occupied` the share of
    sites of the last colour; `flips` the share whose colour differs from the saved step before; `cluster` the share of
    the last Wolff cluster or Σ |C|²/N² of the last Swendsen–Wang update, else 0.
    """

    states: np.ndarray
    energy: np.ndarray
    magnetisation: np.ndarray
    occupied: np.ndarray
    flips: np.ndarray
    cluster: np.ndarray


def evolve(
    lattice: str,
    size: int,
    temperatures: np.ndarray,
    seed: np.uint64,
    steps: int,
    *,
    q: int = 3,
    dynamics: str = "heat_bath",
    start: str | np.ndarray = "hot",
    sweeps: int = 1,
    thermalisation: int = 0,
    keep: np.ndarray | None = None,
    last: bool = False,
    first: int = 0,
    threads: int | None = None,
    coupling: float = 1.0,
) -> Trajectory:
    """`steps` saved states of one chain per temperature; of the sites, those in `keep` (default: all) are kept.

    With `last`, only the last state is. `coupling` is J; 2 makes two colours Ising spins.

    A chain is a function of (seed, `first` + its index) and its temperature: alone or in a batch, bit for bit.
    """
    temperatures = chains.checked(temperatures)
    if dynamics not in DYNAMICS:
        raise ValueError(f"dynamics {dynamics!r} is unknown; allowed: {', '.join(DYNAMICS)}.")
    if not 2 <= q <= 255:
        raise ValueError(f"q {q}: 2 to 255 colours are possible.")
    if dynamics == "metropolis_sequential" and lattice == "chain" and q == 2:
        # A sweep carries each domain wall along instead of creating and destroying them.
        raise ValueError("dynamics 'metropolis_sequential' does not reach equilibrium on a chain of two states.")
    table, bonds = lattices.neighbours(lattice, size), lattices.bonds(lattice, size)
    coloured = dynamics in ("metropolis_checkerboard", "heat_bath")
    order = lattices.by_colour(lattice, size)[0] if coloured else np.arange(len(table), dtype=np.int32)
    begin = begun(start, len(temperatures), len(table), q, seed, first)
    sites = np.arange(len(table)) if keep is None else keep
    states = np.empty((len(temperatures), 1 if last else steps, len(sites)), np.uint8)
    observables = np.empty((len(temperatures), steps, 5))
    with np.errstate(divide="ignore"):
        strength = coupling / temperatures

    def work(a: int, b: int) -> None:
        part = slice(a, b)
        where = (DYNAMICS[dynamics], q, order, table, bonds, seed, first + a, sweeps, thermalisation, sites)
        colours.run(begin[part], states[part], observables[part], strength[part], *where)

    chains.over_chains(work, len(temperatures), threads=threads)
    equal, occupied, most, flips, cluster = np.moveaxis(observables, -1, 0)
    return Trajectory(states, -equal, (q * most - 1) / (q - 1), occupied, flips, cluster)


def begun(start: str | np.ndarray, members: int, count: int, q: int, seed: np.uint64, first: int) -> np.ndarray:
    """Start colours (chain, site): `hot`, `ordered` (all of the last colour), or as given."""
    if not isinstance(start, str):
        return np.array(start, dtype=np.uint8)
    if start not in ("hot", "ordered"):
        raise ValueError(f"start {start!r} is unknown; allowed: hot, ordered.")
    begin = np.full((members, count), q - 1, np.uint8)
    if start == "hot":
        for i in range(members):
            colours.randomise(begin[i], q, seed, np.uint64(first + i))
    return begin
