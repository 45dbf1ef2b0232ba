"""The workflow itself, in a temporary copy of the repository: what Snakemake and the start of a stage cost.

- `noop`: `snakemake` when all of config.yaml is up to date. Its jobs are not run but pretended, by a program that takes
  the place of `python` and writes their outputs: Snakemake sees the whole graph finished, with its own metadata.
- `dag`: a dry run of a system of 10,000 blocks.
- `jobs`: pretended jobs per second, two at a time.
- `start`: the interpreter and everything that a stage imports when a tiny configuration really runs, its work left
  out; torch stages apart. The CPU seconds of the whole processes are printed beside.

Limits are in CPU seconds of Snakemake and all that it starts: on a shared machine the wall clock tells of others.
"""

import json
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks import timing

timing.require("yaml", "snakemake", "physiglot")

import yaml  # noqa: E402

from physiglot import config as schema  # noqa: E402

HOME = Path(__file__).parents[1]
PARTS = (
    "Snakefile",
    "rules",
    "src",
    "profiles",
    "slurm",
    "envs",
    "docs/captions",
    "requirements.lock",
    "config.yaml",
    "config",
)
BLOCKS, JOBS, ROUNDS = 10_000, 200, 3
LIMITS = {"noop": 5.0, "dag": 60.0, "start": 1.5}
STAGES = ("simulate", "collect", "dataset", "evaluate", "plot", "table")
PRETEND = """#!/bin/sh
# Stands in for `python -m physiglot.STAGE … --out PATH`: writes what the rule expects.
stage=${2#physiglot.}
while [ $# -gt 0 ]; do
  case $1 in --out) out=$2 ;; --figures) figures=$2 ;; esac
  shift
done
case $stage in
  simulate) echo '{}' > "$out" ;;
  plot) mkdir -p "$out"; echo "$stage" > "$out/pretended.svg" ;;
  table) mkdir -p "$figures"; for e in csv md html; do echo "$out" > "${out%.csv}.$e"; done ;;
  *) echo "$out" > "$out" ;;
esac
"""
TINY = {
    "tracking": {"uri": None},
    "systems": {
        "lorenz": {
            "module": "lorenz",
            "block": 4,
            "chunk": 4,
            "params": {"steps": 32},
            "splits": {"train": {"members": 8}, "val": {"members": 4}, "test": {"members": 4}},
        }
    },
    "models": {"cubic": {"module": "polynomial", "training": {"steps": 0, "window": 8}}},
    "tasks": {"short": {"module": "forecast", "params": {"bins": [[0, 16]], "rollouts": {"test": {}}}}},
    "studies": {
        "cubic": {
            "label": "Cubic",
            "system": "lorenz",
            "model": "cubic",
            "task": "short",
            "paper": "tiny",
            "variant": "ours",
        }
    },
    "papers": {"tiny": {"title": "Tiny", "reference": "none"}},
}


class Project:
    """A copy of the repository, with a configuration and a `python` of its own."""

    def __init__(self, folder: Path, python: str = PRETEND):
        self.folder = folder
        for part in PARTS:
            (folder / part).parent.mkdir(parents=True, exist_ok=True)
            subprocess.run(["cp", "-a", HOME / part, folder / part], check=True)
        programs = folder / "bin"
        programs.mkdir()
        (programs / "python").write_text(python)
        (programs / "python").chmod(0o755)
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW", "PHYSIGLOT", "SNAKEMAKE", "SLURM"))}
        self.environment = {**kept, "PATH": f"{programs}:{Path(sys.executable).parent}:{kept['PATH']}"}

    @property
    def config(self) -> dict:
        return schema.load(self.folder / "config.yaml")

    @config.setter
    def config(self, values: dict) -> None:
        (self.folder / "config.yaml").write_text(yaml.safe_dump(values))

    def snakemake(self, *arguments: str) -> tuple[float, float, str]:
        """CPU seconds, wall seconds, and what it said."""
        before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        command = ["snakemake", "--cores", "2", *arguments]
        done = subprocess.run(
            command, cwd=self.folder, env=self.environment, capture_output=True, text=True, check=False
        )
        wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
        said = done.stdout + done.stderr
        if done.returncode:
            sys.exit(f"{' '.join(command)} failed:\n{said}")
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, wall, said


