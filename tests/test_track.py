"""Run records in MLflow: complete, once, whatever happens to the store; and from a figure to the blocks."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from physiglot import fingerprint, stage, track
from physiglot.track import content, ledger

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
def project(tmp_path, monkeypatch, empty_store) -> Path:
    """A finished study with two blocks, each stage run by the real wrapper."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    shutil.copy(empty_store, "mlflow.db")
    prints = {"train/0": "block zero", "train/1": "block one"}
    for name, print_ in prints.items():
        block = name.split("/")[1]
        about = {"system": "lorenz", "split": "train", "block": block}
        path = f"data/lorenz/blocks/{name}.zarr/zarr.json"
        run_stage("simulate", path, store_writer(print_), about=about, spec={"block": int(block)})
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


def test_everything_of_a_run_is_published(project):
    uri = sqlite(project)
    assert track.publish(project, "sqlite:///mlflow.db") == 8
    runs = all_runs(uri)
    assert set(runs) == {
        "simulate lorenz/train/0",
        "simulate lorenz/train/1",
        "collect lorenz",
        "dataset lorenz",
        "train model ours_clean/0",
        "predict ours_clean/0",
        "evaluate ours_clean/0",
        "plot ours_clean/0",
    }
    train, record = (
        runs["train model ours_clean/0"],
        json.loads(Path("runs/ours_clean/0/model/weights.run.json").read_text()),
    )
    assert client(uri).get_experiment(train.info.experiment_id).name == "koopman"
    assert client(uri).get_experiment(runs["collect lorenz"].info.experiment_id).name == "data"
    assert train.data.params == {
        "part.module": "reservoir",
        "part.params.size": "300",
        "part.params.radii": "[0.9, 1.1]",
        "seed": "0",
    }
    expected = {"stage": "train", "study": "ours_clean", "status": "FINISHED", "code": "code of train"}
    expected |= {"physiglot.id": record["id"], "output": record["fingerprint"], "input.0": "dataset"}
    expected |= {"input.0.path": "data/lorenz/datasets/clean.zarr/zarr.json", "host": socket.gethostname()}
    assert expected.items() <= train.data.tags.items()
    assert train.info.status == "FINISHED"
    assert train.info.start_time == int(1000 * record["start"])
    assert train.info.end_time == int(1000 * record["end"])
    assert points(uri, train, "loss") == [(step, 1 / (1 + step)) for step in STEPS]
    assert runs["evaluate ours_clean/0"].data.metrics["valid_time"] == 7.5
    assert "diverged" not in runs["evaluate ours_clean/0"].data.metrics
    plot = runs["plot ours_clean/0"]
    assert artifacts(uri, plot) == {"figures", "figures.run.json"}
    assert artifacts(uri, plot, "figures") == {"figures/attractor.svg", "figures/attractor.png"}


def test_publishing_again_adds_nothing_even_without_a_ledger(project):
    uri = sqlite(project)
    track.publish(project, uri)
    before = content_of(uri)
    assert track.publish(project, uri) == 0
    [book] = (project / ".physiglot").glob("published.*.json")
    book.unlink()
    assert track.publish(project, uri) == 8
    # Not even where a publisher died before it could say that it was done.
    for run in all_runs(uri).values():
        client(uri).delete_tag(run.info.run_id, "physiglot.published")
    book.unlink()
    track.publish(project, uri)
    assert content_of(uri) == before


def test_a_store_that_was_deleted_is_rebuilt(project):
    uri = sqlite(project)
    track.publish(project, uri)
    before = {name: (r.data.params, r.data.metrics) for name, r in all_runs(uri).items()}
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    (project / "mlflow.db").unlink()
    SqlAlchemyStore._engine_map.pop(uri).dispose()
    done = command("publish", "--uri", uri)
    assert "8 runs published" in done.stdout, done.stderr
    assert {name: (r.data.params, r.data.metrics) for name, r in all_runs(uri).items()} == before


