"""Measure a prediction against the truth with the metrics of its task."""

import json
import math
from importlib import import_module
from pathlib import Path

from . import files, stage
from .rollout import open_asked


def evaluate(*, spec: dict, prediction: Path, out: Path, dataset: Path | None = None) -> None:
    """Write the flat `metrics.json` of `spec["task"]` (module, params): numbers, null, and the reasons of some nulls.

    A metric that is not defined is NaN, and `<metric>_reason` says why.
    """
    task = import_module(f"physiglot.tasks.{spec['task']['module']}")
    params = task.Params(**spec["task"]["params"])
    store = dataset.parent if dataset else None
    truth, predicted = open_asked(store, prediction.parent, spec["task"]["params"], spec.get("target"))
    found = task.evaluate(truth, predicted, params)
    metrics = {name: value if isinstance(value, str) else float(value) for name, value in found.items()}
    finite = {k: v if isinstance(v, str) or math.isfinite(v) else None for k, v in metrics.items()}
    files.write(out, json.dumps(finite, indent=1))
    for name, value in metrics.items():
        print(f"{name}: {value}" if isinstance(value, str) else f"{name}: {value:.6g}")


if __name__ == "__main__":
    stage.run(evaluate)
