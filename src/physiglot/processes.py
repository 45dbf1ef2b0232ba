"""Which processes still work here: a workflow killed with SIGKILL cleans up nothing, so the next one has to.

It leaves two things behind: Snakemake's lock on the folder, and stages that go on without it.
"""

import atexit
import contextlib
import os
import socket
from pathlib import Path

MARKS = Path(".physiglot/running")
LOCKS = Path(".snakemake/locks")


def started(pid: int) -> int | None:
    """When a process of this host began, in seconds; None if there is no such process. With the pid it is unique."""
    import psutil

    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else round(process.create_time())
    except psutil.Error:
        return None


def _lives(mark: Path) -> bool:
    """Whether the process of a mark lives, or may live: of another host nobody can tell."""
    host, pid, start = mark.name.rsplit("-", 2)
    if host != socket.gethostname():
        return True
    found = started(int(pid))
    return found is not None and abs(found - int(start)) <= 2


def mark() -> Path:
    """Leave a mark of this process, for as long as it lives."""
    path = MARKS / f"{socket.gethostname()}-{os.getpid()}-{started(os.getpid())}"
    MARKS.mkdir(parents=True, exist_ok=True)
    path.touch()
    atexit.register(path.unlink, missing_ok=True)
    return path


def free_folder() -> None:
    """Remove the locks of a Snakemake that was killed. Called by every Snakemake of this folder, before it locks.

    Whoever locks has left its mark before. So locks that were there when no other marked process lived are
    nobody's. If one may live on another host, its locks stay, and Snakemake says how to unlock.
    """
    own = mark()
    found = list(LOCKS.glob("*.lock"))
    others = [path for path in MARKS.iterdir() if path != own]
    dead = [path for path in others if not _lives(path)]
    for path in dead + (found if len(dead) == len(others) else []):
        path.unlink(missing_ok=True)


def stop_predecessor(record: dict) -> None:
    """Stop the process of an earlier run record if it still works on the same output: two must never write it.

    It is told to with SIGTERM, at which a training saves its state, so that nothing is lost.
    """
    import psutil

    pid = record.get("pid", 0)
    if record.get("status") != "RUNNING" or record.get("host") != socket.gethostname() or pid in (0, os.getpid()):
        return
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(pid)
        words = process.cmdline()
        if f"physiglot.{record['stage']}" not in words or record["output"] not in words:
            return
        print(f"{record['stage']}: stops process {pid}, which a killed workflow left to make {record['output']}")
        process.terminate()
        try:
            process.wait(60)
        except psutil.TimeoutExpired:
            process.kill()
            process.wait(10)