def test_a_run_that_went_on_is_updated_and_a_new_one_added(project):
    uri, path = sqlite(project), project / "runs/ours_clean/0/model/weights.run.json"
    final = json.loads(path.read_text())
    path.write_text(
        json.dumps(
            {k: v for k, v in final.items() if k not in ("end", "fingerprint")} | {"status": "RUNNING"}
        )
    )
    track.publish(project, uri)
    running = all_runs(uri)["train model ours_clean/0"]
    assert running.info.status == "RUNNING" and running.data.tags["status"] == "RUNNING"
    path.write_text(json.dumps(final))
    assert track.publish(project, uri) == 1
    finished = all_runs(uri)["train model ours_clean/0"]
    assert finished.info.run_id == running.info.run_id and finished.info.status == "FINISHED"
    assert len(points(uri, finished, "loss")) == len(STEPS)
    again = {**STUDY, "seed": "0", "part": "model"}
    run_stage(
        "train",
        str(path.relative_to(project))[:-9] + ".pt",
        train_writer,
        spec={"b": 2},
        about=again,
        fail=True,
    )
    assert track.publish(project, uri) == 1
    mlflow = client(uri)
    runs = mlflow.search_runs([finished.info.experiment_id], "tags.stage = 'train'")
    assert {r.info.status for r in runs} == {"FINISHED", "FAILED"}
    assert [r.data.tags["error"] for r in runs if r.info.status == "FAILED"] == ["it does not converge"]


def test_interrupted_is_killed_and_resumed_is_running_again(project):
    uri, path = sqlite(project), project / "runs/ours_clean/0/model/weights.run.json"
    final, statuses = json.loads(path.read_text()), []
    for status, start in [("INTERRUPTED", 0), ("RUNNING", 5), ("FINISHED", 5)]:
        path.write_text(json.dumps({**final, "status": status, "start": final["start"] + start}))
        os.utime(path.with_name("weights.metrics.jsonl"), (time.time() + 10, time.time() + 10))
        track.publish(project, uri)
        run = all_runs(uri)["train model ours_clean/0"]
        statuses.append(run.info.status)
    assert statuses == ["KILLED", "RUNNING", "FINISHED"]
    assert len(points(uri, run, "loss")) == len(STEPS)


def test_curves_of_an_earlier_run_are_not_those_of_one_that_failed_early(project):
    path = project / "runs/ours_clean/0/model/weights.run.json"
    os.utime(path.with_name("weights.metrics.jsonl"), (time.time() - 60, time.time() - 60))
    record = track.publisher.Record.load(path, project)
    assert {p.key for p in record.points()} == {"job.seconds", "job.cpu_seconds", "job.peak_mib"}


def test_publishing_nothing_is_fast_and_does_not_import_mlflow(project):
    uri = sqlite(project)
    track.publish(project, uri)
    code = (
        "import sys, time; t = time.perf_counter(); from physiglot import track;"
        "n = track.publish(uri=sys.argv[1]);"
        "print(n, 'mlflow' in sys.modules, time.perf_counter() - t)"
    )
    done = [
        subprocess.run([sys.executable, "-c", code, uri], capture_output=True, text=True) for _ in range(3)
    ]
    number, imported, _ = done[0].stdout.split()
    assert (number, imported) == ("0", "False")
    assert min(float(d.stdout.split()[2]) for d in done) < 0.3


def test_two_publishers_never_write_at_once(project):
    with ledger.locked(project / "mlflow.db.lock", 0):
        with pytest.raises(track.TrackingError, match="another process is publishing"):
            track.publish(project, sqlite(project), wait=0.2)
        done = command("publish", "--uri", sqlite(project), "--wait", "0")
        assert done.returncode == 0 and "another process is publishing" in done.stderr
    assert len(all_runs(sqlite(project))) == 0
    both = [subprocess.Popen([sys.executable, "-m", "physiglot.track", "publish"]) for _ in range(2)]
    assert [p.wait(60) for p in both] == [0, 0]
    assert len(all_runs(sqlite(project))) == 8


def test_names_values_and_numbers_beyond_the_limits_of_mlflow(project):
    wide = {f"key {n}": n for n in range(230)}
    spec = {"wide": wide, "long": "x" * 9000, "ünït [m/s]": 1, "../up": 2, "empty": "", "none": None}
    run_stage("embed", "runs/ours_clean/0/embedded.zarr/zarr.json", store_writer("e"), spec=spec, about=STUDY)
    track.publish(project, sqlite(project))
    params = all_runs(sqlite(project))["embed ours_clean/0"].data.params
    assert len(params) == 235
    assert len(params["long"]) == 6000 and params["ünït _m/s_"] == "1" and params["wide.key 229"] == "229"


def test_more_inputs_than_the_cap_stand_only_in_the_artifact(project):
    record = track.publisher.Record.load(project / "runs/ours_clean/0/figures.run.json", project)
    record.data["inputs"] = {f"a{n}": f"b{n}" for n in range(content.MOST_INPUTS)}
    assert content.tags_of(record)["input.49.path"] == "a49"
    record.data["inputs"]["one more"] = "c"
    assert not [key for key in content.tags_of(record) if key.startswith("input")]


