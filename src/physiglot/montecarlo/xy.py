"""XY chains H = −J Σ cos(θ_i − θ_j) on the square lattice, J = k_B = 1: many chains, a temperature each."""

from typing import NamedTuple

import numpy as np

from . import chains, lattices, xy_random_site

TURN = 2 * np.pi / 65536


class Trajectory(NamedTuple):
    """Angles in units of 2π/2¹⁶ (chain, step, kept site) uint16, and observables per site (chain, step).

    `bond` and `current` are Σ cos and (Σ sin)² over the bonds along one direction: the helicity modulus of a run is
    ⟨bond⟩ − ⟨current⟩/T. `flips` is the fraction of angles that differ from the saved step before.
    """

    states: np.ndarray
    energy: np.ndarray
    magnetisation: np.ndarray
    bond: np.ndarray
    current: np.ndarray
    flips: np.ndarray


def evolve(
    size: int,
    temperatures: np.ndarray,
    seed: np.uint64,
    steps: int,
    *,
    dynamics: str = "metropolis_random_site",
    start: str = "hot",
    sweeps: int = 1,
    thermalisation: int = 0,
    keep: np.ndarray | None = None,
    first: int = 0,
    threads: int | None = None,
) -> Trajectory:
    """`steps` saved states of one chain per temperature; of the sites, those in `keep` (default: all) are kept.

    A chain is a function of (seed, `first` + its index) and its temperature: alone or in a batch, bit for bit.
    """
    temperatures = chains.checked(temperatures)
    if dynamics != "metropolis_random_site":
        raise ValueError(f"dynamics {dynamics!r} is unknown; allowed: metropolis_random_site.")
    if start not in ("hot", "ordered"):
        raise ValueError(f"start {start!r} is unknown; allowed: hot, ordered.")
    sites = np.arange(lattices.sites("square", size)) if keep is None else keep
    states = np.empty((len(temperatures), steps, len(sites)), np.uint16)
    observables = np.empty((len(temperatures), steps, 5))
    rates = 1 / (np.maximum(temperatures, xy_random_site.COLDEST) * np.log(2))

    def work(a: int, b: int) -> None:
        xy_random_site.run(
            states[a:b],
            observables[a:b],
            rates[a:b],
            size,
            start == "hot",
            seed,
            first + a,
            sweeps,
            thermalisation,
            sites,
        )

    chains.over_chains(work, len(temperatures), threads=threads)
    return Trajectory(states, *np.moveaxis(observables, -1, 0))
