"""Publish a stage while it runs, from a process of its own."""

import time
from pathlib import Path

from . import ledger
from .records import Record
from .writer import Store


def _started(pid: int) -> float | None:
    """When process `pid` was started; None if there is none."""
    import psutil

    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else process.create_time()
    except psutil.Error:
        return None


def _now(path: Path, root: Path, alive: bool) -> Record:
    """The record as it is; that of a process which vanished without ending it is KILLED."""
    record = Record.load(path, root)
    if record.status == "RUNNING" and not alive:
        record.status = "KILLED"
    return record


def follow(path: Path, uri: str, pid: int, root: Path = Path("."), patience: float = 30) -> None:
    """Publish the run of process `pid` every second until it is over, and its end.

    A server that does not answer is asked again, less and less often, until `patience` seconds after the end:
    what is missing then is left to `publish`.
    """
    born, run, store, done, wait, until = _started(pid), None, None, "", 1.0, float("inf")
    while True:
        record = _now(path, root, born is not None and _started(pid) == born)
        run = run or (record.id, record.start)
        if run != (record.id, record.start):
            return
        if record.status != "RUNNING":
            until = min(until, time.monotonic() + patience)
        try:
            if record.digest != done:
                ledger.get(uri, "/health")
                store = store or Store(uri, root)
                store.put(record)
            done, wait = record.digest, 1.0
        except Exception:
            store, wait = None, min(2 * wait, 10.0)
        if until < float("inf") and (record.digest == done or time.monotonic() > until):
            return
        time.sleep(wait)
