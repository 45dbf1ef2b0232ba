"""Let a trained model produce what its task asks for: rollouts from the first states of a split, readings, samples."""

import json
import time
from pathlib import Path
from typing import Any

import numpy as np

from . import fingerprint, models, stage, store, targets


def _batches(data: Any, ask: dict) -> list[Any]:
    """The series that are asked for, as many at a time as they may be."""
    data = data.isel(member=slice(ask.get("members")))
    size = ask.get("batch") or data.sizes["member"]
    return [data.isel(member=slice(i, i + size)) for i in range(0, data.sizes["member"], size)]


def _where(ask: dict) -> dict[str, Any]:
    """The device of the stage and the precision that is asked for."""
    import torch

    from . import device

    return {"device": device.best(), "dtype": getattr(torch, ask.get("precision", "float64"))}


def _put(data: Any, name: str, where: dict[str, Any]) -> Any:
    """A variable of the data as a tensor; None if it is not there."""
    import torch

    return torch.as_tensor(data[name].values, **where) if name in data else None


def _rollout(model: Any, data: Any, rollout: dict, options: dict) -> Any:
    """`prediction` (member, time, field, …), in physical units; index 0 in time is the given state."""
    import xarray as xr

    where, steps = _where(rollout), rollout.get("steps") or data.sizes["time"]
    model, parts = model.to(**where), []
    for piece in _batches(data, rollout):
        start = _put(piece.isel(time=0), "state", where) + rollout.get("nudge", 0.0)
        beside = models.side(model.predict, _put(piece, "parameters", where))
        parts.append(model.predict(start, steps, **beside, **options).cpu().numpy())
    state = data["state"]
    prediction = xr.DataArray(np.concatenate(parts), dims=state.dims, attrs=state.attrs)
    dt = float(data["time"][1] - data["time"][0])
    times = xr.DataArray(np.arange(steps) * dt, dims="time", attrs=data["time"].attrs)
    where = {name: data[name] for name in state.dims[2:] if name in data.coords}
    return xr.Dataset({"prediction": prediction}, {"time": times, **where})


def _reading(model: Any, data: Any, reading: dict, options: dict) -> Any:
    """What the model reads in whole series, each variable (member, …); its parameters are in the attributes."""
    import xarray as xr

    where, parts = _where(reading), []
    model = model.to(**where)
    for piece in _batches(data, reading):
        beside = models.side(model.read, _put(piece, "parameters", where))
        parts.append(model.read(_put(piece, "state", where), **beside, **options))
    found = {name: np.concatenate([part[name].cpu().numpy() for part in parts]) for name in parts[0]}
    dims = {name: ["member", *(f"{name}_{i}" for i in range(1, values.ndim))] for name, values in found.items()}
    made_by = {"model": model.part["module"], **model.params.model_dump(mode="json")}
    return xr.Dataset({name: (dims[name], values) for name, values in found.items()}, attrs={"made_by": made_by})


def _beside(model: Any, target: Any, data: Any, ask: dict) -> dict[str, Any]:
    """What the model says of configurations of the target, (member, time): `reference_energy`, `reference_log_prob`.

    A model that says something else has a method `reference`: configurations -> name -> values.
    """
    import torch

    state = data["state"].isel(member=slice(ask.get("members")))
    dtype = getattr(torch, ask.get("precision", "float32"))
    x, found = target.configurations(torch.as_tensor(state.values, dtype=dtype)), {}
    say = getattr(model, "reference", None) or (lambda x: {"log_prob": model.log_prob(x)})
    if getattr(model, "log_prob_kind", "none") in ("exact", "lower_bound"):
        parts = [say(piece) for piece in x.split(ask.get("batch", 1000))]
        found = {name: torch.cat([part[name] for part in parts]).double() for name in parts[0]}
    found["energy"] = target.energy(x.double())
    shape = state.shape[:2]
    return {f"reference_{k}": (["member", "time"], v.reshape(shape).numpy()) for k, v in found.items()}


def _samples(model: Any, target: Any, ask: dict) -> Any:
    """What the model draws, each variable (sample, …): `x`, `log_prob` if it has one, `energy`, …; its `stages`."""
    import torch
    import xarray as xr

    torch.manual_seed(ask.get("seed", 0))  # of what a model draws to say something of the configurations beside

    model = model.to("cpu", getattr(torch, ask.get("precision", "float32")))
    generator = torch.Generator().manual_seed(ask.get("seed", 0))
    count, most = ask.get("count", 10_000), ask.get("batch", 1000)
    parts = []
    for start in range(0, count, most):
        size = min(most, count - start)
        own = hasattr(model, "draw")
        parts.append(model.draw(size, generator) if own else models.draw(model, target, size, generator))
    found = {name: torch.cat([part[name] for part in parts]).numpy() for name in parts[0]}
    dims = {name: ["sample", *(f"{name}_{i}" for i in range(1, values.ndim))] for name, values in found.items()}
    data = xr.Dataset({name: (dims[name], values) for name, values in found.items()})
    return data.assign(stages=_stages(model, ask["stages"], generator)) if ask.get("stages") else data


