"""Keep the table of a paper with what made it: `python docs/results.py koopman "<command>"`, in the folder that ran it.

Writes docs/results/<paper>.csv and, beside it, <paper>.json: command, hardware, versions, time, and for every study
and seed the fingerprints of its code, specification, inputs and outputs, stage by stage.
"""

import json
import os
import platform
import shutil
import sys
from importlib.metadata import version
from pathlib import Path

LIBRARIES = ("torch", "numpy", "numba", "zarr", "snakemake")
KEPT = ("stage", "output", "fingerprint", "code", "inputs", "git", "seconds", "cpu_seconds", "peak_mib")


def processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.split(": ")[1] for line in lines if line.startswith("model name")), platform.processor())


def records(paper: str) -> list[dict]:
    """The finished run records of a paper and of the data it read, in the order in which they began."""
    found = [
        json.loads(path.read_text()) for top in ("data", "runs", "papers") for path in Path(top).rglob("*.run.json")
    ]
    wanted = [r for r in found if r["status"] == "FINISHED" and r["about"].get("paper", paper) == paper]
    return sorted(wanted, key=lambda r: r["start"])


def main(paper: str, command: str) -> None:
    out = Path("docs/results")
    out.mkdir(exist_ok=True)
    shutil.copy(f"papers/{paper}/table.csv", out / f"{paper}.csv")
    made = records(paper)
    hardware = f"{processor()}, {os.cpu_count()} cores, no GPU"
    libraries = {name: version(name) for name in LIBRARIES}
    kept = [{key: r.get(key) for key in KEPT} for r in made]
    total = round(sum(r["cpu_seconds"] for r in made) / 60, 1)
    about = {"command": command, "hardware": hardware, "libraries": libraries, "cpu_minutes": total, "runs": kept}
    (out / f"{paper}.json").write_text(json.dumps(about, indent=1) + "\n")
    print(f"{len(kept)} runs, {total} CPU minutes")


if __name__ == "__main__":
    main(*sys.argv[1:3])
