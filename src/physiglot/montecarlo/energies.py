"""Energies of multispin chains against exact ones: `python -m physiglot.montecarlo` prints the table.

Away from T_c on large lattices: the square against Kaufman's torus, the others against the infinite lattice, whose
energy a torus of more than ten correlation lengths shares. At T_c on tori small enough for transfer matrices.
"""

from typing import NamedTuple

import numpy as np

from . import exact, ising, lattices
from .multispin import LANES

SIZES = {"square": (64, 10), "triangular": (66, 9), "honeycomb": (64, 5)}
RATIOS = (0.7, 0.85, 1.0, 1.25, 1.7)
STEPS, EVERY, AHEAD = 100, 5, 500


class Row(NamedTuple):
    lattice: str
    size: int
    temperature: float
    updates: float
    energy: float
    error: float
    known: float

    @property
    def deviation(self) -> float:
        """In standard errors."""
        return (self.energy - self.known) / self.error


def row(lattice: str, ratio: float, seed: int = 1) -> Row:
    """512 independent chains at T = `ratio` · T_c from an ordered start; the error is that of independent chains."""
    large, small = SIZES[lattice]
    temperature, size = ratio * exact.CRITICAL[lattice], small if ratio == 1 else large
    sites = lattices.sites(lattice, size)
    steps = STEPS if ratio != 1 else STEPS * 4096 // sites
    run = ising.evolve(
        lattice, size, np.full(LANES, temperature), np.uint64(seed), steps,
        dynamics="multispin", start="ordered", sweeps=EVERY, thermalisation=AHEAD, keep=False,
    )  # fmt: skip
    mean = run.energy.mean(1)
    if lattice == "square":
        known = exact.kaufman(size, size, 1 / temperature)[1]
    else:
        known = exact.torus(lattice, size, temperature) if ratio == 1 else exact.infinite(lattice, temperature)
    updates = float(LANES * sites * steps * EVERY)
    return Row(lattice, size, temperature, updates, mean.mean(), mean.std(ddof=1) / np.sqrt(LANES), known)


def main() -> None:
    print("| lattice | L | T | updates | energy per site | exact | deviation |\n|---|---|---|---|---|---|---|")
    for lattice in SIZES:
        for ratio in RATIOS:
            r = row(lattice, ratio)
            print(
                f"| {lattice} | {r.size} | {r.temperature:.4f} | {r.updates:.1e} | {r.energy:.6f} ± {r.error:.6f} "
                f"| {r.known:.6f} | {r.deviation:+.2f} σ |",
                flush=True,
            )


if __name__ == "__main__":
    main()
