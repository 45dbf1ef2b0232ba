"""The same against a real server: live while a stage runs, and whole after the server was lost."""

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tracking import STEPS, STUDY, Server, all_runs, artifacts, client, command, points, until

from physiglot import fingerprint, track


@pytest.fixture(scope="module")
def server(tmp_path_factory, empty_store):
    folder = tmp_path_factory.mktemp("server")
    shutil.copy(empty_store, folder / "server.db")
    server = Server(folder)
    yield server
    server.kill()


class Training:
    """A stage that runs: a process, a record that says so, curves that grow."""

    def __init__(self, root: Path, study: str):
        self.path = root / f"runs/{study}/0/model/weights.run.json"
        self.name = f"train model {study}/0"
        self.process = subprocess.Popen(["sleep", "600"])
        self.followers: list[subprocess.Popen] = []
        about = {**STUDY, "study": study, "part": "model"}
        self.record = {
            "id": fingerprint.digest(str(root), study),
            "stage": "train",
            "about": about,
            "spec": {"lr": 0.1},
        }
        self.record |= {
            "inputs": {},
            "output": str(self.path)[:-9] + ".pt",
            "start": time.time(),
            "status": "RUNNING",
        }
        self.path.parent.mkdir(parents=True)
        self.write()

    def write(self, **more) -> None:
        self.record |= more
        self.path.write_text(json.dumps(self.record))

    def log(self, steps) -> None:
        with open(self.path.with_name("weights.metrics.jsonl"), "a") as file:
            file.writelines(json.dumps({"step": s, "loss": 1.0 / (1 + s), "time": time.time()}) + "\n" for s in steps)

    def follow(self, uri: str) -> subprocess.Popen:
        words = [sys.executable, "-m", "physiglot.track", "follow", str(self.path), "--uri", uri]
        words += ["--pid", str(self.process.pid)]
        self.followers.append(subprocess.Popen(words, stderr=subprocess.PIPE, text=True))
        return self.followers[-1]

    def end(self, status: str | None = "FINISHED") -> None:
        if status:
            self.write(status=status, end=time.time(), fingerprint="f")
        self.process.kill()
        self.process.wait()


@pytest.fixture
def trainings(tmp_path, monkeypatch):
    """Makes trainings in `tmp_path`, and ends them whatever happens."""
    monkeypatch.chdir(tmp_path)
    made = []

    def make(study: str) -> Training:
        made.append(Training(tmp_path, study))
        return made[-1]

    yield make
    for training in made:
        for process in (training.process, *training.followers):
            process.kill()
            process.wait()


def seen(server: Server, training: Training) -> tuple[str, list[int]]:
    """Status and steps of the run of a training, as the server has them."""
    run = all_runs(server.uri).get(training.name)
    return (run.info.status, [step for step, _ in points(server.uri, run, "loss")]) if run else ("", [])


def test_a_server_gets_the_same(finished, server):
    done = command("publish", MLFLOW_TRACKING_URI=server.uri)
    assert done.returncode == 0 and "8 runs published" in done.stdout, done.stderr
    runs = all_runs(server.uri)
    assert points(server.uri, runs["train model ours_clean/0"], "loss") == [(s, 1 / (1 + s)) for s in STEPS]
    assert artifacts(server.uri, runs["plot ours_clean/0"], "figures") == {
        "figures/attractor.svg",
        "figures/attractor.png",
    }
    done = command("publish", MLFLOW_TRACKING_URI=server.uri)
    assert "0 runs published" in done.stdout and done.stderr == ""
    shutil.rmtree(finished / ".physiglot")
    client(server.uri).delete_tag(runs["train model ours_clean/0"].info.run_id, "physiglot.published")
    assert track.publish(finished, server.uri) == 8
    after = all_runs(server.uri)
    assert {name: run.info.run_id for name, run in after.items()} == {n: r.info.run_id for n, r in runs.items()}
    assert len(points(server.uri, after["train model ours_clean/0"], "loss")) == len(STEPS)


def test_points_arrive_while_the_stage_runs(tmp_path, trainings, server):
    training = trainings("live")
    follower = training.follow(server.uri)
    training.log(range(3))
    assert until(lambda: seen(server, training) == ("RUNNING", [0, 1, 2]))
    training.log(range(3, 5))
    assert until(lambda: seen(server, training) == ("RUNNING", [0, 1, 2, 3, 4]))
    training.log(range(5, 7))
    training.end()
    assert follower.wait(20) == 0 and follower.stderr.read() == ""
    assert seen(server, training) == ("FINISHED", list(range(7)))
    track.publish(tmp_path, server.uri)
    assert seen(server, training) == ("FINISHED", list(range(7)))


def test_a_stage_that_vanished_is_killed_and_stays_so(tmp_path, trainings, server):
    training = trainings("vanished")
    follower = training.follow(server.uri)
    assert until(lambda: seen(server, training)[0] == "RUNNING")
    training.end(status=None)
    assert follower.wait(20) == 0
    assert seen(server, training)[0] == "KILLED"
    track.publish(tmp_path, server.uri)
    assert seen(server, training)[0] == "KILLED"


def test_a_server_killed_in_the_middle_misses_nothing_and_has_nothing_twice(tmp_path, trainings, server):
    first, second = trainings("first"), trainings("second")
    followers = [t.follow(server.uri) for t in (first, second)]
    for training in (first, second):
        training.log(range(5))
        assert until(lambda t=training: seen(server, t) == ("RUNNING", list(range(5))))
    server.kill()
    first.log(range(5, 9))
    second.log(range(5, 9))
    time.sleep(2)
    assert all(f.poll() is None for f in followers)
    followers[1].kill()
    followers[1].wait()
    second.end()
    server.start()
    assert until(lambda: seen(server, first) == ("RUNNING", list(range(9))))
    first.log(range(9, 12))
    first.end()
    assert followers[0].wait(20) == 0 and followers[0].stderr.read() == ""
    assert track.publish(tmp_path, server.uri) == 2
    assert seen(server, first) == ("FINISHED", list(range(12)))
    assert seen(server, second) == ("FINISHED", list(range(9)))
