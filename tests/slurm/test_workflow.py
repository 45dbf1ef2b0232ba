"""The whole workflow as SLURM jobs: the same results as without, whatever happens to jobs, nodes and schedulers."""

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from cluster import Cluster, run
from jobs import DECAY, SLURM, TRAIN, WEIGHTS, job_of, steps, stores, weights
from workflow import PATIENCE, Project, survives_a_full_disk, wait_for

BLOCK = "simulate/decay/train/0"


def slowed(trained: Project, folder: Path) -> Project:
    """The same training, to be done again on SLURM: half a second a step, and four while a file `brake` lies there."""
    project = trained.copy(folder)
    project.how, project.variables = SLURM, {"PHYSIGLOT_SAVE_EVERY": "0"}
    sleep = "import os, time; time.sleep(4 if os.path.exists('brake') else 0.5)"
    project.insert("models/transformer.py", "Model.loss", sleep)
    return project


@pytest.fixture
def slow(trained: Project, tmp_path: Path, cluster: Cluster) -> Iterator[Project]:
    project = slowed(trained, tmp_path / "project")
    yield project
    project.stop()


@pytest.fixture(scope="module", autouse=True)
def behind(cluster, grown, trained, tmp_path_factory) -> Iterator[dict[str, tuple[Project, subprocess.Popen]]]:
    """Two workflows that mostly wait: everything from nothing, and a training with a time limit of a minute."""
    whole = Project.create(tmp_path_factory.mktemp("whole") / "project", grown[0].config)
    whole.source("systems/decay.py").write_text(grown[0].source("systems/decay.py").read_text())
    whole.how = SLURM
    limited = slowed(trained, tmp_path_factory.mktemp("limited") / "project")
    (limited.folder / "brake").touch()
    limits = ("--set-resources", "train:runtime=1")
    yield {"limited": (limited, limited.start(WEIGHTS, *limits)), "whole": (whole, whole.start())}
    limited.stop()
    whole.stop()


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


def test_a_cancelled_training_goes_on_elsewhere(slow, trained, cluster):
    """Its node is drained, at which it goes on; then it is cancelled: Snakemake submits it again."""
    workflow = slow.start(WEIGHTS)
    job = under_way(slow)
    node, run_id = next(j["node"] for j in cluster.jobs() if j["id"] == job), slow.records()[TRAIN]["id"]
    cluster.drain(node)
    try:
        subprocess.run(["scancel", job], check=True)
        again = wait_for(lambda: (now := job_of(slow, TRAIN)) != job and now)
        assert next(j["node"] for j in cluster.jobs() if j["id"] == again) != node
        finished(slow, trained, workflow)
        assert slow.records()[TRAIN]["id"] == run_id  # one run in MLflow
    finally:
        cluster.resume(node)


def test_a_training_whose_node_is_lost_goes_on(slow, trained, cluster):
    """Nothing on the node gets a last word; SLURM requeues the job. The controller is restarted as well."""
    workflow = slow.start(WEIGHTS, "--set-resources", "train:runtime=5")
    job = under_way(slow)
    node = next(j["node"] for j in cluster.jobs() if j["id"] == job)
    try:
        cluster.kill_node(node)
        cluster.restart_controller()
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
    survives_a_full_disk(onslurm)


def test_a_training_goes_on_after_its_time_limit(behind, trained):
    """Before the limit it saves its state and goes back into the queue, with the same number."""
    limited, workflow = behind["limited"]
    log = limited.folder / f"logs/{TRAIN}.log"
    wait_for(lambda: limited.records()[TRAIN]["status"] == "INTERRUPTED" or "resumed" in log.read_text(), 120)
    job = limited.records()[TRAIN]["slurm_job_id"]
    (limited.folder / "brake").unlink()
    finished(limited, trained, workflow)
    assert limited.records()[TRAIN]["slurm_job_id"] == job


def test_the_same_bytes_with_and_without(behind, grown, cluster):
    """From nothing to the tables; the blocks are job arrays."""
    whole, workflow = behind["whole"]
    said = workflow.communicate(timeout=PATIENCE)[0]
    assert workflow.returncode == 0, said
    ran = set(whole.records())
    assert ran == set(grown[0].records())
    assert stores(whole) == stores(grown[0])
    assert all(record["slurm_job_id"] for record in whole.records().values())
    rows = run("sacct", "-X", "--noheader", "--parsable2", "--format=WorkDir,JobID,Comment").splitlines()
    arrays = [row for row in rows if row.startswith(f"{whole.folder}|") and "_" in row.split("|")[1]]
    assert len(arrays) == sum(name.startswith("simulate") for name in ran)
    assert all("|rule_simulate" in row for row in arrays)
    assert whole.ran() == set()
