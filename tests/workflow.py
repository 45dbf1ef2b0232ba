"""A small project of its own in a temporary folder: the real Snakefile on a tiny configuration, and what it ran."""

import ast
import contextlib
import copy
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from fnmatch import fnmatch
from pathlib import Path

import pytest
import yaml

from physiglot.track.records import find

HOME = Path(__file__).parents[1]
PATIENCE = 500  # seconds, on a busy machine
PARTS = ("Snakefile", "rules", "src", "profiles", "slurm", "envs", "docs/captions", "requirements.lock", ".gitignore")

LORENZ = {
    "module": "lorenz",
    "seed": 1,
    "block": 4,
    "chunk": 4,
    "params": {"steps": 32},
    "splits": {"train": {"members": 8}, "val": {"members": 4}, "test": {"members": 4}},
}
SHORT = {"window": 8, "stride": 8, "batch": 8, "epochs": 1}
CONFIG = {
    "tracking": {"uri": None},
    "systems": {"lorenz": LORENZ},
    "models": {
        "cubic": {"module": "polynomial", "params": {"degree": 3}, "training": {"steps": 0, "window": 8}},
        "faithful": {
            "module": "transformer",
            "params": {"layers": 1, "heads": 2, "window": 8},
            "training": {**SHORT},
            "embedding": {"module": "koopman", "params": {"channels": 4, "width": 8}, "training": {**SHORT}},
        },
    },
    "tasks": {
        "short": {
            "module": "forecast",
            "params": {"bins": [[0, 16]], "resamples": 10, "rollouts": {"test": {"split": "test"}}},
        }
    },
    "studies": {
        "lorenz_cubic": {"label": "Cubic", "system": "lorenz", "model": "cubic"},
        "lorenz_faithful": {"label": "Faithful", "system": "lorenz", "model": "faithful"},
    },
    "papers": {"chaos": {"title": "Chaos", "reference": "Lorenz 1963"}},
}
for study in CONFIG["studies"].values():
    study.update(paper="chaos", variant="baseline", task="short")

DECAY = '''"""Two fields that decay: x' = -rate x. It waits while a file `pause` lies in its folder."""

import time
from pathlib import Path

import numpy as np
import xarray as xr
from pydantic import Field

from ..strict import Strict


class Params(Strict):
    rate: float = Field(0.5, gt=0, description="1/time")
    steps: int = Field(32, ge=1, description="saved states")


def simulate(params: Params, members: int, rng: np.random.Generator) -> xr.Dataset:
    """x(t) = x(0) exp(-rate t), x(0) ~ U(1, 2): `state` (member, time, field)."""
    while Path("pause").exists():
        time.sleep(0.02)
    times = 0.1 * np.arange(params.steps)
    start = rng.uniform(1.0, 2.0, (members, 1, 2))
    state = start * np.exp(-params.rate * times)[:, None]
    return xr.Dataset(
        {"state": (("member", "time", "field"), state, {"units": "1"})},
        coords={"time": ("time", times, {"units": "s"}), "field": ["u", "v"]},
    )
'''


def with_decay(config: dict) -> dict:
    """The configuration with a second system, a model for it, and a study in a paper of its own."""
    config = copy.deepcopy(config)
    splits = {"train": {"members": 4}, "val": {"members": 4}, "test": {"members": 4}}
    config["systems"]["decay"] = {"module": "decay", "seed": 2, "block": 4, "chunk": 4, "splits": splits}
    config["models"]["linear"] = {
        "module": "polynomial",
        "params": {"degree": 1},
        "training": {"steps": 0, "window": 8},
    }
    study = {"label": "Linear", "system": "decay", "model": "linear", "task": "short"}
    config["studies"]["decay_linear"] = {**study, "paper": "rest", "variant": "ours"}
    config["papers"]["rest"] = {"title": "Rest", "reference": "none"}
    return config


