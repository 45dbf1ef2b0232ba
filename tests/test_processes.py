"""What a Snakemake that was killed leaves behind, seen from the next one; SLURM is played by a small program."""

import os
import socket
import time
from pathlib import Path

import pytest

from physiglot import processes

SQUEUE = """#!/bin/sh
case "$*" in
  *%F*) cat queue 2>/dev/null ;;
  *) echo "${STATE}|${COMMENT}" ;;
esac
"""


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """A project folder, and programs that write down how they were called."""
    (tmp_path / "bin").mkdir()
    scripts = {"squeue": SQUEUE}
    scripts |= {name: '#!/bin/sh\necho "$0" "$@" >> calls\nrm -f queue\n' for name in ("scancel", "scontrol")}
    for name, text in scripts.items():
        (tmp_path / "bin" / name).write_text(text)
        (tmp_path / "bin" / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    monkeypatch.chdir(tmp_path)
    processes.LOCKS.mkdir(parents=True)
    (processes.LOCKS / "0.input.lock").touch()
    return tmp_path


def calls(folder: Path) -> list[str]:
    path = folder / "calls"
    return [line.removeprefix(f"{folder}/bin/") for line in path.read_text().splitlines()] if path.exists() else []


def other(host: str, pid: int = 2**22 + 1, age: float = 0) -> Path:
    """The mark of another Snakemake, last touched `age` seconds ago."""
    processes.MARKS.mkdir(parents=True, exist_ok=True)
    path = processes.MARKS / f"{host}-{pid}-0"
    path.touch()
    os.utime(path, (time.time() - age,) * 2)
    return path


@pytest.mark.parametrize(
    ("host", "age", "dead"),
    [(socket.gethostname(), 0, True), ("login-2", 0, False), ("login-2", 3600, True)],
    ids=["here", "elsewhere", "elsewhere_long_ago"],
)
def test_locks_and_jobs_of_the_dead_are_removed(folder, host, age, dead):
    mark = other(host, age=age)
    (folder / "queue").write_text(
        f"7|{folder}|rule_train_wildcards_a\n7|{folder}|rule_train\n8|{folder}|mine\n9|/elsewhere|rule_train\n"
    )
    (folder / "made.json").write_text("finished")
    own = processes.free_folder()
    assert bool(list(processes.LOCKS.iterdir())) != dead
    processes.take_over(own, ["made.json", "absent.json"])
    assert calls(folder) == (["scancel 7"] if dead else [])
    assert mark.exists() != dead
    (folder / "made.json").unlink()
    processes.restore(Path("made.json"))
    processes.restore(Path("absent.json"))
    assert (folder / "made.json").exists() == dead
    assert not (folder / "absent.json").exists()


def test_what_nobody_left_is_made_again(folder):
    """Without a dead predecessor a forced run is a run: nothing is kept for it."""
    (folder / "made.json").write_text("finished")
    processes.take_over(processes.free_folder(), ["made.json"])
    assert not list(folder.glob(".made.json.kept"))


@pytest.mark.parametrize(
    ("state", "comment", "expected"),
    [("RUNNING", "rule_train", True), ("COMPLETING", "rule_train", False), ("RUNNING", "(null)", False)],
)
def test_only_a_running_job_of_ours_is_requeued(folder, monkeypatch, state, comment, expected):
    monkeypatch.setenv("STATE", state)
    monkeypatch.setenv("COMMENT", comment)
    assert not processes.requeue()
    monkeypatch.setenv("SLURM_JOB_ID", "12")
    assert processes.requeue() == expected
    assert calls(folder) == (["scontrol requeue 12"] if expected else [])


def test_the_time_that_is_left(folder, monkeypatch):
    assert processes.time_left() is None
    monkeypatch.setenv("SLURM_JOB_ID", "12")
    monkeypatch.setenv("COMMENT", "")
    (folder / "bin/squeue").write_text("#!/bin/sh\ndate -d '+90 seconds' +%Y-%m-%dT%H:%M:%S\n")
    assert 85 < processes.time_left() < 91
    (folder / "bin/squeue").write_text("#!/bin/sh\necho NONE\n")
    assert processes.time_left() is None
