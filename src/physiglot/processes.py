"""Which processes still work here: a workflow killed with SIGKILL cleans up nothing, so the next one has to.

It leaves behind Snakemake's lock on the folder, stages and SLURM jobs that go on without it, and outputs that they
finished but that Snakemake, which did not see it, takes for half-written and removes.
"""

import atexit
import contextlib
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path

MARKS = Path(".physiglot/running")
LOCKS = Path(".snakemake/locks")
BEAT = 30  # seconds between two touches of a mark
PATIENCE = 300  # seconds for SLURM to end cancelled jobs: a training saves its state first


def started(pid: int) -> int | None:
    """When a process of this host began, in seconds; None if there is no such process. With the pid it is unique."""
    import psutil

    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else round(process.create_time())
    except psutil.Error:
        return None


def _lives(mark: Path) -> bool:
    """Whether the process of a mark lives; one of another host does if it has touched its mark of late."""
    host, pid, start = mark.name.rsplit("-", 2)
    if host != socket.gethostname():
        with contextlib.suppress(FileNotFoundError):
            return time.time() - mark.stat().st_mtime < 10 * BEAT
        return False
    found = started(int(pid))
    return found is not None and abs(found - int(start)) <= 2


def mark() -> Path:
    """Leave a mark of this process and touch it now and then, for as long as it lives."""
    path = MARKS / f"{socket.gethostname()}-{os.getpid()}-{started(os.getpid())}"
    MARKS.mkdir(parents=True, exist_ok=True)
    path.touch()
    atexit.register(path.unlink, missing_ok=True)
    threading.Thread(target=_beat, args=[path], daemon=True).start()
    return path


def _beat(path: Path) -> None:
    while True:
        time.sleep(BEAT)
        with contextlib.suppress(OSError):
            os.utime(path)


def _others(own: Path) -> tuple[list[Path], list[Path]]:
    """The marks of the other Snakemakes of this folder, and those of them that are dead."""
    others = [path for path in MARKS.iterdir() if path != own]
    return others, [path for path in others if not _lives(path)]


def free_folder() -> Path:
    """Remove the locks of a Snakemake that was killed. Called by every Snakemake of this folder, before it locks.

    Whoever locks has left its mark before. So locks that were there when no other marked process lived are
    nobody's; on another host one counts as alive for five minutes after its last touch. Returns its own mark.
    """
    own = mark()
    found = list(LOCKS.glob("*.lock"))
    others, dead = _others(own)
    for path in found if len(dead) == len(others) else []:
        path.unlink(missing_ok=True)
    return own


def take_over(own: Path, outputs: Iterable[str]) -> None:
    """End the SLURM jobs that a killed Snakemake left, and keep what its jobs finished without it: the outputs there
    are of the jobs that are to run, which Snakemake would remove first.

    Called before the first job; while another Snakemake may work in this folder, nothing is touched.
    """
    others, dead = _others(own)
    if not dead or len(dead) < len(others):
        return
    cancel_jobs()
    for output in outputs:
        keep(Path(output))
    for path in dead:
        path.unlink(missing_ok=True)


def _slurm_jobs() -> list[str]:
    """The SLURM jobs of this user that a Snakemake of this folder submitted."""
    asked = ["squeue", "--me", "--noheader", "--format", "%F|%Z|%k"]
    lines = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.splitlines()
    found = [line.split("|", 2) for line in lines]
    ours = [number for number, folder, comment in found if folder == os.getcwd() and comment.startswith("rule_")]
    return list(dict.fromkeys(ours))


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def cancel_jobs() -> None:
    """Cancel the SLURM jobs that a killed Snakemake left: nobody waits for them, and they would be run twice."""
    if shutil.which("squeue") is None:
        return
    try:
        if jobs := _slurm_jobs():
            _say(f"{len(jobs)} SLURM jobs that a killed workflow left in this folder are cancelled: {' '.join(jobs)}")
            subprocess.run(["scancel", *jobs], check=True)
        until = time.monotonic() + PATIENCE
        while _slurm_jobs() and time.monotonic() < until:
            time.sleep(0.5)
    except subprocess.CalledProcessError as error:
        _say(f"warning: SLURM does not answer ({' '.join(error.cmd)}); jobs that a killed workflow left may go on")


def _squeue(fields: str) -> str:
    """What `squeue` says of the SLURM job in which this process is; empty if it is in none."""
    number = os.environ.get("SLURM_JOB_ID")
    if number is None or shutil.which("squeue") is None:
        return ""
    asked = ["squeue", "--noheader", "--jobs", number, "--format", fields]
    return subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip()


def time_left() -> float | None:
    """Seconds until the time limit of the SLURM job in which this process is; None if there is no limit or no job."""
    try:
        return (datetime.fromisoformat(_squeue("%e")) - datetime.now()).total_seconds()
    except ValueError:
        return None


def requeue() -> bool:
    """Put the SLURM job in which this process was told to stop back into the queue, where it keeps its number.

    So a training goes on after every time limit without counting as failed. A job that is being cancelled stays so,
    and one that no Snakemake submitted is not ours to requeue.
    """
    state, _, comment = _squeue("%T|%k").partition("|")
    if state != "RUNNING" or not comment.startswith("rule_"):
        return False
    command = ["scontrol", "requeue", os.environ["SLURM_JOB_ID"]]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        _say(f"warning: {' '.join(command)}: {done.stderr.strip()}")
    return done.returncode == 0


def _kept(path: Path) -> Path:
    return path.with_name(f".{path.name}.kept")


def keep(path: Path) -> None:
    """Copy an output that may be finished: Snakemake removes it before it runs the job again."""
    if path.is_file():
        shutil.copy2(path, _kept(path))


def restore(path: Path) -> None:
    """Put back the output that `keep` copied; whether it is finished is for its run record to say."""
    with contextlib.suppress(FileNotFoundError):
        os.replace(_kept(path), path)


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
