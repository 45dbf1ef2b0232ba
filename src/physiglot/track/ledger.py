"""What has been published where: the cheap answer to "is there anything new?", without importing mlflow."""

import base64
import fcntl
import json
import os
import re
import sqlite3
import ssl
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from .. import files, fingerprint
from . import records
from .records import Record

EXPERIMENTS = "select name, experiment_id, creation_time from experiments where lifecycle_stage = 'active'"


class TrackingError(Exception):
    """Why something could not be published, in one sentence."""


def shown(uri: str) -> str:
    """The URI without a password."""
    return re.sub(r"//[^/@]*@", "//", uri)


@contextmanager
def locked(path: Path, wait: float) -> Iterator[None]:
    """Hold the file `path` alone, if its file system can lock. Raises TrackingError after `wait` seconds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    until = time.monotonic() + wait
    with open(path, "w") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > until:
                    raise TrackingError(f"another process is publishing (it holds {path})") from None
                time.sleep(0.1)
            except OSError:
                break
        yield


def _request(url: str) -> urllib.request.Request:
    """With the credentials that MLflow's own client would send."""
    parts = urllib.parse.urlsplit(url)
    user = parts.username or os.environ.get("MLFLOW_TRACKING_USERNAME")
    password = parts.password or os.environ.get("MLFLOW_TRACKING_PASSWORD") or ""
    token = os.environ.get("MLFLOW_TRACKING_TOKEN")
    request = urllib.request.Request(shown(url))
    if user:
        text = base64.b64encode(f"{user}:{urllib.parse.unquote(password)}".encode()).decode()
        request.add_header("Authorization", f"Basic {text}")
    elif token:
        request.add_header("Authorization", f"Bearer {token}")
    return request


def get(uri: str, path: str) -> dict:
    """The JSON that the server has at `path`, or {}. Raises TrackingError if no server answers."""
    url = uri.rstrip("/") + path
    try:
        with urllib.request.urlopen(_request(url), timeout=10) as reply:
            return json.loads(reply.read())
    except (urllib.error.HTTPError, ValueError):
        return {}
    except OSError as error:
        reason = getattr(error, "reason", error)
        if isinstance(reason, ssl.SSLError):
            return {}
        raise TrackingError(f"the MLflow server {shown(uri)} cannot be reached ({reason})") from None


def on_server(uri: str, names: list[str]) -> dict[str, str]:
    """Name -> identity of those experiments that a server has: one made anew has another identity."""
    get(uri, "/health")
    there = {}
    for name in names:
        query = urllib.parse.urlencode({"experiment_name": name})
        found = get(uri, f"/api/2.0/mlflow/experiments/get-by-name?{query}").get("experiment", {})
        if found.get("lifecycle_stage") == "active":
            there[name] = f"{found['experiment_id']}@{found['creation_time']}"
    return there


def in_sqlite(path: Path) -> dict[str, str]:
    """Name -> identity of the experiments of a SQLite store. Raises TrackingError if it is no database."""
    if not path.is_file() or not path.stat().st_size:
        return {}
    try:
        with closing(sqlite3.connect(f"file:{urllib.parse.quote(str(path))}?mode=ro", uri=True)) as database:
            return {name: f"{number}@{created}" for name, number, created in database.execute(EXPERIMENTS)}
    except sqlite3.OperationalError:
        return {}
    except sqlite3.DatabaseError as error:
        raise TrackingError(f"the MLflow store {path} cannot be read ({error})") from None


def _stamp(path: Path) -> list[int]:
    """Changes with the record or its curves."""
    found = [p.stat() for p in (path, records.curves_path(path)) if p.exists()]
    return [n for s in found for n in (s.st_mtime_ns, s.st_size)]


class Ledger:
    """What was published to one store. Losing it loses time only: the store is asked run by run instead."""

    def __init__(self, root: Path, uri: str):
        self.root, self.path = root, root / ".physiglot" / f"published.{fingerprint.digest(uri)[:8]}.json"
        self.text = self.path.read_text() if self.path.is_file() else ""
        try:
            self.data = json.loads(self.text)
        except ValueError:
            self.data = {"uri": shown(uri), "experiments": {}, "runs": {}}
        self.experiments: dict[str, str] = self.data["experiments"]
        self.runs: dict[str, dict] = self.data["runs"]

    def check(self, there: dict[str, str]) -> None:
        """Forget the runs of experiments that the store does not have, or has made anew."""
        for name in [n for n, identity in self.experiments.items() if there.get(n) != identity]:
            del self.experiments[name]
        for path in [p for p, run in self.runs.items() if run["experiment"] not in self.experiments]:
            del self.runs[path]

    def _old(self, path: Path) -> bool:
        """Whether the record lies there as it was published, and was not running."""
        run = self.runs.get(str(path.relative_to(self.root)))
        return bool(run and run["status"] != "RUNNING" and run["stamp"] == _stamp(path))

    def changed(self) -> Iterator[tuple[Record, list[int]]]:
        """The records that the store lacks, each with the stamp that it had before it was read."""
        for path in records.find(self.root):
            if self._old(path):
                continue
            stamp = _stamp(path)
            try:
                record = Record.load(path, self.root)
            except (OSError, ValueError) as error:
                print(f"warning: tracking: {path} is skipped: {error}", file=sys.stderr)
                continue
            run = self.of(record)
            if run and run["digest"] == record.digest:
                run["stamp"] = stamp
            else:
                yield record, stamp

    def of(self, record: Record) -> dict | None:
        """The entry of the run that was last published from the path of `record`."""
        return self.runs.get(str(record.path.relative_to(self.root)))

    def add(self, record: Record, stamp: list[int]) -> None:
        entry: dict = {"id": record.id, "status": record.status, "experiment": record.experiment}
        entry |= {"digest": record.digest, "stamp": stamp}
        self.runs[str(record.path.relative_to(self.root))] = entry

    def save(self) -> None:
        text = json.dumps(self.data)
        if text != self.text:
            files.write(self.path, text)
