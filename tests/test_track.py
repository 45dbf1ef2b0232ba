"""Run records in MLflow: complete, once, whatever happens to the store; and from a figure to the blocks."""

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tracking import (
    STEPS,
    STUDY,
    all_runs,
    artifacts,
    client,
    command,
    content_of,
    points,
    run_stage,
    sqlite,
    store_writer,
    train_writer,
)

from physiglot import track
from physiglot.track import content, ledger


def test_everything_of_a_run_is_published(finished):
    uri = sqlite(finished)
    assert track.publish(finished, "sqlite:///mlflow.db") == 8
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


def test_publishing_again_adds_nothing_even_without_a_ledger(finished):
    uri = sqlite(finished)
    track.publish(finished, uri)
    before = content_of(uri)
    assert track.publish(finished, uri) == 0
    [book] = (finished / ".physiglot").glob("published.*.json")
    book.unlink()
    assert track.publish(finished, uri) == 8
    # Not even where a publisher died before it could say that it was done.
    for run in all_runs(uri).values():
        client(uri).delete_tag(run.info.run_id, "physiglot.published")
    book.unlink()
    track.publish(finished, uri)
    assert content_of(uri) == before


def test_a_store_that_was_deleted_is_rebuilt(finished):
    uri = sqlite(finished)
    track.publish(finished, uri)
    before = {name: (r.data.params, r.data.metrics) for name, r in all_runs(uri).items()}
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    (finished / "mlflow.db").unlink()
    SqlAlchemyStore._engine_map.pop(uri).dispose()
    done = command("publish", "--uri", uri)
    assert "8 runs published" in done.stdout, done.stderr
    assert {name: (r.data.params, r.data.metrics) for name, r in all_runs(uri).items()} == before


def test_a_run_that_went_on_is_updated_and_a_new_one_added(finished):
    uri, path = sqlite(finished), finished / "runs/ours_clean/0/model/weights.run.json"
    final = json.loads(path.read_text())
    path.write_text(
        json.dumps({k: v for k, v in final.items() if k not in ("end", "fingerprint")} | {"status": "RUNNING"})
    )
    track.publish(finished, uri)
    running = all_runs(uri)["train model ours_clean/0"]
    assert running.info.status == "RUNNING" and running.data.tags["status"] == "RUNNING"
    path.write_text(json.dumps(final))
    assert track.publish(finished, uri) == 1
    ended = all_runs(uri)["train model ours_clean/0"]
    assert ended.info.run_id == running.info.run_id and ended.info.status == "FINISHED"
    assert len(points(uri, ended, "loss")) == len(STEPS)
    again = {**STUDY, "seed": "0", "part": "model"}
    run_stage(
        "train",
        str(path.relative_to(finished))[:-9] + ".pt",
        train_writer,
        spec={"b": 2},
        about=again,
        fail=True,
    )
    assert track.publish(finished, uri) == 1
    mlflow = client(uri)
    runs = mlflow.search_runs([ended.info.experiment_id], "tags.stage = 'train'")
    assert {r.info.status for r in runs} == {"FINISHED", "FAILED"}
    assert [r.data.tags["error"] for r in runs if r.info.status == "FAILED"] == ["it does not converge"]


def test_interrupted_is_killed_and_resumed_is_running_again(finished):
    uri, path = sqlite(finished), finished / "runs/ours_clean/0/model/weights.run.json"
    final, statuses = json.loads(path.read_text()), []
    for status, start in [("INTERRUPTED", 0), ("RUNNING", 5), ("FINISHED", 5)]:
        path.write_text(json.dumps({**final, "status": status, "start": final["start"] + start}))
        os.utime(path.with_name("weights.metrics.jsonl"), (time.time() + 10, time.time() + 10))
        track.publish(finished, uri)
        run = all_runs(uri)["train model ours_clean/0"]
        statuses.append(run.info.status)
    assert statuses == ["KILLED", "RUNNING", "FINISHED"]
    assert len(points(uri, run, "loss")) == len(STEPS)


def test_curves_of_an_earlier_run_are_not_those_of_one_that_failed_early(finished):
    path = finished / "runs/ours_clean/0/model/weights.run.json"
    os.utime(path.with_name("weights.metrics.jsonl"), (time.time() - 60, time.time() - 60))
    record = track.publisher.Record.load(path, finished)
    assert {p.key for p in record.points()} == {"job.seconds", "job.cpu_seconds", "job.peak_mib"}


