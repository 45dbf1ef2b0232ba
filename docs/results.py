"""Keep the table of a paper with what made it: `python docs/results.py koopman "<command>"`, in the folder that ran it.

Writes docs/results/<paper>.csv and, beside it, <paper>.json: command, hardware, versions, time, and for every study
and seed the fingerprints of its code, specification, inputs and outputs, stage by stage. With a name and systems,
`python docs/results.py koopman "<command>" fields cylinder gray_scott`, only their studies, under that name.
"""

import csv
import json
import os
import platform
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


def keep(source: Path, out: Path, studies: set[str]) -> None:
    """The rows of these studies."""
    with source.open() as file:
        header, *rows = csv.reader(file)
    with out.open("w") as file:
        csv.writer(file, lineterminator="\n").writerows([header, *(row for row in rows if row[0] in studies)])


def main(paper: str, command: str, name: str = "", *systems: str) -> None:
    out, name = Path("docs/results"), name or paper
    out.mkdir(exist_ok=True)
    known = json.loads(Path(".physiglot/studies.json").read_text())
    studies = {study for study, s in known.items() if s["paper"] == paper and s["system"] in (systems or {s["system"]})}
    keep(Path(f"papers/{paper}/table.csv"), out / f"{name}.csv", studies)
    among = {known[study]["system"] for study in studies}
    made = [r for r in records(paper) if r["about"].get("study", "") in studies or r["about"].get("system") in among]
    hardware = f"{processor()}, {os.cpu_count()} cores, no GPU"
    libraries = {name: version(name) for name in LIBRARIES}
    kept = [{key: r.get(key) for key in KEPT} for r in made]
    total = round(sum(r["cpu_seconds"] for r in made) / 60, 1)
    about = {"command": command, "hardware": hardware, "libraries": libraries, "cpu_minutes": total, "runs": kept}
    (out / f"{name}.json").write_text(json.dumps(about, indent=1) + "\n")
    print(f"{len(kept)} runs, {total} CPU minutes")


if __name__ == "__main__":
    main(*sys.argv[1:])
