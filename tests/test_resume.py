"""A training that is interrupted, however and wherever, ends with the weights of the uninterrupted one."""

import json
import os
import random
import shutil
import signal
import subprocess
from collections.abc import Iterator

import pytest
import torch
from workflow import PATIENCE, Project, wait_for

pytestmark = pytest.mark.workflow

INTERRUPTED = 75
STEPS = 600
CLEAN = "data/lorenz/datasets/clean.zarr/zarr.json"
TRAINING = {
    "window": 8,
    "stride": None,
    "batch": 8,
    "epochs": None,
    "steps": STEPS,
    "optimizer": "adamw",
    "lr": 1e-3,
    "eps": 1e-8,
    "weight_decay": 0.01,
    "clip": 1.0,
    "ema": 0.99,
    "schedule": "cosine",
    "warmup": 0.1,
    "decay": 1.0,
    "restart": 14,
    "select": "best",
    "warm_start": False,
    "validation": {"split": "val", "windows": 256, "times": None},
    "in_memory": 1.0,
    "tf32": False,
}
PARAMS = {"channels": 4, "width": 16}


def spec(params: dict = PARAMS, **training) -> str:
    part = {"module": "koopman", "params": params, "training": {**TRAINING, **training}}
    return json.dumps({"part": part, "seed": 3})


class Training:
    """A training of the tiny Lorenz dataset into a folder of its own."""

    def __init__(self, project: Project, folder: str, text: str = ""):
        self.project, self.out, self.text = project, project.folder / folder / "weights.pt", text or spec()

    def start(self, save_every: float = 0.03, dataset: str = CLEAN) -> subprocess.Popen:
        options = ["--spec", self.text, "--code", "c", "--dataset", dataset, "--out", self.out]
        return self.project.begin("train", *options, PHYSIGLOT_SAVE_EVERY=str(save_every))

    def run(self, **options) -> str:
        process = self.start(**options)
        said = process.communicate(timeout=PATIENCE)[0]
        assert process.returncode == 0, said
        return said

    def interrupt(self, number: signal.Signals, steps: int) -> tuple[int, str]:
        """Start, send the signal once this many lines of the curve are there, and wait; exit code and output."""
        process = self.start()
        wait_for(lambda: process.poll() is not None or len(self.steps()) > steps)
        process.send_signal(number)
        said = process.communicate(timeout=PATIENCE)[0]
        return process.returncode, said

    def steps(self) -> list[int]:
        """The steps of the curve; a line that is being written does not count."""
        path = self.out.with_suffix(".metrics.jsonl")
        lines = path.read_text().splitlines(keepends=True) if path.exists() else []
        return [json.loads(line)["step"] for line in lines if line.endswith("\n")]

    @property
    def record(self) -> dict:
        return json.loads(self.out.with_suffix(".run.json").read_text())


@pytest.fixture(scope="module")
def data(grown, tmp_path_factory) -> Iterator[Project]:
    project = grown[0].copy(tmp_path_factory.mktemp("resume") / "project")
    yield project
    project.stop()


@pytest.fixture(scope="module")
def uninterrupted(data) -> Training:
    training = Training(data, "runs/whole")
    training.run(save_every=60)
    return training


def assert_same(training: Training, whole: Training) -> None:
    """Bit by bit the same weights, the same curve, nothing left to resume from."""
    assert training.out.read_bytes() == whole.out.read_bytes()
    steps = training.steps()
    assert steps == sorted(set(steps)) == whole.steps()
    assert training.record["status"] == "FINISHED"
    assert training.record["fingerprint"] == whole.record["fingerprint"]
    assert not (training.out.parent / "ckpt/state.pt").exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_training_told_to_stop_saves_and_goes_on(data, uninterrupted, number):
    training = Training(data, f"runs/{number.name}")
    code, said = training.interrupt(number, 20)
    assert code == INTERRUPTED
    assert "interrupted: signal" in said and "run again to continue" in said and "Traceback" not in said
    assert training.record["status"] == "INTERRUPTED"
    assert not training.out.exists()
    stopped_at = torch.load(training.out.parent / "ckpt/state.pt", weights_only=True)["step"]
    first = training.record["id"]
    assert f"resumed at step {stopped_at}\n" in training.run()
    assert training.record["id"] == first
    assert_same(training, uninterrupted)


