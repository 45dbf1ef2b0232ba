"""The one wrapper of every stage: its command line, its log, its run record, its errors.

A stage is a function with keyword-only arguments. `run` makes the command line from its signature, writes
`<output stem>.run.json` beside its output (what ran, on what, with which result) and turns errors that a
user can mend into one sentence and a non-zero exit.
"""

import argparse
import contextlib
import errno
import inspect
import json
import os
import platform
import resource
import socket
import subprocess
import sys
import time
import traceback
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from . import files, fingerprint, processes
from .ranks import Ranks

INTERRUPTED = 75
STUDIES = Path(".physiglot/studies.json")


class Interrupted(Exception):
    """The stage was told to stop, has saved its state, and is to be started again."""


def record_path(out: Path) -> Path:
    """`a/b.zarr/zarr.json` -> `a/b.run.json`; `a/weights.pt` -> `a/weights.run.json`."""
    out = Path(out)
    return (out.parent if out.name == "zarr.json" else out).with_suffix(".run.json")


def arguments(function: Callable) -> argparse.ArgumentParser:
    """Options from the signature: `dict` reads JSON, `list[Path]` takes several, a default makes it optional."""
    parser = argparse.ArgumentParser(
        prog=f"python -m physiglot.{function.__name__}", description=inspect.getdoc(function)
    )
    for name, p in inspect.signature(function).parameters.items():
        required = p.default is inspect.Parameter.empty
        option: dict[str, Any] = {"required": required, "default": None if required else p.default}
        if p.annotation is dict:
            option["type"] = json.loads
        elif p.annotation == list[Path]:
            option |= {"type": Path, "nargs": "*"}
        else:
            option["type"] = Path if p.annotation in (Path, Path | None) else p.annotation
        parser.add_argument(f"--{name.replace('_', '-')}", **option)
    if "code" not in inspect.signature(function).parameters:
        parser.add_argument("--code", default="", help="fingerprint of the code, for the record")
    parser.add_argument("--log", default="", help="where the output of the stage goes, for the record")
    parser.add_argument("--about", type=json.loads, default={}, help="JSON: paper, study, seed, system, …")
    return parser


def _inputs(given: dict[str, Any]) -> dict[str, str]:
    paths: list[Any] = []
    for name, value in given.items():
        if name != "out" and isinstance(value, Path | list):
            paths += value if isinstance(value, list) else [value]
    return {str(p): fingerprint.of(p) for p in paths if isinstance(p, Path) and p.is_file()}


def _git() -> str:
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=12"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


def _about(given: dict) -> dict:
    """What is known of a job besides its spec: its wildcards, and the paper and the variant of its study."""
    try:
        studies = json.loads(STUDIES.read_text())
    except OSError:
        studies = {}
    return {**studies.get(given.get("study"), {}), **given}


def _begin(stage: str, given: dict[str, Any], options: argparse.Namespace) -> dict:
    return {
        "id": uuid.uuid4().hex,
        "stage": stage,
        "about": _about(options.about),
        "log": options.log,
        "spec": given.get("spec", {}),
        "code": options.code,
        "inputs": _inputs(given),
        "output": str(given["out"]),
        "git": _git(),
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "python": platform.python_version(),
        "slurm_job_id": os.environ.get("SLURM_JOB_ID", ""),
        "start": time.time(),
        "status": "RUNNING",
    }


def _previous(path: Path) -> dict:
    """The record of an earlier run with this output; empty if there is none."""
    try:
        return json.loads(path.read_text())
    except (OSError, json.JSONDecodeError):
        return {}


def _same(record: dict, path: Path) -> dict | None:
    """The record of an earlier run with the same stage, spec, code and inputs, if there is one."""
    old = _previous(path)
    keys = ("stage", "spec", "code", "inputs", "output")
    return old if all(old.get(k) == record[k] for k in keys) else None


def _finished(old: dict | None, out: Path) -> bool:
    try:
        return bool(old and old["code"] and old["status"] == "FINISHED" and fingerprint.of(out) == old["fingerprint"])
    except (OSError, KeyError, ValueError):
        return False


def _write(path: Path, record: dict) -> None:
    """Write a run record; that it cannot be written is no reason to fail."""
    try:
        files.write(path, json.dumps(record, indent=1))
    except OSError as error:
        print(f"warning: the run record {path} could not be written: {error.strerror}", file=sys.stderr, flush=True)


