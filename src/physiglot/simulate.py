"""Simulate a bundle of blocks of a system: each is immutable, made once, and kept by those that come after."""

import json
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from . import files, fingerprint, stage, store
from .randomness import generator


def _kept(path: Path, key: str) -> str | None:
    """The fingerprint of a block that was made whole by the same code and spec, if there is one."""
    try:
        root = store.check(path)
    except store.StoreError:
        return None
    return root["fingerprint"] if root.get("notes", {}).get("made_by") == key else None


def _block(system: Any, spec: dict, block: int) -> Any:
    dataset = system.simulate(
        system.Params(**spec["params"]), spec["members"], generator(spec["seed"], spec["split"], block)
    )
    for name, variable in dataset.data_vars.items():
        if not np.isfinite(variable.values).all():
            raise FloatingPointError(
                f"{spec['module']}: {name} of block {spec['split']}/{block} is not finite: "
                f"reduce the step or mend the parameters {spec['params']}"
            )
    return dataset


def simulate(*, spec: dict, out: Path, code: str = "") -> None:
    """Simulate the blocks `spec["blocks"]`, each of `spec["members"]` members, and list their fingerprints in `out`.

    A finished block that the same code and spec made stays as it is: what a job did before it was stopped is not
    done again, and a growing ensemble only adds blocks. The note `made_by` tells.
    """
    system, listed, folder = None, {}, out.parents[2]
    for done, block in enumerate(spec["blocks"]):
        name = f"blocks/{spec['split']}/{block}.zarr"
        key = fingerprint.digest(code, fingerprint.canonical({**spec, "blocks": [block]}))
        found = _kept(folder / name, key)
        if found is None:
            system = system or import_module(f"physiglot.systems.{spec['module']}")
            dataset = _block(system, spec, block)
            found = store.save(folder / name, {"": dataset}, chunk=spec["chunk"], notes={"made_by": key})
            shapes = ", ".join(f"{k} {v.shape}" for k, v in dataset.data_vars.items())
            print(f"block {block} ({done + 1} of {len(spec['blocks'])}): {shapes}", flush=True)
        listed[name] = found
    files.write(out, json.dumps(listed, indent=1))


if __name__ == "__main__":
    stage.run(simulate)
