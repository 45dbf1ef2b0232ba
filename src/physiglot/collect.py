"""Collect the blocks of a system: check that each is there and list their contents.

This is the checkpoint behind which the workflow stops when blocks were made again with the same content.
"""

import json
from collections.abc import Iterator
from pathlib import Path

from . import files, stage, store


def names(spec: dict) -> Iterator[str]:
    """The blocks of `spec`, split by split: the simulated ones by number, then the imported ones by name."""
    imported = spec.get("imported", {})
    for split, blocks in spec["blocks"].items():
        yield from (f"blocks/{split}/{block}.zarr" for block in range(blocks))
        yield from (f"imported/{split}/{stem}.zarr" for stem in imported.get(split, []))


def collect(*, spec: dict, out: Path) -> None:
    """Write members and fingerprint of each block beside `out` as JSON, in the order in which they make a dataset.

    `spec`: `blocks` (split -> number of simulated blocks) and `imported` (split -> stems of the imported files).
    """
    listed = {}
    for name in names(spec):
        value = store.check(out.parent / name)["fingerprint"]
        listed[name] = {"members": store.members(out.parent / name, "state"), "fingerprint": value}
    files.write(out, json.dumps(listed, indent=1))
    print(f"{len(listed)} blocks")


if __name__ == "__main__":
    stage.run(collect)
