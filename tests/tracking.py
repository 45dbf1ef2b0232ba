"""What the tests of the tracking share: a finished study made by the real wrapper, and a look into MLflow."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from workflow import wait_for

from physiglot import stage

STUDY = {"study": "ours_clean", "seed": "0", "paper": "koopman", "system": "lorenz", "dataset": "clean"}
STEPS = range(0, 50, 10)


def run_stage(name: str, out: str, write, *, given: dict | None = None, spec=None, about=None, fail=False):
    """Run the real wrapper of a stage around `write(out)`; returns the path of its record."""
    given = given or {}

    def function(*, out: Path, spec: dict, one: Path | None, two: Path | None, code: str = "") -> None:
        write(out)
        if fail:
            raise ValueError("it does not converge")

    function.__name__ = name
    arguments = {"--out": out, "--spec": json.dumps(spec or {"a": 1}), "--code": f"code of {name}"}
    arguments |= {
        "--about": json.dumps(about or {}),
        "--one": given.get("one", ""),
        "--two": given.get("two", ""),
    }
    before, sys.argv = sys.argv, [name, *(part for pair in arguments.items() for part in pair)]
    try:
        stage.run(function)
    except SystemExit:
        pass
    finally:
        sys.argv = before
    return stage.record_path(Path(out))


def store_writer(print_: str):
    def write(out: Path) -> None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps({"attributes": {"fingerprint": print_}}))

    return write


def text_writer(text: str):
    def write(out: Path) -> None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(text)

    return write


def train_writer(out: Path) -> None:
    text_writer("weights")(out)
    lines = [{"step": step, "loss": 1 / (1 + step), "val_loss": 2.0} for step in STEPS]
    out.with_suffix(".metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def figures_writer(out: Path) -> None:
    for suffix in ("svg", "png"):
        text_writer(f"a {suffix}")(out / f"attractor.{suffix}")


@pytest.fixture(scope="module")
def empty_store(tmp_path_factory) -> Path:
    """A SQLite store without runs: making one takes MLflow several seconds."""
    path = tmp_path_factory.mktemp("empty") / "mlflow.db"
    client(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def finished(tmp_path, monkeypatch, empty_store) -> Path:
    """A finished study with two blocks, each stage run by the real wrapper."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    shutil.copy(empty_store, "mlflow.db")
    prints = {"train/0": "block zero", "train/1": "block one"}
    for bundle, (name, print_) in enumerate(prints.items()):
        about = {"system": "lorenz", "split": "train", "bundle": str(bundle)}
        made = text_writer(json.dumps({f"blocks/{name}.zarr": print_}))
        run_stage("simulate", f"data/lorenz/bundles/train/{bundle}.json", made, about=about, spec={"blocks": [bundle]})
    spec, blocks = {"blocks": {"train": 2}}, "data/lorenz/blocks.json"
    listed = {f"blocks/{name}.zarr": {"members": 4, "fingerprint": print_} for name, print_ in prints.items()}
    run_stage("collect", blocks, text_writer(json.dumps(listed)), spec=spec, about={"system": "lorenz"})
    data = "data/lorenz/datasets/clean.zarr/zarr.json"
    run_stage("dataset", data, store_writer("dataset"), given={"one": blocks}, about={"system": "lorenz"})
    weights, prediction = "runs/ours_clean/0/model/weights.pt", "runs/ours_clean/0/prediction.zarr/zarr.json"
    part = {"part": {"module": "reservoir", "params": {"size": 300, "radii": [0.9, 1.1]}}, "seed": 0}
    about = {**STUDY, "part": "model"}
    run_stage("train", weights, train_writer, given={"one": data}, spec=part, about=about)
    run_stage("predict", prediction, store_writer("told"), given={"one": data, "two": weights}, about=STUDY)
    metrics = "runs/ours_clean/0/metrics.json"
    values = json.dumps({"valid_time": 7.5, "diverged": None})
    run_stage("evaluate", metrics, text_writer(values), given={"one": data, "two": prediction}, about=STUDY)
    drawn = {"one": prediction, "two": metrics}
    run_stage("plot", "runs/ours_clean/0/figures", figures_writer, given=drawn, about=STUDY)
    return tmp_path


def client(uri: str):
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=uri)


def sqlite(root: Path) -> str:
    return f"sqlite:///{root}/mlflow.db"


def all_runs(uri: str) -> dict:
    """Run name -> run, of all experiments; a name that occurs twice is an error."""
    mlflow = client(uri)
    numbers = [e.experiment_id for e in mlflow.search_experiments()]
    runs = mlflow.search_runs(numbers, max_results=5000)
    assert len({r.info.run_name for r in runs}) == len(runs)
    return {r.info.run_name: r for r in runs}


def points(uri: str, run, key: str) -> list[tuple[int, float]]:
    return sorted((m.step, m.value) for m in client(uri).get_metric_history(run.info.run_id, key))


def artifacts(uri: str, run, folder: str | None = None) -> set[str]:
    return {a.path for a in client(uri).list_artifacts(run.info.run_id, folder)}


def content_of(uri: str) -> dict:
    """Everything that publishing twice could double."""
    return {
        name: (
            run.info.status,
            run.data.params,
            run.data.tags,
            {k: points(uri, run, k) for k in run.data.metrics},
        )
        for name, run in all_runs(uri).items()
    }


def command(*words: str, **environment: str) -> subprocess.CompletedProcess:
    line = [sys.executable, "-m", "physiglot.track", *words]
    return subprocess.run(line, capture_output=True, text=True, env={**os.environ, **environment}, timeout=60)


class Server:
    """A real `mlflow server`, on SQLite unless another store is given, to be killed and started on the same port."""

    def __init__(self, folder: Path, store: str = ""):
        self.folder, self.store = folder, store or f"sqlite:///{folder}/server.db"
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            self.port = s.getsockname()[1]
        self.uri = f"http://127.0.0.1:{self.port}"
        self.start()

    def start(self) -> None:
        words = ["server", "--workers", "1", "--host", "127.0.0.1", "--port", str(self.port)]
        words += ["--backend-store-uri", self.store]
        words += ["--artifacts-destination", f"{self.folder}/server_artifacts"]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "mlflow", *words],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            env={**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
        )
        until(self.answers, 60)

    def answers(self) -> bool:
        try:
            return urllib.request.urlopen(f"{self.uri}/health", timeout=1).status == 200
        except OSError:
            return False

    def kill(self) -> None:
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def until(condition, seconds: float = 20) -> object:
    """`wait_for`, asking a server less often."""
    return wait_for(condition, seconds, every=0.3)
