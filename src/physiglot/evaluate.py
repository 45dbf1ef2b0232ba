"""Measure a prediction against the truth with the metrics of its task."""

import json
import math
from importlib import import_module
from pathlib import Path
from typing import Any

from . import files, stage, store


def open_rollouts(dataset: Path, prediction: Path, rollouts: dict) -> tuple[dict[str, Any], dict[str, Any]]:
    """(truth, prediction) by rollout, lazy: the truth is cut to the members of the rollout."""
    truth, predicted = {}, {}
    for name, rollout in rollouts.items():
        data = store.open_group(dataset, rollout.get("split", "test"))
        truth[name] = data.isel(member=slice(rollout.get("members")))
        predicted[name] = store.open_group(prediction, name)
    return truth, predicted


def evaluate(*, spec: dict, dataset: Path, prediction: Path, out: Path) -> None:
    """Write the flat `metrics.json` of `spec["task"]` (module, params)."""
    task = import_module(f"physiglot.tasks.{spec['task']['module']}")
    params = task.Params(**spec["task"]["params"])
    truth, predicted = open_rollouts(dataset.parent, prediction.parent, spec["task"]["params"]["rollouts"])
    metrics = {name: float(value) for name, value in task.evaluate(truth, predicted, params).items()}
    finite = {name: value if math.isfinite(value) else None for name, value in metrics.items()}
    files.write(out, json.dumps(finite, indent=1))
    for name, value in metrics.items():
        print(f"{name}: {value:.6g}")


if __name__ == "__main__":
    stage.run(evaluate)
