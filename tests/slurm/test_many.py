"""Many processes at once on SLURM: ranks over two nodes, Dask workers, a tracking server and twenty jobs."""

import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from jobs import DECAY, TRAIN, WEIGHTS, stores, weights
from postgres import Postgres, missing
from tracking import Server, all_runs
from workflow import PATIENCE, Project, wait_for

JOBS = 20


def curve(project: Project) -> list[float]:
    path = project.folder / WEIGHTS.replace("weights.pt", "weights.metrics.jsonl")
    return [line["loss"] for line in map(json.loads, path.read_text().splitlines()) if "loss" in line]


def test_two_ranks_on_two_nodes_train_as_one_process(onslurm, trained, cluster):
    """By srun and gloo: each takes half of every batch, and the loss curve is that of one process."""
    onslurm.change("models.faithful.training.epochs", 5)
    study = onslurm.config["studies"]["lorenz_faithful"]
    onslurm.change("studies.lorenz_faithful", {**study, "ranks": 2, "nodes": 2})
    workflow = onslurm.start(WEIGHTS)
    nodes = wait_for(lambda: next((j["node"] for j in cluster.jobs() if j["state"] == "RUNNING" and j["node"]), None))
    said = workflow.communicate(timeout=PATIENCE)[0]
    assert workflow.returncode == 0, said
    assert nodes == "n[1-2]"
    expected, found = curve(trained), curve(onslurm)
    assert found == pytest.approx(expected, rel=1e-5)
    one, two = weights(trained), weights(onslurm)
    assert all(torch.allclose(one[name], two[name], rtol=1e-3, atol=1e-5) for name in one)


def test_a_gpu_study_runs_where_the_gpus_are(onslurm, cluster):
    onslurm.insert(
        "models/transformer.py", "Model.loss", "import os; print('gpus', os.environ['CUDA_VISIBLE_DEVICES'])"
    )
    study = onslurm.config["studies"]["lorenz_faithful"]
    onslurm.change("studies.lorenz_faithful", {**study, "gpu": True})
    onslurm.snakemake(WEIGHTS, "--default-resources", "mem_mb=1000", "runtime=5", "gpu_partition=gpu")
    assert "gpus 0" in onslurm.log(TRAIN)
    job = onslurm.records()[TRAIN]["slurm_job_id"]
    assert next(j["partition"] for j in cluster.jobs() if j["id"] == job) == "gpu"


def test_dask_workers_are_jobs_and_one_may_be_lost(onslurm, cluster):
    """The same bytes as on threads, though a worker is killed half-way."""
    before = stores(onslurm)
    shutil.rmtree(onslurm.folder / "data/decay/datasets")
    onslurm.change("dask", {"scheduler": "slurm", "workers": 2, "memory": "1GiB", "minutes": 5})
    pause = onslurm.folder / "pause"
    pause.touch()
    wait = "import os, time\nfrom pathlib import Path\nwhile Path('pause').exists():\n"
    wait += "    Path('busy.' + os.environ['SLURM_JOB_ID']).touch()\n    time.sleep(0.1)"
    onslurm.insert("dataset.py", "_part", wait)
    workflow = onslurm.start(DECAY)

    def busy() -> set[str]:
        return {path.suffix[1:] for path in onslurm.folder.glob("busy.*")}

    first = wait_for(lambda: len(busy()) == 2 and busy(), 120)
    subprocess.run(["scancel", min(first)], check=True)
    wait_for(lambda: busy() - first, 120)
    pause.unlink()
    said = workflow.communicate(timeout=PATIENCE)[0]
    assert workflow.returncode == 0, said
    assert stores(onslurm) == before


@pytest.fixture
def database() -> Iterator[Postgres]:
    if reason := missing():
        pytest.skip(reason)
    database = Postgres()
    yield database
    database.stop()


@pytest.fixture
def server(tmp_path: Path, database: Postgres) -> Iterator[Server]:
    server = Server(tmp_path, database.uri)
    yield server
    server.kill()


def test_twenty_jobs_and_a_server_on_postgresql_that_is_lost(onslurm, server, cluster):
    """They arrive live; the server is lost, and no job fails; once it is back, nothing is missing."""
    decay = onslurm.config["systems"]["decay"]
    onslurm.change("systems.decay", {**decay, "block": 1, "chunk": 1})
    onslurm.change("systems.decay.splits.train.members", JOBS - 8)
    onslurm.variables = {"MLFLOW_TRACKING_URI": server.uri}
    pause = onslurm.folder / "pause"
    pause.touch()
    workflow = onslurm.start("data/decay/blocks.json")

    def running() -> int:
        time.sleep(1)
        return sum(run.info.status == "RUNNING" for run in all_runs(server.uri).values())

    wait_for(lambda: running() == JOBS)
    server.kill()
    pause.unlink()
    said = workflow.communicate(timeout=PATIENCE)[0]
    assert workflow.returncode == 0, said
    assert "warning: tracking" in said
    server.start()
    onslurm.launch(
        ["python", "-m", "physiglot.track", "publish", "--strict"], **onslurm.variables, PYTHONPATH="src"
    ).wait()
    states = [run.info.status for run in all_runs(server.uri).values()]
    assert states == ["FINISHED"] * len(onslurm.records())
