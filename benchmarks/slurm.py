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

from cluster import Cluster, missing  # noqa: E402
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
    made.how = ["--profile", "slurm", "--slurm-init-seconds-before-status-checks", "2"]
    return made


def run(made: Project) -> tuple[float, int]:
    """Wall seconds, and how many SLURM jobs there were (a task of an array is one)."""
    began = time.perf_counter()
    made.snakemake(LIST)
    seconds = time.perf_counter() - began
    asked = ["squeue", "--array", "--states=all", "--noheader", "--format=%Z"]
    folders = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.splitlines()
    return seconds, folders.count(str(made.folder))


def main() -> None:
    if reason := missing():
        sys.exit(f"This benchmark needs a SLURM of its own: {reason}")
    with tempfile.TemporaryDirectory(prefix="slurm") as name, Cluster(Path(name) / "cluster") as cluster:
        cluster.drain("n2")
        cluster.drain("n3")
        folder = Path(name)
        made = project(folder / "blocks", BLOCKS, BUNDLE)
        wall, jobs = run(made)
        there = len(re.findall(r'"blocks/', (made.folder / LIST).read_text()))
        said = f"{there} blocks in {jobs} jobs and {wall:.0f} s, {1e3 * wall / BLOCKS:.0f} ms each"
        timing.check(there == BLOCKS, said)
        short, long = (run(project(folder / str(n), n, 1))[0] for n in (SHORT, LONG))
        found = {"blocks": wall, "task": (long - short) / (LONG - SHORT)}
        print(f"      arrays of {SHORT} and {LONG} tasks: {short:.0f} and {long:.0f} s, {found['task']:.2f} s a task")
    missed = [key for key, limit in LIMITS.items() if found[key] > limit]
    gate = "ok: every block is there" + (f"; limits missed: {', '.join(missed)}" if missed else "")
    more = {key: round(value, 2) for key, value in found.items()} | {"jobs": jobs, "cpus": os.cpu_count()}
    timing.verdict("slurm", LIMITS["blocks"] / wall, f"the limit of {LIMITS['blocks']:.0f} s", gate, **more)


if __name__ == "__main__":
    main()
