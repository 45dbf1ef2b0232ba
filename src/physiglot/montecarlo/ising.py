"""Ising chains H = −J Σ s_i s_j, J = k_B = 1, by any dynamics: many chains, a temperature each."""

from typing import NamedTuple

import numpy as np

from . import chains, lattices, random_site


class Trajectory(NamedTuple):
    """Packed states (chain, step, byte) and, per site, energy, magnetisation and flips (chain, step).

    `flips` is the fraction of spins that differ from the saved step before; the first step is compared with the
    state after thermalisation.
    """

    states: np.ndarray
    energy: np.ndarray
    magnetisation: np.ndarray
    flips: np.ndarray


def evolve(
    lattice: str,
    size: int,
    temperatures: np.ndarray,
    seed: np.uint64,
    steps: int,
    *,
    dynamics: str = "metropolis_random_site",
    start: str = "hot",
    sweeps: int = 1,
    thermalisation: int = 0,
    keep: bool = True,
    first: int = 0,
    threads: int | None = None,
) -> Trajectory:
    """`steps` saved states of one chain per temperature; `keep=False` keeps the last state only.

    A chain is a function of (seed, `first` + its index) and its temperature: alone or in a batch, bit for bit.
    """
    temperatures = chains.checked(temperatures)
    if dynamics != "metropolis_random_site":
        raise ValueError(f"dynamics {dynamics!r} is unknown; allowed: metropolis_random_site.")
    rows, width = lattices.shape(lattice, size)
    table = lattices.neighbours(lattice, size)
    spins = begin(start, len(temperatures), rows * width, seed, first)
    states = np.empty((len(temperatures), steps if keep else 1, spins.shape[1]), np.uint8)
    observables = np.empty((len(temperatures), steps, 3))
    accept = random_site.thresholds(temperatures, lattices.DEGREE[lattice])
    where = (lattices.CODE[lattice], np.uint64(rows), np.uint64(width), table, seed)

    def work(a: int, b: int) -> None:
        part = slice(a, b)
        random_site.run(
            spins[part], states[part], observables[part], accept[part], *where, first + a, sweeps, thermalisation
        )

    chains.over_chains(work, len(temperatures), together=4, threads=threads)
    return Trajectory(states, observables[..., 0], observables[..., 1], observables[..., 2])


def begin(start: str, members: int, count: int, seed: np.uint64, first: int) -> np.ndarray:
    """Packed start states (chain, byte): `hot`, every spin at random, or `ordered`, all up."""
    if start not in ("hot", "ordered"):
        raise ValueError(f"start {start!r} is unknown; allowed: hot, ordered.")
    spins = np.tile(chains.pack(np.ones(count)), (members, 1))
    if start == "hot":
        for i in range(members):
            random_site.randomise(spins[i], count, seed, np.uint64(first + i))
    return spins