def test_a_training_killed_at_any_moment_goes_on(data, uninterrupted):
    """SIGKILL after random numbers of logged steps, also while a snapshot is written."""
    training, moments, ids = Training(data, "runs/killed"), random.Random(0), set()
    for last in (0, 30, 60):
        code, _ = training.interrupt(signal.SIGKILL, last + moments.randrange(25))
        assert code == -signal.SIGKILL
        assert not training.out.exists()
        ids.add(training.record["id"])
    assert "resumed at step" in training.run()
    assert {training.record["id"]} == ids
    assert_same(training, uninterrupted)
    assert not list(training.out.parent.glob("**/.*.tmp"))


def test_a_snapshot_that_is_truncated_or_of_another_training_is_ignored(data, uninterrupted):
    training = Training(data, "runs/ignored")
    assert training.interrupt(signal.SIGTERM, 5)[0] == INTERRUPTED
    other = Training(data, "runs/other", spec({**PARAMS, "width": 17}, steps=20))
    shutil.copytree(training.out.parent, other.out.parent)
    assert "resumed" not in other.run()
    state = training.out.parent / "ckpt/state.pt"
    state.write_bytes(state.read_bytes()[:1000])
    assert "resumed" not in training.run()
    assert_same(training, uninterrupted)


def test_the_workflow_goes_on_by_itself(project):
    """A training that is told to stop within Snakemake is started again by it, and goes on where it was."""
    study = project.config["studies"]["lorenz_cubic"]
    training = {"window": 8, "batch": 8, "steps": 1500}
    project.change("models.koopman", {"module": "koopman", "params": PARAMS, "training": training})
    project.change("studies.linear", {**study, "model": "koopman"})
    out = "runs/linear/0/model/weights.pt"
    workflow = project.start(out)
    lines = project.folder / "runs/linear/0/model/weights.metrics.jsonl"
    wait_for(lambda: workflow.poll() is not None or (lines.exists() and lines.read_text().count("\n") > 10))
    record = project.records()["train/linear/0/model"]
    os.kill(record["pid"], signal.SIGTERM)
    said = workflow.communicate(timeout=PATIENCE)[0]
    assert workflow.returncode == 0, said
    assert "resumed at step" in project.log("train/linear/0/model")
    finished = project.records()["train/linear/0/model"]
    assert finished["id"] == record["id"] and finished["pid"] != record["pid"]
    steps = [json.loads(line)["step"] for line in lines.read_text().splitlines()]
    assert steps == sorted(set(steps))


# --- warm start --------------------------------------------------------------------------------


def first_loss(training: Training) -> float:
    """The validation loss before the first step."""
    return json.loads(training.out.with_suffix(".metrics.jsonl").read_text().splitlines()[0])["val_loss"]


@pytest.fixture(scope="module")
def more_data(data) -> str:
    """A second dataset of the same system, with noise: other data for the same model."""
    options = json.loads((data.folder / "data/lorenz/datasets/clean.run.json").read_text())["spec"]
    options["noise"] = {"level": 0.01, "mode": "relative", "splits": ["train"], "seed": 0}
    out = "data/lorenz/datasets/more.zarr/zarr.json"
    data.run("dataset", "--spec", json.dumps(options), "--blocks", "data/lorenz/blocks.json", "--out", out)
    return out


def test_warm_start(data, more_data):
    """It begins with the previous weights when only the data grew, and only then."""
    warm = Training(data, "runs/warm", spec(steps=300, warm_start=True))
    cold = Training(data, "runs/cold", spec(steps=300))
    assert "warm start" not in warm.run()
    assert "warm start from the previous weights" in warm.run(dataset=more_data)
    assert "warm start" not in cold.run(dataset=more_data)
    assert first_loss(warm) < 0.5 * first_loss(cold)
    warm.text = spec(steps=300, warm_start=True, lr=2e-3)
    assert "warm start" not in warm.run(dataset=more_data)