def _peak_mib(usage: resource.struct_rusage) -> int:
    """Peak resident memory. `ru_maxrss` survives an exec and may be that of the parent, so Linux's own figure first."""
    try:
        status = Path("/proc/self/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) // 1024
    except (OSError, IndexError):
        return usage.ru_maxrss // 1024


def _end(record: dict, path: Path, status: str) -> None:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    record |= {"status": status, "end": time.time(), "seconds": round(time.time() - record["start"], 3)}
    record |= {"cpu_seconds": round(usage.ru_utime + usage.ru_stime, 3), "peak_mib": _peak_mib(usage)}
    try:
        if status == "FINISHED":
            record["fingerprint"] = fingerprint.of(Path(record["output"]))
    except OSError as error:
        print(f"warning: {record['output']} could not be read again: {error.strerror}", file=sys.stderr)
    _write(path, record)


def sentence(error: BaseException) -> str | None:
    """One clear sentence for what a user can mend; None for what is a bug of ours."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        where = error.filename or "the output"
        return f"no space is left to write {where}: nothing was kept of it; free space and run again"
    if "No space left on device" in str(error):
        return f"no space is left to write the output: nothing was kept of it; free space and run again ({error})"
    if isinstance(error, FileNotFoundError):
        return f"{error.filename}: this input is missing"
    if isinstance(error, ValueError | FloatingPointError | MemoryError):
        return str(error) or type(error).__name__
    return None


def _report(error: BaseException, record: dict) -> None:
    text = sentence(error)
    record["error"] = text or repr(error)
    if text is None or os.environ.get("PHYSIGLOT_TRACEBACK"):
        traceback.print_exc()
    print(f"error: {record['stage']}: {record['error']}", file=sys.stderr, flush=True)


def _follow(uri: str, path: Path) -> None:
    """Publish this run while it goes on, from a process of its own: no tracking failure can reach the stage."""
    command = [
        sys.executable,
        "-m",
        "physiglot.track",
        "follow",
        str(path),
        "--uri",
        uri,
        "--pid",
        str(os.getpid()),
    ]
    quiet = subprocess.DEVNULL  # SLURM waits for whoever holds the output of a job
    subprocess.Popen(command, stdin=quiet, stdout=quiet, stderr=quiet, start_new_session=True)


def _assist(function: Callable, given: dict[str, Any], rank: int) -> int:
    """Run a stage as a rank that is not the first: it says nothing but its errors, and leaves the outcome to rank 0."""
    try:
        with open(os.devnull, "w") as nothing, contextlib.redirect_stdout(nothing):
            function(**given)
    except Interrupted:
        pass
    except Exception as error:
        _report(error, {"stage": f"{function.__name__}: rank {rank}"})
        return 1
    return 0


def run(function: Callable) -> None:
    """Run a stage from the command line."""
    options = arguments(function).parse_args()
    given = {n: getattr(options, n) for n in inspect.signature(function).parameters}
    stage, path = function.__name__, record_path(given["out"])
    try:
        rank = Ranks.of_environment().rank
        if not rank:
            processes.stop_predecessor(_previous(path))
        record = _begin(stage, given, options)
    except (OSError, ValueError, KeyError) as error:
        sys.exit(f"error: {stage}: {sentence(error) or error}")
    processes.restore(given["out"])
    old = _same(record, path)
    if _finished(old, given["out"]):
        if not rank:
            print(f"{stage}: {given['out']} is finished and up to date", flush=True)
        return
    if rank:
        sys.exit(_assist(function, given, rank))
    if old and old["status"] in ("RUNNING", "INTERRUPTED"):
        record["id"] = old["id"]
    _write(path, record)
    if os.environ.get("MLFLOW_TRACKING_URI", "").startswith("http"):
        _follow(os.environ["MLFLOW_TRACKING_URI"], path)
    status, code = "FAILED", 1
    try:
        function(**given)
        status, code = "FINISHED", 0
        print(f"{stage}: finished in {time.time() - record['start']:.1f} s: {given['out']}", flush=True)
    except Interrupted as error:
        status, code = "INTERRUPTED", INTERRUPTED
        print(f"{stage}: interrupted: {error}", file=sys.stderr, flush=True)
    except Exception as error:
        _report(error, record)
    finally:
        _end(record, path, status)
    if status == "INTERRUPTED" and processes.requeue():
        time.sleep(60)  # until SLURM ends this run of the job
    sys.exit(code)
