"""Outputs that appear whole or not at all."""

import glob
import os
import shutil
import socket
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

WEEK = 7 * 86400


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _alive(pid: str) -> bool:
    try:
        os.kill(int(pid), 0)
    except (ProcessLookupError, ValueError):
        return False
    except PermissionError:
        pass
    return True


def _sweep(path: Path) -> None:
    """Remove what killed processes left beside `path`: those of this host, and of others what is a week old."""
    for left in path.parent.glob(f".{glob.escape(path.name)}.*.tmp"):
        host, pid = left.name[len(path.name) + 2 :].rsplit(".", 3)[0:2]
        here = host == socket.gethostname().replace(".", "-")
        with suppress(FileNotFoundError):
            if not _alive(pid) if here else time.time() - left.stat().st_mtime > WEEK:
                _remove(left)


def _beside(path: Path) -> Path:
    """A unique hidden sibling that names its maker, for `_sweep`."""
    host = socket.gethostname().replace(".", "-")
    return path.parent / f".{path.name}.{host}.{os.getpid()}.{uuid.uuid4().hex[:8]}.tmp"


def _place(temporary: Path, path: Path) -> None:
    """Give `temporary` its name; a folder cannot be renamed over another one, so that one steps aside first."""
    if not path.is_dir():
        os.replace(temporary, path)
        return
    old = _beside(path)
    path.rename(old)
    try:
        temporary.rename(path)
    except OSError:
        old.rename(path)
        raise
    _remove(old)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a unique sibling of `path`, a file or a folder to be; on success it takes the place of `path`.

    On an error it is removed and `path` is as before. A rename within one folder is atomic, so no reader
    ever sees half of it.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    _sweep(path)
    temporary = _beside(path)
    try:
        yield temporary
        _place(temporary, path)
    finally:
        _remove(temporary)


def write(path: Path, data: bytes | str) -> None:
    """Write a file whole: on disk before it gets its name."""
    with replacing(path) as temporary, open(temporary, "wb") as file:
        file.write(data.encode() if isinstance(data, str) else data)
        file.flush()
        os.fsync(file.fileno())
