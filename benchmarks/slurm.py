"""Many short jobs on SLURM: blocks of a trivial system through `snakemake --profile slurm` and a real cluster.

The cluster is that of the tests: controller, nodes and accounting on this machine (apt-get install slurm-wlm munge
slurmdbd mariadb-server, as root). Two nodes are drained, so that eight jobs run at a time.

- `blocks`: 2,000 blocks in bundles of 100, from nothing to the list of all blocks.
- `task`: what one more task of a job array costs, by the wall times of arrays of two lengths, one block a task.

Everything of SLURM and of the jobs shares the cores of this machine: a cluster of real nodes can only be faster.
"""

import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks import timing

HOME = Path(__file__).parents[1]
sys.path[:0] = [str(HOME / "tests"), str(HOME / "tests/slurm")]

timing.require("psutil", "yaml", "snakemake", "physiglot")

from cluster import Cluster, missing, wait_for  # noqa: E402
from workflow import CONFIG, DECAY, Project, with_decay  # noqa: E402

BLOCKS, BUNDLE, SHORT, LONG = 2000, 100, 8, 40
LIMITS = {"blocks": 600.0, "task": 2.0}
LIST = "data/decay/blocks.json"


def project(folder: Path, blocks: int, bundle: int) -> Project:
    """A project with a system of so many blocks of one member."""
    config = with_decay(CONFIG)
    decay = config["systems"]["decay"]
    decay |= {"block": 1, "chunk": 1, "bundle": bundle}
    decay["splits"] = {"train": {"members": blocks - 2}, "val": {"members": 1}, "test": {"members": 1}}
    made = Project.create(folder, config)
    made.source("systems/decay.py").write_text(DECAY)
    made.how = ["--profile", "slurm", "--seconds-between-status-checks", "1"]
    return made


def lines(command: list[str]) -> list[str]:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()


def cpu(said: str) -> float:
    """Seconds of SLURM's [hours:]minutes:seconds."""
    seconds = 0.0
    for part in said.split(":"):
        seconds = 60 * seconds + float(part)
    return seconds


def run(made: Project) -> tuple[float, float, int]:
    """Wall seconds; CPU seconds of all SLURM jobs; how many there were (a task of an array is one)."""
    began = time.perf_counter()
    made.snakemake(LIST)
    seconds = time.perf_counter() - began
    asked = ["squeue", "--array", "--states=all", "--noheader", "--format=%Z"]
    jobs = lines(asked).count(str(made.folder))
    asked = ["sacct", "--noheader", "--parsable2", "--format=WorkDir,State,TotalCPU"]
    rows = wait_for(
        lambda: len(found := [r for r in lines(asked) if r.startswith(f"{made.folder}|COMP")]) == jobs and found
    )
    return seconds, sum(cpu(row.rpartition("|")[2]) for row in rows), jobs


def main() -> None:
    if reason := missing():
        sys.exit(f"This benchmark needs a SLURM of its own: {reason}")
    with tempfile.TemporaryDirectory(prefix="slurm") as name, Cluster(Path(name) / "cluster") as cluster:
        cluster.drain("n2")
        cluster.drain("n3")
        folder = Path(name)
        made = project(folder / "blocks", BLOCKS, BUNDLE)
        wall, _, jobs = run(made)
        there = len(re.findall(r'"blocks/', (made.folder / LIST).read_text()))
        said = f"{there} blocks in {jobs} jobs and {wall:.0f} s, {1e3 * wall / BLOCKS:.0f} ms each"
        timing.check(there == BLOCKS, said)
        short, long = (run(project(folder / str(n), n, 1)) for n in (SHORT, LONG))
        task, used = ((b - a) / (LONG - SHORT) for a, b in zip(short[:2], long[:2], strict=True))
        found = {"blocks": wall, "task": task}
        print(f"      arrays of {SHORT} and {LONG} tasks: {short[0]:.0f} and {long[0]:.0f} s, {task:.2f} s a task")
        print(f"      CPU seconds a task: {used:.2f}; load {os.getloadavg()[0]:.1f}")
    missed = [key for key, limit in LIMITS.items() if found[key] > limit]
    gate = "ok: every block is there" + (f"; limits missed: {', '.join(missed)}" if missed else "")
    more = {key: round(value, 2) for key, value in found.items()} | {
        "task_cpu": round(used, 2),
        "jobs": jobs,
        "cpus": os.cpu_count(),
    }
    timing.verdict("slurm", LIMITS["blocks"] / wall, f"the limit of {LIMITS['blocks']:.0f} s", gate, **more)


if __name__ == "__main__":
    main()
