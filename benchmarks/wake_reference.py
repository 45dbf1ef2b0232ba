"""Forces and Strouhal numbers of the cylinder wake at full length, for docs/cylinder.md: minutes to an hour.

`python -m benchmarks.wake_reference demo` (or another name of GRIDS): Re 40 with the symmetry enforced,
Re 100 and 200 from the strong kick until the wake is periodic. Mean drag, rms and amplitude of the lift, and frequency,
over the last ten periods; `drift` is how far the extrema of the last five differ. A second argument, `short`, leaves
all out but 100 time units at Re 200, of which the last three periods count: it shows what a finer grid changes.
"""

import sys
import time

import numpy as np

from benchmarks import timing

timing.require("numpy", "numba", "physiglot")

from physiglot.systems import cylinder  # noqa: E402
from physiglot.wake_metrics import amplitudes, crossings  # noqa: E402

DEMO = {"radial": 96, "angles": 96, "substeps": 50, "r_out": 60.0}
PAPER = {"radial": 384, "angles": 256, "substeps": 125, "r_out": 80.0}
HALF = {**PAPER, "radial": 192, "angles": 128, "substeps": 63}
GRIDS = {
    "demo": DEMO,
    "half": HALF,
    "half_radial": {**HALF, "radial": 383},
    "half_angles": {**HALF, "angles": 256, "substeps": 125},
    "half_angles2": {**HALF, "angles": 512, "substeps": 250},
    "paper": PAPER,
    "paper_radial": {**PAPER, "radial": 767},
    "paper_angles": {**PAPER, "angles": 512, "substeps": 250},
}


def periodic(forces: np.ndarray, dt: float, periods: int) -> dict[str, float]:
    """Statistics over the last whole periods of the lift."""
    times = crossings(forces[len(forces) // 4 :, 1], dt)[-periods - 1 :] + dt * (len(forces) // 4)
    moments = np.linspace(times[0], times[-1], 2001)[:-1]
    drag, lift = (np.interp(moments, dt * np.arange(len(forces)), forces[:, i]) for i in range(2))
    when, sizes = amplitudes(forces[:, 1], dt)
    last = sizes[when > (times[0] + times[-1]) / 2]
    return {
        "drag": drag.mean(),
        "lift rms": lift.std(),
        "lift": last.mean(),
        "drift": last.max() / last.min() - 1,
        "St": 2 * (len(times) - 1) / (times[-1] - times[0]),
    }


def flows(shared: dict, reynolds: list[float], frames: int, periods: int) -> None:
    forces = cylinder.film(cylinder.Params(**shared, steps=frames), 2 / np.array(reynolds))[1]
    for re, series in zip(reynolds, forces, strict=True):
        found = periodic(series, 0.5, periods)
        print(f"Re {re:g}: " + ", ".join(f"{k} {v:.4f}" for k, v in found.items()), flush=True)


def main(name: str, short: str | None = None) -> None:
    shared = {**GRIDS[name], "width": 32, "height": 16}
    start = time.process_time()
    print(f"{name}: {shared}")
    if short:
        flows(shared, [200.0], 200, 3)
    else:
        steady = cylinder.film(cylinder.Params(**shared, kick=0.0, steps=400), np.array([2 / 40]))[1][0]
        change = steady[-1, 0] - steady[-41, 0]
        print(f"Re 40: drag {steady[-1, 0]:.4f}, change in the last 20 time units {change:.1e}", flush=True)
        flows(shared, [100.0, 200.0], 640, 10)
    print(f"{time.process_time() - start:.0f} CPU seconds")


if __name__ == "__main__":
    main(*sys.argv[1:3] or ["demo"])
