"""Ising on the square lattice, L = 64, T_c, one thread: attempted flips a nanosecond.

Ours, 512 independent chains of exact multispin Metropolis through the public function, against mcising (Rust), the
fastest peer on PyPI that was found, as one long run of one chain, its fastest use.
"""

import time

from benchmarks import timing

timing.one_thread()
timing.keep_memory()
timing.require("mcising", "numba", "scipy", "physiglot")

import numpy as np  # noqa: E402
from mcising import IsingSimulation  # noqa: E402

from physiglot.montecarlo import autocorrelation, exact, groups, ising  # noqa: E402

SIZE, CHAINS, SWEEPS, PEER_SWEEPS, ROUNDS = 64, 512, 2000, 4000, 9
TC = exact.CRITICAL["square"]
SEED = np.uint64(64)
TARGET = 80.0


def energies(temperature: float, planes: int, steps: int = 200, every: int = 10, ahead: int = 4000):
    """Mean energy of each of 512 chains and their last states, from an ordered start."""
    start = ising.begun("ordered", CHAINS, SIZE**2, SEED, 0)
    states, seen = np.empty((CHAINS, 1, SIZE**2 // 8), np.uint8), np.empty((CHAINS, steps, 3))
    options = {"sweeps": every, "thermalisation": ahead, "first": 0, "threads": 1, "planes": planes}
    groups.evolve("square", SIZE, np.full(CHAINS, temperature), SEED, start, states, seen, **options)
    return seen[..., 0].mean(1), states[:, 0]


def gate() -> np.ndarray:
    """Ours and the peer's energies against Kaufman's; returns equilibrium states at T_c."""
    for temperature in (TC, 2.6):
        known = exact.kaufman(SIZE, SIZE, 1 / temperature)[1]
        for planes in (8, 10):
            mean, states = energies(temperature, planes)
            z = (mean.mean() - known) / (mean.std() / np.sqrt(CHAINS))
            timing.check(abs(z) < 3, f"multispin, T = {temperature:.4f}, {planes} planes: {z:+.2f} σ of Kaufman")
            different = len(np.unique(states, axis=0))
            timing.check(different == CHAINS, f"multispin: {different} of {CHAINS} chains are different")
            if temperature == TC:
                equilibrium = states
    peer = simulation()
    peer.sweep(2000, temperature=2.6)
    found = peer.production_sweeps(4000, 5, temperature=2.6, store_configs=False)
    series = np.asarray(found["energies"])
    series = series / SIZE**2 if abs(series.mean()) > 4 else series
    z = autocorrelation.z_score(series, known)
    timing.check(abs(z) < 4, f"mcising, T = 2.6: {z:+.2f} σ of Kaufman")
    return equilibrium


def simulation() -> IsingSimulation:
    return IsingSimulation(SIZE, 1.0, 0.0, 0.0, 0.0, 1)


def main():
    start = gate()
    peer, temperatures = simulation(), np.full(CHAINS, TC)
    peer.sweep(2000, temperature=TC)
    calls = {
        "physiglot multispin": lambda: ising.evolve(
            "square",
            SIZE,
            temperatures,
            SEED,
            1,
            dynamics="multispin",
            sweeps=SWEEPS,
            start=start,
            keep=False,
            threads=1,
        ),
        "mcising": lambda: peer.sweep(PEER_SWEEPS, temperature=TC),
    }
    seconds = timing.interleave(calls, ROUNDS, time.process_time)
    work = {"physiglot multispin": CHAINS * SWEEPS * SIZE**2 / 1e9, "mcising": PEER_SWEEPS * SIZE**2 / 1e9}
    rate = timing.rates(seconds, work)
    timing.table(seconds, rate, "flips/ns", "physiglot multispin")
    ratio = rate["physiglot multispin"] / rate["mcising"]
    print(f"{ratio:.1f}× mcising (target {TARGET:g}×: {'reached' if ratio >= TARGET else 'MISSED'})")
    passed = "ok: Kaufman within 3 σ at two temperatures and two numbers of planes; all chains different"
    timing.verdict("ising", ratio, "mcising", passed, flips_per_ns=round(rate["physiglot multispin"], 2))


if __name__ == "__main__":
    main()
