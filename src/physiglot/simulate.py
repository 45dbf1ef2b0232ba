"""Simulate one immutable block of members of a system."""

from importlib import import_module
from pathlib import Path

import numpy as np

from . import stage, store
from .randomness import generator


def simulate(*, spec: dict, out: Path) -> None:
    """Simulate `spec["members"]` members of block `spec["block"]` and write them as a Zarr store."""
    system = import_module(f"physiglot.systems.{spec['module']}")
    params = system.Params(**spec["params"])
    dataset = system.simulate(params, spec["members"], generator(spec["seed"], spec["split"], spec["block"]))
    for name, variable in dataset.data_vars.items():
        if not np.isfinite(variable.values).all():
            raise FloatingPointError(
                f"{spec['module']}: {name} of block {spec['split']}/{spec['block']} is not finite: "
                f"reduce the step or mend the parameters {spec['params']}"
            )
    store.save(out.parent, {"": dataset}, chunk=spec["chunk"])
    print(
        f"{spec['members']} members of {spec['module']}: "
        + ", ".join(f"{k} {v.shape}" for k, v in dataset.data_vars.items())
    )


if __name__ == "__main__":
    stage.run(simulate)
