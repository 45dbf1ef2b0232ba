"""Ising chains H = −J Σ s_i s_j, J = k_B = 1, by any dynamics: many chains, a temperature each."""

from typing import Any, NamedTuple

import numpy as np

from . import chains, groups, lattices, potts, random_site

DYNAMICS = ("multispin", *potts.DYNAMICS)


class Trajectory(NamedTuple):
    """Packed states (chain, step, byte) and, per site, energy, magnetisation, flips and cluster (chain, step).

    `flips` is the fraction of spins that differ from the saved step before; the first step is compared with the
    state after thermalisation. `cluster` is the share of the last Wolff cluster or Σ |C|²/N² of the last
    Swendsen–Wang update, whose means are both ⟨m²⟩, and zero for other dynamics.
    """

    states: np.ndarray
    energy: np.ndarray
    magnetisation: np.ndarray
    flips: np.ndarray
    cluster: np.ndarray


def evolve(
    lattice: str,
    size: int,
    temperatures: np.ndarray,
    seed: np.uint64,
    steps: int,
    *,
    dynamics: str = "metropolis_random_site",
    start: str | np.ndarray = "hot",
    sweeps: int = 1,
    thermalisation: int = 0,
    keep: bool = True,
    first: int = 0,
    threads: int | None = None,
    device: str | None = None,
) -> Trajectory:
    """`steps` saved states of one chain per temperature; `keep=False` keeps the last state only.

    `start` is hot, ordered or packed states (chain, byte). A chain is a function of (seed, `first` + its index), its
    temperature and start: alone or in a batch, bit for bit. `multispin` evolves checkerboard Metropolis in groups of
    512 chains, chain k in group k // 512. With a `device` of torch (cuda, cpu), checkerboard Metropolis runs there; its
    random numbers then depend on the number of chains.
    """
    temperatures = chains.checked(temperatures)
    if dynamics not in DYNAMICS:
        raise ValueError(f"dynamics {dynamics!r} is unknown; allowed: {', '.join(DYNAMICS)}.")
    count, members = lattices.sites(lattice, size), len(temperatures)
    spins = begun(start, members, count, seed, first)
    states = np.empty((members, steps if keep else 1, spins.shape[1]), np.uint8)
    observables = np.zeros((members, steps, 4))
    options: dict[str, Any] = {"sweeps": sweeps, "thermalisation": thermalisation, "first": first, "threads": threads}
    if device is not None:
        if dynamics != "metropolis_checkerboard":
            raise ValueError(f"dynamics {dynamics!r}: on a device of torch, only metropolis_checkerboard runs.")
        from . import batched

        length: dict[str, Any] = {"sweeps": sweeps, "thermalisation": thermalisation, "device": device}
        batched.evolve(lattice, size, temperatures, seed, spins, states, observables[..., :3], **length)
    elif dynamics == "multispin":
        if lattice == "chain":
            raise ValueError("dynamics 'multispin' is for the square, triangular and honeycomb lattices.")
        groups.evolve(lattice, size, temperatures, seed, spins, states, observables[..., :3], **options)
    elif dynamics == "metropolis_random_site":
        random_site.evolve(lattice, size, temperatures, seed, spins, states, observables, **options)
    else:
        _coloured(lattice, size, temperatures, seed, spins, states, observables, dynamics, **options)
    return Trajectory(states, *np.moveaxis(observables, -1, 0))


def _coloured(lattice, size, temperatures, seed, spins, states, observables, dynamics, **options) -> None:
    """Ising spins as two colours with twice the coupling."""
    count, (steps, kept) = lattices.sites(lattice, size), (observables.shape[1], states.shape[1])
    start = np.unpackbits(spins, axis=-1, count=count, bitorder="little")
    options |= {"q": 2, "coupling": 2.0, "dynamics": dynamics, "start": start, "last": kept < steps}
    run = potts.evolve(lattice, size, temperatures, seed, steps, **options)
    states[:] = np.packbits(run.states, axis=-1, bitorder="little")
    bonds = lattices.DEGREE[lattice] / 2
    observables[:] = np.stack([bonds + 2 * run.energy, 2 * run.occupied - 1, run.flips, run.cluster], axis=-1)


def begun(start: str | np.ndarray, members: int, count: int, seed: np.uint64, first: int) -> np.ndarray:
    """Packed start states (chain, byte): `hot`, every spin at random, `ordered`, all up, or as given."""
    if not isinstance(start, str):
        return np.array(start, dtype=np.uint8)
    if start not in ("hot", "ordered"):
        raise ValueError(f"start {start!r} is unknown; allowed: hot, ordered.")
    spins = np.tile(chains.pack(np.ones(count)), (members, 1))
    if start == "hot":
        for i in range(members):
            random_site.randomise(spins[i], count, seed, np.uint64(first + i))
    return spins
