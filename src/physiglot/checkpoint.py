"""Resuming a training: snapshots beside the outputs, kept by what they are snapshots of."""

import io
import json
import time
from pathlib import Path
from typing import Any

import torch

from . import files


class Snapshots:
    """The folder `ckpt/` of a training: `state.pt` to resume from, `last.pt` to start warm from.

    `key` is the hash of code, spec and data: a snapshot with another key is ignored. `lineage` is the same
    without the data: finished weights of the same lineage may start a training on grown data.
    """

    def __init__(self, folder: Path, key: str, lineage: str):
        self.folder, self.key, self.lineage = folder, key, lineage

    def save(self, state: dict[str, Any], name: str = "state.pt") -> None:
        buffer = io.BytesIO()
        torch.save({"key": self.key, "lineage": self.lineage, **state}, buffer)
        files.write(self.folder / name, buffer.getvalue())

    def _read(self, name: str) -> dict[str, Any]:
        try:
            return torch.load(self.folder / name, weights_only=True)
        except (OSError, RuntimeError, EOFError, ValueError):
            return {}

    def resume(self) -> dict[str, Any] | None:
        state = self._read("state.pt")
        return state if state.get("key") == self.key else None

    def warm(self) -> dict[str, torch.Tensor] | None:
        last = self._read("last.pt")
        return last["model"] if last.get("lineage") == self.lineage else None

    def finish(self, model: dict[str, torch.Tensor]) -> None:
        self.save({"model": model}, "last.pt")
        (self.folder / "state.pt").unlink(missing_ok=True)


class Curves:
    """`<out>.metrics.jsonl`: one line per logged step, never two for the same step."""

    def __init__(self, path: Path, step: int):
        self.path = path
        kept = [line for line in self._lines() if line["step"] <= step] if step else []
        files.write(path, "".join(json.dumps(line) + "\n" for line in kept))

    def _lines(self) -> list[dict]:
        if not self.path.is_file():
            return []
        lines = []
        for text in self.path.read_text().splitlines():
            try:
                lines.append(json.loads(text))
            except json.JSONDecodeError:
                break
        return lines

    def log(self, step: int, values: dict[str, float]) -> None:
        with open(self.path, "a") as file:
            file.write(json.dumps({"step": step, "time": time.time(), **values}) + "\n")
