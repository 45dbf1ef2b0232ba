"""Gray–Scott by surrogate and by solver: the time of one series of the demo, one thread, and at equal error.

The surrogates start where ours does: a local law fitted to sixteen series, and the Transformer of tokens on top of it,
untrained, which takes the time of a trained one and has the error of the law. Weights given as arguments
(runs/…/model/weights.pt) are timed and measured as well. At equal error the solver takes the largest step at which its
error against its own default is not above that of the surrogate.
"""

import sys
import time
from functools import partial
from pathlib import Path

from benchmarks import timing

timing.one_thread()
timing.keep_memory()
timing.require("numpy", "numba", "torch", "physiglot")

import numpy as np  # noqa: E402
import torch  # noqa: E402

from physiglot import models, stencils  # noqa: E402
from physiglot.systems import gray_scott  # noqa: E402

PARAMS = gray_scott.Params(grid=16, average=1, dx=1.75, cube=5, steps=100)
TRAIN, BATCHES, ROUNDS = 16, (1, 4), 3
SUBSTEPS = (4, 3, 2)  # coarser than the default of 5; one step of 5 is unstable


def solve(starts, substeps):
    """(member, time, field, z, y, x) by the solver."""
    frames = np.empty((len(starts), PARAMS.steps, *starts.shape[1:]), np.float32)
    for start, to in zip(starts, frames, strict=True):
        stencils.integrate(start, to, PARAMS.dt / substeps, substeps, gray_scott.reaction(PARAMS))
    return frames


def predict(model, starts):
    with torch.inference_mode():
        return model.predict(torch.from_numpy(starts), PARAMS.steps).numpy()


def error(found, truth):
    """Relative MSE of u and of v, over series and cells, the mean over time: that of the table."""
    axes = (0, 3, 4, 5)
    return (np.sum((found - truth) ** 2, axes) / np.sum(truth.astype(float) ** 2, axes)).mean(0)


def surrogates(weights):
    """Name -> model, in float32."""
    series = gray_scott.simulate(PARAMS, TRAIN, np.random.default_rng(1)).state.values
    mean, std = (torch.tensor(getattr(series, m)((0, 1, 3, 4, 5), dtype=float), dtype=torch.float32) for m in MOMENTS)
    data = dict.fromkeys(("state", "smooth"), torch.from_numpy(series))
    found = {}
    for name, part in PARTS.items():
        found[name] = models.build(part, mean, std)
        found[name].fit(data)
    found |= {str(path): models.load(path) for path in weights}
    return {name: model.eval().float() for name, model in found.items()}


MOMENTS = ("mean", "std")
PARTS = {
    "local law": {"module": "local_law", "params": {}},
    "law and tokens": {"module": "field_transformer", "params": {"law": {}}},
}


def equal(errors, allowed):
    """The fewest substeps of the solver whose error is allowed in both fields."""
    return min((n for n, e in errors.items() if np.all(e <= allowed)), default=PARAMS.substeps)


def main():
    starts = gray_scott.starts(PARAMS, max(BATCHES), np.random.default_rng(2))
    truth, found = solve(starts, PARAMS.substeps), surrogates(map(Path, sys.argv[1:]))
    coarse = {n: error(solve(starts, n), truth) for n in SUBSTEPS}
    errors = {name: error(predict(model, starts), truth) for name, model in found.items()}
    print(f"\n{'':24}  {'error of u':>11}  {'error of v':>11}")
    for name, e in {**errors, **{f"solver, {n} substeps": e for n, e in coarse.items()}}.items():
        print(f"{name:24}  {e[0]:11.2e}  {e[1]:11.2e}")
    timing.check(errors["local law"][1] < 1e-4, "the law predicts v to 1e-4")
    ratios = {}
    for batch in BATCHES:
        given = starts[:batch]
        calls = {f"solver, {n} substeps": partial(solve, given, n) for n in (PARAMS.substeps, *SUBSTEPS)}
        calls |= {name: partial(predict, model, given) for name, model in found.items()}
        seconds = timing.interleave(calls, ROUNDS, time.process_time)
        rate = timing.rates(seconds, batch)
        print(f"\n{batch} series at a time")
        timing.table(seconds, rate, "series/s", "law and tokens")
        for name in found:
            same = equal(coarse, errors[name])
            ratios[name, batch] = rate[name] / rate[f"solver, {PARAMS.substeps} substeps"]
            at_equal = rate[name] / rate[f"solver, {same} substeps"]
            print(f"{name}: {ratios[name, batch]:.3f}× the solver, {at_equal:.3f}× at equal error ({same} substeps)")
    gate = "ok: the surrogates' errors against the solver are in the table"
    alone = round(ratios["law and tokens", 1], 4)
    timing.verdict("surrogate_gray_scott", ratios["law and tokens", max(BATCHES)], "our own solver", gate, alone=alone)


if __name__ == "__main__":
    main()
