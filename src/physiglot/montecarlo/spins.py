"""XY (n = 2) and Heisenberg (n = 3) chains H = −J Σ s_i·s_j of unit vectors, J = k_B = 1, a temperature each."""

from typing import NamedTuple

import numpy as np

from . import chains, lattices, rotor_chains, rotors
from .rotors import LANES

DYNAMICS = ("metropolis_checkerboard", "heat_bath", "wolff")
COLDEST = 1e-30


class Trajectory(NamedTuple):
    """Vectors (chain, step, kept site, n) float32 and, per site, observables (chain, step).

    `bond` and `current` are Σ s·s' and (Σ s × s')² over the bonds along rows, with the cross product of the first two
    components; `cluster` is the share of the last Wolff cluster, else 0.
    """

    states: np.ndarray
    energy: np.ndarray
    magnetisation: np.ndarray
    bond: np.ndarray
    current: np.ndarray
    flips: np.ndarray
    cluster: np.ndarray


def evolve(
    lattice: str,
    size: int,
    components: int,
    temperatures: np.ndarray,
    seed: np.uint64,
    steps: int,
    *,
    dynamics: str = "metropolis_checkerboard",
    over_relaxation: int = 0,
    start: str = "hot",
    sweeps: int = 1,
    thermalisation: int = 0,
    keep: np.ndarray | None = None,
    first: int = 0,
    threads: int | None = None,
) -> Trajectory:
    """`steps` saved states of one chain per temperature; of the sites, those in `keep` (default: all) are kept.

    After each sweep of Metropolis come `over_relaxation` sweeps of reflections. A chain is a function of (seed,
    `first` + its index) and its temperature; Metropolis evolves groups of 16 chains, chain k in group k // 16.
    """
    temperatures = chains.checked(temperatures)
    if dynamics not in DYNAMICS:
        raise ValueError(f"dynamics {dynamics!r} is unknown; allowed: {', '.join(DYNAMICS)}.")
    if start not in ("hot", "ordered"):
        raise ValueError(f"start {start!r} is unknown; allowed: hot, ordered.")
    if over_relaxation and dynamics != "metropolis_checkerboard":
        raise ValueError(f"over_relaxation {over_relaxation}: it goes with dynamics metropolis_checkerboard alone.")
    table, local = lattices.neighbours(lattice, size), dynamics != "wolff"
    order = lattices.by_colour(lattice, size)[0] if local else np.arange(len(table), dtype=np.int32)
    sites = np.arange(len(table)) if keep is None else keep
    states = np.empty((len(temperatures), steps, len(sites), components), np.float32)
    observables = np.zeros((len(temperatures), steps, 6))
    betas = 1 / np.maximum(temperatures, COLDEST)
    length = {"sweeps": sweeps, "ahead": thermalisation}

    def begun(chain: int) -> np.ndarray:
        spins = np.empty((len(table), components))
        rotor_chains.begin(spins, start == "hot", seed, np.uint64(chain))
        return spins

    def one(a: int, b: int) -> None:
        for c in range(a, b):
            end = (sites, betas[c], dynamics == "wolff", order, table, seed, np.uint64(first + c))
            rotor_chains.run(begun(first + c), observables[c], states[c], *end, sweeps, thermalisation)

    def group(number: int, _: int) -> None:
        number += first // LANES
        low, high = max(number * LANES, first), min((number + 1) * LANES, first + len(temperatures))
        part = slice(low - first, high - first)
        lanes = np.arange(low, high) - number * LANES
        beta = np.ones(LANES)
        beta[lanes] = betas[part]
        begin = np.stack([begun(number * LANES + lane) for lane in range(LANES)], axis=-1).astype(np.float32)
        _group(begin, beta, order, table, seed, number, lanes, sites, states[part], observables[part],
               over_relaxation, **length)  # fmt: skip

    if dynamics == "metropolis_checkerboard":
        groups = -(-(first + len(temperatures)) // LANES) - first // LANES
        chains.over_chains(group, groups, threads=threads)
    else:
        chains.over_chains(one, len(temperatures), threads=threads)
    return Trajectory(states, *np.moveaxis(observables, -1, 0))


def _group(spins, beta, order, table, seed, number, lanes, sites, states, observables, reflections, sweeps, ahead):
    """Evolves sixteen chains `spins` (site, n, 16) and stores those in `lanes`."""
    near, components, seeds = np.ascontiguousarray(table[order]), spins.shape[1], np.empty(64, np.uint32)
    rates = np.minimum(beta / np.log(2), 1e30).astype(np.float32)
    # About half of the proposals are accepted at any temperature.
    widths = np.clip(0.8 / np.sqrt(beta), 0.1, 1.0).astype(np.float32)
    flat, before, done = spins.reshape(-1), spins.astype(float), 0
    for step in range(observables.shape[1]):
        for s in range(ahead + sweeps if step == 0 else sweeps):
            if step == 0 and s == ahead:
                before = spins.astype(float)
            rotors.seeded(seeds, seed, np.uint64(number), np.uint64(done))
            axis = 2 if components == 2 else done % 3
            rotors.metropolis(flat, order, near, components, axis, rates, widths, seeds)
            for _ in range(reflections):
                rotors.over_relaxation(flat, order, near, components)
            done += 1
        now = spins.astype(float)
        for c, lane in enumerate(lanes):
            one, old = (np.ascontiguousarray(x[..., lane]) for x in (now, before))
            rotor_chains.measure(one, old, table, observables[c, step])
            states[c, step] = one[sites]
        before = now