def _stages(model: Any, rows: int, generator: Any) -> Any:
    """(row, stage, …): configurations as the model makes them; the attribute `names` says what the stages are."""
    import torch
    import xarray as xr

    found = model.stages(rows, generator)
    values = torch.stack(list(found.values()), 1).numpy()
    dims = ["row", "stage", *(f"stages_{i}" for i in range(1, values.ndim - 1))]
    return xr.DataArray(values, dims=dims, attrs={"names": list(found)})


def _described(model: Any, target: Any, spec: dict) -> dict[str, Any]:
    """What is to be known of samples: the target, the kind of their log-probabilities, the model."""
    made_by = {"model": model.part["module"], **model.params.model_dump(mode="json")}
    parameters = sum(p.numel() for p in model.parameters())
    known = {"log_prob_kind": getattr(model, "log_prob_kind", "none"), "made_by": made_by, "parameters": parameters}
    beta = {"beta": target.beta} if hasattr(target, "beta") else {}
    return {"target": fingerprint.canonical(spec["target"]), **beta, **known}


def _training_cost(weights: Path) -> dict[str, float]:
    """CPU seconds of the training, by its run record; nothing if there is none."""
    try:
        record = json.loads(stage.record_path(weights).read_text())
        steps = record["spec"]["part"]["training"]["steps"]
        return {"train_cpu_seconds": record["cpu_seconds"]} | ({} if steps is None else {"train_steps": steps})
    except (OSError, KeyError, ValueError):
        return {}


def _all_samples(model: Any, spec: dict, weights: Path, dataset: Path | None, groups: dict) -> dict[str, dict]:
    """Add a group for each of `spec["samples"]`; returns what each cost."""
    import torch

    cost = {}
    for name, ask in spec.get("samples", {}).items():
        target, began, cpu = targets.build(spec["target"]), time.monotonic(), time.process_time()
        with torch.no_grad():
            drawn = _samples(model, target, ask).assign_attrs(_described(model, target, spec))
            spent, seconds = time.process_time() - cpu, time.monotonic() - began
            if dataset is not None and ask.get("split") is not None and isinstance(target, targets.Target):
                data = store.open_group(dataset.parent, ask["split"])
                drawn = drawn.assign(_beside(model, target, data, ask))
        groups[name] = drawn
        cost[name] = {"sampling_cpu_seconds": spent, "sampling_seconds": seconds, **_training_cost(weights)}
        print(f"{name}: {groups[name].sizes['sample']} samples in {seconds:.2f} s", flush=True)
    return cost


def predict(*, spec: dict, weights: Path, out: Path, dataset: Path | None = None, threads: int = 1) -> None:
    """Write a group for each of `spec["rollouts"]` (see `_rollout`), `spec["readings"]` (see `_reading`) and
    `spec["samples"]` (see `_samples`), which need no data set but `spec["target"]`.

    `spec["options"]` are the options of the model's `predict` or `read`. Values that are not finite are kept: a
    blow-up is a result.
    """
    import torch

    torch.set_num_threads(threads)
    model, groups = models.load(weights), {}
    for kind, ask_of in (("rollouts", _rollout), ("readings", _reading)):
        for name, ask in spec.get(kind, {}).items():
            if dataset is None:
                raise ValueError(f"{kind}.{name}: needs a data set, and none is given")
            data = store.open_group(dataset.parent, ask.get("split", "test"))
            began = time.monotonic()
            with torch.inference_mode():
                groups[name] = ask_of(model, data, ask, spec["options"])
            seconds = time.monotonic() - began
            lost = {k: float(1 - np.isfinite(v.values).mean()) for k, v in groups[name].data_vars.items()}
            told = ", ".join(f"{k} {groups[name][k].shape}, {share:.1%} not finite" for k, share in lost.items())
            print(f"{name}: {told}, in {seconds:.2f} s", flush=True)
    store.save(out.parent, groups, notes=_all_samples(model, spec, weights, dataset, groups))


if __name__ == "__main__":
    stage.run(predict)
