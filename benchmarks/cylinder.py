"""The cylinder wake, steps of four flows on the demo grid (96 × 96, float64), one thread: ours against torch.

The peer is the same scheme in torch for all flows at once: the solver's own torch backend (transforms as one product
with a matrix, tridiagonal systems by cyclic reduction), the same with torch's FFT, the same with Thomas's algorithm row
by row, and the first two through `torch.compile`. The ratio is to the fastest.
The gate: drag at Re 40, frequency and drag at Re 200, all peers equal to ours.
"""

import time

from benchmarks import timing

timing.one_thread()
timing.keep_memory()
timing.require("numpy", "numba", "torch", "physiglot")

import numpy as np  # noqa: E402
import torch  # noqa: E402

from physiglot.systems import cylinder  # noqa: E402
from physiglot.wake import scheme, stepper, tensors  # noqa: E402
from physiglot.wake_metrics import frequency  # noqa: E402

torch.set_num_threads(1)

GRID, STEP, REYNOLDS = scheme.Grid(96, 96, 60.0), 0.01, np.array([100.0, 150.0, 200.0, 300.0])
STEPS, ROUNDS, TARGET = 40, 12, 5.0


class FFT(tensors.Flow):
    """Transforms by torch.fft."""

    def values(self, modes):
        series = torch.complex(modes[..., 0, :], -modes[..., 1, :]) * (self.grid.angles / 2)
        series[..., 0] *= 2
        return torch.fft.irfft(series, n=self.grid.angles)

    def modes(self, values):
        series = torch.fft.rfft(values)[..., : self.grid.highest + 1] * (2 / self.grid.angles)
        series[..., 0] /= 2
        return torch.stack([series.real, -series.imag], -2)


class Rows(tensors.Flow):
    """Tridiagonal systems row by row."""

    def _systems(self):
        super()._systems()
        diagonals = np.stack([scheme.vorticity_diagonal(self.grid, nu, self.step) for nu in self.nu], 1)
        stream = scheme.stream_diagonal(self.grid)[:, None]
        self.diffusion, self.poisson = (
            [self._put(row[:, None, self.order]) for row in scheme.pivots(d)] for d in (diagonals, stream)
        )

    def _solved(self, pivots, b):
        rows = [pivots[0] * b[:, 0]]
        for i in range(1, len(pivots)):
            rows.append(pivots[i] * (b[:, i] + rows[-1]))
        for i in range(len(rows) - 2, -1, -1):
            rows[i] = rows[i] + pivots[i] * rows[i + 1]
        return torch.stack(rows, 1)


def compiled(flow):
    flow._step = torch.compile(flow._step)
    return flow


def contestants():
    nu = 2 / REYNOLDS
    flows = {
        "physiglot": stepper.Flow(GRID, nu, STEP),
        "torch": tensors.Flow(GRID, nu, STEP, "cpu"),
        "torch, FFT": FFT(GRID, nu, STEP, "cpu"),
        "torch, rows": Rows(GRID, nu, STEP, "cpu"),
        "torch.compile": compiled(tensors.Flow(GRID, nu, STEP, "cpu")),
        "torch.compile, FFT": compiled(FFT(GRID, nu, STEP, "cpu")),
    }
    return flows, {name: (lambda f=flow: f.advance(np.zeros(STEPS))) for name, flow in flows.items()}


def gate(flows):
    """The physics of ours, then the peers against ours after a kick."""
    steady = cylinder.film(cylinder.Params(steps=160, kick=0.0, width=16, height=8), np.array([2 / 40]))[1][0]
    timing.check(1.50 < steady[-1, 0] < 1.56, f"Re 40: drag {steady[-1, 0]:.3f}, published 1.50–1.56")
    forces = cylinder.film(cylinder.Params(steps=320, width=16, height=8), np.array([2 / 200]))[1][0, 160:]
    strouhal, drag = 2 * frequency(forces[:, 1], 0.5), forces[:, 0].mean()
    timing.check(abs(strouhal / 0.195 - 1) < 0.04, f"Re 200: St {strouhal:.4f}, published 0.19–0.20, ± 4 %")
    timing.check(-0.06 < drag / 1.355 - 1 < 0.02, f"Re 200: drag {drag:.3f}, published 1.31–1.40, −6 … +2 %")
    for flow in flows.values():
        flow.advance(np.full(60, 0.2))
    for name in list(flows)[1:]:
        difference = np.abs(flows[name].vorticity - flows["physiglot"].vorticity).max()
        timing.check(difference < 1e-10, f"{name} against ours after 60 steps: {difference:.1e} < 1e-10")
    return f"ok: Re 40 Cd {steady[-1, 0]:.3f}; Re 200 St {strouhal:.4f}, Cd {drag:.3f}; peers equal to 1e-10"


def main():
    flows, calls = contestants()
    passed = gate(flows)
    seconds = timing.interleave(calls, ROUNDS, time.process_time)
    rate = timing.rates(seconds, GRID.radial * GRID.angles * len(REYNOLDS) * STEPS / 1e6)
    timing.table(seconds, rate, "M cell steps/s", "physiglot")
    best = max((name for name in rate if name != "physiglot"), key=rate.__getitem__)
    ratio = rate["physiglot"] / rate[best]
    print(f"{ratio:.2f}× {best} (target {TARGET:g}×: {'reached' if ratio >= TARGET else 'MISSED'})")
    timing.verdict("cylinder", ratio, best, passed, million_cell_steps_per_second=round(rate["physiglot"], 1))


if __name__ == "__main__":
    main()
