"""The MLflow side: writes run records to a store, each thing once. The only module that imports mlflow."""

import logging
import os
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

from . import ledger
from .content import flat, name_of, tags_of
from .records import Point, Record

QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    # A request that was repeated blindly could create a run twice.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
}


def _client(uri: str) -> Any:
    """An MLflow client that does not chatter."""
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    warnings.simplefilter("ignore")
    for name in ("alembic", "urllib3", "mlflow"):
        logging.getLogger(name).setLevel(logging.ERROR)
    from mlflow import MlflowClient

    logging.getLogger("mlflow").setLevel(logging.ERROR)
    return MlflowClient(tracking_uri=uri)


def _chunks(items: list, size: int) -> Iterator[list]:
    return (items[i : i + size] for i in range(0, len(items), size))


@dataclass
class Known:
    """What the store has of a run; `steps` are the (metric, step) of its points."""

    run: str
    status: str
    tags: dict[str, str]
    params: set[str]
    steps: set[tuple[str, int]]


class Store:
    """Writes run records to an MLflow store, each thing once."""

    def __init__(self, uri: str, root: Path):
        self.client, self.root = _client(uri), root
        self.local = Path(uri.removeprefix("sqlite:///")).parent if uri.startswith("sqlite:///") else None
        self.numbers: dict[str, str] = {}
        self.identities: dict[str, str] = {}
        self.known: dict[str, Known] = {}

    def identity(self, name: str) -> str | None:
        found = self.client.get_experiment_by_name(name)
        active = found and found.lifecycle_stage == "active"
        return f"{found.experiment_id}@{found.creation_time}" if active else None

    def _experiment(self, name: str) -> str:
        """The number of an experiment, made or taken out of the bin if need be."""
        if name not in self.numbers:
            found = self.client.get_experiment_by_name(name)
            if found is None:
                place = (self.local / "mlartifacts" / name).as_uri() if self.local else None
                self.client.create_experiment(name, artifact_location=place)
            elif found.lifecycle_stage != "active":
                self.client.restore_experiment(found.experiment_id)
            self.identities[name] = self.identity(name) or ""
            self.numbers[name] = self.identities[name].split("@")[0]
        return self.numbers[name]

    def _find(self, record_id: str, experiment: str) -> Known | None:
        number, query = self._experiment(experiment), f"tags.`physiglot.id` = '{record_id}'"
        for run in self.client.search_runs([number], query, max_results=1):
            number, tags = run.info.run_id, dict(run.data.tags)
            histories = [self.client.get_metric_history(number, key) for key in run.data.metrics]
            steps = {(point.key, point.step) for history in histories for point in history}
            return Known(number, run.info.status, tags, set(run.data.params), steps)
        return None

    def _create(self, record: Record) -> Known:
        number, tags = self._experiment(record.experiment), tags_of(record)
        tags = {key: tags[key] for key in ("physiglot.id", "start", "stage")}
        run = self.client.create_run(number, int(1000 * record.start), tags, record.name)
        return Known(run.info.run_id, "RUNNING", tags, set(), set())

    def _known(self, record: Record) -> Known:
        if record.id not in self.known:
            with ledger.locked(self.root / ".physiglot" / "create.lock", 60):
                found = self._find(record.id, record.experiment) or self._create(record)
            self.known[record.id] = found
        return self.known[record.id]

    def _log(self, known: Known, tags: dict[str, str], params: dict[str, str], points: list[Point]) -> None:
        """Log what the run does not have yet, in batches within MLflow's limits."""
        from mlflow.entities import Metric, Param, RunTag

        new_tags = [RunTag(k, v) for k, v in tags.items() if known.tags.get(k) != v]
        new_params = [Param(k, v) for k, v in params.items() if k not in known.params]
        new = {(name_of(p.key), p.step): p for p in points if (name_of(p.key), p.step) not in known.steps}
        metrics = [Metric(key, p.value, p.time, step) for (key, step), p in new.items()]
        parts: tuple = (_chunks(metrics, 800), _chunks(new_params, 100), _chunks(new_tags, 100))
        for batch in zip_longest(*parts, fillvalue=[]):
            self.client.log_batch(known.run, *batch)
        known.tags |= tags
        known.params |= params.keys()
        known.steps |= new.keys()

    def _artifacts(self, known: Known, record: Record) -> None:
        if log := record.log():
            self.client.log_artifact(known.run, str(self.root / log), "log")
        self.client.log_artifact(known.run, str(record.path))
        for path in record.made():
            self.client.log_artifact(known.run, str(self.root / path), path.parent.name)

    def put(self, record: Record) -> None:
        """Bring the run of `record` up to date; a second time, nothing."""
        known = self._known(record)
        resumed = known.tags.get("start") != str(record.start)
        ended = known.status != "RUNNING" and not resumed
        if known.tags.get("physiglot.published") == record.digest or (record.status == "RUNNING" and ended):
            return
        self._log(known, tags_of(record), flat(record.data.get("spec", {})), record.points())
        if record.status != "RUNNING":
            self._artifacts(known, record)
            self._terminate(known, record)
        elif known.status != "RUNNING":
            self.client.update_run(known.run, status="RUNNING")
            known.status = "RUNNING"

    def _terminate(self, known: Known, record: Record) -> None:
        status = record.status if record.final else "KILLED"
        self.client.set_terminated(known.run, status, int(1000 * record.data.get("end", time.time())))
        self.client.set_tag(known.run, "physiglot.published", record.digest)
        known.status, known.tags["physiglot.published"] = status, record.digest

    def abandon(self, record_id: str, experiment: str) -> None:
        """End a run whose process vanished and whose record was replaced by that of another run."""
        found = self._find(record_id, experiment)
        if found and found.status == "RUNNING":
            self.client.set_terminated(found.run, "KILLED")
