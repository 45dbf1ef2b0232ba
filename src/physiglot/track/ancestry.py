"""From any output back to the blocks, by the fingerprints in the run records."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from .. import fingerprint
from .records import Record, find


@dataclass
class Link:
    """One output and what it came from. `when` is the end of its run, `note` what is wrong with it."""

    output: str
    fingerprint: str
    stage: str = ""
    code: str = ""
    when: float | None = None
    note: str = ""
    inputs: list["Link"] = field(default_factory=list)


def _now(path: Path) -> str:
    try:
        return fingerprint.of(path)
    except (OSError, ValueError, KeyError):
        return ""


class Ancestry:
    """The run records of a project by the fingerprints of their outputs."""

    def __init__(self, root: Path):
        self.root, self.links = root, dict[tuple[str, str], Link]()
        self.records = [Record.load(path, self.root) for path in find(root)]
        self.by_print: dict[str, dict[str, Record]] = {}
        for record in self.records:
            for path, value in self._outputs(record).items():
                self.by_print.setdefault(value, {})[path] = record

    @staticmethod
    def _outputs(record: Record) -> dict[str, str]:
        return {record.output: record.data.get("fingerprint", ""), **record.blocks()}

    def owner(self, path: Path) -> Record | None:
        """The record of the run that wrote `path`, itself or among its figures."""
        exact = [r for r in self.records if str(path) in self._outputs(r)]
        return next(iter(exact or [r for r in self.records if path in r.made()]), None)

    def link(self, path: str, value: str) -> Link:
        """The link of an input known by path and fingerprint; content made elsewhere counts as well."""
        if (path, value) not in self.links:
            link = self.links[path, value] = Link(path, value)
            same = self.by_print.get(value, {})
            record = same.get(path) or next(iter(same.values()), None)
            if record:
                self._fill(link, record)
            else:
                link.note = "no run record has this fingerprint"
        return self.links[path, value]

    def _fill(self, link: Link, record: Record) -> None:
        link.stage, link.code = record.stage, record.data.get("code", "")
        link.when = record.data.get("end", record.start)
        link.inputs = [self.link(path, value) for path, value in record.inputs().items()]

    def start(self, path: Path) -> Link:
        """The link of an output as it lies there now."""
        record = self.owner(path)
        if record is None:
            raise ValueError(f"{path}: no run record names this output")
        now = _now(self.root / path)
        link = Link(str(path), now)
        if self._outputs(record).get(str(path), now) != now:
            link.note = f"its run record ({record.status}) has another fingerprint"
        self._fill(link, record)
        return link


def lineage(path: Path, root: Path = Path(".")) -> Link:
    """Walk from an output (a file or a store) back to the blocks. Raises ValueError if it is not known."""
    path, root = Path(path), Path(root)
    path = path if (root / path).exists() else Path(os.path.relpath(path.absolute(), root.absolute()))
    if (root / path / "zarr.json").is_file():
        path = path / "zarr.json"
    if not (root / path).exists():
        raise ValueError(f"{path}: no such output")
    return Ancestry(root).start(path)


def _line(link: Link) -> str:
    when = datetime.fromtimestamp(link.when).isoformat(" ", "seconds") if link.when else ""
    code = f"code {link.code[:12]}" if link.code else ""
    words = [
        link.stage or "?",
        link.output,
        link.fingerprint[:12],
        code,
        when,
        f"({link.note})" if link.note else "",
    ]
    return "  ".join(word for word in words if word)


def tree(link: Link, most: int = 6, depth: int = 0, seen: set[int] | None = None) -> Iterator[str]:
    """The lines of an indented tree; of more than `most` inputs without inputs (blocks) the first few."""
    seen = set() if seen is None else seen
    again = id(link) in seen and link.inputs
    yield "  " * depth + _line(link) + ("  (as above)" if again else "")
    if again:
        return
    seen.add(id(link))
    leaves = [i for i in link.inputs if not i.inputs]
    hidden = leaves[most // 2 :] if len(leaves) > most else []
    for below in link.inputs:
        if not any(below is h for h in hidden):
            yield from tree(below, most, depth + 1, seen)
    if hidden:
        yield "  " * (depth + 1) + f"… and {len(hidden)} more {hidden[0].stage or 'inputs'}"
