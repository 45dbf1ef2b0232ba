"""XY model on the square lattice, L = 64, T = 0.9, one thread: Metropolis updates a nanosecond.

Ours, sixteen chains of unit vectors, against the same checkerboard algorithm (same proposals) in torch: eager, and
compiled by `torch.compile`, with 64 and 256 chains; the ratio is to the fastest.
"""

import math
import time

from benchmarks import timing

timing.one_thread()
timing.keep_memory()
timing.require("torch", "numba", "scipy", "physiglot")

import numpy as np  # noqa: E402
import torch  # noqa: E402

from physiglot.montecarlo import autocorrelation, exact, lattices, rotors, spins  # noqa: E402

torch.set_num_threads(1)
SIZE, TEMPERATURE, SWEEPS, ROUNDS, TARGET = 64, 0.9, 200, 9, 40.0
SEED = np.uint64(9)
WIDTH = min(1.0, 0.8 * math.sqrt(TEMPERATURE))


def masks(size: int) -> list[torch.Tensor]:
    parity = (torch.arange(size)[:, None] + torch.arange(size)) % 2
    return [parity == 0, parity == 1]


def move(x, y, mask, rate: float, width: float):
    """One colour of (chain, row, column) unit vectors: the proposal of `rotors.metropolis`."""
    near = [torch.roll(v, s, d) for v in (x, y) for s, d in ((1, 1), (-1, 1), (1, 2), (-1, 2))]
    hx, hy = near[0] + near[1] + near[2] + near[3], near[4] + near[5] + near[6] + near[7]
    t = (2 * torch.rand_like(x) - 1) * width
    inverse = 1 / (1 + t * t)
    cosine, sine = (1 - t * t) * inverse, 2 * t * inverse
    a, b = cosine * x - sine * y, sine * x + cosine * y
    accept = mask & (torch.rand_like(x) < torch.exp(((a - x) * hx + (b - y) * hy) * rate))
    return torch.where(accept, a, x), torch.where(accept, b, y)


class Torch:
    """Chains in torch; `step` is the eager or the compiled `move`."""

    def __init__(self, step, chains: int, size: int = SIZE, temperature: float = TEMPERATURE):
        angle = 2 * math.pi * torch.rand(chains, size, size)
        self.x, self.y, self.step, self.masks = torch.cos(angle), torch.sin(angle), step, masks(size)
        self.rate, self.width = 1 / temperature, min(1.0, 0.8 * math.sqrt(temperature))

    def sweep(self, sweeps: int = 1) -> None:
        with torch.no_grad():
            for _ in range(sweeps):
                for mask in self.masks:
                    self.x, self.y = self.step(self.x, self.y, mask, self.rate, self.width)

    def energy(self) -> np.ndarray:
        bonds = sum((v * torch.roll(v, 1, d)).mean((1, 2)) for v in (self.x, self.y) for d in (1, 2))
        return -bonds.numpy().astype(float)


class Ours:
    def __init__(self):
        self.order, table, _ = lattices.by_colour("square", SIZE)
        self.table, self.done, self.seeds = np.ascontiguousarray(table), 0, np.empty(64, np.uint32)
        angle = np.random.default_rng(0).uniform(0, 2 * np.pi, (SIZE**2, 1, 16))
        self.spins = np.concatenate([np.cos(angle), np.sin(angle)], 1).astype(np.float32).reshape(-1)
        self.rates = np.full(16, 1 / TEMPERATURE / np.log(2), np.float32)
        self.widths = np.full(16, WIDTH, np.float32)

    def sweep(self, sweeps: int) -> None:
        for _ in range(sweeps):
            rotors.seeded(self.seeds, SEED, np.uint64(0), np.uint64(self.done))
            rotors.metropolis(self.spins, self.order, self.table, 2, 2, self.rates, self.widths, self.seeds)
            self.done += 1

    def reflect(self, sweeps: int) -> None:
        for _ in range(sweeps):
            rotors.over_relaxation(self.spins, self.order, self.table, 2)


def gate(compiled) -> str:
    """Ours and torch against the Bessel sum on the 2 × 2 torus; over-relaxation against the energy before it."""
    for temperature in (0.5, 1.5):
        known = exact.xy_square(temperature)
        run = spins.evolve("square", 2, 2, np.full(256, temperature), SEED, 1000, thermalisation=200)
        z = autocorrelation.z_score(run.energy, known)
        timing.check(abs(z) < 3, f"physiglot, 2 × 2, T = {temperature}: {z:+.2f} σ of the Bessel sum")
        for name, step in (("eager", move), ("compiled", compiled)):
            torch.manual_seed(1)
            peer = Torch(step, 4096, 2, temperature)
            peer.sweep(100)
            series = np.stack([(peer.sweep(), peer.energy())[1] for _ in range(200)], 1)
            z = autocorrelation.z_score(series, known)
            timing.check(abs(z) < 4, f"torch {name}, 2 × 2, T = {temperature}: {z:+.2f} σ of the Bessel sum")
    return "ok: Bessel sum of the 2 × 2 torus within 3 σ at two temperatures"


def main():
    torch.manual_seed(0)
    compiled = torch.compile(move, dynamic=False)
    passed = gate(compiled)
    ours = Ours()
    peers = {
        f"torch {n}, {c} chains": Torch(s, c) for n, s in (("eager", move), ("compile", compiled)) for c in (64, 256)
    }
    calls = {"physiglot": lambda: ours.sweep(SWEEPS), **{n: (lambda p=p: p.sweep(2)) for n, p in peers.items()}}
    calls["physiglot, over-relaxation"] = lambda: ours.reflect(SWEEPS)
    work = {name: 2 * SIZE**2 * int(name.split(", ")[1].split()[0]) / 1e9 for name in peers}
    work |= dict.fromkeys(("physiglot", "physiglot, over-relaxation"), SWEEPS * SIZE**2 * 16 / 1e9)
    seconds = timing.interleave(calls, ROUNDS, time.process_time)
    rate = timing.rates(seconds, work)
    timing.table(seconds, rate, "updates/ns", "physiglot")
    best = max(peers, key=rate.__getitem__)
    ratio = rate["physiglot"] / rate[best]
    print(f"{ratio:.1f}× {best} (target {TARGET:g}×: {'reached' if ratio >= TARGET else 'MISSED'})")
    over = round(rate["physiglot, over-relaxation"], 2)
    timing.verdict("xy", ratio, best, passed, updates_per_ns=round(rate["physiglot"], 2), over_relaxation=over)


if __name__ == "__main__":
    main()
