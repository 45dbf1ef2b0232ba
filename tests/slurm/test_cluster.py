"""The test cluster does what the other tests of this folder trust it to do."""

import time
from pathlib import Path

import pytest
from cluster import Cluster, run, wait_for


@pytest.fixture
def submit(cluster: Cluster, tmp_path: Path):
    """Submit a shell command; returns the job's id. What the job prints goes to `<id>.out`."""

    def submit(command: str, *options: str) -> str:
        options = ("--parsable", "--mem=100", f"--chdir={tmp_path}", "--output=%A_%a.out", *options)
        return run("sbatch", *options, "--wrap", command)

    return submit


def job(cluster: Cluster, number: str) -> dict[str, str]:
    return next(j for j in cluster.jobs() if j["id"] == number)


def state(cluster: Cluster, number: str) -> str:
    return job(cluster, number)["state"]


def output(folder: Path) -> str:
    return "".join(p.read_text() for p in folder.glob("*.out"))


def test_a_job_runs_and_is_accounted_for(cluster, submit, tmp_path):
    number = submit("echo here is $SLURMD_NODENAME", "--job-name=hello", "--comment=says hello")
    wait_for(lambda: state(cluster, number) == "COMPLETED")
    found = job(cluster, number)
    assert found["node"] in ("n1", "n2", "n3") and output(tmp_path) == f"here is {found['node']}\n"
    assert found | {"node": ""} == {
        "id": number,
        "name": "hello",
        "state": "COMPLETED",
        "partition": "cpu",
        "node": "",
        "workdir": str(tmp_path),
        "comment": "says hello",
    }
    query = [
        "sacct",
        "--allocations",
        "--noheader",
        "--parsable2",
        f"--jobs={number}",
        "--format=jobname,state,account",
    ]
    assert wait_for(lambda: run(*query) == "hello|COMPLETED|physiglot")


def test_a_gpu_job_sees_its_gpus(cluster, submit, tmp_path):
    number = submit("echo $SLURMD_NODENAME $CUDA_VISIBLE_DEVICES", "--partition=gpu", "--gres=gpu:2")
    wait_for(lambda: state(cluster, number) == "COMPLETED")
    assert output(tmp_path) == "n4 0,1\n"


def test_eight_jobs_run_at_once(cluster, submit, tmp_path):
    """Each waits for all the others."""
    submit("touch $SLURM_ARRAY_TASK_ID.here; until [ $(ls *.here | wc -l) = 8 ]; do sleep 0.2; done", "--array=0-7")
    wait_for(lambda: [j["state"] for j in cluster.jobs() if j["workdir"] == str(tmp_path)] == ["COMPLETED"] * 8)


def test_a_job_that_no_node_can_hold_is_refused(submit):
    with pytest.raises(RuntimeError, match="More processors requested"):
        submit("true", "--cpus-per-task=64")


def test_a_job_of_a_lost_node_runs_again_elsewhere(cluster, submit, tmp_path):
    number = submit("echo run $SLURM_RESTART_COUNT; [ $SLURM_RESTART_COUNT ] || sleep 100", "--open-mode=append")
    wait_for(lambda: output(tmp_path))
    node = job(cluster, number)["node"]
    cluster.kill_node(node)
    wait_for(lambda: state(cluster, number) == "COMPLETED")
    assert job(cluster, number)["node"] != node and output(tmp_path) == "run\nrun 1\n"
    cluster.start_node(node)
    wait_for(lambda: cluster.node(node) == "idle")


@pytest.mark.parametrize("sigkill", [False, True])
def test_jobs_survive_a_restart_of_the_controller(cluster, submit, tmp_path, sigkill):
    running = submit("touch here; until [ -e go ]; do sleep 0.2; done")
    wait_for((tmp_path / "here").exists)
    waiting = submit("true", f"--dependency=afterok:{running}")
    submitted = time.time()
    wait_for(lambda: (cluster.folder / "state/job_state").stat().st_mtime > submitted)
    cluster.restart_controller(sigkill=sigkill)
    assert state(cluster, running) == "RUNNING" and state(cluster, waiting) == "PENDING"
    (tmp_path / "go").touch()
    wait_for(lambda: state(cluster, waiting) == "COMPLETED")


def test_a_drained_node_takes_no_job(cluster, submit):
    for node in ("n2", "n3"):
        cluster.drain(node)
    numbers = [submit("true") for _ in range(3)]
    wait_for(lambda: {state(cluster, n) for n in numbers} == {"COMPLETED"})
    assert {job(cluster, n)["node"] for n in numbers} == {"n1"}
    for node in ("n2", "n3"):
        cluster.resume(node)
    wait_for(lambda: cluster.node("n2") == cluster.node("n3") == "idle")
