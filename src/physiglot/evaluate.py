"""Measure a prediction against the truth with the metrics of its task."""

import json
import math
from importlib import import_module
from pathlib import Path

from . import files, stage
from .rollout import open_asked


def evaluate(*, spec: dict, dataset: Path, prediction: Path, out: Path) -> None:
    """Write the flat `metrics.json` of `spec["task"]` (module, params)."""
    task = import_module(f"physiglot.tasks.{spec['task']['module']}")
    params = task.Params(**spec["task"]["params"])
    truth, predicted = open_asked(dataset.parent, prediction.parent, spec["task"]["params"])
    metrics = {name: float(value) for name, value in task.evaluate(truth, predicted, params).items()}
    finite = {name: value if math.isfinite(value) else None for name, value in metrics.items()}
    files.write(out, json.dumps(finite, indent=1))
    for name, value in metrics.items():
        print(f"{name}: {value:.6g}")


if __name__ == "__main__":
    stage.run(evaluate)
