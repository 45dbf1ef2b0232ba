"""Keep the table of a paper with what made it: `python docs/results.py koopman "<command>"`, in the folder that ran it.

The rows of papers/<paper>/table.csv take the place of the same studies' rows in docs/results/<paper>.csv, or of another
name that is given as a third argument; all other rows stay. So a table can be made in parts, each with its command, as
with `--config only=…`. <name>.json has for every part its command, hardware, versions and time, and for each of its
runs the fingerprints of code, specification, inputs and outputs, stage by stage.
"""

import csv
import json
import os
import platform
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

LIBRARIES = ("torch", "numpy", "numba", "zarr", "snakemake")
KEPT = ("stage", "output", "fingerprint", "code", "inputs", "git", "seconds", "cpu_seconds", "peak_mib")
OUT = Path("docs/results")


def processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.split(": ")[1] for line in lines if line.startswith("model name")), platform.processor())


def gpu() -> str:
    """The name of the first GPU of NVIDIA, if there is one."""
    if shutil.which("nvidia-smi") is None:
        return "no GPU"
    names = subprocess.run(["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"], capture_output=True, text=True)
    return names.stdout.partition("\n")[0] or "no GPU"


def records(paper: str, studies: set[str], systems: set[str]) -> list[dict]:
    """The finished run records of these studies and of the data they read, in the order in which they began."""
    found = [
        json.loads(path.read_text()) for top in ("data", "runs", "papers") for path in Path(top).rglob("*.run.json")
    ]
    finished = [r for r in found if r["status"] == "FINISHED" and r["about"].get("paper", paper) == paper]
    wanted = [r for r in finished if r["about"].get("study", "") in studies or r["about"].get("system") in systems]
    return sorted(wanted, key=lambda r: r["start"])


def rows(path: Path) -> list[list[str]]:
    with path.open() as file:
        return list(csv.reader(file))


def merged(old: list[list[str]], new: list[list[str]]) -> list[list[str]]:
    """The new rows of each study in the place of its old ones; studies that are new come last."""
    header, *given = new
    replaced = {row[0]: [r for r in given if r[0] == row[0]] for row in given}
    kept = {row[0]: [r for r in old[1:] if r[0] == row[0]] for row in old[1:]}
    return [header, *(row for study in {**kept, **replaced}.values() for row in study)]


def part(paper: str, command: str, studies: list[str]) -> dict:
    """What made these rows."""
    known = json.loads(Path(".physiglot/studies.json").read_text())
    made = records(paper, set(studies), {known[study]["system"] for study in studies})
    return {
        "command": command,
        "hardware": f"{processor()}, {os.cpu_count()} cores, {gpu()}",
        "libraries": {name: version(name) for name in LIBRARIES},
        "cpu_minutes": round(sum(r["cpu_seconds"] for r in made) / 60, 1),
        "studies": studies,
        "runs": [{key: r.get(key) for key in KEPT} for r in made],
    }


def without(parts: list[dict], studies: list[str]) -> list[dict]:
    """The parts that still stand for some row."""
    left = [{**p, "studies": [s for s in p["studies"] if s not in studies]} for p in parts]
    return [p for p in left if p["studies"]]


def main(paper: str, command: str, name: str = "") -> None:
    OUT.mkdir(exist_ok=True)
    table, about = OUT / f"{name or paper}.csv", OUT / f"{name or paper}.json"
    new = rows(Path(f"papers/{paper}/table.csv"))
    studies = list(dict.fromkeys(row[0] for row in new[1:]))
    old = rows(table) if table.is_file() else new[:1]
    parts = json.loads(about.read_text())["parts"] if about.is_file() else []
    fresh = part(paper, command, studies)
    with table.open("w") as file:
        csv.writer(file, lineterminator="\n").writerows(merged(old, new))
    about.write_text(json.dumps({"parts": [*without(parts, studies), fresh]}, indent=1) + "\n")
    print(f"{len(studies)} studies, {len(fresh['runs'])} runs, {fresh['cpu_minutes']} CPU minutes")


if __name__ == "__main__":
    main(*sys.argv[1:])
