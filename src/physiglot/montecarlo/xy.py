"""XY chains H = −J Σ cos(θ_i − θ_j) on the square lattice, J = k_B = 1: many chains, a temperature each."""

from typing import Any, NamedTuple

import numpy as np

from . import chains, lattices, spins, xy_random_site

TURN = 2 * np.pi / 65536
DYNAMICS = ("metropolis_random_site", *spins.DYNAMICS)


class Trajectory(NamedTuple):
    """Angles in units of 2π/2¹⁶ (chain, step, kept site) uint16, and observables per site (chain, step).

    `bond` and `current` are Σ cos and (Σ sin)² over the bonds along one direction: the helicity modulus of a run is
    ⟨bond⟩ − ⟨current⟩/T. `flips` is the fraction of angles that differ from the saved step before;
    `cluster` the share of the last Wolff cluster, else 0.
    """

    states: np.ndarray
    energy: np.ndarray
    magnetisation: np.ndarray
    bond: np.ndarray
    current: np.ndarray
    flips: np.ndarray
    cluster: np.ndarray


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
    over_relaxation: int = 0,
) -> Trajectory:
    """`steps` saved states of one chain per temperature; of the sites, those in `keep` (default: all) are kept.

    A chain is a function of (seed, `first` + its index) and its temperature: alone or in a batch, bit for bit.
    """
    temperatures = chains.checked(temperatures)
    if dynamics not in DYNAMICS:
        raise ValueError(f"dynamics {dynamics!r} is unknown; allowed: {', '.join(DYNAMICS)}.")
    options: dict[str, Any] = {
        "start": start,
        "sweeps": sweeps,
        "thermalisation": thermalisation,
        "first": first,
        "threads": threads,
    }
    sites = np.arange(lattices.sites("square", size)) if keep is None else keep
    if dynamics == "metropolis_random_site":
        if over_relaxation:
            raise ValueError(f"over_relaxation {over_relaxation}: it goes with dynamics metropolis_checkerboard alone.")
        return _random_site(size, temperatures, seed, steps, sites, **options)
    options |= {"dynamics": dynamics, "over_relaxation": over_relaxation, "keep": sites}
    run = spins.evolve("square", size, 2, temperatures, seed, steps, **options)
    angles = np.rint(np.arctan2(run.states[..., 1], run.states[..., 0]) / TURN).astype(np.int64) % 65536
    return Trajectory(angles.astype(np.uint16), *run[1:])


def _random_site(
    size, temperatures, seed, steps, sites, *, start, sweeps, thermalisation, first, threads
) -> Trajectory:
    if start not in ("hot", "ordered"):
        raise ValueError(f"start {start!r} is unknown; allowed: hot, ordered.")
    states = np.empty((len(temperatures), steps, len(sites)), np.uint16)
    observables = np.zeros((len(temperatures), steps, 6))
    rates = 1 / (np.maximum(temperatures, xy_random_site.COLDEST) * np.log(2))

    def work(a: int, b: int) -> None:
        where = (size, start == "hot", seed, first + a, sweeps, thermalisation, sites)
        xy_random_site.run(states[a:b], observables[a:b], rates[a:b], *where)

    chains.over_chains(work, len(temperatures), threads=threads)
    return Trajectory(states, *np.moveaxis(observables, -1, 0))
