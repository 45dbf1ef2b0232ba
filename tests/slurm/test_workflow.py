"""The whole workflow as SLURM jobs: the same results as without, whatever happens to jobs, nodes and schedulers."""

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from cluster import Cluster
from workflow import PATIENCE, Project, wait_for

SLURM = ["--profile", "slurm", "--slurm-init-seconds-before-status-checks", "2", "--latency-wait", "10"]
WEIGHTS = "runs/lorenz_faithful/0/model/weights.pt"
TRAIN = "train/lorenz_faithful/0/model"
DECAY = "data/decay/datasets/clean.zarr/zarr.json"
BLOCK = "simulate/decay/train/0"


def stores(project: Project) -> dict[str, bytes]:
    """Every file of every block and data set."""
    found = (p for p in (project.folder / "data").rglob("*") if p.is_file() and ".zarr/" in str(p))
    return {str(p.relative_to(project.folder)): p.read_bytes() for p in found}


def weights(project: Project) -> dict[str, torch.Tensor]:
    return torch.load(project.folder / WEIGHTS, weights_only=True)["state"]


def steps(project: Project) -> list[int]:
    """The logged steps of the training."""
    path = project.folder / WEIGHTS.replace("weights.pt", "weights.metrics.jsonl")
    return [json.loads(line)["step"] for line in path.read_text().splitlines()] if path.exists() else []


def job_of(project: Project, name: str) -> str | None:
    """The SLURM job in which a stage is running now."""
    record = project.records().get(name, {})
    return record["slurm_job_id"] if record.get("status") == "RUNNING" else None


@pytest.fixture
def onslurm(project: Project, cluster: Cluster) -> Project:
    """A project that has run without SLURM and is up to date."""
    project.how = SLURM
    return project


