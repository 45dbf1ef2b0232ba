"""Collect the blocks of a system: check that each is there and list their contents.

This is the checkpoint behind which the workflow stops when blocks were made again with the same content.
"""

import json
from pathlib import Path

from . import files, stage, store


def collect(*, spec: dict, out: Path) -> None:
    """Write the fingerprints of `spec["blocks"]` (split -> number of blocks) of the folder `spec["folder"]` as JSON."""
    prints = {}
    for split, blocks in spec["blocks"].items():
        for block in range(blocks):
            path = Path(spec["folder"]) / split / f"{block}.zarr"
            prints[f"{split}/{block}"] = store.check(path)["fingerprint"]
    files.write(out, json.dumps(prints, indent=1))
    print(f"{len(prints)} blocks")


if __name__ == "__main__":
    stage.run(collect)
