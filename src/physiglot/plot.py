"""Draw the figures of one study."""

import json
from importlib import import_module
from pathlib import Path

from . import drawing, stage
from .rollout import open_asked


def plot(*, spec: dict, dataset: Path, prediction: Path, metrics: Path, out: Path) -> None:
    """Draw the figures of `spec["task"]` (module, params) into the folder `out`."""
    task = import_module(f"physiglot.tasks.{spec['task']['module']}")
    params = task.Params(**spec["task"]["params"])
    truth, predicted = open_asked(dataset.parent, prediction.parent, spec["task"]["params"])
    drawing.write(task.plot(truth, predicted, json.loads(metrics.read_text()), params), out)


if __name__ == "__main__":
    stage.run(plot)