def median(times: list[tuple[float, float]]) -> tuple[float, float]:
    return sorted(times)[len(times) // 2]


def noop(folder: Path) -> tuple[float, float]:
    """(CPU, wall) seconds of `snakemake` with nothing to do on all of config.yaml."""
    project = Project(folder)
    said = project.snakemake()[2]
    jobs = max(int(n) for n in re.findall(r"(\d+) of \d+ steps", said))
    timing.check(jobs > 100, f"config.yaml: {jobs} jobs pretended")
    times = []
    for _ in range(ROUNDS):
        cpu, wall, said = project.snakemake()
        timing.check("Nothing to be done" in said, f"nothing to be done, in {cpu:.1f} s of CPU, {wall:.1f} s")
        times.append((cpu, wall))
    return median(times)


def many_blocks(project: Project, blocks: int) -> None:
    config = project.config
    system = config["systems"]["lorenz"]
    system["splits"]["train"]["members"] = blocks * system["block"]
    project.config = config


def dag(folder: Path) -> tuple[float, float]:
    """(CPU, wall) seconds of a dry run with BLOCKS blocks."""
    project = Project(folder)
    many_blocks(project, BLOCKS)
    cpu, wall, said = project.snakemake("--dry-run", "--quiet", "rules")
    found = re.search(r"^simulate\s+(\d+)", said, re.MULTILINE)
    timing.check(
        bool(found) and int(found[1]) >= BLOCKS, f"{found and found[1]} blocks are planned in {cpu:.1f} s of CPU"
    )
    return cpu, wall


def jobs(folder: Path) -> tuple[float, float]:
    """(jobs per second of wall, CPU milliseconds a job) of JOBS pretended blocks, the start of Snakemake taken off."""
    project = Project(folder)
    many_blocks(project, JOBS)
    cpu, wall, _ = project.snakemake("data/lorenz/blocks.json")
    again = project.snakemake("data/lorenz/blocks.json")
    timing.check(len(list(folder.glob("data/lorenz/bundles/train/*.json"))) == JOBS, f"{JOBS} blocks are there")
    return JOBS / (wall - again[1]), 1e3 * (cpu - again[0]) / JOBS


def imported(log: Path) -> list[str]:
    """The modules that a process with `-X importtime` imported, in order."""
    return re.findall(r"^import time:\s+\d+ \|\s+\d+ \|\s*(\S+)$", log.read_text(), re.MULTILINE)


IMPORTING = """
import contextlib, importlib, sys
for name in sys.argv[1:]:
    with contextlib.suppress(ImportError):  # what was tried and is not there, such as _winapi
        importlib.import_module(name)
"""


def importing(project: Project, modules: list[str]) -> float:
    """CPU seconds of a process that imports these modules and does nothing else: the median of a few."""
    command = [sys.executable, "-c", IMPORTING, *modules]
    environment = {**project.environment, "PYTHONPATH": "src", "OMP_NUM_THREADS": "1"}  # as in the command of a rule
    times = []
    for _ in range(ROUNDS):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(command, cwd=project.folder, env=environment, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        times.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return sorted(times)[len(times) // 2]


def start(folder: Path) -> dict[str, tuple[float, float]]:
    """CPU seconds of each stage: its start, and its whole process on a tiny problem (the least, kernels compiled)."""
    project = Project(folder, f'#!/bin/sh\nexec "{sys.executable}" -X importtime "$@"\n')
    project.config = TINY
    project.snakemake()
    whole: dict[str, float] = {}
    logs: dict[str, Path] = {}
    for path in folder.glob("[dpr]*/**/*.run.json"):
        record = json.loads(path.read_text())
        whole[record["stage"]] = min(record["cpu_seconds"], whole.get(record["stage"], 1e9))
        logs[record["stage"]] = folder / record["log"]
    timing.check(set(STAGES) <= set(whole), "a tiny configuration really ran")
    begun = {name: importing(project, imported(log)) for name, log in logs.items()}
    return {name: (min(begun[name], whole[name]), whole[name]) for name in whole}


def main() -> None:
    base = Path(tempfile.mkdtemp(prefix="workflow"))
    try:
        stages = start(base / "start")
        speed, each = jobs(base / "jobs")
        cpu = {"dag": dag(base / "dag"), "noop": noop(base / "noop")}
    finally:
        shutil.rmtree(base)
    found = {name: seconds for name, (seconds, _) in cpu.items()}
    found["start"] = max(stages[name][0] for name in STAGES)
    print()
    for name, (begun, whole) in sorted(stages.items(), key=lambda item: item[1]):
        torch = "" if name in STAGES else " (torch)"
        print(f"{name:10} {begun:5.2f} s of CPU to start, {whole:5.2f} s with its tiny work{torch}")
    print(f"{speed:.1f} jobs a second (two at a time, wall), {each:.0f} ms of CPU each")
    for name, limit in LIMITS.items():
        print(f"{name:6} {found[name]:6.2f} s of CPU (limit {limit:g}: {'kept' if found[name] <= limit else 'BROKEN'})")
    broken = [name for name, limit in LIMITS.items() if found[name] > limit]
    gate = "ok: nothing ran twice, all blocks planned" + (f"; BROKEN: {', '.join(broken)}" if broken else "")
    ratio = min(limit / found[name] for name, limit in LIMITS.items())
    more = {name: round(value, 2) for name, value in found.items()}
    timing.verdict("workflow", ratio, "the limits, CPU seconds", gate, **more, jobs_per_second=round(speed, 1))


if __name__ == "__main__":
    main()
