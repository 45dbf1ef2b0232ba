"""Forces and Strouhal numbers of the cylinder wake at full length, for docs/cylinder.md: minutes to an hour.

`python -m benchmarks.wake_reference demo` (or another name of GRIDS): Re 40 with the symmetry enforced,
Re 100 and 200 from the strong kick until the wake is periodic. Mean drag, rms and amplitude of the lift, and frequency,
over the last ten periods; `drift` is how far the extrema of the last five differ.
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
    "half_far": {**HALF, "radial": 222, "r_out": 160.0},
    "paper": PAPER,
    "paper_radial": {**PAPER, "radial": 767},
    "paper_angles": {**PAPER, "angles": 512, "substeps": 250},
}
FRAMES = 640


def periodic(forces: np.ndarray, dt: float) -> dict[str, float]:
    """Statistics over the last ten whole periods of the lift."""
    times = crossings(forces[len(forces) // 2 :, 1], dt)[-11:] + dt * (len(forces) // 2)
    moments = np.linspace(times[0], times[-1], 2001)[:-1]
    drag, lift = (np.interp(moments, dt * np.arange(len(forces)), forces[:, i]) for i in range(2))
    when, sizes = amplitudes(forces[:, 1], dt)
    last = sizes[when > times[-1] - 5 * (times[-1] - times[0]) / 10]
    return {
        "drag": drag.mean(),
        "lift rms": lift.std(),
        "lift": last.mean(),
        "drift": last.max() / last.min() - 1,
        "St": 2 * (len(times) - 1) / (times[-1] - times[0]),
    }


def main(name: str) -> None:
    shared = {**GRIDS[name], "width": 32, "height": 16}
    start = time.process_time()
    steady = cylinder.film(cylinder.Params(**shared, kick=0.0, steps=400), np.array([2 / 40]))[1][0]
    print(f"{name}: {shared}")
    print(f"Re 40: drag {steady[-1, 0]:.4f}, change in the last 20 time units {steady[-1, 0] - steady[-41, 0]:.1e}")
    forces = cylinder.film(cylinder.Params(**shared, steps=FRAMES), np.array([2 / 100, 2 / 200]))[1]
    for re, series in zip((100, 200), forces, strict=True):
        found = periodic(series, 0.5)
        print(f"Re {re}: " + ", ".join(f"{k} {v:.4f}" for k, v in found.items()), flush=True)
    print(f"{time.process_time() - start:.0f} CPU seconds")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "demo")
