"""A trained model against the solver that made its data: seconds for one trajectory, and at equal error.

`python -m benchmarks.surrogate <study> [seed]` after the study has run. CPU time of one thread. The model's is that of
its rollout in the precision that the task asks for, of one series and of all at once. The solver's is that of the
frames of one series, without its start-up. Where the start of a series can be repeated on a coarser grid (the
cylinder), the solver is also timed on the coarsest one whose error is not above the model's.
"""

import sys
import time
from importlib import import_module
from pathlib import Path

from benchmarks import timing

timing.one_thread()
timing.require("numpy", "torch", "physiglot")

import numpy as np  # noqa: E402
import torch  # noqa: E402

from physiglot import config, models, store  # noqa: E402
from physiglot.rollout import Rollout  # noqa: E402

torch.set_num_threads(1)

ROUNDS = 3
COARSER = {
    "cylinder": [
        {"radial": n, "angles": n, "substeps": max(25, n // 2)} for n in (32, 40, 48, 56, 64, 80, 96, 128, 192)
    ]
}


def median(call, rounds=ROUNDS):
    """Median CPU seconds of a call, after one that is not timed, and what it returned."""
    result, seconds = call(), []
    for _ in range(rounds):
        start = time.process_time()
        result = call()
        seconds.append(time.process_time() - start)
    return float(np.median(seconds)), result


def relative(prediction, truth):
    """Relative mean square error by field, all frames of all series."""
    axes = [i for i in range(truth.ndim) if i != 2]
    return ((prediction - truth) ** 2).sum(tuple(axes)) / (truth**2).sum(tuple(axes))


class Duel:
    """The data, the model and the solver of a study, with the configuration of the folder where it ran."""

    def __init__(self, name: str, seed: int):
        home = Path.cwd()
        whole = config.Config.model_validate(config.load(home / "config.yaml"))
        study = whole.studies[name]
        self.system, self.options = whole.systems[study.system], whole.models[study.model].predict
        self.ask = Rollout(**whole.tasks[study.task].params["rollouts"]["test"])
        self.data = store.open_group(home / f"data/{study.system}/datasets/{study.dataset}.zarr", self.ask.split).load()
        self.model = models.load(home / f"runs/{study.weights or name}/{seed}/model/weights.pt")
        self.module = import_module(f"physiglot.systems.{self.system.module}")
        self.params = {**self.system.params, **self.system.splits[self.ask.split].params}
        self.steps = self.ask.steps or self.data.sizes["time"]

    def rollout(self, members: slice):
        dtype = getattr(torch, self.ask.precision)
        model, piece = self.model.to(dtype), self.data.isel(member=members)
        start = torch.as_tensor(piece["state"].isel(time=0).values, dtype=dtype)
        parameters = torch.as_tensor(piece["parameters"].values, dtype=dtype) if "parameters" in piece else None
        with torch.inference_mode():
            return model.predict(start, self.steps, **models.side(model.predict, parameters), **self.options).numpy()

    def solve(self, steps: int, **changes):
        """One series by the solver."""
        params = self.module.Params(**{**self.params, "steps": steps, **changes})
        return self.module.simulate(params, 1, np.random.default_rng(0))["state"].values

    def solver_seconds(self, **changes) -> float:
        """Without what comes before the first frame."""
        start, _ = median(lambda: self.solve(1, **changes), 1)
        whole, _ = median(lambda: self.solve(self.steps, **changes), 1)
        return whole - start

    def equal(self, error: np.ndarray) -> tuple[dict, float, np.ndarray] | None:
        """The coarsest solver whose mean error is not above `error`: its grid, seconds and errors by field."""
        truth = self.data["state"].values[:1, : self.steps]
        for grid in COARSER.get(self.system.module, []):
            again = {**grid, "reynolds": [float(2 / self.data["parameters"].values[0, 0])]}
            try:
                found = relative(self.solve(self.steps, **again), truth)
            except FloatingPointError:  # too coarse for this flow
                continue
            if found.mean() <= error.mean():
                return grid, self.solver_seconds(**again), found
        return None


def main(study: str, seed: int = 0) -> None:
    duel = Duel(study, seed)
    truth = duel.data["state"].values[:, : duel.steps]
    one, prediction = median(lambda: duel.rollout(slice(0, 1)))
    every, _ = median(lambda: duel.rollout(slice(None)))
    error = relative(prediction[:, : truth.shape[1]], truth[:1])
    solver, members = duel.solver_seconds(), len(truth)
    print(f"{study}: {duel.steps} frames, CPU seconds for one series")
    print(f"solver {solver:.3f}; model {one:.3f}, {every / members:.3f} in a batch of {members}")
    fields = zip(duel.data["field"].values, error, strict=True)
    print("model: relative MSE of " + ", ".join(f"{name} {value:.2e}" for name, value in fields))
    equal = duel.equal(error)
    if equal:
        grid, seconds, found = equal
        print(f"solver on {grid}: {seconds:.3f} s, relative MSE {found.round(6)}")
    timing.verdict(
        f"surrogate {study}",
        solver / one,
        "our solver",
        f"relative MSE {error.mean():.2e}",
        batched=round(solver * members / every, 2),
        at_equal_error=round(equal[1] / one, 2) if equal else None,
    )


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit("python -m benchmarks.surrogate <study> [seed], in the folder where the study has run")
    main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 0)