def test_publishing_nothing_is_fast_and_does_not_import_mlflow(finished):
    uri = sqlite(finished)
    track.publish(finished, uri)
    code = (
        "import sys, time; t = time.perf_counter(); from physiglot import track;"
        "n = track.publish(uri=sys.argv[1]);"
        "print(n, 'mlflow' in sys.modules, time.perf_counter() - t)"
    )
    done = [subprocess.run([sys.executable, "-c", code, uri], capture_output=True, text=True) for _ in range(3)]
    number, imported, _ = done[0].stdout.split()
    assert (number, imported) == ("0", "False")
    assert min(float(d.stdout.split()[2]) for d in done) < 0.3


def test_two_publishers_never_write_at_once(finished):
    with ledger.locked(finished / "mlflow.db.lock", 0):
        with pytest.raises(track.TrackingError, match="another process is publishing"):
            track.publish(finished, sqlite(finished), wait=0.2)
        done = command("publish", "--uri", sqlite(finished), "--wait", "0")
        assert done.returncode == 0 and "another process is publishing" in done.stderr
    assert len(all_runs(sqlite(finished))) == 0
    both = [subprocess.Popen([sys.executable, "-m", "physiglot.track", "publish"]) for _ in range(2)]
    assert [p.wait(60) for p in both] == [0, 0]
    assert len(all_runs(sqlite(finished))) == 8


def test_names_values_and_numbers_beyond_the_limits_of_mlflow(finished):
    wide = {f"key {n}": n for n in range(230)}
    spec = {"wide": wide, "long": "x" * 9000, "ünït [m/s]": 1, "../up": 2, "empty": "", "none": None}
    run_stage("embed", "runs/ours_clean/0/embedded.zarr/zarr.json", store_writer("e"), spec=spec, about=STUDY)
    track.publish(finished, sqlite(finished))
    params = all_runs(sqlite(finished))["embed ours_clean/0"].data.params
    assert len(params) == 235
    assert len(params["long"]) == 6000 and params["ünït _m/s_"] == "1" and params["wide.key 229"] == "229"


def test_more_inputs_than_the_cap_stand_only_in_the_artifact(finished):
    record = track.publisher.Record.load(finished / "runs/ours_clean/0/figures.run.json", finished)
    record.data["inputs"] = {f"a{n}": f"b{n}" for n in range(content.MOST_INPUTS)}
    assert content.tags_of(record)["input.49.path"] == "a49"
    record.data["inputs"]["one more"] = "c"
    assert not [key for key in content.tags_of(record) if key.startswith("input")]


def test_one_bad_record_does_not_hold_up_the_others(finished):
    (finished / "runs/broken.run.json").write_text('{"id": ')
    done = command("publish")
    assert done.returncode == 0 and "8 runs published" in done.stdout
    assert done.stderr.count("\n") == 1 and "broken.run.json is skipped" in done.stderr


@pytest.mark.parametrize("uri", ["http://127.0.0.1:9", "sqlite:///broken.db", "postgresql://nowhere/x"])
def test_a_store_that_cannot_be_reached_costs_one_sentence(finished, uri):
    (finished / "broken.db").write_text("this is not a database, whatever its name says")
    done = command("publish", MLFLOW_TRACKING_URI=uri)
    assert done.returncode == 0
    assert done.stderr.startswith("warning: tracking: ") and done.stderr.count("\n") == 1
    assert done.stdout == ""


def test_strict_fails_where_nothing_could_be_published(finished):
    assert command("publish", "--strict", "--uri", "http://127.0.0.1:9").returncode == 1


def test_figure_to_blocks_by_the_run_records(finished):
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


def test_lineage_says_what_does_not_fit(finished):
    Path("data/lorenz/blocks.json").write_text(json.dumps({"train/0": "another"}))
    data = track.lineage("data/lorenz/datasets/clean.zarr")
    assert [link.stage for link in data.inputs] == ["collect"] and data.inputs[0].inputs == []
    Path("runs/ours_clean/0/metrics.json").write_text("{}")
    assert "another fingerprint" in track.lineage("runs/ours_clean/0/metrics.json").note
    with pytest.raises(ValueError, match="no such output"):
        track.lineage("runs/nothing.pt")
    done = command("lineage", "runs/nothing.pt")
    assert done.returncode == 1 and done.stderr == "error: lineage: runs/nothing.pt: no such output\n"


def test_figure_to_blocks_by_the_tags_in_mlflow(finished):
    uri = sqlite(finished)
    track.publish(finished, uri)
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
                todo += mlflow.search_runs(numbers, f"tags.`block.{value}` LIKE '%'")
    assert set(seen.values()) == set(all_runs(uri))