def test_one_bad_record_does_not_hold_up_the_others(project):
    (project / "runs/broken.run.json").write_text('{"id": ')
    done = command("publish")
    assert done.returncode == 0 and "8 runs published" in done.stdout
    assert done.stderr.count("\n") == 1 and "broken.run.json is skipped" in done.stderr


@pytest.mark.parametrize("uri", ["http://127.0.0.1:9", "sqlite:///broken.db", "postgresql://nowhere/x"])
def test_a_store_that_cannot_be_reached_costs_one_sentence(project, uri):
    (project / "broken.db").write_text("this is not a database, whatever its name says")
    done = command("publish", MLFLOW_TRACKING_URI=uri)
    assert done.returncode == 0
    assert done.stderr.startswith("warning: tracking: ") and done.stderr.count("\n") == 1
    assert done.stdout == ""


def test_strict_fails_where_nothing_could_be_published(project):
    assert command("publish", "--strict", "--uri", "http://127.0.0.1:9").returncode == 1


def test_figure_to_blocks_by_the_run_records(project):
    top = track.lineage("runs/ours_clean/0/figures/attractor.svg")
    stages, todo = {}, [top]
    while todo:
        link = todo.pop()
        stages.setdefault(link.stage, set()).add(link.fingerprint)
        todo += link.inputs
    assert set(stages) == {"plot", "evaluate", "predict", "train", "dataset", "collect", "simulate"}
    assert stages["simulate"] == {"block zero", "block one"}
    assert top.code == "code of plot"
    done = command("lineage", "runs/ours_clean/0/figures/attractor.svg")
    lines = done.stdout.splitlines()
    assert lines[0].startswith("plot") and "runs/ours_clean/0/figures/attractor.svg" in lines[0]
    assert [len(line) - len(line.lstrip()) for line in lines if "simulate" in line] == [8, 8]


def test_lineage_says_what_does_not_fit(project):
    Path("data/lorenz/blocks.json").write_text(json.dumps({"train/0": "another"}))
    data = track.lineage("data/lorenz/datasets/clean.zarr")
    assert [link.stage for link in data.inputs] == ["collect"] and data.inputs[0].inputs == []
    Path("runs/ours_clean/0/metrics.json").write_text("{}")
    assert "another fingerprint" in track.lineage("runs/ours_clean/0/metrics.json").note
    with pytest.raises(ValueError, match="no such output"):
        track.lineage("runs/nothing.pt")
    done = command("lineage", "runs/nothing.pt")
    assert done.returncode == 1 and done.stderr == "error: lineage: runs/nothing.pt: no such output\n"


def test_figure_to_blocks_by_the_tags_in_mlflow(project):
    uri = sqlite(project)
    track.publish(project, uri)
    mlflow = client(uri)
    numbers = [e.experiment_id for e in mlflow.search_experiments()]
    [figure] = mlflow.search_runs(numbers, "tags.stage = 'plot' and tags.study = 'ours_clean'")
    todo, seen = [figure], {}
    while todo:
        run = todo.pop()
        seen[run.info.run_id] = run.info.run_name
        for key, value in run.data.tags.items():
            if key.startswith("input.") and not key.endswith(".path"):
                todo += mlflow.search_runs(numbers, f"tags.output = '{value}'")
    assert set(seen.values()) == set(all_runs(uri))


class Server:
    """A real `mlflow server` on SQLite, to be killed and started again on the same port."""

    def __init__(self, folder: Path):
        self.folder = folder
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            self.port = s.getsockname()[1]
        self.uri = f"http://127.0.0.1:{self.port}"
        self.start()

    def start(self) -> None:
        words = ["server", "--workers", "1", "--host", "127.0.0.1", "--port", str(self.port)]
        words += ["--backend-store-uri", f"sqlite:///{self.folder}/server.db"]
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


def until(condition, seconds: float = 20):
    """The first true value of `condition()`."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if value := condition():
            return value
        time.sleep(0.3)
    raise AssertionError(f"not within {seconds} s")


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
            file.writelines(
                json.dumps({"step": s, "loss": 1.0 / (1 + s), "time": time.time()}) + "\n" for s in steps
            )

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


def test_a_server_gets_the_same(project, server):
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
    shutil.rmtree(project / ".physiglot")
    client(server.uri).delete_tag(runs["train model ours_clean/0"].info.run_id, "physiglot.published")
    assert track.publish(project, server.uri) == 8
    after = all_runs(server.uri)
    assert {name: run.info.run_id for name, run in after.items()} == {
        n: r.info.run_id for n, r in runs.items()
    }
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
