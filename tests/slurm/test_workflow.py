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
FAULTS = ("cancelled", "killed", "requeued", "preempted", "lost")


def slowed(trained: Project, folder: Path, pause: float = 0.5) -> Project:
    """The same training, to be done again on SLURM: `pause` seconds a step, none while a file `brake` lies there."""
    project = trained.copy(folder)
    project.how = SLURM
    sleep = f"import os, time\ntime.sleep({pause})\nwhile os.path.exists('brake'): time.sleep(0.1)"
    project.insert("models/transformer.py", "Model.loss", sleep)
    return project


@pytest.fixture(scope="module", autouse=True)
def behind(cluster, grown, trained, tmp_path_factory) -> Iterator[dict[str, tuple[Project, subprocess.Popen]]]:
    """Workflows that mostly wait: everything from nothing, a training with a time limit of a minute, and at their
    first step a training for each of the tests of other faults."""
    whole = Project.create(tmp_path_factory.mktemp("whole") / "project", grown[0].config)
    whole.source("systems/decay.py").write_text(grown[0].source("systems/decay.py").read_text())
    whole.how = SLURM
    started = {"whole": (whole, whole.start("--jobs", "5"))}
    for name in ("limited", *FAULTS):
        project = slowed(trained, tmp_path_factory.mktemp(name) / "project", 0.5 if name in FAULTS else 3)
        if name in FAULTS:
            (project.folder / "brake").touch()
        # Only what a lost node had saved before is left of it; the others save when they are told to stop.
        project.variables = {"PHYSIGLOT_SAVE_EVERY": "0" if name == "lost" else "600"}
        minutes = 60 if name in FAULTS else 1
        where = ["slurm_partition=gpu"] if name == "preempted" else []
        resources = ["--set-resources", "train:mem_mb=1000", f"train:runtime={minutes}"]
        resources += ["--default-resources", "mem_mb=1000", "runtime=5", *where]
        started[name] = project, project.start(WEIGHTS, *resources)
    yield started
    for project, _ in started.values():
        project.stop()


def under_way(project: Project) -> str:
    """Let the training do some steps; its SLURM job."""
    (project.folder / "brake").unlink()
    wait_for(lambda: 4 <= len(steps(project)) < 20)
    return str(wait_for(lambda: job_of(project, TRAIN)))


def jobs_of(project: Project, cluster: Cluster) -> list[dict[str, str]]:
    """All SLURM jobs of a project so far; one that went back into the queue is one."""
    return [job for job in cluster.jobs() if job["workdir"] == str(project.folder)]


def finished(project: Project, trained: Project, workflow: subprocess.Popen) -> None:
    """The training went on where it was, and its weights and its curve are those of an uninterrupted one."""
    said = workflow.communicate(timeout=PATIENCE)[0]
    assert workflow.returncode == 0, said
    assert "resumed at step" in project.log(TRAIN)
    expected, found = weights(trained), weights(project)
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    assert steps(project) == steps(trained)


def test_a_cancelled_training_goes_on_elsewhere(behind, trained, cluster):
    """Its node is drained, at which it goes on; then it is cancelled: Snakemake submits it again."""
    project, workflow = behind["cancelled"]
    job = under_way(project)
    node, run_id = next(j["node"] for j in cluster.jobs() if j["id"] == job), project.records()[TRAIN]["id"]
    cluster.drain(node)
    try:
        run("scancel", job)
        again = wait_for(lambda: (now := job_of(project, TRAIN)) != job and now)
        assert next(j["node"] for j in cluster.jobs() if j["id"] == again) != node
        finished(project, trained, workflow)
        assert project.records()[TRAIN]["id"] == run_id  # one run in MLflow
    finally:
        cluster.resume(node)


def test_a_killed_scheduler_goes_on_without_hand_work(behind, trained, cluster):
    """What it left in the queue is cancelled, a training saves its state first, and goes on in a new job."""
    project, workflow = behind["killed"]
    job = under_way(project)
    os.killpg(workflow.pid, signal.SIGKILL)
    workflow.wait()
    again = project.start(WEIGHTS)
    finished(project, trained, again)
    assert next(j["state"] for j in cluster.jobs() if j["id"] == job) == "CANCELLED"


@pytest.mark.parametrize("fault", ["requeued", "preempted"])
def test_a_training_that_has_to_give_way_goes_on(behind, trained, fault, cluster):
    """To `scontrol requeue`, and to a job that needs its node and comes first."""
    project, workflow = behind[fault]
    job, run_id = under_way(project), project.records()[TRAIN]["id"]
    urgent = ["sbatch", "--partition=urgent", "--exclusive", "--mem=100", "--output=/dev/null", "--wrap", "sleep 1"]
    run(*(["scontrol", "requeue", job] if fault == "requeued" else urgent))
    finished(project, trained, workflow)
    assert [j["id"] for j in jobs_of(project, cluster)] == [job] and project.records()[TRAIN]["id"] == run_id


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


def test_a_training_goes_on_after_its_time_limit(behind, trained, cluster):
    """Before the limit it saves its state and goes back into the queue, with the same number."""
    limited, workflow = behind["limited"]
    finished(limited, trained, workflow)
    assert len(jobs_of(limited, cluster)) == 1


def test_the_same_bytes_with_and_without(behind, grown, cluster):
    """From nothing to the tables; the blocks are job arrays, though there are more of them than jobs are allowed."""
    whole, workflow = behind["whole"]
    said = workflow.communicate(timeout=PATIENCE)[0]
    assert workflow.returncode == 0, said
    ran = set(whole.records())
    assert ran == set(grown[0].records())
    assert stores(whole) == stores(grown[0])
    assert all(record["slurm_job_id"] for record in whole.records().values())
    rows = run("sacct", "-X", "--noheader", "--parsable2", "--format=WorkDir,JobID,Comment").splitlines()
    arrays = [row for row in rows if row.startswith(f"{whole.folder}|") and "_" in row.split("|")[1]]
    assert 5 <= len(arrays) <= sum(name.startswith("simulate") for name in ran) == 7
    assert all("|rule_simulate" in row for row in arrays)
    assert whole.ran() == set()


def test_a_training_whose_node_is_lost_goes_on(behind, trained, cluster):
    """Nothing on the node gets a last word; SLURM requeues the job. The controller is restarted as well."""
    project, workflow = behind["lost"]
    job = under_way(project)
    node = next(j["node"] for j in cluster.jobs() if j["id"] == job)
    try:
        cluster.kill_node(node)
        cluster.restart_controller()
        finished(project, trained, workflow)
    finally:
        cluster.start_node(node)
        cluster.resume(node)
