"""Run records read back: what a stage ran on, what it logged and what it made."""

import json
import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from .. import files, fingerprint

FOLDERS = ("data", "runs", "papers")


def find(root: Path) -> list[Path]:
    """Every `*.run.json` under data/, runs/ and papers/; stores and checkpoints are not searched."""
    found = []
    for top in FOLDERS:
        for folder, inner, names in os.walk(Path(root) / top):
            inner[:] = [n for n in inner if not n.endswith(".zarr") and n != "ckpt" and not n.startswith(".")]
            found += [Path(folder) / n for n in names if n.endswith(".run.json") and not n.startswith(".")]
    return sorted(found)


def curves_path(path: Path) -> Path:
    """`model/weights.run.json` -> `model/weights.metrics.jsonl`."""
    return path.with_name(path.name.removesuffix(".run.json") + ".metrics.jsonl")


def _bytes(path: Path) -> bytes:
    return path.read_bytes() if path.is_file() else b""


def _json_lines(text: bytes) -> list[dict]:
    """The whole lines of a file that may still grow."""
    lines = []
    for line in text.splitlines():
        try:
            lines.append(json.loads(line))
        except ValueError:
            break
    return [line for line in lines if isinstance(line, dict) and isinstance(line.get("step"), int)]


def _numbers(values: dict[str, Any]) -> Iterator[tuple[str, float]]:
    for name, value in values.items():
        if isinstance(value, int | float) and not isinstance(value, bool):
            yield name, float(value)


@dataclass(frozen=True)
class Point:
    """A value of a metric; `time` in ms since the epoch, the same whenever it is read."""

    key: str
    value: float
    time: int
    step: int


@dataclass(eq=False)
class Record:
    """A run record at `path`, of a project at `root`. `text` and `curves` are the files as they were read."""

    path: Path
    root: Path
    text: bytes
    curves: bytes
    data: dict[str, Any]
    id: str
    stage: str
    output: str
    start: float

    @classmethod
    def load(cls, path: Path, root: Path) -> "Record":
        """Raises ValueError if the file is not a run record."""
        text, keys = path.read_bytes(), ("id", "stage", "output", "start")
        data = json.loads(text)
        if not isinstance(data, dict) or not {*keys, "status"} <= data.keys():
            raise ValueError(f"{path}: not a run record")
        curves = curves_path(path)
        # Older curves are those of another run, which this one has not yet replaced.
        fresh = curves.is_file() and curves.stat().st_mtime > data["start"] - 1
        return cls(path, Path(root), text, _bytes(curves) if fresh else b"", data, *(data[k] for k in keys))

    @cached_property
    def status(self) -> str:
        """The recorded status; KILLED where a process of this host vanished without leaving one."""
        status, pid = self.data["status"], self.data.get("pid")
        if status == "RUNNING" and pid and self.data.get("host") == socket.gethostname() and not files._alive(pid):
            return "KILLED"
        return status

    @cached_property
    def digest(self) -> str:
        return fingerprint.digest(self.text, self.curves, self.status)

    @property
    def final(self) -> bool:
        return self.status in ("FINISHED", "FAILED")

    @property
    def about(self) -> dict[str, Any]:
        return self.data.get("about", {})

    @property
    def experiment(self) -> str:
        return str(self.about.get("paper") or "data")

    @property
    def name(self) -> str:
        """`train model ours/0`, `simulate lorenz/train/3`, `table koopman`."""
        about = self.about
        keys = ("study", "seed") if "study" in about else ("system", "split", "bundle", "file", "dataset")
        named = [str(about[k]) for k in keys if k in about] or [str(about.get("paper", self.output))]
        return " ".join([self.stage, *([str(about["part"])] if "part" in about else []), "/".join(named)])

    def log(self) -> Path | None:
        """The log of the stage, if it is there."""
        log = self.data.get("log") or self.about.get("log")
        return Path(log) if log and (self.root / log).is_file() else None

    def _listed(self, folder: Path) -> dict[str, Any]:
        """The blocks that the output lists, as paths -> what it says of them; none if it was written anew since."""
        listed = _bytes(self.root / self.output)
        if fingerprint.digest(listed) != self.data.get("fingerprint"):
            return {}
        return {str(folder / name / "zarr.json"): value for name, value in json.loads(listed).items()}

    def inputs(self) -> dict[str, str]:
        """Path -> fingerprint of what went in; those of `collect` stand in its output."""
        if self.stage != "collect":
            return self.data.get("inputs", {})
        return {path: block["fingerprint"] for path, block in self._listed(Path(self.output).parent).items()}

    def blocks(self) -> dict[str, str]:
        """Path -> fingerprint of the blocks that a `simulate` made."""
        return self._listed(Path(self.output).parents[2]) if self.stage == "simulate" else {}

    def points(self) -> list[Point]:
        """The training curves and, once it is over, the flat metrics and the cost of the job."""
        found = []
        for line in _json_lines(self.curves):
            time = int(1000 * line.pop("time", self.start))
            step = line.pop("step")
            found += [Point(key, value, time, step) for key, value in _numbers(line)]
        if not self.final:
            return found
        values = {f"job.{k}": self.data.get(k) for k in ("seconds", "cpu_seconds", "peak_mib")}
        if self.stage == "evaluate" and self.status == "FINISHED":
            values |= json.loads(_bytes(self.root / self.output) or b"{}")
        end = int(1000 * self.data.get("end", self.start))
        return found + [Point(key, value, end, 0) for key, value in _numbers(values)]

    def _figures(self) -> list[Path]:
        out = self.root / self.output
        beside = out.parent if out.parent.name == "figures" else out.parent / "figures"
        folder = out if out.is_dir() else beside
        return [p.relative_to(self.root) for p in sorted(folder.glob("*")) if p.suffix in (".svg", ".gif", ".png")]

    def made(self) -> list[Path]:
        """The files to look at, relative to the root: figures, tables, metrics, the list of blocks."""
        out = Path(self.output)
        found = [Path(p) for p in self.data.get("outputs", [])]
        if self.stage == "table":
            found += [out.with_suffix(suffix) for suffix in (".csv", ".md", ".html")]
        if self.stage in ("plot", "table"):
            found += self._figures()
        if self.stage in ("collect", "evaluate"):
            found.append(out)
        return [p for p in dict.fromkeys(found) if (self.root / p).is_file()]