def environment() -> dict[str, str]:
    """The tests' own environment, with its programs first on the path and no tracking."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW", "PHYSIGLOT", "SNAKEMAKE", "SLURM"))}
    return {**kept, "PATH": f"{Path(sys.executable).parent}:{kept['PATH']}", "COLUMNS": "200"}


class Project:
    """A checkout: the Snakefile, the sources, a configuration and what it made."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.started: list[subprocess.Popen] = []
        self.how = ["--cores", "2"]
        self.variables: dict[str, str] = {}

    @classmethod
    def create(cls, folder: Path, config: dict) -> "Project":
        folder.mkdir(parents=True)
        for part in PARTS:
            (folder / part).parent.mkdir(parents=True, exist_ok=True)
            subprocess.run(["cp", "-a", HOME / part, folder / part], check=True)
        for cache in folder.rglob("__pycache__"):
            shutil.rmtree(cache)
        project = cls(folder)
        project.config = config
        return project

    def copy(self, folder: Path) -> "Project":
        """The same with everything it made; times of modification are kept."""
        subprocess.run(["cp", "-a", self.folder, folder], check=True)
        return Project(folder)

    @property
    def config(self) -> dict:
        return yaml.safe_load((self.folder / "config.yaml").read_text())

    @config.setter
    def config(self, values: dict) -> None:
        (self.folder / "config.yaml").write_text(yaml.safe_dump(values))

    def change(self, key: str, value: object) -> None:
        """Change one value of the configuration: `change("systems.decay.seed", 3)`."""
        self.config = changed(self.config, key, value)

    def source(self, name: str) -> Path:
        return self.folder / "src/physiglot" / name

    def insert(self, name: str, function: str, statement: str = "assert True") -> None:
        """Put a statement at the start of a function (`Class.method` too); the file loses its comments."""
        tree = ast.parse(self.source(name).read_text())
        place: ast.AST = tree
        for part in function.split("."):
            place = next(n for n in place.body if getattr(n, "name", None) == part)
        place.body[:0] = ast.parse(statement).body
        self.source(name).write_text(ast.unparse(tree))

    def launch(self, command: list, **variables: str) -> subprocess.Popen:
        """A program in this folder, in a session of its own, not waited for."""
        process = subprocess.Popen(
            list(map(str, command)),
            cwd=self.folder,
            env={**environment(), **variables},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.started.append(process)
        return process

    def stop(self) -> None:
        """End what a failed test left running."""
        for process in self.started:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def start(self, *arguments: str) -> subprocess.Popen:
        """Snakemake, not waited for."""
        return self.launch(["snakemake", *self.how, *arguments], **self.variables)

    def snakemake(self, *arguments: str, fails: bool = False) -> str:
        """What Snakemake said. It must succeed, or fail where that is expected."""
        process = self.start(*arguments)
        said = process.communicate(timeout=PATIENCE)[0]
        assert (process.returncode != 0) == fails, said
        return said

    def records(self) -> dict[str, dict]:
        """Stage and wildcards, as in the name of the log (`train/study/0/model`) -> run record."""
        found = {}
        for path in find(self.folder):
            record = json.loads(path.read_text())
            found[record["log"].removeprefix("logs/").removesuffix(".log")] = record
        return found

    def ran(self, *arguments: str, fails: bool = False) -> set[str]:
        """Run the workflow; the stages that really ran, whose run records are new and finished."""
        before = {(name, r["id"], r["start"]) for name, r in self.records().items()}
        self.snakemake(*arguments, fails=fails)
        after = {(name, r["id"], r["start"]) for name, r in self.records().items() if r["status"] == "FINISHED"}
        return {name for name, *_ in after - before}

    def matching(self, *patterns: str) -> set[str]:
        """The names of all records that match one of the patterns; each pattern has to match something."""
        names = set(self.records())
        chosen = [{name for name in names if fnmatch(name, pattern)} for pattern in patterns]
        assert all(chosen), f"{patterns} against {sorted(names)}"
        return set().union(*chosen)

    def log(self, name: str) -> str:
        return (self.folder / "logs" / f"{name}.log").read_text()

    def begin(self, stage: str, *arguments: object, **variables: str) -> subprocess.Popen:
        """A stage by itself, `python -m physiglot.<stage>`, not waited for."""
        command = [sys.executable, "-m", f"physiglot.{stage}", *arguments]
        return self.launch(command, PYTHONPATH="src", OMP_NUM_THREADS="1", **variables)

    def run(self, stage: str, *arguments: object, fails: bool = False) -> str:
        """What a stage by itself said. It must succeed, or fail where that is expected."""
        process = self.begin(stage, *arguments)
        said = process.communicate(timeout=PATIENCE)[0]
        assert (process.returncode != 0) == fails, said
        return said


def survives_a_full_disk(project: Project) -> None:
    """A block of decay finds no room, and then it does."""
    target, block = "data/decay/datasets/clean.zarr/zarr.json", "simulate/decay/train/0"
    folder = project.folder / "data/decay/blocks/train"
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", folder]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("a small file system cannot be mounted here")
    try:
        project.change("systems.decay.splits.train.params", {"steps": 20000})
        assert project.ran(target, fails=True) == set()
        assert "error: simulate: no space is left to write" in project.log(block)
        assert "Traceback" not in project.log(block)
        assert not list(folder.glob("*.zarr")) and not list(folder.glob(".*.tmp"))
        subprocess.run(["mount", "-o", "remount,size=64m", folder], check=True)
        assert project.ran(target) == project.matching(block, "collect/decay", "dataset/decay/clean")
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def changed(config: dict, key: str, value: object) -> dict:
    """A copy of a configuration with another value at a dotted key."""
    config = copy.deepcopy(config)
    *parents, last = key.split(".")
    place = config
    for name in parents:
        place = place.setdefault(name, {})
    place[last] = value
    return config


def wait_for(condition, seconds: float = PATIENCE, every: float = 0.05) -> object:
    """The first true value of `condition()`."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if value := condition():
            return value
        time.sleep(every)
    raise TimeoutError(f"nothing within {seconds} s")
