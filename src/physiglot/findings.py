"""What the workflow has found out about our sources, kept for its next run: hashes of code, configurations that passed.

It is filed under the digest of all sources, so that any edit forgets it. Finding takes seconds, reading nothing.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path

from . import files
from .fingerprint import LOCK, digest
from .symbols import PACKAGE


class Findings:
    """Answers by question, each found once.

    The process that owns them writes them to `path`; any other (a job of SLURM) believes what stands there,
    also after an edit, and finds for itself what does not.
    """

    def __init__(self, path: Path, owner: bool = True):
        self.path, self.owner = path, owner
        self.watched = [p for p in [LOCK, *sorted(PACKAGE.rglob("*.py"))] if p.is_file()] if owner else []
        self.sources = digest(sys.version, *(part for p in self.watched for part in (str(p), p.read_bytes())))
        self.stamps = self._stamps()
        kept = json.loads(path.read_text()) if path.is_file() else {}
        believed = not owner or kept.get("sources") == self.sources
        self.answers: dict[str, str] = kept.get("answers", {}) if believed else {}

    def _stamps(self) -> list[tuple[int, int] | None]:
        """Far quicker than to read the sources again: they differ after an edit."""
        stats = [p.stat() if p.is_file() else None for p in self.watched]
        return [stat and (stat.st_mtime_ns, stat.st_size) for stat in stats]

    def __call__(self, question: str, find: Callable[[], str]) -> str:
        if question not in self.answers:
            self.answers[question] = find()
            # What was found while somebody edited counts for this run only.
            self.owner = self.owner and self._stamps() == self.stamps
            if self.owner:
                files.write(self.path, json.dumps({"sources": self.sources, "answers": self.answers}))
        return self.answers[question]