@pytest.fixture(scope="module")
def trained(grown: tuple, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """A training of 20 steps, uninterrupted and without SLURM."""
    project = grown[0].copy(tmp_path_factory.mktemp("trained") / "project")
    project.change("models.faithful.training.epochs", 5)
    project.snakemake(WEIGHTS)
    yield project
    project.stop()


@pytest.fixture
def slow(trained: Project, tmp_path: Path, cluster: Cluster) -> Iterator[Project]:
    """The same training, to be done again on SLURM: half a second a step, and four while a file `brake` lies there."""
    project = trained.copy(tmp_path / "project")
    project.how, project.variables = SLURM, {"PHYSIGLOT_SAVE_EVERY": "0"}
    sleep = "import os, time; time.sleep(4 if os.path.exists('brake') else 0.5)"
    project.insert("models/transformer.py", "Model.loss", sleep)
    yield project
    project.stop()


def under_way(project: Project) -> str:
    """Wait until the training has done some steps; its SLURM job."""
    wait_for(lambda: 4 <= len(steps(project)) < 20)
    return str(wait_for(lambda: job_of(project, TRAIN)))


def finished(project: Project, trained: Project, workflow: subprocess.Popen) -> None:
    """The training went on where it was, and its weights and its curve are those of an uninterrupted one."""
    said = workflow.communicate(timeout=PATIENCE)[0]
    assert workflow.returncode == 0, said
    assert "resumed at step" in project.log(TRAIN)
    expected, found = weights(trained), weights(project)
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    assert steps(project) == steps(trained)


def test_the_same_bytes_with_and_without(cluster, grown, tmp_path):
    """From nothing to the tables; the bundles of blocks are job arrays."""
    config = grown[0].config
    config["systems"]["lorenz"]["splits"]["train"]["members"] = 8
    project = Project.create(tmp_path / "project", config)
    project.source("systems/decay.py").write_text(grown[0].source("systems/decay.py").read_text())
    project.how = SLURM
    try:
        ran = project.ran()
        assert ran == set(grown[0].records())
        assert stores(project) == stores(grown[0])
        assert all(record["slurm_job_id"] for record in project.records().values())
        mine = [job for job in cluster.jobs() if job["workdir"] == str(project.folder)]
        arrays = {job["id"] for job in mine if "_" in job["id"]}
        assert len(arrays) == sum(name.startswith("simulate") for name in ran)
        assert all(job["comment"].startswith("rule_simulate") for job in mine if job["id"] in arrays)
        assert project.ran() == set()
    finally:
        project.stop()


def test_a_cancelled_training_goes_on_elsewhere(slow, trained, cluster):
    """Its node is drained, at which it goes on; then it is cancelled: Snakemake submits it again."""
    workflow = slow.start(WEIGHTS)
    job = under_way(slow)
    node = next(j["node"] for j in cluster.jobs() if j["id"] == job)
    cluster.drain(node)
    try:
        subprocess.run(["scancel", job], check=True)
        again = wait_for(lambda: (now := job_of(slow, TRAIN)) != job and now)
        assert next(j["node"] for j in cluster.jobs() if j["id"] == again) != node
        finished(slow, trained, workflow)
    finally:
        cluster.resume(node)


def test_a_training_goes_on_after_its_time_limit(slow, trained, cluster):
    """Before the limit, of a minute here, it saves its state and goes back into the queue, with the same number."""
    brake = slow.folder / "brake"
    brake.touch()
    workflow = slow.start(WEIGHTS, "--set-resources", "train:runtime=1")
    job = str(wait_for(lambda: job_of(slow, TRAIN)))
    wait_for(lambda: slow.records()[TRAIN]["status"] == "INTERRUPTED")
    brake.unlink()
    finished(slow, trained, workflow)
    assert slow.records()[TRAIN]["slurm_job_id"] == job


def test_a_training_whose_node_is_lost_goes_on(slow, trained, cluster):
    """Nothing on the node gets a last word; SLURM requeues the job. The controller dies as well."""
    workflow = slow.start(WEIGHTS, "--set-resources", "train:runtime=5")
    job = under_way(slow)
    node = next(j["node"] for j in cluster.jobs() if j["id"] == job)
    try:
        cluster.kill_node(node)
        cluster.restart_controller(sigkill=True)
        finished(slow, trained, workflow)
    finally:
        cluster.start_node(node)
        cluster.resume(node)


def test_a_killed_scheduler_goes_on_without_hand_work(slow, trained, cluster):
    """What it left in the queue is cancelled, a training saves its state first, and goes on in a new job."""
    workflow = slow.start(WEIGHTS)
    job = under_way(slow)
    os.killpg(workflow.pid, signal.SIGKILL)
    workflow.wait()
    again = slow.start(WEIGHTS)
    finished(slow, trained, again)
    assert next(j["state"] for j in cluster.jobs() if j["id"] == job) == "CANCELLED"


def test_what_ended_without_the_scheduler_is_not_done_again(onslurm, cluster):
    project, pause = onslurm, onslurm.folder / "pause"
    project.change("systems.decay.splits.train.params", {"rate": 0.75})
    pause.touch()
    workflow = project.start(DECAY)
    wait_for(lambda: job_of(project, BLOCK))
    os.killpg(workflow.pid, signal.SIGKILL)
    workflow.wait()
    pause.unlink()
    wait_for(lambda: project.records()[BLOCK]["status"] == "FINISHED")
    assert project.ran(DECAY) == {"collect/decay", "dataset/decay/clean"}


def test_a_full_disk_on_a_node(onslurm):
    folder = onslurm.folder / "data/decay/blocks/train"
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", folder]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("a small file system cannot be mounted here")
    try:
        onslurm.change("systems.decay.splits.train.params", {"steps": 20000})
        assert onslurm.ran(DECAY, fails=True) == set()
        assert "error: simulate: no space is left to write" in onslurm.log(BLOCK)
        assert not list(folder.glob("*.zarr")) and not list(folder.glob(".*.tmp"))
        subprocess.run(["mount", "-o", "remount,size=64m", folder], check=True)
        assert onslurm.ran(DECAY) == onslurm.matching(BLOCK, "collect/decay", "dataset/decay/clean")
    finally:
        subprocess.run(["umount", "-l", folder], check=True)
