"""Draw the figures of one study."""

import json
from importlib import import_module
from pathlib import Path

from . import drawing, stage
from .rollout import open_asked


def plot(*, spec: dict, prediction: Path, metrics: Path, out: Path, dataset: Path | None = None) -> None:
    """Draw the figures of `spec["task"]` (module, params) into the folder `out`."""
    task = import_module(f"physiglot.tasks.{spec['task']['module']}")
    params = task.Params(**spec["task"]["params"])
    store = dataset.parent if dataset else None
    truth, predicted = open_asked(store, prediction.parent, spec["task"]["params"], spec.get("target"))
    drawing.write(task.plot(truth, predicted, json.loads(metrics.read_text()), params), out)


if __name__ == "__main__":
    stage.run(plot)
