"""Let a trained model produce what its task asks for: rollouts from the first states of a split, or readings of it."""

import time
from pathlib import Path
from typing import Any

import numpy as np

from . import models, stage, store


def _batches(data: Any, ask: dict) -> list[Any]:
    """The series that are asked for, as many at a time as they may be."""
    data = data.isel(member=slice(ask.get("members")))
    size = ask.get("batch") or data.sizes["member"]
    return [data.isel(member=slice(i, i + size)) for i in range(0, data.sizes["member"], size)]


def _parameters(data: Any, dtype: Any) -> Any:
    import torch

    return torch.as_tensor(data["parameters"].values, dtype=dtype) if "parameters" in data else None


def _rollout(model: Any, data: Any, rollout: dict, options: dict) -> Any:
    """`prediction` (member, time, field, …), in physical units; index 0 in time is the given state."""
    import torch
    import xarray as xr

    dtype = getattr(torch, rollout.get("precision", "float64"))
    model, steps = model.to(dtype), rollout.get("steps") or data.sizes["time"]
    parts = []
    for piece in _batches(data, rollout):
        start = torch.as_tensor(piece["state"].isel(time=0).values + rollout.get("nudge", 0.0), dtype=dtype)
        beside = models.side(model.predict, _parameters(piece, dtype))
        parts.append(model.predict(start, steps, **beside, **options).numpy())
    state = data["state"]
    prediction = xr.DataArray(np.concatenate(parts), dims=state.dims, attrs=state.attrs)
    dt = float(data["time"][1] - data["time"][0])
    times = xr.DataArray(np.arange(steps) * dt, dims="time", attrs=data["time"].attrs)
    where = {name: data[name] for name in state.dims[2:] if name in data.coords}
    return xr.Dataset({"prediction": prediction}, {"time": times, **where})


def _reading(model: Any, data: Any, reading: dict, options: dict) -> Any:
    """What the model reads in whole series, each variable (member, …); its parameters are in the attributes."""
    import torch
    import xarray as xr

    dtype = getattr(torch, reading.get("precision", "float64"))
    model, parts = model.to(dtype), []
    for piece in _batches(data, reading):
        state = torch.as_tensor(piece["state"].values, dtype=dtype)
        parts.append(model.read(state, **models.side(model.read, _parameters(piece, dtype)), **options))
    found = {name: np.concatenate([part[name].numpy() for part in parts]) for name in parts[0]}
    dims = {name: ["member", *(f"{name}_{i}" for i in range(1, values.ndim))] for name, values in found.items()}
    made_by = {"model": model.part["module"], **model.params.model_dump(mode="json")}
    return xr.Dataset({name: (dims[name], values) for name, values in found.items()}, attrs={"made_by": made_by})


def predict(*, spec: dict, dataset: Path, weights: Path, out: Path, threads: int = 1) -> None:
    """Write a group for each of `spec["rollouts"]` (see `_rollout`) and `spec["readings"]` (see `_reading`).

    `spec["options"]` are the options of the model's `predict` or `read`. Values that are not finite are kept: a
    blow-up is a result.
    """
    import torch

    torch.set_num_threads(threads)
    model, groups = models.load(weights), {}
    for kind, ask_of in (("rollouts", _rollout), ("readings", _reading)):
        for name, ask in spec.get(kind, {}).items():
            data = store.open_group(dataset.parent, ask.get("split", "test"))
            began = time.monotonic()
            with torch.inference_mode():
                groups[name] = ask_of(model, data, ask, spec["options"])
            seconds = time.monotonic() - began
            lost = {k: float(1 - np.isfinite(v.values).mean()) for k, v in groups[name].data_vars.items()}
            told = ", ".join(f"{k} {groups[name][k].shape}, {share:.1%} not finite" for k, share in lost.items())
            print(f"{name}: {told}, in {seconds:.2f} s", flush=True)
    store.save(out.parent, groups)


if __name__ == "__main__":
    stage.run(predict)
