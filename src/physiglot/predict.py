"""Let a trained model produce what its task asks for: rollouts from the first states of a split."""

import time
from pathlib import Path
from typing import Any

import numpy as np

from . import models, stage, store


def _start(data: Any, rollout: dict) -> Any:
    return data["state"].isel(time=0, member=slice(rollout.get("members"))).values + rollout.get("nudge", 0.0)


def _roll(model: Any, start: np.ndarray, steps: int, options: dict) -> np.ndarray:
    import torch

    with torch.inference_mode():
        return model.predict(torch.as_tensor(start, dtype=torch.float64), steps, **options).numpy()


def predict(*, spec: dict, dataset: Path, weights: Path, out: Path, threads: int = 1) -> None:
    """Write `prediction` (member, time, field), in physical units, for each of `spec["rollouts"]`.

    `spec["options"]` are the options of the model's `predict`. Index 0 in time is the given state. Values that
    are not finite are kept: a blow-up is a result.
    """
    import torch
    import xarray as xr

    torch.set_num_threads(threads)
    model = models.load(weights).double()
    groups = {}
    for name, rollout in spec["rollouts"].items():
        data = store.open_group(dataset.parent, rollout.get("split", "test"))
        start, steps = _start(data, rollout), rollout.get("steps") or data.sizes["time"]
        began = time.monotonic()
        values = _roll(model, start, steps, spec["options"])
        seconds = time.monotonic() - began
        state = data["state"]
        prediction = xr.DataArray(values, dims=state.dims, attrs=state.attrs)
        dt = float(data["time"][1] - data["time"][0])
        times = xr.DataArray(np.arange(steps) * dt, dims="time", attrs=data["time"].attrs)
        groups[name] = xr.Dataset({"prediction": prediction}, {"time": times, "field": data["field"]})
        lost = float(1 - np.isfinite(values).mean())
        print(
            f"{name}: {len(values)} members x {steps} steps in {seconds:.2f} s, {lost:.1%} not finite",
            flush=True,
        )
    store.save(out.parent, groups)


if __name__ == "__main__":
    stage.run(predict)
